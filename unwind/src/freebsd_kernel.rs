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
/// What `calltrap` of i386 pushes before it calls: the frame's address. Since 12 entry code keeps that in the frame
/// pointer as well (`db_nextframe` in `sys/i386/i386/db_trace.c`), whatever else it pushes.
const I386_ARGUMENT: u64 = 4;

/// How arm64's entry code left a trap frame (`sys/arm64/include/frame.h`, `save_registers` in `exception.S`).
struct ArmFrame {
    /// Bytes of `struct trapframe`, whose end is the frame pointer. It begins with sp, lr, elr and spsr; spsr and esr
    /// were of 32 bits, and far was not there, before FreeBSD 14.
    size: u64,
    /// Where x0 is.
    general: usize,
    /// Bytes behind its end: a record of x29 and lr, up to 13.
    record: u64,
}

/// 14 and later; 13 and earlier; between the two.
const ARM64: [ArmFrame; 3] = [
    ArmFrame { size: 288, general: 48, record: 0 },
    ArmFrame { size: 272, general: 32, record: 16 },
    ArmFrame { size: 272, general: 32, record: 0 },
];
/// What the entry code leaves free below the interrupted stack pointer of the kernel.
const ARM64_GAP: u64 = 128;

/// Who arm64's entry code interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Kernel,
    Program,
    /// Code for both: up to 14 system errors, and what nobody expects.
    Either,
}

/// Code of arm64 that was entered with a trap frame below its frame pointer.
fn entered(name: &str) -> Option<Entered> {
    match name {
        "handle_el1h_sync" | "handle_el1h_irq" | "handle_el1h_fiq" | "handle_el1h_serror" => Some(Entered::Kernel),
        "handle_el0_sync" | "handle_el0_irq" | "handle_el0_fiq" | "handle_el0_serror" => Some(Entered::Program),
        "handle_serror" | "handle_empty_exception" => Some(Entered::Either),
        _ => None,
    }
}

/// What arm64's entry code interrupted. The saved stack pointer says which form the trap frame has.
fn arm64_trap_frame(name: &str, registers: &Registers, walker: &Walker<'_, '_>) -> Option<Step> {
    let who = entered(name)?;
    if who == Entered::Program {
        return Some(Step::End);
    }
    let end = registers.fp()?;
    for form in ARM64 {
        let mut raw = vec![0; form.size.to_usize()];
        if walker.memory.read_exact(Addr(end.0.wrapping_sub(form.size)), &mut raw).is_err() {
            continue;
        }
        let word = |at: usize| u64_at(&raw, at, Endian::Little);
        let register = |n: u16| word(usize::from(n).checked_mul(8)?.checked_add(form.general)?);
        let below = end.wrapping_add(form.record);
        let mut interrupted = below.wrapping_add(ARM64_GAP);
        if word(0)? != interrupted.0 {
            // Code for both saves the program's stack pointer, whoever it interrupted, and leaves nothing free. The
            // record behind the frame repeats two of the registers.
            let record = || {
                let read = |at: Addr| walker.read_pointer(at).ok();
                Some(read(end)? == register(29)? && read(end.wrapping_add(8))? == word(8)?)
            };
            if who != Entered::Either || form.record == 0 || record() != Some(true) {
                continue;
            }
            if word(16)? >> 63 == 0 {
                return Some(Step::End);
            }
            interrupted = below;
        }
        let mut outer = Registers::new(Arch::Aarch64);
        // x18 is not restored: the entry code keeps the stack pointer in it.
        for number in (0_u16..30).filter(|n| *n != 18) {
            outer.set(Register(number), register(number)?);
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
        Arch::X86 => {
            let above = |fp: &Addr| fp.offset_from(sp).is_some_and(|skip| skip > 0 && skip < 64);
            let at = registers.fp().filter(above).unwrap_or_else(|| sp.wrapping_add(I386_ARGUMENT));
            (&I386, I386_CS, I386_SIZE, at)
        }
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

/// Who called or jumped to an address that is no code: the return address of the call is still on top of the stack, or in
/// the link register.
fn by_call(here: &Frame, walker: &Walker<'_, '_>) -> Option<Step> {
    if walker.info.modules().find(here.pc).is_some() {
        return None;
    }
    let arch = walker.arch;
    let mut outer = here.registers.clone();
    let back = if arch == Arch::Aarch64 {
        abi::strip_signature(arch, Addr(here.registers.get(Register(30))?), walker.address_mask)
    } else {
        let sp = here.registers.sp()?;
        outer.set(Registers::sp_register(arch), sp.wrapping_add(arch.pointer_size().into()).0);
        Addr(walker.read_pointer(sp).ok()?)
    };
    walker.info.modules().find(back.wrapping_sub(1))?;
    outer.set(Registers::pc_register(arch), back.0);
    Some(Step::Caller(frame(outer, back, true, Trust::Scan)))
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
    let mut frames: Vec<Frame> = Vec::new();
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
        let trapped = frames.last().is_some_and(|f| f.signal_frame);
        let step = interrupted
            .or_else(|| by_call(&here, &walker).filter(|_| trapped))
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
    use debuginfo::images::Image;
    use debuginfo::{Locator, Modules};
    use evidence::Doubts;
    use evidence::testing::FakeMemory;

    /// A stack of arm64 with a trap frame that ends at `END`, of a form, and what is behind it.
    fn trapped(form: &ArmFrame, sp: u64, elr: u64, record: Option<(u64, u64)>) -> FakeMemory {
        let start = (END - form.size) as usize & 0xfff;
        let mut stack = vec![0_u8; 0x1000];
        let mut set = |at: usize, value: u64| stack[at..at + 8].copy_from_slice(&value.to_le_bytes());
        for (at, value) in [(0, sp), (8, LR), (16, elr), (form.general + 29 * 8, FP), (form.general, 0x77)] {
            set(start + at, value);
        }
        for (n, value) in record.into_iter().flat_map(|(a, b)| [a, b]).enumerate() {
            set((END & 0xfff) as usize + n * 8, value);
        }
        FakeMemory::new().with(Addr(END & !0xfff), stack)
    }

    const END: u64 = 0xffff_0000_4000_0800;
    const FP: u64 = 0xffff_0000_4000_0a00;
    const LR: u64 = 0xffff_0000_0000_1234;
    const PC: u64 = 0xffff_0000_0000_5678;

    /// The registers of what was interrupted; `Err(true)` when the stack ends there, `Err(false)` when it is lost.
    fn interrupted(name: &str, memory: &FakeMemory) -> Result<Registers, bool> {
        let (modules, doubts) = (Modules::default(), Doubts::new());
        let info = DebugInfo::new(&modules, &doubts);
        let walker = Walker {
            memory,
            info: &info,
            arch: Arch::Aarch64,
            endian: Endian::Little,
            kernel: true,
            address_mask: crate::abi::address_mask(Arch::Aarch64, u64::MAX),
        };
        let mut registers = Registers::new(Arch::Aarch64);
        registers.set(Registers::fp_register(Arch::Aarch64), END);
        match arm64_trap_frame(name, &registers, &walker).unwrap() {
            Step::Caller(frame) => Ok(frame.registers),
            Step::End => Err(true),
            Step::Lost(_) => Err(false),
        }
    }

    #[test]
    fn forms_of_arm64() {
        for form in &ARM64 {
            let sp = END + form.record + 128;
            let memory = trapped(form, sp, PC, None);
            let found = interrupted("handle_el1h_sync", &memory).unwrap();
            assert_eq!((found.pc(), found.fp(), found.sp()), (Some(Addr(PC)), Some(Addr(FP)), Some(Addr(sp))));
            assert_eq!((found.get(Register(0)), found.get(Register(30))), (Some(0x77), Some(LR)));
            assert_eq!(interrupted("handle_serror", &memory).unwrap().pc(), Some(Addr(PC)));
            assert_eq!(interrupted("handle_el0_sync", &memory), Err(true));
            let other = trapped(form, sp + 8, PC, None);
            assert_eq!(interrupted("handle_el1h_irq", &other), Err(false));
        }
        // A system error of 13 saves the program's stack pointer.
        let user = 0x7fff_0000;
        let kernel = trapped(&ARM64[1], user, PC, Some((FP, LR)));
        let found = interrupted("handle_serror", &kernel).unwrap();
        assert_eq!((found.pc(), found.sp()), (Some(Addr(PC)), Some(Addr(END + 16))));
        assert_eq!(interrupted("handle_serror", &trapped(&ARM64[1], user, 0x20_1234, Some((FP, LR)))), Err(true));
        assert_eq!(interrupted("handle_serror", &trapped(&ARM64[1], user, PC, Some((FP, 5)))), Err(false));
        assert_eq!(interrupted("handle_el1h_sync", &kernel), Err(false));
    }

    /// Calls through wild pointers: who called is on top of the stack, or in the link register.
    #[test]
    fn calls_to_nowhere() {
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
            let word = usize::from(arch.pointer_size());
            let kernel = Image::at("kernel", Addr(0xc000_0000), 0x10_0000);
            let modules = Modules::of_images(vec![kernel], &[], &Locator::default());
            let doubts = Doubts::new();
            let info = DebugInfo::new(&modules, &doubts);
            let mut stack = vec![0_u8; 64];
            stack[..word].copy_from_slice(&0xc000_1234_u64.to_le_bytes()[..word]);
            let memory = FakeMemory::new().with(Addr(0xd000_0000), stack);
            let address_mask = crate::abi::address_mask(arch, u64::MAX);
            let walker =
                Walker { memory: &memory, info: &info, arch, endian: Endian::Little, kernel: true, address_mask };
            let mut registers = Registers::new(arch);
            registers.set(Registers::pc_register(arch), 0x4141_4140);
            registers.set(Registers::sp_register(arch), 0xd000_0000);
            registers.set(Registers::fp_register(arch), 0xd000_0020);
            if arch == Arch::Aarch64 {
                registers.set(Register(30), 0xc000_1234);
            }
            let here = frame(registers.clone(), Addr(0x4141_4140), false, Trust::Cfi);
            let Some(Step::Caller(caller)) = by_call(&here, &walker) else { panic!("{arch:?}") };
            let popped = if arch == Arch::Aarch64 { 0 } else { word as u64 };
            assert_eq!((caller.pc, caller.registers.fp()), (Addr(0xc000_1234), Some(Addr(0xd000_0020))), "{arch:?}");
            assert_eq!(caller.registers.sp(), Some(Addr(0xd000_0000 + popped)), "{arch:?}");
            let code = frame(registers, Addr(0xc000_0010), false, Trust::Cfi);
            assert!(by_call(&code, &walker).is_none(), "{arch:?}");
        }
    }

    #[test]
    fn code_with_trap_frames() {
        for name in ["calltrap", "nmi_calltrap", "Xtimerint", "Xipi_intr_bitmap_handler", "XIPI", "Xpage"] {
            assert!(has_trap_frame(name), "{name}");
        }
        for (name, who) in [
            ("handle_el1h_sync", Some(Entered::Kernel)),
            ("handle_el0_irq", Some(Entered::Program)),
            ("handle_serror", Some(Entered::Either)),
            ("do_el1h_sync", None),
        ] {
            assert_eq!(entered(name), who, "{name}");
        }
        for name in ["trap", "X", "XXX", "xtimer", "fork_trampoline"] {
            assert!(!has_trap_frame(name), "{name}");
        }
    }
}
