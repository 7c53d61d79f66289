//! An illumos process as it was while it was stopped.

use super::memory::LiveMemory;
use evidence::{Attribute, Event, Gaps, Identity, ImageHint, Mapping, Memory, Note, OpenFile, Target, Thread};

/// A process as it was while it was stopped. Everything but its memory stays what it is after the release.
pub struct LiveTarget {
    pub(super) identity: Identity,
    pub(super) memory: LiveMemory,
    pub(super) threads: Vec<Thread>,
    pub(super) mappings: Vec<Mapping>,
    pub(super) event: Option<Event>,
    pub(super) notes: Vec<Note>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) open_files: Vec<OpenFile>,
    pub(super) gaps: Gaps,
}

impl Target for LiveTarget {
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
        &[]
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
