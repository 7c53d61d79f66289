//! Cores of FreeBSD programs, written by the kernel (sys/kern/imgact_elf.c) or by gcore(1) with the same code.
//!
//! Numbers of notes: sys/sys/elf_common.h. Every `NT_PROCSTAT_*` body, and `NT_PTLWPINFO`, begins with the 32-bit size of
//! the structures in it.

mod facts;
mod process;
mod threads;

use super::{Parts, Reading, keep_notes, os};
use evidence::{Identity, Origin, Os};

/// Note types.
mod kind {
    pub const PRSTATUS: u32 = 1;
    pub const FPREGSET: u32 = 2;
    pub const PRPSINFO: u32 = 3;
    pub const THRMISC: u32 = 7;
    pub const PROCSTAT_PROC: u32 = 8;
    pub const PROCSTAT_FILES: u32 = 9;
    pub const PROCSTAT_VMMAP: u32 = 10;
    pub const PROCSTAT_GROUPS: u32 = 11;
    pub const PROCSTAT_UMASK: u32 = 12;
    pub const PROCSTAT_RLIMIT: u32 = 13;
    pub const PROCSTAT_OSREL: u32 = 14;
    pub const PROCSTAT_PSSTRINGS: u32 = 15;
    pub const PROCSTAT_AUXV: u32 = 16;
    pub const PTLWPINFO: u32 = 17;
    pub const PROCSTAT_KQUEUES: u32 = 18;
    pub const X86_SEGBASES: u32 = 0x200;
    pub const X86_XSTATE: u32 = 0x202;
    pub const ARM_TLS: u32 = 0x401;
}

/// Told in another form.
const DECODED: [u32; 14] = [
    kind::PRSTATUS,
    kind::FPREGSET,
    kind::PRPSINFO,
    kind::THRMISC,
    kind::PROCSTAT_FILES,
    kind::PROCSTAT_VMMAP,
    kind::PROCSTAT_GROUPS,
    kind::PROCSTAT_UMASK,
    kind::PROCSTAT_RLIMIT,
    kind::PROCSTAT_PSSTRINGS,
    kind::PROCSTAT_KQUEUES,
    kind::PTLWPINFO,
    kind::X86_SEGBASES,
    kind::X86_XSTATE,
];

/// Reads the notes.
pub(super) fn read(parts: &Parts<'_>) -> Reading {
    let arch = os::arch(parts.headers.machine);
    let mut reading = Reading::new(Identity::new(Origin::UserCore, Os::FreeBsd, arch));
    let owners = threads::read(parts, arch, &mut reading);
    process::read(parts, &mut reading);
    let notes = parts.index.iter().zip(owners).filter(|(n, _)| !DECODED.contains(&n.kind));
    keep_notes(parts, notes, &mut reading);
    reading
}
