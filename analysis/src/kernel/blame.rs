//! Which function, in which module, of which task.

use super::helpers::{Excused, blamed};
use super::linux::Report;
use crate::view::{basename, frames_of};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Frame, Thread, Trust};

/// The function to blame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame {
    /// The thread of the snapshot that is the task.
    pub(crate) thread: Option<u64>,
    /// The function's frame in it.
    pub(crate) frame: Option<usize>,
    /// The function.
    pub(crate) function: Option<String>,
    /// Its module, when it is not the kernel itself.
    pub(crate) module: Option<String>,
}

impl Blame {
    /// ` in lkf_level3() [lkfault]`, or nothing.
    pub(crate) fn sentence(&self) -> String {
        match (&self.function, &self.module) {
            (Some(function), Some(module)) => format!(" in {function}() [{module}]"),
            (Some(function), None) => format!(" in {function}()"),
            _ => String::new(),
        }
    }
}

/// The thread of a task: by its number, or, for an idle task, by its CPU.
fn thread_of(snapshot: &Snapshot, pid: Option<u64>, cpu: Option<u64>) -> Option<&Thread> {
    match pid {
        Some(0) => snapshot.threads.iter().find(|t| t.process == Some(0) && t.cpu == cpu && cpu.is_some()),
        Some(pid) => snapshot
            .threads
            .iter()
            .find(|t| t.id == pid && t.context == "task")
            .or_else(|| snapshot.threads.iter().find(|t| t.id == pid)),
        None => None,
    }
}

/// Whom a report's stack blames.
pub(crate) fn blame(snapshot: &Snapshot, report: &Report, excused: Excused) -> Blame {
    let stack = report.stack();
    let at = blamed(stack.iter().map(|s| s.function.as_str()), excused);
    let symbol = at.and_then(|at| stack.get(at));
    let event = snapshot.event.as_ref().and_then(|e| e.thread);
    let thread = thread_of(snapshot, report.pid, report.cpu)
        .or_else(|| snapshot.threads.iter().find(|t| report.pid.is_none() && event == Some(t.id)));
    let mut found = Blame {
        thread: thread.map(|t| t.id),
        frame: None,
        function: symbol.map(|s| crate::names::normalise(&s.function)),
        module: symbol.and_then(|s| s.module.clone()),
    };
    let frames = thread.map_or(&[][..], |t| frames_of(snapshot, t.stack));
    match &found.function {
        Some(wanted) => {
            let is_it = |f: &Frame| f.function.as_deref().is_some_and(|n| crate::names::normalise(n) == *wanted);
            found.frame = frames.iter().position(is_it);
        }
        // A trace that blames nobody is an answer, too.
        None if !stack.is_empty() => {}
        None => by_frames(snapshot, frames, excused, &mut found),
    }
    found
}

/// Without a trace in the log: the frames themselves, as they were unwound.
pub(crate) fn by_frames(snapshot: &Snapshot, frames: &[Frame], excused: Excused, found: &mut Blame) {
    let sure: Vec<(usize, &Frame)> =
        frames.iter().enumerate().filter(|(_, f)| f.trust != Trust::Scan && !f.suspect).collect();
    let names = sure.iter().map(|(_, f)| f.function.as_deref().unwrap_or("?"));
    let Some((index, frame)) = blamed(names, excused).and_then(|at| sure.get(at)) else { return };
    if frame.function.is_none() {
        return;
    }
    found.frame = Some(*index);
    found.function = frame.function.as_deref().map(crate::names::normalise);
    let module = frame.module.and_then(|m| usize::try_from(m).ok()).and_then(|m| snapshot.modules.get(m));
    let name = module.map(|m| basename(&m.path).to_owned());
    found.module = name.filter(|n| !matches!(n.as_str(), "vmlinux" | "kernel" | "unix" | "genunix"));
}
