//! `wild-pointer`: an access to an address that nothing is mapped at, and that is not near null.

use crate::case::{Case, Fault, is_canonical};
use crate::instruction::Access;
use crate::variables::explain;
use crate::verdict::{Security, Verdict};
use crate::view::{Arch, Place, allows};
use crate::words::{access_phrase, hex, operand_agrees, place_phrase, report_phrase, with_instruction};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| !f.fetch && !f.protection)?;
    let address = fault.address?;
    if case.code == Some("SEGV_PKUERR") || !case.signal_is(&["SIGSEGV", "SIGBUS"]) && !case.view.interrupted {
        return None;
    }
    let confidence = confidence(fault)?;
    let operand = fault.operand.as_ref();
    let pointer = operand.and_then(|o| o.base.as_ref()).and_then(|b| b.value);
    let (head, grounds) = explain(case, pointer);
    let sentence = match operand {
        Some(o) if o.stack && o.base.is_some() && !in_stack(case) => {
            format!("the stack pointer itself is wild: {}", access_phrase(fault))
        }
        _ => head.unwrap_or_else(|| format!("{}, {}", access_phrase(fault), place_phrase(fault.place))),
    };
    let (mut level, mut reason) = relevance(fault, pointer.unwrap_or(address));
    if is_text(case, pointer.unwrap_or(address)) {
        (level, reason) = (Security::High, "the pointer was overwritten by text, which often comes from outside");
    }
    let (below, above) = case.view.neighbours(address);
    let below = below.map(|m| (address.wrapping_sub(m.end), m)).filter(|(gap, _)| *gap < NEIGHBOUR);
    let above = above.map(|m| (m.start.wrapping_sub(address), m)).filter(|(gap, _)| *gap < NEIGHBOUR);
    Some(
        Verdict::new(case, "wild-pointer", confidence)
            .text(with_instruction(case, fault, &sentence))
            .because_if(report_phrase(case))
            .because_if(operand_agrees(fault))
            .because(format!("the address lies {}", place_phrase(fault.place)))
            .because_if(grounds)
            .because_if(looks_like(case, pointer.unwrap_or(address)))
            .because_if(below.map(|(gap, m)| format!("it is {gap} bytes past the end of {}", name(m.path.as_deref()))))
            .because_if(above.map(|(gap, m)| format!("it is {gap} bytes below {}", name(m.path.as_deref()))))
            .but_if(operand.is_none().then(|| "the faulting instruction could not be decoded".into()))
            .security(level, reason),
    )
}

/// How near a mapping an address must be for running past its end to be worth a word, bytes.
const NEIGHBOUR: u64 = 0x1000;

fn name(path: Option<&str>) -> String {
    path.map_or_else(|| "an anonymous mapping".to_owned(), |p| crate::view::basename(p).to_owned())
}

/// Whether the stack pointer is in memory that can be written, as a stack is.
fn in_stack(case: &Case<'_>) -> bool {
    case.view.sp().and_then(|sp| case.view.mapping(sp)).is_some_and(|m| allows(m, b'w') == Some(true))
}

fn confidence(fault: &Fault<'_>) -> Option<f64> {
    let explained: f64 = if fault.operand.is_some() { 0.0 } else { -0.1 };
    match fault.place {
        // The system and the mappings must agree.
        Place::Unmapped => Some(if fault.unmapped == Some(false) { 0.6 } else { 0.95 } + explained),
        Place::Mapped(m) => {
            let reserved = allows(m, b'r') == Some(false) && allows(m, b'w') == Some(false);
            (reserved && fault.unmapped != Some(true)).then_some(0.9 + explained)
        }
        Place::Unknown => fault.reported.then_some(0.7 + explained),
    }
}

fn relevance(fault: &Fault<'_>, pointer: u64) -> (Security, &'static str) {
    if is_sentinel(pointer) {
        return (Security::Low, "the pointer is a sentinel or an error number, not data from outside");
    }
    match fault.access {
        Access::Write => (Security::High, "a write to an address that the program did not mean"),
        Access::Read | Access::Execute => (Security::Medium, "a read from an address that the program did not mean"),
        Access::Unknown => (Security::Medium, "the direction of the access is unknown"),
    }
}

/// -1 (`MAP_FAILED`, invalid handles) and negative error numbers.
const fn is_sentinel(pointer: u64) -> bool {
    pointer >= u64::MAX - 4095
}

/// Fill patterns of allocators and debuggers, four bytes that repeat.
const PATTERNS: [(u32, &str); 10] = [
    (0xdead_beef, "the 0xdeadbeef fill pattern"),
    (0xbaad_f00d, "the fill of fresh heap memory of Windows's debug heap"),
    (0xfeee_feee, "the fill of freed heap memory of Windows's debug heap"),
    (0xcccc_cccc, "the fill of uninitialised stack memory of some compilers"),
    (0xcdcd_cdcd, "the fill of fresh heap memory of some debug allocators"),
    (0xdddd_dddd, "the fill of freed heap memory of some debug allocators"),
    (0x5a5a_5a5a, "jemalloc's fill of freed memory"),
    (0xa5a5_a5a5, "jemalloc's fill of fresh memory"),
    (0xaaaa_aaaa, "the automatic initialisation of variables by clang (-ftrivial-auto-var-init=pattern)"),
    (0xfefe_fefe, "the automatic initialisation of variables by gcc (-ftrivial-auto-var-init=pattern)"),
];

/// A pointer's bytes as they lie in memory.
fn in_memory(case: &Case<'_>, pointer: u64) -> Vec<u8> {
    let mut bytes = pointer.to_le_bytes().to_vec();
    bytes.truncate(if case.view.arch.pointer_size() == 8 { 8 } else { 4 });
    if case.view.snapshot.identity.big_endian {
        bytes.reverse();
    }
    bytes
}

fn is_text(case: &Case<'_>, pointer: u64) -> bool {
    in_memory(case, pointer).iter().all(|b| b.is_ascii_graphic() || *b == b' ')
}

/// What the pointer's value itself looks like, when it looks like something.
pub(super) fn looks_like(case: &Case<'_>, pointer: u64) -> Option<String> {
    let low = u32::try_from(pointer & 0xffff_ffff).unwrap_or(0);
    let high = u32::try_from(pointer >> 32).unwrap_or(0);
    let wide = case.view.arch.pointer_size() == 8;
    // A pointer plus a small offset keeps the upper half of the pattern.
    let pattern = PATTERNS
        .iter()
        .find(|(p, _)| if wide { high == *p } else { low == *p || low & 0xffff_ff00 == p & 0xffff_ff00 });
    if let Some((_, what)) = pattern {
        return Some(format!("the pointer {} looks like {what}", hex(pointer)));
    }
    if is_sentinel(pointer) && wide {
        let number = pointer.wrapping_neg();
        let what = if number == 1 { "the sentinel -1 (such as MAP_FAILED)" } else { "a negative error number" };
        return Some(format!("the pointer {} is -{number}: {what}", hex(pointer)));
    }
    if is_text(case, pointer) {
        let text: String = in_memory(case, pointer).iter().map(|b| char::from(*b)).collect();
        return Some(format!("the pointer's bytes are text, \"{text}\": a string was written over it"));
    }
    let kernel = case.view.arch == Arch::X86_64 && is_canonical(Arch::X86_64, pointer) && pointer >> 63 == 1;
    kernel.then(|| format!("{} is in the kernel's half of the address space", hex(pointer)))
}
