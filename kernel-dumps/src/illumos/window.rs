//! Small reads that mostly go forward, out of one buffer.

use crate::source::ReadAt;
use evidence::bytes::{Endian, slice_at, u32_at};
use evidence::{ToU64, ToUsize};

/// Bytes fetched when the next read lies elsewhere; more when reads follow one another.
const SMALL: usize = 4 << 10;
const LARGE: usize = 64 << 10;

/// A buffer over a source.
pub(super) struct Window<'s> {
    source: &'s dyn ReadAt,
    start: u64,
    bytes: Vec<u8>,
}

impl<'s> Window<'s> {
    pub(super) const fn new(source: &'s dyn ReadAt) -> Self {
        Self { source, start: 0, bytes: Vec::new() }
    }

    /// `length` bytes (at most 64 KiB) at `at`.
    pub(super) fn bytes(&mut self, at: u64, length: usize) -> Option<&[u8]> {
        let inside = |start: u64, have: usize| {
            let skip = at.checked_sub(start)?.to_usize();
            (skip.checked_add(length)? <= have).then_some(skip)
        };
        let skip = match inside(self.start, self.bytes.len()) {
            Some(skip) => skip,
            None => {
                let end = self.start.saturating_add(self.bytes.len().to_u64());
                let forward = at >= self.start && at <= end;
                self.fill(at, if forward { LARGE } else { SMALL }.max(length));
                inside(self.start, self.bytes.len())?
            }
        };
        slice_at(&self.bytes, skip, length)
    }

    /// The little-endian word at `at`.
    pub(super) fn word(&mut self, at: u64) -> Option<u32> {
        u32_at(self.bytes(at, 4)?, 0, Endian::Little)
    }

    fn fill(&mut self, at: u64, most: usize) {
        let there = self.source.size().saturating_sub(at).min(most.to_u64()).to_usize();
        self.start = at;
        self.bytes.resize(there, 0);
        let got = self.source.read_at(at, &mut self.bytes).unwrap_or(0);
        self.bytes.truncate(got);
    }
}
