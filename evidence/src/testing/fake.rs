//! A memory and a target made of what the test says.

use crate::{
    Absent, Addr, Arch, Attribute, Event, Extent, Gaps, Identity, ImageHint, Mapping, Memory, Note, OpenFile, Origin,
    Os, Target, Thread, ToU64, ToUsize,
};
use std::ops::Range;

/// Byte ranges at addresses; everything else is [`Absent::Unmapped`], or absent for the reason given.
#[derive(Default)]
pub struct FakeMemory {
    blocks: Vec<(Addr, Vec<u8>)>,
    extents: Vec<Extent>,
}

impl FakeMemory {
    /// An address space without mappings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes at an address.
    #[must_use]
    pub fn with(mut self, at: Addr, bytes: Vec<u8>) -> Self {
        let range = at..at.saturating_add(bytes.len().to_u64());
        self.blocks.push((at, bytes));
        self.blocks.sort_by_key(|(a, _)| *a);
        self.add_extent(Extent { range, absent: None });
        self
    }

    /// Adds a range whose bytes are missing for a reason.
    #[must_use]
    pub fn without(mut self, range: Range<Addr>, why: Absent) -> Self {
        self.add_extent(Extent { range, absent: Some(why) });
        self
    }

    fn add_extent(&mut self, extent: Extent) {
        self.extents.push(extent);
        self.extents.sort_by_key(|e| e.range.start);
    }

    fn why(&self, at: Addr) -> Absent {
        self.extents.iter().find(|e| e.range.contains(&at)).and_then(|e| e.absent).unwrap_or(Absent::Unmapped)
    }
}

impl Memory for FakeMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let here = at.wrapping_add(done.to_u64());
            let found = self.blocks.iter().find_map(|(start, bytes)| {
                let skip = here.offset_from(*start)?.to_usize();
                bytes.get(skip..).filter(|tail| !tail.is_empty())
            });
            let (Some(tail), Some(rest)) = (found, into.get_mut(done..)) else { return (done, Some(self.why(here))) };
            let n = tail.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..n), tail.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
        }
        (done, None)
    }

    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        let len = range.end.offset_from(range.start)?.to_usize();
        self.blocks.iter().find_map(|(start, bytes)| {
            let skip = range.start.offset_from(*start)?.to_usize();
            bytes.get(skip..skip.checked_add(len)?)
        })
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

/// A target whose every answer is a public field.
#[allow(missing_docs, reason = "each field is the answer of the method of its name")]
pub struct FakeTarget {
    pub identity: Identity,
    pub memory: FakeMemory,
    pub threads: Vec<Thread>,
    pub mappings: Vec<Mapping>,
    pub images: Vec<ImageHint>,
    pub event: Option<Event>,
    pub notes: Vec<Note>,
    pub attributes: Vec<Attribute>,
    pub open_files: Vec<OpenFile>,
    pub gaps: Gaps,
}

impl FakeTarget {
    /// An empty x86-64 Linux core.
    #[must_use]
    pub fn new() -> Self {
        Self {
            identity: Identity::new(Origin::UserCore, Os::Linux, Arch::X86_64),
            memory: FakeMemory::new(),
            threads: Vec::new(),
            mappings: Vec::new(),
            images: Vec::new(),
            event: None,
            notes: Vec::new(),
            attributes: Vec::new(),
            open_files: Vec::new(),
            gaps: Gaps::default(),
        }
    }
}

impl Default for FakeTarget {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for FakeTarget {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.memory
    }
    fn threads(&self) -> &[Thread] {
        &self.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
    fn images(&self) -> &[ImageHint] {
        &self.images
    }
    fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }
    fn notes(&self) -> &[Note] {
        &self.notes
    }
    fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
    fn open_files(&self) -> &[OpenFile] {
        &self.open_files
    }
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}
