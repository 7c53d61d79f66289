//! Open handles: `MINIDUMP_HANDLE_DATA_STREAM`. Writers on Linux put file descriptors into it.

use super::HANDLE_DATA;
use super::reader::Reader;
use evidence::OpenFile;
use evidence::bytes::{u32_at, u64_at};

/// Handles that are kept: Windows allows a process 16 million, no honest one has a hundredth.
const LIMIT_HANDLES: usize = 65_536;

/// All handles. A header (16 bytes) with the sizes of header and entry, then entries of two versions.
pub(super) fn read(reader: &Reader<'_>) -> Vec<OpenFile> {
    let Some(stream) = reader.first(HANDLE_DATA, 16) else { return Vec::new() };
    let entries = reader.sized_list("handles", &stream, false, 32);
    if entries.len() > LIMIT_HANDLES {
        reader.doubt(format!("more than {LIMIT_HANDLES} handles: the rest is left out"));
    }
    let one = |entry: &&[u8]| {
        let text = |at| {
            let rva = u32_at(entry, at, reader.endian)?;
            reader.utf16(rva.into()).filter(|t| !t.is_empty())
        };
        // Handle, type name, object name, attributes, granted access, counts.
        let target = match (text(8), text(12)) {
            (Some(kind), Some(name)) => format!("{kind} {name}"),
            (Some(kind), None) => kind,
            (None, Some(name)) => name,
            (None, None) => String::new(),
        };
        Some(OpenFile {
            descriptor: u64_at(entry, 0, reader.endian)?,
            target: target.into(),
            flags: u32_at(entry, 20, reader.endian).map(u64::from),
            position: None,
        })
    };
    entries.iter().take(LIMIT_HANDLES).filter_map(one).collect()
}
