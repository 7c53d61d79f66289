//! Cores of illumos programs, written by the kernel (`elfnote64`, exec/elf/elf_notes.c) or by gcore (libproc's Pcore.c).
//!
//! Both write two note segments; the first holds the old format, whose contents the second one repeats.
//! Layouts: sys/procfs.h.

mod credentials;
mod process;
mod sections;
pub(crate) mod threads;

use super::notes::NoteRef;
use super::{Parts, Reading, keep_notes, os};
use evidence::{Doubt, Identity, Origin, Os, ThreadId};

/// `p_flags` of segments whose bytes could not be written (sys/elf.h): `PF_SUNW_FAILURE`, `PF_SUNW_KILLED`,
/// `PF_SUNW_SIGINFO`.
pub(super) const ABSENT_FLAGS: u32 = 0x10_0000 | 0x20_0000 | 0x40_0000;

/// Note types (sys/elf.h).
mod kind {
    pub const PLATFORM: u32 = 5;
    pub const AUXV: u32 = 6;
    pub const PSTATUS: u32 = 10;
    pub const PSINFO: u32 = 13;
    pub const PRCRED: u32 = 14;
    pub const UTSNAME: u32 = 15;
    pub const LWPSTATUS: u32 = 16;
    pub const LWPSINFO: u32 = 17;
    pub const PRPRIV: u32 = 18;
    pub const CONTENT: u32 = 20;
    pub const ZONENAME: u32 = 21;
    pub const FDINFO: u32 = 22;
    pub const SECFLAGS: u32 = 24;
    pub const LWPNAME: u32 = 25;
    pub const UPANIC: u32 = 26;
}

/// Told in another form.
const DECODED: [u32; 8] = [
    kind::PSTATUS,
    kind::PSINFO,
    kind::LWPSTATUS,
    kind::LWPSINFO,
    kind::LWPNAME,
    kind::FDINFO,
    kind::UTSNAME,
    kind::CONTENT,
];

/// Reads the notes.
pub(super) fn read(parts: &Parts<'_>) -> Reading {
    let arch = os::arch(parts.headers.machine);
    let mut reading = Reading::new(Identity::new(Origin::UserCore, Os::Illumos, arch));
    // The segment of the new format is the one with PSTATUS or PSINFO.
    let new = parts.index.iter().find(|n| matches!(n.kind, kind::PSTATUS | kind::PSINFO)).map(|n| n.segment);
    let mut notes: Vec<(&NoteRef, Option<ThreadId>)> = parts
        .index
        .iter()
        .filter(|n| &*n.owner == "CORE" && new.is_none_or(|s| n.segment == s))
        .map(|n| (n, None))
        .collect();
    let own = [kind::PSTATUS, kind::PSINFO, kind::LWPSTATUS, kind::LWPSINFO];
    if !parts.index.iter().any(|n| own.contains(&n.kind)) {
        let why =
            "the notes of the new format are missing: those of the old one are not read, so that no thread is known";
        parts.doubts.push(Doubt::new("notes", why));
    }
    threads::read(parts, arch, &mut notes, &mut reading);
    process::read(parts, &notes, &mut reading);
    reading.symbols = sections::read(parts);
    keep_notes(parts, notes.into_iter().filter(|(n, _)| !DECODED.contains(&n.kind)), &mut reading);
    reading
}
