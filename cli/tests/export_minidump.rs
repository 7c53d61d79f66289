//! Minidumps that `export` writes: what lldb reads out of them is what the snapshot says, and the way back is lossless.

mod common;
#[path = "minidumps/synth.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod synth;

use common::{arg, run};
use snapshot_format::Snapshot;
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::fixtures::fixture;

/// Prints what lldb sees, as one JSON value in the file `OUT`.
const SCRIPT: &str = r#"
import json, lldb, os
target = lldb.debugger.CreateTarget('')
process = target.LoadCore(os.environ['DUMP'])
error = lldb.SBError()
threads = []
for t in process:
    registers, vectors = {}, {}
    for group in t.GetFrameAtIndex(0).registers:
        for r in group:
            if r.GetValue() and r.GetValue().startswith('0x'):
                registers.setdefault(r.GetName(), r.GetValueAsUnsigned())
            elif r.GetByteSize() == 16:
                vectors.setdefault(r.GetName(), bytes(r.GetData().uint8s).hex())
    threads.append({'id': t.GetThreadID(), 'registers': registers, 'vectors': vectors, 'stop': t.GetStopReason() == lldb.eStopReasonSignal,
        'signal': t.GetStopReasonDataAtIndex(0) if t.GetStopReasonDataCount() else 0})
modules = [{'path': str(m.file), 'uuid': (m.GetUUIDString() or '').replace('-', '').lower(),
    'base': m.GetObjectFileHeaderAddress().GetLoadAddress(target)} for m in target.module_iter()]
memory = []
for line in open(os.environ['ASKED']):
    at, size = (int(word) for word in line.split())
    data = process.ReadMemory(at, size, error)
    memory.append(data.hex() if error.Success() and data is not None else 'error: ' + str(error))
json.dump({'pid': process.GetProcessID(), 'threads': threads, 'modules': modules, 'memory': memory}, open(os.environ['OUT'], 'w'))
"#;

/// The newest lldb there is; older ones than 14 are not asked.
fn lldb() -> Option<&'static str> {
    let tools = ["lldb-22", "lldb-19", "lldb-16", "lldb-15", "lldb-14", "lldb"];
    let found = tools.into_iter().find(|t| Command::new(t).arg("--version").output().is_ok_and(|o| o.status.success()));
    if found.is_none() {
        assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_TOOLS"), "no lldb");
        eprintln!("skipped: no lldb");
    }
    found
}

/// The snapshot of a source, its minidump, and the folder they are in.
fn export(source: &Path) -> (tempfile::TempDir, Snapshot, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    run(&["capture", arg(source), "-o", arg(&path("a.pfsnap"))], 0);
    run(&["export", arg(&path("a.pfsnap")), "--to", "minidump", "-o", arg(&path("a.dmp"))], 0);
    let (snapshot, doubts) = Snapshot::read_path(&path("a.pfsnap")).unwrap();
    assert_eq!(doubts, []);
    // The way back, by the commands that read sources.
    run(&["capture", arg(&path("a.dmp")), "-o", arg(&path("b.pfsnap"))], 0);
    assert_eq!(Snapshot::read_path(&path("b.pfsnap")).unwrap().0, snapshot);
    let (shown, again) =
        (run(&["show", arg(&path("a.pfsnap")), "--json"], 0), run(&["show", arg(&path("a.dmp")), "--json"], 0));
    assert_eq!(shown.stdout, again.stdout);
    let dump = path("a.dmp");
    (folder, snapshot, dump)
}

/// What lldb sees in a dump, and in the memory that is asked for.
fn seen_by_lldb(tool: &str, folder: &Path, dump: &Path, asked: &[(u64, usize)]) -> serde_json::Value {
    let text: String = asked.iter().map(|(at, size)| format!("{at} {size}\n")).collect();
    let (script, list, out) = (folder.join("s.py"), folder.join("asked"), folder.join("out"));
    std::fs::write(&script, SCRIPT).unwrap();
    std::fs::write(&list, text).unwrap();
    let output = Command::new(tool)
        .args(["-x", "-b", "-o", &format!("command script import {}", arg(&script))])
        .env("DUMP", dump)
        .env("ASKED", &list)
        .env("OUT", &out)
        .output()
        .unwrap();
    let Ok(text) = std::fs::read_to_string(&out) else {
        panic!("{tool}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    serde_json::from_str(&text).unwrap()
}

fn check(source: &Path, signal: Option<u64>) {
    let (folder, snapshot, dump) = export(source);
    let Some(tool) = lldb() else { return };
    let extents: Vec<_> = snapshot.memory.iter().filter(|m| m.space == 0 && !m.bytes.is_empty()).collect();
    assert!(!extents.is_empty(), "there is memory to compare");
    assert!(!snapshot.modules.is_empty(), "there are modules to compare");
    let asked: Vec<(u64, usize)> = extents.iter().map(|m| (m.address, m.bytes.len().min(1 << 16))).collect();
    let seen = seen_by_lldb(tool, folder.path(), &dump, &asked);

    let ids: Vec<u64> = seen["threads"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, snapshot.threads.iter().map(|t| t.id).collect::<Vec<_>>(), "{tool}");
    let mut compared = 0;
    for (thread, seen) in snapshot.threads.iter().zip(seen["threads"].as_array().unwrap()) {
        let stack = &snapshot.stacks[thread.stack.unwrap() as usize];
        let frames = &snapshot.frames[stack.first as usize..(stack.first + stack.count) as usize];
        let row = frames.iter().position(|f| !f.inline).unwrap() as u32;
        for r in snapshot.registers.iter().filter(|r| r.thread == thread.id && r.frame == row) {
            // A minidump has no bases of segments; lldb 14 to 19 show the selectors ds and es in their place. Some names
            // of ARM are others.
            if r.name.ends_with("_base") {
                continue;
            }
            let value = |name: &str| seen["registers"][name].as_u64();
            let moved = match r.name.as_str() {
                "ds" => value("fs_base"),
                "es" => value("gs_base"),
                // lldb's names of them.
                "r11" | "x29" => value("fp"),
                "x30" => value("lr"),
                "pstate" => value("cpsr"),
                _ => None,
            };
            assert!(
                [value(&r.name), moved].contains(&Some(r.value)),
                "{tool}: thread {} {}: {:?} where {:#x} is expected",
                thread.id,
                r.name,
                value(&r.name),
                r.value
            );
            compared += 1;
        }
        let stopped = seen["stop"].as_bool().unwrap().then(|| seen["signal"].as_u64().unwrap());
        assert_eq!(stopped, signal.filter(|_| thread.faulting), "{tool}: thread {}", thread.id);
    }
    assert!(compared >= 15 * snapshot.threads.len(), "{tool}: {compared} registers compared");

    let modules = seen["modules"].as_array().unwrap();
    for m in &snapshot.modules {
        let name = Path::new(&m.path).file_name().unwrap().to_str().unwrap();
        let seen = modules.iter().find(|s| s["base"].as_u64() == Some(m.base));
        let seen = seen.unwrap_or_else(|| panic!("{tool}: {} at {:#x} is not among {modules:?}", m.path, m.base));
        assert!(seen["path"].as_str().unwrap().ends_with(name), "{tool}: {seen}");
        if let Some(id) = &m.build_id {
            let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
            let seen = seen["uuid"].as_str().unwrap();
            assert!(!seen.is_empty() && id.starts_with(seen), "{tool}: {}: {seen} where {id} is expected", m.path);
        }
    }
    assert_eq!(modules.len(), snapshot.modules.len(), "{tool}");

    for ((extent, (at, size)), seen) in extents.iter().zip(asked).zip(seen["memory"].as_array().unwrap()) {
        let bytes: String = extent.bytes[..size].iter().map(|b| format!("{b:02x}")).collect();
        assert!(seen.as_str() == Some(bytes.as_str()), "{tool}: {size} bytes at {at:#x}");
    }
    println!(
        "{tool}: {} threads, {compared} registers, {} modules, {} extents",
        ids.len(),
        modules.len(),
        extents.len()
    );
}

/// A core of a fixture with some of its bytes replaced, and made as long as its headers say it was.
fn mended(name: &str, length: u64, pieces: &[(u64, &[u8])]) -> Option<tempfile::NamedTempFile> {
    use std::os::unix::fs::FileExt as _;
    let core = fixture(name)?;
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::io::copy(&mut std::fs::File::open(core).unwrap(), &mut copy.as_file()).unwrap();
    let file = copy.as_file();
    file.set_len(length.max(file.metadata().unwrap().len())).unwrap();
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at).unwrap();
    }
    Some(copy)
}

#[test]
fn a_linux_program() {
    if let Some(core) = common::core("null_deref", "gcc-O0") {
        check(&core, Some(11));
    }
}

/// The fixture ends behind its notes, and its program had loaded numbers into all registers, the stack pointer among
/// them. It gets its memory back as zeros, and a stack pointer into the stack, with numbers on the stack.
#[test]
fn a_freebsd_core() {
    /// Where `NT_PRSTATUS` keeps rsp, and what the program had put there.
    const RSP: u64 = 0x798;
    /// The segment of the stack: file offset, address, and the file's end behind the last segment.
    const STACK: (u64, u64) = (0x8a_1000, 0x7fff_fffd_e000);
    const END: u64 = 0x8c_2000;
    const DEPTH: u64 = 0x1_f000;
    let Some(original) = fixture("freebsd/core/x86-64-freebsd.core") else { return };
    let original = std::fs::read(original).unwrap();
    assert_eq!(original[RSP as usize..][..8], 0x2b2a_2928_2726_2524_u64.to_le_bytes());
    let sp = (STACK.1 + DEPTH).to_le_bytes();
    let stack: Vec<u8> = (0..0x1000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let core = mended("freebsd/core/x86-64-freebsd.core", END, &[(RSP, &sp), (STACK.0 + DEPTH, &stack)]).unwrap();
    check(core.path(), Some(11));
}

/// Programs of FreeBSD with all of their memory: threads, registers, the program's module, stacks.
#[test]
fn freebsd_programs_with_their_memory() {
    for machine in common::freebsd::MACHINES {
        let folder = tempfile::tempdir().unwrap();
        let Some((_, process)) = common::freebsd::program(machine, folder.path(), 0) else { return };
        let core = folder.path().join("program.core");
        process.core().write(&core).unwrap();
        check(&core, Some(11));
    }
}

/// The fixture's text is zeros, so that it has no module. It gets the headers of an ELF file with a build-id, where its
/// auxiliary vector says that they are.
#[test]
fn an_illumos_core() {
    /// The file offset of the text segment, which lies at 0x400000; the program headers at 0x400040, two of them.
    const TEXT: u64 = 0x3000;
    let half = |list: &[u16]| list.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let word = |list: &[u32]| list.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let wide = |list: &[u64]| list.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let id: Vec<u8> = (0xa0..0xb4).collect();
    let header = [
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        half(&[2, 62]),
        word(&[1]),
        wide(&[0x40_0100, 0x40, 0]),
        word(&[0]),
        half(&[64, 56, 2, 0, 0, 0]),
        // PT_LOAD of all, PT_NOTE right behind the program headers.
        word(&[1, 5]),
        wide(&[0, 0x40_0000, 0x40_0000, 0x2000, 0x2000, 0x1000]),
        word(&[4, 4]),
        wide(&[0xb0, 0x40_00b0, 0x40_00b0, 36, 36, 4]),
        word(&[4, 20, 3]),
        b"GNU\0".to_vec(),
        id,
    ]
    .concat();
    if let Some(core) = mended("illumos/user/core.amd64", 0, &[(TEXT, &header)]) {
        check(core.path(), Some(11));
    }
}

/// A dump without the snapshot in it: only what other tools read.
fn bare(dump: &Path, to: &Path) -> platform::minidump::Minidump {
    let mut bytes = std::fs::read(dump).unwrap();
    let count = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let at = |n: usize| 32 + 12 * n;
    let entry = (0..count).map(at).find(|e| bytes[*e..*e + 4] == 0x5046_0001_u32.to_le_bytes()).unwrap();
    bytes[entry..entry + 12].fill(0);
    std::fs::write(to, bytes).unwrap();
    platform::minidump::open(to, &platform::input::Options::default()).unwrap()
}

/// Floating point and vector registers of a core, through the contexts of the minidump alone.
fn check_vectors(core: &Path) {
    use evidence::{Registers, Target as _};
    let target = platform::elfcore::open(core, &platform::input::Options::default()).unwrap();
    let (folder, _, dump) = export(core);
    let read = bare(&dump, &folder.path().join("bare.dmp"));
    let seen = lldb().map(|tool| seen_by_lldb(tool, folder.path(), &dump, &[]));
    let (mut own, mut by_lldb) = (0, 0);
    for thread in target.threads() {
        let back = read.threads().iter().find(|t| t.id == thread.id).unwrap();
        let (vectors, found) = (thread.registers.vectors.as_ref().unwrap(), back.registers.vectors.as_ref().unwrap());
        assert_eq!((vectors.first, found.width), (found.first, 16));
        assert_eq!(back.registers.x87, thread.registers.x87);
        for status in [Registers::FPSR, Registers::FPCR] {
            assert_eq!(back.registers.get(status), thread.registers.get(status));
        }
        let name = if vectors.first == 64 { "v" } else { "xmm" };
        for (n, (was, is)) in vectors.bytes.chunks(vectors.width).zip(found.bytes.chunks(16)).enumerate() {
            assert_eq!(&was[..16], is, "thread {} {name}{n}", thread.id.0);
            own += 1;
            let shown = seen.as_ref().and_then(|s| {
                let thread = s["threads"].as_array()?.iter().find(|t| t["id"].as_u64() == Some(thread.id.0))?;
                thread["vectors"][format!("{name}{n}")].as_str().filter(|hex| !hex.is_empty())
            });
            if let Some(shown) = shown {
                assert_eq!(shown, is.iter().map(|b| format!("{b:02x}")).collect::<String>(), "{name}{n} in lldb");
                by_lldb += 1;
            }
        }
    }
    println!("{}: {own} vector registers, {by_lldb} of them in lldb", core.display());
    assert!(own >= 16);
    // lldb takes no vector registers out of x86-64's contexts (RegisterContextMinidump_x86_64.cpp leaves them out).
    assert!(seen.is_none() || by_lldb == own || target.identity().arch == evidence::Arch::X86_64);
}

#[test]
fn vector_registers_of_x86_64() {
    if let Some(core) = common::core("null_deref", "gcc-O0") {
        check_vectors(&core);
    }
}

#[test]
fn vector_registers_of_arm64() {
    if let Some(core) = fixture("linux/core/linux-aarch64.core") {
        check_vectors(&core);
    }
}

/// One thread of a processor for which no program is at hand, read by lldb out of what we write.
#[test]
fn threads_of_other_processors() {
    use synth::{ARM64, Exception, LINUX, Synth, SynthThread, X86};
    const STACK: u32 = 0x7f00_0000;
    const CODE: u32 = 0x40_1000;
    let narrow = |size: usize, flags: u32, first: usize, count: usize, sp: usize, pc: usize| {
        let mut bytes = vec![0_u8; size];
        bytes[..4].copy_from_slice(&flags.to_le_bytes());
        for n in 0..count {
            let value = match first + 4 * n {
                at if at == sp => STACK + 0x100,
                at if at == pc => CODE,
                at => 0x100 + u32::try_from(at).unwrap(),
            };
            bytes[first + 4 * n..first + 4 * n + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    };
    let arm64: Vec<(usize, u64)> = (0..31).map(|n| (n, 0x1_0000_0000 + n as u64)).collect();
    let arm64 = [arm64, vec![(31, u64::from(STACK) + 0x100), (32, CODE.into())]].concat();
    for (processor, context) in [
        (X86, narrow(716, 0x1_0007, 140, 16, 196, 184)),
        (5, narrow(368, 0x4000_0002, 4, 17, 56, 64)),
        (ARM64, synth::arm64(&arm64)),
    ] {
        let dump = Synth {
            processor,
            platform: LINUX,
            threads: vec![SynthThread {
                id: 7,
                context,
                stack: (STACK.into(), (0..=255).cycle().take(0x800).collect()),
            }],
            memory: vec![(CODE.into(), vec![0x90; 64])],
            modules: vec![(u64::from(CODE) - 0x1000, 0x10000, "/bin/a")],
            exception: Some(Exception { thread: 7, code: 11, flags: 1, address: 8, ..Exception::default() }),
            ..Synth::default()
        };
        check(dump.write().path(), Some(11));
    }
}
