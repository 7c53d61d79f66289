//! Which system wrote a core: decided from the set of its notes.
//!
//! The byte `EI_OSABI` says nothing: Linux leaves it at 0, and so does illumos's kernel (`elfcore`, exec/elf/elf.c), whose
//! notes have the same owner and partly the same numbers. A reader that takes one for the other prints wrong registers.

use super::headers::{EM_386, EM_AARCH64, EM_ARM, EM_X86_64};
use super::notes::NoteRef;
use evidence::{Arch, Os};

/// illumos's own note types (sys/elf.h): `NT_PLATFORM`, `NT_PSTATUS`, `NT_PSINFO`, `NT_PRCRED`, `NT_UTSNAME`, `NT_LWPSTATUS`,
/// `NT_LWPSINFO`, `NT_PRPRIV`, `NT_CONTENT`. Linux writes none of them under the owner `CORE`. The first is in the segment
/// of the old format, too, so that a core which lost the other segment is not taken for one of Linux.
const ILLUMOS_KINDS: [u32; 9] = [5, 10, 13, 14, 15, 16, 17, 18, 20];
/// What Linux writes under `CORE`: PRSTATUS, PRFPREG, PRPSINFO, AUXV, SIGINFO, FILE.
const LINUX_KINDS: [u32; 6] = [1, 2, 3, 6, 0x5349_4749, 0x4649_4c45];

/// What the notes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// One of the systems whose cores are read here.
    Known(Os),
    /// Another system, by the owner string of its notes.
    Foreign(Box<str>),
    /// A kernel, not a program.
    Kernel,
    /// There are no notes, or none that tells.
    Silent,
}

/// Decides. One note of FreeBSD's or of illumos's own outweighs any number that Linux could have written, too.
pub(super) fn decide(notes: &[NoteRef]) -> Writer {
    let any = |test: &dyn Fn(&NoteRef) -> bool| notes.iter().any(test);
    let owner = |n: &NoteRef, name: &str| &*n.owner == name;
    if any(&|n| owner(n, "VMCOREINFO") || owner(n, "QEMU") || owner(n, "Xen")) {
        return Writer::Kernel;
    }
    if any(&|n| owner(n, "FreeBSD")) {
        return Writer::Known(Os::FreeBsd);
    }
    if let Some(n) = notes.iter().find(|n| n.owner.starts_with("NetBSD-CORE") || n.owner.starts_with("OpenBSD")) {
        return Writer::Foreign(Box::from(&*n.owner));
    }
    if any(&|n| owner(n, "CORE") && ILLUMOS_KINDS.contains(&n.kind)) {
        return Writer::Known(Os::Illumos);
    }
    if any(&|n| owner(n, "LINUX") || (owner(n, "CORE") && LINUX_KINDS.contains(&n.kind))) {
        return Writer::Known(Os::Linux);
    }
    Writer::Silent
}

/// The architecture an `e_machine` stands for.
pub(super) const fn arch(machine: u16) -> Arch {
    match machine {
        EM_X86_64 => Arch::X86_64,
        EM_386 => Arch::X86,
        EM_AARCH64 => Arch::Aarch64,
        EM_ARM => Arch::Arm,
        _ => Arch::Other,
    }
}
