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
    let text = std::fs::read_to_string(fixture("freebsd/core/x86-64-freebsd.lldb.txt").unwrap()).unwrap();
    let registers = text.split("General Purpose Registers:").nth(1).unwrap();
    let mut compared = 0;
    for line in registers.lines() {
        let Some((name, value)) = line.trim().split_once(" = ") else { continue };
        if let (Some(register), Some(value)) = (register_number(thread.registers.arch, name), hex(value)) {
            assert_eq!(thread.registers.get(register), Some(value), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 24, "{compared}");
    // The .check file has the vectors: xmm0 = {0x.. sixteen bytes}.
    let check = std::fs::read_to_string(fixture("freebsd/core/x86-64-gp-hixmm.check").unwrap()).unwrap();
    let mut vectors = 0;
    for n in 0..16_u16 {
        let prefix = format!("xmm{n} = {{");
        let Some(line) = check.lines().find_map(|l| l.split_once(&prefix).map(|(_, v)| v)) else { continue };
        let bytes: Vec<u8> =
            line.trim_end_matches('}').split(' ').filter_map(hex).map(|b| u8::try_from(b).unwrap()).collect();
        let ours = thread.registers.vector(Register(17 + n)).unwrap();
        assert_eq!(ours[..16], bytes[..], "xmm{n}");
        vectors += 1;
    }
    assert!(vectors >= 8, "{vectors}");
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
