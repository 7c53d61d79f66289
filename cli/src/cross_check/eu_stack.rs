//! eu-stack of elfutils: text with one line for each frame and, where it knows, one for its source.
//!
//! It does not mark inlined frames; they have the same pc as the frame after them. It finds lines by `.debug_aranges`,
//! which clang does not write by default, so that it loses them in such programs.

use super::{Input, Peer, PeerError, PeerFrame, PeerReport, PeerThread, Subject, tool};
use std::fmt::Write as _;
use std::process::Command;

/// Runs eu-stack. It has no variables and no sysroot.
///
/// # Errors
/// As [`Peer::backtraces`]; also for a core without the executable, which eu-stack needs.
pub fn backtraces(input: &Input) -> Result<PeerReport, PeerError> {
    let scratch = tool::scratch()?;
    let version = tool::version(Peer::EuStack, scratch.path())?;
    let mut command = Command::new("eu-stack");
    command.args(["--inlines", "--source", "--debugname", "-n", &input.frames.to_string()]);
    if !input.symbols.is_empty() {
        let mut path = String::new();
        for folder in &input.symbols {
            let _ = write!(path, "{}:", folder.display());
        }
        // As the default does: beside the executable, in its `.debug`, and in /usr/lib/debug, all with checksums.
        let _ = write!(path, "+:.debug:/usr/lib/debug");
        command.arg(format!("--debuginfo-path={path}"));
    }
    match &input.subject {
        Subject::Pid(pid) => {
            command.args(["-p", &pid.to_string()]);
        }
        Subject::Core(core) => {
            let Some(exe) = &input.exe else {
                let why = "it needs the executable of a core (--exe FILE)".to_string();
                return Err(PeerError::Failed { peer: Peer::EuStack, why });
            };
            command.arg("-e").arg(exe).arg("--core").arg(core);
        }
    }
    let output = tool::run(Peer::EuStack, command, scratch.path(), None, input.time_limit)?;
    let mut threads = parse(&output.stdout);
    if threads.iter().all(|t| t.frames.is_empty()) {
        return Err(PeerError::Failed { peer: Peer::EuStack, why: output.summary() });
    }
    attach_errors(&mut threads, &output.stderr);
    threads.sort_by_key(|t| t.id);
    let killed = output.status.code().is_none();
    Ok(PeerReport {
        peer: Peer::EuStack,
        version,
        threads,
        facts: super::facts::Facts::default(),
        incomplete: killed.then(|| output.summary()),
    })
}

/// Threads out of what eu-stack printed on stdout.
#[must_use]
pub fn parse(text: &str) -> Vec<PeerThread> {
    let mut threads: Vec<PeerThread> = Vec::new();
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("TID ").and_then(|r| r.strip_suffix(':')).and_then(|r| r.parse().ok()) {
            threads.push(PeerThread { id, ..PeerThread::default() });
            continue;
        }
        let Some(thread) = threads.last_mut() else { continue };
        if line.starts_with('#') {
            thread.frames.extend(frame(line));
        } else if let Some(place) = line.strip_prefix("    ")
            && let Some(frame) = thread.frames.last_mut()
        {
            (frame.file, frame.line) = source(place);
        }
    }
    threads
}

/// `#3  0x00007f931584e7ed - 1 name`; the ` - 1` says that the pc is a return address and is there with `-v` or `-a`.
fn frame(line: &str) -> Option<PeerFrame> {
    let rest = line.split_once("0x")?.1;
    let (pc, rest) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len()))?;
    let name = rest.strip_prefix(" - 1").unwrap_or(rest).trim();
    Some(PeerFrame {
        pc: u64::from_str_radix(pc, 16).ok()?,
        function: (!name.is_empty()).then(|| name.to_string()),
        ..PeerFrame::default()
    })
}

/// `/a/b.c:16:17` or `/a/b.c:16`.
fn source(place: &str) -> (Option<String>, Option<u32>) {
    let (mut file, mut line) = (place, None);
    for _ in 0..2 {
        let Some((head, number)) = file.rsplit_once(':') else { break };
        let Ok(number) = number.parse::<u32>() else { break };
        (file, line) = (head, Some(number));
    }
    (Some(file.to_string()), line)
}

/// Messages such as `eu-stack: dwfl_thread_getframes tid 12 at 0x..: no matching address range` belong to a thread.
fn attach_errors(threads: &mut [PeerThread], stderr: &str) {
    for message in stderr.lines() {
        let Some(rest) = message.split("tid ").nth(1) else { continue };
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let Ok(id) = digits.parse::<u64>() else { continue };
        if let Some(thread) = threads.iter_mut().find(|t| t.id == id) {
            thread.ended = Some(message.trim_start_matches("eu-stack: ").to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_threads_are_read() {
        let text = "\
PID 18875 - core
TID 18875:
#0  0x00007f931585ef9b     __pthread_kill_implementation.constprop.0
#1  0x00007f931584e80d - 1 outer::v2::Matrix<int, 4>::at(int) const
    /tmp/inlines.cc:14:11
#2  0x00007f931584e80d - 1
TID 18876:
#0  0x00007f931584e631 _start
    start.S:7
";
        let mut threads = parse(text);
        attach_errors(
            &mut threads,
            "eu-stack: dwfl_thread_getframes tid 18876 at 0x7f931584e631 in /x: no matching address range\n",
        );
        insta::assert_json_snapshot!(threads);
    }
}
