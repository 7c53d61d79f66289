//! A FreeBSD process as it was while it was stopped.

use super::memory::LiveMemory;
use crate::elfcore::Core;
use evidence::{Attribute, Event, Gaps, Identity, ImageHint, Mapping, Memory, Note, OpenFile, Target, Thread};

/// A process as it was while it was stopped. Everything but its memory stays what it is after the release.
pub struct LiveTarget {
    pub(super) identity: Identity,
    pub(super) memory: LiveMemory,
    /// What was recorded, as the reader of cores decoded it.
    pub(super) recorded: Core,
    pub(super) attributes: Vec<Attribute>,
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
        self.recorded.threads()
    }
    fn mappings(&self) -> &[Mapping] {
        self.recorded.mappings()
    }
    fn images(&self) -> &[ImageHint] {
        self.recorded.images()
    }
    fn event(&self) -> Option<&Event> {
        None
    }
    fn notes(&self) -> &[Note] {
        self.recorded.notes()
    }
    fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
    fn open_files(&self) -> &[OpenFile] {
        self.recorded.open_files()
    }
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}
