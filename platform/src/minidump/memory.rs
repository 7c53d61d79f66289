//! The memory of a minidump: `MemoryListStream` and `Memory64ListStream` united, and the threads' stacks.

use super::reader::{LIMIT_STREAM, Location, Reader, Stream};
use super::{MEMORY_64_LIST, MEMORY_LIST};
use crate::input::Source;
use evidence::bytes::u64_at;
use evidence::{Absent, Addr, Doubt, Doubts, Extent, Mapping, Memory, ToU64, ToUsize};

/// User programs have no page below this address on any of the systems that write minidumps.
const LOWEST: u64 = 65_536;

/// A piece of memory in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) offset: u64,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Store {
    File(Source),
    Bytes(Box<[u8]>),
}

impl Store {
    fn len(&self) -> u64 {
        match self {
            Self::File(source) => source.len(),
            Self::Bytes(bytes) => bytes.len().to_u64(),
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        match self {
            Self::File(source) => source.read(offset, into),
            Self::Bytes(bytes) => {
                let from = bytes.get(offset.to_usize()..).unwrap_or_default();
                let n = from.len().min(into.len());
                if let (Some(to), Some(from)) = (into.get_mut(..n), from.get(..n)) {
                    to.copy_from_slice(from);
                }
                n
            }
        }
    }
}

/// The memory of a minidump, read from the file each time.
#[derive(Debug)]
pub struct DumpMemory {
    store: Store,
    extents: Vec<Extent>,
    /// Where the bytes of the extent with the same index start in the file.
    offsets: Vec<u64>,
    /// The file lists every mapping: an address in none of them was not mapped.
    complete: bool,
    /// The first address that user programs cannot have.
    ceiling: u64,
    /// Bytes that should be in the file and are not.
    pub(super) cut: u64,
    /// Bytes that were mapped and are not in the file.
    pub(super) filtered: u64,
}

/// All pieces that the lists name.
pub(super) fn pieces(reader: &Reader<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for Stream { location, .. } in reader.streams.iter().filter(|s| s.kind == MEMORY_64_LIST) {
        wide(reader, *location, &mut pieces);
    }
    for Stream { location, .. } in reader.streams.iter().filter(|s| s.kind == MEMORY_LIST) {
        let stream = reader.bytes(*location);
        for entry in reader.list("memory ranges", &stream, location.size, 16) {
            if let (Some(start), Some(place)) = (u64_at(entry, 0, reader.endian), Location::at(entry, 8, reader.endian))
            {
                pieces.push(Piece { start, size: place.size.into(), offset: place.rva.into() });
            }
        }
    }
    pieces
}

/// `MINIDUMP_MEMORY64_LIST`: the ranges' bytes follow each other from one place on.
fn wide(reader: &Reader<'_>, location: Location, pieces: &mut Vec<Piece>) {
    let stream = reader.bytes(location);
    let (Some(count), Some(mut offset)) = (u64_at(&stream, 0, reader.endian), u64_at(&stream, 8, reader.endian)) else {
        return;
    };
    let entries = stream.get(16..).unwrap_or_default().chunks_exact(16).take(count.to_usize());
    let there = entries.len().to_u64();
    for entry in entries {
        let (Some(start), Some(size)) = (u64_at(entry, 0, reader.endian), u64_at(entry, 8, reader.endian)) else {
            continue;
        };
        pieces.push(Piece { start, size, offset });
        offset = offset.saturating_add(size);
    }
    if there < count {
        reader.doubt(format!(
            "the list of 64-bit memory ranges promises {count} entries and holds {there} (at most {LIMIT_STREAM} bytes are read)"
        ));
    }
}

impl DumpMemory {
    /// Unites `pieces`: of overlapping ones, the first in the list counts. `mappings`, when the file has them, say what
    /// was there and left out.
    pub(super) fn new(store: Store, pieces: &[Piece], mappings: &[Mapping], wide: bool, doubts: &Doubts) -> Self {
        let length = store.len();
        let top = if wide { u64::MAX } else { 1 << 32 };
        let mut memory = Self {
            store,
            extents: Vec::with_capacity(pieces.len()),
            offsets: Vec::with_capacity(pieces.len()),
            complete: !mappings.is_empty(),
            ceiling: if wide { 1 << 56 } else { 1 << 32 },
            cut: 0,
            filtered: 0,
        };
        // By address; at one address the longest, so that a short copy does not hide it.
        let mut sorted: Vec<&Piece> = pieces.iter().filter(|p| p.size > 0).collect();
        sorted.sort_by_key(|p| (p.start, std::cmp::Reverse(p.size)));
        let (mut end, mut odd) = (0_u64, 0_usize);
        let mut parts: Vec<(u64, u64, Option<Absent>, u64)> = Vec::with_capacity(sorted.len());
        for piece in sorted {
            let stop = piece.start.saturating_add(piece.size).min(top);
            odd = odd.saturating_add(usize::from(piece.start.checked_add(piece.size).is_none_or(|e| e > top)));
            let start = piece.start.max(end);
            if start >= stop {
                continue;
            }
            let offset = piece.offset.saturating_add(start.saturating_sub(piece.start));
            let there = length.saturating_sub(offset);
            let there_end = start.saturating_add(there).min(stop);
            if start < there_end {
                parts.push((start, there_end, None, offset));
            }
            if there_end < stop {
                memory.cut = memory.cut.saturating_add(stop.saturating_sub(there_end));
                parts.push((there_end, stop, Some(Absent::Truncated), 0));
            }
            end = stop;
        }
        if odd > 0 {
            let why = format!("{odd} memory ranges go past the end of the address space; they end there");
            doubts.push(Doubt::new("minidump", why));
        }
        memory.fill(&parts, mappings);
        memory
    }

    /// The parts, and between them what was mapped and left out.
    fn fill(&mut self, parts: &[(u64, u64, Option<Absent>, u64)], mappings: &[Mapping]) {
        let mut parts = parts.iter().copied().peekable();
        let mut at = 0_u64;
        for mapping in mappings {
            let (start, end) = (mapping.range.start.0, mapping.range.end.0);
            at = at.max(start);
            while at < end {
                while let Some(part) = parts.next_if(|p| p.0 <= at) {
                    self.push(part);
                    at = at.max(part.1);
                }
                let next = parts.peek().map_or(end, |p| p.0.min(end));
                if at < next {
                    self.filtered = self.filtered.saturating_add(next.saturating_sub(at));
                    self.push((at, next, Some(Absent::Filtered), 0));
                    at = next;
                }
            }
        }
        for part in parts {
            self.push(part);
        }
    }

    fn push(&mut self, (start, end, absent, offset): (u64, u64, Option<Absent>, u64)) {
        self.extents.push(Extent { range: Addr(start)..Addr(end), absent });
        self.offsets.push(offset);
    }

    /// Says that the file is cut off, where memory is missing for that.
    pub(super) fn say_cut(&self, reader: &Reader<'_>) {
        if self.cut > 0 {
            let why = format!(
                "the minidump ends at file offset {:#x}: {:#x} bytes of memory are cut off",
                reader.source.len(),
                self.cut
            );
            reader.doubts.push(Doubt::new("truncated", why));
        }
    }

    fn outside(&self, at: Addr) -> Absent {
        let impossible = at.0 < LOWEST || (self.ceiling <= at.0 && at.0 < 0xffff_0000_0000_0000);
        if self.complete || impossible { Absent::Unmapped } else { Absent::Filtered }
    }
}

impl Memory for DumpMemory {
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
            let got = self.store.read(offset.saturating_add(into_extent), part);
            done = done.saturating_add(got);
            if got < want {
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
