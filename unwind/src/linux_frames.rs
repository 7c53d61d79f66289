//! What frame pointers of a Linux kernel for x86-64 without ORC tables lead to, besides frame records.
//!
//! Where the kernel was entered, the frame pointer is the address of the saved registers (`struct pt_regs`) plus one
//! (`ENCODE_FRAME_POINTER`, `arch/x86/include/asm/frame.h`), or null for a system call; kernel threads begin with saved
//! registers of zeros (`copy_thread`, `arch/x86/kernel/process.c`). On an interrupt stack the word above the outermost
//! return address is the stack pointer of what was interrupted (`call_on_stack`, `arch/x86/include/asm/irq_stack.h`).

use crate::orc_step::{self, Step};
use crate::walk::Walker;
use evidence::{Addr, Arch, Register, Registers};

/// DWARF's numbers of the flags and of the stack's segment.
const FLAGS: Register = Register(49);
const SS: Register = Register(52);
/// A bit of the flags that is always set (Intel SDM volume 1, 3.4.3).
const FLAGS_ALWAYS: u64 = 2;
/// `__KERNEL_CS` (`arch/x86/include/asm/segment.h`).
const KERNEL_CS: u64 = 0x10;
/// The first address that is no program's.
const USER_END: u64 = 1 << 56;
/// Largest stack of a task: 16 KiB, twice that with KASAN.
const LIMIT_STACK: u64 = 32 << 10;

/// What was interrupted, when the frame is that of the kernel's entry code: its stack pointer is where the registers
/// were saved.
pub(crate) fn entry(registers: &Registers, walker: &Walker<'_, '_>) -> Step {
    let (Some(fp), Some(sp)) = (registers.fp(), registers.sp()) else { return Step::None };
    let encoded = fp.0 & 1 == 1;
    if registers.arch != Arch::X86_64 || !walker.kernel || !(encoded && fp.0 & !1 == sp.0 || fp.0 == 0) {
        return Step::None;
    }
    let caller = match orc_step::saved(sp, 0, registers, walker) {
        Ok(caller) => caller,
        Err(why) if encoded => return Step::Lost(why),
        Err(_) => return Step::None,
    };
    let value = |register: Register| caller.registers.get(register).unwrap_or(0);
    let is_set = value(FLAGS) & FLAGS_ALWAYS != 0;
    if orc_step::is_user(&caller.registers) {
        let below = caller.pc.0 < USER_END && caller.registers.sp().is_some_and(|sp| sp.0 < USER_END);
        return if is_set && below && value(SS) & 3 == 3 { Step::Caller(caller) } else { Step::None };
    }
    if !encoded {
        return Step::None;
    }
    if value(orc_step::CS) == KERNEL_CS && is_set {
        return Step::Caller(caller);
    }
    let zeros = caller.pc.0 == 0 && value(orc_step::CS) == 0 && value(FLAGS) == 0;
    if zeros { Step::End } else { Step::Lost(format!("the registers saved at {sp} are none")) }
}

/// The registers with the stack pointer of the task's stack, when it was left for an interrupt stack here.
pub(crate) fn left_stack(registers: &Registers, walker: &Walker<'_, '_>) -> Option<Registers> {
    if registers.arch != Arch::X86_64 || !walker.kernel {
        return None;
    }
    let (fp, sp) = (registers.fp()?, registers.sp()?);
    let near = |from: Addr| fp.offset_from(from).is_some_and(|d| d <= LIMIT_STACK);
    let before = Addr(walker.read_pointer(sp).ok()?);
    // Two stacks, and the frame pointer lies on the one that was left.
    if fp.0 & 7 != 0 || near(sp) || !near(before) || before.0 & 7 != 0 {
        return None;
    }
    let mut there = registers.clone();
    there.set(Registers::sp_register(Arch::X86_64), before.0);
    Some(there)
}
