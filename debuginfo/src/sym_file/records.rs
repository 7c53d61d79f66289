//! Where the record for an address or a number is: by bisection where the file is sorted, else by an index of the part
//! that is not, or of the whole file.

use super::Effort;
use super::index::{Entry, Index, covering, nearest};
use super::order::{Part, parts};
use super::search::{Sorted, Unclear, Wanted};
use super::text::Kind;
use crate::map::FileBytes;
use evidence::ToU64;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const FUNCTIONS: Wanted = Wanted { kind: Kind::Func, program: None };
pub(super) const PUBLICS: Wanted = Wanted { kind: Kind::Public, program: None };
pub(super) const RULES: Wanted = Wanted { kind: Kind::CfiInit, program: None };
pub(super) const PROGRAMS: Wanted = Wanted { kind: Kind::StackWin, program: Some(true) };
pub(super) const FPO: Wanted = Wanted { kind: Kind::StackWin, program: Some(false) };
pub(super) const FILES: Wanted = Wanted { kind: Kind::File, program: None };
pub(super) const ORIGINS: Wanted = Wanted { kind: Kind::InlineOrigin, program: None };

/// The records of one file, as far as anything is known of them yet.
#[derive(Debug, Default)]
pub(super) struct Records {
    effort: Effort,
    /// `None` when the file is small, or its parts cannot be told from each other.
    parts: OnceLock<Option<Vec<Part>>>,
    /// The parts turned out not to be what the samples said.
    broken: AtomicBool,
    whole: OnceLock<Index>,
}

/// What is asked of a sorted part, and of a list.
type Bisect = fn(&Sorted<'_>, Wanted, u64) -> Result<Option<Entry>, Unclear>;
type Listed = fn(&[Entry], u64) -> Option<&Entry>;

impl Records {
    pub(super) fn new(effort: Effort) -> Self {
        Self { effort, ..Self::default() }
    }

    /// The record that covers `at`: of several, the one that starts last; of those, the first of the file.
    pub(super) fn covering(&self, bytes: &FileBytes, wanted: Wanted, at: u64, tell: Tell<'_>) -> Option<Entry> {
        self.ask(bytes, wanted, at, tell, (|part, wanted, at| part.covering(wanted, at), covering))
    }

    /// The last record that does not start after `at`; of several of one start, the first of the file.
    pub(super) fn nearest(&self, bytes: &FileBytes, wanted: Wanted, at: u64, tell: Tell<'_>) -> Option<Entry> {
        self.ask(bytes, wanted, at, tell, (|part, wanted, at| part.nearest(wanted, at), nearest))
    }

    fn ask(
        &self,
        bytes: &FileBytes,
        wanted: Wanted,
        at: u64,
        tell: Tell<'_>,
        (bisect, listed): (Bisect, Listed),
    ) -> Option<Entry> {
        let small = bytes.len().to_u64() <= self.effort.whole;
        let arranged = self.parts.get_or_init(|| if small { None } else { parts(bytes, &self.effort) });
        if let Some(parts) = arranged.as_ref().filter(|_| !self.broken.load(Ordering::Relaxed)) {
            let part = parts.iter().find(|p| p.holds.includes(wanted))?;
            if let Ok(answer) = self.ask_part(bytes, part, (wanted, at), tell, (bisect, listed)) {
                return answer;
            }
            self.broken.store(true, Ordering::Relaxed);
        }
        let whole = self.whole.get_or_init(|| index(bytes, 0..bytes.len().to_u64(), None, tell));
        listed(whole.list(wanted), at).copied()
    }

    fn ask_part(
        &self,
        bytes: &FileBytes,
        part: &Part,
        (wanted, at): (Wanted, u64),
        tell: Tell<'_>,
        (bisect, listed): (Bisect, Listed),
    ) -> Result<Option<Entry>, Unclear> {
        // Many questions together look at more than an index would.
        let enough = part.length().saturating_mul(self.effort.rounds);
        if part.sorted && part.index.get().is_none() && part.looked.load(Ordering::Relaxed) <= enough {
            let sorted = Sorted::new(bytes, part.range.clone(), part.holds);
            let answer = bisect(&sorted, wanted, at);
            part.looked.fetch_add(sorted.looked(), Ordering::Relaxed);
            return answer;
        }
        let index = part.index.get_or_init(|| index(bytes, part.range.clone(), Some(part.holds.kind), tell));
        if index.foreign { Err(Unclear) } else { Ok(listed(index.list(wanted), at).copied()) }
    }

    /// How much of the file was indexed.
    #[cfg(test)]
    pub(super) fn indexed(&self) -> u64 {
        let parts = self.parts.get().and_then(Option::as_ref);
        let parts = parts.into_iter().flatten().filter(|p| p.index.get().is_some());
        parts.map(Part::length).sum::<u64>() + self.whole.get().map_or(0, |_| u64::MAX / 2)
    }
}

/// Where to say what is wrong with a file.
type Tell<'t> = &'t dyn Fn(String);

/// The index of a part, and what is wrong in it.
fn index(bytes: &FileBytes, range: Range<u64>, only: Option<Kind>, tell: Tell<'_>) -> Index {
    let index = Index::build(bytes, range, only);
    if let Some(at) = index.first_damaged {
        tell(format!("{} records cannot be read, the first at offset {at:#x}", index.damaged));
    }
    if index.dropped > 0 {
        tell(format!("{} records are more than is kept of one kind", index.dropped));
    }
    index
}

#[cfg(test)]
mod tests;
