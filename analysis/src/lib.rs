//! What went wrong, concluded from a snapshot alone.
//!
//! Input: the rows of a [`Snapshot`]. Output: findings with evidence and counter-evidence, a fingerprint that is the
//! same for one bug on every machine, and groups of threads for a summary. Nothing here opens files or touches a
//! target, so classifiers run again on old snapshots and on any system; and nothing here guesses: a classifier that
//! lacks evidence says less, or says nothing.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod case;
mod classes;
mod fingerprint;
mod fold;
mod groups;
mod instruction;
mod kernel;
mod machinery;
pub mod names;
pub mod signals;
mod variables;
mod verdict;
mod view;
mod words;

pub use fingerprint::{FRAMES, fingerprint};
pub use groups::{LIMIT_GROUP_FRAMES, StackGroup, Wait, sentence, stack_groups};
pub use kernel::snapshot_of_log;

use snapshot_format::Snapshot;
use snapshot_format::schema::{Evidence, Finding};

/// Replaces the snapshot's findings, evidence and fingerprint by what its other rows say, and fills the names of the
/// event's signal and code, and its access, where they are absent.
///
/// The same rows always give the same conclusions, however often they are drawn.
pub fn analyse(snapshot: &mut Snapshot) {
    let verdicts = classify(snapshot);
    let access = access(snapshot);
    snapshot.findings.clear();
    snapshot.evidence.clear();
    for (row, (finding, grounds)) in (0_u32..).zip(verdicts) {
        snapshot.findings.push(finding);
        snapshot.evidence.extend(grounds.into_iter().map(|g| Evidence { finding: row, ..g }));
    }
    snapshot.fingerprint = fingerprint::of(snapshot, &snapshot.findings);
    let (os, arch) = (snapshot.identity.os.clone(), snapshot.identity.arch.clone());
    if let Some(event) = &mut snapshot.event {
        if event.signal_name.is_none() {
            event.signal_name = event.signal.and_then(|n| signals::signal_name(&os, n));
        }
        if event.code_name.is_none()
            && let (Some(signal), Some(code)) = (event.signal, event.code)
        {
            event.code_name = signals::code_name_on(&os, &arch, signal, code).map(str::to_owned);
        }
        if event.access.is_none() {
            event.access = access.map(str::to_owned);
        }
    }
}

/// The findings with their grounds, strongest first. The `finding` of each [`Evidence`] is the finding's own index.
#[must_use]
pub fn classify(snapshot: &Snapshot) -> Vec<(Finding, Vec<Evidence>)> {
    let verdicts =
        if kernel::is_kernel(snapshot) { kernel::judge(snapshot) } else { classes::judge(&case::Case::new(snapshot)) };
    let mut rows = Vec::new();
    for (row, verdict) in (0_u32..).zip(verdicts) {
        let (finding, grounds) = verdict.rows();
        rows.push((finding, grounds.into_iter().map(|g| Evidence { finding: row, ..g }).collect()));
    }
    rows
}

/// How the faulting instruction touched memory: `read`, `write` or `execute`; `None` when nothing tells, or when no
/// memory access failed.
#[must_use]
pub fn access(snapshot: &Snapshot) -> Option<&'static str> {
    if kernel::is_kernel(snapshot) {
        return None;
    }
    let case = case::Case::new(snapshot);
    // What a handler interrupted is not what the event reports.
    if case.view.interrupted {
        return None;
    }
    case.fault.map(|f| f.access).filter(|a| *a != instruction::Access::Unknown).map(instruction::Access::word)
}
