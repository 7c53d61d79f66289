//! The compressed pages of a dump by their index, whichever way they were compressed.

use super::chain::{self, Block, Bounds, Chain, Gap, Run};
use super::dumphdr::DataHeader;
use super::ranges::{self, Piece};
use super::window::Window;
use super::{pbzip2, plzjb};
use crate::source::{ReadAt, exact};
use evidence::{Absent, Doubt, ToUsize};
use std::ops::Range;
use std::sync::Arc;

/// Most pages of a range when no header says: the kernel's largest range is 4 MiB of the smallest pages, doubled often.
const LONGEST_RANGE: u64 = 1 << 16;
/// The longest block where no header says: 20 bits.
const LONGEST_BLOCK: u64 = 0xf_ffff;
/// The highest stream number where no header says: 12 bits.
const MOST_STREAMS: u64 = 0xfff;

/// How the streams were compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One lzjb page after the other.
    Serial,
    /// Streams of blocks of lzjb pages.
    ParallelLzjb,
    /// Streams of blocks of bzip2.
    ParallelBzip2,
}

impl Mode {
    /// The word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Serial => "serial lzjb",
            Self::ParallelLzjb => "parallel lzjb",
            Self::ParallelBzip2 => "parallel bzip2",
        }
    }
}

enum Streams {
    None,
    Lzjb(plzjb::Streams),
    Bzip2(pbzip2::Streams),
}

/// Pages by index.
pub(super) struct Streamed {
    source: Arc<dyn ReadAt>,
    page_size: u64,
    pub mode: Mode,
    runs: Vec<Run>,
    streams: Streams,
    pub gaps: Vec<Gap>,
    pub ended: bool,
    pub blocks: u64,
}

/// What is to be read.
pub(super) struct Section {
    pub start: u64,
    /// No block reaches beyond.
    pub end: u64,
    pub page_size: u64,
    /// Pages of the dump.
    pub total: u64,
    /// All of them were written.
    pub complete: bool,
    pub header: Option<DataHeader>,
}

impl Streamed {
    /// Follows the chain of blocks; contents are looked at later.
    pub(super) fn open(source: Arc<dyn ReadAt>, section: &Section, doubts: &mut Vec<Doubt>) -> Self {
        let header = section.header;
        // The padding of the last page counts as data.
        let stated = header.map(|h| section.start.saturating_add(h.csize));
        let bounds = Bounds {
            page_size: section.page_size,
            longest: header.map_or(LONGEST_BLOCK, |h| u64::from(h.maxcsize)).max(1),
            streams: header.map_or(MOST_STREAMS, |h| u64::from(h.streams)),
            end: section.end,
            expected_end: stated.filter(|e| *e <= section.end).map(|e| e.saturating_sub(section.page_size)),
        };
        let check = |tag: u16, block: Block| {
            let Some(bytes) = exact(&*source, block.at, block.length.to_usize()) else { return false };
            match (tag, header.map(|h| h.level)) {
                (0, _) => plzjb::is_page(&bytes, section.page_size),
                // Nothing in the middle of a bzip2 stream can be checked, but its blocks are long, and all full but the last.
                (_, Some(2)) => {
                    u64::from(block.length).saturating_mul(2) >= header.map_or(0, |h| u64::from(h.maxcsize))
                }
                _ => plzjb::is_block(&bytes, section.page_size),
            }
        };
        let mut window = Window::new(&*source);
        let chain = chain::walk(&mut window, section.start, &bounds, &check);
        drop(window);
        let stated = header.map(|h| match h.level {
            1 => Mode::ParallelLzjb,
            2 => Mode::ParallelBzip2,
            _ => Mode::Serial,
        });
        let mode = seen(&chain, &*source).unwrap_or_else(|| stated.unwrap_or(Mode::Serial));
        if stated.is_some_and(|s| s != mode) && chain.blocks > 0 {
            let why = format!(
                "the data header says {}, the blocks are {}: the blocks are believed",
                stated.unwrap_or(mode).word(),
                mode.word()
            );
            doubts.push(Doubt::new("dump-header", why));
        }
        let longest = header.map_or(LONGEST_RANGE, |h| u64::from(h.maxrange)).max(1);
        let Chain { runs, streams, gaps, ended, blocks, .. } = chain;
        let list = streams.into_values().collect();
        // Pages of tag 0 follow those of the streams; behind damage their number is not certain.
        let serial = runs.iter().fold(0_u64, |sum, r| sum.saturating_add(r.pages));
        let certain = section.complete && (serial == 0 || gaps.is_empty());
        let covered = section.total.checked_sub(serial).filter(|_| certain);
        let streams = match mode {
            Mode::Serial => Streams::None,
            Mode::ParallelLzjb => {
                let s = plzjb::Streams::new(source.clone(), list, section.page_size, section.total, longest, covered);
                Streams::Lzjb(s)
            }
            Mode::ParallelBzip2 => {
                let s = pbzip2::Streams::new(source.clone(), list, section.page_size, section.total, longest, covered);
                Streams::Bzip2(s)
            }
        };
        let mut streamed = Self { source, page_size: section.page_size, mode, runs, streams, gaps, ended, blocks };
        streamed.place_runs(section);
        streamed
    }

    /// Which pages the runs of tag 0 are: from the start when nothing comes before them, to the end of the dump when
    /// the end mark follows and all pages were written.
    fn place_runs(&mut self, section: &Section) {
        let serial = matches!(self.streams, Streams::None);
        let count = self.runs.len();
        let broken = !self.gaps.is_empty();
        // Whether damage lies before the first run is seen from where the first gap begins.
        let begins = self.gaps.first().is_none_or(|g| g.range.start > section.start);
        if serial
            && begins
            && let Some(first) = self.runs.first_mut()
        {
            first.first = Some(0);
        }
        let Some(last) = self.runs.last_mut() else { return };
        if (serial && count == 1 && begins) || !self.ended {
            return;
        }
        if !serial && last.resumed {
            // Pages inside of a lost block look like blocks of their own.
            return;
        }
        if section.complete {
            last.first = section.total.checked_sub(last.pages);
        } else if !serial && !broken {
            let end = self.pieces().iter().map(|p| p.page.saturating_add(p.pages)).max().unwrap_or(0);
            if let Some(last) = self.runs.last_mut() {
                last.first = Some(end);
            }
        }
        // Runs that would claim a page twice are placed wrongly, one of them or both.
        if serial
            && let [first, .., last] = self.runs.as_mut_slice()
            && last.first.is_some_and(|l| first.first.is_some_and(|f| f.saturating_add(first.pages) > l))
        {
            last.first = None;
        }
    }

    fn pieces(&self) -> Vec<Piece> {
        match &self.streams {
            Streams::None => Vec::new(),
            Streams::Lzjb(s) => s.all(),
            Streams::Bzip2(s) => s.all(),
        }
    }

    /// The page of this index, and whatever comes with it at no cost.
    pub(super) fn pages(&self, page: u64, each: &mut dyn FnMut(u64, Result<Vec<u8>, Absent>)) {
        for run in &self.runs {
            let Some(n) = run.first.and_then(|first| page.checked_sub(first)).filter(|n| *n < run.pages) else {
                continue;
            };
            let block = run.locate(n, &mut Window::new(&*self.source));
            let bytes = block.and_then(|b| exact(&*self.source, b.at, b.length.to_usize()));
            each(page, bytes.map_or(Err(Absent::Truncated), |b| plzjb::expand(&b, self.page_size)));
            return;
        }
        // What the chain lost with the end of the file is cut off; what it lost before is damaged.
        let why = if self.ended { Absent::Corrupt } else { Absent::Truncated };
        match &self.streams {
            Streams::None => each(page, Err(why)),
            Streams::Lzjb(s) => {
                if let Err(e) = s.pages(page, each) {
                    each(page, Err(if e == Absent::Corrupt { why } else { e }));
                }
            }
            Streams::Bzip2(s) => each(page, s.page(page).map_err(|e| if e == Absent::Corrupt { why } else { e })),
        }
    }

    /// Ranges of indices below `total` that no block holds, without looking at the pages themselves.
    pub(super) fn unplaced(&self, total: u64) -> Vec<Range<u64>> {
        let mut held: Vec<Range<u64>> = self.pieces().iter().map(|p| p.page..p.page.saturating_add(p.pages)).collect();
        held.extend(self.runs.iter().filter_map(|r| Some(r.first?..r.first?.saturating_add(r.pages))));
        held.sort_by_key(|r| r.start);
        ranges::uncovered(&held, total)
    }

    /// Compares what all streams say; afterwards no page is read that two of them claim.
    pub(super) fn compare_streams(&self) {
        match &self.streams {
            Streams::None => {}
            Streams::Lzjb(s) => {
                s.together();
            }
            Streams::Bzip2(s) => {
                s.together();
            }
        }
    }
}

/// The mode the blocks themselves show.
fn seen(chain: &Chain, source: &dyn ReadAt) -> Option<Mode> {
    if chain.streams.is_empty() {
        return (!chain.runs.is_empty()).then_some(Mode::Serial);
    }
    // One damaged first block does not decide.
    chain.streams.values().find_map(|stream| {
        let block = stream.blocks.first()?;
        let head = exact(source, block.at, block.length.to_usize().min(10))?;
        if head.starts_with(ranges::MAGIC) {
            return Some(Mode::ParallelLzjb);
        }
        head.starts_with(b"BZh").then_some(Mode::ParallelBzip2)
    })
}
