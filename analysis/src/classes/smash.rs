//! `stack-smash` and `fortify`: the compiler's canary or the C library's checked functions found an overflow.

use crate::case::Case;
use crate::machinery::is_fortified;
use crate::verdict::{Security, Verdict};

/// Frames from the top in which the check is looked for.
pub(super) const TOP: usize = 24;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGABRT", "SIGILL", "SIGTRAP", "SIGSEGV"]) || case.fault.is_some() {
        return None;
    }
    stack_smash(case).or_else(|| fortify(case))
}

/// The stack protector had found an overrun, and its report failed on the stack that was overrun.
pub(super) fn while_reporting(case: &Case<'_>) -> Option<Verdict> {
    case.fault.as_ref()?;
    let frame = top(case, |n| n.starts_with("__stack_chk_fail") || n == "__stack_smash_handler")?;
    let verdict = stack_smash(case)?;
    Some(verdict.because(format!("the fault itself came while that was reported: {} frames further in", frame)))
}

/// A frame among the first [`TOP`].
pub(super) fn top(case: &Case<'_>, test: impl Fn(&str) -> bool) -> Option<usize> {
    case.find(test).filter(|f| *f < TOP)
}

fn stack_smash(case: &Case<'_>) -> Option<Verdict> {
    let frame = top(case, |n| n.starts_with("__stack_chk_fail") || n == "__stack_smash_handler");
    let message = case.message_with(&["stack smashing detected", "stack overflow detected"]);
    if frame.is_none() && message.is_none() {
        return None;
    }
    let culprit = case.culprit(frame.map_or(0, |f| f.saturating_add(1)));
    let place = culprit.map_or_else(|| "a function".to_owned(), |f| case.place_of(f));
    Some(
        Verdict::new(case, "stack-smash", if frame.is_some() { 0.98 } else { 0.85 })
            .frame(culprit)
            .text(format!(
                "a buffer on the stack was overrun in {place}: the canary before its return address was changed"
            ))
            .because_if(frame.map(|f| format!("the compiler's stack protector failed: {}", case.place_of(f))))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .but("a function that the frame called, and that wrote to its buffers, may be the one that overran them")
            .security(Security::High, "memory up to the return address was overwritten"),
    )
}

fn fortify(case: &Case<'_>) -> Option<Verdict> {
    let frame = top(case, |n| matches!(n, "__chk_fail" | "__fortify_fail" | "__fortify_fail_abort"));
    let message = case.message_with(&[
        "buffer overflow detected",
        "%n in writable segment detected",
        "longjmp causes uninitialized stack frame",
        "bit out of range 0 - FD_SETSIZE",
        "invalid %N$ use detected",
    ]);
    if frame.is_none() && message.is_none() {
        return None;
    }
    let function = top(case, is_fortified);
    let from = function.or(frame).map_or(0, |f| f.saturating_add(1));
    let checked = function.and_then(|f| case.names.get(f)?.as_deref());
    let name = checked.map(|n| n.trim_start_matches('_').trim_end_matches("_chk").to_owned());
    // The header's inlined wrapper has the plain function's name.
    let wrapper = case.names.get(from).is_some_and(|n| n.is_some() && *n == name);
    let culprit = case.culprit(if wrapper { from.saturating_add(1) } else { from });
    let place = culprit.map_or_else(String::new, |f| format!(", called from {}", case.place_of(f)));
    let what = name.map_or_else(|| "a C library function".to_owned(), |n| format!("{n}()"));
    Some(
        Verdict::new(case, "fortify", if frame.is_some() { 0.97 } else { 0.85 })
            .frame(culprit)
            .text(format!("{what} was about to write past its buffer's end{place}; _FORTIFY_SOURCE stopped it"))
            .because_if(frame.map(|f| format!("the C library's check failed: {}", case.place_of(f))))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .security(Security::Medium, "a buffer overflow exists, but was stopped before it wrote"),
    )
}
