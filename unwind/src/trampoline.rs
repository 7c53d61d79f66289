//! Signal trampolines known by their instructions: those of C libraries without call frame information (musl), and
//! AArch64's vDSO, whose rules (where older kernels have some) lead past the interrupted function.
//!
//! Sources: Linux `arch/{x86,arm64}/kernel/signal*.c` and `include/uapi/asm/{sigcontext,ucontext}.h` for what lies on
//! the stack when the handler has returned.

use crate::walk::Walker;
use crate::{Frame, abi};
use evidence::{Addr, Arch, Register, Registers};

/// mov $15,%rax; syscall (rt_sigreturn).
const X86_64: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// mov $173,%eax; int $0x80 (rt_sigreturn).
const X86_RT: [u8; 7] = [0xb8, 0xad, 0, 0, 0, 0xcd, 0x80];
/// pop %eax; mov $119,%eax; int $0x80 (sigreturn).
const X86: [u8; 8] = [0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80];
/// mov x8, #139; svc #0 (rt_sigreturn).
const AARCH64: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];

/// DWARF numbers of the registers of `struct sigcontext`, in its order, 8 bytes each.
const X86_64_ORDER: [u16; 18] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16, 49];
/// The same for i386, 4 bytes each: gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip, cs, eflags.
const X86_ORDER: [Option<u16>; 17] = [
    Some(45),
    Some(44),
    Some(40),
    Some(43),
    Some(7),
    Some(6),
    Some(5),
    Some(4),
    Some(3),
    Some(2),
    Some(1),
    Some(0),
    None,
    None,
    Some(8),
    Some(41),
    Some(9),
];

/// The interrupted context, when `frame` stands at the start of a signal trampoline.
pub(crate) fn interrupted(frame: &Frame, walker: &Walker<'_, '_>) -> Option<Registers> {
    let mut code = [0; 9];
    let (got, _) = walker.memory.read(frame.pc, &mut code);
    let code = code.get(..got)?;
    let sp = frame.registers.sp()?;
    let mut outer = Registers::new(walker.arch);
    for (register, value) in frame.registers.iter() {
        if abi::is_thread_state(walker.arch, register) {
            outer.set(register, value);
        }
    }
    // (address of the saved registers, width of each, their numbers in order)
    let mut take = |start: Addr, word: u64, order: &mut dyn Iterator<Item = Option<u16>>| -> Option<()> {
        let mut at = start;
        for number in order {
            if let Some(number) = number {
                outer.set(Register(number), walker.read_pointer(at).ok()?);
            }
            at = at.checked_add(word)?;
        }
        Some(())
    };
    match walker.arch {
        // ucontext: flags, link, a 24-byte stack_t, then the sigcontext.
        Arch::X86_64 if code.starts_with(&X86_64) => {
            take(sp.checked_add(40)?, 8, &mut X86_64_ORDER.into_iter().map(Some))?;
        }
        // The handler's arguments lie at sp: signal, siginfo pointer, ucontext pointer.
        Arch::X86 if code.starts_with(&X86_RT) => {
            let context = Addr(walker.read_pointer(sp.checked_add(8)?).ok()?);
            take(context.checked_add(20)?, 4, &mut X86_ORDER.into_iter())?;
        }
        Arch::X86 if code.starts_with(&X86) => take(sp.checked_add(4)?, 4, &mut X86_ORDER.into_iter())?,
        // A 128-byte siginfo; ucontext with 128 bytes of signal mask; sigcontext aligned to 16, whose first word is the
        // fault address; x0-x30, sp, pc, pstate.
        Arch::Aarch64 if code.starts_with(&AARCH64) => {
            take(sp.checked_add(128 + 176 + 8)?, 8, &mut (0..34).map(Some))?;
        }
        _ => return None,
    }
    outer.pc().is_some().then_some(outer)
}
