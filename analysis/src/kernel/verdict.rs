//! Findings about kernels: as for programs, with thread and frame chosen by the report.

use crate::verdict::Verdict;
use snapshot_format::Snapshot;

/// What a finding begins with.
pub(crate) struct Draft<'d> {
    pub(crate) class: &'d str,
    pub(crate) confidence: f64,
    pub(crate) severity: &'d str,
}

/// A finding about a frame of a thread; about the thread of the event when none is named.
pub(crate) fn draft(snapshot: &Snapshot, d: &Draft<'_>, thread: Option<u64>, frame: Option<usize>) -> Verdict {
    let event = snapshot.event.as_ref().and_then(|e| e.thread);
    Verdict::about(thread.or(event), d.class, d.confidence).severity(d.severity).frame(frame)
}
