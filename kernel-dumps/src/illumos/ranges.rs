//! Which page of a stream is which: ranges begin with a header that says, and end where the next one begins.
//!
//! Behind damage the pages of a range are counted from its end: what follows a range is the next header, or the end of
//! the stream, so that only the pages in the damaged place are lost. That is done only where it is certain that no
//! header was lost, or which one.

use std::ops::Range;

/// `DUMP_STREAM_MAGIC` as it stands in a stream.
pub(super) const MAGIC: &[u8; 8] = b"StrmHdr\0";
/// Bytes of `dumpstreamhdr_t`: the magic, the index of the first page, the number of pages.
pub(super) const HEADER: usize = 24;
/// Pieces kept of one segment of a stream. A piece is a range or a block's share of one: a segment of this many has
/// gigabytes.
const LIMIT_PIECES: usize = 1 << 20;

/// Pages that lie one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The index of the first one.
    pub page: u64,
    pub pages: u64,
    /// The block they lie in.
    pub block: usize,
    /// Where the first one begins: in the block, or in the stream's plain text.
    pub offset: u64,
}

/// Pages behind damage: the last ones of a range, but of which is not yet known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The range before the damage: first page, number of pages, how many were met.
    range: Option<(u64, u64, u64)>,
    pieces: Vec<Piece>,
    /// The first page of the range behind.
    next: Option<u64>,
    /// A block may be missing here, and the pages met make up the range without it.
    exact: bool,
}

/// What a segment of a stream told.
#[derive(Clone, Debug, Default)]
pub(super) struct Walked {
    /// Pages whose indices are certain, by index.
    pub pieces: Vec<Piece>,
    headers: Vec<Range<u64>>,
    tails: Vec<Tail>,
    damages: usize,
}

impl Walked {
    /// The first index behind all ranges whose headers were met.
    pub(super) fn end(&self) -> u64 {
        self.headers.iter().map(|r| r.end).max().unwrap_or(0)
    }
}

/// Collects the pieces of a stream from what is met on the way.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Pages of the dump: no range reaches beyond.
    total: u64,
    /// Most pages of a range.
    longest: u64,
    walked: Walked,
    /// First page, number of pages, and how many were met.
    range: Option<(u64, u64, u64)>,
    tail: Vec<Piece>,
    broken: bool,
    /// Broken only if a missing block was one of this stream.
    doubtful: bool,
    /// The next page does not continue the last piece.
    apart: bool,
}

impl Ranges {
    pub(super) fn new(total: u64, longest: u64) -> Self {
        let walked = Walked::default();
        Self { total, longest, walked, range: None, tail: Vec::new(), broken: false, doubtful: false, apart: true }
    }

    /// Whether a header with these numbers can be.
    pub(super) fn plausible(&self, page: u64, pages: u64) -> bool {
        pages > 0 && pages <= self.longest && page.checked_add(pages).is_some_and(|end| end <= self.total)
    }

    /// A header was met. One that cannot be is damage.
    pub(super) fn header(&mut self, page: u64, pages: u64) {
        if !self.plausible(page, pages) {
            self.damage();
            return;
        }
        self.close(Some(page), true);
        self.range = Some((page, pages, 0));
        self.walked.headers.push(page..page.saturating_add(pages));
    }

    /// How many pages of the range have not been met; `None` outside of a range, or behind damage.
    pub(super) fn left(&self) -> Option<u64> {
        self.range.filter(|_| !self.broken).map(|(_, pages, met)| pages.saturating_sub(met))
    }

    /// A page was met.
    pub(super) fn page(&mut self, block: usize, offset: u64) {
        let mut index = 0;
        if !self.broken {
            match self.range.as_mut() {
                Some((first, pages, met)) if *met < *pages => {
                    index = first.saturating_add(*met);
                    *met = met.saturating_add(1);
                }
                // More pages than the range has: one of its blocks is none of its own. Or none that they belong to.
                _ => {
                    self.forget();
                    self.damage();
                }
            }
        }
        let list = if self.broken { &mut self.tail } else { &mut self.walked.pieces };
        let full = list.len() >= LIMIT_PIECES;
        match list.last_mut().filter(|p| !self.apart && p.block == block) {
            Some(piece) => piece.pages = piece.pages.saturating_add(1),
            None if !full => list.push(Piece { page: index, pages: 1, block, offset }),
            None => {}
        }
        self.apart = false;
    }

    /// Something is missing or unreadable here.
    pub(super) fn damage(&mut self) {
        self.walked.damages = self.walked.damages.saturating_add(1);
        self.broken = true;
        self.doubtful = false;
        self.tail.clear();
        self.apart = true;
    }

    /// No page of this range is certain.
    fn forget(&mut self) {
        let Some((first, pages, _)) = self.range else { return };
        let range = first..first.saturating_add(pages);
        while self.walked.pieces.last().is_some_and(|p| range.contains(&p.page)) {
            self.walked.pieces.pop();
        }
    }

    /// A block of one of the streams is missing here, perhaps of this one.
    pub(super) fn doubt(&mut self) {
        if self.broken {
            self.damage();
            return;
        }
        self.broken = true;
        self.doubtful = true;
        self.apart = true;
    }

    /// The segment ends here; `more` when its stream goes on with another range.
    pub(super) fn finish(mut self, more: bool) -> Walked {
        self.close(None, more);
        self.walked.pieces.sort_by_key(|p| p.page);
        self.walked
    }

    fn close(&mut self, next: Option<u64>, more: bool) {
        if more && !self.broken && self.range.is_some_and(|(_, pages, met)| met < pages) {
            // Nobody knows where the missing ones are: one of its blocks is in another stream's list.
            self.forget();
            self.walked.damages = self.walked.damages.saturating_add(1);
        }
        let pieces = std::mem::take(&mut self.tail);
        let range = self.range.take();
        let behind = pieces.iter().fold(0_u64, |sum, p| sum.saturating_add(p.pages));
        let whole = range.is_some_and(|(_, pages, met)| met.checked_add(behind) == Some(pages));
        let exact = self.doubtful && (whole || (range.is_none() && pieces.is_empty()));
        if self.broken && self.doubtful && !exact {
            self.walked.damages = self.walked.damages.saturating_add(1);
        }
        if self.broken && !pieces.is_empty() {
            self.walked.tails.push(Tail { range, pieces, next, exact });
        }
        self.broken = false;
        self.doubtful = false;
        self.apart = true;
    }
}

/// What only all streams together tell.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Pages behind damage whose range is certain: the segment's number and the piece.
    pub behind: Vec<(usize, Piece)>,
    /// Pages that two ranges claim: a header is damaged, and nobody knows which.
    pub contested: Vec<Range<u64>>,
}

/// Gives pages behind damage their indices. The headers of all streams cover all pages below `total`: when none is
/// missing, pages behind damage are the last ones of the range before it. When some are missing and there is only one
/// damaged place, the missing headers were there, and the pages are the last ones of the last range without one.
pub(super) fn together(walks: &[&Walked], total: Option<u64>) -> Together {
    let all = |each: &dyn Fn(&Walked) -> Vec<Range<u64>>| {
        let mut list: Vec<Range<u64>> = walks.iter().flat_map(|w| each(w)).collect();
        list.sort_by_key(|r| (r.start, r.end));
        list
    };
    let headers = all(&|w| w.headers.clone());
    let missing = uncovered(&headers, total.unwrap_or(u64::MAX));
    let damages = walks.iter().fold(0_usize, |sum, w| sum.saturating_add(w.damages));
    let mut result = Together::default();
    for (segment, tail) in walks.iter().enumerate().flat_map(|(n, w)| w.tails.iter().map(move |t| (n, t))) {
        let behind = tail.pieces.iter().fold(0_u64, |sum, p| sum.saturating_add(p.pages));
        // In a stream ranges ascend: only a lost header between its neighbours could be one of this place.
        let between = |r: &Range<u64>| {
            tail.range.is_none_or(|(first, ..)| r.end > first) && tail.next.is_none_or(|next| r.start < next)
        };
        let first = if total.is_none() {
            None
        } else if !missing.iter().any(between) || (tail.exact && damages == 1) {
            let range = tail.range.and_then(|(first, pages, met)| Some((first, pages.checked_sub(behind)?, met)));
            range.filter(|(_, skip, met)| skip >= met).map(|(first, skip, _)| first.saturating_add(skip))
        } else {
            let before = |r: &&Range<u64>| tail.next.is_none_or(|n| r.end <= n);
            let last = missing.iter().rev().find(before).filter(|_| damages == 1);
            last.and_then(|r| r.end.checked_sub(behind).filter(|first| *first >= r.start))
        };
        let Some(mut page) = first else { continue };
        for piece in &tail.pieces {
            result.behind.push((segment, Piece { page, ..*piece }));
            page = page.saturating_add(piece.pages);
        }
    }
    let mut reach = 0_u64;
    for r in headers {
        if r.start < reach {
            result.contested.push(r.start..reach.min(r.end));
        }
        reach = reach.max(r.end);
    }
    result
}

/// What sorted ranges leave free below `total`.
pub(super) fn uncovered(sorted: &[Range<u64>], total: u64) -> Vec<Range<u64>> {
    let mut free = Vec::new();
    let mut next = 0_u64;
    for r in sorted {
        if r.start > next {
            free.push(next..r.start.min(total));
        }
        next = next.max(r.end);
    }
    free.push(next..total);
    free.retain(|r| r.start < r.end);
    free
}

/// The piece that holds a page, out of sorted ones.
pub(super) fn find(pieces: &[Piece], page: u64) -> Option<Piece> {
    let at = pieces.partition_point(|p| p.page <= page).checked_sub(1)?;
    pieces.get(at).copied().filter(|p| page.wrapping_sub(p.page) < p.pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pieces: &[Piece]) -> Vec<(u64, u64)> {
        pieces.iter().map(|p| (p.page, p.pages)).collect()
    }

    fn behind(walked: &Walked, total: u64) -> Vec<(u64, u64)> {
        together(&[walked], Some(total)).behind.iter().map(|(_, p)| (p.page, p.pages)).collect()
    }

    #[test]
    fn pages_behind_damage_are_counted_from_the_end() {
        let mut r = Ranges::new(100, 10);
        r.header(0, 10);
        (0..3).for_each(|n| r.page(0, n));
        r.damage();
        (0..5).for_each(|n| r.page(1, n));
        r.header(10, 2);
        (0..2).for_each(|n| r.page(2, n));
        let walked = r.finish(false);
        assert_eq!(spans(&walked.pieces), [(0, 3), (10, 2)]);
        assert_eq!(find(&walked.pieces, 11).map(|p| p.page), Some(10));
        assert_eq!(find(&walked.pieces, 4), None);
        assert_eq!(behind(&walked, 12), [(5, 5)]);
    }

    /// The damage took the header of the next range, too: the pages belong to that one.
    #[test]
    fn a_lost_header_is_not_forgotten() {
        let mut r = Ranges::new(100, 10);
        r.header(0, 10);
        (0..3).for_each(|n| r.page(0, n));
        r.damage();
        (0..5).for_each(|n| r.page(1, n));
        r.header(20, 10);
        (0..10).for_each(|n| r.page(2, n));
        let walked = r.finish(false);
        assert_eq!(behind(&walked, 30), [(15, 5)]);
        // With another damaged place nobody knows where the header was lost.
        let other = Walked { damages: 1, ..Walked::default() };
        assert!(together(&[&walked, &other], Some(30)).behind.is_empty());
        assert!(together(&[&walked], None).behind.is_empty());
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let mut r = Ranges::new(100, 10);
        for (page, pages) in [(95, 6), (0, 11), (0, 0), (u64::MAX, 2)] {
            r.header(page, pages);
            r.page(0, 0);
        }
        r.header(0, 4);
        r.page(0, 0);
        r.damage();
        (0..4).for_each(|n| r.page(1, n));
        let walked = r.finish(false);
        assert_eq!(spans(&walked.pieces), [(0, 1)]);
        // More pages behind the damage than the range has.
        assert!(behind(&walked, 4).is_empty());
    }

    #[test]
    fn two_ranges_cannot_have_the_same_page() {
        let mut r = Ranges::new(100, 10);
        r.header(0, 10);
        r.header(5, 10);
        assert_eq!(together(&[&r.finish(false)], Some(20)).contested.first(), Some(&(5..10)));
    }
}
