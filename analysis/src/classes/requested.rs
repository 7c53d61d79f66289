//! `requested`: the signal was sent on purpose, by another process, a terminal, or the program itself.
//!
//! `kill -SEGV` looks like a memory fault to everything but its `si_code`.

use crate::case::{Case, Sender};
use crate::verdict::{Security, Verdict};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let signal = case.signal.as_deref()?;
    let verdict = match case.sender {
        Sender::Other(pid) => from_another(case, signal, pid),
        Sender::Itself => from_itself(case, signal)?,
        Sender::Hardware | Sender::Unknown => from_terminal(case, signal)?,
    };
    Some(verdict.severity("info").security(Security::None, "nothing failed in the program by itself"))
}

fn from_another(case: &Case<'_>, signal: &str, pid: Option<u64>) -> Verdict {
    let uid = case.view.event().and_then(|e| e.sender_uid);
    let user = uid.map_or_else(String::new, |u| format!(" (user id {u})"));
    let code = case.code.unwrap_or("unknown code");
    let verdict = Verdict::new(case, "requested", if pid.is_some() { 0.97 } else { 0.8 });
    let verdict = match pid {
        Some(0) => verdict.text(format!("{signal} was sent from outside the process's pid namespace")),
        Some(pid) => {
            verdict.text(format!("{signal} was sent by process {pid}{user}; no instruction of this program failed"))
        }
        None => verdict
            .text(format!("{signal} was sent by a process, not by a fault; the sender was not recorded"))
            .but("without the sender's number, the program itself may have sent it"),
    };
    let watchdog = pid == Some(1) && signal == "SIGABRT";
    verdict
        .because(format!("si_code is {code}: the signal comes from kill() or its like, not from the processor"))
        .because_if(
            watchdog.then(|| "the sender is process 1: service managers send SIGABRT when a watchdog expires".into()),
        )
        .because_if(doing(case))
}

/// What the thread was at, as far as its top frame says.
fn doing(case: &Case<'_>) -> Option<String> {
    let top = case.view.frames.first()?;
    Some(format!("the thread was in {} when the signal came", case.view.frame_label(top)))
}

/// Signals that ask a program to end or to dump core, rather than report a failure of it.
const ASKING: [&str; 8] = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP"];

fn from_itself(case: &Case<'_>, signal: &str) -> Option<Verdict> {
    // abort() and what ends in it have classes of their own, and so has what a handler passed on.
    if signal == "SIGABRT" || case.fault.is_some() {
        return None;
    }
    let trap = matches!(signal, "SIGTRAP" | "SIGILL");
    if trap && case.code.is_none() {
        return None;
    }
    let frame = case.culprit(0);
    let verdict = Verdict::new(case, "requested", if case.view.interrupted { 0.5 } else { 0.9 })
        .frame(frame)
        .text(match frame {
            Some(frame) => format!("the program sent {signal} to itself, from {}", case.place_of(frame)),
            None => format!("the program sent {signal} to itself"),
        })
        .because_if(case.code.map(|c| format!("si_code is {c} and the sender is this process")));
    Some(if case.view.interrupted {
        verdict.but("a signal handler passed it on: the first cause lies beneath the handler and is not recorded")
    } else {
        verdict
    })
}

fn from_terminal(case: &Case<'_>, signal: &str) -> Option<Verdict> {
    let kernel = case.code == Some("SI_KERNEL");
    if !ASKING.contains(&signal) || !(kernel || case.code.is_none()) {
        return None;
    }
    let verdict = Verdict::new(case, "requested", if kernel { 0.9 } else { 0.7 });
    let key = match signal {
        "SIGQUIT" => " (the terminal's quit key sends it)",
        "SIGINT" => " (the terminal's interrupt key sends it)",
        "SIGHUP" => " (a terminal that goes away sends it)",
        _ => "",
    };
    Some(
        verdict
            .text(format!("{signal} asked the program to end{key}"))
            .because_if(kernel.then(|| "si_code is SI_KERNEL: no process sent it".into()))
            .but_if((!kernel).then(|| "no siginfo was recorded".into()))
            .because_if(doing(case)),
    )
}
