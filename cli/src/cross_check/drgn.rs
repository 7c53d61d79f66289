//! drgn, by a script that it runs: tasks, frames and facts of a Linux kernel as data.

use super::facts::Facts;
use super::tool::{self, Output};
use super::{Input, Peer, PeerError, PeerFrame, PeerReport, PeerThread, Subject};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Command;

const SCRIPT: &str = include_str!("drgn.py");
/// Threads of idle tasks of all CPUs but the first are numbered from here, in our reports as well.
const FURTHER_IDLE: u64 = 1 << 32;
/// Most files of modules handed over: a distribution's kernel has some 4,000 modules.
const LIMIT_FILES: usize = 8192;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Thread { id: u64 },
    Frame { pc: u64, function: Option<String>, file: Option<String>, line: Option<u32>, inline: bool },
    End { why: String },
    Fact { name: String, value: String },
    Log { time: u64, text: String },
    Failed { what: String, why: String },
    Done,
}

/// Runs drgn on a kernel's dump.
///
/// # Errors
/// As [`Peer::backtraces`]; also for a process, whose threads drgn cannot unwind while it runs.
pub fn backtraces(input: &Input) -> Result<PeerReport, PeerError> {
    let Subject::Core(dump) = &input.subject else {
        return Err(PeerError::Failed { peer: Peer::Drgn, why: "it is asked about dumps of kernels only".to_owned() });
    };
    let scratch = tool::scratch()?;
    let version = tool::version(Peer::Drgn, scratch.path())?;
    let script = scratch.path().join("tasks.py");
    let answer = scratch.path().join("answer");
    tool::io("cannot write the script for drgn", std::fs::write(&script, SCRIPT))?;
    let mut command = Command::new("drgn");
    command.arg("-q").arg("-c").arg(dump);
    for file in input.kernel.iter().cloned().chain(modules(&input.symbols)) {
        command.arg("-s").arg(file);
    }
    command.arg(&script).env("POSTFAULT_PEER_OUT", &answer);
    command.env("POSTFAULT_PEER_FRAMES", input.frames.to_string());
    command.env("POSTFAULT_PEER_IDLE", FURTHER_IDLE.to_string());
    let output = tool::run(Peer::Drgn, command, scratch.path(), None, input.time_limit)?;
    let text = if answer.exists() { tool::read(&answer)? } else { String::new() };
    read_answer(&text, version, &output)
}

/// Files of modules in the folders of debug files; drgn ignores those that do not fit.
fn modules(folders: &[PathBuf]) -> Vec<PathBuf> {
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let is_module = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".ko") || name.ends_with(".ko.debug")
    };
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(is_module).take(LIMIT_FILES).collect();
    files.sort();
    files
}

fn read_answer(text: &str, version: String, output: &Output) -> Result<PeerReport, PeerError> {
    let (mut report, done) = parse(text);
    if report.threads.is_empty() {
        return Err(PeerError::Failed { peer: Peer::Drgn, why: output.summary() });
    }
    report.version = version;
    report.incomplete = (!done).then(|| output.summary());
    Ok(report)
}

/// Threads and facts out of the lines that the script wrote, and whether it came to its end.
#[must_use]
pub fn parse(text: &str) -> (PeerReport, bool) {
    let mut threads: Vec<PeerThread> = Vec::new();
    let mut facts = Facts::default();
    let mut done = false;
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Line>(line) else { break };
        match line {
            Line::Thread { id } => threads.push(PeerThread { id, ..PeerThread::default() }),
            Line::Frame { pc, function, file, line, inline } => {
                let frame = PeerFrame { pc, function, file, line, inline: Some(inline), ..PeerFrame::default() };
                if let Some(thread) = threads.last_mut() {
                    thread.frames.push(frame);
                }
            }
            Line::End { why } => {
                if let Some(thread) = threads.last_mut() {
                    thread.ended = Some(why);
                }
            }
            Line::Fact { name, value } => {
                facts.said.insert(name, value);
            }
            Line::Log { time, text } => facts.record(Some(time / 1000), &text),
            Line::Failed { what, why } => facts.failed.push(format!("{what}: {why}")),
            Line::Done => done = true,
        }
    }
    // The kernel's own prefix (kernel/panic.c). Without a panic drgn gives the first line of an oops, which the log has.
    if let Some(message) =
        facts.said.remove("panic").as_deref().and_then(|m| m.strip_prefix("Kernel panic - not syncing: "))
    {
        facts.said.insert("panic".to_owned(), message.to_owned());
    }
    (PeerReport { peer: Peer::Drgn, version: String::new(), threads, facts, incomplete: None }, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_script_are_read() {
        let text = concat!(
            "{\"kind\": \"thread\", \"id\": 117}\n",
            "{\"kind\": \"frame\", \"pc\": 18446744072099575715, \"inline\": true, \"function\": \"get\", \"file\": \"a.h\", \"line\": 80}\n",
            "{\"kind\": \"frame\", \"pc\": 18446744072099575715, \"inline\": false, \"function\": null}\n",
            "{\"kind\": \"end\", \"why\": \"no symbol\"}\n",
            "{\"kind\": \"fact\", \"name\": \"panic\", \"value\": \"Kernel panic - not syncing: Fatal exception\"}\n",
            "{\"kind\": \"log\", \"time\": 5300332556, \"text\": \"one\"}\n",
            "{\"kind\": \"failed\", \"what\": \"modules\", \"why\": \"fault\"}\n",
            "{\"kind\": \"done\"}\n",
        );
        let (report, done) = parse(text);
        assert!(done);
        let thread = report.threads.first().expect("a thread");
        assert_eq!((thread.id, thread.ended.as_deref()), (117, Some("no symbol")));
        let frames: Vec<_> = thread.frames.iter().map(|f| (f.function.as_deref(), f.line, f.inline)).collect();
        assert_eq!(frames, [(Some("get"), Some(80), Some(true)), (None, None, Some(false))]);
        assert_eq!(report.facts.said.get("panic").map(String::as_str), Some("Fatal exception"));
        assert_eq!(report.facts.log.first().and_then(|l| l.time_us), Some(5_300_332));
        assert_eq!(report.facts.failed, ["modules: fault"]);
        // A line that was cut off ends the reading.
        let (report, done) = parse(text.get(..120).expect("long enough"));
        assert_eq!((report.threads.len(), done), (1, false));
    }
}
