//! Collectors over fakes: what is proven is found, and damage leaves nothing rather than something wrong.

use super::scene::Scene;
use super::{cxx_exception, memory, rust_panic};
use crate::resolve::Resolved;
use crate::walk::Walked;
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::{FakeMemory, FakeTarget, Faulty};
use evidence::{Absent, Addr, Arch, Context, Doubts, Memory, Register, Registers, Thread, ThreadId};
use unwind::{Frame, Stack, Trust};

const STACK: u64 = 0x7000_0000;
const HEADER: u64 = 0x5000_0000;
const TYPE: u64 = 0x6000_0000;
const RSP: Register = Register(7);

fn frame(pc: u64, sp: u64) -> Frame {
    let mut registers = Registers::new(Arch::X86_64);
    registers.set(Registers::pc_register(Arch::X86_64), pc);
    registers.set(RSP, sp);
    Frame {
        registers,
        pc: Addr(pc),
        is_return_address: false,
        cfa: Some(Addr(sp + 0x80)),
        trust: Trust::Cfi,
        signal_frame: false,
        suspect: false,
    }
}

/// Asks `ask` about a stack of two frames with these names.
fn with_scene<R>(names: [&str; 2], memory: &dyn Memory, ask: impl FnOnce(&Scene<'_, '_>) -> R) -> R {
    let frames = vec![frame(0x1000, STACK), frame(0x2000, STACK + 0x80)];
    let resolved = Resolved::named(&[(Addr(0x1000), names[0]), (Addr(0x2000), names[1])]);
    let thread = Thread::new(ThreadId(1), Context::Lwp, frames[0].registers.clone());
    let walked =
        Walked { thread: &thread, faulting: true, stack: Stack { frames, truncated: None }, saved: Vec::new() };
    let doubts = Doubts::new();
    let modules = Modules::outline(&FakeTarget::new(), memory, &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    ask(&Scene::new(&walked, &resolved, memory, &info, Arch::X86_64))
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A header with the class given, whose type_info is at [`TYPE`]; the stack refers to it from its third word on.
fn thrown(class: u64, name: &str, references: &[u64]) -> FakeMemory {
    let mut header = vec![0; 16];
    header[0] = TYPE;
    header[10] = class;
    let mut stack = vec![0; 32];
    stack[2..2 + references.len()].copy_from_slice(references);
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    FakeMemory::new()
        .with(Addr(HEADER), words(&header))
        .with(Addr(TYPE), words(&[0x1234, TYPE + 0x100]))
        .with(Addr(TYPE + 0x100), text)
        .with(Addr(STACK), words(&stack))
}

const GNU: u64 = 0x474e_5543_432b_2b00;

fn exception(memory: &dyn Memory) -> Option<(String, Option<String>)> {
    with_scene(["std::terminate()", "__cxa_throw"], memory, |s| cxx_exception::find(s).map(|e| (e.type_name, e.what)))
}

#[test]
fn an_exception_is_known_by_its_header() {
    let found = Some(("std::runtime_error".to_owned(), None));
    for reference in [HEADER, HEADER + 80, HEADER + 112] {
        assert_eq!(exception(&thrown(GNU, "St13runtime_error", &[reference])), found, "{reference:#x}");
    }
    assert_eq!(exception(&thrown(0x434c_4e47_432b_2b00, "St13runtime_error", &[HEADER])), found);
    assert_eq!(exception(&thrown(GNU, "*N1a5ErrorE", &[HEADER])), Some(("a::Error".to_owned(), None)));
    assert_eq!(exception(&thrown(GNU, "i", &[HEADER])), Some(("int".to_owned(), None)));
}

#[test]
fn what_is_not_proven_is_no_exception() {
    assert_eq!(exception(&thrown(GNU ^ 0x100, "i", &[HEADER])), None);
    assert_eq!(exception(&thrown(GNU, "not a name", &[HEADER])), None);
    assert_eq!(exception(&thrown(GNU, "", &[HEADER])), None);
    // Two of them: nobody says which.
    let second = 0x5100_0000;
    let mut header = vec![0; 16];
    (header[0], header[10]) = (TYPE, GNU);
    let memory = thrown(GNU, "i", &[HEADER, second]).with(Addr(second), words(&header));
    assert_eq!(exception(&memory), None);
    let memory = thrown(GNU, "i", &[HEADER]);
    let other = with_scene(["f", "main"], &memory, |s| cxx_exception::find(s).is_none());
    assert!(other, "nothing was thrown on this stack");
}

#[test]
fn a_failing_read_changes_nothing_but_completeness() {
    let memory = thrown(GNU, "St13runtime_error", &[HEADER]);
    for n in 0..64 {
        let faulty = Faulty::new(&memory, n..n + 1, Absent::Corrupt);
        let found = exception(&faulty);
        assert!(found.is_none() || found == Some(("std::runtime_error".to_owned(), None)), "read {n}: {found:?}");
    }
}

#[test]
fn a_panic_without_symbols_says_nothing() {
    // A string that looks like a payload, and a table in no image.
    let stack = [STACK + 0x10, TYPE, 8, STACK + 0x40, 4, STACK, 0, 0, 0x6d6f_6f62];
    let memory = FakeMemory::new()
        .with(Addr(STACK), words(&[&stack[..], &[0; 32]].concat()))
        .with(Addr(TYPE), words(&[0, 32, 8, 0x1000, 0x1000, 0x1000, 0x1000, 0x1000]));
    let names = ["rust_panic", "core::panicking::panic_fmt"];
    assert_eq!(with_scene(names, &memory, rust_panic::find), None);
}

#[test]
fn frames_below_trampolines_are_the_interrupted_ones() {
    let mut frames: Vec<Frame> = (0..40).map(|n| frame(0x1000 + n, STACK + n * 0x80)).collect();
    frames[3].signal_frame = true;
    frames[30].signal_frame = true;
    frames[39].signal_frame = true;
    assert_eq!(
        memory::interrupted(&frames).map(|(index, f)| (index, f.pc.0)).collect::<Vec<_>>(),
        [(4, 0x1004), (31, 0x101f)]
    );
    assert_eq!(memory::interrupted(&[]).count(), 0);
}
