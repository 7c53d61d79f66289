//! What a file is, by its content.

use super::Source;
use crate::elfcore::{headers, notes};
use evidence::Doubts;
use evidence::bytes::{Endian, u32_at};

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A format the caller named: the index into [`super::Options::magics`].
    Named(usize),
    /// An ELF core of a user program.
    UserCore,
    /// An ELF core of a whole kernel (`/proc/vmcore`, QEMU, FreeBSD's full dumps).
    KernelCore,
    /// `makedumpfile`'s and `diskdump`'s compressed kernel dumps.
    Kdump,
    /// `makedumpfile -F`: a kernel dump as a stream of positioned blocks.
    FlattenedDump,
    /// A FreeBSD kernel minidump.
    FreeBsdMinidump,
    /// A FreeBSD kernel dump still on its device: the last sector says so.
    FreeBsdDumpDevice,
    /// An illumos kernel dump: `vmdump.N`, or `vmcore.N`.
    IllumosDump,
    /// A Windows-style minidump, as Breakpad and Crashpad write them.
    Minidump,
    /// A microdump: Breakpad's form for system logs.
    Microdump,
    /// An ELF file that is no core: a program, a library, an object file.
    ElfFile,
    /// Nothing at all.
    Empty,
    /// None of these.
    Unknown,
}

impl Kind {
    /// Whether it holds a kernel's memory, not a program's.
    #[must_use]
    pub const fn is_kernel_dump(self) -> bool {
        match self {
            Self::KernelCore
            | Self::Kdump
            | Self::FlattenedDump
            | Self::FreeBsdMinidump
            | Self::FreeBsdDumpDevice
            | Self::IllumosDump => true,
            Self::Named(_)
            | Self::UserCore
            | Self::Minidump
            | Self::Microdump
            | Self::ElfFile
            | Self::Empty
            | Self::Unknown => false,
        }
    }

    /// What to call it in messages.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Named(_) => "a format of its own",
            Self::UserCore => "an ELF core of a program",
            Self::KernelCore => "an ELF core of a whole kernel",
            Self::Kdump => "a compressed kernel dump (kdump)",
            Self::FlattenedDump => "a flattened kernel dump (makedumpfile -F)",
            Self::FreeBsdMinidump => "a FreeBSD kernel minidump",
            Self::FreeBsdDumpDevice => "a FreeBSD kernel dump on its device",
            Self::IllumosDump => "an illumos kernel dump",
            Self::Minidump => "a minidump",
            Self::Microdump => "a microdump",
            Self::ElfFile => "an ELF file that is no core",
            Self::Empty => "an empty file",
            Self::Unknown => "a file of a format not known here",
        }
    }
}

/// A caller's format: recognised where `bytes` stand at `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magic {
    /// Offset in bytes from the start of the unpacked file.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Magic {
    pub(super) fn matches(&self, source: &Source) -> bool {
        !self.bytes.is_empty() && source.bytes(self.at, self.bytes.len()) == self.bytes
    }
}

/// illumos `DUMP_MAGIC` (sys/dumphdr.h).
const ILLUMOS_DUMP_MAGIC: u32 = 0xdefe_c8ed;
/// `DUMP_OFFSET`: what headers on dump devices are aligned to.
const ILLUMOS_STEP: u64 = 65_536;
/// The owner strings of notes that only kernel dumps have: the kernel's own, QEMU's, Xen's.
const KERNEL_OWNERS: [&str; 3] = ["VMCOREINFO", "QEMU", "Xen"];
/// How far a FreeBSD dump's trailer lies before the end of its device (sys/kerneldump.h: 512-byte records).
const FREEBSD_RECORD: u64 = 512;

/// Tells what `source` holds.
pub(super) fn sniff(source: &Source, magics: &[Magic]) -> Kind {
    if let Some(index) = magics.iter().position(|m| m.matches(source)) {
        return Kind::Named(index);
    }
    let head = source.bytes(0, 64);
    let starts = |with: &[u8]| head.starts_with(with);
    if head.is_empty() {
        return Kind::Empty;
    }
    if starts(b"\x7fELF") {
        return elf(source);
    }
    if starts(b"MDMP") || starts(b"PMDM") {
        return Kind::Minidump;
    }
    if starts(b"KDUMP   ") || starts(b"DISKDUMP") {
        return Kind::Kdump;
    }
    if starts(b"makedumpfile\0") {
        return Kind::FlattenedDump;
    }
    if starts(b"minidump FreeBSD/") {
        return Kind::FreeBsdMinidump;
    }
    if [Endian::Little, Endian::Big].iter().any(|e| u32_at(&head, 0, *e) == Some(ILLUMOS_DUMP_MAGIC))
        || illumos_device(source)
    {
        return Kind::IllumosDump;
    }
    let trailer = source.bytes(source.len().saturating_sub(FREEBSD_RECORD), 24);
    if starts(b"FreeBSD Kernel Dump\0") || trailer.starts_with(b"FreeBSD Kernel Dump\0") {
        return Kind::FreeBsdDumpDevice;
    }
    if crate::minidump::is_microdump(source) {
        return Kind::Microdump;
    }
    Kind::Unknown
}

/// On a dump device of illumos the last header stands in its last whole 64 KiB, the first one at 64 KiB (or at a fifth of
/// a swap device). A `vmcore.N` whose header was never written begins with a page of zeros and an ELF symbol table.
fn illumos_device(source: &Source) -> bool {
    let len = source.len();
    let magic = |at: u64| u32_at(&source.bytes(at, 4), 0, Endian::Little) == Some(ILLUMOS_DUMP_MAGIC);
    let steps = |at: u64| at & !(ILLUMOS_STEP - 1);
    if len <= ILLUMOS_STEP {
        return false;
    }
    let fifth = len / 5;
    let places =
        [steps(len.saturating_sub(1)), ILLUMOS_STEP, steps(fifth), steps(fifth.saturating_add(ILLUMOS_STEP - 1))];
    places.into_iter().any(magic)
        || (source.bytes(4096, 4) == b"\x7fELF" && source.bytes(0, 4096).iter().all(|b| *b == 0))
}

/// A user core has notes of threads and no kernel's notes; FreeBSD's full kernel dumps have no notes at all.
fn elf(source: &Source) -> Kind {
    let doubts = Doubts::new();
    let Ok(elf) = headers::read(source, &doubts) else { return Kind::ElfFile };
    if elf.kind != headers::ET_CORE {
        return Kind::ElfFile;
    }
    if !elf.segments.iter().any(|s| s.kind == headers::PT_NOTE) {
        return Kind::KernelCore;
    }
    let index = notes::index(source, &elf, &doubts);
    let kernel = index.iter().any(|n| KERNEL_OWNERS.contains(&&*n.owner));
    if kernel { Kind::KernelCore } else { Kind::UserCore }
}
