//! The same faults on x86-64, x86 and ARM64, on Linux, whose signals do not say whether memory was read or written: the
//! direction comes from the decoded instruction.

use crate::support::*;
use crate::synth::*;
use debuginfo::Locator;
use snapshot_format::Snapshot;

const CODE: u64 = 0x0804_8000;
const DATA: u64 = 0x0900_0000;
const CONSTANTS: u64 = 0x0a00_0000;
const GUARD: u64 = 0x7f00_0000;
const STACK: u64 = GUARD + 0x1000;
const WILD: u64 = 0x1234_5000;

/// What a processor's fault is made of.
struct Processor {
    number: u16,
    name: &'static str,
    /// Loads from, and stores to, 8 bytes beyond the pointer register.
    load: &'static [u8],
    store: &'static [u8],
    /// A context with program counter, stack pointer and pointer register.
    context: fn(u64, u64, u64) -> Vec<u8>,
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap()
}

const PROCESSORS: [Processor; 3] = [
    Processor {
        number: AMD64,
        name: "x86-64",
        load: &[0x48, 0x8b, 0x43, 0x08],
        store: &[0x48, 0x89, 0x43, 0x08],
        context: |pc, sp, pointer| amd64(1232, &[(RIP, pc), (RSP, sp), (RBX, pointer)]),
    },
    Processor {
        number: X86,
        name: "x86",
        load: &[0x8b, 0x41, 0x08],
        store: &[0x89, 0x41, 0x08],
        context: |pc, sp, pointer| x86(&[(184, low(pc)), (196, low(sp)), (172, low(pointer))]),
    },
    Processor {
        number: ARM64,
        name: "ARM64",
        load: &[0x20, 0x04, 0x40, 0xf9],
        store: &[0x20, 0x04, 0x00, 0xf9],
        context: |pc, sp, pointer| arm64(&[(1, pointer), (31, sp), (32, pc)]),
    },
];

/// SIGSEGV at `address` with `code`, while `instruction` stood at `pc`.
fn fault(p: &Processor, instruction: &[u8], pc: u64, sp: u64, pointer: u64, (code, address): (u32, u64)) -> Snapshot {
    let maps = format!(
        "{CODE:08x}-{:08x} r-xp 00000000 08:01 5 /bin/a\n{DATA:08x}-{:08x} rw-p 00000000 00:00 0 \n\
         {CONSTANTS:08x}-{:08x} r--p 00000000 08:01 5 /bin/a\n{GUARD:08x}-{STACK:08x} ---p 00000000 00:00 0 \n\
         {STACK:08x}-{:08x} rw-p 00000000 00:00 0 [stack]\n",
        CODE + 0x10000,
        DATA + 0x1000,
        CONSTANTS + 0x1000,
        STACK + 0x10000
    );
    let dump = Synth {
        processor: p.number,
        platform: LINUX,
        threads: vec![SynthThread { id: 7, context: (p.context)(pc, sp, pointer), stack: (STACK, vec![0; 0x8000]) }],
        memory: vec![(CODE + 0x1000, [instruction, &[0x1f; 16]].concat())],
        modules: vec![(CODE, 0x10000, "/bin/a")],
        maps: Some(maps),
        exception: Some(Exception { thread: 7, code: 11, flags: code, address, ..Exception::default() }),
        ..Synth::default()
    };
    snapshot_with(dump.write().path(), &Locator::default())
}

#[test]
fn direction_and_address_come_from_the_instruction() {
    let (pc, sp) = (CODE + 0x1000, STACK + 0x4000);
    for p in &PROCESSORS {
        for (instruction, word, security) in [(p.load, "read", "medium"), (p.store, "write", "high")] {
            let s = fault(p, instruction, pc, sp, WILD, (1, WILD + 8));
            let at = format!("{} {word}: {:?}", p.name, s.findings);
            assert_eq!(finding(&s), ("wild-pointer", security), "{at}");
            assert!(s.findings[0].text.contains(word) && s.findings[0].text.contains("0x12345008"), "{at}");

            let s = fault(p, instruction, pc, sp, 0, (1, 8));
            let at = format!("{} {word} of null: {:?}", p.name, s.findings);
            assert_eq!(finding(&s), ("null-deref", "low"), "{at}");
            assert!(s.findings[0].text.contains(word), "{at}");
            assert!(s.findings.iter().all(|f| f.class != "bit-flip"), "{at}");
        }
        // Only writing is refused there, and only a decoded write says so.
        let s = fault(p, p.store, pc, sp, CONSTANTS, (2, CONSTANTS + 8));
        assert_eq!(finding(&s).0, "write-readonly", "{}: {:?}", p.name, s.findings);
    }
}

#[test]
fn failed_fetches_are_no_accesses() {
    let sp = STACK + 0x4000;
    for p in &PROCESSORS {
        let s = fault(p, p.load, DATA + 0x20, sp, WILD, (2, DATA + 0x20));
        assert_eq!(finding(&s), ("exec-nonexec", "high"), "{}: {:?}", p.name, s.findings);
        let s = fault(p, p.load, 0, sp, WILD, (1, 0));
        assert_eq!(finding(&s), ("jump-null", "low"), "{}: {:?}", p.name, s.findings);
        let s = fault(p, p.load, WILD, sp, 0, (1, WILD));
        assert_eq!(finding(&s).0, "wild-jump", "{}: {:?}", p.name, s.findings);
    }
}

#[test]
fn the_guard_below_the_stack_is_seen() {
    for p in &PROCESSORS {
        let sp = GUARD + 0xff0;
        let s = fault(p, p.store, CODE + 0x1000, sp, sp - 0x10, (2, sp - 8));
        assert_eq!(finding(&s), ("stack-overflow", "low"), "{}: {:?}", p.name, s.findings);
    }
}

/// 128 MiB from null is no null pointer any more, whatever the base register holds.
#[test]
fn offsets_from_null_are_bounded() {
    // mov rax, [rbx + rcx]: base null, index 0x7f12_3456_7890.
    let registers = [(RIP, CODE + 0x1000), (RSP, STACK + 0x4000), (RBX, 0), (0x80, 0x7f12_3456_7890)];
    let dump = Synth {
        processor: AMD64,
        platform: LINUX,
        threads: vec![SynthThread { id: 7, context: amd64(1232, &registers), stack: (STACK, vec![0; 0x8000]) }],
        memory: vec![(CODE + 0x1000, vec![0x48, 0x8b, 0x04, 0x0b])],
        modules: vec![(CODE, 0x10000, "/bin/a")],
        exception: Some(Exception { thread: 7, code: 11, flags: 1, address: 0x7f12_3456_7890, ..Exception::default() }),
        ..Synth::default()
    };
    let s = snapshot_with(dump.write().path(), &Locator::default());
    assert_eq!(finding(&s).0, "wild-pointer", "{:?}", s.findings);
}
