//! Stacks of a Linux kernel that is compiled with frame pointers and has no ORC tables.

use debuginfo::images::{Image, SymbolKind};
use debuginfo::symbols::{Stated, SymbolTable};
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Doubts, Register, Registers};
use unwind::{Limits, Stack, Trust, unwind, unwind_switched};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const STACK: u64 = 0xffff_c900_0010_0000;
/// Below the task's stack, and above it.
const IRQ_STACKS: [u64; 2] = [0xffff_8880_0000_8000, 0xffff_fe00_0000_8000];
const USER: u64 = 0x47_b7a0;
/// Functions of 0x100 bytes, and whether they set up a frame pointer: entry code does not.
const FUNCTIONS: [(&str, bool); 7] = [
    ("panic", true),
    ("handler", true),
    ("asm_exception", false),
    ("faulty", true),
    ("do_syscall", true),
    ("entry_syscall", false),
    ("ret_from_fork_asm", false),
];

fn function(name: &str) -> u64 {
    TEXT + 0x100 * FUNCTIONS.iter().position(|f| f.0 == name).unwrap() as u64
}

/// Where the call in the middle of a function returns to.
fn after_call(name: &str) -> u64 {
    function(name) + 0x85
}

fn image() -> Image {
    let mut table = SymbolTable::new(SymbolKind::Kallsyms, TEXT..TEXT + 0x700);
    for (name, _) in FUNCTIONS {
        table.push(&Stated { name, start: function(name), size: None, function: true, global: true });
    }
    Image { symbols: Some(table.finish()), ..Image::at("vmlinux", Addr(TEXT), 0x20_0000) }
}

fn text() -> Vec<u8> {
    let mut code = vec![0x90; 0x700];
    for (name, sets) in FUNCTIONS {
        let at = usize::try_from(function(name) - TEXT).unwrap();
        if sets {
            code[at..at + 4].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5]);
        }
        // An indirect call: any function may have been called.
        code[at + 0x83..at + 0x85].copy_from_slice(&[0xff, 0xd0]);
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

/// Saved registers at `at`.
fn saved(at: u64, rbp: u64, rip: u64, [cs, ss]: [u64; 2], rsp: u64) -> Vec<(u64, u64)> {
    let flags = (at + 144, 0x202);
    vec![(at + 32, rbp), (at + 40, 0xb0b), (at + 128, rip), (at + 136, cs), flags, (at + 152, rsp), (at + 160, ss)]
}

/// The stack of a system call, whose saved registers end it: `do_syscall` has its record at 0x800.
fn system_call() -> Vec<(u64, u64)> {
    let mut stack = vec![(0x800, 0), (0x808, after_call("entry_syscall"))];
    stack.extend(saved(0x810, 0x5555, USER, [0x33, 0x2b], 0x7ffd_0000_1000));
    stack
}

fn walk(start: [(u16, u64); 3], switched: bool, stacks: &[(u64, &[(u64, u64)])]) -> (Stack, Vec<u64>) {
    let mut memory = FakeMemory::new().with(Addr(TEXT), text());
    for (at, stack) in stacks {
        memory = memory.with(Addr(*at), words(stack));
    }
    let modules = Modules::of_images(vec![image()], &[], &Locator::default());
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let mut registers = Registers::new(Arch::X86_64);
    for (number, value) in start {
        registers.set(Register(number), value);
    }
    let stack = if switched { unwind_switched } else { unwind }(&registers, &memory, &info, &Limits::default());
    let pcs = stack.frames.iter().map(|f| f.pc.0).collect();
    (stack, pcs)
}

/// panic <- handler <- asm_exception (saved registers) <- faulty <- do_syscall <- entry_syscall <- the user's program.
fn through_an_exception() -> Vec<(u64, u64)> {
    let mut stack = vec![(0x100, STACK + 0x200), (0x108, after_call("handler"))];
    stack.extend([(0x200, (STACK + 0x210) | 1), (0x208, after_call("asm_exception"))]);
    stack.extend(saved(0x210, STACK + 0x400, function("faulty") + 0x40, [0x10, 0x18], STACK + 0x380));
    stack.extend([(0x400, STACK + 0x800), (0x408, after_call("do_syscall"))]);
    stack.extend(system_call());
    stack
}

#[test]
fn through_saved_registers_to_the_user() {
    let stack = through_an_exception();
    let start = [(16, function("panic") + 0x40), (7, STACK + 0xc0), (6, STACK + 0x100)];
    let (found, pcs) = walk(start, false, &[(STACK, &stack)]);
    let expected = [
        function("panic") + 0x40,
        after_call("handler"),
        after_call("asm_exception"),
        function("faulty") + 0x40,
        after_call("do_syscall"),
        after_call("entry_syscall"),
        USER,
    ];
    assert_eq!(pcs, expected, "{:?}", found.truncated);
    assert_eq!(found.truncated, None);
    assert!(found.frames[1..].iter().all(|f| f.trust == Trust::FramePointer && !f.suspect));
    // What was interrupted has all of its registers, and its program counter is no return address.
    assert!(!found.frames[3].is_return_address && found.frames[2].signal_frame);
    assert_eq!(found.frames[3].registers.get(Register(3)), Some(0xb0b));
    assert_eq!(found.frames[6].registers.get(Register(7)), Some(0x7ffd_0000_1000));
}

/// The frame record of `faulty` is on the stack that was left; its stack pointer then lies above the return address.
#[test]
fn from_an_interrupt_stack_to_the_tasks() {
    let irq = [(0xfe0, STACK + 0x400), (0xfe8, after_call("faulty")), (0xff0, STACK + 0x380)];
    let mut task = vec![(0x400, STACK + 0x800), (0x408, after_call("do_syscall"))];
    task.extend(system_call());
    for irq_stack in IRQ_STACKS {
        let start = [(16, function("panic") + 0x40), (7, irq_stack + 0xf80), (6, irq_stack + 0xfe0)];
        let (found, pcs) = walk(start, false, &[(STACK, &task), (irq_stack, &irq)]);
        let outer = [after_call("faulty"), after_call("do_syscall"), after_call("entry_syscall"), USER];
        assert_eq!(pcs[1..], outer, "{irq_stack:#x}: {:?}", found.truncated);
        // Without the pointer back the frame pointer is a number like others.
        let start = [(16, function("panic") + 0x40), (7, irq_stack + 0xf80), (6, irq_stack + 0xfe0)];
        let (found, pcs) = walk(start, false, &[(STACK, &task), (irq_stack, &irq[..2])]);
        assert!(pcs.len() == 2 && found.truncated.is_some(), "{pcs:x?}");
    }
}

/// A kernel thread begins with saved registers of zeros.
#[test]
fn a_kernel_thread_ends_where_it_began() {
    let stack = [(0x100, (STACK + 0x110) | 1), (0x108, after_call("ret_from_fork_asm"))];
    let start = [(16, after_call("do_syscall")), (7, STACK + 0xc0), (6, STACK + 0x100)];
    let (found, pcs) = walk(start, true, &[(STACK, &stack)]);
    assert_eq!(pcs, [after_call("do_syscall"), after_call("ret_from_fork_asm")]);
    assert_eq!(found.truncated, None);
}

/// Words that are no registers are not taken for some.
#[test]
fn what_is_no_registers_is_said_to_be_none() {
    let whole = through_an_exception();
    let start = [(16, function("panic") + 0x40), (7, STACK + 0xc0), (6, STACK + 0x100)];
    // Its code segment, its flags.
    for (at, value) in [(0x210 + 136, 0x77_0001), (0x210 + 144, 0)] {
        let mut stack = whole.clone();
        stack.push((at, value));
        let (found, pcs) = walk(start, false, &[(STACK, &stack)]);
        assert_eq!(pcs.len(), 3);
        assert!(found.truncated.is_some_and(|why| why.contains("the registers saved at")), "{at:#x}");
    }
    // Without the user's segments nothing is behind the system call.
    let mut stack = whole;
    stack.push((0x810 + 160, 0));
    let (found, pcs) = walk(start, false, &[(STACK, &stack)]);
    assert_eq!((pcs.len(), found.truncated), (6, None));
}
