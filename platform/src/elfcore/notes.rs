//! The notes of a core, split but not interpreted.

use super::headers::Header;
use crate::input::Input;
use evidence::bytes::{slice_at, u32_at};
use evidence::{Doubt, Gaps, ToU64, ToUsize};
use std::sync::Arc;

/// Largest note segment read. A thread takes some 4 KiB (with AVX-512), so this serves 100,000 threads; NT_FILE of
/// 60,000 mappings takes 8 MiB.
const LIMIT_NOTE_BYTES: u64 = 1 << 30;
/// Most notes read: a handful per thread.
const LIMIT_NOTES: usize = 1 << 22;

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawNote {
    /// Owner, up to the first NUL.
    pub owner: Box<str>,
    /// Type.
    pub kind: u32,
    /// Contents.
    pub body: Arc<[u8]>,
}

/// Reads all note segments.
pub(super) fn read(input: &Input, header: &Header, gaps: &mut Gaps) -> Vec<RawNote> {
    let mut notes = Vec::new();
    for segment in &header.note_segments {
        let there = input.size().saturating_sub(segment.offset);
        let size = segment.size.min(LIMIT_NOTE_BYTES).min(there);
        if size < segment.size {
            gaps.truncated_at = gaps.truncated_at.or(Some(input.size()));
            gaps.doubts.push(Doubt::new(
                "note",
                format!("notes at offset {:#x} should have {} bytes; {size} were read", segment.offset, segment.size),
            ));
        }
        let bytes = input.exact(segment.offset, size.to_usize()).unwrap_or_default();
        split(&bytes, header, segment.offset, &mut notes, gaps);
    }
    notes
}

/// Splits the bytes of one segment. Linux pads to 4 bytes whatever `p_align` says (fs/binfmt_elf.c, `writenote`).
fn split(bytes: &[u8], header: &Header, offset: u64, notes: &mut Vec<RawNote>, gaps: &mut Gaps) {
    let mut at = 0_usize;
    while at < bytes.len() {
        if notes.len() >= LIMIT_NOTES {
            gaps.doubts.push(Doubt::new("note", format!("more than {LIMIT_NOTES} notes; the rest was not read")));
            return;
        }
        let field = |n: usize| u32_at(bytes, at.saturating_add(n), header.endian);
        let (Some(name_size), Some(size), Some(kind)) = (field(0), field(4), field(8)) else { return };
        let name_at = at.saturating_add(12);
        let body_at = name_at.saturating_add(padded(name_size));
        let (Some(name), Some(body)) =
            (slice_at(bytes, name_at, name_size.to_usize()), slice_at(bytes, body_at, size.to_usize()))
        else {
            let here = offset.saturating_add(at.to_u64());
            gaps.doubts.push(Doubt::new(
                "note",
                format!("the note at offset {here:#x} claims {size} bytes, more than its segment has: notes from there on are lost"),
            ));
            return;
        };
        let owner = name.split(|b| *b == 0).next().unwrap_or_default();
        notes.push(RawNote { owner: String::from_utf8_lossy(owner).into(), kind, body: body.into() });
        at = body_at.saturating_add(padded(size));
    }
}

fn padded(size: u32) -> usize {
    size.to_usize().saturating_add(3) & !3
}
