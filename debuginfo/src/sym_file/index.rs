//! Where every record is: one pass over the file or a part of it, made only when it cannot be avoided.

use super::search::{Wanted, first_words, has_program};
use super::text::{Fields, Kind, flagged, kind, line, line_start, looked_at};
use crate::map::FileBytes;
use crate::parallel::parallel;
use evidence::{ToU64, ToUsize};
use std::ops::Range;

/// Most records of one kind that are kept. Chromium's largest symbol files hold two million functions and four million
/// `STACK CFI INIT` records.
const LIMIT_RECORDS: usize = 16 << 20;
/// Most starts of overlapping ranges that are looked at for one address. Real overlaps are a few deep.
pub(super) const LIMIT_OVERLAP: usize = 64;
/// Most records of one start that are looked at. Linkers fold some hundred identical functions into one.
pub(super) const LIMIT_SAME: usize = 4096;
/// How records begin that are looked for by their places.
const RECORDS: [&[u8]; 6] =
    [b"\nFUNC ", b"\nPUBLIC ", b"\nSTACK CFI ", b"\nSTACK WIN ", b"\nFILE ", b"\nINLINE_ORIGIN "];
/// Bytes that one piece of the pass covers.
const PIECE: u64 = 8 << 20;

/// A record of an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    /// First address behind it; for `PUBLIC`, which has no size, the start.
    pub(super) end: u64,
    /// Offset of its line.
    pub(super) at: u64,
}

/// The index of one file. All lists are sorted by start (or number), records of one start in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) functions: Vec<Entry>,
    pub(super) publics: Vec<Entry>,
    pub(super) cfi: Vec<Entry>,
    pub(super) frame_data: Vec<Entry>,
    pub(super) fpo: Vec<Entry>,
    pub(super) files: Vec<Entry>,
    pub(super) origins: Vec<Entry>,
    /// Records that could not be read, and the offset of the first.
    pub(super) damaged: u64,
    pub(super) first_damaged: Option<u64>,
    /// Records beyond the limits.
    pub(super) dropped: u64,
    /// There are records of a kind that was not to be there.
    pub(super) foreign: bool,
}

impl Index {
    /// Reads all lines that begin in `range`; when `only` is given, those are the only records there.
    pub(super) fn build(bytes: &FileBytes, range: Range<u64>, only: Option<Kind>) -> Self {
        let length = range.end.saturating_sub(range.start);
        let piece = |n: u64| range.start.saturating_add(n.saturating_mul(PIECE)).min(range.end);
        let pieces: Vec<Range<u64>> =
            (0..length.div_ceil(PIECE)).map(|n| piece(n)..piece(n.saturating_add(1))).collect();
        let parts = parallel(&pieces, |piece| {
            let part = match only.and_then(first_words) {
                Some(words) => Self::of_records(bytes, piece.clone(), words),
                None => Self::of_piece(bytes, piece.clone()),
            };
            if let Some(done) = bytes.get(piece.start.to_usize()..piece.end.to_usize())
                && length > PIECE
            {
                bytes.release(done);
            }
            part
        });
        let mut all = Self::default();
        for part in parts {
            all.append(part);
        }
        for list in all.lists() {
            // Stable: of two records of one start, the first of the file is the first of the list.
            list.sort_by_key(|e| e.start);
        }
        all
    }

    const fn lists(&mut self) -> [&mut Vec<Entry>; 7] {
        [
            &mut self.functions,
            &mut self.publics,
            &mut self.cfi,
            &mut self.frame_data,
            &mut self.fpo,
            &mut self.files,
            &mut self.origins,
        ]
    }

    /// The records that are wanted; none of a kind that is not looked for by its place.
    pub(super) fn list(&self, wanted: Wanted) -> &[Entry] {
        match (wanted.kind, wanted.program) {
            (Kind::Func, _) => &self.functions,
            (Kind::Public, _) => &self.publics,
            (Kind::CfiInit, _) => &self.cfi,
            (Kind::StackWin, Some(true)) => &self.frame_data,
            (Kind::StackWin, Some(false)) => &self.fpo,
            (Kind::File, _) => &self.files,
            (Kind::InlineOrigin, _) => &self.origins,
            _ => &[],
        }
    }

    fn append(&mut self, mut other: Self) {
        let mut dropped = 0_u64;
        for (mine, theirs) in self.lists().into_iter().zip(other.lists()) {
            let room = LIMIT_RECORDS.saturating_sub(mine.len());
            dropped = dropped.saturating_add(theirs.len().saturating_sub(room).to_u64());
            theirs.truncate(room);
            mine.append(theirs);
        }
        self.dropped = self.dropped.saturating_add(dropped).saturating_add(other.dropped);
        self.damaged = self.damaged.saturating_add(other.damaged);
        self.first_damaged = self.first_damaged.or(other.first_damaged);
        self.foreign |= other.foreign;
    }

    /// The records whose lines begin in `piece`.
    fn of_piece(bytes: &[u8], piece: Range<u64>) -> Self {
        let mut index = Self::default();
        let mut at = line_start(bytes, piece.start);
        while at.to_u64() < piece.end
            && let Some((text, next)) = line(bytes, at)
        {
            index.add_line(text, at);
            at = next;
        }
        index
    }

    /// As [`Index::of_piece`], where all records begin with these words: the lines between are not looked at one by one.
    fn of_records(bytes: &[u8], piece: Range<u64>, words: &[u8]) -> Self {
        let mut index = Self::default();
        // From the line feed before the first line that may begin here, to the words of the last.
        let from = piece.start.saturating_sub(1).to_usize();
        let window = |words: &[u8]| {
            let to = piece.end.to_usize().saturating_add(words.len()).saturating_sub(2).min(bytes.len());
            bytes.get(from..to).unwrap_or_default()
        };
        looked_at(window(words).len().to_u64());
        let mut others = RECORDS.iter().filter(|other| !words.starts_with(other));
        index.foreign = others.any(|other| memchr::memmem::find(window(other), other).is_some());
        for found in memchr::memmem::find_iter(window(words), words) {
            let at = from.saturating_add(found).saturating_add(1);
            if let Some((text, _)) = line(bytes, at) {
                index.add_line(text, at);
            }
        }
        index
    }

    fn add_line(&mut self, text: &[u8], at: usize) {
        let (kind, fields) = kind(text);
        if self.add(kind, fields, at.to_u64()).is_none() {
            self.damaged = self.damaged.saturating_add(1);
            self.first_damaged = self.first_damaged.or(Some(at.to_u64()));
        }
    }

    fn add(&mut self, kind: Kind, fields: Fields<'_>, at: u64) -> Option<()> {
        let list = match kind {
            Kind::Func => &mut self.functions,
            Kind::Public => &mut self.publics,
            Kind::CfiInit => &mut self.cfi,
            Kind::StackWin => {
                if has_program(fields)? {
                    &mut self.frame_data
                } else {
                    &mut self.fpo
                }
            }
            Kind::File => &mut self.files,
            Kind::InlineOrigin => &mut self.origins,
            _ => return Some(()),
        };
        let (start, end) = key(kind, fields)?;
        if list.len() < LIMIT_RECORDS {
            list.push(Entry { start, end, at });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
        Some(())
    }
}

/// The range, or the number, that a record is found by.
pub(super) fn key(kind: Kind, mut fields: Fields<'_>) -> Option<(u64, u64)> {
    match kind {
        Kind::Func => {
            let (_, start) = flagged(&mut fields)?;
            Some((start, start.checked_add(fields.hex()?)?))
        }
        Kind::Public => flagged(&mut fields).map(|(_, start)| (start, start)),
        Kind::CfiInit => {
            let start = fields.hex()?;
            Some((start, start.checked_add(fields.hex()?)?))
        }
        Kind::StackWin => {
            fields.word()?;
            let start = fields.hex()?;
            Some((start, start.checked_add(fields.hex()?)?))
        }
        Kind::File | Kind::InlineOrigin => fields.decimal().map(|n| (n, n)),
        _ => None,
    }
}

/// The record that covers `at`: of several, the one that starts last; of those, the first of the file.
pub(super) fn covering(list: &[Entry], at: u64) -> Option<&Entry> {
    let mut end = list.partition_point(|e| e.start <= at);
    for _ in 0..LIMIT_OVERLAP {
        let start = list.get(end.checked_sub(1)?)?.start;
        let first = list.partition_point(|e| e.start < start);
        let same = list.get(first..end)?;
        if let Some(found) = same.iter().take(LIMIT_SAME).find(|e| at < e.end) {
            return Some(found);
        }
        end = first;
    }
    None
}

/// The last record that does not start after `at`; of several of one start, the first of the file.
pub(super) fn nearest(list: &[Entry], at: u64) -> Option<&Entry> {
    let end = list.partition_point(|e| e.start <= at);
    let start = list.get(end.checked_sub(1)?)?.start;
    list.get(list.partition_point(|e| e.start < start))
}
