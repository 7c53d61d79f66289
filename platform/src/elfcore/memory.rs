//! The memory of a core: pieces of address space, each with bytes in the file or with the reason it has none.

use super::headers::{Headers, PT_LOAD, Segment};
use crate::input::Source;
use evidence::{Absent, Addr, Doubt, Doubts, Extent, Memory, Protection, ToU64, ToUsize};
use std::ops::Range;

/// What a core says about addresses that none of its segments covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// The writer lists every mapping: they were not mapped.
    Unmapped,
    /// The writer leaves some mappings out without a trace; addresses that no program can have are still unmapped.
    Unlisted,
    /// Program headers are missing: nothing can be said.
    Truncated,
}

/// What a segment covers, sorted and disjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) protection: Protection,
}

/// The memory of a core. It is read from the file each time (`pread`): the page cache of the operating system is the
/// cache, and [`Memory::view`] lends nothing, because a file that is shortened under a map kills its reader.
#[derive(Debug)]
pub struct CoreMemory {
    source: Source,
    extents: Vec<Extent>,
    /// Where the bytes of the extent with the same index start in the file.
    offsets: Vec<u64>,
    outside: Outside,
    /// Pages that the system itself reported as not mapped (`SEGV_MAPERR`).
    unmapped_page: Option<u64>,
    /// The first address that user programs cannot have.
    ceiling: u64,
}

/// Sums over the segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) filtered: u64,
    pub(super) cut: u64,
    /// The segments' bytes should go on to here.
    pub(super) promised: u64,
}

/// User programs have no page below this address: `vm.mmap_min_addr` is 65,536 on distributions, and a core whose
/// mappings go lower lists them.
const LOWEST: u64 = 65_536;

impl CoreMemory {
    /// Builds the memory. `absent_flags` are `p_flags` bits by which a system marks segments whose bytes failed.
    pub(super) fn new(
        source: &Source,
        headers: &Headers,
        absent_flags: u32,
        doubts: &Doubts,
    ) -> (Self, Vec<Covered>, Sums) {
        let mut loads: Vec<Segment> =
            headers.segments.iter().filter(|s| s.kind == PT_LOAD && s.memsz > 0).copied().collect();
        // Stable: of two segments at one address the first in the file counts.
        loads.sort_by_key(|s| s.vaddr);
        let top = if headers.wide { u64::MAX } else { 1 << 32 };
        let mut build = Build { extents: Vec::with_capacity(loads.len()), offsets: Vec::new(), sums: Sums::default() };
        let mut covered: Vec<Covered> = Vec::with_capacity(loads.len());
        let mut last_end = 0_u64;
        let mut odd = Odd::default();
        for s in &loads {
            let end = s.vaddr.saturating_add(s.memsz).min(top);
            if s.vaddr.checked_add(s.memsz).is_none_or(|e| e > top) {
                odd.past_end.get_or_insert(*s);
            }
            let start = s.vaddr.max(last_end);
            if start > s.vaddr {
                odd.overlapping = odd.overlapping.saturating_add(1);
                odd.overlap.get_or_insert(*s);
            }
            if start >= end {
                continue;
            }
            last_end = end;
            covered.push(Covered { start, end, protection: protection(s.flags) });
            build.segment(s, start, end, source.len(), s.flags & absent_flags != 0);
        }
        odd.say(doubts);
        let memory = Self {
            source: source.clone(),
            extents: build.extents,
            offsets: build.offsets,
            outside: if headers.cut { Outside::Truncated } else { Outside::Unmapped },
            unmapped_page: None,
            ceiling: if headers.wide { 1 << 56 } else { 1 << 32 },
        };
        (memory, covered, build.sums)
    }

    /// Says what addresses outside of all segments are, unless missing program headers already decide it.
    pub(super) fn set_outside(&mut self, outside: Outside) {
        if self.outside != Outside::Truncated {
            self.outside = outside;
        }
    }

    /// Records that the system reported `at` as not mapped.
    pub(super) fn set_unmapped(&mut self, at: Addr) {
        self.unmapped_page = Some(at.0 & !0xfff);
    }

    /// Adds ranges that were mapped and have no segment: their bytes were left out. Returns how many bytes that is.
    pub(super) fn add_filtered(&mut self, ranges: &[Range<Addr>]) -> u64 {
        let mut wanted: Vec<Range<Addr>> = ranges.to_vec();
        wanted.sort_by_key(|r| (r.start, r.end));
        let mut sum = 0_u64;
        let mut end = Addr(0);
        let mut added: Vec<Extent> = Vec::new();
        for range in wanted {
            // Ranges of hostile files may overlap each other: each address is looked at once.
            for gap in gaps(&self.extents, &(range.start.max(end)..range.end)) {
                sum = sum.saturating_add(gap.end.0.saturating_sub(gap.start.0));
                added.push(Extent { range: gap, absent: Some(Absent::Filtered) });
            }
            end = end.max(range.end);
        }
        let old = std::mem::take(&mut self.extents).into_iter().zip(std::mem::take(&mut self.offsets));
        let mut all: Vec<(Extent, u64)> = old.chain(added.into_iter().map(|e| (e, 0))).collect();
        all.sort_by_key(|(e, _)| e.range.start);
        (self.extents, self.offsets) = all.into_iter().unzip();
        sum
    }

    fn outside(&self, at: Addr) -> Absent {
        let impossible = at.0 < LOWEST || at.0 >= self.ceiling || self.unmapped_page == Some(at.0 & !0xfff);
        match self.outside {
            Outside::Unmapped => Absent::Unmapped,
            _ if impossible => Absent::Unmapped,
            Outside::Unlisted => Absent::Filtered,
            Outside::Truncated => Absent::Truncated,
        }
    }
}

/// Segments that make no sense as they are; hostile files have a million of them, so the first of each kind is named.
#[derive(Default)]
struct Odd {
    past_end: Option<Segment>,
    overlap: Option<Segment>,
    overlapping: u64,
}

impl Odd {
    fn say(&self, doubts: &Doubts) {
        if let Some(s) = self.past_end {
            doubts.push(Doubt::at(
                "segment",
                Addr(s.vaddr),
                format!("a segment of {:#x} bytes goes past the end of the address space; it ends there", s.memsz),
            ));
        }
        if let Some(s) = self.overlap {
            doubts.push(Doubt::at(
                "segment",
                Addr(s.vaddr),
                format!(
                    "{} segments lie over the one before them, this one first; where they overlap the lower one counts",
                    self.overlapping
                ),
            ));
        }
    }
}

struct Build {
    extents: Vec<Extent>,
    offsets: Vec<u64>,
    sums: Sums,
}

impl Build {
    fn segment(&mut self, s: &Segment, start: u64, end: u64, file_len: u64, failed: bool) {
        let into = start.saturating_sub(s.vaddr);
        let filesz = if failed { 0 } else { s.filesz };
        let written_end = s.vaddr.saturating_add(filesz).clamp(start, end);
        let there = file_len.saturating_sub(s.offset).min(filesz);
        let there_end = s.vaddr.saturating_add(there).clamp(start, written_end);
        if filesz > 0 {
            self.sums.promised = self.sums.promised.max(s.offset.saturating_add(filesz));
        }
        let offset = s.offset.saturating_add(into);
        self.push(start..there_end, None, offset);
        self.push(there_end..written_end, Some(Absent::Truncated), 0);
        self.push(written_end..end, Some(if failed { Absent::Denied } else { Absent::Filtered }), 0);
        self.sums.cut = self.sums.cut.saturating_add(written_end.saturating_sub(there_end));
        self.sums.filtered = self.sums.filtered.saturating_add(end.saturating_sub(written_end));
    }

    fn push(&mut self, range: Range<u64>, absent: Option<Absent>, offset: u64) {
        if range.start < range.end {
            self.extents.push(Extent { range: Addr(range.start)..Addr(range.end), absent });
            self.offsets.push(offset);
        }
    }
}

/// The parts of `range` that no extent covers.
fn gaps(extents: &[Extent], range: &Range<Addr>) -> Vec<Range<Addr>> {
    let mut out = Vec::new();
    let mut at = range.start;
    let first = extents.partition_point(|e| e.range.end <= at);
    for e in extents.get(first..).unwrap_or_default() {
        if e.range.start >= range.end {
            break;
        }
        if at < e.range.start {
            out.push(at..e.range.start);
        }
        at = at.max(e.range.end);
    }
    if at < range.end {
        out.push(at..range.end);
    }
    out
}

const fn protection(flags: u32) -> Protection {
    Protection { read: flags & 4 != 0, write: flags & 2 != 0, execute: flags & 1 != 0 }
}

impl Memory for CoreMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        let mut index = self.extents.partition_point(|e| e.range.end <= at);
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let (extent, offset) = match (self.extents.get(index), self.offsets.get(index)) {
                (Some(e), Some(o)) if e.range.start <= here => (e, *o),
                _ => return (done, Some(self.outside(here))),
            };
            if let Some(why) = extent.absent {
                return (done, Some(why));
            }
            let into_extent = here.offset_from(extent.range.start).unwrap_or(0);
            let left = extent.range.end.offset_from(here).unwrap_or(0);
            let want = rest.len().min(left.to_usize());
            let part = rest.get_mut(..want).unwrap_or_default();
            let got = self.source.read(offset.saturating_add(into_extent), part);
            done = done.saturating_add(got);
            if got < want {
                // The file has become shorter since it was opened, or its disk is bad here.
                return (done, Some(Absent::Truncated));
            }
            index = index.saturating_add(1);
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}
