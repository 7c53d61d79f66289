//! FreeBSD kernel dumps: on their device or off it, compressed, encrypted or plain; minidumps, full dumps, text dumps.
//!
//! What the containers say is here: memory through the page tables, the message buffer that a minidump carries, and
//! the dump's record or `info.N`. Which processes and threads there were is for those who have the kernel's symbols.

mod device;
mod encrypted;
mod full;
mod header;
mod info;
mod minidump;
mod open;
mod root;
mod rsa_key;
mod textdump;
mod window;

use crate::machine::{Pages, Space};
use crate::source::ReadAt;
pub use encrypted::{Cipher, KeyRecord};
use evidence::{
    Absent, Addr, Attribute, Event, Extent, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, PhysAddr,
    Target, Thread,
};
pub use header::{Compression, DumpHeader, Magic};
pub use info::Info;
pub use open::{recognise, sibling_key};
use root::Root;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
pub use textdump::Member;

/// Owners of the notes that a dump has.
pub mod notes {
    /// The record of 512 bytes before and after the dump.
    pub const RECORD: &str = "FreeBSD dump record";
    /// The first 128 bytes of a minidump.
    pub const MINIDUMP: &str = "FreeBSD minidump";
    /// The message buffer as a minidump carries it: a ring without its ends.
    pub const MESSAGES: &str = "FreeBSD message buffer";
    /// A member of a text dump: its name follows.
    pub const TEXT: &str = "FreeBSD text dump: ";
}

/// A stream that was unpacked.
pub struct Unpacked {
    /// What it holds.
    pub source: Box<dyn ReadAt>,
    /// What went wrong on the way.
    pub doubts: Vec<evidence::Doubt>,
}

/// Unpacks a compressed stream (gzip or Zstandard, by its first bytes) into something that can be read anywhere.
pub type Unpack<'u> = &'u dyn Fn(Box<dyn Read + Send>) -> Result<Unpacked, String>;

/// What opening may need besides the file.
#[derive(Clone, Default)]
pub struct Options<'o> {
    /// The RSA private key of an encrypted dump.
    pub key: Option<PathBuf>,
    /// Who unpacks compressed dumps.
    pub unpack: Option<Unpack<'o>>,
}

/// An opened FreeBSD kernel dump.
pub struct FreeBsdDump {
    identity: Identity,
    pages: Arc<Pages>,
    kernel: Space,
    root: Option<Root>,
    cpus: u32,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    mappings: Vec<Mapping>,
    event: Option<Event>,
    gaps: Gaps,
    header: Option<DumpHeader>,
    info: Option<Info>,
}

impl FreeBsdDump {
    /// The record of the device, when the dump is still there.
    #[must_use]
    pub const fn header(&self) -> Option<&DumpHeader> {
        self.header.as_ref()
    }

    /// The `info.N` beside the dump.
    #[must_use]
    pub const fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// Ranges of physical memory that are in the dump.
    #[must_use]
    pub fn physical_extents(&self) -> Vec<Extent> {
        self.pages.extents()
    }

    /// The top-level page table of a full dump.
    #[must_use]
    pub fn root(&self) -> Option<PhysAddr> {
        self.root.and_then(|r| r.place())
    }
}

impl Target for FreeBsdDump {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.kernel
    }
    fn threads(&self) -> &[Thread] {
        &[]
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
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
    fn machine(&self) -> Option<&dyn Machine> {
        Some(self)
    }
}

impl Machine for FreeBsdDump {
    fn cpus(&self) -> u32 {
        self.cpus
    }

    fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        self.pages.read(at, into)
    }

    fn space(&self, root: PhysAddr) -> Result<Box<dyn Memory + '_>, Absent> {
        // Only the processor's own tables can be walked from any root; minidumps leave programs' tables out.
        let tables = self.root.ok_or(Absent::Filtered)?.with_root(root, &self.pages)?;
        Ok(Box::new(Space { pages: self.pages.clone(), tables: Ok(tables.tables()), extents: Vec::new() }))
    }

    fn physical(&self, at: Addr) -> Result<PhysAddr, Absent> {
        let tables = self.kernel.tables.as_ref().map_err(|why| *why)?;
        tables.translate(at, &self.pages).map(|there| there.physical)
    }
}
