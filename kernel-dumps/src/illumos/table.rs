//! Tables that stay in the file: pages of them are kept in a bounded cache.

use crate::source::ReadAt;
use evidence::bytes::{Endian, slice_at, u64_at};
use evidence::{ToU64, ToUsize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes fetched at a time.
const PIECE: u64 = 16 << 10;
/// Pieces kept: 8 MiB hold the upper levels of every binary search, and what was looked up last.
const LIMIT_PIECES: usize = 512;

/// A cache over a source.
pub(super) struct Cached {
    source: Arc<dyn ReadAt>,
    pieces: Mutex<HashMap<u64, Arc<[u8]>>>,
}

impl Cached {
    pub(super) fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, pieces: Mutex::new(HashMap::new()) }
    }

    fn piece(&self, number: u64) -> Arc<[u8]> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = pieces.get(&number) {
            return piece.clone();
        }
        let at = number.saturating_mul(PIECE);
        let there = self.source.size().saturating_sub(at).min(PIECE).to_usize();
        let mut bytes = vec![0; there];
        let got = self.source.read_at(at, &mut bytes).unwrap_or(0);
        bytes.truncate(got);
        if pieces.len() >= LIMIT_PIECES {
            pieces.clear();
        }
        let piece: Arc<[u8]> = Arc::from(bytes);
        pieces.insert(number, piece.clone());
        piece
    }

    /// The little-endian number of 8 bytes at `at`.
    pub(super) fn u64(&self, at: u64) -> Option<u64> {
        let mut raw = [0; 8];
        self.fill(at, &mut raw).then(|| u64::from_le_bytes(raw))
    }

    /// Fills all of `into` from `at`, or says no.
    pub(super) fn fill(&self, at: u64, into: &mut [u8]) -> bool {
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return false };
            let piece = self.piece(here.checked_div(PIECE).unwrap_or(0));
            let skip = here.checked_rem(PIECE).unwrap_or(0).to_usize();
            let n = piece.len().saturating_sub(skip).min(into.len().saturating_sub(done));
            let (Some(from), Some(to)) = (slice_at(&piece, skip, n), into.get_mut(done..done.saturating_add(n))) else {
                return false;
            };
            if n == 0 {
                return false;
            }
            to.copy_from_slice(from);
            done = done.saturating_add(n);
        }
        true
    }
}

/// The table of page frame numbers: ascending, one per dumped page.
pub(super) struct Pfns {
    table: Arc<Cached>,
    at: u64,
    count: u64,
    /// A sorted copy with the indices, where the table itself is not in order.
    repaired: Option<Vec<(u64, u64)>>,
}

/// Tables up to this length (4 GiB of pages) are checked for order; a longer one is believed.
const LIMIT_CHECKED: u64 = 1 << 20;

impl Pfns {
    /// The table of `count` numbers at `at`, and whether it is in order.
    pub(super) fn new(table: Arc<Cached>, at: u64, count: u64) -> (Self, bool) {
        let mut pfns = Self { table, at, count, repaired: None };
        let ordered = pfns.ordered();
        if !ordered {
            let mut all: Vec<(u64, u64)> = (0..count).filter_map(|i| Some((pfns.get(i)?, i))).collect();
            all.sort_unstable();
            pfns.repaired = Some(all);
        }
        (pfns, ordered)
    }

    fn ordered(&self) -> bool {
        let mut before = None;
        for index in 0..if self.count <= LIMIT_CHECKED { self.count } else { 0 } {
            let Some(pfn) = self.get(index) else { return true };
            if before.is_some_and(|b| b > pfn) {
                return false;
            }
            before = Some(pfn);
        }
        true
    }

    /// How many pages the dump has.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The page frame number of the page of this index.
    pub(super) fn get(&self, index: u64) -> Option<u64> {
        if index >= self.count {
            return None;
        }
        self.table.u64(self.at.checked_add(index.checked_mul(8)?)?)
    }

    /// The index of a page frame number.
    pub(super) fn find(&self, pfn: u64) -> Option<u64> {
        if let Some(all) = &self.repaired {
            let at = all.partition_point(|(p, _)| *p < pfn);
            return all.get(at).filter(|(p, _)| *p == pfn).map(|(_, index)| *index);
        }
        let (mut low, mut high) = (0_u64, self.count);
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) >> 1);
            match self.get(middle) {
                Some(found) if found == pfn => return Some(middle),
                Some(found) if found < pfn => low = middle.saturating_add(1),
                // A cut table ends where nothing is read.
                Some(_) | None => high = middle,
            }
        }
        None
    }
}

/// A translation as the raw map has it (`mem_vtop_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub space: u64,
    pub at: u64,
    pub pfn: u64,
}

impl Translation {
    /// Bytes in the file.
    pub(super) const SIZE: u64 = 24;

    pub(super) fn parse(raw: &[u8]) -> Option<Self> {
        let field = |at| u64_at(raw, at, Endian::Little);
        Some(Self { space: field(0)?, at: field(8)?, pfn: field(16)? })
    }
}
