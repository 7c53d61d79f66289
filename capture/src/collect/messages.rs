//! What a dying program said: messages that its C library and its language's runtime keep.

use super::scene::Scene;
use super::{cxx_exception, rust_panic};
use debuginfo::DebugInfo;
use evidence::{Memory, bytes::Endian};
use snapshot_format::Snapshot;
use snapshot_format::schema::Attribute;

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

/// What the runtimes of C++ and Rust have to say about the faulting thread: `cxx.exception.type`, `cxx.exception.what`,
/// `rust.panic.location`, `rust.panic.text` among the attributes, and the panic as the event's message.
pub(super) fn of_runtimes(scene: &Scene<'_, '_>, snapshot: &mut Snapshot) {
    let thread = Some(scene.thread.thread.id.0);
    let mut attribute = |key: &str, value: Option<String>| {
        snapshot.attributes.extend(value.map(|value| Attribute { key: key.to_owned(), thread, value }));
    };
    if let Some(exception) = cxx_exception::find(scene) {
        attribute("cxx.exception.type", Some(exception.type_name));
        attribute("cxx.exception.what", exception.what);
    }
    let Some(panic) = rust_panic::find(scene) else { return };
    attribute("rust.panic.text", panic.text.clone());
    attribute("rust.panic.location", panic.location.clone());
    let Some(event) = snapshot.event.as_mut().filter(|e| e.message.is_none()) else { return };
    // As the standard library's own report has it.
    event.message = match (panic.location, panic.text) {
        (Some(location), Some(text)) => Some(format!("panicked at {location}:\n{text}")),
        (Some(location), None) => Some(format!("panicked at {location}")),
        (None, text) => text,
    };
}
