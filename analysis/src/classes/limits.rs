//! `resource-limit` and `bad-system-call`: the kernel ended the program for what it used or asked for.

use crate::case::{Case, Sender};
use crate::verdict::{Security, Verdict};
use crate::words::report_phrase;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if matches!(case.sender, Sender::Itself | Sender::Other(_)) {
        return None;
    }
    let (class, text, key) = match case.signal.as_deref()? {
        "SIGXCPU" => ("resource-limit", "the program used up its processor time (RLIMIT_CPU)", Some("Max cpu time")),
        "SIGXFSZ" => (
            "resource-limit",
            "the program tried to grow a file beyond its limit (RLIMIT_FSIZE)",
            Some("Max file size"),
        ),
        "SIGXRES" => ("resource-limit", "the program exceeded a resource control", None),
        "SIGSYS" => {
            ("bad-system-call", "the program made a system call that does not exist or that a filter forbids", None)
        }
        _ => return None,
    };
    let limit = key.and_then(|k| case.view.attribute("proc.limits")?.lines().find(|l| l.starts_with(k)));
    let call = case.view.thread.and_then(|t| t.system_call).filter(|_| class == "bad-system-call");
    Some(
        Verdict::new(case, class, 0.95)
            .text(text)
            .because_if(report_phrase(case))
            .because_if(limit.map(|l| format!("limit: {}", l.split_whitespace().collect::<Vec<_>>().join(" "))))
            .because_if(call.map(|n| format!("the system call's number is {n}")))
            .security(Security::None, "the kernel stopped the program as it was told to"),
    )
}
