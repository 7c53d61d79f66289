//! Parallel lzjb: every block of a stream holds whole objects, range headers and compressed pages with their lengths.

use super::chain::{Block, Stream};
use super::lzjb;
use super::ranges::{self, HEADER, MAGIC, Piece, Ranges, Together, Walked};
use super::window::Window;
use crate::source::{ReadAt, exact};
use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Absent, ToU64, ToUsize};
use std::sync::{Arc, OnceLock};

const LE: Endian = Endian::Little;

/// Blocks from one that begins with a header to the next such one.
struct Segment {
    blocks: std::ops::Range<usize>,
    /// The index of its first page; 0 when it does not begin with a header.
    low: u64,
    walked: OnceLock<Walked>,
}

struct Indexed {
    stream: Stream,
    segments: Vec<Segment>,
    /// First pages ascend from segment to segment, as the kernel writes them.
    ascending: bool,
}

/// All streams of a dump.
pub(super) struct Streams {
    source: Arc<dyn ReadAt>,
    streams: Vec<Indexed>,
    page_size: u64,
    total: u64,
    longest: u64,
    /// Pages that the ranges of an undamaged dump would cover, where that is known.
    covered: Option<u64>,
    together: OnceLock<Together>,
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
        let mut indexed = Vec::new();
        for stream in streams {
            let mut segments: Vec<Segment> = Vec::new();
            let mut ascending = true;
            for (n, block) in stream.blocks.iter().enumerate() {
                let head = window.bytes(block.at, HEADER.min(block.length.to_usize())).unwrap_or_default();
                let anchor = head.starts_with(MAGIC).then(|| u64_at(head, 8, LE)).flatten().filter(|p| *p < total);
                match (anchor, segments.last_mut()) {
                    (None, Some(last)) => last.blocks.end = n.saturating_add(1),
                    (low, last) => {
                        let low = low.unwrap_or(0);
                        ascending &= last.is_none_or(|l| l.low <= low);
                        segments.push(Segment { blocks: n..n.saturating_add(1), low, walked: OnceLock::new() });
                    }
                }
            }
            indexed.push(Indexed { stream, segments, ascending });
        }
        drop(window);
        Self { source, streams: indexed, page_size, total, longest, covered, together: OnceLock::new() }
    }

    fn walked<'s>(&self, indexed: &'s Indexed, segment: &'s Segment) -> &'s Walked {
        segment.walked.get_or_init(|| {
            let mut ranges = Ranges::new(self.total, self.longest);
            for n in segment.blocks.clone() {
                // Blocks lost before the first one of a segment belong to the segment before.
                if n > segment.blocks.start && indexed.stream.breaks.contains(&n) {
                    ranges.doubt();
                }
                match indexed.stream.blocks.get(n).and_then(|b| self.block(*b)) {
                    Some(bytes) => self.objects(&bytes, n, &mut ranges),
                    None => ranges.damage(),
                }
            }
            if indexed.stream.breaks.contains(&segment.blocks.end) {
                // The end of this segment may not be the end of its last range.
                ranges.doubt();
            }
            ranges.finish(segment.blocks.end < indexed.stream.blocks.len())
        })
    }

    fn block(&self, block: Block) -> Option<Vec<u8>> {
        exact(&*self.source, block.at, block.length.to_usize())
    }

    fn objects(&self, bytes: &[u8], block: usize, ranges: &mut Ranges) {
        for object in Objects::new(bytes, self.page_size) {
            match object {
                Object::Header(page, pages) => ranges.header(page, pages),
                Object::Page(offset, _) => ranges.page(block, offset.to_u64()),
                Object::Damage => ranges.damage(),
            }
        }
    }

    fn locate(&self, page: u64) -> Option<(&Indexed, Piece)> {
        let certain = self.streams.iter().find_map(|indexed| {
            let segments = &indexed.segments;
            let last = segments.partition_point(|s| s.low <= page);
            let range = if indexed.ascending { last.saturating_sub(1)..last } else { 0..segments.len() };
            let mut walks = segments.get(range)?.iter().map(|s| self.walked(indexed, s));
            Some((indexed, walks.find_map(|w| ranges::find(&w.pieces, page))?))
        });
        if certain.is_some() && self.together.get().is_none_or(|t| !t.contested.iter().any(|r| r.contains(&page))) {
            return certain;
        }
        let together = self.together();
        if together.contested.iter().any(|r| r.contains(&page)) {
            return None;
        }
        let held = |p: &Piece| page.checked_sub(p.page).is_some_and(|n| n < p.pages);
        let (n, piece) = together.behind.iter().find(|(_, p)| held(p))?;
        Some((self.segments().nth(*n)?.0, *piece))
    }

    fn segments(&self) -> impl Iterator<Item = (&Indexed, &Segment)> {
        self.streams.iter().flat_map(|i| i.segments.iter().map(move |s| (i, s)))
    }

    /// What all streams together tell; looks into every block.
    pub(super) fn together(&self) -> &Together {
        self.together.get_or_init(|| {
            let walks: Vec<&Walked> = self.segments().map(|(i, s)| self.walked(i, s)).collect();
            ranges::together(&walks, self.covered)
        })
    }

    /// The pages from `page` on that are cheap to have together: those of its block.
    pub(super) fn pages(&self, page: u64, each: &mut dyn FnMut(u64, Result<Vec<u8>, Absent>)) -> Result<(), Absent> {
        let (indexed, piece) = self.locate(page).ok_or(Absent::Corrupt)?;
        let block = indexed.stream.blocks.get(piece.block).ok_or(Absent::Corrupt)?;
        let bytes = self.block(*block).ok_or(Absent::Truncated)?;
        let tail = bytes.get(piece.offset.to_usize()..).unwrap_or_default();
        let end = piece.page.saturating_add(piece.pages);
        for (index, object) in (piece.page..end).zip(Objects::new(tail, self.page_size)) {
            let Object::Page(_, data) = object else { break };
            let contested = self.together.get().is_some_and(|t| t.contested.iter().any(|r| r.contains(&index)));
            if index >= page && !contested {
                each(index, expand(data, self.page_size));
            }
        }
        Ok(())
    }

    /// The first index behind all ranges.
    pub(super) fn end(&self) -> u64 {
        self.segments().map(|(i, s)| self.walked(i, s).end()).max().unwrap_or(0)
    }

    /// All pieces of all streams.
    pub(super) fn all(&self) -> Vec<Piece> {
        let certain = self.segments().flat_map(|(i, s)| self.walked(i, s).pieces.iter().copied());
        certain.chain(self.together().behind.iter().map(|(_, p)| *p)).collect()
    }
}

/// One compressed page, or a stored one.
pub(super) fn expand(data: &[u8], page_size: u64) -> Result<Vec<u8>, Absent> {
    if data.len().to_u64() == page_size {
        return Ok(data.to_vec());
    }
    let page = lzjb::decompress(data, page_size.to_usize());
    if page.len().to_u64() == page_size { Ok(page) } else { Err(Absent::Corrupt) }
}

/// Whether bytes are a page from their first to their last: almost any bytes expand to something.
pub(super) fn is_page(data: &[u8], page_size: u64) -> bool {
    let (page, used) = lzjb::decompress_some(data, page_size.to_usize());
    data.len().to_u64() == page_size || (page.len().to_u64() == page_size && used == data.len())
}

/// Whether a block consists of objects to its end: what a chain is believed by after damage.
pub(super) fn is_block(bytes: &[u8], page_size: u64) -> bool {
    let mut any = false;
    for object in Objects::new(bytes, page_size) {
        if matches!(object, Object::Damage) {
            return false;
        }
        any = true;
    }
    any
}

/// How many bytes are whole objects: the pages among them are looked at, too.
pub(super) fn extent(bytes: &[u8], page_size: u64) -> Option<usize> {
    let mut objects = Objects::new(bytes, page_size);
    let mut end = 0;
    while let Some(object) = objects.next() {
        match object {
            Object::Damage => break,
            Object::Page(at, _) => {
                let data = bytes.get(at.checked_add(4)?..objects.at)?;
                if !is_page(data, page_size) {
                    break;
                }
            }
            Object::Header(..) => {}
        }
        end = objects.at;
    }
    Some(end).filter(|n| *n > 0)
}

/// How many bytes one compressed page takes.
pub(super) fn page_extent(bytes: &[u8], page_size: u64) -> Option<usize> {
    let (page, used) = lzjb::decompress_some(bytes, page_size.to_usize());
    (page.len().to_u64() == page_size).then_some(used)
}

/// Counts of a block's or of several blocks' objects, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Pages before the first header.
    pub lead: u64,
    /// Pages that the last range still lacks; `None` without a header.
    pub owed: Option<u64>,
    /// A range has more or fewer pages than it says, or an object is none.
    pub wrong: bool,
    /// Behind all pages of the last range: where the first one begins that is too many.
    pub surplus: Option<usize>,
}

impl Counts {
    pub(super) fn add(&mut self, bytes: &[u8], page_size: u64) {
        for object in Objects::new(bytes, page_size) {
            match (object, self.owed) {
                (Object::Damage, _) => self.wrong = true,
                (Object::Header(_, pages), owed) => {
                    self.wrong |= owed.is_some_and(|n| n > 0) || self.surplus.is_some();
                    self.owed = Some(pages);
                }
                (Object::Page(..), None) => self.lead = self.lead.saturating_add(1),
                (Object::Page(at, _), Some(0)) => self.surplus = self.surplus.or(Some(at)),
                (Object::Page(..), Some(n)) => self.owed = n.checked_sub(1),
            }
        }
    }

    /// Where page `n` of a block begins that has no header.
    pub(super) fn place(bytes: &[u8], page_size: u64, n: u64) -> Option<usize> {
        let object = Objects::new(bytes, page_size).nth(n.to_usize())?;
        if let Object::Page(at, _) = object { Some(at) } else { None }
    }
}

enum Object<'b> {
    Header(u64, u64),
    /// Where it begins in the block, and its compressed bytes.
    Page(usize, &'b [u8]),
    Damage,
}

struct Objects<'b> {
    bytes: &'b [u8],
    at: usize,
    page_size: u64,
}

impl<'b> Objects<'b> {
    const fn new(bytes: &'b [u8], page_size: u64) -> Self {
        Self { bytes, at: 0, page_size }
    }

    fn object(&mut self) -> Option<Object<'b>> {
        let at = self.at;
        if slice_at(self.bytes, at, 8) == Some(MAGIC) {
            let (page, pages) = (at.checked_add(8)?, at.checked_add(16)?);
            self.at = at.checked_add(HEADER)?;
            return Some(Object::Header(u64_at(self.bytes, page, LE)?, u64_at(self.bytes, pages, LE)?));
        }
        let length = u32_at(self.bytes, at, LE)?;
        if length == 0 || u64::from(length) > self.page_size {
            return None;
        }
        let data = slice_at(self.bytes, at.checked_add(4)?, length.to_usize())?;
        self.at = at.checked_add(4)?.checked_add(length.to_usize())?;
        Some(Object::Page(at, data))
    }
}

impl<'b> Iterator for Objects<'b> {
    type Item = Object<'b>;

    fn next(&mut self) -> Option<Object<'b>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        Some(self.object().unwrap_or_else(|| {
            self.at = self.bytes.len();
            Object::Damage
        }))
    }
}
