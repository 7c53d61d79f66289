//! Exceptions that say themselves what failed: Windows' fast fails and status codes, Objective-C and other languages'
//! exceptions.
//!
//! What failed is a fact; where, and why, the frames must show.

use crate::case::Case;
use crate::fold::recursion;
use crate::signals;
use crate::verdict::{Security, Verdict};

/// What is concluded from a code alone.
struct Stated {
    class: &'static str,
    confidence: f64,
    text: &'static str,
    security: Security,
    reason: &'static str,
}

const fn stated(
    class: &'static str,
    confidence: f64,
    text: &'static str,
    security: Security,
    reason: &'static str,
) -> Option<Stated> {
    Some(Stated { class, confidence, text, security, reason })
}

/// Rounds from which a cycle counts as recursion without end.
const MANY: usize = 50;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let event = case.view.event()?;
    let number = event.signal? & 0xffff_ffff;
    let found = match case.view.snapshot.identity.os.as_str() {
        "windows" if number == 0xc000_0409 => fast_fail(event.code),
        "windows" => status(number),
        "macos" | "ios" => mach(number),
        _ => None,
    }?;
    let verdict = Verdict::new(case, found.class, found.confidence)
        .frame(case.culprit(0))
        .text(found.text)
        .because_if(crate::words::report_phrase(case))
        .because_if(message(case))
        .security(found.security, found.reason);
    Some(if found.class == "stack-overflow" { with_recursion(case, verdict) } else { verdict })
}

fn message(case: &Case<'_>) -> Option<String> {
    let attributes = ["breakpad.assertion.expression", "macos.crash_info.0.message"];
    let said = attributes.iter().find_map(|key| case.view.attribute(key)).or_else(|| case.messages.first().copied());
    said.map(|m| format!("message: {}", m.trim()))
}

fn with_recursion(case: &Case<'_>, verdict: Verdict) -> Verdict {
    let physical: Vec<_> = case.view.frames.iter().filter(|f| !f.inline).collect();
    let functions: Vec<(Option<&str>, u64)> =
        physical.iter().map(|f| (f.function.as_deref(), if f.function.is_some() { 0 } else { f.pc })).collect();
    match recursion(&functions).filter(|r| r.rounds >= MANY) {
        Some(found) => {
            let label = physical.get(found.start).map(|f| case.view.frame_label(f)).unwrap_or_default();
            verdict.because(format!("recursion of {} frames, {} times, through {label}", found.period, found.rounds))
        }
        None => verdict.but("no recursion is seen in the frames"),
    }
}

fn status(number: i64) -> Option<Stated> {
    match u32::try_from(number).ok()? {
        0xc000_00fd => stated(
            "stack-overflow",
            0.98,
            "the stack is used up: its last guard page was touched",
            Security::Low,
            "the guard below the stack stopped it",
        ),
        0xc000_0374 => stated(
            "heap-corruption",
            0.97,
            "the heap's structures were overwritten: Windows' heap manager found them wrong and ended the program",
            Security::High,
            "the allocator worked on structures that were overwritten",
        ),
        0xe06d_7363 => stated(
            "uncaught-exception",
            0.97,
            "a C++ exception was caught nowhere",
            Security::None,
            "the program stopped itself",
        ),
        0xe043_4352 | 0xe043_4f4d => stated(
            "uncaught-exception",
            0.97,
            "a .NET exception was caught nowhere",
            Security::None,
            "the program stopped itself",
        ),
        0xe042_4242 => stated(
            "uncaught-exception",
            0.9,
            "an exception of the D language was caught nowhere",
            Security::None,
            "the program stopped itself",
        ),
        0xe000_0008 | 0xc000_0017 | 0xc000_009a | 0xc000_012d => stated(
            "out-of-memory",
            0.95,
            "memory could not be had, and the program ended itself",
            Security::None,
            "the program stopped itself",
        ),
        0xc000_0417 => stated(
            "assertion",
            0.95,
            "the C runtime was handed an argument that it refuses",
            Security::Low,
            "a check stopped the program; what it checked for may matter",
        ),
        0xc000_0420 => stated(
            "assertion",
            0.95,
            "an assertion failed",
            Security::Low,
            "a check stopped the program; what it checked for may matter",
        ),
        0x4000_0015 | 0xc000_0602 => {
            stated("abort", 0.95, "the program ended itself", Security::None, "the program stopped itself")
        }
        0xc000_0135 | 0xc000_0138 | 0xc000_0139 | 0xc000_0142 | 0xc06d_007e | 0xc06d_007f => stated(
            "missing-library",
            0.95,
            "a library, or a function in it, that the program needs is not there or failed to start",
            Security::None,
            "the installation is incomplete",
        ),
        0xc000_0025 | 0xc000_0026 => stated(
            "uncaught-exception",
            0.7,
            "an exception handler went on where that is not possible",
            Security::Medium,
            "the chain of exception handlers may have been overwritten",
        ),
        _ => None,
    }
}

fn fast_fail(code: Option<i64>) -> Option<Stated> {
    match code? {
        0 | 2 => stated(
            "stack-smash",
            0.98,
            "a buffer on the stack was overrun: the cookie before a function's return address was changed",
            Security::High,
            "memory up to the return address was overwritten",
        ),
        1 | 65 => stated(
            "heap-corruption",
            0.9,
            "an object's table of virtual functions is not the one of its class: it was overwritten, freed, or is another object",
            Security::High,
            "a pointer to code was replaced",
        ),
        3 | 29 => stated(
            "heap-corruption",
            0.95,
            "a linked list or tree was found inconsistent: an entry was overwritten, freed or removed twice",
            Security::High,
            "pointers that the system writes through were overwritten",
        ),
        50 | 35 => stated(
            "heap-corruption",
            0.97,
            "the heap's structures were overwritten: Windows' heap manager found them wrong",
            Security::High,
            "the allocator worked on structures that were overwritten",
        ),
        10 | 37 | 64 | 31 => stated(
            "wild-jump",
            0.97,
            "an indirect call was refused by Control Flow Guard: its target is no function",
            Security::High,
            "a pointer to code was overwritten",
        ),
        4 | 13 | 18 | 38 | 44 | 47 | 57 => stated(
            "wild-jump",
            0.95,
            "the stack pointer, a jump buffer or a return address is not what it must be",
            Security::High,
            "a return address or the stack pointer was overwritten",
        ),
        8 | 28 => stated(
            "assertion",
            0.95,
            "an index or buffer range was checked and refused",
            Security::Low,
            "a check stopped an access out of bounds",
        ),
        14 => stated(
            "use-after-free",
            0.9,
            "a reference count is not possible: the object was freed already, or overwritten",
            Security::High,
            "an object may be used after it was freed",
        ),
        5 => stated(
            "assertion",
            0.95,
            "a function was handed an argument that it refuses",
            Security::Low,
            "a check stopped the program; what it checked for may matter",
        ),
        7 => stated(
            "abort",
            0.97,
            "the program ended itself: abort(), std::terminate() or a fatal error of its runtime",
            Security::None,
            "the program stopped itself",
        ),
        19 | 21 | 60 => stated(
            "heap-corruption",
            0.85,
            "structures that the system protects were changed",
            Security::High,
            "protected structures were overwritten",
        ),
        _ => stated(
            "abort",
            0.8,
            "the program ended itself by a fast fail",
            Security::Medium,
            "what the failed check protects is not known here",
        ),
    }
}

fn mach(number: i64) -> Option<Stated> {
    match number {
        signals::NS_EXCEPTION => stated(
            "uncaught-exception",
            0.97,
            "an Objective-C exception was caught nowhere",
            Security::None,
            "the program stopped itself",
        ),
        11 => stated(
            "resource-limit",
            0.95,
            "the process used more of a resource than the system allows it",
            Security::None,
            "the system enforced a limit",
        ),
        12 => stated(
            "guard-violation",
            0.95,
            "a guarded resource (a file descriptor, port or memory range of a library) was misused",
            Security::Low,
            "the system stopped the misuse",
        ),
        _ => None,
    }
}
