//! Stacks made by the test: damaged ones, and those of machines that this one is not.

use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::{FakeMemory, FakeTarget};
use evidence::{Addr, Arch, Doubts, Mapping, Protection, Register, Registers, Target as _};
use platform::elfcore;
use proptest::prelude::*;
use std::sync::OnceLock;
use unwind::{Limits, Plain, Stack, StackBytes, Trust, unwind};

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7fff_0000;

fn mapping(start: u64, size: u64, execute: bool) -> Mapping {
    Mapping {
        range: Addr(start)..Addr(start + size),
        protection: Some(Protection { read: true, write: !execute, execute }),
        shared: None,
        file_offset: 0,
        path: None,
        deleted: false,
        file_id: None,
        open: Vec::new(),
    }
}

/// Unwinds in a world of one page of code and one of stack, without any image.
fn bare(arch: Arch, code: &[(usize, &[u8])], stack: &[(usize, u64)], registers: &[(u16, u64)]) -> Stack {
    let (mut page, mut words) = (vec![0xcc; 4096], vec![0; 4096]);
    for (at, bytes) in code {
        page[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let width = usize::from(arch.pointer_size());
    for (at, value) in stack {
        words[*at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    let mut target = FakeTarget::new();
    target.identity.arch = arch;
    target.memory = FakeMemory::new().with(Addr(CODE), page).with(Addr(STACK), words);
    target.mappings = vec![mapping(CODE, 4096, true), mapping(STACK, 4096, false)];
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, target.memory(), &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let mut start = Registers::new(arch);
    for (number, value) in registers {
        start.set(Register(*number), *value);
    }
    unwind(&start, target.memory(), &info, &Limits::default())
}

fn pcs(stack: &Stack) -> Vec<u64> {
    stack.frames.iter().map(|f| f.pc.0).collect()
}

#[test]
fn aarch64_frame_records_with_signed_return_addresses() {
    let bl = 0x9400_0001_u32.to_le_bytes();
    let code: &[(usize, &[u8])] = &[(0x100, &bl), (0x200, &bl)];
    let signed = 0x2b_0000_0000_0000 << 8 | (CODE + 0x204);
    let stack = [(0x100, STACK + 0x200), (0x108, CODE + 0x104), (0x200, 0), (0x208, signed & !(1 << 55))];
    let stack = bare(Arch::Aarch64, code, &stack, &[(32, CODE + 0x40), (31, STACK + 0xf0), (29, STACK + 0x100)]);
    assert_eq!(pcs(&stack), [CODE + 0x40, CODE + 0x104, CODE + 0x204]);
    assert!(stack.frames[1..].iter().all(|f| f.trust == Trust::FramePointer));
    // The caller's stack pointer is not known on this machine, and not made up.
    assert_eq!(stack.frames[1].registers.sp(), None);
}

#[test]
fn aarch64_interrupted_code_is_found_by_the_trampoline() {
    let trampoline = [0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
    let at = 0x100 + 128 + 176 + 8;
    let stack = [(at, 1234), (at + 29 * 8, STACK + 0x900), (at + 31 * 8, STACK + 0x800), (at + 32 * 8, CODE + 0x300)];
    let stack = bare(Arch::Aarch64, &[(0x80, &trampoline)], &stack, &[(32, CODE + 0x80), (31, STACK + 0x100)]);
    assert_eq!(pcs(&stack), [CODE + 0x80, CODE + 0x300]);
    assert!(stack.frames[0].signal_frame && !stack.frames[1].is_return_address);
    assert_eq!(stack.frames[1].registers.get(Register(0)), Some(1234));
}

#[test]
fn x86_trampolines_without_rules() {
    let code = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let at = 0x100 + 40;
    let stack = [(at + 12 * 8, 77), (at + 15 * 8, STACK + 0x800), (at + 16 * 8, CODE + 0x300)];
    let stack = bare(Arch::X86_64, &[(0x80, &code)], &stack, &[(16, CODE + 0x80), (7, STACK + 0x100)]);
    assert_eq!(pcs(&stack), [CODE + 0x80, CODE + 0x300]);
    assert_eq!(stack.frames[1].registers.get(Register(1)), Some(77));

    let code = [0xb8, 0xad, 0, 0, 0, 0xcd, 0x80];
    let stack = [(0x108, STACK + 0x200), (0x200 + 20 + 7 * 4, STACK + 0x800), (0x200 + 20 + 14 * 4, CODE + 0x300)];
    let stack = bare(Arch::X86, &[(0x80, &code)], &stack, &[(8, CODE + 0x80), (4, STACK + 0x100)]);
    assert_eq!(pcs(&stack), [CODE + 0x80, CODE + 0x300]);
}

#[test]
fn frame_pointers_in_a_circle_end() {
    let call = [0xe8, 0, 0, 0, 0];
    let prologue = [0x55, 0x48, 0x89, 0xe5];
    let code: &[(usize, &[u8])] = &[(0x10, &prologue), (0x100, &call)];
    let stack = [(0x100, STACK + 0x100), (0x108, CODE + 0x105)];
    let stack = bare(Arch::X86_64, code, &stack, &[(16, CODE + 0x40), (7, STACK + 0xf0), (6, STACK + 0x100)]);
    assert!(stack.frames.len() < 10 && stack.truncated.is_some(), "{stack:?}");
}

#[test]
fn a_jump_to_nowhere_returns_to_its_caller() {
    let call = [0xff, 0xd0];
    let stack = [(0x100, CODE + 0x102)];
    for pc in [0, 0x4141_4141_4141_4141, STACK + 8] {
        let registers = [(16, pc), (7, STACK + 0x100), (3, 99), (0, 5)];
        let stack = bare(Arch::X86_64, &[(0x100, &call)], &stack, &registers);
        assert_eq!(pcs(&stack)[..2], [pc, CODE + 0x102]);
        assert_eq!(stack.frames[1].registers.get(Register(3)), Some(99));
        assert_eq!(stack.frames[1].registers.get(Register(0)), None);
        assert_eq!(stack.frames[1].registers.sp(), Some(Addr(STACK + 0x108)));
    }
}

#[test]
fn nothing_recorded_is_said() {
    let stack = bare(Arch::X86_64, &[], &[], &[]);
    assert!(stack.frames.is_empty() && stack.truncated.is_some());
}

struct Real {
    modules: Modules,
    start: Registers,
    base: Addr,
    stack: Vec<u8>,
    mappings: Vec<Mapping>,
}

fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();
    REAL.get_or_init(|| {
        let program = testdata::victims::build("null_deref", "gcc-O0").unwrap();
        let core = testdata::victims::crash_core("null_deref", "gcc-O0").unwrap();
        let target = elfcore::open(&core, &elfcore::Options::default()).unwrap();
        let locator = Locator { executable: Some(program), ..Locator::default() };
        let modules = Modules::outline(&target, target.memory(), &locator, &Doubts::new());
        let start = target.threads()[0].registers.clone();
        let base = Addr(start.sp().unwrap().0 & !0xfff);
        let mut stack = vec![0; 16384];
        let (got, _) = target.memory().read(base, &mut stack);
        stack.truncate(got);
        Real { modules, start, base, stack, mappings: target.mappings().to_vec() }
    })
}

/// All that is said of the frames of a stack, but for registers that were recovered.
fn said(stack: &Stack) -> Vec<String> {
    let frames = stack.frames.iter().enumerate();
    let mut said: Vec<String> = frames
        .map(|(n, f)| {
            let registers = if n == 0 { f.registers.iter().collect() } else { Vec::new() };
            let flags = (f.is_return_address, f.trust, f.signal_frame, f.suspect);
            format!("{} {:?} {flags:?} {registers:?}", f.pc, f.cfa)
        })
        .collect();
    said.extend(stack.truncated.clone());
    said
}

/// Whether a stack is plain; then the walk says the same of it.
fn agrees(start: &Registers, bytes: StackBytes<'_>, memory: &FakeMemory, info: &DebugInfo<'_>, limits: Limits) -> bool {
    let mut plain = Plain::new(start.arch, memory, info, limits).unwrap();
    let Some(found) = plain.walk(start, bytes) else { return false };
    assert_eq!(said(&found), said(&unwind(start, memory, info, &limits)));
    true
}

#[test]
fn plain_stacks_are_walked_alike() {
    let real = real();
    let doubts = Doubts::new();
    let info = DebugInfo::new(&real.modules, &doubts);
    let limits = Limits { frames: 5000, ..Limits::default() };
    let (mut plain, mut others) = (0, 0);
    let mut check = |stack: &[u8], start: &Registers| {
        let memory = FakeMemory::new().with(real.base, stack.to_vec());
        let is_plain = agrees(start, StackBytes { start: real.base, bytes: stack }, &memory, &info, limits);
        *(if is_plain { &mut plain } else { &mut others }) += 1;
        is_plain
    };
    assert!(check(&real.stack, &real.start), "an undamaged stack is plain");
    // A limit that is reached has to be said, and so has a missing stack pointer.
    let few = Limits { frames: 2, ..Limits::default() };
    let memory = FakeMemory::new().with(real.base, real.stack.clone());
    let bytes = StackBytes { start: real.base, bytes: &real.stack };
    assert!(!agrees(&real.start, bytes, &memory, &info, few));
    let own = real.start.sp().unwrap().0;
    let first = usize::try_from(own - real.base.0).unwrap() / 8;
    let code = real.start.pc().unwrap().0;
    for word in first..(first + 200).min(real.stack.len() / 8) {
        for value in [0, 1, own, own + 64, real.base.0 + 8 * word as u64, code, code + 1, u64::MAX - 4, 1 << 63] {
            let mut stack = real.stack.clone();
            stack[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            check(&stack, &real.start);
        }
    }
    for number in [6, 7, 16] {
        for value in [0, 8, own, own + 8, own + 4096, code, code + 4, u64::MAX] {
            let mut start = real.start.clone();
            start.set(Register(number), value);
            check(&real.stack, &start);
        }
    }
    assert!(plain > 100 && others > 40, "{plain} plain, {others} others");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_stacks_end(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..5_u8, any::<u64>()), 0..200),
        registers in prop::collection::vec((0..17_u16, 0..5_u8, any::<u64>()), 0..6),
    ) {
        let real = real();
        let value = |kind: u8, raw: u64| match kind {
            // Into the stack, into code, small, or anything.
            0 => (real.base.0 + raw % real.stack.len() as u64) & !7,
            1 => {
                let code: Vec<_> = real.mappings.iter().filter(|m| m.protection.is_some_and(|p| p.execute)).collect();
                let m = code[raw as usize % code.len()];
                m.range.start.0 + (raw >> 8) % (m.range.end.0 - m.range.start.0)
            }
            2 => raw % 4096,
            _ => raw,
        };
        let mut stack = real.stack.clone();
        for (index, kind, raw) in damage {
            let at = index.index(stack.len() / 8 - 1) * 8;
            stack[at..at + 8].copy_from_slice(&value(kind, raw).to_le_bytes());
        }
        let mut start = real.start.clone();
        for (number, kind, raw) in registers {
            start.set(Register(number), value(kind, raw));
        }
        let memory = FakeMemory::new().with(real.base, stack.clone());
        let doubts = Doubts::new();
        let info = DebugInfo::new(&real.modules, &doubts);
        let limits = Limits { frames: 5000, ..Limits::default() };
        agrees(&start, StackBytes { start: real.base, bytes: &stack }, &memory, &info, limits);
        let stack = unwind(&start, &memory, &info, &limits);
        prop_assert!(!stack.frames.is_empty() && stack.frames.len() <= limits.frames);
        prop_assert_eq!(stack.frames[0].pc, start.pc().unwrap());
    }
}
