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

/// The most bits that virtual addresses of AArch64 have here: 52 only for programs that ask by `mmap` hints.
const ADDRESS_BITS: u32 = 48;
/// The fewest: Android's kernels give programs 39 bits, Apple's 47.
const LEAST_ADDRESS_BITS: u32 = 39;

/// Which bits of a user program's pointers are address, when `highest` is the highest address that is known to be in
/// use. The bits above hold the pointer authentication code; how many there are depends on the kernel, and only Crashpad
/// writes it down.
pub(crate) const fn address_mask(arch: Arch, highest: u64) -> u64 {
    let used = u64::BITS.saturating_sub(highest.leading_zeros());
    let bits = match arch {
        Arch::Aarch64 if used <= LEAST_ADDRESS_BITS => LEAST_ADDRESS_BITS,
        Arch::Aarch64 if used < ADDRESS_BITS => used,
        Arch::Aarch64 => ADDRESS_BITS,
        _ => return u64::MAX,
    };
    1_u64.wrapping_shl(bits).wrapping_sub(1)
}

/// The address without its pointer authentication code; bit 55 tells user from kernel, whose addresses have 48 bits.
pub(crate) const fn strip_signature(arch: Arch, at: Addr, mask: u64) -> Addr {
    match arch {
        Arch::Aarch64 if at.0 & (1 << 55) == 0 => Addr(at.0 & mask),
        Arch::Aarch64 => Addr(at.0 | 0xffff_0000_0000_0000),
        _ => at,
    }
}

/// The address that a saved return address stands for: without authentication code, and without ARM's bit 0, which says
/// that the caller is Thumb code.
pub(crate) const fn return_address(arch: Arch, at: Addr, mask: u64) -> Addr {
    match arch {
        Arch::Arm => Addr(at.0 & !1),
        _ => strip_signature(arch, at, mask),
    }
}

/// Cuts a computed address to the width of the architecture's pointers.
pub(crate) const fn wrap(arch: Arch, value: u64) -> u64 {
    if arch.pointer_size() == 4 { value & 0xffff_ffff } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux with 48 bits, macOS with 47, Android with 39; the signature fills the bits above but 55 and the top byte.
    #[test]
    fn signatures_begin_where_addresses_end() {
        for (address, highest) in [
            (0x0000_aaaa_0000_1234_u64, 0x0000_ffff_8000_0000),
            (0x0000_0001_8000_1234, 0x0000_7fff_0000_0000),
            (0x0000_0071_2345_6784, 0x0000_007f_f000_0000),
            (0x0000_0000_0040_1234, 0x0000_0000_0050_0000),
        ] {
            let mask = address_mask(Arch::Aarch64, highest);
            let signed = address | (0x00d5_5555_5555_5555 & !mask & !(1 << 55));
            assert_eq!(strip_signature(Arch::Aarch64, Addr(signed), mask), Addr(address), "{highest:#x}");
            assert_eq!(strip_signature(Arch::Aarch64, Addr(address), mask), Addr(address));
        }
        assert_eq!(address_mask(Arch::X86_64, 1), u64::MAX);
        let kernel = Addr(0xffa5_8000_0801_0000);
        assert_eq!(strip_signature(Arch::Aarch64, kernel, 0), Addr(0xffff_8000_0801_0000));
    }
}
