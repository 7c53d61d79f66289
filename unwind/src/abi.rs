//! What calls preserve, and what return addresses look like, by architecture.

use evidence::{Addr, Arch, Register};

/// Whether a call leaves the register as it was, when no rule says otherwise: the ABI's callee-saved registers, and the
/// thread pointers and segments that user code does not change.
///
/// Sources: System V ABI AMD64 figure 3.4; i386 psABI 2.2.1; AAPCS64 6.1.1.
pub(crate) const fn is_preserved(arch: Arch, register: Register) -> bool {
    match arch {
        Arch::X86_64 | Arch::Other => matches!(register.0, 3 | 6 | 12..=15 | 50..=55 | 58 | 59),
        Arch::X86 => matches!(register.0, 3 | 5 | 6 | 7 | 40..=45 | 58),
        Arch::Aarch64 => matches!(register.0, 19..=29 | 36),
        Arch::Arm => matches!(register.0, 4..=11),
    }
}

/// Registers that say which thread this is; no frame changes them.
pub(crate) const fn is_thread_state(arch: Arch, register: Register) -> bool {
    match arch {
        Arch::X86_64 | Arch::Other => matches!(register.0, 50..=55 | 58 | 59),
        Arch::X86 => matches!(register.0, 40..=45 | 58),
        Arch::Aarch64 => matches!(register.0, 36),
        Arch::Arm => false,
    }
}

/// The register that holds the return address at a function's entry, where a call does not push it.
pub(crate) const fn link_register(arch: Arch) -> Option<Register> {
    match arch {
        Arch::Aarch64 => Some(Register(30)),
        Arch::Arm => Some(Register(14)),
        Arch::X86_64 | Arch::X86 | Arch::Other => None,
    }
}

/// Column of gimli's `RA_SIGN_STATE` pseudo register ("DWARF for the Arm 64-bit Architecture", 4.1): the return
/// address is signed while it is 1.
pub(crate) const RA_SIGN_STATE: Register = Register(34);

/// Virtual addresses of AArch64 user programs have 48 bits (52 only for those that ask by `mmap` hints); the bits
/// above hold the pointer authentication code, bit 55 tells user from kernel.
const AARCH64_ADDRESS_BITS: u64 = (1 << 48) - 1;

/// The address without its pointer authentication code.
pub(crate) const fn strip_signature(arch: Arch, at: Addr) -> Addr {
    match arch {
        Arch::Aarch64 if at.0 & (1 << 55) == 0 => Addr(at.0 & AARCH64_ADDRESS_BITS),
        Arch::Aarch64 => Addr(at.0 | !AARCH64_ADDRESS_BITS),
        _ => at,
    }
}

/// The address that a saved return address stands for: without authentication code, and without ARM's bit 0, which says
/// that the caller is Thumb code.
pub(crate) const fn return_address(arch: Arch, at: Addr) -> Addr {
    match arch {
        Arch::Arm => Addr(at.0 & !1),
        _ => strip_signature(arch, at),
    }
}

/// Cuts a computed address to the width of the architecture's pointers.
pub(crate) const fn wrap(arch: Arch, value: u64) -> u64 {
    if arch.pointer_size() == 4 { value & 0xffff_ffff } else { value }
}
