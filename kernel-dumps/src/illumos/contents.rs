//! What blocks hold: whether bytes can be the contents of a block, and where contents end whose length is not known.
//!
//! An lzjb page ends where a page has come out, a block of lzjb objects where no further object follows, a block of a
//! bzip2 stream with the stream's end mark or when it is full. So a block whose header is damaged is still read.

use super::bzip2_block::{Mark, Scanner};
use super::chain::{Block, Kind};
use super::plzjb;
use crate::source::{ReadAt, exact};
use evidence::{ToU64, ToUsize};

/// Bits of bzip2's end mark and of the checksum behind it.
const END_BITS: u64 = 80;
/// End marks looked at in one block: a block has as many as bzip2 streams end in it, at least 14 bytes each.
const LIMIT_ENDS: usize = 64;

/// What is known of the blocks of a dump.
pub(super) struct Contents<'s> {
    pub source: &'s dyn ReadAt,
    pub page_size: u64,
    /// The compression that the data header says.
    pub level: Option<u16>,
    /// The longest block of a stream.
    pub longest: u64,
    /// Where the last block ends at the latest.
    pub end: u64,
}

impl Contents<'_> {
    fn bytes(&self, block: Block) -> Option<Vec<u8>> {
        exact(self.source, block.at, block.length.to_usize())
    }

    /// Whether a block of this tag can hold what is there; several of them one behind the other are believed by it.
    pub(super) fn plausible(&self, tag: u16, block: Block) -> bool {
        let Some(bytes) = self.bytes(block) else { return false };
        match (tag, self.level) {
            (0, _) => plzjb::is_page(&bytes, self.page_size),
            // Nothing in the middle of a bzip2 stream can be checked, but its blocks are long, and all full but the last.
            (_, Some(2)) => u64::from(block.length).saturating_mul(2) >= self.longest,
            _ => plzjb::is_block(&bytes, self.page_size),
        }
    }

    /// The same with proof in every single block.
    pub(super) fn proven(&self, tag: u16, block: Block) -> bool {
        let stream = tag > 0 && self.level == Some(2);
        if !stream {
            return self.plausible(tag, block);
        }
        let length = u64::from(block.length);
        length == self.longest || self.bytes(block).is_some_and(|b| ends(&b).last() == Some(&length))
    }

    /// Whether the block at its stated length is not what stands there.
    pub(super) fn refuted(&self, tag: u16, block: Block) -> bool {
        (tag == 0 || self.level != Some(2)) && !self.plausible(tag, block)
    }

    /// Where contents that begin at `at` can end, and whether the section can end with them.
    pub(super) fn endings(&self, at: u64) -> Vec<(Kind, u64, bool)> {
        let most = self.longest.max(self.page_size).min(self.end.saturating_sub(at));
        let Some(bytes) = exact(self.source, at, most.to_usize()) else { return Vec::new() };
        let mut list = Vec::new();
        if self.level == Some(2) {
            list.extend(ends(&bytes).into_iter().map(|n| (Kind::Stream, n, true)));
            // A full block is never the last one of its stream.
            list.push((Kind::Stream, self.longest, false));
        } else if self.level != Some(0) {
            list.extend(plzjb::extent(&bytes, self.page_size).map(|n| (Kind::Stream, n.to_u64(), true)));
        }
        list.extend(plzjb::page_extent(&bytes, self.page_size).map(|n| (Kind::Page, n.to_u64(), true)));
        list.push((Kind::Page, self.page_size, true));
        list.retain(|(_, n, _)| *n <= most);
        list
    }
}

/// The bytes up to the end of every bzip2 stream that ends here.
fn ends(bytes: &[u8]) -> Vec<u64> {
    let (mut scanner, mut list) = (Scanner::new(), Vec::new());
    scanner.feed(bytes, |mark| {
        if let Mark::End(at) = mark
            && list.len() < LIMIT_ENDS
        {
            list.push(at.saturating_add(END_BITS).div_ceil(8));
        }
    });
    list
}
