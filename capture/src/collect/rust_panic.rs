//! The text and the place of a Rust panic, from the panic machinery's own frames.
//!
//! The standard library is shipped without descriptions of its variables, so what lies on the stack is proven by what
//! it points at: a payload is a trait object, and the functions in its table bear the payload's type in their names
//! (library/std/src/panicking.rs: `FormatStringPayload`, `StaticStrPayload`, `trait PanicPayload`). Without symbols
//! there is no proof, and then no message.

use super::scene::Scene;
use std::ops::Range;

/// Longest panic text kept.
const LIMIT_TEXT: u64 = 16 << 10;

/// Longest path of a source file believed.
const LIMIT_PATH: u64 = 4096;

/// Highest line or column number believed: rustc refuses files beyond 4 GiB, and nobody writes such lines.
const LIMIT_LINE: u64 = 1 << 24;

/// What a panic said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Panic {
    /// The formatted text.
    pub(super) text: Option<String>,
    /// `FILE:LINE:COLUMN`.
    pub(super) location: Option<String>,
}

/// Which of the standard library's payloads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    /// `string: Option<String>`, filled when the hook asked for the text, and a reference to the format.
    Format,
    /// `&'static str`.
    Static,
}

fn is_panic_frame(name: &str) -> bool {
    let inner = ["std::panicking::", "core::panicking::", "__rustc::", "std::sys::backtrace::__rust_end_short"];
    let outer = ["std::sys_common::backtrace::__rust_end_short", "panic_abort::", "panic_unwind::"];
    let exact = ["rust_panic", "rust_begin_unwind", "__rust_start_panic"];
    // catch_unwind waits at the outer end of every thread.
    let catching = name.contains("catch_unwind") || name.contains("panicking::try");
    !catching && (exact.contains(&name) || inner.iter().chain(&outer).any(|p| name.starts_with(p)))
}

/// The panic whose machinery is at the top of the thread's stack.
pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Panic> {
    let first = scene.find(is_panic_frame)?;
    let count = scene.thread.stack.frames.len();
    let run = (first..count).take_while(|f| scene.function(*f).is_some_and(is_panic_frame)).take(super::scene::TOP);
    let last = run.last()?;
    let stack = scene.stack(first, last)?;
    let words = scene.words(&stack);
    let registers = scene.registers(first..last.saturating_add(1));
    let panic = Panic { text: text(scene, &stack, &words, &registers), location: location(scene, &words) };
    (panic != Panic::default()).then_some(panic)
}

/// The only text that a proven payload has.
fn text(scene: &Scene<'_, '_>, stack: &Range<u64>, words: &[u64], registers: &[u64]) -> Option<String> {
    let mut pairs: Vec<(u64, u64)> = Vec::new();
    for pair in words.windows(2) {
        if let [data, table] = *pair {
            pairs.push((data, table));
        }
    }
    // Two registers that held the trait object need not be neighbours.
    for data in registers {
        pairs.extend(registers.iter().map(|table| (*data, *table)));
    }
    pairs.retain(|(data, table)| stack.contains(data) && !stack.contains(table) && *table % 8 == 0);
    pairs.sort_unstable();
    pairs.dedup();
    let mut found: Vec<String> =
        pairs.iter().filter_map(|(data, table)| payload_text(scene, payload(scene, *table)?, *data)).collect();
    found.sort_unstable();
    found.dedup();
    let only = found.pop()?;
    found.is_empty().then_some(only)
}

/// What kind of payload a table of functions belongs to: destructor, size, alignment, then the methods.
fn payload(scene: &Scene<'_, '_>, table: u64) -> Option<Payload> {
    scene.info.modules().find(evidence::Addr(table))?;
    let size = scene.word_at(table, 1)?;
    if scene.word_at(table, 2)? != u64::from(scene.size) {
        return None;
    }
    let words = size.checked_div(u64::from(scene.size))?;
    // Display's method, then PanicPayload's.
    (3..8).find_map(|n| {
        let (name, offset) = scene.symbol(scene.word_at(table, n)?)?;
        let name = debuginfo::demangle::demangle(&name)?;
        let trait_method = name.contains("PanicPayload>::") && offset == 0;
        match (trait_method, words) {
            (true, 4) if name.contains("::FormatStringPayload as") => Some(Payload::Format),
            (true, 2) if name.contains("::StaticStrPayload as") => Some(Payload::Static),
            _ => None,
        }
    })
}

fn payload_text(scene: &Scene<'_, '_>, payload: Payload, data: u64) -> Option<String> {
    match payload {
        Payload::Static => scene.text(scene.word(data)?, scene.word_at(data, 1)?, LIMIT_TEXT),
        Payload::Format => {
            // String: capacity, pointer, length; a capacity of isize::MIN marks None, the text nobody asked for.
            // The reference to the format comes after or before.
            (0..2).find_map(|start| {
                let capacity = scene.word_at(data, start)?;
                let pointer = scene.word_at(data, start.checked_add(1)?)?;
                let length = scene.word_at(data, start.checked_add(2)?)?;
                let format = scene.word_at(data, if start == 0 { 3 } else { 0 })?;
                scene.word(format)?;
                if length > capacity || capacity > u64::from(u32::MAX) {
                    return None;
                }
                scene.text(pointer, length, LIMIT_TEXT)
            })
        }
    }
}

/// The one `core::panic::Location` that these frames refer to: `file: &str, line: u32, col: u32`, a constant of an
/// image. The frame of `panic_fmt` always refers to the panic's own; a second one makes it undecidable.
fn location(scene: &Scene<'_, '_>, words: &[u64]) -> Option<String> {
    let mut seen: Vec<u64> = words.to_vec();
    seen.sort_unstable();
    seen.dedup();
    let mut found: Vec<String> = seen.iter().filter_map(|at| location_at(scene, *at)).collect();
    found.sort_unstable();
    found.dedup();
    let only = found.pop()?;
    found.is_empty().then_some(only)
}

fn location_at(scene: &Scene<'_, '_>, at: u64) -> Option<String> {
    scene.info.modules().find(evidence::Addr(at))?;
    let (pointer, length) = (scene.word(at)?, scene.word_at(at, 1)?);
    scene.info.modules().find(evidence::Addr(pointer))?;
    let lines = at.checked_add(u64::from(scene.size).checked_mul(2)?)?;
    let number = |at| scene.memory.read_u32(evidence::Addr(at), evidence::bytes::Endian::Little).ok().map(u64::from);
    let (line, column) = (number(lines)?, number(lines.checked_add(4)?)?);
    let plausible = |n: u64| (1..LIMIT_LINE).contains(&n);
    let path = scene.text(pointer, length, LIMIT_PATH).filter(|p| p.ends_with(".rs"))?;
    (plausible(line) && plausible(column)).then(|| format!("{path}:{line}:{column}"))
}
