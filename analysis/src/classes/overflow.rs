//! `stack-overflow`: the stack ran out of room, by recursion or by one large frame.

use crate::case::{Case, Fault};
use crate::fold::{Recursion, recursion};
use crate::verdict::{Security, Verdict};
use crate::view::{Place, allows};
use crate::words::{access_phrase, hex, report_phrase, with_instruction};
use snapshot_format::schema::Mapping;

/// How far below the stack pointer a program may touch: the red zone, a push, and the probes of one page that compilers
/// place (`-fstack-clash-protection`), with room to spare.
const BELOW: u64 = 0x1_0000;

/// How near its lower end the stack pointer must be before the end is the cause.
const NEAR_END: u64 = 0x2_0000;

/// The largest frame believed, bytes: beyond it the stack pointer itself is wrong.
const LARGEST_FRAME: u64 = 1 << 30;

/// Frames that recursion is looked for in.
const LIMIT_RECURSION: usize = 4_096;

/// Rounds from which a cycle counts as recursion without end.
const MANY: usize = 50;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if let Some(verdict) = reported_by_rust(case) {
        return Some(verdict);
    }
    let fault = case.fault.as_ref().filter(|f| !f.fetch)?;
    let (address, sp) = (fault.address?, case.view.sp()?);
    let stack = stack(case, sp, address)?;
    let certainty = certainty(case, fault, &stack, address, sp)?;
    let room = sp.checked_sub(stack.start);
    let where_sp = match room {
        Some(room) => {
            format!("the stack pointer {sp:#x} is {room} bytes above the stack's lower end {:#x}", stack.start)
        }
        None => format!("the stack pointer {sp:#x} lies below the stack's lower end {:#x}", stack.start),
    };
    let cause = cause(case, &stack, sp);
    let sentence = format!("the stack is used up: {} {cause}", access_phrase(fault));
    let verdict = Verdict::new(case, "stack-overflow", certainty)
        .text(with_instruction(case, fault, &sentence))
        .because_if(report_phrase(case))
        .because(where_sp)
        .because_if(guard(case, address))
        .because_if(limit(case, &stack, address))
        .but_if(room_left(case, &stack, address));
    Some(describe_recursion(case, verdict).security(Security::Low, "the guard below the stack stopped it"))
}

/// A stack's range.
struct Range {
    start: u64,
    end: u64,
    /// The main thread's, which grows up to its limit.
    main: bool,
}

fn range(mapping: &Mapping) -> Range {
    Range { start: mapping.start, end: mapping.end, main: mapping.path.as_deref() == Some("[stack]") }
}

/// The stack that the stack pointer is in, or has just left downwards.
fn stack(case: &Case<'_>, sp: u64, address: u64) -> Option<Range> {
    let writable = |m: &&Mapping| allows(m, b'w') == Some(true);
    if let Some(mapping) = case.view.mapping(sp).filter(writable) {
        return Some(range(mapping));
    }
    let recorded = case.view.thread.and_then(|t| Some((t.stack_start?, t.stack_end?)));
    if let Some((start, end)) = recorded.filter(|(start, end)| start < end) {
        // What was recorded from the same stack pointer may be the guard itself.
        let usable = case.view.mapping(start).is_none_or(|m| allows(m, b'w') != Some(false));
        if usable && (sp >= start || start.wrapping_sub(sp) < LARGEST_FRAME) && sp < end && address < end {
            let main = case.view.mapping(start).is_some_and(|m| m.path.as_deref() == Some("[stack]"));
            return Some(Range { start, end, main });
        }
    }
    // Below its stack, the stack pointer is in the guard or in the gap; the stack is what comes next.
    let above = case.view.mappings().iter().find(|m| m.start > sp && allows(m, b'w') == Some(true))?;
    let in_guard = case.view.mapping(sp).is_none_or(|m| m.end == above.start);
    (above.start.wrapping_sub(sp) < LARGEST_FRAME && in_guard).then(|| range(above))
}

/// How sure an overflow is; `None` when the fault is something else.
fn certainty(case: &Case<'_>, fault: &Fault<'_>, stack: &Range, address: u64, sp: u64) -> Option<f64> {
    let by_stack = fault.operand.as_ref().map(|o| o.stack || is_frame(o.base.as_ref().map(|b| b.name.as_str())));
    let below = address < stack.start;
    let near_sp = address >= sp.saturating_sub(BELOW);
    // The stack pointer has left the stack, and the address is between the two.
    if below && sp < stack.start && near_sp {
        return Some(if by_stack == Some(false) { 0.85 } else { 0.97 });
    }
    let room = sp.saturating_sub(stack.start);
    if below && near_sp && room < NEAR_END {
        return match by_stack {
            Some(true) => Some(0.97),
            // A pointer that happens to point just below a nearly empty stack is not this.
            Some(false) => Some(0.7),
            None => Some(0.85),
        };
    }
    // One large frame, touched before the stack pointer moved.
    if below && by_stack == Some(true) && stack.start.wrapping_sub(address) < LARGEST_FRAME && address < sp {
        return Some(0.85);
    }
    // Guards that are no mapping of their own: MADV_GUARD_INSTALL of Linux 6.13, used by glibc 2.42.
    let inside = address >= stack.start && address.wrapping_sub(stack.start) < BELOW && address < stack.end;
    let deep = room < NEAR_END && deepest(case).is_some_and(|r| r.rounds >= MANY);
    let refused = matches!(fault.place, Place::Mapped(m) if allows(m, b'w') == Some(true));
    (inside && near_sp && refused && by_stack != Some(false) && deep).then_some(0.8)
}

fn is_frame(register: Option<&str>) -> bool {
    matches!(register, Some("rbp" | "ebp" | "x29"))
}

/// What used the stack up.
fn cause(case: &Case<'_>, stack: &Range, sp: u64) -> String {
    if let Some(found) = deepest(case).filter(|r| r.rounds >= MANY) {
        let frames = case.view.frames.len();
        return format!(
            "below it, after {frames} frames of which {} are one recursion",
            found.rounds.saturating_mul(found.period)
        );
    }
    match stack.start.checked_sub(sp) {
        Some(gap) if gap > BELOW => format!("below it: the frame reaches {gap} bytes past the end in one step"),
        _ => "below it".to_owned(),
    }
}

fn deepest(case: &Case<'_>) -> Option<Recursion> {
    let functions: Vec<(Option<&str>, u64)> = case
        .view
        .frames
        .iter()
        .filter(|f| !f.inline)
        .take(LIMIT_RECURSION)
        .map(|f| (f.function.as_deref(), if f.function.is_some() { 0 } else { f.pc }))
        .collect();
    recursion(&functions)
}

fn describe_recursion(case: &Case<'_>, verdict: Verdict) -> Verdict {
    let Some(found) = deepest(case).filter(|r| r.rounds >= MANY) else {
        return verdict.but_if((case.view.frames.len() > 1).then(|| "no recursion is seen in the frames".into()));
    };
    let physical: Vec<_> = case.view.frames.iter().filter(|f| !f.inline).collect();
    let end = found.start.saturating_add(found.period);
    let cycle: Vec<String> =
        physical.get(found.start..end).unwrap_or(&[]).iter().map(|f| case.view.frame_label(f)).collect();
    // A person reads the cycle in the order of the calls.
    let calls: Vec<&str> = cycle.iter().rev().map(String::as_str).collect();
    let more = if physical.len() > LIMIT_RECURSION { "at least " } else { "" };
    let calls = match calls.as_slice() {
        [alone] => format!("{alone} calls itself"),
        several => format!("{}, and so on round", several.join(" calls ")),
    };
    verdict.because(format!("recursion: {calls}, {more}{} times", found.rounds))
}

/// The guard or gap that was hit.
fn guard(case: &Case<'_>, address: u64) -> Option<String> {
    match case.view.place(address) {
        Place::Mapped(m) if allows(m, b'r') == Some(false) && allows(m, b'w') == Some(false) => {
            Some(format!("{address:#x} is in a guard area ({:#x}-{:#x}, no access) below the stack", m.start, m.end))
        }
        Place::Mapped(_) | Place::Unknown => None,
        Place::Unmapped => Some(format!("{address:#x} is in the unmapped gap below the stack")),
    }
}

/// The soft limit in the text of `/proc/PID/limits`, bytes.
fn soft_limit(case: &Case<'_>) -> Option<u64> {
    let line = case.view.attribute("proc.limits")?.lines().find(|l| l.starts_with("Max stack size"))?;
    line.strip_prefix("Max stack size")?.split_whitespace().next()?.parse().ok()
}

fn limit(case: &Case<'_>, stack: &Range, address: u64) -> Option<String> {
    let size = stack.end.wrapping_sub(stack.start);
    let needed = stack.end.wrapping_sub(address);
    match soft_limit(case).filter(|_| stack.main) {
        Some(limit) if needed > limit => {
            Some(format!("the access needs a stack of {needed} bytes; its limit (RLIMIT_STACK) is {limit}"))
        }
        Some(limit) => Some(format!("the stack has {size} bytes; its limit (RLIMIT_STACK) is {limit}")),
        None => Some(format!("the stack has {size} bytes")),
    }
}

/// The main stack grows by itself until its limit: an early end needs another explanation.
fn room_left(case: &Case<'_>, stack: &Range, address: u64) -> Option<String> {
    let limit = soft_limit(case).filter(|_| stack.main)?;
    let needed = stack.end.wrapping_sub(address);
    // The kernel keeps a gap of 256 pages above the next mapping.
    let room = limit.checked_sub(needed).filter(|room| *room > 0x20_0000)?;
    Some(format!("the stack might have grown by {room} bytes more before its limit"))
}

/// Rust's runtime catches the fault on its own signal stack, says so, and aborts.
fn reported_by_rust(case: &Case<'_>) -> Option<Verdict> {
    let handler = case.find(|n| n.contains("stack_overflow") && n.contains("signal_handler"));
    let message = case.message_with(&["has overflowed its stack"]);
    if handler.is_none() && message.is_none() || !case.signal_is(&["SIGABRT", "SIGSEGV", "SIGBUS"]) {
        return None;
    }
    // The handler returns to fault again when the address is no guard page; only its abort() means an overflow.
    if message.is_none() && !case.signal_is(&["SIGABRT"]) {
        return None;
    }
    let sp = case.view.sp().filter(|_| case.view.interrupted).map(hex);
    let verdict = Verdict::new(case, "stack-overflow", 0.97)
        .text("a thread overflowed its stack: Rust's runtime found the fault in the guard page and aborted")
        .because_if(message.map(|m| format!("message: {}", m.trim())))
        .because_if(handler.map(|f| format!("the runtime's stack overflow handler is on the stack, frame {f}")))
        .because_if(sp.map(|sp| format!("the interrupted stack pointer is {sp}")));
    Some(describe_recursion(case, verdict).security(Security::Low, "the guard below the stack stopped it"))
}
