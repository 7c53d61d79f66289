//! Stacks of FreeBSD kernels.
//!
//! All of the kernel is compiled with frame pointers (its own tracer, `sys/x86/x86/stack_machdep.c` and
//! `sys/arm64/arm64/stack_machdep.c`, has nothing else), so their chain is followed wherever there is no call frame
//! information, and the code is not asked whether it agrees: a dump may hold none of it. Where a trap, an interrupt or
//! a system call entered the kernel, the registers of what was interrupted lie on the stack (`struct trapframe`,
//! `sys/amd64/include/frame.h`, `sys/i386/include/frame.h`). arm64's entry code (`sys/arm64/arm64/exception.S`) sets the
//! frame pointer to the end of the trap frame, where there is no frame record: ddb's `db_trace.c` does the same as here.

use crate::walk::Walker;
use crate::{Frame, Limits, Stack, Trust, abi, cfi_step};
use debuginfo::DebugInfo;
use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{Addr, Arch, Memory, Register, Registers, ToUsize};
use std::collections::HashSet;

/// Where `struct trapframe` of amd64 keeps the registers, by DWARF number: rdi, rsi, rdx, rcx, r8, r9, rax, rbx, rbp,
/// r10 to r15, rip, rflags, rsp.
const AMD64: [(u16, usize); 18] = [
    (5, 0),
    (4, 8),
    (1, 16),
    (2, 24),
    (8, 32),
    (9, 40),
    (0, 48),
    (3, 56),
    (6, 64),
    (10, 72),
    (11, 80),
    (12, 88),
    (13, 96),
    (14, 104),
    (15, 112),
    (16, 152),
    (49, 168),
    (7, 176),
];
const AMD64_CS: usize = 160;
const AMD64_SIZE: usize = 192;
/// The same of i386: edi, esi, ebp, ebx, edx, ecx, eax, eip, eflags. The stack pointer is where the frame ends, when
/// the kernel itself was interrupted.
const I386: [(u16, usize); 9] = [(7, 12), (6, 16), (5, 20), (3, 28), (2, 32), (1, 36), (0, 40), (8, 52), (9, 60)];
const I386_CS: usize = 56;
const I386_SIZE: usize = 64;
/// What `calltrap` of i386 pushes before it calls: the frame's address.
const I386_ARGUMENT: u64 = 4;

/// `struct trapframe` of arm64 (`sys/arm64/include/frame.h`): its bytes, and where x0 is. It begins with sp, lr and elr;
/// spsr and esr were of 32 bits, and far was not there, before FreeBSD 14.
const ARM64: [(u64, usize); 2] = [(288, 48), (272, 32)];
/// What the entry code leaves free between the interrupted stack pointer and the trap frame.
const ARM64_GAP: u64 = 128;

/// Code of arm64 that was entered from the kernel, or from a program, with a trap frame below its frame pointer.
fn entered(name: &str) -> Option<bool> {
    match name {
        "handle_el1h_sync" | "handle_el1h_irq" | "handle_el1h_fiq" | "handle_el1h_serror" => Some(true),
        "handle_el0_sync" | "handle_el0_irq" | "handle_el0_fiq" | "handle_el0_serror" => Some(false),
        _ => None,
    }
}

/// What arm64's entry code interrupted. The saved stack pointer says which form the trap frame has.
fn arm64_trap_frame(name: &str, registers: &Registers, walker: &Walker<'_, '_>) -> Option<Step> {
    if !entered(name)? {
        return Some(Step::End);
    }
    let end = registers.fp()?;
    let interrupted = end.wrapping_add(ARM64_GAP);
    for (size, general) in ARM64 {
        let mut raw = vec![0; size.to_usize()];
        if walker.memory.read_exact(Addr(end.0.wrapping_sub(size)), &mut raw).is_err() {
            continue;
        }
        let word = |at: usize| u64_at(&raw, at, Endian::Little);
        if word(0)? != interrupted.0 {
            continue;
        }
        let mut outer = Registers::new(Arch::Aarch64);
        // x18 is not restored: the entry code keeps the stack pointer in it.
        for number in (0_u16..30).filter(|n| *n != 18) {
            let at = usize::from(number).checked_mul(8)?.checked_add(general)?;
            outer.set(Register(number), word(at)?);
        }
        outer.set(Register(30), abi::strip_signature(Arch::Aarch64, Addr(word(8)?), walker.address_mask).0);
        outer.set(Registers::sp_register(Arch::Aarch64), interrupted.0);
        let pc = Addr(word(16)?);
        outer.set(Registers::pc_register(Arch::Aarch64), pc.0);
        return Some(Step::Caller(frame(outer, pc, false, Trust::Cfi)));
    }
    Some(Step::Lost(format!("the trap frame below {end} is not in the dump, or of an unknown form")))
}

/// Code that runs with a trap frame at its stack pointer (`sys/amd64/amd64/exception.S`, `apic_vector.S`).
fn has_trap_frame(name: &str) -> bool {
    matches!(name, "calltrap" | "nmi_calltrap" | "mchk_calltrap" | "fast_syscall_common" | "alltraps")
        || name.strip_prefix('X').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == 'I'))
}

#[allow(clippy::large_enum_variant, reason = "it is moved once and never stored")]
enum Step {
    Caller(Frame),
    End,
    Lost(String),
}

fn frame(registers: Registers, pc: Addr, is_return_address: bool, trust: Trust) -> Frame {
    Frame { registers, pc, is_return_address, cfa: None, trust, signal_frame: false, suspect: false }
}

/// Whether an address is the kernel's: of 64-bit machines the upper half. i386's kernel may have all of it.
const fn is_kernel(at: Addr, arch: Arch) -> bool {
    match arch {
        Arch::X86 => at.0 >= 4096,
        _ => at.0 >> 63 == 1,
    }
}

fn symbol(walker: &Walker<'_, '_>, at: Addr) -> Option<String> {
    let (index, module) = walker.info.modules().find(at)?;
    walker.info.symbols(index)?.at(module.to_svma(at)).map(|s| s.name.into_owned())
}

/// What was interrupted, by the trap frame at a stack pointer.
fn trap_frame(registers: &Registers, walker: &Walker<'_, '_>) -> Option<Step> {
    let sp = registers.sp()?;
    let (fields, cs, size, at): (&[(u16, usize)], usize, usize, Addr) = match walker.arch {
        Arch::X86_64 => (&AMD64, AMD64_CS, AMD64_SIZE, sp),
        Arch::X86 => (&I386, I386_CS, I386_SIZE, sp.wrapping_add(I386_ARGUMENT)),
        _ => return None,
    };
    let mut raw = vec![0; size];
    walker.memory.read_exact(at, &mut raw).ok()?;
    let word = |at: usize| match walker.arch {
        Arch::X86_64 => u64_at(&raw, at, Endian::Little),
        _ => u32_at(&raw, at, Endian::Little).map(u64::from),
    };
    // Segment selectors fit in 16 bits; the two lowest say who was interrupted.
    let selector = word(cs)?;
    if selector == 0 || selector > 0xffff {
        return None;
    }
    if selector & 3 == 3 {
        return Some(Step::End);
    }
    let mut outer = Registers::new(walker.arch);
    for (number, offset) in fields {
        outer.set(Register(*number), word(*offset)?);
    }
    if walker.arch == Arch::X86 {
        let size = u64::try_from(size).unwrap_or(0);
        outer.set(Registers::sp_register(Arch::X86), at.wrapping_add(size).0);
    }
    let pc = outer.pc()?;
    // A jump to nowhere is a trap, too: the program counter may be anything, the rest must be a kernel's.
    let sane = outer.sp().is_some_and(|sp| is_kernel(sp, walker.arch));
    sane.then(|| Step::Caller(frame(outer, pc, false, Trust::Cfi)))
}

fn by_rules(frame_here: &mut Frame, walker: &Walker<'_, '_>) -> Option<Step> {
    let row = walker.row_at(frame_here.lookup())?;
    let caller = cfi_step::step(&row, &frame_here.registers, walker).ok()?;
    let pc = caller.return_address?;
    if pc.0 == 0 {
        return Some(Step::End);
    }
    // Rules of assembly code are often wrong: they count only when they lead to code.
    walker.info.modules().find(pc)?;
    frame_here.cfa = Some(caller.cfa);
    Some(Step::Caller(frame(caller.registers, pc, !row.signal_frame, Trust::Cfi)))
}

fn by_frame_pointer(frame_here: &mut Frame, walker: &Walker<'_, '_>) -> Step {
    let (registers, arch) = (&frame_here.registers, walker.arch);
    let word = u64::from(arch.pointer_size());
    let Some(fp) = registers.fp() else { return Step::Lost("the frame pointer is not known".into()) };
    if fp.0 == 0 || !is_kernel(fp, arch) {
        // A program's frame pointer: the kernel was entered here.
        return Step::End;
    }
    let record = (walker.read_pointer(fp), walker.read_pointer(fp.wrapping_add(word)));
    let (Ok(saved), Ok(back)) = record else {
        return Step::Lost(format!("the frame record at {fp} is not in the dump"));
    };
    if saved == 0 || back == 0 {
        return Step::End;
    }
    let pc = abi::strip_signature(arch, Addr(back), walker.address_mask);
    let mut outer = Registers::new(arch);
    outer.set(Registers::fp_register(arch), saved);
    outer.set(Registers::pc_register(arch), pc.0);
    if matches!(arch, Arch::X86_64 | Arch::X86) {
        let sp = fp.wrapping_add(word.wrapping_mul(2));
        outer.set(Registers::sp_register(arch), sp.0);
        frame_here.cfa = Some(sp);
    }
    let mut caller = frame(outer, pc, true, Trust::FramePointer);
    caller.suspect = walker.info.modules().find(pc.wrapping_sub(1)).is_none();
    Step::Caller(caller)
}

/// Unwinds one stack of a FreeBSD kernel. `saved`: the registers were saved by a call that is to return to their program
/// counter, as those of threads that do not run and of processors that were stopped are.
#[must_use]
pub fn unwind_freebsd_kernel(
    start: &Registers,
    saved: bool,
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    limits: &Limits,
) -> Stack {
    let Some(pc) = start.pc() else {
        return Stack { frames: Vec::new(), truncated: Some("no program counter was recorded".into()) };
    };
    let address_mask = crate::abi::address_mask(start.arch, u64::MAX);
    let walker = Walker { memory, info, arch: start.arch, endian: Endian::Little, kernel: true, address_mask };
    let mut here = frame(start.clone(), pc, saved, Trust::Context);
    let mut frames = Vec::new();
    // A chain may go down once per kind of stack (an NMI's, a double fault's); it never comes back to a frame.
    let mut seen = HashSet::new();
    let truncated = loop {
        let key = (here.pc, here.registers.fp(), here.registers.sp());
        if !seen.insert(key) {
            break Some(format!("the stack runs in a circle: {} was reached before", here.pc));
        }
        if frames.len() >= limits.frames {
            break Some(format!("the limit of {} frames is reached", limits.frames));
        }
        let name = symbol(&walker, here.lookup());
        let interrupted = name.and_then(|name| match walker.arch {
            Arch::Aarch64 => arm64_trap_frame(&name, &here.registers, &walker),
            _ if has_trap_frame(&name) => trap_frame(&here.registers, &walker),
            _ => None,
        });
        if interrupted.is_some() {
            here.signal_frame = true;
        }
        let step = interrupted
            .or_else(|| by_rules(&mut here, &walker))
            .unwrap_or_else(|| by_frame_pointer(&mut here, &walker));
        frames.push(here);
        here = match step {
            Step::Caller(caller) => caller,
            Step::End => break None,
            Step::Lost(why) => break Some(why),
        };
    };
    Stack { frames, truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_with_trap_frames() {
        for name in ["calltrap", "nmi_calltrap", "Xtimerint", "Xipi_intr_bitmap_handler", "XIPI", "Xpage"] {
            assert!(has_trap_frame(name), "{name}");
        }
        assert_eq!(
            (entered("handle_el1h_sync"), entered("handle_el0_irq"), entered("do_el1h_sync")),
            (Some(true), Some(false), None)
        );
        for name in ["trap", "X", "XXX", "xtimer", "fork_trampoline"] {
            assert!(!has_trap_frame(name), "{name}");
        }
    }
}
