//! lldb, by its own format strings, which make every frame one line of separated fields.
//!
//! What lldb does differently from the others (seen in 14.0): the frame that a function was inlined into gets as its pc
//! the start of the inlined range, not the pc of the inlined frame; and inlined functions whose names lie in a dwz
//! alternate file get the name of the function around them.

use super::{Input, Peer, PeerError, PeerFrame, PeerReport, PeerThread, Subject, tool};
use std::process::Command;

/// Separates fields; no name in any language holds it.
const SEPARATOR: &str = "~|~";
/// Begins the line of a frame.
const FRAME: &str = "@frame~|~";
/// Begins the line of a thread.
const THREAD: &str = "@thread~|~";
/// What lldb puts between a function's name and that of the one inlined into it.
const INLINED: &str = " [inlined] ";

fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

fn commands(input: &Input) -> Vec<String> {
    let thread = format!("{THREAD}${{thread.id%tid}}\\n");
    let frame = format!(
        "{FRAME}${{frame.pc}}{SEPARATOR}{{${{function.name}}}}{SEPARATOR}{{${{line.file.fullpath}}}}{SEPARATOR}{{${{line.number}}}}\\n"
    );
    let mut commands = vec![
        format!("settings set frame-format \"{frame}\""),
        format!("settings set thread-format \"{thread}\""),
        format!("settings set thread-stop-format \"{thread}\""),
        format!("settings set target.process.thread.max-backtrace-depth {}", input.frames),
        "settings set stop-disassembly-display never".into(),
        "settings set stop-line-count-before 0".into(),
        "settings set stop-line-count-after 0".into(),
    ];
    for folder in &input.symbols {
        commands.push(format!("settings append target.debug-file-search-paths {}", quoted(folder)));
    }
    if let Some(sysroot) = &input.sysroot {
        commands.push(format!("platform select --sysroot {} remote-linux", quoted(sysroot)));
    }
    let exe = input.exe.as_deref().map(quoted).unwrap_or_default();
    match &input.subject {
        Subject::Core(core) => {
            commands.push(format!("target create {exe} --core {}", quoted(core)));
            commands.push("thread backtrace all".into());
        }
        Subject::Pid(pid) => {
            if !exe.is_empty() {
                commands.push(format!("target create {exe}"));
            }
            commands.push(format!("process attach --pid {pid}"));
            commands.push("thread backtrace all".into());
            commands.push("process detach".into());
        }
    }
    commands
}

/// Runs lldb. Variables are not asked for.
///
/// # Errors
/// As [`Peer::backtraces`].
pub fn backtraces(input: &Input) -> Result<PeerReport, PeerError> {
    let scratch = tool::scratch()?;
    let version = tool::version(Peer::Lldb, scratch.path())?;
    let mut command = Command::new(tool::program(Peer::Lldb));
    command.args(["--batch", "--no-lldbinit", "--no-use-colors"]);
    for line in commands(input) {
        command.args(["--one-line", &line]);
    }
    let output = tool::run(Peer::Lldb, command, scratch.path(), None, input.time_limit)?;
    let mut threads = parse(&output.stdout);
    if threads.iter().all(|t| t.frames.is_empty()) {
        return Err(PeerError::Failed { peer: Peer::Lldb, why: output.summary() });
    }
    threads.sort_by_key(|t| t.id);
    let incomplete = (!output.status.success()).then(|| output.summary());
    Ok(PeerReport { peer: Peer::Lldb, version, threads, facts: super::facts::Facts::default(), incomplete })
}

/// Threads out of what lldb printed with our formats. A thread that is printed twice (once when it stopped, once in the
/// backtraces) counts once, with the later and longer list.
#[must_use]
pub fn parse(text: &str) -> Vec<PeerThread> {
    let mut threads: Vec<PeerThread> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches([' ', '*']);
        if let Some(rest) = line.strip_prefix(THREAD) {
            if let Ok(id) = rest.trim().parse() {
                threads.push(PeerThread { id, ..PeerThread::default() });
            }
        } else if let Some(rest) = line.strip_prefix(FRAME)
            && let (Some(thread), Some(frame)) = (threads.last_mut(), frame(rest))
        {
            thread.frames.push(frame);
        }
    }
    let mut once: Vec<PeerThread> = Vec::new();
    for thread in threads {
        match once.iter_mut().find(|t| t.id == thread.id) {
            Some(known) if known.frames.len() <= thread.frames.len() => *known = thread,
            Some(_) => {}
            None => once.push(thread),
        }
    }
    once
}

fn frame(line: &str) -> Option<PeerFrame> {
    let mut fields = line.split(SEPARATOR);
    let mut next = || fields.next().map(str::trim).filter(|f| !f.is_empty());
    let pc = u64::from_str_radix(next()?.strip_prefix("0x")?, 16).ok()?;
    let (name, file, number) = (next(), next(), next());
    let name = name.filter(|n| !n.starts_with("___lldb_unnamed_symbol"));
    let inline = name.is_some_and(|n| n.contains(INLINED));
    let function = name.map(|n| n.rsplit_once(INLINED).map_or(n, |(_, inner)| inner));
    // What lldb calls a function that no symbol names.
    let function = function.filter(|n| !n.starts_with("___lldb_unnamed_symbol"));
    Some(PeerFrame {
        pc,
        // `___lldb_unnamed_symbol7233` is lldb's way to say that there is no name.
        // lldb writes functions of the global namespace in C++ as `::name`.
        function: function.map(|f| f.strip_prefix("::").unwrap_or(f).to_string()),
        file: file.map(str::to_string),
        line: number.and_then(|n| n.parse().ok()).filter(|n| *n > 0),
        inline: inline.then_some(true),
        ..PeerFrame::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_threads_are_read() {
        let text = "\
(lldb) thread backtrace all
* @thread~|~29721
  * @frame~|~0x0000563baeb8831b~|~main~|~/a/threads.c~|~136
    @frame~|~0x00007fdc922e824a~|~outer(int) [inlined] inner<int>(int)~|~~|~
  @thread~|~29723
    @frame~|~0x00007fdc9234712b~|~~|~~|~
error: something else
";
        insta::assert_json_snapshot!(parse(text));
    }
}
