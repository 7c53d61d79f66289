//! Bodies of Linux's notes, and a small whole core.
//!
//! Layouts: `include/linux/elfcore.h` (`elf_prstatus`, `elf_prpsinfo`), `fs/binfmt_elf.c` (`NT_FILE`).

use super::{Contents, CoreBuilder};

/// `e_machine` of x86-64.
pub const EM_X86_64: u16 = 62;
/// `NT_PRSTATUS`, `NT_PRPSINFO`, `NT_AUXV`, `NT_SIGINFO`, `NT_FILE`.
pub const KINDS: [u32; 5] = [1, 3, 6, 0x5349_4749, 0x4649_4c45];

/// A 64-bit little-endian `elf_prstatus` with these general registers in the kernel's order.
#[must_use]
pub fn prstatus(tid: u32, signal: i32, registers: &[u64]) -> Vec<u8> {
    let mut out = vec![0; 112];
    out[..4].copy_from_slice(&signal.to_le_bytes());
    out[12..14].copy_from_slice(&(signal as u16).to_le_bytes());
    out[32..36].copy_from_slice(&tid.to_le_bytes());
    out.extend(registers.iter().flat_map(|r| r.to_le_bytes()));
    out.extend([0; 8]);
    out
}

/// A 64-bit little-endian `elf_prpsinfo`.
#[must_use]
pub fn prpsinfo(pid: u32, name: &str, arguments: &str) -> Vec<u8> {
    let mut out = vec![0; 136];
    out[24..28].copy_from_slice(&pid.to_le_bytes());
    out[28..32].copy_from_slice(&1_u32.to_le_bytes());
    let (name, arguments) = (&name.as_bytes()[..name.len().min(15)], &arguments.as_bytes()[..arguments.len().min(79)]);
    out[40..40 + name.len()].copy_from_slice(name);
    out[56..56 + arguments.len()].copy_from_slice(arguments);
    out
}

/// A 64-bit little-endian `siginfo_t` of a fault.
#[must_use]
pub fn siginfo(signal: i32, code: i32, address: u64) -> Vec<u8> {
    let mut out = vec![0; 128];
    out[..4].copy_from_slice(&signal.to_le_bytes());
    out[8..12].copy_from_slice(&code.to_le_bytes());
    out[16..24].copy_from_slice(&address.to_le_bytes());
    out
}

/// `NT_FILE` in the byte order and class of `core`, offsets in pages of 4096 bytes.
#[must_use]
pub fn files(core: &CoreBuilder, files: &[(u64, u64, u64, &str)]) -> Vec<u8> {
    let mut out = [core.long(files.len() as u64), core.long(4096)].concat();
    for (start, end, page, _) in files {
        for number in [start, end, page] {
            out.extend(core.long(*number));
        }
    }
    for (_, _, _, name) in files {
        out.extend(name.as_bytes());
        out.push(0);
    }
    out
}

/// General registers of x86-64 with pc, sp and a thread pointer, the others their index.
#[must_use]
pub fn x86_64_registers(pc: u64, sp: u64, fs_base: u64) -> Vec<u64> {
    let mut out: Vec<u64> = (0..27).collect();
    (out[15], out[16], out[19], out[21]) = (u64::MAX, pc, sp, fs_base);
    out
}

/// The notes of a process with `threads` threads whose first one died of SIGSEGV at address 0x28.
#[must_use]
pub fn crashed(threads: u32) -> CoreBuilder {
    let mut core = CoreBuilder::new(true, false, EM_X86_64);
    let auxv: Vec<u8> = [9_u64, 0x40_1000, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    let list = files(&core, &[(0x40_0000, 0x40_1000, 0, "/opt/app"), (0x40_1000, 0x40_3000, 1, "/opt/app")]);
    for n in 0..threads {
        let sp = 0x7fff_0000_0000 - u64::from(n) * 0x10_0000 + 0x800;
        let body = prstatus(100 + n, 11, &x86_64_registers(0x40_1010 + u64::from(n), sp, 0x7000_0000 + u64::from(n)));
        core = core.note("CORE", 1, &body);
        if n == 0 {
            core = core
                .note("CORE", 3, &prpsinfo(100, "app", "/opt/app --flag"))
                .note("CORE", 0x5349_4749, &siginfo(11, 1, 0x28))
                .note("CORE", 6, &auxv)
                .note("CORE", 0x4649_4c45, &list);
        }
    }
    core
}

/// [`crashed`] with memory: an ELF header's page, code that was left out, and a page of stack.
#[must_use]
pub fn small() -> CoreBuilder {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"\x7fELF");
    let stack: Vec<u8> = (0..4096_u32).map(|n| n as u8).collect();
    crashed(2).load(0x40_0000, 0x1000, 4, Contents::Bytes(page)).load(0x40_1000, 0x2000, 5, Contents::Hole(0)).load(
        0x7fff_0000_0000,
        0x2000,
        6,
        Contents::Bytes([stack, vec![7; 4096]].concat()),
    )
}
