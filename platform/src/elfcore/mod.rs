//! ELF cores of user programs, in the dialects of the systems that write them.
//!
//! Which system wrote a core is decided by its notes: the OSABI byte of illumos's and Linux's kernels is the same.
//! What is common to all (headers, notes, segments) lies here; what a note means lies in the folder of its system.

mod headers;
pub mod linux;
mod memory;
mod notes;

use crate::Error;
use crate::input::{Input, Kind};
use evidence::{Absent, Doubt, Gaps};
pub use headers::{Header, Segment};
use linux::Core;
pub use memory::CoreMemory;
pub use notes::RawNote;
use std::io::Read;
use std::path::Path;

/// How a core is opened. There is nothing to choose yet; the type keeps signatures stable.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {}

/// The system whose notes a core carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Linux's kernel, or gdb on Linux.
    Linux,
    /// FreeBSD.
    FreeBsd,
    /// illumos (and Solaris).
    Illumos,
    /// NetBSD or OpenBSD, by name.
    Other(&'static str),
    /// A kernel's dump, not a program's.
    Kernel,
    /// No note tells.
    Unknown,
}

/// Opens the core at `path`, compressed or not.
///
/// # Errors
/// The file cannot be read, or is not a core of a user program that is read.
pub fn open(path: &Path, options: &Options) -> Result<Core, Error> {
    from_input(Input::open(path)?, options)
}

/// Opens a core that comes as a stream, compressed or not; `name` is for messages.
///
/// # Errors
/// As [`open`].
pub fn open_stream(stream: impl Read, name: &str, options: &Options) -> Result<Core, Error> {
    from_input(Input::from_stream(stream, Path::new(name))?, options)
}

/// Opens a core from an input that was opened before.
///
/// # Errors
/// As [`open`].
pub fn from_input(input: Input, _options: &Options) -> Result<Core, Error> {
    if input.kind()? != Kind::Elf {
        let found = match input.kind()? {
            Kind::Unknown => {
                let head = input.exact(0, usize::try_from(input.size().min(8)).unwrap_or(0)).unwrap_or_default();
                if head.is_empty() { "an empty file".to_owned() } else { format!("{head:02x?}") }
            }
            other => format!("a file of kind {other:?}"),
        };
        return Err(Error::format(input.name(), 0, "an ELF core (7f 45 4c 46)", found));
    }
    let mut gaps = Gaps::default();
    if let Some(why) = &input.cut_off {
        gaps.doubts.push(Doubt::new("input", why.as_str()));
        gaps.truncated_at = Some(input.size());
    }
    let header = Header::read(&input, &mut gaps)?;
    let notes = notes::read(&input, &header, &mut gaps);
    match dialect(&notes) {
        Dialect::Linux => Ok(Core::assemble(input, header, notes, gaps)),
        other => {
            let found = match other {
                Dialect::FreeBsd => "the notes of a FreeBSD core, which this version does not read",
                Dialect::Illumos => "the notes of an illumos core, which this version does not read",
                Dialect::Other(name) => name,
                Dialect::Kernel => "a kernel's dump (it has VMCOREINFO)",
                Dialect::Linux | Dialect::Unknown => "no note that names the system which wrote it",
            };
            let at = header.note_segments.first().map_or(0, |s| s.offset);
            Err(Error::format(input.name(), at, "the notes of a Linux user core", found))
        }
    }
}

/// Whether an ELF core holds a kernel's memory: its notes say VMCOREINFO, or name QEMU as the writer.
///
/// # Errors
/// The headers cannot be read.
pub fn is_kernel_dump(input: &Input) -> Result<bool, Error> {
    let mut gaps = Gaps::default();
    let Ok(header) = Header::read(input, &mut gaps) else { return Ok(false) };
    let notes = notes::read(input, &header, &mut gaps);
    Ok(notes.iter().any(|n| &*n.owner == "VMCOREINFO" || &*n.owner == "QEMU"))
}

/// Decides by the set of notes. Types: Linux `include/uapi/linux/elf.h`; illumos `usr/src/uts/common/sys/elf.h`.
fn dialect(notes: &[RawNote]) -> Dialect {
    let has = |owner: &str, kind: u32| notes.iter().any(|n| &*n.owner == owner && n.kind == kind);
    let owner = |owner: &str| notes.iter().any(|n| &*n.owner == owner);
    if owner("VMCOREINFO") {
        return Dialect::Kernel;
    }
    if owner("FreeBSD") {
        return Dialect::FreeBsd;
    }
    // NT_PSTATUS 10, NT_PSINFO 13, NT_LWPSTATUS 16, NT_LWPSINFO 17, NT_UTSNAME 15: no Linux core has them.
    if [10, 13, 15, 16, 17].iter().any(|kind| has("CORE", *kind)) {
        return Dialect::Illumos;
    }
    if notes.iter().any(|n| n.owner.starts_with("NetBSD-CORE")) {
        return Dialect::Other("the notes of a NetBSD core, which this version does not read");
    }
    if owner("OpenBSD") {
        return Dialect::Other("the notes of an OpenBSD core, which this version does not read");
    }
    if has("CORE", crate::linux_abi::NT_PRSTATUS) || owner("LINUX") { Dialect::Linux } else { Dialect::Unknown }
}

/// Why bytes behind the end of a segment's file part are missing.
const NOT_DUMPED: Absent = Absent::Filtered;
