//! What other readers of minidumps get wrong, each as a case in which we must be right.

use crate::support::*;
use crate::synth::*;
use debuginfo::Locator;
use snapshot_format::Snapshot;

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7fff_0000_0000;

fn taken(synth: &Synth) -> Snapshot {
    snapshot_with(synth.write().path(), &Locator::default())
}

/// One thread that stands at `code`, on x86-64.
fn standing_at(code: &[u8], registers: &[(usize, u64)], size: usize) -> Synth {
    let mut values = vec![(RIP, CODE + 0x1000), (RSP, STACK + 0x100)];
    values.extend(registers);
    Synth {
        processor: AMD64,
        platform: LINUX,
        threads: vec![SynthThread { id: 7, context: amd64(size, &values), stack: (STACK, vec![0; 0x800]) }],
        memory: vec![(CODE + 0x1000, code.to_vec())],
        modules: vec![(CODE, 0x10000, "/bin/a")],
        ..Synth::default()
    }
}

const MOV_RAX_RBX: [u8; 3] = [0x48, 0x8b, 0x03];

/// lldb up to 19: contexts of 720 bytes, a version that was never set, the program counter for an address.
#[test]
fn dumps_of_lldb_are_read_as_they_are_meant() {
    let mut dump = standing_at(&MOV_RAX_RBX, &[(RBX, 0x18)], 720);
    dump.version = [1_212_640_960, 32_767, 0];
    for id in (1..7).rev() {
        let context = amd64(720, &[(RIP, CODE + 0x2000), (RSP, STACK + 0x1100)]);
        dump.threads.insert(0, SynthThread { id, context, stack: (STACK + 0x1000, vec![0; 0x800]) });
    }
    dump.exception = Some(Exception { thread: 7, code: 11, address: CODE + 0x1000, ..Exception::default() });
    let snapshot = taken(&dump);
    assert_eq!(snapshot.threads.len(), 7);
    assert!(snapshot.threads.iter().all(|t| !frames_of(&snapshot, t).is_empty()));
    assert_eq!(snapshot.identity.release, None);
    let event = snapshot.event.as_ref().unwrap();
    assert_eq!((event.thread, event.address, event.signal_name.as_deref()), (Some(7), None, Some("SIGSEGV")));
    // The fault address is what the instruction says: [rbx] with rbx = 0x18.
    assert_eq!(finding(&snapshot), ("null-deref", "low"), "{:?}", snapshot.findings);
    assert!(snapshot.findings[0].text.contains("0x18") || snapshot.findings[0].text.contains("24 bytes"));
}

/// A real one, where the lldb of this machine can write it.
#[test]
fn a_dump_that_lldb_writes_opens_with_all_threads() {
    let Some(lldb) = ["lldb-19", "lldb-14", "lldb"]
        .iter()
        .find(|l| std::process::Command::new(l).arg("--version").output().is_ok_and(|o| o.status.success()))
    else {
        println!("skipped: no lldb");
        return;
    };
    let victim = testdata::victims::run_live("threads", "gcc-O0", &[]);
    let Ok(victim) = victim else {
        println!("skipped: no victim: {:?}", victim.err().map(|e| e.to_string()));
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.dmp");
    let output = std::process::Command::new(lldb)
        .args(["-b", "-p", &victim.pid().to_string()])
        .args(["-o", &format!("process save-core --plugin-name=minidump --style=stack {}", file.display())])
        .args(["-o", "detach"])
        .output()
        .unwrap();
    let threads = victim.threads().len();
    if !file.exists() {
        println!("skipped: this lldb writes no minidump: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let dump = open(&file);
    let target: &dyn evidence::Target = &dump;
    assert_eq!(target.threads().len(), threads);
    assert!(target.threads().iter().all(|t| t.registers.pc().is_some() && t.registers.sp().is_some()));
    let snapshot = snapshot_with(&file, &Locator::default());
    let named =
        snapshot.threads.iter().filter(|t| frames_of(&snapshot, t).iter().any(|f| f.function.is_some())).count();
    assert_eq!(named, threads, "the ELF files of the dump's modules are on this machine");
}

#[test]
fn a_pointer_that_is_not_canonical_is_no_null_pointer() {
    let Some(path) = dump("write_av_non_canonical") else { return };
    let snapshot = snapshot(&path);
    assert_eq!(finding(&snapshot).0, "non-canonical");
    assert!(snapshot.findings[0].text.contains("0xfefefefefefefefe"), "{}", snapshot.findings[0].text);
    assert!(snapshot.findings.iter().all(|f| f.class != "null-deref"));
}

#[test]
fn a_fetch_that_failed_has_no_operand() {
    if let Some(path) = dump("exec_av_on_stack") {
        let snapshot = snapshot(&path);
        assert_eq!(finding(&snapshot), ("exec-nonexec", "high"));
        assert_eq!(snapshot.event.as_ref().unwrap().access.as_deref(), Some("execute"));
    }
    // On x86-64, with zeros at the program counter, which decode as `add [rax], al`.
    let mut dump = standing_at(&[], &[(RIP, STACK + 0x200)], 1232);
    dump.platform = WINDOWS;
    let parameters = vec![8, STACK + 0x200];
    dump.exception =
        Some(Exception { thread: 7, code: 0xc000_0005, address: STACK + 0x200, parameters, ..Exception::default() });
    let snapshot = taken(&dump);
    assert_eq!(finding(&snapshot), ("exec-nonexec", "high"), "{:?}", snapshot.findings);
}

#[test]
fn a_jump_to_null_and_offsets_from_null_are_no_bit_flips() {
    for (name, class) in [("linux_jmp_to_0", "jump-null"), ("linux_write_to_under_4k", "null-deref")] {
        let Some(path) = dump(name) else { continue };
        let snapshot = snapshot(&path);
        assert_eq!(finding(&snapshot), (class, "low"), "{name}");
        assert!(snapshot.findings.iter().all(|f| f.class != "bit-flip"), "{name}");
    }
    // No instruction bytes at 0, and no maps.
    let mut dump = standing_at(&[], &[(RIP, 0)], 1232);
    dump.exception = Some(Exception { thread: 7, code: 11, flags: 1, ..Exception::default() });
    assert_eq!(finding(&taken(&dump)).0, "jump-null");
}

#[test]
fn the_fill_of_freed_memory_is_seen_on_every_processor() {
    let poison = 0xe5e5_e5e5_e5e5_e5e5;
    let mut dump = standing_at(&MOV_RAX_RBX, &[(RBX, poison)], 1232);
    dump.exception = Some(Exception { thread: 7, code: 11, flags: 0x80, ..Exception::default() });
    assert_eq!(finding(&taken(&dump)), ("use-after-free", "high"));

    // ldr x0, [x1, #8]
    let code = 0xf940_0420_u32.to_le_bytes().to_vec();
    let context = |x1: u64| arm64(&[(1, x1), (31, STACK + 0x100), (32, CODE + 0x1000)]);
    let arm = |x1: u64, address: u64| Synth {
        processor: ARM64,
        platform: LINUX,
        threads: vec![SynthThread { id: 7, context: context(x1), stack: (STACK, vec![0; 0x800]) }],
        memory: vec![(CODE + 0x1000, code.clone())],
        modules: vec![(CODE, 0x10000, "/bin/a")],
        exception: Some(Exception { thread: 7, code: 11, flags: 1, address, ..Exception::default() }),
        ..Synth::default()
    };
    assert_eq!(finding(&taken(&arm(0, 8))), ("null-deref", "low"));
    let snapshot = taken(&arm(poison, poison + 8));
    assert_eq!(finding(&snapshot), ("use-after-free", "high"), "{:?}", snapshot.findings);

    // mov eax, [ecx]
    let context = x86(&[(172, 0xdddd_dddd), (196, 0x1_0100), (184, 0x40_1000)]);
    let dump = Synth {
        processor: X86,
        platform: WINDOWS,
        threads: vec![SynthThread { id: 7, context, stack: (0x1_0000, vec![0; 0x800]) }],
        memory: vec![(CODE + 0x1000, vec![0x8b, 0x01])],
        modules: vec![(CODE, 0x10000, "c:\\a.exe")],
        exception: Some(Exception {
            thread: 7,
            code: 0xc000_0005,
            address: CODE + 0x1000,
            parameters: vec![0, 0xdddd_dddd],
            ..Exception::default()
        }),
        ..Synth::default()
    };
    assert_eq!(finding(&taken(&dump)), ("use-after-free", "high"));
}

#[test]
fn ratings_do_not_cry_wolf() {
    let cases = [
        ("linux_inline", "illegal-instruction", "low"),
        ("linux_jmp_to_0", "jump-null", "low"),
        ("null_read_av", "null-deref", "low"),
        ("linux_null_read_av", "null-deref", "low"),
        ("linux_stacksmash", "stack-smash", "high"),
        ("stack_exhaustion", "stack-overflow", "low"),
    ];
    for (name, class, security) in cases {
        let Some(path) = dump(name) else { continue };
        assert_eq!(finding(&snapshot(&path)), (class, security), "{name}");
    }
}

/// The link register still holds what the frame record holds as well: one frame, not two.
#[test]
fn a_link_register_that_was_saved_is_not_counted_twice() {
    let mut stack = vec![0_u8; 0x800];
    let mut put = |at: usize, value: u64| stack[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0x100, STACK + 0x200);
    put(0x108, CODE + 0x2004);
    put(0x200, 0);
    put(0x208, CODE + 0x3004);
    let at = |lr: u64| {
        let registers = [(29, STACK + 0x100), (30, lr), (31, STACK + 0x100), (32, CODE + 0x1010)];
        let dump = Synth {
            processor: ARM64,
            platform: LINUX,
            threads: vec![SynthThread { id: 7, context: arm64(&registers), stack: (STACK, stack.clone()) }],
            modules: vec![(CODE, 0x10000, "/bin/a")],
            ..Synth::default()
        };
        let snapshot = taken(&dump);
        frames(&snapshot).iter().map(|f| f.pc - CODE).collect::<Vec<_>>()
    };
    assert_eq!(at(CODE + 0x2004), [0x1010, 0x2004, 0x3004]);
    // Signed by pointer authentication, it is still the same.
    assert_eq!(at((CODE + 0x2004) | 0x00ab_0000_0000_0000), [0x1010, 0x2004, 0x3004]);
    // A leaf, which saved nothing, has a caller of its own.
    assert_eq!(at(CODE + 0x5004), [0x1010, 0x5004, 0x2004, 0x3004]);
}

/// Android's kernels leave 25 bits above an address; the signature fills all of them but bit 55 and the ignored byte.
#[test]
fn signatures_of_processes_with_39_bits_are_taken_off() {
    let (code, base) = (0x0000_0071_2340_0000_u64, 0x0000_007f_f000_0000_u64);
    let signature = 0x0055_5500_0000_0000_u64 & !(1 << 55) | 0x1_5580_0000_0000;
    let mut stack = vec![0_u8; 0x800];
    let mut put = |at: usize, value: u64| stack[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(0x100, base + 0x200);
    put(0x108, (code + 0x2004) | signature);
    put(0x200, 0);
    put(0x208, (code + 0x3004) | signature);
    let registers = [(29, base + 0x100), (30, (code + 0x2004) | signature), (31, base + 0x100), (32, code + 0x1010)];
    let dump = Synth {
        processor: ARM64,
        platform: 0x8203,
        threads: vec![SynthThread { id: 7, context: arm64(&registers), stack: (base, stack) }],
        modules: vec![(code, 0x10000, "/system/lib64/liba.so")],
        ..Synth::default()
    };
    let snapshot = taken(&dump);
    let found: Vec<_> = frames(&snapshot).iter().map(|f| f.pc - code).collect();
    assert_eq!(found, [0x1010, 0x2004, 0x3004]);
    assert_eq!(snapshot.identity.os, "android");
}

/// Writers other than the kernel leave the blank before an empty path out: that costs no line, least of all every line.
#[test]
fn a_line_of_maps_without_trailing_blank_counts() {
    let mut dump = standing_at(&MOV_RAX_RBX, &[(RBX, 0x7f00_0000_0010)], 1232);
    dump.maps = Some(
        "00400000-00410000 r-xp 00000000 08:01 5 /bin/a\n7f0000000000-7f0000001000 ---p 00000000 00:00 0\n\
         7fff00000000-7fff00001000 rw-p 00000000 00:00 0 [stack]\nnonsense\n"
            .into(),
    );
    dump.exception =
        Some(Exception { thread: 7, code: 11, flags: 2, address: 0x7f00_0000_0010, ..Exception::default() });
    let snapshot = taken(&dump);
    assert_eq!(snapshot.mappings.len(), 3);
    assert_eq!(snapshot.mappings[1].protection, "---p");
    assert!(snapshot.doubts.iter().any(|d| d.what == "mappings"), "the line that says nothing is a doubt");
    assert!(snapshot.findings[0].text.contains("---p"), "{}", snapshot.findings[0].text);
}

#[test]
fn annotations_reach_the_snapshot() {
    let Some(path) = dump("minidump_crashpad_annotation") else { return };
    let snapshot = snapshot(&path);
    let keys: Vec<&str> =
        snapshot.attributes.iter().map(|a| a.key.as_str()).filter(|k| k.starts_with("crashpad.")).collect();
    assert!(keys.len() > 5, "{keys:?}");
    assert!(
        attribute(&snapshot, "crashpad.report_id").is_some() || attribute(&snapshot, "crashpad.client_id").is_some()
    );
    assert!(keys.iter().any(|k| k.starts_with("crashpad.module.")), "{keys:?}");
    let ids = snapshot.attributes.iter().filter(|a| a.key == "module.identity").count();
    assert_eq!(ids, snapshot.modules.len());
}
