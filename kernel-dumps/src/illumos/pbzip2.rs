//! Parallel bzip2: the blocks of a stream, one behind the other, are bzip2 streams; their plain text is range headers
//! and raw pages. Only bzip2's own blocks are decompressed, on demand, and few of them are kept.

use super::bzip2_block::{LIMIT_PACKED, Mark, Scanner, decode};
use super::chain::{Block, Stream};
use super::ranges::{self, HEADER, MAGIC, Piece, Ranges, Together, Walked};
use super::settle::{Fit, Judge};
use super::window::Window;
use crate::source::{ReadAt, exact};
use evidence::bytes::{Endian, slice_at, u64_at};
use evidence::{Absent, ToU64, ToUsize};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const LE: Endian = Endian::Little;
/// Bytes of decompressed blocks that are kept: the work of several streams at a time at level 1 (100 kB blocks).
const LIMIT_KEPT: usize = 48 << 20;
/// Damaged blocks after which a segment is given up: each costs as much as a good one.
const LIMIT_BAD: usize = 1024;
/// Compressed bytes looked through to find the places of blocks without a header.
const LIMIT_TRIED: u64 = 1 << 28;
/// Bytes read at a time while looking for marks.
const READ: usize = 64 << 10;

/// A bzip2 block: its bits in the segment, and where its plain text begins in the segment's.
struct Packed {
    from: u64,
    to: u64,
    plain: u64,
    length: u64,
}

/// What a segment holds.
#[derive(Default)]
struct Contents {
    packed: Vec<Packed>,
    walked: Walked,
}

/// Blocks from one that begins a bzip2 stream to the next such one.
struct Segment {
    /// Where each block lies in the segment, and where in the file.
    parts: Vec<(u64, u64, u64)>,
    bytes: u64,
    /// The digit of its header.
    level: u8,
    /// Offsets in the segment before which blocks may be missing.
    breaks: Vec<u64>,
    /// Blocks may be missing behind the last one.
    open_end: bool,
    low: OnceLock<Option<u64>>,
    contents: OnceLock<Contents>,
}

/// All streams of a dump.
pub(super) struct Streams {
    source: Arc<dyn ReadAt>,
    streams: Vec<Vec<Segment>>,
    page_size: u64,
    total: u64,
    longest: u64,
    /// Pages that the ranges of an undamaged dump would cover, where that is known.
    covered: Option<u64>,
    together: OnceLock<Together>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    plain: HashMap<(usize, usize, usize), Arc<[u8]>>,
    bytes: usize,
}

impl Segment {
    fn new(level: u8) -> Self {
        let (parts, breaks) = (Vec::new(), Vec::new());
        let (low, contents) = (OnceLock::new(), OnceLock::new());
        Self { parts, bytes: 0, level, breaks, open_end: false, low, contents }
    }

    fn push(&mut self, block: Block) {
        self.parts.push((self.bytes, block.at, u64::from(block.length)));
        self.bytes = self.bytes.saturating_add(u64::from(block.length));
    }

    /// Copies what the segment has at `at` into `into`; fewer bytes at its end.
    fn read(&self, source: &dyn ReadAt, at: u64, into: &mut [u8]) -> usize {
        let mut done = 0_usize;
        while done < into.len() {
            let here = at.saturating_add(done.to_u64());
            let index = self.parts.partition_point(|(start, ..)| *start <= here);
            let Some((start, file, length)) = index.checked_sub(1).and_then(|i| self.parts.get(i)) else { break };
            let skip = here.saturating_sub(*start);
            let there = length.saturating_sub(skip).to_usize().min(into.len().saturating_sub(done));
            let Some(part) = into.get_mut(done..done.saturating_add(there)).filter(|p| !p.is_empty()) else { break };
            let got = source.read_at(file.saturating_add(skip), part).unwrap_or(0);
            done = done.saturating_add(got);
            if got < there {
                break;
            }
        }
        done
    }

    /// The plain text of the bits `from..to`; `None` when it is damaged.
    fn decode(&self, source: &dyn ReadAt, from: u64, to: u64) -> Option<Vec<u8>> {
        let start = from >> 3;
        let length = to.div_ceil(8).checked_sub(start).filter(|l| *l <= LIMIT_PACKED)?;
        let mut bytes = vec![0; length.to_usize()];
        let got = self.read(source, start, &mut bytes);
        let base = start.checked_mul(8)?;
        (got.to_u64() == length)
            .then(|| decode(&bytes, self.level, from.saturating_sub(base), to.saturating_sub(base)))?
    }

    /// Marks in order.
    fn marks(&self, source: &dyn ReadAt, limit: usize) -> Vec<Mark> {
        let (mut scanner, mut marks, mut at) = (Scanner::new(), Vec::new(), 0_u64);
        let mut buffer = vec![0; READ];
        while marks.len() < limit {
            let got = self.read(source, at, &mut buffer);
            if got == 0 {
                break;
            }
            scanner.feed(buffer.get(..got).unwrap_or_default(), |m| marks.push(m));
            at = at.saturating_add(got.to_u64());
        }
        marks
    }
}

impl Streams {
    /// Looks at the first bytes of every block.
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        streams: Vec<Stream>,
        page_size: u64,
        total: u64,
        longest: u64,
        covered: Option<u64>,
    ) -> Self {
        let mut window = Window::new(&*source);
        let split = |stream: Stream| {
            let mut segments: Vec<Segment> = Vec::new();
            for (n, block) in stream.blocks.iter().enumerate() {
                let head = window.bytes(block.at, 10.min(block.length.to_usize())).unwrap_or_default();
                let starts = head.starts_with(b"BZh") && slice_at(head, 4, 6) == Some(b"1AY&SY");
                let broken = stream.breaks.contains(&n);
                if starts || segments.is_empty() {
                    if let Some(before) = segments.last_mut() {
                        before.open_end = broken;
                    }
                    let level = head.get(3).copied().filter(|l| starts && l.is_ascii_digit());
                    segments.push(Segment::new(level.unwrap_or(b'9')));
                }
                let Some(segment) = segments.last_mut() else { continue };
                if broken && !starts {
                    segment.breaks.push(segment.bytes);
                }
                segment.push(*block);
            }
            if let Some(last) = segments.last_mut() {
                last.open_end = stream.breaks.contains(&stream.blocks.len());
            }
            segments
        };
        let streams = streams.into_iter().map(split).collect();
        drop(window);
        Self { source, streams, page_size, total, longest, covered, together: OnceLock::new(), kept: Mutex::default() }
    }

    /// The index of the first page of a segment, out of its first bzip2 block.
    fn low(&self, segment: &Segment) -> Option<u64> {
        *segment.low.get_or_init(|| {
            let marks = segment.marks(&*self.source, 2);
            let (Mark::Block(from), to) = (*marks.first()?, marks.get(1)?.bit()) else { return None };
            let plain = segment.decode(&*self.source, from, to)?;
            plain.starts_with(MAGIC).then(|| u64_at(&plain, 8, LE))?.filter(|p| *p < self.total)
        })
    }

    fn contents<'s>(&self, segment: &'s Segment) -> &'s Contents {
        segment.contents.get_or_init(|| {
            let marks = segment.marks(&*self.source, usize::MAX);
            let mut contents = Contents::default();
            let mut text = Text::new(Ranges::new(self.total, self.longest), self.page_size);
            let (mut plain_at, mut before, mut bad, mut ended) = (0_u64, 0_u64, 0_usize, false);
            for (n, mark) in marks.iter().enumerate() {
                let Mark::Block(from) = *mark else { continue };
                let to = marks.get(n.saturating_add(1)).map_or(segment.bytes.saturating_mul(8), |m| m.bit());
                // A bzip2 block that runs across a break and is whole misses nothing there.
                if segment.breaks.iter().any(|b| (before..=from).contains(&b.saturating_mul(8))) {
                    text.damage();
                }
                let plain = segment.decode(&*self.source, from, to);
                before = if plain.is_some() { to } else { from };
                ended = matches!(marks.get(n.saturating_add(1)), Some(Mark::End(_))) && plain.is_some();
                let length = plain.as_ref().map_or(0, Vec::len).to_u64();
                match plain {
                    Some(plain) => text.feed(&plain),
                    None => {
                        text.damage();
                        bad = bad.saturating_add(1);
                    }
                }
                if bad > LIMIT_BAD {
                    break;
                }
                contents.packed.push(Packed { from, to, plain: plain_at, length });
                plain_at = plain_at.saturating_add(length);
            }
            contents.walked = text.finish((segment.open_end && !ended) || bad > LIMIT_BAD);
            contents
        })
    }

    fn locate(&self, page: u64) -> Option<(usize, usize, Piece)> {
        let contested = |t: &Together| t.contested.iter().any(|r| r.contains(&page));
        let certain = self.streams.iter().enumerate().find_map(|(s, list)| {
            let (index, piece) = self.find_in(list, page)?;
            Some((s, index, piece))
        });
        if certain.is_some() && !self.together.get().is_some_and(contested) {
            return certain;
        }
        let together = self.together();
        if contested(together) {
            return None;
        }
        let held = |p: &Piece| page.checked_sub(p.page).is_some_and(|n| n < p.pages);
        let (n, piece) = together.behind.iter().find(|(_, p)| held(p))?;
        let mut places = self.streams.iter().enumerate().flat_map(|(s, list)| (0..list.len()).map(move |i| (s, i)));
        places.nth(*n).map(|(s, index)| (s, index, *piece))
    }

    /// The kernel's segments ascend; one whose first block is damaged is looked at whenever it may be the one.
    fn find_in(&self, segments: &[Segment], page: u64) -> Option<(usize, Piece)> {
        let (mut low, mut high) = (0_usize, segments.len());
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) >> 1);
            match segments.get(middle).map(|segment| self.low(segment)) {
                Some(Some(first)) if first > page => high = middle,
                Some(_) | None => low = middle.saturating_add(1),
            }
        }
        for index in (0..low).rev() {
            let segment = segments.get(index)?;
            if let Some(piece) = ranges::find(&self.contents(segment).walked.pieces, page) {
                return Some((index, piece));
            }
            if self.low(segment).is_some_and(|first| first <= page) {
                return None;
            }
        }
        None
    }

    /// What all streams together tell; decompresses everything.
    pub(super) fn together(&self) -> &Together {
        self.together.get_or_init(|| {
            let walks: Vec<&Walked> = self.streams.iter().flatten().map(|s| &self.contents(s).walked).collect();
            ranges::together(&walks, self.covered)
        })
    }

    /// One page.
    pub(super) fn page(&self, page: u64) -> Result<Vec<u8>, Absent> {
        let (s, index, piece) = self.locate(page).ok_or(Absent::Corrupt)?;
        let segment = self.streams.get(s).and_then(|list| list.get(index)).ok_or(Absent::Corrupt)?;
        let contents = self.contents(segment);
        let skip = page.saturating_sub(piece.page).saturating_mul(self.page_size);
        let mut at = piece.offset.saturating_add(skip);
        let mut out = Vec::with_capacity(self.page_size.to_usize());
        while out.len().to_u64() < self.page_size {
            let n = contents.packed.partition_point(|p| p.plain.saturating_add(p.length) <= at);
            let packed = contents.packed.get(n).ok_or(Absent::Corrupt)?;
            let plain = self.plain((s, index, n), segment, packed).ok_or(Absent::Corrupt)?;
            let tail = plain.get(at.saturating_sub(packed.plain).to_usize()..).unwrap_or_default();
            let want = self.page_size.to_usize().saturating_sub(out.len()).min(tail.len());
            out.extend_from_slice(tail.get(..want).filter(|t| !t.is_empty()).ok_or(Absent::Corrupt)?);
            at = at.saturating_add(want.to_u64());
        }
        Ok(out)
    }

    fn plain(&self, key: (usize, usize, usize), segment: &Segment, packed: &Packed) -> Option<Arc<[u8]>> {
        if let Some(plain) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).plain.get(&key) {
            return Some(plain.clone());
        }
        let plain: Arc<[u8]> = Arc::from(segment.decode(&*self.source, packed.from, packed.to)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes = kept.bytes.saturating_add(plain.len());
        if kept.bytes > LIMIT_KEPT {
            kept.plain.clear();
            kept.bytes = plain.len();
        }
        kept.plain.insert(key, plain.clone());
        Some(plain)
    }

    /// The first index behind all ranges.
    pub(super) fn end(&self) -> u64 {
        self.streams.iter().flatten().map(|s| self.contents(s).walked.end()).max().unwrap_or(0)
    }

    /// All pieces of all streams.
    pub(super) fn all(&self) -> Vec<Piece> {
        let certain = self.streams.iter().flatten().flat_map(|s| self.contents(s).walked.pieces.iter().copied());
        certain.chain(self.together().behind.iter().map(|(_, p)| *p)).collect()
    }
}

/// Streams of bzip2: a bzip2 block that runs into the block from another one, or out of it, has a checksum.
pub(super) struct Joints<'s> {
    source: &'s dyn ReadAt,
    left: Cell<u64>,
}

impl<'s> Joints<'s> {
    pub(super) fn new(source: &'s dyn ReadAt) -> Self {
        Self { source, left: Cell::new(LIMIT_TRIED) }
    }
}

impl Judge for Joints<'_> {
    fn fit(&self, before: &[Block], block: Block, behind: &[Block]) -> Fit {
        let mut parts = VecDeque::from([block]);
        let starts = |b: &Block| exact(self.source, b.at, 4).is_some_and(|h| h.starts_with(b"BZh"));
        let (mut from, mut length) = (0_u64, 0_u64);
        for b in before.iter().rev().take_while(|_| !starts(&block)) {
            parts.push_front(*b);
            from = from.saturating_add(u64::from(b.length));
            if from >= LIMIT_PACKED || starts(b) {
                break;
            }
        }
        for b in behind {
            length = length.saturating_add(u64::from(b.length));
            if length >= LIMIT_PACKED || starts(b) {
                break;
            }
            parts.push_back(*b);
        }
        let to = from.saturating_add(u64::from(block.length));
        let mut segment = Segment::new(b'9');
        for b in parts {
            segment.push(b);
        }
        let Some(left) = self.left.get().checked_sub(segment.bytes.saturating_mul(2)) else { return Fit::No };
        self.left.set(left);
        let marks = segment.marks(self.source, usize::MAX);
        let mut joined = false;
        for pair in marks.windows(2) {
            let [Mark::Block(first), end] = *pair else { continue };
            let across =
                |byte: u64| (first..end.bit()).contains(&byte.saturating_mul(8)) && first < byte.saturating_mul(8);
            if across(from) || across(to) {
                if segment.decode(self.source, first, end.bit()).is_none() {
                    return Fit::No;
                }
                joined = true;
            }
        }
        let whole = |mark: Option<&Mark>| matches!(mark, Some(Mark::End(_)));
        match joined {
            true => Fit::Here,
            false if starts(&block) && whole(marks.last()) => Fit::Alone,
            false => Fit::No,
        }
    }
}

/// Follows headers and pages through plain text that comes in pieces.
struct Text {
    ranges: Ranges,
    page_size: u64,
    /// Not yet understood bytes, and where they begin in the plain text.
    rest: Vec<u8>,
    at: u64,
    /// Looking for a header behind damage; where the search began.
    lost: Option<u64>,
}

impl Text {
    fn new(ranges: Ranges, page_size: u64) -> Self {
        Self { ranges, page_size, rest: Vec::new(), at: 0, lost: None }
    }

    fn damage(&mut self) {
        self.ranges.damage();
        self.at = self.at.saturating_add(self.rest.len().to_u64());
        // A page that began before the damage is not whole.
        self.rest.clear();
        self.lost = Some(self.at);
    }

    fn feed(&mut self, plain: &[u8]) {
        self.rest.extend_from_slice(plain);
        let mut used = 0_usize;
        while let Some(step) = self.step(used) {
            used = used.saturating_add(step);
        }
        self.rest.drain(..used.min(self.rest.len()));
        self.at = self.at.saturating_add(used.to_u64());
    }

    /// The end of the text is the end of its last range.
    fn finish(mut self, open_end: bool) -> Walked {
        if open_end {
            self.ranges.damage();
        } else if let Some(since) = self.lost {
            self.behind(since, self.at.saturating_add(self.rest.len().to_u64()));
        }
        self.ranges.finish(false)
    }

    /// How many bytes from `used` on were understood; `None` when more are needed.
    fn step(&mut self, used: usize) -> Option<usize> {
        let rest = self.rest.get(used..)?;
        let here = self.at.saturating_add(used.to_u64());
        if let Some(since) = self.lost {
            return self.search(used, here, since);
        }
        if self.ranges.left().unwrap_or(0) > 0 {
            let page = self.page_size.to_usize();
            if rest.len() < page {
                return None;
            }
            self.ranges.page(0, here);
            return Some(page);
        }
        let head = rest.get(..HEADER)?;
        let (page, pages) = (u64_at(head, 8, LE)?, u64_at(head, 16, LE)?);
        if head.starts_with(MAGIC) && self.ranges.plausible(page, pages) {
            self.ranges.header(page, pages);
            return Some(HEADER);
        }
        self.ranges.damage();
        self.lost = Some(here);
        Some(0)
    }

    /// Looks for the next header; the pages before it are counted backwards from it.
    fn search(&mut self, used: usize, here: u64, since: u64) -> Option<usize> {
        let rest = self.rest.get(used..)?;
        for (n, window) in rest.windows(HEADER).enumerate() {
            if !window.starts_with(MAGIC) {
                continue;
            }
            let (page, pages) = (u64_at(window, 8, LE)?, u64_at(window, 16, LE)?);
            if self.ranges.plausible(page, pages) {
                self.behind(since, here.saturating_add(n.to_u64()));
                self.lost = None;
                self.ranges.header(page, pages);
                return n.checked_add(HEADER);
            }
        }
        // Nothing: keep what a header could begin in.
        rest.len().checked_sub(HEADER).filter(|n| *n > 0)
    }

    /// Whole pages between the damage and the end of the range.
    fn behind(&mut self, since: u64, end: u64) {
        let whole = end.saturating_sub(since).checked_div(self.page_size).unwrap_or(0);
        let first = end.saturating_sub(whole.saturating_mul(self.page_size));
        for n in 0..whole {
            self.ranges.page(0, first.saturating_add(n.saturating_mul(self.page_size)));
        }
    }
}
