//! crash, by the text of its `sys`, `set` and `log`: the panic message, the task that panicked, and the kernel's log.
//!
//! Its stacks and its list of tasks are not asked for: crash 8.0.2 finds four of the 61 tasks of Linux 6.1, and takes what
//! earlier calls left on a stack for frames.

use super::facts::Facts;
use super::{Input, Peer, PeerError, PeerReport, Subject, tool};
use std::process::Command;

/// Runs crash on a kernel's dump.
///
/// # Errors
/// As [`Peer::backtraces`]; also without the kernel's file, which crash needs.
pub fn backtraces(input: &Input) -> Result<PeerReport, PeerError> {
    let fail = |why: &str| PeerError::Failed { peer: Peer::Crash, why: why.to_owned() };
    let Subject::Core(dump) = &input.subject else { return Err(fail("it is asked about dumps of kernels only")) };
    let Some(kernel) = &input.kernel else { return Err(fail("it needs the kernel's file (--kernel FILE)")) };
    let scratch = tool::scratch()?;
    let version = tool::version(Peer::Crash, scratch.path())?;
    let commands = scratch.path().join("commands");
    tool::io("cannot write the commands for crash", std::fs::write(&commands, "sys\nset\nlog\nquit\n"))?;
    let mut command = Command::new("crash");
    command.args(["-s", "--no_scroll", "--no_crashrc", "-i"]).arg(&commands).arg(kernel).arg(dump);
    let output = tool::run(Peer::Crash, command, scratch.path(), None, input.time_limit)?;
    let facts = parse(&output.stdout);
    if facts.said.is_empty() && facts.log.is_empty() {
        return Err(PeerError::Failed { peer: Peer::Crash, why: output.summary() });
    }
    let incomplete = (!output.status.success()).then(|| output.summary());
    Ok(PeerReport { peer: Peer::Crash, version, threads: Vec::new(), facts, incomplete })
}

/// Facts out of what crash printed.
#[must_use]
pub fn parse(text: &str) -> Facts {
    let mut facts = Facts::default();
    // How far lines of the log are indented by their times.
    let mut indent = None;
    for line in text.lines() {
        if let Some((time_us, text)) = log_line(line) {
            indent = Some(line.len().saturating_sub(text.len()));
            facts.record(Some(time_us), text);
            continue;
        }
        if let Some(indent) = indent {
            // A record of several lines: its others begin below the first one's text.
            let (spaces, rest) = line.split_at_checked(indent).unwrap_or(("", line));
            let line = if spaces.trim().is_empty() { rest } else { line };
            if let Some(time_us) = facts.log.last().map(|l| l.time_us) {
                facts.record(time_us, line);
            }
            continue;
        }
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        let value = value.trim();
        match name {
            // Otherwise the line is an oops, which is no message of panic().
            "PANIC" => {
                let value = value.strip_suffix("(check log for details)").unwrap_or(value).trim().trim_matches('"');
                if let Some(message) = value.strip_prefix("Kernel panic - not syncing: ") {
                    facts.said.insert("panic".to_owned(), message.to_owned());
                }
            }
            "PID" => drop(facts.said.insert("crashed pid".to_owned(), value.to_owned())),
            "COMMAND" => drop(facts.said.insert("crashed name".to_owned(), value.trim_matches('"').to_owned())),
            "CPU" => drop(facts.said.insert("crashed cpu".to_owned(), value.to_owned())),
            "STATE" if !value.contains("PANIC") => {
                // Without a panic crash shows some task.
                facts.said.retain(|name, _| !name.starts_with("crashed "));
            }
            _ => {}
        }
    }
    facts
}

/// `[    5.300332] text`
fn log_line(line: &str) -> Option<(u64, &str)> {
    let (time, text) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, fraction) = time.trim().split_once('.')?;
    if fraction.len() != 6 {
        return None;
    }
    let time_us = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)?;
    Some((time_us, text.strip_prefix(' ').unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
      KERNEL: vmlinux
       PANIC: \"Kernel panic - not syncing: Fatal exception\"
    PID: 117
COMMAND: \"sh\"
   TASK: ffff8a1642858000  [THREAD_INFO: ffff8a1642858000]
    CPU: 0
  STATE: TASK_RUNNING (PANIC)
[    0.000000] Linux version 6.1
[    5.300332] one
                 two

";

    #[test]
    fn what_it_prints_is_read() {
        let facts = parse(TEXT);
        let said: Vec<_> = facts.said.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected =
            [("crashed cpu", "0"), ("crashed name", "sh"), ("crashed pid", "117"), ("panic", "Fatal exception")];
        assert_eq!(said, expected);
        let log: Vec<_> = facts.log.iter().map(|l| (l.time_us, l.text.as_str())).collect();
        assert_eq!(
            log,
            [
                (Some(0), "Linux version 6.1"),
                (Some(5_300_332), "one"),
                (Some(5_300_332), "  two"),
                (Some(5_300_332), "")
            ]
        );
    }

    #[test]
    fn without_a_panic_no_task_crashed() {
        let facts = parse(&TEXT.replace(" (PANIC)", " (ACTIVE)").replace("Kernel panic - not syncing", "Oops"));
        assert!(facts.said.is_empty(), "{facts:?}");
    }
}
