//! Facts about the process: `NT_PRPSINFO`, and which event ended it.

use super::super::headers::Header;
use super::super::notes::RawNote;
use evidence::bytes;
use evidence::{Event, Identity, Thread};

const NT_PRPSINFO: u32 = 3;
const SIGSTOP: i32 = 19;
const SIGTRAP: i32 = 5;

/// Fills in what `struct elf_prpsinfo` says (`include/linux/elfcore.h`): 136 bytes with 64-bit longs, 124 with 32-bit
/// longs and 16-bit user numbers, 128 with 32-bit ones.
pub(super) fn identify(notes: &[RawNote], header: &Header, identity: &mut Identity) {
    let Some(note) = notes.iter().find(|n| n.kind == NT_PRPSINFO && &*n.owner == "CORE") else { return };
    let (pid, parent, name, arguments) = match (header.address_size, note.body.len()) {
        (8, _) => (24, 28, 40, 56),
        (_, 128) => (16, 20, 32, 48),
        _ => (12, 16, 28, 44),
    };
    let number = |at| bytes::u32_at(&note.body, at, header.endian).map(u64::from);
    identity.pid = number(pid);
    identity.parent_pid = number(parent);
    identity.command = text(&note.body, name, 16);
    // The kernel cuts the command line at 80 bytes; what is shown is what was recorded.
    identity.arguments = text(&note.body, arguments, 80);
}

fn text(body: &[u8], at: usize, most: usize) -> Option<Box<str>> {
    let field = bytes::slice_at(body, at, most)?;
    let text = bytes::c_str_at(field, 0)?;
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.into())
}

/// The signal that ended the process.
///
/// The kernel writes the thread that got it first. gdb's `gcore` writes the selected thread first; there the "signal" is
/// how gdb stopped the program (SIGSTOP, SIGTRAP, or none), which is no event of the program's own.
pub(super) fn event(threads: &[Thread]) -> Option<Event> {
    let first = threads.first()?;
    let signal = first.signal?;
    let stopped_by_debugger =
        matches!(signal.number, SIGSTOP | SIGTRAP) && signal.code.is_none_or(|c| c <= 0 || signal.number == SIGSTOP);
    if stopped_by_debugger {
        return None;
    }
    Some(Event { thread: Some(first.id), signal: Some(signal), ..Event::default() })
}
