//! One step outwards by a Linux kernel's ORC table.
//!
//! Source: `unwind_next_frame` in `arch/x86/kernel/unwind_orc.c`.

use crate::abi;
use crate::walk::Walker;
use debuginfo::kernel::{Base, OrcKind, OrcRow};
use evidence::{Addr, Arch, Register, Registers};

/// DWARF's numbers of the registers of `struct pt_regs` (`arch/x86/include/asm/ptrace.h`), in its order: r15 r14 r13 r12
/// bp bx r11 r10 r9 r8 ax cx dx si di, orig_ax, ip cs flags sp ss.
const SAVED: [Option<u16>; 21] = [
    Some(15),
    Some(14),
    Some(13),
    Some(12),
    Some(6),
    Some(3),
    Some(11),
    Some(10),
    Some(9),
    Some(8),
    Some(0),
    Some(2),
    Some(1),
    Some(4),
    Some(5),
    None,
    Some(16),
    Some(51),
    Some(49),
    Some(7),
    Some(52),
];
/// How many of them come before what the processor itself pushes.
const SOFTWARE: usize = 16;
/// The code segment, whose low two bits say whose code it was.
pub(crate) const CS: Register = Register(51);

/// What a rule gives.
pub(crate) struct Caller {
    pub registers: Registers,
    pub cfa: Addr,
    pub pc: Addr,
    /// The registers were saved where something interrupted: the program counter is no return address.
    pub interrupted: bool,
}

/// What follows from the table.
#[allow(clippy::large_enum_variant, reason = "it is moved once and never stored")]
pub(crate) enum Step {
    Caller(Caller),
    /// The outermost function.
    End,
    /// The table has no rule.
    None,
    /// The rule cannot be followed.
    Lost(String),
}

/// Whether these are the registers of a user program.
pub(crate) fn is_user(registers: &Registers) -> bool {
    registers.get(CS).is_some_and(|cs| cs & 3 == 3)
}

/// Applies a rule.
pub(crate) fn step(row: &OrcRow, registers: &Registers, walker: &Walker<'_, '_>) -> Step {
    match row.kind {
        OrcKind::Undefined => return Step::None,
        OrcKind::End => return Step::End,
        OrcKind::Call | OrcKind::Registers | OrcKind::InterruptFrame => {}
    }
    match follow(row, registers, walker) {
        Ok(caller) => Step::Caller(caller),
        Err(why) => Step::Lost(why),
    }
}

fn named(registers: &Registers, number: u16) -> Result<Addr, String> {
    let name = || evidence::register_name(Arch::X86_64, Register(number)).unwrap_or("?");
    let value = registers.get(Register(number));
    value.map(Addr).ok_or_else(|| format!("its ORC rule counts from {}, which is not known", name()))
}

fn follow(row: &OrcRow, registers: &Registers, walker: &Walker<'_, '_>) -> Result<Caller, String> {
    let read = |at: Addr, what: &str| walker.read_pointer(at).map_err(|e| format!("{what} at {at}: {}", e.why));
    let offset = i64::from(row.sp_offset).cast_unsigned();
    let sp = match row.sp {
        Base::Rsp => named(registers, 7)?.wrapping_add(offset),
        Base::Rbp => named(registers, 6)?.wrapping_add(offset),
        Base::R10 => named(registers, 10)?.wrapping_add(offset),
        Base::R13 => named(registers, 13)?.wrapping_add(offset),
        Base::Rdi => named(registers, 5)?.wrapping_add(offset),
        Base::Rdx => named(registers, 1)?.wrapping_add(offset),
        Base::RbpIndirect => Addr(read(named(registers, 6)?.wrapping_add(offset), "the saved stack pointer")?),
        Base::RspIndirect => Addr(read(named(registers, 7)?, "the saved stack pointer")?).wrapping_add(offset),
        Base::Undefined | Base::PreviousSp | Base::Unknown(_) => {
            return Err(format!("its ORC rule counts from {:?}, which is no register", row.sp));
        }
    };
    match row.kind {
        OrcKind::Registers => saved(sp, 0, registers, walker),
        OrcKind::InterruptFrame => {
            let skip = evidence::ToU64::to_u64(SOFTWARE).saturating_mul(8);
            saved(sp.wrapping_sub(skip), SOFTWARE, registers, walker)
        }
        _ => {
            let pc = Addr(read(sp.wrapping_sub(8), "the return address")?);
            let mut outer = walker.thread_state(registers);
            outer.set(Registers::pc_register(Arch::X86_64), pc.0);
            outer.set(Registers::sp_register(Arch::X86_64), sp.0);
            let at = i64::from(row.fp_offset).cast_unsigned();
            let fp = match row.fp {
                Base::PreviousSp => Some(read(sp.wrapping_add(at), "the saved frame pointer")?),
                Base::Rbp => Some(read(named(registers, 6)?.wrapping_add(at), "the saved frame pointer")?),
                _ => registers.fp().map(|fp| fp.0),
            };
            if let Some(fp) = fp {
                outer.set(Registers::fp_register(Arch::X86_64), fp);
            }
            Ok(Caller { registers: outer, cfa: sp, pc, interrupted: false })
        }
    }
}

/// The registers saved in a `struct pt_regs` at `at`, from the n-th on. Those before were not saved yet: calls keep
/// some of them, and nothing was called.
pub(crate) fn saved(at: Addr, from: usize, registers: &Registers, walker: &Walker<'_, '_>) -> Result<Caller, String> {
    let mut outer = walker.thread_state(registers);
    if from > 0 {
        for (register, value) in registers.iter().filter(|(r, _)| abi::is_preserved(Arch::X86_64, *r)) {
            outer.set(register, value);
        }
    }
    for (index, number) in SAVED.iter().enumerate().skip(from) {
        let Some(number) = number else { continue };
        let slot = at.wrapping_add(evidence::ToU64::to_u64(index).saturating_mul(8));
        let value = walker.read_pointer(slot).map_err(|e| format!("the registers saved at {at}: {}", e.why))?;
        // Segment registers are pushed as words of eight bytes whose upper part means nothing.
        outer.set(Register(*number), if matches!(number, 51 | 52) { value & 0xffff } else { value });
    }
    let pc = outer.pc().ok_or("no program counter was saved")?;
    Ok(Caller { registers: outer, cfa: at, pc, interrupted: true })
}
