//! Writing a symbol file out of an image's own debug information.
//!
//! What is written is what [`DebugInfo::resolve`] says, interval by interval: between two boundaries (of functions,
//! inlined calls and lines) nothing changes, so that reading the file back gives the same for every address. Symbols
//! that no debug information covers become functions when their size is known, and `PUBLIC` records otherwise.
//!
//! The format has no columns, no linkage names and no mark of signal frames; those are lost.

mod cfi;

use super::OMITTED;
use crate::dwarf::{Boundaries, Dwarf, SourceFrame};
use crate::locate::{StoreKey, breakpad_id};
use crate::parallel::parallel;
use crate::{DebugInfo, Module};
use evidence::{Arch, Doubt, Svma};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

/// Functions resolved at a time: enough for all processors, and little memory.
const BATCH: usize = 1024;
/// Ranges in one `INLINE` record; readers have limits for lines.
const RANGES_PER_RECORD: usize = 512;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `FUNC` records.
    pub functions: u64,
    /// Line records.
    pub lines: u64,
    /// `INLINE` records.
    pub inlined: u64,
    /// `PUBLIC` records.
    pub publics: u64,
    /// `STACK CFI` records.
    pub cfi: u64,
    /// Rows of call frame information that the format cannot express; they are left out.
    pub inexpressible: u64,
}

/// Why nothing, or not all, was written.
#[derive(Debug)]
pub enum WriteError {
    /// There is no such module, or it has no file.
    NoFile,
    /// There is nothing to tell its builds apart by: neither a build-id nor code.
    NoIdentity,
    /// Writing failed.
    Io(io::Error),
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoFile => f.write_str("there is no file to take symbols from"),
            Self::NoIdentity => f.write_str("the file has neither a build-id nor a .text section to identify it by"),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<io::Error> for WriteError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The module's identifier and file name, as the `MODULE` record and symbol stores have them.
///
/// Without a build-id Breakpad takes the first 4096 bytes of `.text`, exclusive-or of blocks of 16 bytes
/// (`HashElfTextSection` of its `common/linux/file_id.cc`).
///
/// # Errors
/// When there is no file, or nothing to identify it by.
pub fn key_of(module: &Module) -> Result<StoreKey, WriteError> {
    let file = module.main().ok_or(WriteError::NoFile)?;
    let id = match &module.build_id {
        // A UUID is written in the order of its bytes.
        Some(id) if file.macho().is_some() => format!("{}0", id.to_string().to_ascii_uppercase()),
        Some(id) => breakpad_id(id.bytes()),
        None => {
            let text = file.section_data(".text").ok().flatten().filter(|t| !t.is_empty());
            let text = text.ok_or(WriteError::NoIdentity)?;
            let mut id = [0_u8; 16];
            for block in text.get(..text.len().min(4096)).unwrap_or_default().chunks_exact(16) {
                id.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
            }
            breakpad_id(&id)
        }
    };
    StoreKey::new(&module.path, &id).ok_or(WriteError::NoIdentity)
}

/// A function with what is known about each part of it.
struct Resolved {
    start: u64,
    end: u64,
    name: String,
    /// (start, end, frames), in order.
    parts: Vec<(u64, u64, Vec<SourceFrame>)>,
}

/// Numbers for names, in the order of their first use.
#[derive(Default)]
struct Numbers(HashMap<Arc<str>, usize>, Vec<Arc<str>>);

impl Numbers {
    fn of(&mut self, name: &Arc<str>) -> usize {
        let next = self.1.len();
        let names = &mut self.1;
        *self.0.entry(Arc::clone(name)).or_insert_with(|| {
            names.push(Arc::clone(name));
            next
        })
    }
}

/// Writes the symbol file of module `index`.
///
/// # Errors
/// When there is no file, nothing to identify it by, or when `out` fails.
pub fn write(info: &DebugInfo<'_>, index: usize, out: &mut dyn Write) -> Result<Written, WriteError> {
    let module = info.module(index).ok_or(WriteError::NoFile)?;
    let file = module.main().ok_or(WriteError::NoFile)?;
    let key = key_of(module)?;
    let mut writer = Writer { base: page(module.base.0), ..Writer::default() };
    let boundaries = info.dwarf(index).map(Dwarf::boundaries).unwrap_or_default();
    if boundaries.cut_off {
        let why = format!("{}: more functions and lines than are read: the symbol file is not complete", module.path);
        info.doubts().push(Doubt::new("sym-file", why));
    }
    let mut pieces = functions(info, index, &boundaries);
    let publics = add_symbols(info, index, &boundaries, &mut pieces);
    drop(boundaries);
    for batch in pieces.chunks(BATCH) {
        for function in parallel(batch, |piece| resolve(info, index, piece)).into_iter().flatten() {
            writer.function(&function);
        }
    }
    let Writer { base, files, origins, body, mut written } = writer;
    let os = match file.bytes().get(7) {
        _ if file.macho().is_some() => "mac",
        Some(6) => "Solaris",
        Some(9) => "FreeBSD",
        _ => "Linux",
    };
    let arch = match file.arch() {
        Arch::X86_64 => "x86_64",
        Arch::X86 => "x86",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Other => "unknown",
    };
    writeln!(out, "MODULE {os} {arch} {} {}", key.id(), key.name())?;
    if let Some(id) = &module.build_id {
        writeln!(out, "INFO CODE_ID {}", id.to_string().to_ascii_uppercase())?;
    }
    writeln!(out, concat!("INFO GENERATOR postfault ", env!("CARGO_PKG_VERSION")))?;
    for (number, name) in files.1.iter().enumerate() {
        writeln!(out, "FILE {number} {}", one_line(name))?;
    }
    for (number, name) in origins.1.iter().enumerate() {
        writeln!(out, "INLINE_ORIGIN {number} {}", one_line(name))?;
    }
    out.write_all(body.as_bytes())?;
    for (start, name) in publics {
        writeln!(out, "PUBLIC {:x} 0 {}", start.wrapping_sub(base), one_line(&name))?;
        written.publics = written.publics.saturating_add(1);
    }
    if let Some(table) = info.cfi(index) {
        (written.cfi, written.inexpressible) = cfi::write(table, file.arch(), base, out)?;
    }
    Ok(written)
}

/// The module's base: images are mapped by pages.
const fn page(at: u64) -> u64 {
    at & !0xfff
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A range of one function, and the boundaries inside of it.
struct Piece {
    start: u64,
    end: u64,
    inside: Vec<u64>,
}

/// The functions of the debug information, by address. An address is written for the function that it resolves to, so
/// that of functions of one place only one counts.
fn functions(info: &DebugInfo<'_>, index: usize, boundaries: &Boundaries) -> Vec<Piece> {
    let Some(dwarf) = info.dwarf(index) else { return Vec::new() };
    let ranges = boundaries.functions.iter().filter_map(|start| {
        let range = dwarf.function_range(Svma(*start))?;
        (range.start == *start).then_some(range)
    });
    ranges.map(|r| Piece { start: r.start, end: r.end, inside: between(&boundaries.all, r.start, r.end) }).collect()
}

/// The sorted addresses strictly inside of a range.
fn between(sorted: &[u64], start: u64, end: u64) -> Vec<u64> {
    let (first, last) = (sorted.partition_point(|a| *a <= start), sorted.partition_point(|a| *a < end));
    sorted.get(first..last).unwrap_or_default().to_vec()
}

/// Adds the symbols that no function of the debug information covers; gives those without a size.
fn add_symbols(
    info: &DebugInfo<'_>,
    index: usize,
    boundaries: &Boundaries,
    pieces: &mut Vec<Piece>,
) -> Vec<(u64, String)> {
    let Some(symbols) = info.symbols(index) else { return Vec::new() };
    let mut starts: Vec<u64> = symbols.iter().filter(|s| s.is_function).map(|s| s.start.0).collect();
    starts.sort_unstable();
    starts.dedup();
    let known = pieces.len();
    let (mut publics, mut more) = (Vec::new(), Vec::new());
    let covered = |at: u64| {
        let before = pieces.partition_point(|p| p.start <= at);
        let near = pieces.get(before.saturating_sub(8)..before).unwrap_or_default();
        near.iter().any(|p| at < p.end)
    };
    for start in starts.into_iter().filter(|s| !covered(*s)) {
        // Of several symbols of one address, the one that addresses resolve to.
        let Some(symbol) = symbols.at(Svma(start)).filter(|s| s.start.0 == start) else { continue };
        if symbol.size == 0 {
            publics.push((start, symbol.demangled()));
        } else {
            let end = start.saturating_add(symbol.size);
            // Assembly has lines without functions.
            more.push(Piece { start, end, inside: between(&boundaries.all, start, end) });
        }
    }
    pieces.extend(more);
    if pieces.len() > known {
        pieces.sort_by_key(|p| p.start);
    }
    publics
}

fn resolve(info: &DebugInfo<'_>, index: usize, piece: &Piece) -> Option<Resolved> {
    let starts = std::iter::once(piece.start).chain(piece.inside.iter().copied());
    let ends = piece.inside.iter().copied().chain([piece.end]);
    let mut parts: Vec<(u64, u64, Vec<SourceFrame>)> = Vec::new();
    let (mut name, mut known) = (None, HashMap::new());
    for (start, end) in starts.zip(ends) {
        let frames = info.resolve_with(index, Svma(start), &mut known);
        let Some(function) = frames.last().filter(|f| f.function_start == Some(Svma(piece.start))) else { continue };
        name = name.or_else(|| Some(function.function.as_deref().unwrap_or(OMITTED).to_owned()));
        match parts.last_mut() {
            Some((_, before, same)) if *before == start && *same == frames => *before = end,
            _ => parts.push((start, end, frames)),
        }
    }
    Some(Resolved { start: piece.start, end: piece.end, name: name?, parts })
}

#[derive(Default)]
struct Writer {
    base: u64,
    files: Numbers,
    origins: Numbers,
    body: String,
    written: Written,
}

/// What makes inlined calls of one level the same: call line, call file, origin.
type Call = (usize, u32, usize, usize);

impl Writer {
    fn function(&mut self, f: &Resolved) {
        let base = self.base;
        let size = f.end.saturating_sub(f.start);
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "FUNC {:x} {size:x} 0 {}", f.start.wrapping_sub(base), one_line(&f.name));
        self.written.functions = self.written.functions.saturating_add(1);
        let mut calls: Vec<(Call, Vec<(u64, u64)>)> = Vec::new();
        let mut known: HashMap<Call, usize> = HashMap::new();
        for (start, end, frames) in &f.parts {
            for (level, pair) in frames.windows(2).rev().enumerate() {
                let [callee, caller] = pair else { continue };
                let omitted = || Arc::from(OMITTED);
                let origin = self.origins.of(&callee.function.clone().unwrap_or_else(omitted));
                // Line 0 says that the place is not known.
                let (line, number) = self.place(caller).unwrap_or((0, 0));
                let call = (level, line, number, origin);
                let at = *known.entry(call).or_insert_with(|| {
                    calls.push((call, Vec::new()));
                    calls.len().saturating_sub(1)
                });
                let Some((_, ranges)) = calls.get_mut(at) else { continue };
                match ranges.last_mut() {
                    Some((_, before)) if *before == *start => *before = *end,
                    _ => ranges.push((*start, *end)),
                }
            }
        }
        calls.sort_by_key(|((level, ..), ranges)| (*level, ranges.first().map(|r| r.0)));
        for ((level, line, number, origin), ranges) in calls {
            for ranges in ranges.chunks(RANGES_PER_RECORD) {
                let _ = write!(self.body, "INLINE {level} {line} {number} {origin}");
                for (start, end) in ranges {
                    let size = end.saturating_sub(*start);
                    let _ = write!(self.body, " {:x} {size:x}", start.wrapping_sub(base));
                }
                self.body.push('\n');
                self.written.inlined = self.written.inlined.saturating_add(1);
            }
        }
        let mut last: Option<(u64, u64, (u32, usize))> = None;
        for (start, end, frames) in &f.parts {
            let Some(place) = frames.first().and_then(|f| self.place(f)) else { continue };
            match &mut last {
                Some((_, before, same)) if *before == *start && *same == place => *before = *end,
                _ => {
                    self.line(last.take());
                    last = Some((*start, *end, place));
                }
            }
        }
        self.line(last);
    }

    fn line(&mut self, line: Option<(u64, u64, (u32, usize))>) {
        let Some((start, end, (line, file))) = line else { return };
        let size = end.saturating_sub(start);
        let _ = writeln!(self.body, "{:x} {size:x} {line} {file}", start.wrapping_sub(self.base));
        self.written.lines = self.written.lines.saturating_add(1);
    }

    /// Line and number of the file, when both are known.
    fn place(&mut self, frame: &SourceFrame) -> Option<(u32, usize)> {
        let file = frame.file.as_ref()?;
        Some((frame.line?, self.files.of(file)))
    }
}
