//! Kernels: what died, and whom to blame.
//!
//! What a source of a kernel must fill so that the rules here find it: `identity.origin` (`kernel-dump`, or `log` for a
//! log alone) and `identity.os`; the log, one row a record, without time stamps in the text; `event.message`, the panic
//! string; `event.thread`, the thread that panicked; threads whose `id` (or `process`) is the number that the log calls
//! the task by, with `cpu` for idle ones; modules by name. Registers and memory are not needed: a kernel has looked at
//! them itself before it died, and said so.

mod blame;
mod facts;
mod heap;
mod helpers;
mod linux;
mod prefix;
mod source;
mod text;
mod unix;
mod verdict;

use self::helpers::Excused;
use self::linux::CHANGED_BY_MEMORY;
use crate::fold::fold;
use crate::names::normalise;
use crate::verdict::Verdict;
use crate::view::frames_of;
use snapshot_format::Snapshot;
use snapshot_format::schema::{Finding, Trust};
pub use source::snapshot_of_log;

/// Whether the snapshot is of a kernel.
pub(crate) fn is_kernel(snapshot: &Snapshot) -> bool {
    matches!(snapshot.identity.origin.as_str(), "kernel-dump" | "log") || !snapshot.tasks.is_empty()
}

/// All verdicts: the cause first, then how it ended.
pub(crate) fn judge(snapshot: &Snapshot) -> Vec<Verdict> {
    let lines = text::lines(snapshot);
    let mut verdicts = match snapshot.identity.os.as_str() {
        "freebsd" | "illumos" => unix::judge(snapshot, &lines, true),
        _ => {
            let mut reports = linux::reports(&lines);
            complete(snapshot, &mut reports);
            linux::judge(snapshot, &reports)
        }
    };
    verdicts.extend(circles(snapshot));
    verdicts
}

/// Threads that wait for each other's locks, as the outline of a kernel found them in its memory (`kernel.deadlock`).
fn circles(snapshot: &Snapshot) -> impl Iterator<Item = Verdict> + '_ {
    facts::circles(snapshot).map(|(circle, text)| {
        let first = Verdict::about(circle.first().copied(), "deadlock", 0.9).text(text).severity("error");
        let of_circle = |lock: &facts::Lock<'_>| {
            lock.holder.is_some_and(|h| circle.contains(&h)) && lock.waiters.iter().any(|w| circle.contains(w))
        };
        facts::locks(snapshot).filter(of_circle).fold(first, |v, lock| v.because(lock.text))
    })
}

/// A panic string without a log says no more than its words.
fn complete(snapshot: &Snapshot, reports: &mut Vec<linux::Report>) {
    let message = snapshot.event.as_ref().and_then(|e| e.message.as_deref()).map(str::trim);
    let Some(message) = message.filter(|m| !m.is_empty()) else { return };
    if reports.is_empty() {
        reports.push(linux::Report::new(linux::Kind::Panic(message.to_owned()), message));
    }
}

/// The class that a kernel's log alone gives, where its memory may have changed it.
pub(crate) fn logged_class(snapshot: &Snapshot, class: &str) -> Option<String> {
    if !is_kernel(snapshot) {
        return None;
    }
    let lines = text::lines(snapshot);
    if matches!(snapshot.identity.os.as_str(), "freebsd" | "illumos") {
        return unix::judge(snapshot, &lines, false).first().map(|v| v.class().to_owned());
    }
    if class != CHANGED_BY_MEMORY {
        return None;
    }
    let mut reports = linux::reports(&lines);
    complete(snapshot, &mut reports);
    linux::logged_class(snapshot, &reports)
}

/// The names that the fingerprint is made of: from the log's own trace, so that a dump and its log give the same;
/// without one, from the frames. Empty when neither says anything.
pub(crate) fn names(snapshot: &Snapshot, findings: &[Finding]) -> Vec<String> {
    let logged =
        if matches!(snapshot.identity.os.as_str(), "freebsd" | "illumos") { Vec::new() } else { logged(snapshot) };
    let names = if logged.is_empty() { unwound(snapshot, findings) } else { logged };
    fold(names.iter().map(String::as_str)).into_iter().take(crate::FRAMES).map(str::to_owned).collect()
}

fn logged(snapshot: &Snapshot) -> Vec<String> {
    let lines = text::lines(snapshot);
    let reports = linux::reports(&lines);
    let Some((report, excused)) = linux::culprit_of(&reports) else { return Vec::new() };
    let names: Vec<String> = report.stack().iter().map(|s| normalise(&s.function)).collect();
    own(&names, excused)
}

fn unwound(snapshot: &Snapshot, findings: &[Finding]) -> Vec<String> {
    let finding = findings.first().and_then(|f| f.thread);
    let wanted = finding.or_else(|| snapshot.event.as_ref().and_then(|e| e.thread));
    let Some(thread) = snapshot.threads.iter().find(|t| wanted == Some(t.id)) else { return Vec::new() };
    let frames = frames_of(snapshot, thread.stack);
    let physical = frames.iter().filter(|f| !f.inline && f.trust != Trust::Scan && !f.suspect);
    let names: Vec<String> = physical.filter_map(|f| f.function.as_deref()).map(normalise).collect();
    own(&names, Excused::Helpers)
}

/// From the function to blame to the kernel's entry.
fn own(names: &[String], excused: Excused) -> Vec<String> {
    let blamed = |excused| helpers::blamed(names.iter().map(String::as_str), excused);
    let first = blamed(excused).or_else(|| blamed(Excused::Helpers)).unwrap_or(0);
    let own = names.get(first..).unwrap_or_default();
    own.iter().take_while(|n| !helpers::is_entry(n)).cloned().collect()
}
