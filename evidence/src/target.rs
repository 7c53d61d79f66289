//! The one trait: a stopped program or machine.

use crate::{Absent, Addr, Doubt, Event, Identity, ImageHint, Mapping, Memory, ModuleId, PhysAddr, Thread, ThreadId};
use std::sync::Arc;

/// A fact in the OS's own encoding, e.g. (`"CORE"`, `NT_AUXV`) or (`"VMCOREINFO"`, 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The note's owner string as recorded.
    pub owner: Box<str>,
    /// The note's type.
    pub kind: u32,
    /// The thread it describes, for per-thread notes.
    pub thread: Option<ThreadId>,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// A textual fact the source gives about the process, its host or one thread: `cgroup`, `limits`, `environment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// A stable dotted key such as `proc.cgroup` or `crashpad.prod`.
    pub key: Box<str>,
    /// The thread, for facts about one.
    pub thread: Option<ThreadId>,
    /// The value as text; NUL-separated lists are given with newlines.
    pub value: Box<str>,
}

/// An open file descriptor or handle of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The descriptor's number.
    pub descriptor: u64,
    /// What it refers to: a path, `socket:[..]`, `pipe:[..]`, `anon_inode:..`.
    pub target: Box<str>,
    /// Open flags, when known.
    pub flags: Option<u64>,
    /// File position in bytes, when known.
    pub position: Option<u64>,
}

/// The symbol table of an image that the source itself carries, and the types that go with it, as they stand in the
/// image's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSymbols {
    /// Where the image begins.
    pub base: Addr,
    /// The entries (`Elf64_Sym`, or `Elf32_Sym` of a 32-bit image), in the source's byte order. May be empty when there are
    /// types.
    pub symbols: Box<[u8]>,
    /// Their names.
    pub strings: Box<[u8]>,
    /// The section `.SUNW_ctf` whose functions and objects these symbols are; empty when there is none.
    pub types: Box<[u8]>,
}

/// What was known to be missing or doubtful when the source was opened.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// The file ends here although its headers promise more.
    pub truncated_at: Option<u64>,
    /// Bytes of address space whose contents the writer left out.
    pub filtered_bytes: u64,
    /// What failed while opening.
    pub doubts: Vec<Doubt>,
}

/// A stopped program or machine. Every answer is evidence as recorded: nothing here needs debug information.
pub trait Target: Send + Sync {
    /// Who it is.
    fn identity(&self) -> &Identity;
    /// The process's, or the kernel's, virtual memory.
    fn memory(&self) -> &dyn Memory;
    /// Recorded register contexts: every LWP of a process, every CPU of a machine.
    fn threads(&self) -> &[Thread];
    /// Mapped ranges, sorted by address, disjoint.
    fn mappings(&self) -> &[Mapping];
    /// Images the source itself names.
    fn images(&self) -> &[ImageHint];
    /// Symbol tables that the source itself carries for its images (cores of illumos).
    fn image_symbols(&self) -> &[ImageSymbols] {
        &[]
    }
    /// How symbol stores file the images, where the source says it (minidumps).
    fn module_ids(&self) -> &[ModuleId] {
        &[]
    }
    /// Why it stopped; `None` for a healthy live process.
    fn event(&self) -> Option<&Event>;
    /// Facts in the OS's own encoding.
    fn notes(&self) -> &[Note];
    /// Textual facts.
    fn attributes(&self) -> &[Attribute] {
        &[]
    }
    /// Open descriptors.
    fn open_files(&self) -> &[OpenFile] {
        &[]
    }
    /// What is known to be missing.
    fn gaps(&self) -> &Gaps;
    /// What only a whole-machine source can do.
    fn machine(&self) -> Option<&dyn Machine> {
        None
    }
}

/// Whole-machine powers: physical memory, and other address spaces by page-table root.
pub trait Machine: Send + Sync {
    /// How many CPUs the machine has, as far as the source says.
    fn cpus(&self) -> u32;
    /// The kernel's symbol table, an ELF file, when the source itself carries one (illumos's ksyms).
    fn symbol_file(&self) -> Option<&[u8]> {
        None
    }
    /// Reads physical memory; as [`Memory::read`].
    fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>);
    /// Where the kernel's own page tables say that a virtual address lies.
    ///
    /// # Errors
    /// Why that is not known: nothing is mapped there, the tables are missing, or the source has none.
    fn physical(&self, _at: Addr) -> Result<PhysAddr, Absent> {
        Err(Absent::Filtered)
    }
    /// The address space whose top-level page table lies at `root`.
    ///
    /// # Errors
    /// Why the page table cannot be used.
    fn space(&self, root: PhysAddr) -> Result<Box<dyn Memory + '_>, Absent>;
}
