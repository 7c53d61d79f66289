//! What the kernel's memory adds to what its log reports: the object behind a wild pointer, the lock a task waits for.

use super::report::{Kind, Report};
use crate::kernel::blame::Blame;
use crate::kernel::facts::{self, Object};
use crate::verdict::Verdict;
use snapshot_format::Snapshot;

/// The class that a finding may have for what the memory says, where the log alone gives another.
pub(crate) const CHANGED_BY_MEMORY: &str = facts::AFTER_FREE;

/// `lkf_holder (thread 119, sleeping)`.
fn who(snapshot: &Snapshot, id: u64) -> String {
    let task = snapshot.tasks.iter().find(|t| t.id == id);
    let state = task.and_then(|t| t.state.as_deref()).map_or_else(String::new, |state| format!(", {state}"));
    match task.and_then(|t| t.name.as_deref()) {
        Some(name) => format!("{name} (thread {id}{state})"),
        None => format!("thread {id}{state}"),
    }
}

/// The lock that a task waits for, for the sentence: `mutex 0x... (name), held by ...`.
fn lock(snapshot: &Snapshot, thread: u64) -> Option<String> {
    let lock = facts::locks(snapshot).find(|l| l.waiters.contains(&thread))?;
    let holder = match lock.holder {
        Some(id) if id == thread => "which it holds itself".to_owned(),
        Some(id) => format!("held by {}", who(snapshot, id)),
        None => "which no known thread holds".to_owned(),
    };
    Some(format!("{}, {holder}", lock.what))
}

/// What a task waits for, between what happened and where: `, waiting for mutex 0x..., held by ...,`.
pub(super) fn awaited(snapshot: &Snapshot, found: &Blame) -> String {
    let end = if found.function.is_some() { "," } else { "" };
    let lock = found.thread.and_then(|thread| lock(snapshot, thread));
    lock.map_or_else(String::new, |lock| format!(", waiting for {lock}{end}"))
}

/// The grounds that the kernel's memory has for a finding about a task that waits.
pub(super) fn waits(snapshot: &Snapshot, thread: Option<u64>, mut verdict: Verdict) -> Verdict {
    let Some(thread) = thread else { return verdict };
    for found in facts::locks(snapshot).filter(|l| l.waiters.contains(&thread)) {
        verdict = verdict.because(format!("memory: {}", found.text));
        if let Some(next) = found.holder.filter(|h| *h != thread) {
            verdict =
                verdict.because_if(lock(snapshot, next).map(|what| format!("memory: thread {next} waits for {what}")));
        }
    }
    for (circle, text) in facts::circles(snapshot) {
        if circle.contains(&thread) {
            verdict = verdict.because(format!("memory: {text}"));
        }
    }
    verdict
}

/// What RCU itself says that it waits for.
pub(super) fn stalls(snapshot: &Snapshot, mut verdict: Verdict) -> Verdict {
    for text in facts::stalls(snapshot) {
        verdict = verdict.because(format!("memory: {text}"));
    }
    verdict
}

/// A pointer that led nowhere came out of an object: freed memory was used, when the object is free.
pub(super) fn behind(
    snapshot: &Snapshot,
    cause: &Report,
    verdict: Verdict,
    make: &impl Fn(&'static str, f64, String) -> Verdict,
) -> Verdict {
    facts::after_free(&facts::objects(snapshot, cause), "cache", cause.ip, verdict, make)
}

/// The object that the allocator refused to free, when it is free: of several the one that most registers point to.
pub(super) fn freed<'o, 's>(objects: &'o [Object<'s>]) -> Option<&'o Object<'s>> {
    let starts = |o: &&Object<'_>| o.registers.iter().filter(|(_, inside)| *inside == 0).count();
    objects.iter().filter(|o| o.free == Some(true)).filter(|o| starts(o) > 0).max_by_key(starts)
}

/// Whether a kind of report is about a task that waits or does not get on.
pub(super) const fn is_wait(kind: &Kind) -> bool {
    matches!(kind, Kind::HungTask(_) | Kind::SoftLockup(_) | Kind::HardLockup(_) | Kind::RcuStall { .. })
}
