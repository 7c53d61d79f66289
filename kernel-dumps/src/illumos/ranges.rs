//! Which page of a stream is which: ranges begin with a header that says, and end where the next one begins.
//!
//! Behind damage the pages of a range are counted from its end: what follows a range is the next header, or the end of
//! the stream, so that only the pages in the damaged place are lost.

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

/// Collects the pieces of a stream from what is met on the way.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Pages of the dump: no range reaches beyond.
    total: u64,
    /// Most pages of a range.
    longest: u64,
    pub pieces: Vec<Piece>,
    /// First page, number of pages, and how many were met.
    range: Option<(u64, u64, u64)>,
    /// Met behind damage in this range, still without index.
    tail: Vec<Piece>,
    broken: bool,
    /// The next page does not continue the last piece.
    apart: bool,
}

impl Ranges {
    pub(super) const fn new(total: u64, longest: u64) -> Self {
        Self { total, longest, pieces: Vec::new(), range: None, tail: Vec::new(), broken: false, apart: true }
    }

    /// Whether a header with these numbers can be.
    pub(super) fn plausible(&self, page: u64, pages: u64) -> bool {
        pages > 0 && pages <= self.longest && page.checked_add(pages).is_some_and(|end| end <= self.total)
    }

    /// A header was met. One that cannot be is damage, and what follows belongs to nobody.
    pub(super) fn header(&mut self, page: u64, pages: u64) {
        if !self.plausible(page, pages) {
            self.damage();
            self.close(false);
            return;
        }
        self.close(true);
        self.range = Some((page, pages, 0));
        self.apart = true;
    }

    /// How many pages of the range have not been met; `None` outside of a range, or behind damage.
    pub(super) fn left(&self) -> Option<u64> {
        self.range.filter(|_| !self.broken).map(|(_, pages, met)| pages.saturating_sub(met))
    }

    /// How many pages may still come behind damage.
    pub(super) fn left_behind_damage(&self) -> u64 {
        self.range.map_or(0, |(_, pages, met)| pages.saturating_sub(met))
    }

    /// A page was met.
    pub(super) fn page(&mut self, block: usize, offset: u64) {
        let Some((first, pages, met)) = self.range.as_mut() else { return };
        let index = first.saturating_add(*met);
        let list = if self.broken {
            &mut self.tail
        } else {
            if *met >= *pages {
                return;
            }
            *met = met.saturating_add(1);
            &mut self.pieces
        };
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
        self.broken = self.range.is_some();
        self.tail.clear();
        self.apart = true;
    }

    /// The stream ends here.
    pub(super) fn finish(mut self) -> Vec<Piece> {
        self.close(true);
        self.pieces.sort_by_key(|p| p.page);
        self.pieces
    }

    fn close(&mut self, at_end: bool) {
        let tail = std::mem::take(&mut self.tail);
        if let Some((first, pages, met)) = self.range.take().filter(|_| self.broken && at_end) {
            let behind = tail.iter().fold(0_u64, |sum, p| sum.saturating_add(p.pages));
            if let Some(skip) = pages.checked_sub(behind).filter(|skip| *skip >= met) {
                let mut page = first.saturating_add(skip);
                for piece in tail {
                    self.pieces.push(Piece { page, ..piece });
                    page = page.saturating_add(piece.pages);
                }
            }
        }
        self.broken = false;
    }
}

/// The piece that holds a page, out of sorted ones.
pub(super) fn find(pieces: &[Piece], page: u64) -> Option<Piece> {
    let at = pieces.partition_point(|p| p.page <= page).checked_sub(1)?;
    pieces.get(at).copied().filter(|p| page.wrapping_sub(p.page) < p.pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_behind_damage_are_counted_from_the_end() {
        let mut r = Ranges::new(100, 10);
        r.header(20, 10);
        (0..3).for_each(|n| r.page(0, n));
        r.damage();
        (0..5).for_each(|n| r.page(1, n));
        r.header(40, 2);
        (0..3).for_each(|n| r.page(2, n));
        let pieces = r.finish();
        assert_eq!(pieces.iter().map(|p| (p.page, p.pages)).collect::<Vec<_>>(), [(20, 3), (25, 5), (40, 2)]);
        assert_eq!(find(&pieces, 24), None);
        assert_eq!(find(&pieces, 29).map(|p| p.page), Some(25));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let mut r = Ranges::new(100, 10);
        for (page, pages) in [(95, 6), (0, 11), (0, 0), (u64::MAX, 2)] {
            r.header(page, pages);
            r.page(0, 0);
        }
        // More pages behind the damage than the range has: none of them is placed.
        r.header(10, 4);
        r.page(0, 0);
        r.damage();
        (0..4).for_each(|n| r.page(1, n));
        assert_eq!(r.finish().iter().map(|p| (p.page, p.pages)).collect::<Vec<_>>(), [(10, 1)]);
    }
}
