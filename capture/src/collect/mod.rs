//! Evidence a classifier will want, taken while the target is at hand: raw memory, abort messages, facts of the capture.
//!
//! A classifier that wants more gets a new collector here, never a handle to the target.

mod memory;
mod messages;

use crate::plan::Plan;
use crate::walk::Walked;
use debuginfo::DebugInfo;
use evidence::{Doubts, Memory, Target};
use snapshot_format::Snapshot;

pub(crate) fn collect(
    target: &dyn Target,
    walked: &[Walked<'_>],
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
    snapshot: &mut Snapshot,
    doubts: &Doubts,
) {
    messages::collect(memory, info, snapshot);
    memory::collect(target, walked, memory, plan, snapshot, doubts);
}
