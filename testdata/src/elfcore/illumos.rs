//! Bodies of illumos's notes, and a small whole core of a program of several LWPs, 64-bit or 32-bit.
//!
//! Layouts: `sys/procfs.h`, `sys/regset.h`; `exec/elf/elf_notes.c` for the order of the notes and the two segments.

use super::{Contents, CoreBuilder};

/// What is true of the core that [`core()`] writes.
#[derive(Clone, Debug)]
pub struct Truth {
    /// LWP, name, program counter.
    pub threads: Vec<(u32, String, u64)>,
    /// An LWP of which only an `lwpsinfo_t` is left.
    pub zombie: u32,
    /// The address that the first LWP touched.
    pub fault: u64,
    /// Where memory is, and what is in it.
    pub memory: Vec<(u64, Vec<u8>)>,
}

/// The pid of the program.
pub const PID: u32 = 4711;
/// What the old notes give as the program counter of the first LWP; nothing may believe it.
pub const OLD_PC: u64 = 0x0bad_0bad;

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn word(wide: bool, n: u64) -> Vec<u8> {
    n.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec()
}

/// `lwpstatus_t` of an LWP at `pc`; with a signal, of a write to `address`.
#[must_use]
pub fn lwpstatus(wide: bool, lwp: u32, signal: u16, address: u64, pc: u64, sp: u64) -> Vec<u8> {
    let mut out = vec![0; if wide { 1296 } else { 800 }];
    put(&mut out, 4, &lwp.to_le_bytes());
    put(&mut out, 12, &signal.to_le_bytes());
    // siginfo_t: signo, code (SEGV_MAPERR), errno, and the address.
    put(&mut out, 16, &u32::from(signal).to_le_bytes());
    if signal != 0 {
        put(&mut out, 20, &1_u32.to_le_bytes());
        put(&mut out, if wide { 32 } else { 28 }, &word(wide, address));
    }
    let (registers, size) = if wide { (544, 8) } else { (344, 4) };
    // trapno, err, pc, sp: REG_TRAPNO, REG_ERR, REG_RIP, REG_RSP of amd64; TRAPNO, ERR, EIP, UESP of i386.
    let places = if wide { [15, 16, 17, 20] } else { [12, 13, 14, 17] };
    let fault = if signal == 0 { [0, 0] } else { [14, 6] };
    for (place, value) in places.into_iter().zip([fault[0], fault[1], pc, sp]) {
        put(&mut out, registers + place * size, &word(wide, value));
    }
    out
}

fn lwpsinfo(wide: bool, lwp: u32, state: u8) -> Vec<u8> {
    let mut out = vec![0; if wide { 128 } else { 104 }];
    put(&mut out, 4, &lwp.to_le_bytes());
    out[if wide { 26 } else { 18 }] = state;
    out
}

/// The notes of the old format, with numbers that Linux uses as well.
fn old_notes(core: CoreBuilder, wide: bool, auxv: &[u8]) -> CoreBuilder {
    let mut status = vec![0; if wide { 824 } else { 508 }];
    for at in (0..status.len() - 8).step_by(8) {
        put(&mut status, at, &OLD_PC.to_le_bytes());
    }
    let mut info = vec![0; if wide { 336 } else { 260 }];
    put(&mut info, 28, &9999_u32.to_le_bytes());
    core.note("CORE", 3, &info).note("CORE", 5, b"i86pc\0").note("CORE", 6, auxv).note("CORE", 1, &status).note(
        "CORE",
        2,
        &[0x22; 512],
    )
}

/// A core of `lwps` LWPs, of which the first died of SIGSEGV, and of a zombie.
#[must_use]
pub fn core(wide: bool, lwps: u32) -> (CoreBuilder, Truth) {
    let (text, heap, stack) =
        if wide { (0x40_0000, 0x50_0000, 0xffff_fc7f_ffdf_0000) } else { (0x0805_0000, 0x0806_0000, 0x0804_0000_u64) };
    let mut truth = Truth { threads: Vec::new(), zombie: lwps + 1, fault: 0x28, memory: Vec::new() };
    // AT_SUN_EXECNAME, then 27 entries of other kinds or of none: the kernel writes 28.
    let mut auxv = [word(wide, 2014), word(wide, stack + 0x400)].concat();
    auxv.extend([word(wide, 9), word(wide, text)].concat());
    auxv.resize(28 * if wide { 16 } else { 8 }, 0);
    let mut core = old_notes(CoreBuilder::new(wide, false, if wide { 62 } else { 3 }), wide, &auxv).next_note_segment();

    let mut info = vec![0; if wide { 416 } else { 336 }];
    put(&mut info, 4, &lwps.to_le_bytes());
    put(&mut info, 8, &PID.to_le_bytes());
    let name = if wide { 136 } else { 88 };
    put(&mut info, name, b"server");
    put(&mut info, name + 16, b"./server -d");
    let status = |lwp: u32, pc| lwpstatus(wide, lwp, if lwp == 1 { 11 } else { 0 }, 0x28, pc, stack + 0x800);
    let mut process = vec![0; if wide { 384 } else { 336 }];
    put(&mut process, 4, &lwps.to_le_bytes());
    put(&mut process, 8, &PID.to_le_bytes());
    let sizes = [heap, 0x1000, stack, 0x3000].map(|n| word(wide, n)).concat();
    put(&mut process, 48, &sizes);
    process.extend(status(1, text + 0x100));
    let mut name = vec![0; 1285];
    for (n, part) in ["SunOS", "host", "5.11", "illumos-1234", "i86pc"].iter().enumerate() {
        put(&mut name, n * 257, part.as_bytes());
    }
    let mut file = vec![0; 1088];
    put(&mut file, 0, &3_u32.to_le_bytes());
    put(&mut file, 64, b"/var/log/server.log");
    core = core
        .note("CORE", 13, &info)
        .note("CORE", 10, &process)
        .note("CORE", 5, b"i86pc\0")
        .note("CORE", 6, &auxv)
        .note("CORE", 15, &name)
        .note("CORE", 20, &0x0ff3_u64.to_le_bytes())
        .note("CORE", 21, b"global\0")
        .note("CORE", 22, &file);
    for lwp in 1..=lwps {
        let pc = text + 0x100 + u64::from(lwp - 1) * 16;
        let title = format!("worker{lwp}");
        let mut named = u64::from(lwp).to_le_bytes().to_vec();
        named.extend(title.as_bytes());
        named.resize(40, 0);
        core = core
            .note("CORE", 17, &lwpsinfo(wide, lwp, b'S'))
            .note("CORE", 16, &status(lwp, pc))
            .note("CORE", 25, &named);
        truth.threads.push((lwp, title, pc));
    }
    core = core.note("CORE", 17, &lwpsinfo(wide, truth.zombie, b'Z'));

    let code: Vec<u8> = (0..0x2000_u32).map(|n| ((n * 7) >> 2) as u8).collect();
    let data: Vec<u8> = (0..0x1000_u32).map(|n| ((n * 13) >> 4) as u8).collect();
    let mut on_stack: Vec<u8> = (0..0x3000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    put(&mut on_stack, 0x400, b"/opt/bin/server\0");
    for (at, flags, bytes) in [(text, 5, code), (heap, 6, data), (stack, 6, on_stack)] {
        core = core.load(at, bytes.len() as u64, flags, Contents::Bytes(bytes.clone()));
        truth.memory.push((at, bytes));
    }
    (core, truth)
}

/// What the kernel copies of one object into the sections of a core (exec/elf/elf.c, `process_scns`).
#[derive(Clone, Copy, Debug, Default)]
pub struct ObjectSections<'s> {
    /// Where the object begins.
    pub base: u64,
    /// Its `.SUNW_ctf`; empty: none.
    pub types: &'s [u8],
    /// The symbol table, and its names.
    pub symbols: &'s [u8],
    /// Its names.
    pub strings: &'s [u8],
    /// The table is its `.dynsym`, which is said to lie where it does in memory.
    pub dynamic: bool,
}

/// A core with sections behind it: the types of each object, then its table with the names, at last the sections' names.
#[must_use]
pub fn with_sections(mut core: Vec<u8>, wide: bool, objects: &[ObjectSections<'_>]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.SUNW_ctf\0.symtab\0.strtab\0.dynsym\0.dynstr\0.shstrtab\0";
    let size = if wide { 64 } else { 40 };
    let mut headers = vec![0; size];
    let mut add = |core: &mut Vec<u8>, name: &str, kind: u32, address: u64, bytes: &[u8], link: usize| {
        let name = NAMES.windows(name.len() + 1).position(|w| w == [name.as_bytes(), b"\0"].concat()).unwrap_or(0);
        core.resize(core.len().next_multiple_of(8), 0);
        headers.extend([(name as u32).to_le_bytes(), kind.to_le_bytes()].concat());
        let numbers = [0, address, core.len() as u64, bytes.len() as u64];
        numbers.iter().for_each(|n| headers.extend(word(wide, *n)));
        headers.extend([(link as u32).to_le_bytes(), [0; 4]].concat());
        headers.extend([word(wide, 4), word(wide, 0)].concat());
        core.extend(bytes);
        headers.len() / size
    };
    let mut next = 1;
    for object in objects {
        if !object.types.is_empty() {
            next = add(&mut core, ".SUNW_ctf", 1, object.base, object.types, next + 1);
        }
        let (table, names, kind) = if object.dynamic { (".dynsym", ".dynstr", 11) } else { (".symtab", ".strtab", 2) };
        let address = if object.dynamic { object.base + 0x238 } else { object.base };
        let strings = add(&mut core, table, kind, address, object.symbols, next + 1);
        debug_assert_eq!(strings, next + 1);
        next = add(&mut core, names, 3, address, object.strings, 0);
    }
    let count = add(&mut core, ".shstrtab", 3, 0, NAMES, 0);
    core.resize(core.len().next_multiple_of(8), 0);
    let (offset, entry) = if wide { (40, 58) } else { (32, 46) };
    let at = word(wide, core.len() as u64);
    put(&mut core, offset, &at);
    for (n, value) in [size, count, count - 1].into_iter().enumerate() {
        put(&mut core, entry + 2 * n, &(value as u16).to_le_bytes());
    }
    core.extend(headers);
    core
}
