//! A page cache over any memory: what was read once is not read again, and outlives the release of a live target.

use crate::{Absent, Addr, Extent, Memory, Read, ToU64, ToUsize};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes per cached block: one x86 page.
const BLOCK: u64 = 4096;

/// How much memory the cache may hold before it stops keeping more. 1 GiB bounds a capture of ten thousand deep
/// stacks (64 KiB each) with room to spare; beyond it, reads go to the source each time.
const LIMIT_BLOCKS: usize = 262_144;

/// Blocks of a small cache: 8 MiB, the stacks that all workers are busy with at one time.
const LIMIT_SMALL: usize = 2048;

/// Blocks that are worth a thread of their own when many are fetched: 4 MiB, which take about a millisecond.
const SHARE: usize = 1024;

/// Most threads that fetch at once. What they read comes through one lock of the source's address space.
const LIMIT_SHARES: usize = 8;

/// What is known of one block: its readable prefix, and why it ends there if it does.
#[derive(Clone)]
struct Block {
    /// Blocks that were fetched together share their room.
    store: Arc<Vec<u8>>,
    range: Range<usize>,
    stop: Option<Absent>,
    /// The source makes no statement about any byte of it.
    bare: bool,
}

impl Block {
    fn new(bytes: Vec<u8>, stop: Option<Absent>) -> Self {
        Self { range: 0..bytes.len(), store: Arc::new(bytes), stop, bare: false }
    }

    fn bytes(&self) -> &[u8] {
        self.store.get(self.range.clone()).unwrap_or_default()
    }

    /// Copies what is there from `skip` on.
    fn copy(&self, skip: usize, into: &mut [u8]) -> Copied {
        let bytes = self.bytes();
        let available = bytes.get(skip..).unwrap_or_default();
        let n = available.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), available.get(..n)) {
            to.copy_from_slice(from);
        }
        Copied { bytes: n, whole: bytes.len() == BLOCK.to_usize(), stop: self.stop, bare: self.bare }
    }
}

/// What was copied out of a block, whether all of the block is there, and why not.
struct Copied {
    bytes: usize,
    whole: bool,
    stop: Option<Absent>,
    bare: bool,
}

/// Decorates a [`Memory`] with a cache of whole pages.
///
/// After [`Paged::release`] nothing is asked of the source any more: what is not cached reads as
/// [`Absent::Released`] (or as unmapped, where the extents know that).
pub struct Paged<'m> {
    inner: &'m dyn Memory,
    blocks: RwLock<HashMap<u64, Block>>,
    released: AtomicBool,
    /// Blocks that are kept; beyond them, either nothing more is, or all are given up for new ones.
    limit: usize,
    renewed: bool,
}

impl<'m> Paged<'m> {
    /// An empty cache over `inner`.
    #[must_use]
    pub fn new(inner: &'m dyn Memory) -> Self {
        Self {
            inner,
            blocks: RwLock::new(HashMap::new()),
            released: AtomicBool::new(false),
            limit: LIMIT_BLOCKS,
            renewed: false,
        }
    }

    /// A small cache over a memory that does not change and can be read again at any time: a file. Nothing is read
    /// ahead.
    #[must_use]
    pub fn small(inner: &'m dyn Memory) -> Self {
        Self { limit: LIMIT_SMALL, renewed: true, ..Self::new(inner) }
    }

    /// Reads all `ranges` into the cache in one batch.
    pub fn fetch(&self, ranges: &[Range<Addr>]) {
        if self.renewed {
            return;
        }
        let mut wanted: Vec<u64> = Vec::new();
        {
            let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
            for range in ranges {
                let mut block = align_down(range.start.0);
                while block < range.end.0 && wanted.len() < LIMIT_BLOCKS {
                    if !blocks.contains_key(&block) {
                        wanted.push(block);
                    }
                    match block.checked_add(BLOCK) {
                        Some(next) => block = next,
                        None => break,
                    }
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(LIMIT_SHARES);
        let shares = wanted.len().div_ceil(SHARE).clamp(1, threads);
        let share = wanted.len().div_ceil(shares).max(1);
        let fetched: Vec<Vec<(u64, Block)>> = if shares == 1 {
            vec![self.fetch_blocks(&wanted)]
        } else {
            std::thread::scope(|scope| {
                let shares: Vec<_> =
                    wanted.chunks(share).map(|blocks| scope.spawn(|| self.fetch_blocks(blocks))).collect();
                shares.into_iter().filter_map(|s| s.join().ok()).collect()
            })
        };
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let room = LIMIT_BLOCKS.saturating_sub(blocks.len());
        blocks.extend(fetched.into_iter().flatten().take(room));
    }

    /// Reads blocks into one room: copying each into its own would take as long as reading them.
    fn fetch_blocks(&self, wanted: &[u64]) -> Vec<(u64, Block)> {
        let mut store = vec![0_u8; wanted.len().saturating_mul(BLOCK.to_usize())];
        let mut batch: Vec<Read<'_>> = wanted
            .iter()
            .zip(store.chunks_mut(BLOCK.to_usize()))
            .map(|(at, into)| Read::new(Addr(*at), into))
            .collect();
        self.inner.read_batch(&mut batch);
        let got: Vec<(u64, usize, Option<Absent>)> = batch.iter().map(|r| (r.at.0, r.got, r.stop)).collect();
        let store = Arc::new(store);
        let starts = (0_usize..).step_by(BLOCK.to_usize());
        got.into_iter()
            .zip(starts)
            .map(|((at, got, stop), start)| {
                let range = start..start.saturating_add(got.min(BLOCK.to_usize()));
                (at, Block { store: Arc::clone(&store), range, stop, bare: false })
            })
            .collect()
    }

    /// From now on the source is not touched.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    /// Copies bytes of the block at `start` from `skip` on.
    fn copy(&self, start: u64, skip: usize, into: &mut [u8]) -> Copied {
        if let Some(block) = self.blocks.read().unwrap_or_else(PoisonError::into_inner).get(&start) {
            return block.copy(skip, into);
        }
        self.new_block(start).copy(skip, into)
    }

    fn new_block(&self, start: u64) -> Block {
        if self.released.load(Ordering::Acquire) {
            return Block::new(Vec::new(), Some(self.absent_after_release(Addr(start))));
        }
        let mut buffer = vec![0; BLOCK.to_usize()];
        let (got, stop) = self.inner.read(Addr(start), &mut buffer);
        buffer.truncate(got);
        let mut block = Block::new(buffer, stop);
        block.bare = got == 0 && stop == Some(Absent::Unmapped) && self.is_bare(start);
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        if self.renewed && blocks.len() >= self.limit {
            blocks.clear();
        }
        if blocks.len() < self.limit {
            blocks.insert(start, block.clone());
        }
        block
    }

    /// Whether the source has extents, and none of them has a byte of the block.
    fn is_bare(&self, start: u64) -> bool {
        let extents = self.inner.extents();
        let next = extents.get(extents.partition_point(|e| e.range.end.0 <= start));
        !extents.is_empty() && next.is_none_or(|e| e.range.start.0 >= start.saturating_add(BLOCK))
    }

    fn absent_after_release(&self, at: Addr) -> Absent {
        let extents = self.inner.extents();
        let index = extents.partition_point(|e| e.range.end <= at);
        match extents.get(index) {
            Some(e) if e.range.contains(&at) => e.absent.unwrap_or(Absent::Released),
            _ if extents.is_empty() => Absent::Released,
            _ => Absent::Unmapped,
        }
    }
}

const fn align_down(at: u64) -> u64 {
    at & !(BLOCK.wrapping_sub(1))
}

impl Memory for Paged<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let start = align_down(here.0);
            let skip = here.0.wrapping_sub(start).to_usize();
            let Some(rest) = into.get_mut(done..) else { break };
            let Copied { bytes: n, whole, stop, bare } = self.copy(start, skip, rest);
            done = done.saturating_add(n);
            if bare && done < into.len() {
                return (done, stop);
            }
            if done < into.len() && !whole {
                // The cached prefix ends inside the block. What lies behind (a hole, or a segment that starts in the
                // middle of a page) is asked for directly.
                if self.released.load(Ordering::Acquire) {
                    return (done, Some(stop.unwrap_or(Absent::Corrupt)));
                }
                let Some(rest) = into.get_mut(done..) else { break };
                let (got, stop) = self.inner.read(here.wrapping_add(n.to_u64()), rest);
                return (done.saturating_add(got), stop);
            }
        }
        (done, None)
    }

    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        if self.released.load(Ordering::Acquire) { None } else { self.inner.view(range) }
    }

    fn extents(&self) -> &[Extent] {
        self.inner.extents()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMemory;

    #[test]
    fn reads_across_blocks_and_after_release() {
        let data: Vec<u8> = (0..12_288_u32).map(|n| n.to_le_bytes()[0]).collect();
        let memory = FakeMemory::new().with(Addr(0x10_0000), data.clone());
        let paged = Paged::new(&memory);
        let mut buffer = vec![0; 9000];
        assert_eq!(paged.read(Addr(0x10_0200), &mut buffer), (9000, None));
        assert_eq!(buffer[..], data[0x200..0x200 + 9000]);
        paged.release();
        assert_eq!(paged.read(Addr(0x10_0200), &mut buffer), (9000, None));
        let mut one = [0; 1];
        assert_eq!(paged.read(Addr(0x50_0000), &mut one), (0, Some(Absent::Unmapped)));
    }

    #[test]
    fn the_end_of_the_data_has_its_reason() {
        let memory = FakeMemory::new().with(Addr(0x1000), vec![7; 100]);
        let paged = Paged::new(&memory);
        let mut buffer = [0; 200];
        assert_eq!(paged.read(Addr(0x1000), &mut buffer), (100, Some(Absent::Unmapped)));
        assert_eq!(paged.read(Addr(0x1064), &mut buffer), (0, Some(Absent::Unmapped)));
    }

    #[test]
    fn nothing_unfetched_is_read_after_release() {
        let memory = FakeMemory::new().with(Addr(0x1000), vec![7; 0x3000]);
        let paged = Paged::new(&memory);
        paged.fetch(&[Addr(0x1000)..Addr(0x1001)]);
        paged.release();
        let mut buffer = [0; 0x2000];
        assert_eq!(paged.read(Addr(0x1000), &mut buffer), (0x1000, Some(Absent::Released)));
    }
}
