//! The compressed pages of a dump by their index, whichever way they were compressed.

use super::chain::{self, Bounds, Chain, Gap, Run};
use super::contents::Contents;
use super::dumphdr::DataHeader;
use super::ranges::{self, Piece};
use super::window::Window;
use super::{pbzip2, plzjb, settle};
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
            pages: if section.complete { section.total } else { 0 },
        };
        let level = header.map(|h| h.level);
        let (page_size, longest, end) = (section.page_size, bounds.longest, section.end);
        let contents = Contents { source: &*source, page_size, level, longest, end };
        let mut window = Window::new(&*source);
        let chain = chain::walk(&mut window, section.start, &bounds, &contents);
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
        let Chain { mut runs, streams, mut gaps, ended, blocks, .. } = chain;
        let (list, serial) = match mode {
            Mode::Serial => (Vec::new(), None),
            Mode::ParallelLzjb => settle::settle(streams, &mut gaps, &settle::Lzjb::new(&*source, section.page_size)),
            Mode::ParallelBzip2 => settle::settle(streams, &mut gaps, &pbzip2::Joints::new(&*source)),
        };
        if let Some(run) = serial.and_then(|at| chain::run(&mut Window::new(&*source), at, &bounds)) {
            runs.push(run);
        }
        // Pages of tag 0 follow those of the streams; their number is certain when no damage may hide some.
        let serial = runs.iter().fold(0_u64, |sum, r| sum.saturating_add(r.pages));
        let certain = section.complete && !runs.iter().any(|r| r.resumed) && (ended || gaps.is_empty());
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
    /// the end mark follows and all pages were written. Where the pages lost are as many as the damaged places, each
    /// place lost one.
    fn place_runs(&mut self, section: &Section) {
        let serial = matches!(self.streams, Streams::None);
        let begins = if serial {
            self.runs.first().filter(|r| !r.resumed).map(|_| 0)
        } else if section.complete && self.gaps.is_empty() {
            None
        } else {
            // Behind the last page of the streams, if none of their headers is missing.
            let start = self.runs.first().filter(|r| !r.resumed).and_then(Run::start);
            let whole = start.is_some_and(|at| self.gaps.iter().all(|g| g.range.start >= at || g.accounted()));
            // A partial dump lacks ranges, and the last one of all may be among them, unless the pages fill it up. Zeros
            // where more data should come are an end mark that comes early, and a part may be missing before it, or they
            // are what is left of more pages.
            let pages = self.runs.iter().fold(0_u64, |sum, r| sum.saturating_add(r.pages));
            let zeros = self.gaps.last().is_some_and(|g| g.word == 0 && g.range.start.saturating_add(4) <= section.end);
            let end = whole.then(|| self.pieces_end());
            let complete = section.complete && (self.ended || !zeros);
            end.filter(|end| complete || end.checked_add(pages) == Some(section.total))
        };
        let lost = section.total.checked_sub(self.runs.iter().fold(0, |sum: u64, r| sum.saturating_add(r.pages)));
        let resumed = self.runs.iter().filter(|r| r.resumed).count();
        let single = serial && section.complete && self.ended && lost == u64::try_from(resumed).ok();
        let mut next = begins.or_else(|| single.then_some(0));
        for run in &mut self.runs {
            if run.resumed {
                next = next.filter(|_| single).and_then(|n| n.checked_add(1));
            }
            run.first = next;
            next = next.and_then(|n| n.checked_add(run.pages));
        }
        if !self.ended || !section.complete || next.is_some() {
            // A dump without a hole in its chain may still be shorter than its table of pages.
            if next.is_some_and(|n| n > section.total) {
                self.runs.iter_mut().for_each(|r| r.first = None);
            }
            return;
        }
        // Pages inside of a lost block of a stream look like blocks of their own. In the last block they are pages of
        // the last range, whose header, if it is known, says where the pages of streams end.
        if !serial && self.runs.first().is_some_and(|r| r.resumed) {
            let least = self.pieces_end();
            self.runs.iter_mut().for_each(|r| r.least = least);
        }
        // Runs that would claim a page twice are placed wrongly, one of them or both.
        let reach = self.runs.iter().filter_map(|r| r.first?.checked_add(r.pages)).max().unwrap_or(0);
        let mut end = Some(section.total);
        for run in self.runs.iter_mut().rev() {
            let first = end.and_then(|e| e.checked_sub(run.pages)).filter(|first| *first >= reach);
            if first.is_none() || run.first.is_some() {
                return;
            }
            run.first = first;
            end = first.filter(|_| !run.resumed);
        }
    }

    /// The first index behind all ranges of the streams.
    fn pieces_end(&self) -> u64 {
        match &self.streams {
            Streams::None => 0,
            Streams::Lzjb(s) => s.end(),
            Streams::Bzip2(s) => s.end(),
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
            let Some(n) =
                run.first.and_then(|first| page.checked_sub(first)).filter(|n| *n < run.pages && page >= run.least)
            else {
                continue;
            };
            let block = run.locate(n, &mut Window::new(&*self.source));
            let bytes = block.and_then(|b| exact(&*self.source, b.at, b.length.to_usize()));
            let why = if run.measured.is_some() { Absent::Corrupt } else { Absent::Truncated };
            each(page, bytes.map_or(Err(why), |b| plzjb::expand(&b, self.page_size)));
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
        held.extend(self.runs.iter().filter_map(|r| Some(r.first?.max(r.least)..r.first?.saturating_add(r.pages))));
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
