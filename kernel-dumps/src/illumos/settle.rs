//! Blocks whose header is damaged, but whose contents are whole: which stream they belong to.
//!
//! Every stream says at the place of the damage what it lacks. lzjb streams say it by the numbers of pages in the
//! headers of their ranges, bzip2 streams by the checksum of the bzip2 block that runs across the place. A block is put
//! where exactly one stream lacks it; otherwise it stays lost.

use super::chain::{Block, Gap, Kind, Stream};
use super::plzjb::Counts;
use super::ranges::MAGIC;
use crate::source::{ReadAt, exact};
use evidence::{ToU64, ToUsize};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Bytes read to find the places of all blocks: a damaged place costs some blocks of each stream.
const LIMIT_TRIED: u64 = 1 << 30;

/// What a stream says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    No,
    /// The stream lacks this block here.
    Here,
    /// The block has all that belongs to it: the stream does not matter.
    Alone,
}

/// Judges a block between the blocks before and those behind.
pub(super) trait Judge {
    fn fit(&self, before: &[Block], block: Block, behind: &[Block]) -> Fit;

    /// The block's first bytes that are its own, when pages of tag 0 follow it. `streams`: the blocks of each.
    fn trim(&self, _block: Block, _streams: &[&[Block]]) -> Option<u32> {
        None
    }
}

/// Puts blocks in their places; the gaps that stay become breaks. Returns pages of tag 0 that were taken for part of a
/// block: where the word of the first one stands.
pub(super) fn settle(
    streams: BTreeMap<u16, Stream>,
    gaps: &mut [Gap],
    judge: &dyn Judge,
) -> (Vec<Stream>, Option<u64>) {
    let mut streams: Vec<(u16, Stream)> = streams.into_iter().collect();
    // Which gaps' blocks each stream got.
    let mut given: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let mut alone = Vec::new();
    let mut serial = None;
    let at = |given: &BTreeMap<u16, Vec<usize>>, gaps: &[Gap], tag: u16, gap: usize| {
        let before = given.get(&tag).map_or(0, |list| list.iter().filter(|g| **g < gap).count());
        gaps.get(gap).and_then(|g| g.positions.get(&tag)).copied().unwrap_or(0).saturating_add(before)
    };
    // A second time, now that other blocks are where they belong.
    for _ in 0..2 {
        for number in 0..gaps.len() {
            let Some(gap) = gaps.get(number).filter(|g| !g.settled) else { continue };
            let Some((Kind::Stream, mut block)) = gap.block else { continue };
            let last = number.checked_add(1) == Some(gaps.len());
            let all: Vec<&[Block]> = streams.iter().map(|(_, s)| s.blocks.as_slice()).collect();
            let behind_all = streams.iter().all(|(tag, s)| at(&given, gaps, *tag, number) == s.blocks.len());
            let own = if last && behind_all { judge.trim(block, &all) } else { None };
            let pages = own.map(|length| block.at.saturating_add(u64::from(length)));
            block.length = own.unwrap_or(block.length);
            let (mut here, mut free) = (Vec::new(), false);
            for (n, (tag, stream)) in streams.iter().enumerate() {
                let place = at(&given, gaps, *tag, number).min(stream.blocks.len());
                let (before, behind) = stream.blocks.split_at_checked(place).unwrap_or_default();
                match judge.fit(before, block, behind) {
                    Fit::Here => here.push((n, place)),
                    Fit::Alone => free = true,
                    Fit::No => {}
                }
            }
            free |= streams.is_empty() && judge.fit(&[], block, &[]) != Fit::No;
            match here.as_slice() {
                [(n, place)] => {
                    if let Some((tag, stream)) = streams.get_mut(*n) {
                        stream.blocks.insert(*place, block);
                        given.entry(*tag).or_default().push(number);
                    }
                }
                [] if free => alone.push(Stream { blocks: vec![block], breaks: Vec::new() }),
                _ => continue,
            }
            serial = serial.or(pages);
            if let Some(gap) = gaps.get_mut(number) {
                gap.settled = true;
            }
        }
    }
    for (tag, stream) in &mut streams {
        let open = gaps.iter().enumerate().filter(|(_, g)| !g.accounted());
        stream.breaks = open.map(|(n, _)| at(&given, gaps, *tag, n)).collect();
    }
    (streams.into_iter().map(|(_, s)| s).chain(alone).collect(), serial)
}

/// Streams of lzjb pages: ranges say how many pages they have.
pub(super) struct Lzjb<'s> {
    source: &'s dyn ReadAt,
    page_size: u64,
    left: Cell<u64>,
}

impl<'s> Lzjb<'s> {
    pub(super) fn new(source: &'s dyn ReadAt, page_size: u64) -> Self {
        Self { source, page_size, left: Cell::new(LIMIT_TRIED) }
    }

    fn bytes(&self, block: Block) -> Option<Vec<u8>> {
        self.left.set(self.left.get().checked_sub(u64::from(block.length))?);
        exact(self.source, block.at, block.length.to_usize())
    }

    /// What the last range before a place lacks there.
    fn owed(&self, before: &[Block]) -> Option<u64> {
        let mut list = Vec::new();
        for block in before.iter().rev() {
            let bytes = self.bytes(*block)?;
            let first = bytes.starts_with(MAGIC);
            list.push(bytes);
            let mut counts = Counts::default();
            if first {
                list.iter().rev().for_each(|b| counts.add(b, self.page_size));
                return counts.owed.filter(|_| !counts.wrong && counts.surplus.is_none());
            }
            counts.add(list.last()?, self.page_size);
            if counts.owed.is_some() {
                // The header is inside; what lies before it is none of this place's business.
                let mut counts = Counts::default();
                list.iter().rev().for_each(|b| counts.add(b, self.page_size));
                return counts.owed.filter(|_| !counts.wrong && counts.surplus.is_none());
            }
        }
        before.is_empty().then_some(0)
    }

    /// Pages behind a place up to the next header.
    fn lead(&self, behind: &[Block]) -> Option<u64> {
        let mut counts = Counts::default();
        for block in behind {
            counts.add(&self.bytes(*block)?, self.page_size);
            if counts.owed.is_some() {
                break;
            }
        }
        (!counts.wrong || counts.owed.is_some()).then_some(counts.lead)
    }
}

impl Judge for Lzjb<'_> {
    fn fit(&self, before: &[Block], block: Block, behind: &[Block]) -> Fit {
        let mut own = Counts::default();
        match self.bytes(block) {
            Some(bytes) => own.add(&bytes, self.page_size),
            None => return Fit::No,
        }
        if own.wrong || own.surplus.is_some() {
            return Fit::No;
        }
        if (own.lead, own.owed) == (0, Some(0)) {
            return Fit::Alone;
        }
        let (Some(owed), Some(lead)) = (self.owed(before), self.lead(behind)) else { return Fit::No };
        let fits = match own.owed {
            Some(rest) => owed == own.lead && lead == rest,
            None => own.lead.checked_add(lead) == Some(owed),
        };
        if fits && owed != lead { Fit::Here } else { Fit::No }
    }

    fn trim(&self, block: Block, streams: &[&[Block]]) -> Option<u32> {
        let bytes = self.bytes(block)?;
        let mut own = Counts::default();
        own.add(&bytes, self.page_size);
        let place = if own.owed.is_some() {
            own.surplus?
        } else {
            let owed: Vec<u64> = streams.iter().map(|s| self.owed(s)).collect::<Option<_>>()?;
            let mut lacking = owed.iter().filter(|n| **n > 0);
            let (Some(n), None) = (lacking.next(), lacking.next()) else { return None };
            Counts::place(&bytes, self.page_size, *n)?
        };
        u32::try_from(place).ok().filter(|n| *n > 0 && n.to_usize().to_u64() < u64::from(block.length))
    }
}
