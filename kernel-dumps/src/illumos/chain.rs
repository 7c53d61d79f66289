//! The data section's chain of blocks: where each begins, without looking into it.
//!
//! A block is a little-endian word `tag << 20 | length` and `length` bytes. Tag 0 is one lzjb page (a length of a whole
//! page means that it is stored), tag t a block of stream t, and a word of zero the end. Nothing repeats in this
//! chain. Behind a damaged word the contents of its block are measured, and are used if the chain goes on behind them;
//! where that does not work, reading goes on at the next place from which a chain of blocks that pass a check of their
//! contents leads on.

use super::contents::Contents;
use super::window::Window;
use evidence::ToUsize;
use evidence::bytes::{Endian, u32_at};
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages of tag 0 between two remembered positions: a dump of 64 GB needs 2 MB for them.
const MARK: u64 = 64;
/// How far behind a damaged word the chain is searched. A block has at most 2^20 bytes, two of them can be hit by one
/// damaged sector.
const LIMIT_SEARCH: u64 = 4 << 20;
/// How many times the chain is picked up again: a file with more holes than this is not worth the search.
const LIMIT_GAPS: usize = 256;
/// Blocks kept of all streams: 2^23 blocks of 128 KiB are 1 TB of compressed pages.
const LIMIT_BLOCKS: usize = 1 << 23;
/// Bytes searched at a time.
const SEARCH_STEP: u64 = 32 << 10;
/// How many blocks must follow one another before a chain is believed after damage.
const PROOF: usize = 4;
/// How many must follow contents that were measured.
const PROOF_BEHIND: usize = 2;
/// Blocks before a damaged word that are looked at again: it may be the length of the one before that is damaged.
const LIMIT_BACK: usize = 3;

/// What the words of the chain may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes per page: the longest block of tag 0.
    pub page_size: u64,
    /// The longest block of a stream.
    pub longest: u64,
    /// The highest tag.
    pub streams: u64,
    /// Blocks end here at the latest.
    pub end: u64,
    /// The data section ends here if its header says the truth; an end mark before it is damage.
    pub expected_end: Option<u64>,
    /// As many pages come before the end mark if all blocks are single pages.
    pub pages: u64,
}

/// One block of a stream: where its contents lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub at: u64,
    pub length: u32,
}

/// What a block without a header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One page.
    Page,
    /// Part of a stream: of which one is not known.
    Stream,
}

/// A place in a stream's list of blocks where some may be missing: before the block of this index.
pub(super) type Break = usize;

/// The blocks of one tag, in order.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub blocks: Vec<Block>,
    pub breaks: Vec<Break>,
}

/// Consecutive blocks of tag 0.
#[derive(Debug)]
pub(super) struct Run {
    /// How many.
    pub pages: u64,
    /// Where every 64th word lies.
    marks: Vec<u64>,
    /// The index of its first page, once it is known.
    pub first: Option<u64>,
    /// Blocks that would be pages before this one are none: they lie in a block of a stream.
    pub least: u64,
    /// It begins where the chain was picked up behind damage.
    pub resumed: bool,
    /// The length of its only block, whose word is damaged; 0 when nothing tells whether its contents are, too.
    pub measured: Option<u32>,
}

impl Run {
    /// Where its first word stands.
    pub(super) fn start(&self) -> Option<u64> {
        self.marks.first().copied()
    }

    /// Where the block of the run's page `n` lies.
    pub(super) fn locate(&self, n: u64, window: &mut Window<'_>) -> Option<Block> {
        let mark = usize::try_from(n.checked_div(MARK)?).ok()?;
        let mut at = *self.marks.get(mark)?;
        if let Some(length) = self.measured {
            return Some(Block { at: at.checked_add(4)?, length }).filter(|_| length > 0);
        }
        for _ in 0..n.checked_rem(MARK)? {
            at = at.checked_add(4)?.checked_add(u64::from(window.word(at)?))?;
        }
        Some(Block { at: at.checked_add(4)?, length: window.word(at)? })
    }
}

/// A piece of the section that belongs to no block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub range: Range<u64>,
    pub word: u32,
    /// What the gap holds, if it is one block.
    pub block: Option<(Kind, Block)>,
    /// That block has its place again.
    pub settled: bool,
    /// How many blocks each stream had before.
    pub positions: BTreeMap<u16, usize>,
}

impl Gap {
    /// It is known what it held.
    pub(super) fn accounted(&self) -> bool {
        self.settled || matches!(self.block, Some((Kind::Page, _)))
    }
}

/// All that the chain tells.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub runs: Vec<Run>,
    pub streams: BTreeMap<u16, Stream>,
    pub gaps: Vec<Gap>,
    /// The end mark was reached.
    pub ended: bool,
    /// Blocks of all kinds.
    pub blocks: u64,
    /// The next block is the first one behind damage.
    resumed: bool,
}

impl Bounds {
    /// Tag and length of the word at `at`, if a block can begin so.
    fn block(&self, at: u64, word: u32) -> Option<(u16, u64)> {
        let (tag, length) = (word >> 20, u64::from(word & 0xf_ffff));
        let most = if tag == 0 { self.page_size } else { self.longest };
        let fits = at.saturating_add(4).saturating_add(length) <= self.end;
        let tag = u16::try_from(tag).ok()?;
        (length > 0 && length <= most && u64::from(tag) <= self.streams && fits).then_some((tag, length))
    }
}

/// Follows the chain from `start`.
pub(super) fn walk(window: &mut Window<'_>, start: u64, bounds: &Bounds, contents: &Contents<'_>) -> Chain {
    let mut chain = Chain::default();
    let mut at = start;
    let mut run_open = false;
    let mut recent: Vec<(u16, Block)> = Vec::new();
    loop {
        let word = window.word(at);
        let last_page = bounds.expected_end.is_none_or(|end| at.saturating_add(4) >= end);
        let enough = bounds.expected_end.is_some() || !chain.streams.is_empty() || chain.blocks >= bounds.pages;
        if word == Some(0) && last_page && enough && padding(window, at, bounds) {
            chain.ended = true;
            break;
        }
        // Single pages follow streams, never the other way round.
        let serial = chain.streams.is_empty() && !chain.runs.is_empty();
        let found = word.and_then(|w| bounds.block(at, w)).filter(|(tag, _)| *tag == 0 || !serial);
        if let Some((tag, length)) = found {
            let block = Block { at: at.saturating_add(4), length: u32::try_from(length).unwrap_or(0) };
            chain.blocks = chain.blocks.saturating_add(1);
            if !push(&mut chain, tag, block, at, &mut run_open) {
                break;
            }
            if recent.len() >= LIMIT_BACK {
                recent.remove(0);
            }
            recent.push((tag, block));
            chain.resumed = false;
            at = block.at.saturating_add(length);
            continue;
        }
        let more = chain.gaps.len() < LIMIT_GAPS;
        let mut block = None;
        let mut next = None;
        // An end mark that only comes too early, or before more than padding: what is behind must be blocks.
        let mut early = word == Some(0) && last_page;
        let headless = bounds.expected_end.is_none();
        if more {
            while let Some((tag, before)) = recent.pop() {
                let other = |length: u64| length != u64::from(before.length);
                let other = |w: &mut Window<'_>| measure(w, before.at, bounds, contents, &other).is_some();
                let proven = early || contents.proven(tag, before) || !other(window);
                if !contents.refuted(tag, before) && proven {
                    break;
                }
                early = false;
                at = before.at.saturating_sub(4);
                pop(&mut chain, tag, &mut run_open);
            }
            block = measure(window, at.saturating_add(4), bounds, contents, &|_| true);
            block = block.filter(|(_, b)| {
                !early || !headless || window.word(b.at.saturating_add(u64::from(b.length))) != Some(0)
            });
            next = block.map(|(_, b)| b.at.saturating_add(u64::from(b.length)));
            if next.is_none() {
                next = search(window, at, bounds, contents);
                let length = next.and_then(|n| n.checked_sub(at)?.checked_sub(4));
                // Not measured, so its contents are damaged; what counts is that they may be those of one block.
                let one = length.filter(|n| *n > 0 && *n <= bounds.longest).and_then(|n| u32::try_from(n).ok());
                block = one.map(|length| (Kind::Stream, Block { at: at.saturating_add(4), length }));
                block = block.filter(|_| bounds.streams > 0);
            }
        }
        recent.clear();
        if early && next.is_none() {
            // Fewer pages than there should be, but this is where they end.
            chain.ended = true;
            break;
        }
        let word = window.word(at).unwrap_or(0);
        let positions = chain.streams.iter().map(|(tag, s)| (*tag, s.blocks.len())).collect();
        let range = at..next.unwrap_or(bounds.end);
        let mut gap = Gap { range, word, block, settled: false, positions };
        run_open = false;
        if let Some((Kind::Page, page)) = block {
            // Any bytes are a stored page.
            let stored = u64::from(page.length) == bounds.page_size;
            let measured = Some(if stored { 0 } else { page.length });
            chain.blocks = chain.blocks.saturating_add(1);
            chain.runs.push(Run { pages: 1, marks: vec![at], first: None, least: 0, resumed: chain.resumed, measured });
            gap.settled = !stored;
            chain.resumed = false;
        } else {
            chain.resumed = true;
        }
        chain.gaps.push(gap);
        let Some(next) = next else { break };
        at = next;
    }
    chain
}

/// Whether nothing but zeros follows up to the end of the section's last page.
fn padding(window: &mut Window<'_>, at: u64, bounds: &Bounds) -> bool {
    let end = match bounds.expected_end {
        Some(start) => start.saturating_add(bounds.page_size),
        None => at.checked_next_multiple_of(bounds.page_size).unwrap_or(at),
    };
    let length = end.min(bounds.end).saturating_sub(at).min(bounds.page_size).to_usize();
    window.bytes(at, length).is_none_or(|b| b.iter().all(|b| *b == 0))
}

/// The contents at `at`, if they show where they end and the chain goes on there.
fn measure(
    window: &mut Window<'_>,
    at: u64,
    bounds: &Bounds,
    contents: &Contents<'_>,
    wanted: &dyn Fn(u64) -> bool,
) -> Option<(Kind, Block)> {
    for (kind, length, last) in contents.endings(at) {
        let next = at.saturating_add(length);
        let last_page = bounds.expected_end.is_none_or(|start| next.saturating_add(4) >= start);
        let goes_on = match window.word(next) {
            Some(0) => last && last_page,
            Some(_) => led_on(window, next, bounds, PROOF_BEHIND)
                .is_some_and(|blocks| blocks.iter().all(|(tag, b)| contents.proven(*tag, *b))),
            None => false,
        };
        if goes_on && wanted(length) {
            return Some((kind, Block { at, length: u32::try_from(length).ok()? }));
        }
    }
    None
}

/// The pages of tag 0 from `at` up to the end mark.
pub(super) fn run(window: &mut Window<'_>, mut at: u64, bounds: &Bounds) -> Option<Run> {
    let mut chain = Chain::default();
    let mut open = false;
    while let Some((0, length)) = window.word(at).and_then(|w| bounds.block(at, w)) {
        let block = Block { at: at.saturating_add(4), length: u32::try_from(length).ok()? };
        push(&mut chain, 0, block, at, &mut open);
        at = block.at.saturating_add(length);
    }
    chain.runs.pop().filter(|_| window.word(at) == Some(0))
}

/// Takes the last block away again.
fn pop(chain: &mut Chain, tag: u16, run_open: &mut bool) {
    chain.blocks = chain.blocks.saturating_sub(1);
    if tag > 0 {
        if let Some(stream) = chain.streams.get_mut(&tag) {
            stream.blocks.pop();
        }
        return;
    }
    let Some(run) = chain.runs.last_mut() else { return };
    run.pages = run.pages.saturating_sub(1);
    if run.pages.checked_rem(MARK) == Some(0) {
        run.marks.pop();
    }
    if run.pages == 0 {
        chain.resumed = run.resumed;
        chain.runs.pop();
        *run_open = false;
    }
}

/// Adds a block; `false` when there are too many.
fn push(chain: &mut Chain, tag: u16, block: Block, word_at: u64, run_open: &mut bool) -> bool {
    if tag > 0 {
        *run_open = false;
        if chain.blocks > u64::try_from(LIMIT_BLOCKS).unwrap_or(u64::MAX) {
            return false;
        }
        chain.streams.entry(tag).or_default().blocks.push(block);
        return true;
    }
    if !*run_open {
        chain.runs.push(Run {
            pages: 0,
            marks: Vec::new(),
            first: None,
            least: 0,
            resumed: chain.resumed,
            measured: None,
        });
        *run_open = true;
    }
    if let Some(run) = chain.runs.last_mut() {
        if run.pages.checked_rem(MARK) == Some(0) {
            run.marks.push(word_at);
        }
        run.pages = run.pages.saturating_add(1);
    }
    true
}

/// The next place behind `from` where a chain begins that can be believed. The pages inside a block of a stream look
/// like blocks of tag 0, so blocks of streams are looked for first where there may be any.
fn search(window: &mut Window<'_>, from: u64, bounds: &Bounds, contents: &Contents<'_>) -> Option<u64> {
    let streams = if bounds.streams == 0 { None } else { find(window, from, bounds, &|tag| tag > 0, contents) };
    streams.or_else(|| find(window, from, bounds, &|tag| tag == 0, contents))
}

fn find(
    window: &mut Window<'_>,
    from: u64,
    bounds: &Bounds,
    wanted: &dyn Fn(u16) -> bool,
    contents: &Contents<'_>,
) -> Option<u64> {
    let last = from.saturating_add(LIMIT_SEARCH).min(bounds.end);
    let mut at = from.saturating_add(1);
    while at < last {
        // A buffer of positions at a time.
        let length = last.saturating_sub(at).saturating_add(3).min(SEARCH_STEP).to_usize();
        let bytes = window.bytes(at, length)?;
        let mut here = at;
        let mut candidates = Vec::new();
        for word in bytes.windows(4) {
            let word = u32_at(word, 0, Endian::Little).unwrap_or(0);
            if let Some((tag, length)) = bounds.block(here, word).filter(|(tag, _)| wanted(*tag)) {
                candidates.push((here, tag, length));
            }
            here = here.saturating_add(1);
        }
        for (place, tag, length) in candidates {
            let block = Block { at: place.saturating_add(4), length: u32::try_from(length).unwrap_or(0) };
            let believed = match led_on(window, place, bounds, PROOF) {
                None => false,
                Some(blocks) if blocks.len() < PROOF => blocks.iter().all(|(tag, b)| contents.proven(*tag, *b)),
                Some(_) => contents.plausible(tag, block),
            };
            if believed {
                return Some(place);
            }
        }
        if here <= at {
            return None;
        }
        at = here;
    }
    None
}

/// The blocks that follow one another from `at`, `proof` of them or up to an end mark. What lies behind the data section
/// is zero, too: an end mark is believed in the section's last page only, and behind a block.
fn led_on(window: &mut Window<'_>, mut at: u64, bounds: &Bounds, proof: usize) -> Option<Vec<(u16, Block)>> {
    let mut blocks = Vec::new();
    while blocks.len() < proof {
        let word = window.word(at)?;
        if word == 0 {
            let last_page = |start: u64| at.saturating_add(4) >= start && at < start.saturating_add(bounds.page_size);
            let believed = !blocks.is_empty() && bounds.expected_end.is_none_or(last_page);
            return believed.then_some(blocks);
        }
        let (tag, length) = bounds.block(at, word)?;
        at = at.saturating_add(4);
        blocks.push((tag, Block { at, length: u32::try_from(length).ok()? }));
        at = at.saturating_add(length);
    }
    Some(blocks)
}
