//! A bounded list of things that failed without ending the operation.

use crate::Addr;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many doubts one operation keeps. A damaged source can fail a million times in the same way; a person reads the
/// first hundreds, and the rest is counted.
pub const LIMIT_DOUBTS: usize = 1024;

/// Something failed or looked wrong, and the operation went on. Ordered by key, address, text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// What was being done, as a stable short key such as `"note"` or `"stack-read"`.
    pub what: &'static str,
    /// Where, when it has an address (or a file offset, which `why` then says).
    pub at: Option<Addr>,
    /// What happened, for a person: expected, found, and what follows from it.
    pub why: Box<str>,
}

impl Doubt {
    /// A doubt without an address.
    #[must_use]
    pub fn new(what: &'static str, why: impl Into<Box<str>>) -> Self {
        Self { what, at: None, why: why.into() }
    }

    /// A doubt about the bytes at `at`.
    #[must_use]
    pub fn at(what: &'static str, at: Addr, why: impl Into<Box<str>>) -> Self {
        Self { what, at: Some(at), why: why.into() }
    }
}

/// Collects doubts from many threads, keeps each distinct one once, and never more than [`LIMIT_DOUBTS`].
#[derive(Debug, Default)]
pub struct Doubts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: BTreeSet<Doubt>,
    dropped: u64,
}

impl Doubts {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a doubt, unless the same one is already there or the list is full (then it is counted).
    pub fn push(&self, doubt: Doubt) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.kept.contains(&doubt) {
            return;
        }
        if inner.kept.len() < LIMIT_DOUBTS {
            inner.kept.insert(doubt);
        } else {
            inner.dropped = inner.dropped.saturating_add(1);
        }
    }

    /// Adds many.
    pub fn extend(&self, doubts: impl IntoIterator<Item = Doubt>) {
        for doubt in doubts {
            self.push(doubt);
        }
    }

    /// All doubts in a stable order (by key, address, text); the last one says how many did not fit.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Doubt> {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut kept: Vec<Doubt> = inner.kept.into_iter().collect();
        if inner.dropped > 0 {
            kept.push(Doubt::new(
                "doubts",
                format!("{} more doubts were not kept (limit {LIMIT_DOUBTS})", inner.dropped),
            ));
        }
        kept
    }

    /// A sorted copy of what was collected so far.
    #[must_use]
    pub fn sorted(&self) -> Vec<Doubt> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = Doubts { inner: Mutex::new(Inner { kept: inner.kept.clone(), dropped: inner.dropped }) };
        drop(inner);
        copy.into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_bounded_and_sorted() {
        let doubts = Doubts::new();
        doubts.push(Doubt::new("z", "late"));
        doubts.push(Doubt::new("z", "late"));
        for n in 0..LIMIT_DOUBTS + 5 {
            doubts.push(Doubt::at("a", Addr(u64::try_from(n).unwrap()), "x"));
        }
        let list = doubts.into_sorted();
        assert_eq!(list.len(), LIMIT_DOUBTS + 1);
        assert_eq!(list[0].at, Some(Addr(0)));
        assert!(list.last().unwrap().why.contains("6 more"));
    }
}
