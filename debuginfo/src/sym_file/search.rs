//! Finding a record without reading the file: bisection over the bytes of a part that is sorted.
//!
//! Every record on the way is compared with those before it on the way. Where one is not as it must be in a sorted part,
//! the answer is [`Unclear`], and an index of the part answers instead.

use super::index::{Entry, LIMIT_OVERLAP, LIMIT_SAME, key};
use super::text::{Fields, Kind, kind, line, line_start, looked_at};
use evidence::{ToU64, ToUsize};
use std::cell::Cell;
use std::ops::Range;

/// How far a probe looks for the next record of its kind. The lines of the largest generated functions take some
/// megabytes.
const LIMIT_PROBE: u64 = 8 << 20;
/// How far back the records before a place are looked for, for one question: 64 functions take some 100 KB.
const LIMIT_BACK: u64 = 4 << 20;
/// What is read at once on the way back.
const WINDOW: u64 = 16 << 10;

/// The part is not sorted, or not readable, or one record is larger than any real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// How the records of a kind begin, with the line feed before them.
pub(super) const fn first_words(kind: Kind) -> Option<&'static [u8]> {
    Some(match kind {
        Kind::Func => b"\nFUNC ",
        Kind::Public => b"\nPUBLIC ",
        Kind::CfiInit => b"\nSTACK CFI INIT ",
        Kind::StackWin => b"\nSTACK WIN ",
        Kind::File => b"\nFILE ",
        Kind::InlineOrigin => b"\nINLINE_ORIGIN ",
        _ => return None,
    })
}

/// Which records are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    /// Of `STACK WIN` only those with a program (4), or only the others.
    pub(super) program: Option<bool>,
}

impl Wanted {
    /// Whether all records that `other` means are meant.
    pub(super) fn includes(self, other: Self) -> bool {
        self.kind == other.kind && (self.program.is_none() || self.program == other.program)
    }
}

/// Whether a `STACK WIN` record has a program: 4 is `FrameData`; 0 (FPO), 1 (trap) and 2 (TSS) have the same fields, and
/// 3 (standard) as well.
pub(super) fn has_program(mut fields: Fields<'_>) -> Option<bool> {
    fields.word().map(|word| word == b"4")
}

/// The order of the sections of a file as most writers have it. Lines that mean nothing belong to none.
pub(super) const fn section(kind: Kind) -> Option<u8> {
    Some(match kind {
        Kind::Module | Kind::Info => 0,
        Kind::File => 1,
        Kind::InlineOrigin => 2,
        Kind::Func | Kind::Inline | Kind::Line => 3,
        Kind::Public => 4,
        Kind::StackWin => 5,
        Kind::CfiInit | Kind::CfiDelta => 6,
        Kind::Other => return None,
    })
}

/// A sorted part of a file, and what it holds.
#[derive(Debug)]
pub(super) struct Sorted<'f> {
    bytes: &'f [u8],
    range: Range<u64>,
    holds: Wanted,
    /// How many bytes were looked at.
    looked: Cell<u64>,
}

impl<'f> Sorted<'f> {
    pub(super) const fn new(bytes: &'f [u8], range: Range<u64>, holds: Wanted) -> Self {
        Self { bytes, range, holds, looked: Cell::new(0) }
    }

    /// How many bytes were looked at for all answers so far.
    pub(super) const fn looked(&self) -> u64 {
        self.looked.get()
    }

    fn look(&self, bytes: u64) {
        self.looked.set(self.looked.get().saturating_add(bytes));
        looked_at(bytes);
    }

    /// The record that covers `at`, as `index::covering` finds it: of several, the one that starts last; of those, the
    /// first of the file.
    pub(super) fn covering(&self, wanted: Wanted, at: u64) -> Result<Option<Entry>, Unclear> {
        let mut back = Back { part: self, wanted, left: LIMIT_BACK };
        let nearest = self.last_not_above(at)?;
        let mut last = back.from(nearest)?;
        for _ in 0..LIMIT_OVERLAP {
            let Some(entry) = last else { break };
            let (mut found, mut before) = (Some(entry).filter(|e| at < e.end), None);
            for n in 0_usize.. {
                before = back.before(before.unwrap_or(entry))?;
                let Some(same) = before.filter(|b| b.start == entry.start) else { break };
                if n >= LIMIT_SAME {
                    return Err(Unclear);
                }
                found = Some(same).filter(|e| at < e.end).or(found);
            }
            if found.is_some() {
                return Ok(found);
            }
            last = before;
        }
        self.check_behind(nearest, at)?;
        Ok(None)
    }

    /// The last record that does not start after `at`, as `index::nearest` finds it: of several of one start, the first
    /// of the file.
    pub(super) fn nearest(&self, wanted: Wanted, at: u64) -> Result<Option<Entry>, Unclear> {
        let mut back = Back { part: self, wanted, left: LIMIT_BACK };
        let nearest = self.last_not_above(at)?;
        self.check_behind(nearest, at)?;
        let Some(mut first) = back.from(nearest)? else { return Ok(None) };
        while let Some(same) = back.before(first)?.filter(|b| b.start == first.start) {
            first = same;
        }
        Ok(Some(first))
    }

    /// Looks at everything between the last record that does not start after `at` and the next one, which must. What is not
    /// known may stand there as a record of another kind: Breakpad's writer for Windows put `PUBLIC` between functions.
    fn check_behind(&self, nearest: Option<Entry>, at: u64) -> Result<(), Unclear> {
        let from = nearest.map_or(self.range.start, |n| n.at.saturating_add(1));
        let next = self.next(from, self.range.end, LIMIT_PROBE)?;
        if next.is_some_and(|n| n.start <= at) { Err(Unclear) } else { Ok(()) }
    }

    /// The last record whose start (or number) is not above `target`.
    fn last_not_above(&self, target: u64) -> Result<Option<Entry>, Unclear> {
        let (mut low, mut high) = (self.range.start, self.range.end);
        let (mut best, mut ceiling) = (None::<Entry>, u64::MAX);
        while low < high {
            let middle = low.midpoint(high);
            let Some(entry) = self.next(middle, high, LIMIT_PROBE)? else {
                high = middle;
                continue;
            };
            if entry.start > ceiling || best.is_some_and(|b| entry.start < b.start) {
                return Err(Unclear);
            }
            if entry.start <= target {
                low = entry.at.saturating_add(1);
                best = Some(entry);
            } else {
                (high, ceiling) = (middle, entry.start);
            }
        }
        Ok(best)
    }

    /// The first record whose line begins in `from..high`.
    pub(super) fn next(&self, from: u64, high: u64, limit: u64) -> Result<Option<Entry>, Unclear> {
        let mut at = line_start(self.bytes, from);
        let limit = from.saturating_add(limit);
        while at.to_u64() < high {
            let Some((text, next)) = line(self.bytes, at).filter(|_| at.to_u64() <= limit) else { return Err(Unclear) };
            self.looked.set(self.looked.get().saturating_add(next.to_u64().saturating_sub(at.to_u64())));
            if let Some(entry) = self.entry(self.holds, text, at.to_u64())? {
                return Ok(Some(entry));
            }
            at = next;
        }
        Ok(None)
    }

    /// The record in a line of the part, if it is one of those.
    fn entry(&self, wanted: Wanted, text: &[u8], at: u64) -> Result<Option<Entry>, Unclear> {
        let (found, fields) = kind(text);
        if found != self.holds.kind {
            let inside = section(found).is_none() || section(found) == section(self.holds.kind);
            return if inside { Ok(None) } else { Err(Unclear) };
        }
        if found == Kind::StackWin {
            let program = has_program(fields);
            if program.is_none() || self.holds.program.is_some_and(|held| program != Some(held)) {
                return Err(Unclear);
            }
            if wanted.program.is_some_and(|wanted| program != Some(wanted)) {
                return Ok(None);
            }
        }
        key(found, fields).map(|(start, end)| Some(Entry { start, end, at })).ok_or(Unclear)
    }
}

/// The way back through a part.
struct Back<'p, 'f> {
    part: &'p Sorted<'f>,
    wanted: Wanted,
    left: u64,
}

impl Back<'_, '_> {
    /// `entry`, or the first before it that is one of those wanted.
    fn from(&mut self, entry: Option<Entry>) -> Result<Option<Entry>, Unclear> {
        let Some(entry) = entry else { return Ok(None) };
        let text = line(self.part.bytes, entry.at.to_usize()).ok_or(Unclear)?.0;
        match self.part.entry(self.wanted, text, entry.at)? {
            Some(entry) => Ok(Some(entry)),
            None => self.before(entry),
        }
    }

    /// The last record wanted before `entry`.
    fn before(&mut self, entry: Entry) -> Result<Option<Entry>, Unclear> {
        let first_words = first_words(self.wanted.kind).ok_or(Unclear)?;
        // The line feed that ends the line before is where a line is known by.
        let lowest = self.part.range.start.saturating_sub(1);
        let mut end = entry.at;
        while end > lowest {
            let start = end.saturating_sub(WINDOW).max(lowest);
            // What lies across the windows' border belongs to the second.
            let reach = end.saturating_add(first_words.len().saturating_sub(1).to_u64()).min(entry.at);
            let window = self.part.bytes.get(start.to_usize()..reach.to_usize()).ok_or(Unclear)?;
            let found = memchr::memmem::rfind(window, first_words).map(|n| start.saturating_add(n.to_u64()));
            let passed = end.saturating_sub(found.unwrap_or(start));
            self.part.look(passed);
            self.left = self.left.checked_sub(passed).ok_or(Unclear)?;
            let Some(found) = found else {
                end = start;
                continue;
            };
            let at = found.saturating_add(1);
            let text = line(self.part.bytes, at.to_usize()).ok_or(Unclear)?.0;
            match self.part.entry(self.wanted, text, at)? {
                Some(before) if before.start > entry.start => return Err(Unclear),
                Some(before) => return Ok(Some(before)),
                None => end = found,
            }
        }
        Ok(None)
    }
}
