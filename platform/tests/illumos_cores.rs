//! Cores of illumos programs of both widths, whole and damaged; how they are told from Linux's by their notes alone.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each core gets (200; the whole is 20,000).

use evidence::{Access, Addr, Os, Target as _};
use platform::elfcore::{self, Core, Options};
use std::io::Write as _;
use std::process::Command;
use testdata::elfcore::illumos::{self, OLD_PC, ObjectSections, Truth, with_sections};
use testdata::elfcore::linux::{prpsinfo, prstatus, x86_64_registers};
use testdata::elfcore::{Contents, CoreBuilder};
use testdata::fixtures::fixture;
use testdata::memory::peak_kilobytes;

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 512 << 10;

fn open(bytes: &[u8]) -> Result<Core, String> {
    elfcore::open_stream(bytes, "core", &Options::default()).map_err(|e| e.to_string())
}

fn touch(core: &Core) {
    for extent in core.memory().extents() {
        assert!(core.memory().read(extent.range.start, &mut [0; 64]).0 <= 64);
    }
    assert!(core.gaps().doubts.len() <= evidence::LIMIT_DOUBTS + 1);
    let _ = (core.images().len(), core.mappings().len(), core.open_files().len(), core.attributes().len());
}

/// The LWPs that are as they should be.
fn right(core: &Core, truth: &Truth) -> usize {
    let is = |(id, name, pc): &&(u32, String, u64)| {
        let found = core.threads().iter().find(|t| t.id.0 == u64::from(*id));
        found.is_some_and(|t| t.name.as_deref() == Some(name) && t.registers.pc() == Some(Addr(*pc)))
    };
    truth.threads.iter().filter(is).count()
}

/// Name, the core as it lies in the file, before it was compressed, and what is true of it.
fn cores() -> Vec<(String, Vec<u8>, Vec<u8>, Truth)> {
    let mut all = Vec::new();
    for wide in [true, false] {
        let (core, truth) = illumos::core(wide, 9);
        let plain = core.build();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let bits = if wide { 64 } else { 32 };
        all.push((format!("{bits}-bit"), plain.clone(), plain.clone(), truth.clone()));
        all.push((format!("{bits}-bit, gzip"), gzip.finish().unwrap(), plain, truth));
    }
    if let Some(path) = fixture("illumos/user/core.amd64") {
        let bytes = std::fs::read(path).unwrap();
        let truth = Truth { threads: Vec::new(), zombie: 0, fault: 0, memory: Vec::new() };
        all.push(("another writer's".into(), bytes.clone(), bytes, truth));
    }
    all
}

/// Notes of both formats (Linux's numbers in the old ones), bodies aligned to 4 bytes in 64-bit cores too, the order of
/// `siginfo_t`, an auxiliary vector of 28 entries, LWPs of which a state alone is left.
#[test]
fn cores_of_both_widths() {
    for wide in [true, false] {
        let (core, truth) = illumos::core(wide, 9);
        let core = open(&core.build()).unwrap();
        let id = core.identity();
        assert_eq!((id.os, id.pid, id.command.as_deref()), (Os::Illumos, Some(4711), Some("server")));
        assert_eq!((id.host.as_deref(), id.executable.as_deref()), (Some("host"), Some("/opt/bin/server")));
        assert_eq!(right(&core, &truth), truth.threads.len());
        assert!(core.threads().iter().all(|t| t.registers.pc() != Some(Addr(OLD_PC))));
        let zombie = core.threads().iter().find(|t| t.id.0 == u64::from(truth.zombie)).unwrap();
        assert_eq!((&*zombie.state.as_ref().unwrap().word, zombie.registers.known()), ("zombie", 0));
        let said: String = core.gaps().doubts.iter().map(|d| d.why.to_string()).collect();
        assert!(said.contains("LWP 10 has no registers in the core (its state is zombie)"), "{said}");
        let event = core.event().unwrap();
        let signal = event.signal.unwrap();
        assert_eq!((signal.number, signal.code, signal.errno), (11, Some(1), Some(0)));
        assert_eq!((event.trap_number, event.access), (Some(14), Some(Access::Write)));
        if wide {
            assert_eq!(signal.address, Some(Addr(truth.fault)));
        }
        for (at, expected) in &truth.memory {
            let mut read = vec![0; expected.len()];
            assert_eq!(core.memory().read(Addr(*at), &mut read), (read.len(), None));
            assert!(read == *expected);
        }
        let content = core.attributes().iter().find(|a| &*a.key == "core.content").map(|a| &*a.value);
        assert_eq!(content, Some("stack heap text data rodata anon shm ism dism ctf"));
        assert_eq!(&*core.open_files()[0].target, "/var/log/server.log");
    }
}

/// Types belong to the table that their section names; what is cut off or names nothing is left out and said.
#[test]
fn sections_of_objects() {
    for wide in [true, false] {
        let plain = illumos::core(wide, 2).0.build();
        let entry = if wide { 24 } else { 16 };
        let [first, second] = [1_u8, 2].map(|n| vec![n; entry * 3]);
        let one = ObjectSections {
            base: 0x40_0000,
            types: b"types of one",
            symbols: &first,
            strings: b"\0one\0",
            dynamic: false,
        };
        let two = ObjectSections {
            base: 0x50_0000,
            types: b"types of two",
            symbols: &second,
            strings: b"\0two\0",
            dynamic: true,
        };
        let three = ObjectSections { base: 0x60_0000, types: b"", ..one };
        let bytes = with_sections(plain.clone(), wide, &[one, two, three]);
        let core = open(&bytes).unwrap();
        let found = core.image_symbols();
        // Tables that no types name come first.
        let shape: Vec<_> = found.iter().map(|f| (f.base.0, &*f.types, &*f.symbols, &*f.strings)).collect();
        let expected =
            [one, ObjectSections { types: b"", ..three }, two].map(|o| (o.base, o.types, o.symbols, o.strings));
        assert_eq!(shape, expected, "{wide}");
        assert!(!core.gaps().doubts.iter().any(|d| d.what == "sections"), "{:?}", core.gaps().doubts);

        // The link of the first types leads nowhere: they stay, without symbols.
        let table = bytes.len() - 10 * if wide { 64 } else { 40 };
        let link = table + if wide { 64 + 40 } else { 40 + 24 };
        assert_eq!(bytes[link], 2);
        let mut bad = bytes.clone();
        bad[link] = 77;
        let core = open(&bad).unwrap();
        let alone = core.image_symbols().iter().find(|f| &*f.types == b"types of one").unwrap();
        assert_eq!((alone.base.0, alone.symbols.len(), core.image_symbols().len()), (0x40_0000, 0, 4));

        // Larger than the file.
        let size = link - if wide { 8 } else { 4 };
        let mut bad = bytes.clone();
        bad[size + 3] = 0x7f;
        let core = open(&bad).unwrap();
        assert!(core.image_symbols().iter().all(|f| &*f.types != b"types of one"));
        assert!(core.gaps().doubts.iter().any(|d| d.why.contains("the section with the types")), "{wide}");
    }
}

#[test]
fn what_is_complete_is_read_wherever_the_core_ends() {
    for (name, bytes, plain, truth) in cores() {
        let packed = name.contains("gzip");
        let (mut opened, mut salvaged) = (0, 0);
        let step = if bytes.len() < 65_536 { 256 } else { 4096 };
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            let Ok(core) = open(&bytes[..end]) else {
                assert!(end < 1024, "{name}, cut at {end:#x}");
                continue;
            };
            opened += 1;
            touch(&core);
            if packed {
                continue;
            }
            // A thread is complete when its name is there: that note comes behind its registers.
            let ends = |what: &[u8]| plain.windows(what.len()).position(|w| w == what).unwrap() + what.len();
            let complete = truth.threads.iter().filter(|t| ends(format!("{}\0", t.1).as_bytes()) + 40 <= end).count();
            let found = right(&core, &truth);
            assert!(found >= complete, "{name}, cut at {end:#x}: {found} of {complete} LWPs");
            for (at, expected) in &truth.memory {
                let start = ends(expected) - expected.len();
                let mut read = vec![0; expected.len()];
                let (got, _) = core.memory().read(Addr(*at), &mut read);
                let promised = end.saturating_sub(start).min(expected.len());
                assert!(got >= promised && read[..got] == expected[..got], "{name}, cut at {end:#x}: {at:#x}: {got}");
                salvaged += got;
            }
            if end < plain.len() {
                assert!(core.gaps().truncated_at.is_some() || !core.gaps().doubts.is_empty(), "{name}, {end:#x}");
            }
        }
        assert!(opened > 0 && (packed || truth.memory.is_empty() || salvaged > 0), "{name}: {opened} {salvaged}");
        println!("{name}: {} bytes, {opened} cuts opened, {salvaged} bytes of memory salvaged", bytes.len());
    }
    assert!(peak_kilobytes() < LIMIT_PEAK, "{} kB", peak_kilobytes());
}

#[test]
fn flipped_bytes_cost_what_they_hit() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for (name, whole, plain, truth) in cores() {
        let (mut opened, mut threads) = (0, 0);
        let place = |m: &Vec<u8>| plain.windows(m.len()).position(|w| w == *m).unwrap();
        let starts: Vec<usize> = truth.memory.iter().map(|(_, m)| place(m)).collect();
        for n in 0..count {
            let at = if next() % 4 == 0 { next() % whole.len() } else { next() % whole.len().min(20 << 10) };
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (next() % 8);
            let Ok(core) = open(&bytes) else { continue };
            opened += 1;
            touch(&core);
            threads += right(&core, &truth);
            // Behind the headers a flip spoils one LWP, or the chain of notes from there on; memory stays.
            if name.contains("gzip") || at < 512 {
                continue;
            }
            for ((from, expected), start) in truth.memory.iter().zip(&starts) {
                let mut read = vec![0; expected.len()];
                let (got, _) = core.memory().read(Addr(*from), &mut read);
                assert_eq!(got, read.len(), "{name}, flip {n} at {at:#x}");
                if let Some(hit) = at.checked_sub(*start).filter(|h| *h < read.len()) {
                    read[hit] = expected[hit];
                }
                assert!(read == *expected, "{name}, flip {n} at {at:#x}: memory at {from:#x}");
            }
        }
        assert!(opened * 2 > count, "{name}: {opened} of {count}");
        assert!(threads > 0 || truth.threads.is_empty(), "{name}");
        println!("{name}: {count} flips, {opened} opened, {threads} LWPs right, peak {} kB", peak_kilobytes());
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}

const LINUX_PC: u64 = 0x1234;
const ILLUMOS_PC: u64 = 0x1334;

/// A core of each system: the same bytes but for the notes, whose segments are of equal length.
fn twins() -> [Vec<u8>; 2] {
    let size = |bodies: &[usize]| bodies.iter().map(|b| 20 + b.next_multiple_of(4)).sum::<usize>();
    let status = illumos::lwpstatus(true, 1, 11, 0x28, ILLUMOS_PC, 0x1800);
    let mut process = vec![0; 384];
    process.extend(&status);
    let illumos = CoreBuilder::new(true, false, 62)
        .note("CORE", 3, &[0; 260])
        .note("CORE", 1, &[0; 336])
        .next_note_segment()
        .note("CORE", 13, &[0; 416])
        .note("CORE", 10, &process)
        .note("CORE", 17, &[0; 128])
        .note("CORE", 16, &status);
    let (first, second) = (size(&[260, 336]), size(&[416, 1680, 128, 1296]));
    let (status, info) = (prstatus(5, 11, &x86_64_registers(LINUX_PC, 0x1800, 0)), prpsinfo(5, "a", "a"));
    let filling = first - size(&[status.len(), info.len()]) - 20;
    let linux = CoreBuilder::new(true, false, 62)
        .note("CORE", 1, &status)
        .note("CORE", 3, &info)
        .note("FILL", 0x77, &vec![0; filling])
        .next_note_segment()
        .note("FILL", 0x77, &vec![0; second - 20]);
    [linux, illumos].map(|core| core.load(0x1000, 0x1000, 6, Contents::Bytes(vec![1; 4096])).build())
}

/// The program counter that gdb shows, where there is a gdb.
fn gdb(core: &[u8]) -> Option<u64> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(core).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch", "-ex"]).arg(format!("core-file {}", file.path().display()));
    let out = gdb.args(["-ex", "printf \"PC %lx\\n\", (unsigned long)$rip"]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("PC ")?, 16).ok())
}

#[test]
fn twins_that_differ_in_their_notes_only() {
    let [linux, illumos] = twins();
    assert_eq!(linux.len(), illumos.len());
    let notes = 64 + 3 * 56..linux.len() - 4096;
    let differing: Vec<usize> = (0..linux.len()).filter(|n| linux[*n] != illumos[*n]).collect();
    assert!(!differing.is_empty() && differing.iter().all(|n| notes.contains(n)), "{differing:?}");
    for osabi in [0, 3, 6] {
        let open = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[7] = osabi;
            open(&bytes).unwrap()
        };
        let (linux, illumos) = (open(&linux), open(&illumos));
        assert_eq!((linux.identity().os, illumos.identity().os), (Os::Linux, Os::Illumos), "{osabi}");
        assert_eq!(linux.threads()[0].registers.pc(), Some(Addr(LINUX_PC)), "{osabi}");
        assert_eq!(illumos.threads().last().unwrap().registers.pc(), Some(Addr(ILLUMOS_PC)), "{osabi}");
        assert_eq!(illumos.event().unwrap().signal.unwrap().address, Some(Addr(0x28)), "{osabi}");
    }
    if Command::new("gdb").arg("--version").output().is_err() {
        println!("skipped: no gdb");
        return;
    }
    // gdb takes both for Linux: right for one, and registers that are none of the program's for the other, unsaid.
    assert_eq!(gdb(&linux), Some(LINUX_PC));
    let shown = gdb(&illumos);
    println!("gdb shows {shown:x?} as the program counter of the illumos core; it is {ILLUMOS_PC:#x}");
    assert_ne!(shown, Some(ILLUMOS_PC));
}
