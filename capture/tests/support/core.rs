//! A core file as a fake target: just enough of a reader for tests that must not depend on a backend.

use evidence::testing::{FakeMemory, FakeTarget};
use evidence::{Addr, Arch, Context, Mapping, Memory as _, Register, Registers, Thread, ThreadId, Vectors};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use std::path::Path;
use std::sync::Arc;

type Header = elf::FileHeader64<object::Endianness>;

/// `user_regs_struct` of <sys/user.h> (x86-64) in the order of the DWARF numbers given.
const USER_REGS: [u16; 27] =
    [15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5, 99, 16, 51, 49, 7, 52, 58, 59, 53, 50, 54, 55];

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Reads the core at `path`.
pub fn read(path: &Path) -> FakeTarget {
    let data = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = Header::parse(&*data).unwrap();
    let endian = header.endian().unwrap();
    let mut target = FakeTarget::new();
    let mut memory = FakeMemory::new();
    for segment in header.program_headers(endian, &*data).unwrap() {
        match segment.p_type(endian) {
            elf::PT_LOAD => {
                let bytes = segment.data(endian, &*data).unwrap().to_vec();
                if !bytes.is_empty() {
                    memory = memory.with(Addr(segment.p_vaddr(endian)), bytes);
                }
            }
            elf::PT_NOTE => {
                let mut notes = segment.notes(endian, &*data).unwrap().unwrap();
                while let Ok(Some(note)) = notes.next() {
                    take_note(&mut target, note.name(), note.n_type(endian).0, note.desc());
                }
            }
            _ => {}
        }
    }
    // gcore leaves out what files can give back. `FakeMemory` answers from the lowest block that covers an address, so
    // only the gaps are filled.
    let held: Vec<std::ops::Range<Addr>> = memory.extents().iter().map(|e| e.range.clone()).collect();
    for mapping in &target.mappings {
        let covered = |at: Addr| held.iter().any(|r| r.contains(&at));
        let Some(file) = mapping.path.as_deref().and_then(|p| std::fs::read(p).ok()) else { continue };
        let start = mapping.file_offset as usize;
        let length = (mapping.range.end.0 - mapping.range.start.0) as usize;
        let bytes = file.get(start..file.len().min(start + length)).unwrap_or_default();
        for (n, page) in bytes.chunks(4096).enumerate() {
            let at = Addr(mapping.range.start.0 + 4096 * n as u64);
            if !covered(at) {
                memory = memory.with(at, page.to_vec());
            }
        }
    }
    target.memory = memory;
    target
}

fn take_note(target: &mut FakeTarget, owner: &[u8], kind: u32, body: &[u8]) {
    match (owner, kind) {
        (b"CORE", 1) => {
            // struct elf_prstatus of <linux/elfcore.h>: pr_pid at 32, pr_reg at 112.
            let mut registers = Registers::new(Arch::X86_64);
            for (n, number) in USER_REGS.iter().enumerate() {
                if *number < 64 {
                    registers.set(Register(*number), word(body, 112 + 8 * n));
                }
            }
            let id = u32::from_le_bytes(body[32..36].try_into().unwrap());
            target.threads.push(Thread::new(ThreadId(u64::from(id)), Context::Lwp, registers));
        }
        (b"CORE", 2) => {
            // FXSAVE: xmm0 at 160.
            let bytes = body[160..160 + 16 * 16].to_vec();
            if let Some(thread) = target.threads.last_mut() {
                thread.registers.vectors = Some(Arc::new(Vectors { first: 17, width: 16, bytes: bytes.into() }));
            }
        }
        (b"CORE", 0x4649_4c45) => {
            // NT_FILE: count, page size, (start, end, page offset) each, then paths.
            let count = word(body, 0) as usize;
            let page = word(body, 8);
            let mut names = body[16 + 24 * count..].split(|b| *b == 0);
            for n in 0..count {
                let at = 16 + 24 * n;
                target.mappings.push(Mapping {
                    range: Addr(word(body, at))..Addr(word(body, at + 8)),
                    protection: None,
                    shared: None,
                    file_offset: word(body, at + 16) * page,
                    path: names.next().map(|n| Arc::from(String::from_utf8_lossy(n))),
                    deleted: false,
                    file_id: None,
                    open: Vec::new(),
                });
            }
        }
        (owner, kind) => target.notes.push(evidence::Note {
            owner: String::from_utf8_lossy(owner).into(),
            kind,
            thread: None,
            body: body.into(),
        }),
    }
}
