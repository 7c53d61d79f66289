//! Stacks of a kernel with ORC tables: exceptions, interrupt stacks, system calls, tasks that were switched out, calls
//! through freed objects, functions without rules.

use debuginfo::images::{Image, SymbolKind};
use debuginfo::kernel::Orc;
use debuginfo::symbols::{Stated, SymbolTable};
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Doubts, Register, Registers};
use unwind::{Limits, Stack, Trust, unwind, unwind_switched};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const STACK: u64 = 0xffff_c900_0010_0000;
const IRQ_STACK: u64 = 0xffff_c900_0000_0000;
const USER: u64 = 0x47_b7a0;

/// Functions of 0x100 bytes, each with one rule: name, bases of stack and frame pointer with offsets, type and end mark
/// as in the table's first version.
const FUNCTIONS: [(&str, u16, i16, u16, i16, u16); 8] = [
    ("panic", 5, 0x20, 1, -16, 0),
    ("asm_exception", 5, 0x8, 0, 0, 1),
    ("faulty", 5, 8, 0, 0, 0),
    ("on_task_stack", 4, 16, 1, -16, 0),
    ("entry_syscall", 5, 0, 0, 0, 1),
    ("ret_from_fork", 0, 0, 0, 0, 4),
    ("no_rules", 0, 0, 0, 0, 0),
    ("irq_entry", 9, 8, 0, 0, 0),
];

fn function(name: &str) -> u64 {
    TEXT + 0x100 * FUNCTIONS.iter().position(|f| f.0 == name).unwrap() as u64
}

/// Where the call in the middle of a function returns to.
fn after_call(name: &str) -> u64 {
    function(name) + 0x85
}

fn image() -> Image {
    let place = TEXT + 0x10_0000;
    let (mut addresses, mut rules) = (Vec::new(), Vec::new());
    let mut table = SymbolTable::new(SymbolKind::Kallsyms, TEXT..TEXT + 0x800);
    for (n, (name, sp, sp_offset, fp, fp_offset, kind)) in FUNCTIONS.iter().enumerate() {
        let (start, here) = (function(name), place + n as u64 * 4);
        addresses.extend(i32::try_from(start.wrapping_sub(here).cast_signed()).unwrap().to_le_bytes());
        rules.extend(sp_offset.to_le_bytes());
        rules.extend(fp_offset.to_le_bytes());
        rules.extend((sp | fp << 4 | kind << 8).to_le_bytes());
        table.push(&Stated { name, start, size: None, function: true, global: true });
    }
    let orc = Orc::new(Addr(place), addresses, rules, None).unwrap();
    Image { symbols: Some(table.finish()), orc: Some(orc), ..Image::at("vmlinux", Addr(TEXT), 0x20_0000) }
}

/// Every function calls `target` by `call rel32` in its middle.
fn text(target: &str) -> Vec<u8> {
    let mut code = vec![0x90; 0x800];
    for (name, ..) in FUNCTIONS {
        let at = usize::try_from(function(name) - TEXT).unwrap() + 0x80;
        let distance = i32::try_from(function(target).wrapping_sub(after_call(name)).cast_signed()).unwrap();
        code[at] = 0xe8;
        code[at + 1..at + 5].copy_from_slice(&distance.to_le_bytes());
    }
    code
}

fn words(stack: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    for (at, value) in stack {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Saved registers at `at`: rbp, rbx, rip, cs, rsp.
fn saved(at: u64, rbp: u64, rip: u64, cs: u64, rsp: u64) -> Vec<(u64, u64)> {
    vec![(at + 32, rbp), (at + 40, 0xb0b), (at + 128, rip), (at + 136, cs), (at + 144, 0x202), (at + 152, rsp)]
}

fn check(
    start: &[(u16, u64)],
    switched: bool,
    callee: &str,
    stack: &[(u64, u64)],
    irq: &[(u64, u64)],
) -> (Stack, Vec<u64>) {
    let memory = FakeMemory::new()
        .with(Addr(TEXT), text(callee))
        .with(Addr(STACK), words(stack))
        .with(Addr(IRQ_STACK), words(irq));
    let modules = Modules::of_images(vec![image()], &[], &Locator::default());
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let mut registers = Registers::new(Arch::X86_64);
    for (number, value) in start {
        registers.set(Register(*number), *value);
    }
    let walk = if switched { unwind_switched } else { unwind };
    let stack = walk(&registers, &memory, &info, &Limits::default());
    let pcs = stack.frames.iter().map(|f| f.pc.0).collect();
    (stack, pcs)
}

/// panic <- asm_exception (saved registers) <- faulty <- entry_syscall (saved registers) <- the user's program.
#[test]
fn from_a_panic_through_exception_and_system_call_to_the_user() {
    let mut stack = vec![(0x100, 0x0bad_c0de), (0x110, 0x1234), (0x118, after_call("asm_exception"))];
    stack.extend(saved(0x128, 0x5555, function("faulty") + 5, 0x10, STACK + 0x300));
    stack.push((0x300, after_call("entry_syscall")));
    stack.extend(saved(0x308, 0x77, USER, 0x33, 0x7ffd_0000));
    let start = [(16, function("panic") + 0x40), (7, STACK + 0x100), (6, 1), (51, 0x10)];
    let (unwound, pcs) = check(&start, false, "panic", &stack, &[]);
    let expected = [
        function("panic") + 0x40,
        after_call("asm_exception"),
        function("faulty") + 5,
        after_call("entry_syscall"),
        USER,
    ];
    assert_eq!(pcs, expected);
    assert_eq!(unwound.truncated, None);
    let frame = |n: usize| &unwound.frames[n];
    assert!(frame(1).is_return_address && frame(1).signal_frame && frame(1).trust == Trust::Orc);
    assert!(!frame(2).is_return_address && !frame(2).signal_frame);
    assert_eq!(frame(1).registers.fp(), Some(Addr(0x1234)));
    assert_eq!(frame(2).registers.fp(), Some(Addr(0x5555)));
    assert_eq!(frame(2).registers.get(Register(3)), Some(0xb0b));
    // What nobody saved is not known: rbx of a caller.
    assert_eq!(frame(3).registers.get(Register(3)), None);
    assert_eq!(frame(4).registers.sp(), Some(Addr(0x7ffd_0000)));
}

/// The interrupt stack lies below the task's stack here, and above it elsewhere: the word at its top leads back.
#[test]
fn from_an_interrupt_stack_to_the_tasks() {
    let irq = [(0xf00, STACK + 0x200 - 8)];
    let stack = [(0x1f8, after_call("on_task_stack")), (0x210, 0x99), (0x218, after_call("ret_from_fork"))];
    let start = [(16, function("irq_entry") + 0x10), (7, IRQ_STACK + 0xf00), (6, STACK + 0x210)];
    let (unwound, pcs) = check(&start, false, "irq_entry", &stack, &irq);
    assert_eq!(pcs, [function("irq_entry") + 0x10, after_call("on_task_stack"), after_call("ret_from_fork")]);
    assert_eq!(unwound.truncated, None);
}

#[test]
fn a_task_that_was_switched_out_returns_and_one_that_never_ran_begins() {
    let stack = [(0x110, 0), (0x118, after_call("ret_from_fork"))];
    let (unwound, pcs) = check(&[(16, after_call("panic")), (7, STACK + 0x100)], true, "panic", &stack, &[]);
    assert_eq!((pcs.len(), unwound.truncated), (2, None));
    assert!(unwound.frames[0].is_return_address);
    let (unwound, pcs) = check(&[(16, function("ret_from_fork")), (7, STACK + 0x100)], true, "panic", &[], &[]);
    assert_eq!((pcs.len(), unwound.truncated), (1, None));
    assert!(!unwound.frames[0].is_return_address);
}

/// The program counter came out of a freed object: the call that went there left its return address.
#[test]
fn a_call_through_a_freed_object() {
    for wild in [0x4141_4141_4141_4141, 0, STACK + 0x800] {
        let mut stack = vec![(0x100, after_call("faulty")), (0x108, after_call("entry_syscall"))];
        stack.extend(saved(0x110, 0, USER, 0x33, 0x7ffd_0000));
        let (unwound, pcs) = check(&[(16, wild), (7, STACK + 0x100)], false, "panic", &stack, &[]);
        assert_eq!(pcs, [wild, after_call("faulty"), after_call("entry_syscall"), USER]);
        assert_eq!(unwound.truncated, None);
        assert_eq!(unwound.frames[1].trust, Trust::Scan);
    }
}

/// `__crash_kexec` has no rules: the first return address behind a call to it is taken, not the remains of others.
#[test]
fn a_function_without_rules() {
    let stack =
        [(0x128, 0x1234), (0x140, after_call("panic")), (0x150, 7), (0x158, 0), (0x160, after_call("ret_from_fork"))];
    let start = [(16, function("no_rules") + 0x30), (7, STACK + 0x100)];
    let (unwound, pcs) = check(&start, false, "no_rules", &stack, &[]);
    assert_eq!(pcs, [function("no_rules") + 0x30, after_call("panic"), after_call("ret_from_fork")]);
    assert_eq!((unwound.frames[1].trust, unwound.frames[2].trust), (Trust::Scan, Trust::Orc));
    assert_eq!(unwound.truncated, None);
}

/// A circle of saved registers ends.
#[test]
fn circles_end() {
    let mut stack = vec![(0x100, after_call("asm_exception"))];
    stack.extend(saved(0x110, 0, function("faulty"), 0x10, STACK + 0x100));
    let (unwound, _) = check(&[(16, function("faulty")), (7, STACK + 0x100)], false, "panic", &stack, &[]);
    assert!(unwound.truncated.unwrap().contains("circle"));
    assert!(unwound.frames.len() < 10);
}
