//! Bodies of FreeBSD's notes, and a small whole core of a program of several threads.
//!
//! Layouts: `sys/sys/procfs.h`, `sys/sys/user.h`, `sys/sys/ptrace.h`, `machine/reg.h`; `sys/kern/imgact_elf.c` for the
//! order of the notes.

use super::{Contents, CoreBuilder};

/// The machine whose core is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the system's names")]
pub enum Machine {
    Amd64,
    I386,
    Arm64,
}

/// What is true of the core that [`core()`] writes.
#[derive(Clone, Debug)]
pub struct Truth {
    /// LWP, name, program counter.
    pub threads: Vec<(u32, String, u64)>,
    /// Where memory is, and what is in it.
    pub memory: Vec<(u64, Vec<u8>)>,
}

/// The pid of the program.
pub const PID: u32 = 4711;
/// Its parent.
pub const PARENT: u32 = 812;

pub(super) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Machine {
    /// Whether its words have 64 bits.
    #[must_use]
    pub const fn wide(self) -> bool {
        !matches!(self, Self::I386)
    }

    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::I386 => 3,
            Self::Arm64 => 183,
        }
    }

    pub(super) fn word(self, n: u64) -> Vec<u8> {
        n.to_le_bytes()[..if self.wide() { 8 } else { 4 }].to_vec()
    }

    /// `prstatus_t` of an LWP with the registers of `struct reg`.
    pub(super) fn status(self, lwp: u32, signal: i32, registers: &[u8]) -> Vec<u8> {
        let size = registers.len();
        let mut out = 1_u32.to_le_bytes().to_vec();
        if self.wide() {
            out.extend([0; 4]);
        }
        for size in [size + 48, size, 512] {
            out.extend(self.word(size as u64));
        }
        out.extend(1_401_000_u32.to_le_bytes());
        out.extend(signal.to_le_bytes());
        out.extend(lwp.to_le_bytes());
        if self.wide() {
            out.extend([0; 4]);
        }
        out.extend(registers);
        out
    }

    /// `struct reg` of an LWP of which no more is known than where it stands.
    fn stands_at(self, pc: u64, sp: u64) -> Vec<u8> {
        let (size, pc_at, sp_at) = match self {
            Self::Amd64 => (176, 136, 160),
            Self::I386 => (76, 52, 64),
            Self::Arm64 => (272, 256, 248),
        };
        let mut registers = vec![0; size];
        put(&mut registers, pc_at, &self.word(pc));
        put(&mut registers, sp_at, &self.word(sp));
        registers
    }

    /// `struct ptrace_lwpinfo` behind its size, with the siginfo of a fault.
    pub(super) fn lwp_info(self, lwp: u32, signal: i32, address: u64) -> Vec<u8> {
        let (size, info) = if self.wide() { (160, 48) } else { (140, 44) };
        let mut out = vec![0; size];
        put(&mut out, 0, &lwp.to_le_bytes());
        put(&mut out, 8, &0x20_u32.to_le_bytes());
        put(&mut out, info, &signal.to_le_bytes());
        put(&mut out, info + 8, &1_u32.to_le_bytes());
        put(&mut out, info + 24, &self.word(address));
        sized(size, &out)
    }
}

/// A note whose body begins with the size of its structures.
pub(super) fn sized(size: usize, body: &[u8]) -> Vec<u8> {
    [&(size as u32).to_le_bytes(), body].concat()
}

/// A structure that begins with its own size and ends with a path.
fn with_path(fixed: usize, path: &str) -> Vec<u8> {
    let mut out = vec![0; (fixed + path.len() + 1).next_multiple_of(8)];
    let size = out.len() as u32;
    put(&mut out, 0, &size.to_le_bytes());
    put(&mut out, fixed, path.as_bytes());
    out
}

pub(super) fn file(fd: i32, path: &str) -> Vec<u8> {
    let mut out = with_path(368, path);
    put(&mut out, 4, &1_u32.to_le_bytes());
    put(&mut out, 8, &fd.to_le_bytes());
    out
}

pub(super) fn mapping(start: u64, end: u64, protection: u32, path: &str) -> Vec<u8> {
    let mut out = with_path(136, path);
    put(&mut out, 8, &start.to_le_bytes());
    put(&mut out, 16, &end.to_le_bytes());
    put(&mut out, 56, &protection.to_le_bytes());
    out
}

/// A core of `threads` LWPs; the first died of SIGSEGV. Its stack holds `ps_strings`.
#[must_use]
pub fn core(machine: Machine, threads: u32) -> (CoreBuilder, Truth) {
    let (text, stack) = (0x20_0000_u64, 0x7fff_0000_u64);
    let mut core = CoreBuilder::new(machine.wide(), false, machine.number()).osabi(9);
    let mut truth = Truth { threads: Vec::new(), memory: Vec::new() };
    let (name, pid) = if machine.wide() { (16, 116) } else { (8, 108) };
    let mut info = vec![0; pid + 4];
    put(&mut info, name, b"server");
    put(&mut info, name + 17, b"./server -d");
    put(&mut info, pid, &PID.to_le_bytes());
    core = core.note("FreeBSD", 3, &info);
    for n in 0..threads {
        let (lwp, pc) = (100_100 + n, text + 0x100 + u64::from(n) * 16);
        let signal = if n == 0 { 11 } else { 0 };
        let title = format!("worker{n}");
        let mut misc = vec![0; 24];
        put(&mut misc, 0, title.as_bytes());
        core = core
            .note("FreeBSD", 1, &machine.status(lwp, signal, &machine.stands_at(pc, stack + 0x800)))
            .note("FreeBSD", 2, &[0x11; 512])
            .note("FreeBSD", 7, &misc)
            .note("FreeBSD", 17, &machine.lwp_info(lwp, signal, 0x28));
        truth.threads.push((lwp, title, pc));
    }
    // struct kinfo_proc: two ints, eight pointers, pid, parent's pid.
    let (size, pid_at) = if machine.wide() { (1088_usize, 72) } else { (768, 40) };
    let mut processes = vec![0; size];
    put(&mut processes, 0, &(size as u32).to_le_bytes());
    put(&mut processes, pid_at, &PID.to_le_bytes());
    put(&mut processes, pid_at + 4, &PARENT.to_le_bytes());
    let path = "/usr/local/bin/server";
    let mut words = Vec::new();
    for n in [stack + 0x100, 2, stack + 0x140, 1] {
        words.extend(machine.word(n));
    }
    let mut on_stack: Vec<u8> = (0..0x3000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    put(&mut on_stack, 0, &words);
    let pointers = [stack + 0x200, stack + 0x210].map(|p| machine.word(p)).concat();
    put(&mut on_stack, 0x100, &pointers);
    put(&mut on_stack, 0x140, &machine.word(stack + 0x220));
    put(&mut on_stack, 0x200, b"./server\0");
    put(&mut on_stack, 0x210, b"-d\0");
    put(&mut on_stack, 0x220, b"HOME=/\0");
    let pointer = if machine.wide() { 8 } else { 4 };
    let maps = [mapping(text, text + 0x2000, 5, path), mapping(stack, stack + 0x3000, 3, "")].concat();
    core = core
        .note("FreeBSD", 8, &sized(size, &processes))
        .note("FreeBSD", 9, &sized(1392, &[file(-5, path), file(3, "/var/log/server.log")].concat()))
        .note("FreeBSD", 10, &sized(1160, &maps))
        .note("FreeBSD", 11, &sized(4, &[1, 0, 0, 0, 5, 0, 0, 0]))
        .note("FreeBSD", 12, &sized(2, &[0o22, 0]))
        .note("FreeBSD", 13, &sized(240, &[0x7f; 240]))
        .note("FreeBSD", 14, &sized(4, &1_401_000_u32.to_le_bytes()))
        .note("FreeBSD", 15, &sized(pointer, &machine.word(stack)))
        .note("FreeBSD", 16, &sized(pointer * 2, &[0; 64]));
    let code: Vec<u8> = (0..0x2000_u32).map(|n| ((n * 7) >> 2) as u8).collect();
    for (at, flags, bytes) in [(text, 5, code), (stack, 6, on_stack)] {
        core = core.load(at, bytes.len() as u64, flags, Contents::Bytes(bytes.clone()));
        truth.memory.push((at, bytes));
    }
    (core, truth)
}
