//! What a dying program said: messages that its C library keeps for the one who reads the core.

use debuginfo::DebugInfo;
use evidence::{Memory, bytes::Endian};
use snapshot_format::Snapshot;

/// Longest message kept. glibc allocates what it needs; a page is more than any assertion text seen.
const LIMIT_MESSAGE: usize = 4096;

/// glibc's `struct abort_msg_s` (`include/stdlib.h`): an `unsigned int size`, then the text.
const ABORT_MESSAGE_TEXT: u64 = 4;

/// Sets the event's message from glibc's `__abort_msg`, which `assert`, the heap checks and fortified functions fill.
pub(crate) fn collect(memory: &dyn Memory, info: &DebugInfo<'_>, snapshot: &mut Snapshot) {
    let Some(event) = snapshot.event.as_mut().filter(|e| e.message.is_none()) else { return };
    for (index, module) in info.modules().list().iter().enumerate() {
        if !module.path.contains("libc") && index != 0 {
            continue;
        }
        let Some(symbol) = info.symbols(index).and_then(|s| s.by_name("__abort_msg")) else { continue };
        let Ok(pointer) = memory.read_u64(module.to_addr(symbol.start), Endian::Little) else { continue };
        if pointer == 0 {
            continue;
        }
        let at = evidence::Addr(pointer).wrapping_add(ABORT_MESSAGE_TEXT);
        if let Ok(text) = memory.read_c_string(at, LIMIT_MESSAGE) {
            let text = text.trim_end().to_owned();
            if !text.is_empty() {
                event.message = Some(text);
                return;
            }
        }
    }
}
