//! gdb, by its embedded Python, which gives frames and values as data; by its machine interface when it has no Python.

use super::tool::{self, Output};
use super::trees::PeerValue;
use super::{Input, Peer, PeerError, PeerFrame, PeerReport, PeerThread, PeerVariable, Subject, gdb_mi};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("gdb.py");

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Thread {
        id: u64,
    },
    Frame {
        pc: u64,
        function: Option<String>,
        file: Option<String>,
        line: Option<u32>,
        #[serde(default)]
        inline: bool,
        #[serde(default)]
        signal: bool,
        #[serde(default)]
        tail_call: bool,
        #[serde(default)]
        variables: Vec<Variable>,
        #[serde(default)]
        stale: BTreeMap<String, String>,
    },
    End {
        why: String,
    },
    Done,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    argument: bool,
    value: Option<String>,
    absent: Option<String>,
    /// The abstract function's, of which there is an instance in another block.
    #[serde(default, rename = "abstract")]
    is_abstract: bool,
    line: Option<u64>,
    tree: Option<PeerValue>,
}

/// The `debug-file-directory` setting that makes gdb search our folders first.
fn debug_directories(input: &Input) -> String {
    let mut list = String::new();
    for folder in &input.symbols {
        let _ = write!(list, "{}:", folder.display());
    }
    list.push_str("/usr/lib/debug");
    list
}

/// gdb with everything that both ways of asking share. `-nx`: no start-up files of the user's.
pub(super) fn command(input: &Input) -> Command {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-q"]);
    for setting in [
        "set debuginfod enabled off".to_string(),
        "set pagination off".into(),
        "set confirm off".into(),
        "set width 0".into(),
        "set backtrace past-main on".into(),
        "set backtrace limit unlimited".into(),
        "set print frame-arguments none".into(),
        format!("set debug-file-directory {}", debug_directories(input)),
    ] {
        command.args(["-iex", &setting]);
    }
    if let Some(sysroot) = &input.sysroot {
        command.args(["-iex", &format!("set sysroot {}", sysroot.display())]);
    }
    command
}

/// Adds what gdb is to look at.
pub(super) fn subject(command: &mut Command, input: &Input) {
    if let Some(exe) = &input.exe {
        command.arg(exe);
    }
    match &input.subject {
        Subject::Pid(pid) => command.args(["-p", &pid.to_string()]),
        Subject::Core(core) => command.arg("-c").arg(core),
    };
}

/// Runs gdb.
///
/// # Errors
/// As [`Peer::backtraces`].
pub fn backtraces(input: &Input) -> Result<PeerReport, PeerError> {
    let scratch = tool::scratch()?;
    let version = tool::version(Peer::Gdb, scratch.path())?;
    let script: PathBuf = scratch.path().join("frames.py");
    let answer = scratch.path().join("answer");
    tool::io("cannot write the script for gdb", std::fs::write(&script, SCRIPT))?;
    let mut command = command(input);
    command.arg("-batch").env("POSTFAULT_PEER_OUT", &answer);
    command.env("POSTFAULT_PEER_VARIABLES", if input.variables { "1" } else { "0" });
    command.env("POSTFAULT_PEER_FRAMES", input.frames.to_string());
    if let Some(folder) = input.variables.then(rust_printers).flatten() {
        command.env("POSTFAULT_PEER_RUST", folder);
    }
    subject(&mut command, input);
    command.arg("-x").arg(&script);
    let output = tool::run(Peer::Gdb, command, scratch.path(), None, input.time_limit)?;
    if !answer.exists() && without_python(&output) {
        return gdb_mi::backtraces(input, version, scratch.path());
    }
    read_answer(&answer, version, &output)
}

/// The pretty-printers that come with an installed Rust compiler, which rust-gdb loads, too.
fn rust_printers() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok().filter(|o| o.status.success())?;
    let folder = Path::new(String::from_utf8(output.stdout).ok()?.trim_end()).join("lib/rustlib/etc");
    folder.is_dir().then_some(folder)
}

/// "Python scripting is not supported in this copy of GDB." is what a gdb without it says (gdb/python/python.c).
fn without_python(output: &Output) -> bool {
    output.stderr.contains("Python scripting is not supported")
        || output.stderr.contains("Undefined command: \"import\"")
}

fn read_answer(answer: &Path, version: String, output: &Output) -> Result<PeerReport, PeerError> {
    let text = if answer.exists() { tool::read(answer)? } else { String::new() };
    let (threads, done) = parse(&text);
    if threads.is_empty() {
        return Err(PeerError::Failed { peer: Peer::Gdb, why: output.summary() });
    }
    let incomplete = (!done).then(|| output.summary());
    Ok(PeerReport { peer: Peer::Gdb, version, threads, facts: super::facts::Facts::default(), incomplete })
}

/// Threads out of the lines that the script wrote, and whether it came to its end.
///
/// Lines that are no JSON of ours (gdb died while it wrote one) end the reading.
#[must_use]
pub fn parse(text: &str) -> (Vec<PeerThread>, bool) {
    let mut threads: Vec<PeerThread> = Vec::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Line>(line) else { return (mark_tail_calls(threads), false) };
        match line {
            Line::Thread { id } => threads.push(PeerThread { id, ..PeerThread::default() }),
            Line::Frame { pc, function, file, line, inline, signal, tail_call, variables, stale } => {
                let Some(thread) = threads.last_mut() else { continue };
                let variables = variables.into_iter().map(|v| PeerVariable {
                    name: v.name,
                    value: v.value,
                    absent: v.absent,
                    is_abstract: v.is_abstract,
                    argument: v.argument,
                    // gdb has 0 for variables without one.
                    line: v.line.filter(|l| *l > 0),
                    tree: v.tree,
                });
                // gdb gives signal trampolines a frame and no name when they have no symbol.
                let function = function.or_else(|| signal.then(|| "<signal handler called>".to_string()));
                thread.frames.push(PeerFrame {
                    pc,
                    function,
                    file,
                    line,
                    inline: Some(inline),
                    offset: None,
                    tail_call,
                    variables: variables.collect(),
                    stale: stale.into_iter().filter_map(|(name, n)| Some((name, n.parse().ok()?))).collect(),
                });
            }
            Line::End { why } => {
                if let Some(thread) = threads.last_mut() {
                    thread.ended = Some(why);
                }
            }
            Line::Done => return (mark_tail_calls(threads), true),
        }
    }
    (mark_tail_calls(threads), false)
}

/// What is inlined into a function that left the stack by a tail call is not on the stack either.
fn mark_tail_calls(mut threads: Vec<PeerThread>) -> Vec<PeerThread> {
    for thread in &mut threads {
        let mut gone = None;
        for frame in thread.frames.iter_mut().rev() {
            if frame.inline == Some(true) && gone == Some(frame.pc) {
                frame.tail_call = true;
            }
            gone = frame.tail_call.then_some(frame.pc);
        }
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_threads_until_gdb_dies() {
        let text = concat!(
            r#"{"id": 7, "kind": "thread"}"#,
            "\n",
            r#"{"pc": 16, "function": "f<int>(a)", "inline": true, "signal": false, "file": "/a.cc", "line": 3, "variables": [{"name": "x", "argument": true, "value": "1"}, {"name": "y", "argument": false, "absent": "<optimized out>"}], "kind": "frame"}"#,
            "\n",
            r#"{"pc": 16, "function": null, "inline": false, "signal": true, "kind": "frame"}"#,
            "\n",
            r#"{"why": "previous frame inner to this frame (corrupt stack?)", "kind": "end"}"#,
            "\n",
            r#"{"pc": 1"#,
        );
        let (threads, done) = parse(text);
        assert!(!done);
        insta::assert_json_snapshot!(threads);
    }
}
