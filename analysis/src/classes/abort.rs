//! `abort`: the program ended itself, and nothing says more precisely why.

use super::exception::is_terminate;
use super::smash::top;
use crate::case::{Case, Sender};
use crate::machinery::{Part, part};
use crate::verdict::{Security, Verdict};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let raise = top(case, |n| part(n) == Some(Part::Raise) && n.contains("abort")).filter(|f| *f < 8);
    let aborted = case.signal_is(&["SIGABRT"]);
    // C libraries end abort() with an instruction that cannot be caught when the signal is blocked.
    let forced = case.signal_is(&["SIGSEGV", "SIGILL", "SIGTRAP"]) && raise == Some(0);
    if !(aborted || forced) || case.fault.as_ref().is_some_and(|f| f.operand.is_some()) {
        return None;
    }
    let culprit = case.culprit(0);
    let place = culprit.map_or_else(String::new, |f| format!(", called from {}", case.place_of(f)));
    let confidence = match (case.sender, raise) {
        (_, Some(_)) => 0.97,
        (Sender::Itself, None) => 0.9,
        _ => 0.75,
    };
    let message = case.view.event().and_then(|e| e.message.as_deref()).filter(|m| !m.trim().is_empty());
    let verdict = Verdict::new(case, "abort", confidence)
        .frame(culprit)
        .because_if(raise.map(|f| format!("{} is on the stack", case.place_of(f))))
        .because_if(case.code.map(|c| format!("{}, {c}", case.signal.as_deref().unwrap_or("SIGABRT"))))
        .because_if(message.map(|m| format!("message: {}", m.trim())));
    if let Some(pure) = top(case, |n| matches!(n, "__cxa_pure_virtual" | "__cxa_deleted_virtual")) {
        return Some(
            verdict
                .text(format!("a pure virtual function was called{place}"))
                .because(format!("{} is on the stack", case.place_of(pure)))
                .but("a call in a constructor or destructor, and a call through an object already destroyed, look the same")
                .security(Security::Medium, "the object may have been destroyed: a use after free"),
        );
    }
    let terminate = top(case, is_terminate);
    let inactive = case.message_with(&["terminate called without an active exception"]);
    if terminate.is_some() || inactive.is_some() {
        let thread = top(case, |n| n == "std::thread::~thread" || n == "std::thread::operator=");
        let text = match thread {
            Some(_) => format!("a std::thread was destroyed or replaced while it could still be joined{place}"),
            None => format!("std::terminate was called without an exception in flight{place}"),
        };
        return Some(
            verdict
                .text(text)
                .because_if(terminate.map(|f| format!("{} is on the stack, and no throw", case.place_of(f))))
                .because_if(inactive.map(|m| format!("message: {}", m.trim())))
                .security(Security::None, "the program stopped itself"),
        );
    }
    let said = message.and_then(|m| m.lines().next()).map_or_else(String::new, |m| format!(": {}", m.trim()));
    Some(
        verdict
            .text(format!("the program aborted itself{place}{said}"))
            .security(Security::None, "the program stopped itself"),
    )
}
