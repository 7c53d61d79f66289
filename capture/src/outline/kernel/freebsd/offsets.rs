//! What the kernel says about its structures by itself: constants that are kept for debuggers.
//!
//! Source: `proc_off_*` and `thread_off_*` in `sys/kern/kern_proc.c` and `kern_thread.c` (since 10.3), `pcb_size` in
//! `sys/*/*/machdep.c`, `kld_off_*` in `sys/kern/kern_linker.c`. They are read from the dump, or from the kernel's file
//! where the dump leaves out what never changes.

use debuginfo::DebugInfo;
use debuginfo::layout::{Member, Shape};
use evidence::bytes::{Endian, u32_at};
use evidence::{Addr, Memory};
use std::collections::HashMap;

/// Constant, structure, member.
const CONSTANTS: [(&str, &str, &str); 15] = [
    ("proc_off_p_pid", "proc", "p_pid"),
    ("proc_off_p_comm", "proc", "p_comm"),
    ("proc_off_p_list", "proc", "p_list"),
    ("proc_off_p_hash", "proc", "p_hash"),
    ("proc_off_p_threads", "proc", "p_threads"),
    ("thread_off_td_tid", "thread", "td_tid"),
    ("thread_off_td_name", "thread", "td_name"),
    ("thread_off_td_oncpu", "thread", "td_oncpu"),
    ("thread_off_td_pcb", "thread", "td_pcb"),
    ("thread_off_td_plist", "thread", "td_plist"),
    ("thread_off_td_frame", "thread", "td_frame"),
    ("kld_off_address", "linker_file", "address"),
    ("kld_off_filename", "linker_file", "filename"),
    ("kld_off_pathname", "linker_file", "pathname"),
    ("kld_off_next", "linker_file", "link"),
];
/// Bytes of a process's name and of a thread's: `MAXCOMLEN` and a NUL.
const NAME: u64 = 20;
/// An offset into a structure is never larger: `struct proc` has 1.3 KiB, `struct thread` 1.7 KiB.
const LIMIT_OFFSET: u32 = 1 << 16;

/// The constants of a kernel.
#[derive(Debug, Default)]
pub(super) struct Stated {
    offsets: HashMap<(&'static str, &'static str), u64>,
    pcb_size: Option<u64>,
    pub pointer: u8,
    /// `td_oncpu` has one byte: before FreeBSD 11.
    pub short_cpu: bool,
}

/// A constant of the kernel, from memory, else from the file.
pub(super) fn constant(info: &DebugInfo<'_>, memory: &dyn Memory, name: &str) -> Option<u32> {
    let symbol = info.symbols(0)?.by_name(name)?;
    memory.read_u32(Addr(symbol.start.0), Endian::Little).ok().or_else(|| {
        let file = info.modules().list().first()?.main()?;
        u32_at(file.bytes_at(symbol.start)?, 0, Endian::Little)
    })
}

impl Stated {
    pub(super) fn read(info: &DebugInfo<'_>, memory: &dyn Memory, pointer: u8) -> Self {
        let mut stated = Self { pointer, ..Self::default() };
        let value = |name| constant(info, memory, name).filter(|n| *n < LIMIT_OFFSET).map(u64::from);
        for (name, of, member) in CONSTANTS {
            if let Some(offset) = value(name) {
                stated.offsets.insert((of, member), offset);
            }
        }
        stated.pcb_size = value("pcb_size").filter(|n| *n > 0);
        let version = constant(info, memory, "osreldate");
        stated.short_cpu = version.is_some_and(|v| (100_000..1_100_000).contains(&v));
        // A first member has offset 0, but not all of them can: then nothing was really read.
        if stated.offsets.values().all(|n| *n == 0) {
            stated.offsets.clear();
        }
        stated
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn offset(&self, of: &str, path: &str) -> Option<u64> {
        self.offsets.iter().find(|((o, p), _)| *o == of && *p == path).map(|(_, n)| *n)
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.pcb_size.filter(|_| name == "pcb")
    }
}

/// What a member is, where nothing but its offset is known: these have never changed their types.
pub(super) fn plain(of: &str, path: &str, stated: &Stated) -> Option<Member> {
    let pointer = u64::from(stated.pointer);
    let (size, shape) = match (of, path) {
        (_, "p_pid" | "td_tid") => (4, Shape::Integer { signed: true }),
        (_, "td_oncpu") if stated.short_cpu => (1, Shape::Integer { signed: false }),
        (_, "td_oncpu") => (4, Shape::Integer { signed: true }),
        (_, "p_comm" | "td_name") => (NAME, Shape::Array { count: NAME, element: 1 }),
        (_, "td_pcb" | "td_frame" | "address" | "filename" | "pathname") => (pointer, Shape::Pointer),
        // Heads and links of lists: the pointer to what comes next is their first member.
        (_, "p_list" | "p_hash" | "p_threads" | "td_plist" | "link") => (pointer.saturating_mul(2), Shape::Structure),
        _ => return None,
    };
    Some(Member { offset: 0, size, bits: None, shape, type_name: None })
}
