//! General registers as the kernel lays them out: `user_regs_struct` of each architecture.

use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{Arch, Register, Registers, Vectors};
use std::sync::Arc;

/// Bytes of x86-64's `user_regs_struct` (`arch/x86/include/asm/user_64.h`).
pub const X86_64_SIZE: usize = 27 * 8;
/// Bytes of i386's `user_regs_struct` (`arch/x86/include/asm/user_32.h`).
pub const X86_SIZE: usize = 17 * 4;
/// Bytes of AArch64's `user_pt_regs` (`arch/arm64/include/uapi/asm/ptrace.h`).
pub const AARCH64_SIZE: usize = 34 * 8;
/// Bytes of 32-bit ARM's `struct pt_regs` (`arch/arm/include/uapi/asm/ptrace.h`).
pub const ARM_SIZE: usize = 18 * 4;

/// A general register set and the system call it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct General {
    /// The registers by DWARF number.
    pub registers: Registers,
    /// The number with which the thread entered the kernel (`orig_rax`), where it entered by a system call at all.
    /// AArch64 keeps it elsewhere ([`super::NT_ARM_SYSTEM_CALL`]).
    pub entered_by: Option<u64>,
    /// The register that holds a system call's result, as a signed number.
    pub result: Option<i64>,
}

/// DWARF numbers in the order of x86-64's `user_regs_struct`; `None` for `orig_rax`.
const X86_64_ORDER: [Option<u16>; 27] = [
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
    Some(58),
    Some(59),
    Some(53),
    Some(50),
    Some(54),
    Some(55),
];

/// DWARF numbers in the order of i386's `user_regs_struct`; `None` for `orig_eax`.
const X86_ORDER: [Option<u16>; 17] = [
    Some(3),
    Some(1),
    Some(2),
    Some(6),
    Some(7),
    Some(5),
    Some(0),
    Some(43),
    Some(40),
    Some(44),
    Some(45),
    None,
    Some(8),
    Some(41),
    Some(9),
    Some(4),
    Some(42),
];

/// Decodes a general register set. The architecture follows from the number of bytes, as `ptrace` and cores of a
/// machine that runs both 64-bit and 32-bit programs tell them apart in no other way.
///
/// `machine` is the 64-bit architecture of the machine (x86-64 or AArch64). `None` for a size that is neither's.
#[must_use]
pub fn general(machine: Arch, bytes: &[u8]) -> Option<General> {
    match (machine, bytes.len()) {
        (Arch::X86_64 | Arch::X86, X86_64_SIZE) => x86_64(bytes),
        (Arch::X86_64 | Arch::X86, X86_SIZE) => x86(bytes),
        (Arch::Aarch64 | Arch::Arm, AARCH64_SIZE) => aarch64(bytes),
        (Arch::Aarch64 | Arch::Arm, ARM_SIZE) => arm(bytes),
        _ => None,
    }
}

fn x86_64(bytes: &[u8]) -> Option<General> {
    let mut registers = Registers::new(Arch::X86_64);
    for (slot, raw) in X86_64_ORDER.iter().zip(bytes.chunks_exact(8)) {
        if let Some(number) = slot {
            registers.set(Register(*number), u64_at(raw, 0, Endian::Little)?);
        }
    }
    let entered_by = u64_at(bytes, 15 * 8, Endian::Little).filter(|n| n.cast_signed() >= 0);
    let result = registers.get(Register(0)).map(u64::cast_signed);
    Some(General { registers, entered_by, result })
}

fn x86(bytes: &[u8]) -> Option<General> {
    let mut registers = Registers::new(Arch::X86);
    for (slot, raw) in X86_ORDER.iter().zip(bytes.chunks_exact(4)) {
        if let Some(number) = slot {
            registers.set(Register(*number), u64::from(u32_at(raw, 0, Endian::Little)?));
        }
    }
    let entered_by = u32_at(bytes, 11 * 4, Endian::Little).filter(|n| n.cast_signed() >= 0).map(u64::from);
    let result = u32_at(bytes, 6 * 4, Endian::Little).map(|n| i64::from(n.cast_signed()));
    Some(General { registers, entered_by, result })
}

fn aarch64(bytes: &[u8]) -> Option<General> {
    let mut registers = Registers::new(Arch::Aarch64);
    for (number, raw) in (0_u16..34).zip(bytes.chunks_exact(8)) {
        registers.set(Register(number), u64_at(raw, 0, Endian::Little)?);
    }
    let result = registers.get(Register(0)).map(u64::cast_signed);
    Some(General { registers, entered_by: None, result })
}

fn arm(bytes: &[u8]) -> Option<General> {
    let mut registers = Registers::new(Arch::Arm);
    for (number, raw) in (0_u16..17).zip(bytes.chunks_exact(4)) {
        registers.set(Register(number), u64::from(u32_at(raw, 0, Endian::Little)?));
    }
    let result = u32_at(bytes, 0, Endian::Little).map(|n| i64::from(n.cast_signed()));
    Some(General { registers, entered_by: None, result })
}

/// The vector registers v0-v31 of AArch64's `user_fpsimd_state` (`NT_PRFPREG`).
#[must_use]
pub fn aarch64_vectors(bytes: &[u8]) -> Option<Arc<Vectors>> {
    let block = bytes.get(..32 * 16)?;
    Some(Arc::new(Vectors { first: 64, width: 16, bytes: Box::from(block) }))
}

/// FPSR and FPCR of AArch64, behind the vector registers in `struct user_fpsimd_state`.
pub fn aarch64_status(registers: &mut Registers, bytes: &[u8]) {
    for (number, at) in [(Registers::FPSR, 512_usize), (Registers::FPCR, 516)] {
        if let Some(value) = u32_at(bytes, at, Endian::Little) {
            registers.set(number, value.into());
        }
    }
}

/// Whether a system call's result says that the kernel was interrupted in it and will go on or report `EINTR`: the
/// call was in progress, not finished. Numbers: `include/linux/errno.h` (512, 513, 514, 516) and `EINTR`.
#[must_use]
pub const fn in_progress(result: i64) -> bool {
    matches!(result, -512 | -513 | -514 | -516 | -4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn x86_64_slots_land_on_their_numbers() {
        let bytes: Vec<u8> = (0..27_u64).flat_map(|n| (0x100 + n).to_le_bytes()).collect();
        let general = general(Arch::X86_64, &bytes).unwrap();
        let get = |name| general.registers.get(evidence::register_number(Arch::X86_64, name).unwrap());
        let order = [
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "",
            "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
        ];
        for (n, name) in (0x100..).zip(order).filter(|(_, name)| !name.is_empty()) {
            assert_eq!(get(name), Some(n), "{name}");
        }
        assert_eq!(general.entered_by, Some(0x10f));
    }

    #[test]
    fn i386_slots_land_on_their_numbers() {
        let bytes: Vec<u8> = (0..17_u32).flat_map(|n| (0x100 + n).to_le_bytes()).collect();
        let general = general(Arch::X86_64, &bytes).unwrap();
        let get = |name| general.registers.get(evidence::register_number(Arch::X86, name).unwrap());
        let order = [
            "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "", "eip", "cs", "eflags", "esp",
            "ss",
        ];
        for (n, name) in (0x100..).zip(order).filter(|(_, name)| !name.is_empty()) {
            assert_eq!(get(name), Some(n), "{name}");
        }
        assert_eq!(general.registers.arch, Arch::X86);
    }

    #[test]
    fn no_system_call_is_minus_one() {
        let mut bytes = vec![0; X86_64_SIZE];
        bytes[15 * 8..16 * 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(general(Arch::X86_64, &bytes).unwrap().entered_by, None);
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for arch in [Arch::X86_64, Arch::Aarch64, Arch::Other] {
                let _ = general(arch, &bytes);
            }
            let _ = aarch64_vectors(&bytes);
        }
    }
}
