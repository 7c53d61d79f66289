//! The files that `makedumpfile --split` writes: one dump in parts, each with the pages of its own range.
//!
//! Headers and bitmaps are complete in each part (makedumpfile's `IMPLEMENTATION`; `split`, `start_pfn_64` and
//! `end_pfn_64` of the sub header say which pages are there).

use super::kdump::Kdump;
use crate::Error;
use crate::machine::Physical;
use evidence::{Absent, Doubt};
use std::ops::Range;
use std::path::PathBuf;

/// Parts in the order of their pages.
pub(super) struct Parts {
    parts: Vec<Kdump>,
}

impl Parts {
    /// Puts parts together.
    ///
    /// # Errors
    /// One of them is no part, is of another dump, or has pages that another has, too.
    pub(super) fn new(mut named: Vec<(PathBuf, Kdump)>, doubts: &mut Vec<Doubt>) -> Result<Self, Error> {
        let refuse = |path: &PathBuf, what: String| Err(Error::Unsupported { path: path.clone(), what });
        named.sort_by_key(|(_, part)| part.range().start);
        let mut next = 0;
        for (index, (path, part)) in named.iter().enumerate() {
            if !part.is_part() {
                return refuse(path, "a dump by itself, not a part that makedumpfile --split wrote".to_owned());
            }
            let before = index.checked_sub(1).and_then(|index| named.get(index));
            if before.is_some_and(|(_, other)| !other.same_dump(part)) {
                return refuse(path, "a part of another dump: its bitmaps or VMCOREINFO are not the same".to_owned());
            }
            let range = part.range();
            if range.start < next {
                return refuse(path, format!("a part with pages from {:#x} on, which another part has", range.start));
            }
            if part.holds(next..range.start) {
                doubts.push(missing(next, range.start));
            }
            next = range.end;
        }
        if let Some((_, part)) = named.last()
            && part.holds(next..u64::MAX)
        {
            doubts.push(missing(next, u64::MAX));
        }
        Ok(Self { parts: named.into_iter().map(|(_, part)| part).collect() })
    }
}

/// What is said of pages that are in no part at hand.
pub(super) fn missing(from: u64, to: u64) -> Doubt {
    let range = if to == u64::MAX { format!("{from:#x} on") } else { format!("{from:#x} to {to:#x}") };
    let why = format!("pages from {range} are in parts of the dump that were not given (--part FILE)");
    Doubt::new("kdump", why)
}

impl Physical for Parts {
    fn page_size(&self) -> u64 {
        self.parts.first().map_or(4096, Physical::page_size)
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
        let found = self.parts.iter().find(|part| part.range().contains(&number)).or_else(|| self.parts.first());
        found.map_or(Err(Absent::Truncated), |part| part.page(number))
    }

    fn runs(&self) -> Vec<Range<u64>> {
        self.parts.first().map(Physical::runs).unwrap_or_default()
    }
}
