//! Cores of FreeBSD programs with all of their memory: of a program that really ran, or of one put together by hand.

use super::freebsd::{Machine, PID, file, mapping, put, sized};
use super::{Contents, CoreBuilder};

/// A thread; its registers by DWARF number.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub struct Lwp {
    pub id: u32,
    pub name: String,
    pub signal: i32,
    pub fault: u64,
    pub registers: Vec<(u16, u64)>,
}

/// A mapping and what is in it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub struct Mapping {
    pub start: u64,
    /// 4 read, 2 write, 1 execute, as program headers have them.
    pub flags: u32,
    pub path: String,
    pub bytes: Vec<u8>,
}

/// A program that the system killed.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub struct Process {
    pub machine: Machine,
    pub executable: String,
    pub lwps: Vec<Lwp>,
    pub mappings: Vec<Mapping>,
    pub auxv: Vec<(u64, u64)>,
}

/// `struct reg` of each machine: the DWARF numbers in the order of its words (`machine/reg.h`); 99 is no register.
fn order(machine: Machine) -> Vec<u16> {
    match machine {
        // r15 to r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, trapno and selectors, err and selectors, rip, cs, rflags, rsp, ss.
        Machine::Amd64 => {
            vec![15, 14, 13, 12, 11, 10, 9, 8, 5, 4, 6, 3, 1, 2, 0, 99, 99, 16, 51, 49, 7, 52]
        }
        // fs es ds edi esi ebp isp ebx edx ecx eax trapno err eip cs eflags esp ss gs.
        Machine::I386 => vec![44, 40, 43, 7, 6, 5, 99, 3, 2, 1, 0, 99, 99, 8, 41, 9, 4, 42, 45],
        // x0 to x29, lr, sp, elr, spsr.
        Machine::Arm64 => (0..=33).collect(),
    }
}

impl Process {
    /// The core, with notes in the order of `sys/kern/imgact_elf.c`.
    #[must_use]
    pub fn core(&self) -> CoreBuilder {
        let machine = self.machine;
        let mut core = CoreBuilder::new(machine.wide(), false, machine.number()).osabi(9);
        let (name, pid) = if machine.wide() { (16, 116) } else { (8, 108) };
        let mut info = vec![0; pid + 4];
        let short = self.executable.rsplit('/').next().unwrap_or_default();
        put(&mut info, name, &short.as_bytes()[..short.len().min(16)]);
        put(&mut info, pid, &PID.to_le_bytes());
        core = core.note("FreeBSD", 3, &info);
        for lwp in &self.lwps {
            let value = |number| lwp.registers.iter().find(|(n, _)| *n == number).map_or(0, |(_, v)| *v);
            let registers: Vec<u8> = order(machine).into_iter().flat_map(|n| machine.word(value(n))).collect();
            let mut misc = vec![0; 24];
            put(&mut misc, 0, lwp.name.as_bytes());
            core = core
                .note("FreeBSD", 1, &machine.status(lwp.id, lwp.signal, &registers))
                .note("FreeBSD", 2, &[0; 512])
                .note("FreeBSD", 7, &misc)
                .note("FreeBSD", 17, &machine.lwp_info(lwp.id, lwp.signal, lwp.fault));
        }
        // VM_PROT_READ is 1, VM_PROT_EXECUTE 4.
        let protection = |flags: u32| (flags & 4) >> 2 | flags & 2 | (flags & 1) << 2;
        let end = |m: &Mapping| m.start + m.bytes.len() as u64;
        let maps = self.mappings.iter().flat_map(|m| mapping(m.start, end(m), protection(m.flags), &m.path));
        let maps: Vec<u8> = maps.collect();
        let auxv = self.auxv.iter().chain([&(0, 0)]).flat_map(|(k, v)| [machine.word(*k), machine.word(*v)].concat());
        let auxv: Vec<u8> = auxv.collect();
        core = core
            .note("FreeBSD", 9, &sized(1392, &file(-5, &self.executable)))
            .note("FreeBSD", 10, &sized(1160, &maps))
            .note("FreeBSD", 14, &sized(4, &1_401_000_u32.to_le_bytes()))
            .note("FreeBSD", 16, &sized(if machine.wide() { 16 } else { 8 }, &auxv));
        for m in &self.mappings {
            core = core.load(m.start, m.bytes.len() as u64, m.flags, Contents::Bytes(m.bytes.clone()));
        }
        core
    }
}
