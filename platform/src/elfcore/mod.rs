//! ELF cores of user programs, in the dialects of the systems that write them.
//!
//! Input: a core as a file or a stream, also compressed. Output: a [`Core`], which answers as an
//! [`evidence::Target`]. The parts that all systems share are here: headers, notes, memory; which system wrote a core is
//! decided from the set of its notes, and its folder (`linux`, `freebsd`, `illumos`) then says what they mean. It does not read kernel dumps,
//! and it opens no other file than the core: bytes that were left out are absent, even where the mapped file has them.

mod freebsd;
pub mod headers;
pub(crate) mod illumos;
mod linux;
mod mappings;
mod memory;
pub mod notes;
mod os;
mod vectors;

pub use memory::CoreMemory;

use crate::Error;
pub use crate::input::Options;
use crate::input::{Input, Kind, Source};
use evidence::bytes::Endian;
use evidence::{
    Attribute, Doubt, Doubts, Event, Gaps, Identity, ImageHint, ImageSymbols, Mapping, Memory, Note, OpenFile, Origin,
    Os, Target, Thread, ThreadId, ToU64, ToUsize,
};
use headers::Headers;
use mappings::FileRange;
use memory::Outside;
use os::Writer;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// How many threads are kept. A process of the default `threads-max` of a 64 GiB machine (some 500,000) would need a
/// gigabyte for registers alone; the first ones include the one that died.
pub const LIMIT_THREADS: usize = 131_072;
/// How many bytes of notes that are not decoded are kept for whoever reads on.
const LIMIT_KEPT_NOTES: usize = 32 << 20;

/// A core of a user program.
#[derive(Debug)]
pub struct Core {
    identity: Identity,
    memory: CoreMemory,
    threads: Vec<Thread>,
    mappings: Vec<Mapping>,
    images: Vec<ImageHint>,
    event: Option<Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    open_files: Vec<OpenFile>,
    symbols: Vec<ImageSymbols>,
    gaps: Gaps,
}

/// Opens the core at `path` (`-` is standard input).
///
/// # Errors
/// When it cannot be opened, or is not a user core of a known system.
pub fn open(path: &Path, options: &Options) -> Result<Core, Error> {
    from_input(Input::open_with(path, options)?, options)
}

/// Opens a core that can only be read once, from its start to its end; `name` is for messages.
///
/// It is kept in a sparse temporary file; see [`Options::spool_folder`].
///
/// # Errors
/// As [`open`].
pub fn open_stream(stream: impl Read, name: &str, options: &Options) -> Result<Core, Error> {
    from_input(Input::from_stream_with(stream, Path::new(name), options)?, options)
}

/// Reads the core in an opened input.
///
/// Takes time in proportion to the number of segments and notes, never to the size of the memory.
///
/// # Errors
/// When the input is not a user core of a known system.
pub fn from_input(input: Input, _options: &Options) -> Result<Core, Error> {
    Core::read(&input)
}

/// What every system's reader starts from.
struct Parts<'p> {
    source: &'p Source,
    headers: &'p Headers,
    index: &'p [notes::NoteRef],
    memory: &'p CoreMemory,
    doubts: &'p Doubts,
}

/// What a system's reader makes of the notes.
struct Reading {
    identity: Identity,
    threads: Vec<Thread>,
    event: Option<Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    open_files: Vec<OpenFile>,
    files: Vec<FileRange>,
    symbols: Vec<ImageSymbols>,
    outside: Outside,
}

impl Reading {
    const fn new(identity: Identity) -> Self {
        Self {
            identity,
            threads: Vec::new(),
            event: None,
            notes: Vec::new(),
            attributes: Vec::new(),
            open_files: Vec::new(),
            files: Vec::new(),
            symbols: Vec::new(),
            outside: Outside::Unmapped,
        }
    }
}

/// Hands on notes that are not told in another form, each with its thread, up to [`LIMIT_KEPT_NOTES`].
fn keep_notes<'n>(
    parts: &Parts<'_>,
    notes: impl Iterator<Item = (&'n notes::NoteRef, Option<ThreadId>)>,
    reading: &mut Reading,
) {
    let mut left = LIMIT_KEPT_NOTES.to_u64();
    let mut dropped = 0_u64;
    for (note, thread) in notes {
        if note.len > left {
            dropped = dropped.saturating_add(1);
            continue;
        }
        left = left.saturating_sub(note.len);
        reading.notes.push(Note {
            owner: Box::from(&*note.owner),
            kind: note.kind,
            thread,
            body: Arc::from(parts.source.bytes(note.at, note.len.to_usize())),
        });
    }
    if dropped > 0 {
        let why = format!("{dropped} notes do not fit into the {LIMIT_KEPT_NOTES} bytes that are kept of notes");
        parts.doubts.push(Doubt::new("note", why));
    }
}

fn attribute(key: &str, thread: Option<ThreadId>, value: impl Into<Box<str>>) -> Attribute {
    Attribute { key: key.into(), thread, value: value.into() }
}

impl Core {
    /// The threads, for what a core has no place for.
    pub(crate) fn threads_mut(&mut self) -> &mut [Thread] {
        &mut self.threads
    }

    fn read(input: &Input) -> Result<Self, Error> {
        let source = input.source();
        let doubts = Doubts::new();
        doubts.extend(input.doubts().iter().cloned());
        if !matches!(input.kind(), Kind::UserCore | Kind::KernelCore | Kind::ElfFile) {
            let expected = "an ELF core (7f 45 4c 46)";
            return Err(Error::format(source.path(), 0, expected, input.kind().describe()));
        }
        let headers = headers::read(source, &doubts)?;
        let wrong = |offset, found: &str| Err(Error::format(source.path(), offset, "a core of a user program", found));
        if headers.kind != headers::ET_CORE {
            return wrong(
                16,
                "an ELF file that is no core: a program or a library (give it with --exe, and name the core as the source)",
            );
        }
        let index = notes::index(source, &headers, &doubts);
        let os = match os::decide(&index) {
            Writer::Known(os) => os,
            Writer::Kernel => return wrong(0, "the dump of a whole kernel"),
            Writer::Foreign(owner) => return wrong(0, &format!("a core of another system, with notes of {owner}")),
            Writer::Silent if headers.segments.iter().any(|s| s.kind == headers::PT_NOTE) || headers.cut => Os::Other,
            Writer::Silent => return wrong(0, "an ELF core without notes, such as the dump of a whole kernel"),
        };
        let absent_flags = if os == Os::Illumos { illumos::ABSENT_FLAGS } else { 0 };
        let (mut memory, covered, mut sums) = CoreMemory::new(source, &headers, absent_flags, &doubts);
        let parts = Parts { source, headers: &headers, index: &index, memory: &memory, doubts: &doubts };
        let mut reading = match os {
            Os::Linux => linux::read(&parts),
            Os::FreeBsd => freebsd::read(&parts),
            Os::Illumos => illumos::read(&parts),
            _ => {
                doubts.push(Doubt::new("note", "no note says which system wrote this core: no thread can be shown"));
                Reading::new(Identity::new(Origin::UserCore, Os::Other, os::arch(headers.machine)))
            }
        };
        reading.identity.big_endian = headers.endian == Endian::Big;
        memory.set_outside(reading.outside);
        if let Some(at) = unmapped(&reading.event, os) {
            memory.set_unmapped(at);
        }
        let ranges: Vec<_> = reading.files.iter().map(|f| f.range.clone()).collect();
        sums.filtered = sums.filtered.saturating_add(memory.add_filtered(&ranges));
        let truncated_at = (sums.promised > source.len() || headers.cut).then_some(source.len());
        if sums.cut > 0 {
            doubts.push(Doubt::new(
                "truncated",
                format!(
                    "the core ends at file offset {:#x} and should go on to {:#x}: {:#x} bytes of memory are cut off",
                    source.len(),
                    sums.promised,
                    sums.cut
                ),
            ));
        }
        let mappings = mappings::build(&covered, &reading.files);
        let images = mappings::images(&mappings, &memory);
        let mut core = Self {
            identity: reading.identity,
            memory,
            threads: reading.threads,
            mappings,
            images,
            event: reading.event,
            notes: reading.notes,
            attributes: reading.attributes,
            open_files: reading.open_files,
            symbols: reading.symbols,
            gaps: Gaps { truncated_at, filtered_bytes: sums.filtered, doubts: Vec::new() },
        };
        core.gaps.doubts = doubts.into_sorted();
        Ok(core)
    }
}

/// The address that the system itself reported as not mapped: `SEGV_MAPERR` is 1 on every system here.
fn unmapped(event: &Option<Event>, os: Os) -> Option<evidence::Addr> {
    let signal = event.as_ref()?.signal?;
    (matches!(os, Os::Linux | Os::FreeBsd | Os::Illumos) && signal.number == 11 && signal.code == Some(1))
        .then_some(signal.address)?
}

impl Target for Core {
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
    fn image_symbols(&self) -> &[ImageSymbols] {
        &self.symbols
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

#[cfg(test)]
mod tests;
