//! Traps and interrupts of illumos kernels: the handler's frame record is the `struct regs` of what it interrupted.
//!
//! Source: uts/intel/sys/regset.h and privregs.h (`struct regs`, whose order assembler code relies on),
//! uts/i86pc/ml/interrupt.s and uts/intel/ml/exception.s (`cmntrap`, `cmnint`).

use crate::walk::Walker;
use evidence::{Addr, Arch, Register, Registers, bytes};

/// Functions that save a `struct regs` and let the frame pointer point to it.
const HANDLERS: [&str; 6] = ["cmntrap", "_cmntrap", "cmntrap_pushed", "cmnint", "_interrupt", "fasttrap"];
/// DWARF's numbers of its members behind the frame record; those of no register, of trap number and error code, are left
/// out.
const MEMBERS: [Option<u16>; 28] = [
    Some(5),
    Some(4),
    Some(1),
    Some(2),
    Some(8),
    Some(9),
    Some(0),
    Some(3),
    Some(6),
    Some(10),
    Some(11),
    Some(12),
    Some(13),
    Some(14),
    Some(15),
    None,
    None,
    Some(53),
    Some(50),
    Some(54),
    Some(55),
    None,
    None,
    Some(16),
    Some(51),
    Some(49),
    Some(7),
    Some(52),
];
/// Bytes of the structure.
const SIZE: usize = 240;
/// The code segment, and bits of it that say "user".
const CS: Register = Register(51);

/// What the handler at `pc` interrupted, and whether that was a program.
pub(crate) fn interrupted(pc: Addr, registers: &Registers, walker: &Walker<'_, '_>) -> Option<(Registers, bool)> {
    if walker.arch != Arch::X86_64 || !walker.kernel {
        return None;
    }
    let (index, module) = walker.info.modules().find(pc)?;
    let symbol = walker.info.symbols(index)?.at(module.to_svma(pc))?;
    if !HANDLERS.contains(&&*symbol.name) {
        return None;
    }
    let mut raw = [0; SIZE];
    walker.memory.read_exact(registers.fp()?, &mut raw).ok()?;
    let word = |n: usize| bytes::u64_at(&raw, n.checked_mul(8)?, bytes::Endian::Little);
    let mut outer = walker.thread_state(registers);
    for (n, number) in MEMBERS.iter().enumerate() {
        if let Some(number) = number {
            outer.set(Register(*number), word(n.checked_add(2)?)?);
        }
    }
    // The frame record repeats where it came from, and a segment is a small number: anything else is no `struct regs`.
    let cs = outer.get(CS)?;
    (word(1)? == outer.pc()?.0 && word(0)? == outer.fp()?.0 && cs < 0x100).then_some((outer, cs & 3 == 3))
}
