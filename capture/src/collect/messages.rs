//! What a dying program said: messages that its C library keeps for the one who reads the core.

use debuginfo::DebugInfo;
use evidence::Memory;
use snapshot_format::Snapshot;

pub(crate) fn collect(memory: &dyn Memory, info: &DebugInfo<'_>, snapshot: &mut Snapshot) {
    let _ = (memory, info, snapshot);
}
