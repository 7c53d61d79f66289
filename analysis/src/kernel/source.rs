//! A kernel's log as a snapshot of its own: a serial console, `dmesg`, a pasted oops.

use super::linux::{self, TraceLine};
use super::prefix::without_prefix;
use super::text::after;
use snapshot_format::Snapshot;
use snapshot_format::schema::{Event, Frame, LogRecord, Module, Stack, Thread, Trust};

/// Lines kept of a log file.
const LIMIT_LINES: usize = 200_000;

/// The snapshot of a log. Its only thread is the one that the log blames, with the frames that the log prints: their
/// addresses are not known, `pc` is 0, and `identity.origin` is `log` to say so.
#[must_use]
pub fn snapshot_of_log(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let skip = text.lines().count().saturating_sub(LIMIT_LINES);
    for line in text.lines().skip(skip) {
        let (time_ns, level, said) = without_prefix(line);
        snapshot.log.push(LogRecord {
            time_ns,
            level: level.map(|l| LEVELS.get(usize::from(l)).copied().unwrap_or("debug").to_owned()),
            text: said.to_owned(),
        });
    }
    "log".clone_into(&mut snapshot.identity.origin);
    system(text).clone_into(&mut snapshot.identity.os);
    snapshot.identity.arch = arch(text).to_owned();
    let lines = super::text::lines(&snapshot);
    let release = release(&lines);
    let reports = linux::reports(&lines);
    snapshot.identity.release = release;
    if let Some((report, _)) = linux::culprit_of(&reports) {
        let report = report.clone();
        fill(&mut snapshot, &report);
    }
    snapshot
}

/// syslog's severities.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

fn system(text: &str) -> &'static str {
    if text.contains("KDB: stack backtrace") || text.contains("\nFatal trap ") || text.contains("FreeBSD ") {
        "freebsd"
    } else if text.contains("panic[cpu") || text.contains("BAD TRAP: type=") {
        "illumos"
    } else {
        "linux"
    }
}

fn arch(text: &str) -> &'static str {
    if text.contains("RIP: 0") || text.contains("RAX: ") {
        "x86_64"
    } else if text.contains("pstate: ") && text.contains("x29: ") {
        "aarch64"
    } else {
        "other"
    }
}

/// `6.1.0-56-amd64` of `CPU: 0 PID: 117 Comm: sh Not tainted 6.1.0-56-amd64 #1`, or of the banner.
fn release(lines: &[&str]) -> Option<String> {
    let banner = lines.iter().find_map(|l| after(l, "Linux version ")).and_then(|t| t.split_whitespace().next());
    let who = || {
        let line = lines.iter().find(|l| l.contains("Comm: ") && l.contains("ainted"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| w.starts_with('#'))?;
        words.get(at.checked_sub(1)?).copied()
    };
    banner.or_else(who).map(str::to_owned)
}

fn fill(snapshot: &mut Snapshot, report: &linux::Report) {
    let id = report.pid.unwrap_or(0);
    let mut rows: Vec<TraceLine> = report.trace.clone();
    if let Some(place) = &report.place {
        let known = rows.iter().any(|l| l.interrupted && l.symbol == *place);
        if known {
            let at = rows.iter().position(|l| l.interrupted).unwrap_or(0);
            rows.drain(..at);
        } else {
            rows.insert(0, TraceLine { symbol: place.clone(), sure: true, interrupted: true });
        }
    }
    let mut frames = Vec::new();
    for (index, line) in rows.iter().enumerate() {
        let module = line.symbol.module.as_deref().unwrap_or("vmlinux");
        let trust = match (line.sure, index) {
            (false, _) => Trust::Scan,
            (true, 0) if line.interrupted => Trust::Context,
            // x86-64 kernels unwind by ORC, AArch64 ones by frame pointer.
            (true, _) if snapshot.identity.arch == "x86_64" => Trust::Orc,
            (true, _) => Trust::FramePointer,
        };
        frames.push(Frame {
            function: Some(line.symbol.function.as_str().into()),
            offset: Some(line.symbol.offset),
            module: module_row(snapshot, module),
            trust,
            suspect: !line.sure,
            ..Frame::default()
        });
    }
    let count = u32::try_from(frames.len()).unwrap_or(0);
    snapshot.frames = frames;
    snapshot.stacks = vec![Stack { first: 0, count }];
    snapshot.threads = vec![Thread {
        id,
        process: report.pid,
        name: report.comm.clone(),
        faulting: true,
        context: "task".to_owned(),
        cpu: report.cpu,
        stack: Some(0),
        ..Thread::default()
    }];
    snapshot.identity.pid = report.pid;
    snapshot.identity.command.clone_from(&report.comm);
    snapshot.event = Some(Event { thread: Some(id), message: Some(report.title.clone()), ..Event::default() });
}

/// The row of a module, which is made when it is new.
fn module_row(snapshot: &mut Snapshot, name: &str) -> Option<u32> {
    let row = snapshot.modules.iter().position(|m| m.path == name).unwrap_or_else(|| {
        snapshot.modules.push(Module { path: name.to_owned(), symbols: "none".to_owned(), ..Module::default() });
        snapshot.modules.len().saturating_sub(1)
    });
    u32::try_from(row).ok()
}
