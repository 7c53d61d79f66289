//! Failures that can be switched on: the n-th read fails, or every read from the n-th on.

use crate::{
    Absent, Addr, Attribute, Event, Extent, Gaps, Identity, ImageHint, ImageSymbols, Machine, Mapping, Memory,
    ModuleId, Note, OpenFile, Target, Thread,
};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Decorates a [`Memory`] so that chosen reads fail with a chosen reason.
pub struct Faulty<'m> {
    inner: &'m dyn Memory,
    count: AtomicU64,
    fails: Range<u64>,
    why: Absent,
    none: Vec<Extent>,
    hide_extents: bool,
}

impl<'m> Faulty<'m> {
    /// The reads numbered `fails` (from 0) fail with `why`; views never succeed, so that every access is counted.
    #[must_use]
    pub const fn new(inner: &'m dyn Memory, fails: Range<u64>, why: Absent) -> Self {
        Self { inner, count: AtomicU64::new(0), fails, why, none: Vec::new(), hide_extents: false }
    }

    /// How many reads were made so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The source also claims nothing about its extents.
    #[must_use]
    pub const fn without_extents(mut self) -> Self {
        self.hide_extents = true;
        self
    }
}

impl Memory for Faulty<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        if self.fails.contains(&n) { (0, Some(self.why)) } else { self.inner.read(at, into) }
    }

    fn extents(&self) -> &[Extent] {
        if self.hide_extents { &self.none } else { self.inner.extents() }
    }
}

/// A whole [`Target`] whose memory is [`Faulty`].
pub struct FaultyTarget<'t> {
    inner: &'t dyn Target,
    memory: Faulty<'t>,
}

impl<'t> FaultyTarget<'t> {
    /// As [`Faulty::new`], over the memory of `inner`.
    #[must_use]
    pub fn new(inner: &'t dyn Target, fails: Range<u64>, why: Absent) -> Self {
        Self { inner, memory: Faulty::new(inner.memory(), fails, why) }
    }

    /// How many reads were made so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.memory.reads()
    }
}

impl Target for FaultyTarget<'_> {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }
    fn memory(&self) -> &dyn Memory {
        &self.memory
    }
    fn threads(&self) -> &[Thread] {
        self.inner.threads()
    }
    fn mappings(&self) -> &[Mapping] {
        self.inner.mappings()
    }
    fn images(&self) -> &[ImageHint] {
        self.inner.images()
    }
    fn image_symbols(&self) -> &[ImageSymbols] {
        self.inner.image_symbols()
    }
    fn module_ids(&self) -> &[ModuleId] {
        self.inner.module_ids()
    }
    fn event(&self) -> Option<&Event> {
        self.inner.event()
    }
    fn notes(&self) -> &[Note] {
        self.inner.notes()
    }
    fn attributes(&self) -> &[Attribute] {
        self.inner.attributes()
    }
    fn open_files(&self) -> &[OpenFile] {
        self.inner.open_files()
    }
    fn gaps(&self) -> &Gaps {
        self.inner.gaps()
    }
    fn machine(&self) -> Option<&dyn Machine> {
        self.inner.machine()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMemory;

    #[test]
    fn exactly_the_chosen_read_fails() {
        let memory = FakeMemory::new().with(Addr(0), vec![1; 16]);
        let faulty = Faulty::new(&memory, 1..2, Absent::Corrupt);
        let mut byte = [0];
        assert_eq!(faulty.read(Addr(0), &mut byte), (1, None));
        assert_eq!(faulty.read(Addr(0), &mut byte), (0, Some(Absent::Corrupt)));
        assert_eq!(faulty.read(Addr(0), &mut byte), (1, None));
        assert_eq!(faulty.reads(), 3);
    }
}
