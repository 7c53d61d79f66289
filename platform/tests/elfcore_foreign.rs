//! Cores of FreeBSD and illumos: fixtures against other readers' answers, and Linux told from illumos both ways.

use evidence::{Absent, Access, Addr, Os, Register, Target, ThreadId, register_number};
use platform::elfcore::{self, Core, Options};
use testdata::elfcore::linux::{prpsinfo, prstatus, x86_64_registers};
use testdata::elfcore::{Contents, CoreBuilder};
use testdata::fixtures::fixture;

fn read(core: &CoreBuilder) -> Core {
    elfcore::open_stream(&*core.build(), "-", &Options::default()).unwrap()
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[test]
fn a_freebsd_core_equals_lldb() {
    let Some(path) = fixture("freebsd/core/x86-64-freebsd.core") else { return };
    let core = elfcore::open(&path, &Options::default()).unwrap();
    let id = core.identity();
    assert_eq!((id.os, id.pid, id.command.as_deref()), (Os::FreeBsd, Some(786), Some("a.out")));
    assert_eq!(id.release.as_deref(), Some("13.0"));
    assert!(id.executable.as_deref().is_some_and(|p| p.ends_with("/a.out")), "{:?}", id.executable);
    assert_eq!(core.threads().len(), 1);
    let thread = &core.threads()[0];
    assert_eq!((thread.id, thread.name.as_deref()), (ThreadId(100_654), Some("a.out")));
    assert_eq!(core.event().unwrap().signal.unwrap().number, 11);
    // The list of mappings names what has no segment: the code of the program.
    let code = core.mappings().iter().find(|m| m.range.contains(&Addr(0x20_242b))).unwrap();
    assert!(code.path.as_deref().is_some_and(|p| p.ends_with("/a.out")), "{code:?}");
    assert!(code.protection.unwrap().execute);
    assert_eq!(core.memory().read(Addr(0x20_242b), &mut [0; 1]), (0, Some(Absent::Filtered)));
    assert_eq!(core.memory().read(Addr(0x1000), &mut [0; 1]), (0, Some(Absent::Unmapped)));
    // Its memory was stripped off.
    assert_eq!(core.memory().read(Addr(0x7fff_ffff_e000), &mut [0; 1]), (0, Some(Absent::Truncated)));
    assert!(core.images().iter().any(|i| i.path.as_deref().is_some_and(|p| p.ends_with("/libc.so.7"))));
    assert!(!core.open_files().is_empty());
    assert!(core.notes().iter().any(|n| &*n.owner == "FreeBSD" && n.kind == 16));
}

/// The part of a full register that a name stands for: the register, the lowest bit, the number of bits.
fn part(name: &str) -> Option<(String, u32, u32)> {
    let short = |n: &str| n.strip_prefix('r').is_some_and(|d| d.parse::<u8>().is_ok());
    if let Some((full, bits)) = [("d", 32), ("w", 16), ("l", 8)]
        .iter()
        .find_map(|(end, bits)| name.strip_suffix(end).filter(|n| short(n)).map(|n| (n.to_owned(), *bits)))
    {
        return Some((full, 0, bits));
    }
    if let Some(rest) = name.strip_prefix('e').filter(|r| r.len() == 2) {
        return Some((format!("r{rest}"), 0, 32));
    }
    match name.as_bytes() {
        [a, b'h'] => Some((format!("r{}x", char::from(*a)), 8, 8)),
        [a, b'l'] => Some((format!("r{}x", char::from(*a)), 0, 8)),
        [_, _] => Some((format!("r{name}"), 0, 16)),
        [_, _, b'l'] => Some((format!("r{}", &name[..2]), 0, 8)),
        _ => None,
    }
}

/// What a register of any name holds, little-endian.
fn held(registers: &evidence::Registers, name: &str) -> Option<Vec<u8>> {
    let number = |value: u64| Some(value.to_le_bytes().to_vec());
    if let Some(value) = register_number(registers.arch, name).and_then(|r| registers.get(r)) {
        return number(value);
    }
    let x87 = registers.x87.as_deref()?;
    let indexed = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse::<u16>().ok());
    if let Some(n) = indexed("xmm") {
        return registers.vector(Register(17 + n)).map(|v| v[..16].to_vec());
    }
    if let Some(n) = indexed("st") {
        return Some(x87.stack[usize::from(n)].to_vec());
    }
    if let Some(n) = indexed("mm") {
        return Some(x87.stack[usize::from(n)][..8].to_vec());
    }
    if let Some(value) = x87.field(name) {
        return number(value);
    }
    let (full, low, bits) = part(name)?;
    let value = registers.get(register_number(registers.arch, &full)?)?;
    number(value >> low & (u64::MAX >> (64 - bits)))
}

/// Every line `name = value` of what lldb is expected to print, field by field; returns how many there were.
fn compare(registers: &evidence::Registers, text: &str) -> usize {
    let mut compared = 0;
    for line in text.lines() {
        let line = line.trim().trim_start_matches("# CHECK-DAG: ");
        let Some((name, value)) = line.split_once(" = ") else { continue };
        let expected = match value.strip_prefix('{') {
            Some(list) => list.trim_end_matches('}').split(' ').map(|b| hex(b).unwrap() as u8).collect(),
            None => hex(value).unwrap().to_le_bytes().to_vec(),
        };
        assert_eq!(held(registers, name), Some(expected), "{name}");
        compared += 1;
    }
    compared
}

#[test]
fn every_register_of_a_freebsd_core_is_what_lldb_prints() {
    let Some(path) = fixture("freebsd/core/x86-64-freebsd.core") else { return };
    let core = elfcore::open(&path, &Options::default()).unwrap();
    let registers = &core.threads()[0].registers;
    let read = |name: &str| std::fs::read_to_string(fixture(&format!("freebsd/core/{name}")).unwrap()).unwrap();
    // rip, rflags, segments; fiseg, fioff, fip, foseg, fooff, fdp.
    assert_eq!(compare(registers, &read("x86-64-freebsd-addr.test")), 14);
    // All widths of the general registers; xmm8 to xmm15.
    assert_eq!(compare(registers, &read("x86-64-gp-hixmm.check")), 76);
    // Everything that lldb prints of this core: the whole x87 unit, MXCSR and xmm0 to xmm7 as well.
    let printed = read("x86-64-freebsd.lldb.txt");
    let printed = printed.split("General Purpose Registers:").nth(1).unwrap();
    assert_eq!(compare(registers, printed.split("Advanced Vector").next().unwrap()), 24 + 52 + 12 + 8 + 8 + 16);
}

fn fact<'c>(core: &'c Core, key: &str) -> Option<&'c str> {
    core.attributes().iter().find(|a| &*a.key == key).map(|a| &*a.value)
}

#[test]
fn groups_umask_and_limits_of_a_freebsd_core() {
    let Some(path) = fixture("freebsd/core/x86-64-freebsd.core") else { return };
    let core = elfcore::open(&path, &Options::default()).unwrap();
    assert_eq!(fact(&core, "process.groups"), Some("1001 0"));
    assert_eq!(fact(&core, "process.umask"), Some("0022"));
    assert_eq!(fact(&core, "process.ps_strings"), Some("0x7fffffffdfe0"));
    let limits: Vec<&str> = fact(&core, "process.limits").unwrap().lines().collect();
    assert_eq!(limits.len(), 15);
    assert_eq!((limits[0], limits[2]), ("cpu unlimited unlimited", "data 34359738368 34359738368"));
    assert_eq!((limits[3], limits[7]), ("stack 536870912 536870912", "nproc 26931 26931"));
    assert_eq!((limits[6], limits[8]), ("memlock 65536 65536", "nofile 706644 706644"));
    // They are told as facts, not kept as bytes.
    assert!(!core.notes().iter().any(|n| [11, 12, 13, 15].contains(&n.kind)), "{:?}", core.notes());
}

/// A word of a program of 64 or 32 bits.
fn word(wide: bool, n: u64) -> Vec<u8> {
    n.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec()
}

/// `struct kinfo_knote` as a C compiler lays it out.
fn knote(wide: bool, queue: u32, filter: i16, ident: u64, status: u32, path: &str) -> Vec<u8> {
    let mut out = word(wide, queue.into());
    out.extend(word(wide, ident));
    out.extend(filter.to_le_bytes());
    out.extend(0x21_u16.to_le_bytes());
    out.extend(3_u32.to_le_bytes());
    out.extend((-7_i64).to_le_bytes());
    out.extend(word(wide, 0xdada));
    out.extend([0; 32]);
    out.extend(status.to_le_bytes());
    out.extend(u32::from(!path.is_empty()).to_le_bytes());
    out.extend([0; 32]);
    out.extend(word(wide, 1));
    out.extend([0; 16]);
    out.extend(path.as_bytes());
    out.resize(if wide { 1160 } else { 1144 }, 0);
    out
}

#[test]
fn strings_and_kqueues_of_freebsd_cores_of_both_widths() {
    for (wide, machine) in [(true, 62), (false, 3)] {
        let mut memory: Vec<u8> = Vec::new();
        // ps_strings: argv, 2, envp, 2.
        memory.extend(word(wide, 0x1100));
        memory.extend(word(wide, 2));
        memory.extend(word(wide, 0x1180));
        memory.extend(word(wide, 2));
        let mut put = |at: usize, bytes: &[u8]| {
            memory.resize(memory.len().max(at + bytes.len()), 0);
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0x100, &[word(wide, 0x1200), word(wide, 0x1210)].concat());
        put(0x180, &[word(wide, 0x1220), word(wide, 0x1230)].concat());
        put(0x200, b"./server\0");
        put(0x210, b"--long option\0");
        put(0x220, b"HOME=/\0");
        put(0x230, b"LANG=C\0");
        put(0xfff, &[0]);
        let sized = |size: usize, body: Vec<u8>| [(size as u32).to_le_bytes().to_vec(), body].concat();
        let size = if wide { 1160 } else { 1144 };
        let knotes =
            [knote(wide, 5, -1, 7, 0x13, ""), knote(wide, 5, -4, 9, 0, "/etc/passwd"), knote(wide, 6, -99, 1, 4, "")];
        let built = |ps: Vec<u8>, queues: Vec<u8>| {
            let core = CoreBuilder::new(wide, false, machine)
                .osabi(9)
                .note("FreeBSD", 1, &[0; 256])
                .note("FreeBSD", 15, &ps)
                .note("FreeBSD", 18, &queues);
            read(&core.load(0x1000, 0x1000, 6, Contents::Bytes(memory.clone())))
        };
        let pointer = if wide { 8 } else { 4 };
        let core = built(sized(pointer, word(wide, 0x1000)), sized(size, knotes.concat()));
        assert_eq!(core.identity().arguments.as_deref(), Some("./server --long option"));
        assert_eq!(fact(&core, "process.environment"), Some("HOME=/\nLANG=C"));
        assert_eq!(
            fact(&core, "process.kqueues"),
            Some(
                "5 read 7 0x21 0x3 -7 active,queued,kqueue\n5 vnode 9 0x21 0x3 -7 - /etc/passwd\n6 -99 1 0x21 0x3 -7 disabled"
            )
        );
        // Another form, or cut, is left out with a doubt; strings elsewhere are not there.
        let core = built(sized(pointer, word(wide, 0x5000)), sized(64, vec![0; 128]));
        assert_eq!((core.identity().arguments.as_deref(), fact(&core, "process.kqueues")), (None, None));
        let doubts = format!("{:?}", core.gaps().doubts);
        assert!(doubts.contains(&format!("structures of 64 bytes, not {size}")), "{doubts}");
        let cut = sized(size, knotes.concat()[..size + 100].to_vec());
        let core = built(sized(pointer, word(wide, 0x1000)), cut);
        assert_eq!(fact(&core, "process.kqueues").map(|k| k.lines().count()), Some(1));
        assert!(format!("{:?}", core.gaps().doubts).contains("kqueues is cut"));
    }
}

#[test]
fn an_illumos_core_equals_what_was_written() {
    let Some(path) = fixture("illumos/user/core.amd64") else { return };
    let core = elfcore::open(&path, &Options::default()).unwrap();
    assert_eq!(core.identity().os, Os::Illumos);
    let text = std::fs::read_to_string(fixture("illumos/user/expected.json").unwrap()).unwrap();
    let field = |part: &str, key: &str| {
        let rest = part.split(&format!("\"{key}\": ")).nth(1).unwrap();
        rest.split([',', '\n', '}']).next().unwrap().trim_matches('"').to_owned()
    };
    let expected: Vec<&str> = text.split("\"lwp\"").skip(1).collect();
    assert_eq!(core.threads().len(), expected.len());
    for (thread, part) in core.threads().iter().zip(expected) {
        let part = format!("\"lwp\"{part}");
        assert_eq!(thread.id.0.to_string(), field(&part, "lwp"));
        assert_eq!(thread.name.as_deref(), Some(&*field(&part, "name")));
        assert_eq!(thread.registers.pc().map(|a| a.0), hex(&field(&part, "rip")));
        assert_eq!(thread.registers.sp().map(|a| a.0), hex(&field(&part, "rsp")));
        assert_eq!(thread.registers.fp().map(|a| a.0), hex(&field(&part, "rbp")));
        assert_eq!(core.memory().read(thread.registers.sp().unwrap(), &mut [0; 16]), (16, None));
    }
    let signal = core.event().unwrap().signal.unwrap();
    assert_eq!(signal.number.to_string(), field(&text, "signo"));
    assert_eq!(signal.address.map(|a| a.0), hex(&field(&text, "fault")));
    let event = core.event().unwrap();
    assert_eq!((event.thread, event.message.as_deref()), (Some(ThreadId(1)), Some("fixture upanic message")));
    assert_eq!(core.identity().host.as_deref(), Some("fixture"));
    assert!(core.attributes().iter().any(|a| &*a.key == "process.zone" && &*a.value == "global"));
    assert_eq!(&*core.open_files()[0].target, "/dev/pts/3");
    let names: Vec<_> = core.mappings().iter().map(|m| m.path.as_deref()).collect();
    assert_eq!(names, [None, Some("[heap]"), Some("[stack]")]);
    assert!(core.gaps().doubts.is_empty(), "{:?}", core.gaps());
}

/// An `lwpstatus_t` of amd64 with a pc, and where Linux has its own pc (in the registers of `elf_prstatus`), another.
fn lwpstatus(id: u32, pc: u64) -> Vec<u8> {
    let mut out = vec![0; 1296];
    out[4..8].copy_from_slice(&id.to_le_bytes());
    out[544 + 17 * 8..544 + 18 * 8].copy_from_slice(&pc.to_le_bytes());
    out
}

#[test]
fn linux_and_illumos_are_told_apart_by_their_notes_alone() {
    let memory = |core: CoreBuilder| core.load(0x1000, 0x1000, 6, Contents::Bytes(vec![1; 4096]));
    let empty = || CoreBuilder::new(true, false, 62);
    let linux = memory(empty().note("CORE", 1, &prstatus(5, 11, &x86_64_registers(0x1234, 0x1800, 0))).note(
        "CORE",
        3,
        &prpsinfo(5, "a", "a"),
    ));
    let illumos = memory(
        empty()
            // The old format first, with Linux's numbers, as the kernel of illumos writes it.
            .note("CORE", 3, &[0; 260])
            .note("CORE", 1, &[0; 336])
            .next_note_segment()
            .note("CORE", 13, &[0; 416])
            .note("CORE", 10, &[0; 1680])
            .note("CORE", 17, &[0; 128])
            .note("CORE", 16, &lwpstatus(1, 0x1334)),
    );
    for osabi in [0, 3, 6] {
        let (linux, illumos) = (read(&linux.clone().osabi(osabi)), read(&illumos.clone().osabi(osabi)));
        assert_eq!((linux.identity().os, illumos.identity().os), (Os::Linux, Os::Illumos));
        assert_eq!(linux.threads()[0].registers.pc(), Some(Addr(0x1234)));
        assert_eq!(illumos.threads().last().unwrap().registers.pc(), Some(Addr(0x1334)));
    }
}

/// The first segment of notes repeats in the old format, with Linux's numbers, what the second says. It is never read, and
/// if the second is lost, the core is still not taken for one of Linux.
#[test]
fn the_old_notes_of_illumos_are_not_read() {
    let old = || {
        CoreBuilder::new(true, false, 62)
            .note("CORE", 3, &prpsinfo(7, "wrong", "wrong"))
            .note("CORE", 5, b"i86pc\0")
            .note("CORE", 6, &[0; 28 * 16])
            .note("CORE", 1, &prstatus(7, 11, &x86_64_registers(0x6666, 0x1800, 0)))
            .note("CORE", 2, &[0; 512])
    };
    // What the kernel writes today besides, in its order: names and bodies of any content are not misread.
    let mut auxv = vec![0; 28 * 16];
    auxv[..8].copy_from_slice(&6_u64.to_le_bytes());
    auxv[8..16].copy_from_slice(&4096_u64.to_le_bytes());
    let mut name = vec![0; 40];
    name[..8].copy_from_slice(&1_u64.to_le_bytes());
    name[8..14].copy_from_slice(b"worker");
    let mut info = vec![0; 416];
    info[8..12].copy_from_slice(&42_u32.to_le_bytes());
    info[136..140].copy_from_slice(b"true");
    let whole = old()
        .next_note_segment()
        .note("CORE", 13, &info)
        .note("CORE", 10, &[0; 1680])
        .note("CORE", 5, b"i86pc\0")
        .note("CORE", 6, &auxv)
        .note("CORE", 24, &[0xff; 40])
        .note("CORE", 14, &[0xff; 32])
        .note("CORE", 20, &[0xff; 8])
        .note("CORE", 18, &[0xff; 124])
        .note("CORE", 19, &[0xff; 4000])
        .note("CORE", 9, &[0xff; 8])
        .note("CORE", 17, &{
            let mut info = vec![0; 128];
            info[4] = 1;
            info
        })
        .note("CORE", 16, &lwpstatus(1, 0x1334))
        .note("CORE", 25, &name)
        .note("CORE", 4, &[0xff; 832])
        .note("CORE", 27, b"/var/tmp\0");
    let core = read(&whole);
    assert_eq!((core.identity().os, core.identity().pid), (Os::Illumos, Some(42)));
    assert_eq!(core.identity().command.as_deref(), Some("true"));
    assert_eq!(core.threads().len(), 1);
    assert_eq!(core.threads()[0].registers.pc(), Some(Addr(0x1334)));
    assert_eq!(core.threads()[0].name.as_deref(), Some("worker"));
    let lost = read(&old());
    assert_eq!((lost.identity().os, lost.threads().len()), (Os::Illumos, 0));
    assert!(format!("{:?}", lost.gaps().doubts).contains("notes of the new format are missing"), "{:?}", lost.gaps());
}

/// A zombie has an `lwpsinfo_t` only, an agent is an LWP like others; of 32-bit programs everything is narrower.
#[test]
fn zombies_agents_and_narrow_programs() {
    let mut zombie = vec![0; 128];
    zombie[4] = 3;
    zombie[26] = b'Z';
    let mut agent = lwpstatus(2, 0x1500);
    agent[0..4].copy_from_slice(&0x1000_u32.to_le_bytes());
    let core = read(
        &CoreBuilder::new(true, false, 62)
            .note("CORE", 10, &[0; 1680])
            .note("CORE", 16, &lwpstatus(1, 0x1400))
            .note("CORE", 16, &agent)
            .note("CORE", 17, &zombie),
    );
    let pcs: Vec<_> = core.threads().iter().map(|t| t.registers.pc().map(|a| a.0).filter(|pc| *pc != 0)).collect();
    assert_eq!(pcs, [Some(0x1400), Some(0x1500), None]);
    assert!(format!("{:?}", core.gaps().doubts).contains("LWP 3 has no registers in the core (its state is zombie)"));
    // ELFCLASS32 of the same machine: eip is word 14, uesp word 17, of 19.
    let mut narrow = vec![0; 800];
    narrow[4] = 1;
    for (slot, value) in [(5, 0x0804_7f00_u32), (7, 0xbad), (14, 0x0805_1234), (17, 0x0804_7e00)] {
        narrow[344 + slot * 4..348 + slot * 4].copy_from_slice(&value.to_le_bytes());
    }
    let mut status = vec![0; 1136];
    // pr_lwp: id, signal; siginfo: signo, code, errno, address, in another order than Linux's.
    for (at, value) in [(4, 1_u32), (16, 11), (20, 1), (24, 0), (28, 0x28)] {
        status[336 + at..340 + at].copy_from_slice(&value.to_le_bytes());
    }
    status[336 + 12] = 11;
    let core = read(&CoreBuilder::new(false, false, 3).note("CORE", 10, &status).note("CORE", 16, &narrow));
    let thread = &core.threads()[0];
    assert_eq!((thread.registers.pc(), thread.registers.sp()), (Some(Addr(0x0805_1234)), Some(Addr(0x0804_7e00))));
    let signal = core.event().unwrap().signal.unwrap();
    assert_eq!((signal.number, signal.code, signal.errno, signal.address), (11, Some(1), Some(0), Some(Addr(0x28))));
}

#[test]
fn segments_that_illumos_could_not_write_are_denied() {
    let core = CoreBuilder::new(true, false, 62)
        .note("CORE", 16, &lwpstatus(1, 0x10))
        .load(0x1000, 0x1000, 6 | 0x10_0000, Contents::Bytes(vec![1; 4096]))
        .load(0x3000, 0x1000, 6, Contents::Hole(0));
    let core = read(&core);
    assert_eq!(core.memory().read(Addr(0x1000), &mut [0; 1]), (0, Some(Absent::Denied)));
    assert_eq!(core.memory().read(Addr(0x3000), &mut [0; 1]), (0, Some(Absent::Filtered)));
}

#[test]
fn a_page_fault_of_illumos_says_how_it_touched() {
    let mut status = vec![0; 1680];
    let lwp = &mut status[384..];
    lwp[4..8].copy_from_slice(&1_u32.to_le_bytes());
    lwp[12..14].copy_from_slice(&11_u16.to_le_bytes());
    lwp[16..20].copy_from_slice(&11_u32.to_le_bytes());
    lwp[20..24].copy_from_slice(&1_u32.to_le_bytes());
    lwp[32..40].copy_from_slice(&0x28_u64.to_le_bytes());
    lwp[544 + 15 * 8..544 + 16 * 8].copy_from_slice(&14_u64.to_le_bytes());
    lwp[544 + 16 * 8..544 + 17 * 8].copy_from_slice(&6_u64.to_le_bytes());
    let core = CoreBuilder::new(true, false, 62).note("CORE", 10, &status).note("CORE", 16, &lwpstatus(1, 0x10));
    let core = read(&core);
    let event = core.event().unwrap();
    assert_eq!((event.access, event.trap_number, event.error_code), (Some(Access::Write), Some(14), Some(6)));
    assert_eq!(event.signal.unwrap().address, Some(Addr(0x28)));
}

#[test]
fn damaged_foreign_cores_are_harmless() {
    for name in ["freebsd/core/x86-64-freebsd.core", "illumos/user/core.amd64"] {
        let Some(path) = fixture(name) else { return };
        let whole = std::fs::read(path).unwrap();
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut opened = 0;
        for _ in 0..3000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = usize::try_from(seed % 0x3400).unwrap() % whole.len();
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (seed >> 60 & 7);
            bytes.truncate(if seed & 1 == 0 {
                bytes.len()
            } else {
                usize::try_from(seed >> 20).unwrap() % bytes.len()
            });
            let Ok(core) = elfcore::open_stream(&*bytes, "-", &Options::default()) else { continue };
            opened += 1;
            for extent in core.memory().extents() {
                let _ = core.memory().read(extent.range.start, &mut [0; 64]);
            }
        }
        assert!(opened > 1500, "{name}: {opened}");
    }
}
