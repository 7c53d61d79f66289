//! Registers of threads: where they were saved, and in which order.
//!
//! Source: `sys/*/include/pcb.h`; "ABI preserved for debuggers" of amd64's, and i386's, are the general registers from
//! its start on. arm64's changed in 14.0-CURRENT (`pcb_x` from 30 registers to those that a call preserves): types say
//! which one it is, else `osreldate` does, else what fits.

use super::context::FreeBsd;
use debuginfo::layout::Shape;
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, Arch, Register, Registers};

/// amd64: r15, r14, r13, r12, rbp, rsp, rbx, rip, by DWARF number, with the members' names.
const AMD64: [(u16, &str); 8] = [
    (15, "pcb_r15"),
    (14, "pcb_r14"),
    (13, "pcb_r13"),
    (12, "pcb_r12"),
    (6, "pcb_rbp"),
    (7, "pcb_rsp"),
    (3, "pcb_rbx"),
    (16, "pcb_rip"),
];
/// i386: edi, esi, ebp, esp, ebx, eip.
const I386: [(u16, &str); 6] =
    [(7, "pcb_edi"), (6, "pcb_esi"), (5, "pcb_ebp"), (4, "pcb_esp"), (3, "pcb_ebx"), (8, "pcb_eip")];
/// `__FreeBSD_version` from which arm64's pcb holds 12 registers.
const ARM64_SHORT: u32 = 1_400_084;

/// arm64: bytes from the start of `pcb_x` and registers.
enum Arm {
    /// x0 to x29, the link register, a reserved word, the stack pointer.
    Long,
    /// x19 to x29, the link register, the stack pointer.
    Short,
}

/// The registers saved in the pcb at `at`.
pub(super) fn registers(kernel: &FreeBsd<'_>, at: Addr) -> Option<Registers> {
    match kernel.arch {
        Arch::X86_64 => plain(kernel, at, &AMD64, 8),
        Arch::X86 => plain(kernel, at, &I386, 4),
        Arch::Aarch64 => arm(kernel, at),
        _ => None,
    }
}

fn plain(kernel: &FreeBsd<'_>, at: Addr, places: &[(u16, &str)], word: u64) -> Option<Registers> {
    let mut registers = Registers::new(kernel.arch);
    let mut next = 0_u64;
    for (number, name) in places {
        let offset = kernel.offset("pcb", name).unwrap_or(next);
        next = next.saturating_add(word);
        let value = kernel.fields.pointer_at(at.wrapping_add(offset)).ok()?.0;
        registers.set(Register(*number), value);
    }
    Some(registers)
}

fn arm(kernel: &FreeBsd<'_>, at: Addr) -> Option<Registers> {
    let array = kernel.fields.layouts.member("pcb", "pcb_x");
    let start = array.as_ref().map_or(0, |m| m.offset);
    let mut raw = [0; 33 * 8];
    let whole = kernel.memory().read_exact(at.wrapping_add(start), &mut raw);
    if whole.is_err() {
        kernel.memory().read_exact(at.wrapping_add(start), raw.get_mut(..13 * 8)?).ok()?;
    }
    let word = |n: usize| u64_at(&raw, n.checked_mul(8)?, Endian::Little);
    let fits = |fp: usize, lr: usize, sp: usize| {
        let kernel = |n: usize| word(n).is_some_and(|v| v >> 63 == 1);
        kernel(lr) && kernel(sp) && kernel(fp) && word(sp).is_some_and(|v| v & 15 == 0)
    };
    let by_types = array.and_then(|m| match m.shape {
        Shape::Array { count: 12, .. } => Some(Arm::Short),
        Shape::Array { count: 30.., .. } => Some(Arm::Long),
        _ => None,
    });
    let by_version = || kernel.version().map(|v| if v >= ARM64_SHORT { Arm::Short } else { Arm::Long });
    let by_look = || match (fits(29, 30, 32), fits(10, 11, 12)) {
        (true, false) => Some(Arm::Long),
        (false, true) => Some(Arm::Short),
        _ => None,
    };
    let (first, count, lr, sp) = match by_types.or_else(by_version).or_else(by_look)? {
        Arm::Long => (0_u16, 30_usize, 30_usize, 32_usize),
        Arm::Short => (19, 11, 11, 12),
    };
    let mut registers = Registers::new(Arch::Aarch64);
    for n in 0..count {
        let number = first.checked_add(u16::try_from(n).ok()?)?;
        registers.set(Register(number), word(n)?);
    }
    registers.set(Register(30), word(lr)?);
    registers.set(Registers::sp_register(Arch::Aarch64), word(sp)?);
    // The switch returns to the link register.
    registers.set(Registers::pc_register(Arch::Aarch64), word(lr)?);
    Some(registers)
}

/// Where CPU `cpu` left its registers when it was stopped. The table is an array, or (where the number of CPUs is found
/// out at boot) a pointer to one: the symbol's size tells.
pub(super) fn stopped(kernel: &FreeBsd<'_>, cpu: u32) -> Option<Addr> {
    let (table, size) = kernel.sized_symbol("stoppcbs")?;
    let stride = kernel.fields.layouts.size_of("pcb")?;
    let pointer = size == u64::from(kernel.fields.pointer);
    let table = if pointer { kernel.pointer_at(table)? } else { table };
    let offset = stride.checked_mul(u64::from(cpu))?;
    if !pointer && size != 0 && offset.checked_add(stride)? > size {
        return None;
    }
    Some(table.wrapping_add(offset))
}
