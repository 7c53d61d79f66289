//! How a symbol file is arranged, found out by samples.
//!
//! Nothing says that a file is sorted. Functions and `PUBLIC` symbols nearly always are; `STACK CFI` stands in the order
//! of `.eh_frame` in the files that Breakpad's `dump_syms` makes of ELF files, and `STACK WIN` and `PUBLIC` in that of
//! the program database in older ones. To say that a file does *not* know an address, without reading the whole of it,
//! needs the order; so it is looked at in places all over the file: all lines of one kind must lie in one part, and the
//! records at and behind the places must be sorted over the whole part. That finds anything that is out of order over
//! more than a thousandth of the file. A part that is not sorted is indexed, and small ones are anyhow; when the parts
//! themselves are not to be told from each other, the whole file is.

use super::Effort;
use super::index::Index;
use super::search::{Sorted, Unclear, Wanted, has_program, section};
use super::text::{Kind, kind, line, line_start};
use crate::map::FileBytes;
use evidence::ToU64;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// How far lines that mean nothing are passed by.
const LIMIT_FILLING: u64 = 64 << 10;
/// How far a sample looks for the records that it compares.
const LIMIT_SAMPLE: u64 = 1 << 20;
/// Records compared at both ends of a part, where other tools' additions are.
const ENDS: usize = 32;
/// The lines of this many bytes at the end of the file are samples, each of them.
const TAIL: u64 = 4096;

/// One part of a file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<u64>,
    pub(super) holds: Wanted,
    /// Whether its records are sorted, as far as samples tell.
    pub(super) sorted: bool,
    /// How many bytes were looked at for answers.
    pub(super) looked: AtomicU64,
    /// What is in it, when it had to be read.
    pub(super) index: OnceLock<Index>,
}

impl Part {
    const fn new(range: Range<u64>, holds: Wanted) -> Self {
        Self { range, holds, sorted: false, looked: AtomicU64::new(0), index: OnceLock::new() }
    }

    /// How many bytes it has.
    pub(super) const fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// A line that a sample found.
#[derive(Clone, Copy)]
struct Sample {
    at: u64,
    kind: Kind,
    program: Option<bool>,
}

/// The parts of a file, if it has such.
pub(super) fn parts(bytes: &FileBytes, effort: &Effort) -> Option<Vec<Part>> {
    let samples = samples(bytes, effort).ok()?;
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    while let Some(first) = sample(bytes, at).ok()? {
        let same = |s: &Sample| section(s.kind) == section(first.kind);
        let known = samples.iter().rposition(|s| same(s) && s.at >= first.at);
        let lower = known.and_then(|n| samples.get(n)).map_or(first.at, |s| s.at);
        let upper = samples.iter().find(|s| s.at > lower).map_or(bytes.len().to_u64(), |s| s.at);
        let end = first_other(bytes, lower, upper, |s| same(s))?;
        let within = |s: &&Sample| s.at >= first.at && s.at < end;
        if !samples.iter().filter(within).all(same)
            || parts.iter().any(|p| section(p.holds.kind) == section(first.kind))
        {
            return None;
        }
        let kind = match first.kind {
            Kind::Inline | Kind::Line => Kind::Func,
            Kind::CfiDelta => Kind::CfiInit,
            kind => kind,
        };
        parts.push(Part::new(first.at..end, Wanted { kind, program: None }));
        at = end;
    }
    let mut all = Vec::with_capacity(parts.len());
    for mut part in parts {
        if part.length() > effort.part && section(part.holds.kind) != Some(0) {
            part.sorted = is_sorted(bytes, &part, &samples).ok()?;
            if !part.sorted
                && part.holds.kind == Kind::StackWin
                && let Some(halves) = by_program(bytes, &part, &samples)
            {
                all.extend(halves);
                continue;
            }
        }
        all.push(part);
    }
    if bytes.len().to_u64() > effort.whole.max(TAIL) {
        // The pages of so many places are more than all answers need.
        bytes.release(bytes);
    }
    Some(all)
}

/// Lines all over the file, in its order.
fn samples(bytes: &[u8], effort: &Effort) -> Result<Vec<Sample>, Unclear> {
    let length = bytes.len().to_u64();
    let apart = length.checked_div(effort.samples).unwrap_or(0).max(effort.apart).max(1);
    let tail = length.saturating_sub(TAIL);
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(found) = sample(bytes, from)? {
        all.push(found);
        from = from.saturating_add(apart).min(tail).max(found.at.saturating_add(1));
    }
    Ok(all)
}

/// The first line with a meaning that begins at or behind `from`.
fn sample(bytes: &[u8], from: u64) -> Result<Option<Sample>, Unclear> {
    let mut at = line_start(bytes, from);
    let limit = from.saturating_add(LIMIT_FILLING);
    while let Some((text, next)) = line(bytes, at) {
        let (kind, fields) = kind(text);
        if kind != Kind::Other {
            let program = if kind == Kind::StackWin { has_program(fields) } else { None };
            return Ok(Some(Sample { at: at.to_u64(), kind, program }));
        }
        if at.to_u64() > limit {
            return Err(Unclear);
        }
        at = next;
    }
    Ok(None)
}

/// Where the first line is that is not `same`, behind the line at `lower`, which is. The line at `upper` is not.
fn first_other(bytes: &[u8], lower: u64, upper: u64, same: impl Fn(&Sample) -> bool) -> Option<u64> {
    let (mut low, mut high) = (lower.saturating_add(1), upper);
    while low < high {
        let middle = low.midpoint(high);
        match sample(bytes, middle).ok()? {
            Some(found) if found.at < upper && same(&found) => low = found.at.saturating_add(1),
            _ => high = middle,
        }
    }
    let found = sample(bytes, low).ok()?;
    Some(found.map_or(bytes.len().to_u64(), |s| s.at))
}

/// Whether the records are sorted: those at the samples and behind them, and those at both ends.
fn is_sorted(bytes: &[u8], part: &Part, samples: &[Sample]) -> Result<bool, Unclear> {
    let sorted = Sorted::new(bytes, part.range.clone(), part.holds);
    let end = part.range.end;
    let mut last = None;
    let mut compare = |from: u64, count: usize| -> Result<bool, Unclear> {
        let mut from = from;
        for _ in 0..count {
            let Some(entry) = sorted.next(from, end, LIMIT_SAMPLE)? else { break };
            if last.is_some_and(|(at, start)| entry.at > at && entry.start < start) {
                return Ok(false);
            }
            if last.is_none_or(|(at, _)| entry.at > at) {
                last = Some((entry.at, entry.start));
            }
            from = entry.at.saturating_add(1);
        }
        Ok(true)
    };
    if !compare(part.range.start, ENDS)? {
        return Ok(false);
    }
    for sample in samples.iter().filter(|s| part.range.contains(&s.at)) {
        if !compare(sample.at, 2)? {
            return Ok(false);
        }
    }
    compare(end.saturating_sub(TAIL).max(part.range.start), usize::MAX)
}

/// The `STACK WIN` records with programs and those without, where each kind is sorted for itself.
fn by_program(bytes: &[u8], part: &Part, samples: &[Sample]) -> Option<[Part; 2]> {
    let within: Vec<&Sample> = samples.iter().filter(|s| part.range.contains(&s.at)).collect();
    let first = sample(bytes, part.range.start).ok()??;
    let same = |s: &Sample| s.program == first.program && s.kind == Kind::StackWin;
    let lower = within.iter().rposition(|s| same(s)).and_then(|n| within.get(n)).map_or(first.at, |s| s.at);
    let upper = within.iter().find(|s| s.at > lower).map_or(part.range.end, |s| s.at);
    let border = first_other(bytes, lower, upper, same)?;
    let program = first.program?;
    let half = |range: Range<u64>, program: bool| {
        let mut half = Part::new(range, Wanted { program: Some(program), ..part.holds });
        half.sorted = is_sorted(bytes, &half, samples).unwrap_or(false);
        half
    };
    let halves = [half(part.range.start..border, program), half(border..part.range.end, !program)];
    halves.iter().all(|h| h.sorted).then_some(halves)
}
