//! The data section's chain of blocks: where each begins, without looking into it.
//!
//! A block is a little-endian word `tag << 20 | length` and `length` bytes. Tag 0 is one lzjb page (a length of a whole
//! page means that it is stored), tag t a block of stream t, and a word of zero the end. Nothing repeats in this
//! chain, so a damaged word loses what follows; reading goes on at the next place from which a chain of blocks that
//! pass a check of their contents leads on.

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
}

/// One block of a stream: where its contents lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub at: u64,
    pub length: u32,
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
    /// It begins where the chain was picked up behind damage.
    pub resumed: bool,
}

impl Run {
    /// Where the block of the run's page `n` lies.
    pub(super) fn locate(&self, n: u64, window: &mut Window<'_>) -> Option<Block> {
        let mark = usize::try_from(n.checked_div(MARK)?).ok()?;
        let mut at = *self.marks.get(mark)?;
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

/// Whether the contents of a block are what a block of this tag contains.
pub(super) type Check<'c> = &'c dyn Fn(u16, Block) -> bool;

/// Follows the chain from `start`.
pub(super) fn walk(window: &mut Window<'_>, start: u64, bounds: &Bounds, check: Check<'_>) -> Chain {
    let mut chain = Chain::default();
    let mut at = start;
    let mut run_open = false;
    loop {
        let word = window.word(at);
        let premature = bounds.expected_end.is_some_and(|end| at.saturating_add(4) < end);
        if word == Some(0) && !premature {
            chain.ended = true;
            break;
        }
        if let Some((tag, length)) = word.and_then(|w| bounds.block(at, w)) {
            let block = Block { at: at.saturating_add(4), length: u32::try_from(length).unwrap_or(0) };
            chain.blocks = chain.blocks.saturating_add(1);
            if !push(&mut chain, tag, block, at, &mut run_open) {
                break;
            }
            chain.resumed = false;
            at = block.at.saturating_add(length);
            continue;
        }
        let next = if chain.gaps.len() < LIMIT_GAPS { search(window, at, bounds, check) } else { None };
        chain.gaps.push(Gap { range: at..next.unwrap_or(bounds.end), word: word.unwrap_or(0) });
        for stream in chain.streams.values_mut() {
            stream.breaks.push(stream.blocks.len());
        }
        let Some(next) = next else { break };
        run_open = false;
        chain.resumed = true;
        at = next;
    }
    chain
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
        chain.runs.push(Run { pages: 0, marks: Vec::new(), first: None, resumed: chain.resumed });
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
fn search(window: &mut Window<'_>, from: u64, bounds: &Bounds, check: Check<'_>) -> Option<u64> {
    let streams = if bounds.streams == 0 { None } else { find(window, from, bounds, &|tag| tag > 0, check) };
    streams.or_else(|| find(window, from, bounds, &|tag| tag == 0, check))
}

fn find(
    window: &mut Window<'_>,
    from: u64,
    bounds: &Bounds,
    wanted: &dyn Fn(u16) -> bool,
    check: Check<'_>,
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
            if led_on(window, place, bounds) && check(tag, block) {
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

/// Whether blocks follow one another from `at`, to the proof's length or to an end mark. What lies behind the data
/// section is zero, too: an end mark is believed in the section's last page only, and behind two blocks.
fn led_on(window: &mut Window<'_>, mut at: u64, bounds: &Bounds) -> bool {
    for n in 0..PROOF {
        match window.word(at) {
            Some(0) => {
                let last_page =
                    |start: u64| at.saturating_add(4) >= start && at < start.saturating_add(bounds.page_size);
                return n > 1 && bounds.expected_end.is_none_or(last_page);
            }
            Some(word) => match bounds.block(at, word) {
                Some((_, length)) => at = at.saturating_add(4).saturating_add(length),
                None => return false,
            },
            None => return false,
        }
    }
    true
}
