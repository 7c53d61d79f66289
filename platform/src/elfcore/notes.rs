//! The notes of a core: an index first, bodies on demand.
//!
//! Source: System V ABI, "Note Section". Cores of every system align names and bodies to four bytes, in 64-bit files
//! too, whatever `p_align` says.

use super::headers::{Headers, PT_NOTE};
use crate::input::Source;
use evidence::bytes::{Endian, u32_at};
use evidence::{Doubt, Doubts, ToU64, ToUsize};
use std::collections::HashSet;
use std::sync::Arc;

/// How many notes are looked at: eight for each of the 131,072 threads that are kept.
pub const LIMIT_NOTES: usize = 1 << 20;
/// The longest owner string: names in use have at most 11 characters.
const LIMIT_OWNER: u32 = 64;
/// The longest body that is read whole. The largest known is `NT_FILE`, which Linux limits to 16 MiB
/// (`kernel.core_file_note_size_max`).
pub const LIMIT_BODY: u64 = 64 << 20;
/// Bytes per read while the index is made.
const WINDOW: usize = 256 << 10;

/// Where a note is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteRef {
    /// The owner string, without its NUL.
    pub owner: Arc<str>,
    /// The type.
    pub kind: u32,
    /// Where the body starts in the file.
    pub at: u64,
    /// How many bytes it has.
    pub len: u64,
    /// Which of the note segments holds it, from 0.
    pub segment: usize,
}

impl NoteRef {
    /// The body, as far as the file and [`LIMIT_BODY`] go; a body that is cut is a doubt.
    #[must_use]
    pub fn body(&self, source: &Source, doubts: &Doubts) -> Vec<u8> {
        let body = source.bytes(self.at, self.len.min(LIMIT_BODY).to_usize());
        if body.len().to_u64() < self.len {
            doubts.push(Doubt::new(
                "note",
                format!(
                    "note {}/{:#x} at file offset {:#x} has {} bytes, of which {} can be read",
                    self.owner,
                    self.kind,
                    self.at,
                    self.len,
                    body.len()
                ),
            ));
        }
        body
    }

    /// The first bytes of the body.
    #[must_use]
    pub fn prefix(&self, source: &Source, limit: usize) -> Vec<u8> {
        source.bytes(self.at, self.len.min(limit.to_u64()).to_usize())
    }
}

/// Lists the notes of all note segments in the order of the file's program headers.
#[must_use]
pub fn index(source: &Source, headers: &Headers, doubts: &Doubts) -> Vec<NoteRef> {
    let mut walk = Walk { source, window: Vec::new(), window_at: 0, owners: HashSet::new(), found: Vec::new() };
    for (n, segment) in headers.segments.iter().filter(|s| s.kind == PT_NOTE).enumerate() {
        walk.segment(n, segment.offset, segment.filesz, headers.endian, doubts);
        if walk.found.len() >= LIMIT_NOTES {
            doubts
                .push(Doubt::new("note", format!("there are more than {LIMIT_NOTES} notes; the first ones are used")));
            break;
        }
    }
    walk.found
}

struct Walk<'s> {
    source: &'s Source,
    window: Vec<u8>,
    window_at: u64,
    owners: HashSet<Arc<str>>,
    found: Vec<NoteRef>,
}

impl Walk<'_> {
    /// The bytes at a file offset, fewer than `len` only where the file ends.
    fn bytes(&mut self, at: u64, len: usize) -> &[u8] {
        let inside = |w: &Self| {
            let from = at.checked_sub(w.window_at)?.to_usize();
            (from.checked_add(len)? <= w.window.len()).then_some(from)
        };
        if inside(self).is_none() {
            self.window = self.source.bytes(at, WINDOW.max(len));
            self.window_at = at;
        }
        let from = at.saturating_sub(self.window_at).to_usize();
        let end = from.saturating_add(len).min(self.window.len());
        self.window.get(from..end).unwrap_or_default()
    }

    fn owner(&mut self, at: u64, len: u32) -> Arc<str> {
        let raw = self.bytes(at, len.min(LIMIT_OWNER).to_usize());
        let name = raw.split(|b| *b == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(known) = self.owners.get(name.as_str()) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        // Hostile files may name each note differently: those strings are not shared.
        if self.owners.len() < 64 {
            self.owners.insert(Arc::clone(&new));
        }
        new
    }

    fn segment(&mut self, n: usize, offset: u64, size: u64, endian: Endian, doubts: &Doubts) {
        let end = offset.saturating_add(size);
        let there = end.min(self.source.len());
        let mut at = offset;
        while at.saturating_add(12) <= there && self.found.len() < LIMIT_NOTES {
            let head = self.bytes(at, 12);
            let word = |n| u32_at(head, n, endian);
            let (Some(namesz), Some(descsz), Some(kind)) = (word(0), word(4), word(8)) else { break };
            if (namesz, descsz, kind) == (0, 0, 0) {
                // Zeros where the file has a hole, or padding behind the last note.
                if end.saturating_sub(at) >= 64 {
                    let why = format!(
                        "the notes break off in zeros at file offset {at:#x}, {} bytes before their end",
                        end.saturating_sub(at)
                    );
                    doubts.push(Doubt::new("note", why));
                }
                return;
            }
            let name_at = at.saturating_add(12);
            let body_at = name_at.saturating_add(align(u64::from(namesz)));
            let next = body_at.saturating_add(align(u64::from(descsz)));
            // The last body may lack its padding.
            let body_end = body_at.saturating_add(u64::from(descsz));
            if namesz > LIMIT_OWNER || body_end > end {
                let why = format!(
                    "the note at file offset {at:#x} claims a name of {namesz} and a body of {descsz} bytes, and its \
                     segment ends at {end:#x}; it and what follows are not used"
                );
                doubts.push(Doubt::new("note", why));
                return;
            }
            if body_end > self.source.len() {
                break;
            }
            let owner = self.owner(name_at, namesz);
            self.found.push(NoteRef { owner, kind, at: body_at, len: u64::from(descsz), segment: n });
            at = next;
        }
        if there < end {
            doubts.push(Doubt::new(
                "note",
                format!(
                    "the notes at file offset {offset:#x} should go on to {end:#x}, the file ends at {:#x}: registers and \
                     facts after {at:#x} are lost",
                    self.source.len()
                ),
            ));
        }
    }
}

const fn align(len: u64) -> u64 {
    len.saturating_add(3) & !3
}
