//! A small reader of x86-64 Linux cores, made for these tests alone: what the unwinder needs and nothing else.
#![allow(dead_code, reason = "each test uses a part")]

use evidence::bytes::{Endian::Little, c_str_at, slice_at, u16_at, u32_at, u64_at};
use evidence::testing::FakeTarget;
use evidence::{
    Absent, Addr, Context, Extent, Mapping, Memory, Note, Protection, Register, Registers, Thread, ThreadId,
};
use std::path::Path;

pub struct CoreMemory {
    bytes: Vec<u8>,
    loads: Vec<(u64, u64, u64, u64)>,
    extents: Vec<Extent>,
}

impl Memory for CoreMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0;
        while done < into.len() {
            let here = at.0.wrapping_add(done as u64);
            let Some((start, offset, in_file, _)) =
                self.loads.iter().find(|(start, _, _, size)| (*start..start + size).contains(&here))
            else {
                return (done, Some(Absent::Unmapped));
            };
            let skip = here - start;
            if skip >= *in_file {
                return (done, Some(Absent::Filtered));
            }
            let n = (in_file - skip).min((into.len() - done) as u64) as usize;
            let Some(from) = slice_at(&self.bytes, (offset + skip) as usize, n) else {
                return (done, Some(Absent::Truncated));
            };
            into[done..done + n].copy_from_slice(from);
            done += n;
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

/// DWARF numbers of the registers in `struct user_regs_struct` (sys/user.h), in its order; 255 for orig_rax.
const USER_REGS: [u16; 27] =
    [15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5, 255, 16, 51, 49, 7, 52, 58, 59, 53, 50, 54, 55];

pub fn read_core(path: &Path) -> (FakeTarget, CoreMemory) {
    let bytes = std::fs::read(path).unwrap();
    let mut target = FakeTarget::new();
    let (table, count) = (u64_at(&bytes, 32, Little).unwrap() as usize, u16_at(&bytes, 56, Little).unwrap() as usize);
    let mut loads = Vec::new();
    for n in 0..count {
        let at = table + n * 56;
        let field = |o| u64_at(&bytes, at + o, Little).unwrap();
        match u32_at(&bytes, at, Little).unwrap() {
            1 => {
                let flags = u32_at(&bytes, at + 4, Little).unwrap();
                loads.push((field(16), field(8), field(32), field(40)));
                target.mappings.push(Mapping {
                    range: Addr(field(16))..Addr(field(16) + field(40)),
                    protection: Some(Protection {
                        read: flags & 4 != 0,
                        write: flags & 2 != 0,
                        execute: flags & 1 != 0,
                    }),
                    shared: None,
                    file_offset: 0,
                    path: None,
                    deleted: false,
                    file_id: None,
                    open: Vec::new(),
                });
            }
            4 => read_notes(&bytes, field(8) as usize, field(32) as usize, &mut target),
            _ => {}
        }
    }
    (target, CoreMemory { bytes, loads, extents: Vec::new() })
}

fn read_notes(bytes: &[u8], start: usize, size: usize, target: &mut FakeTarget) {
    let mut at = start;
    while at + 12 <= start + size {
        let word = |o| u32_at(bytes, at + o, Little).unwrap() as usize;
        let (name_size, size, kind) = (word(0), word(4), word(8));
        let owner = c_str_at(&bytes[at + 12..at + 12 + name_size], 0).unwrap();
        let body_at = at + 12 + name_size.next_multiple_of(4);
        let body = &bytes[body_at..body_at + size];
        at = body_at + size.next_multiple_of(4);
        match (owner.as_str(), kind) {
            ("CORE", 1) => {
                let mut registers = Registers::new(evidence::Arch::X86_64);
                for (n, number) in USER_REGS.iter().enumerate() {
                    registers.set(Register(*number), u64_at(body, 112 + n * 8, Little).unwrap());
                }
                let id = ThreadId(u64::from(u32_at(body, 32, Little).unwrap()));
                target.threads.push(Thread::new(id, Context::Lwp, registers));
            }
            ("CORE", 6) => {
                target.notes.push(Note { owner: "CORE".into(), kind: 6, thread: None, body: body.to_vec().into() });
            }
            ("CORE", 0x4649_4c45) => {
                let (count, page) = (u64_at(body, 0, Little).unwrap() as usize, u64_at(body, 8, Little).unwrap());
                let mut name = 16 + count * 24;
                for n in 0..count {
                    let field = |o| u64_at(body, 16 + n * 24 + o, Little).unwrap();
                    let path = c_str_at(body, name).unwrap();
                    name += path.len() + 1;
                    for m in target.mappings.iter_mut().filter(|m| m.range.start == Addr(field(0))) {
                        m.path = Some(path.as_str().into());
                        m.file_offset = field(16) * page;
                    }
                }
            }
            _ => {}
        }
    }
}
