//! Register files by DWARF number, with a bitmap of what is known.

use crate::{Addr, Arch, ToUsize, X87};
use std::fmt;
use std::sync::Arc;

/// A register by its DWARF number in the psABI of its architecture.
///
/// Sources: System V ABI AMD64 figure 3.36; i386 psABI table 2.14; "DWARF for the Arm 64-bit Architecture".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Register(pub u16);

/// General, segment and base registers of one context; bit n of `known` says that `value[n]` was recorded.
///
/// Numbers are the DWARF ones below 64. x86-64: 0-15 general, 16 rip, 49 rflags, 50-55 segments, 58 fs base, 59 gs base.
/// AArch64: 0-30 x0-x30, 31 sp, 32 pc, 33 pstate (ours), 36 tpidr_el0. x86: 0-7 general, 8 eip, 9 eflags, 40-45
/// segments, 58 the base of gs (ours: the TLS pointer). Both x86 and x86-64: 60 the shadow stack pointer (ours).
/// AArch64: 61 and 62 FPSR and FPCR (ours; they have no names among the rows of snapshots).
#[derive(Clone, PartialEq, Eq)]
pub struct Registers {
    /// Whose registers these are.
    pub arch: Arch,
    /// The values of the known registers, by number: frames are many, and most know a few registers only.
    values: Vec<u64>,
    known: u64,
    /// Vector registers, when recorded.
    pub vectors: Option<Arc<Vectors>>,
    /// The x87 unit and MXCSR (x86), when recorded.
    pub x87: Option<Arc<X87>>,
}

/// Vector registers, lowest-numbered first, each `width` bytes, little-endian, in one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vectors {
    /// The DWARF number of the first one (17 for xmm0, 21 for i386's xmm0, 64 for v0).
    pub first: u16,
    /// Bytes per register: 16 (SSE, NEON), 32 (AVX), 64 (AVX-512).
    pub width: usize,
    /// `count * width` bytes.
    pub bytes: Box<[u8]>,
}

impl Registers {
    /// AArch64's floating point status, by our number.
    pub const FPSR: Register = Register(61);
    /// AArch64's floating point control, by our number.
    pub const FPCR: Register = Register(62);

    /// A context of which nothing is known.
    #[must_use]
    pub const fn new(arch: Arch) -> Self {
        Self { arch, values: Vec::new(), known: 0, vectors: None, x87: None }
    }

    /// The bit of a register, and where its value is among the known ones (or would be).
    fn slot(&self, register: Register) -> Option<(u64, usize)> {
        let bit = 1_u64.checked_shl(u32::from(register.0))?;
        let below = self.known & bit.wrapping_sub(1);
        Some((bit, below.count_ones().to_usize()))
    }

    /// The value of a register, if known.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u64> {
        let (bit, at) = self.slot(register)?;
        if self.known & bit == 0 { None } else { self.values.get(at).copied() }
    }

    /// Records a value. Numbers of 64 and above are not general registers and are ignored.
    pub fn set(&mut self, register: Register, value: u64) {
        let Some((bit, at)) = self.slot(register) else { return };
        if self.known & bit == 0 {
            self.values.insert(at.min(self.values.len()), value);
            self.known |= bit;
        } else if let Some(slot) = self.values.get_mut(at) {
            *slot = value;
        }
    }

    /// Forgets a value.
    pub fn forget(&mut self, register: Register) {
        let Some((bit, at)) = self.slot(register) else { return };
        if self.known & bit != 0 && at < self.values.len() {
            self.values.remove(at);
            self.known &= !bit;
        }
    }

    /// Bit n set: register n is known.
    #[must_use]
    pub const fn known(&self) -> u64 {
        self.known
    }

    /// All known registers in DWARF order.
    pub fn iter(&self) -> impl Iterator<Item = (Register, u64)> + '_ {
        let mut left = self.known;
        self.values.iter().map_while(move |value| {
            let number = u16::try_from(left.trailing_zeros()).ok().filter(|n| *n < 64)?;
            left &= left.wrapping_sub(1);
            Some((Register(number), *value))
        })
    }

    /// The bytes of a vector register (DWARF number), if recorded.
    #[must_use]
    pub fn vector(&self, register: Register) -> Option<&[u8]> {
        let vectors = self.vectors.as_deref()?;
        let index = usize::from(register.0.checked_sub(vectors.first)?);
        let start = index.checked_mul(vectors.width)?;
        vectors.bytes.get(start..start.checked_add(vectors.width)?)
    }

    /// The program counter's number on this architecture.
    #[must_use]
    pub const fn pc_register(arch: Arch) -> Register {
        Register(match arch {
            Arch::X86_64 | Arch::Other => 16,
            Arch::X86 => 8,
            Arch::Aarch64 => 32,
            Arch::Arm => 15,
        })
    }

    /// The stack pointer's number on this architecture.
    #[must_use]
    pub const fn sp_register(arch: Arch) -> Register {
        Register(match arch {
            Arch::X86_64 | Arch::Other => 7,
            Arch::X86 => 4,
            Arch::Aarch64 => 31,
            Arch::Arm => 13,
        })
    }

    /// The frame pointer's number on this architecture.
    #[must_use]
    pub const fn fp_register(arch: Arch) -> Register {
        Register(match arch {
            Arch::X86_64 | Arch::Other => 6,
            Arch::X86 => 5,
            Arch::Aarch64 => 29,
            Arch::Arm => 11,
        })
    }

    /// The program counter.
    #[must_use]
    pub fn pc(&self) -> Option<Addr> {
        self.get(Self::pc_register(self.arch)).map(Addr)
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> Option<Addr> {
        self.get(Self::sp_register(self.arch)).map(Addr)
    }

    /// The frame pointer.
    #[must_use]
    pub fn fp(&self) -> Option<Addr> {
        self.get(Self::fp_register(self.arch)).map(Addr)
    }

    /// The thread pointer that thread-local storage is addressed from (fs base, gs base on i386, tpidr_el0).
    #[must_use]
    pub fn thread_pointer(&self) -> Option<Addr> {
        let number = match self.arch {
            Arch::X86_64 | Arch::X86 | Arch::Other => 58,
            Arch::Aarch64 => 36,
            Arch::Arm => return None,
        };
        self.get(Register(number)).map(Addr)
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (register, value) in self.iter() {
            map.entry(&register_name(self.arch, register).unwrap_or("?"), &format_args!("{value:#x}"));
        }
        map.finish()
    }
}

const X86_64_NAMES: [(u16, &str); 27] = [
    (0, "rax"),
    (1, "rdx"),
    (2, "rcx"),
    (3, "rbx"),
    (4, "rsi"),
    (5, "rdi"),
    (6, "rbp"),
    (7, "rsp"),
    (8, "r8"),
    (9, "r9"),
    (10, "r10"),
    (11, "r11"),
    (12, "r12"),
    (13, "r13"),
    (14, "r14"),
    (15, "r15"),
    (16, "rip"),
    (49, "rflags"),
    (50, "es"),
    (51, "cs"),
    (52, "ss"),
    (53, "ds"),
    (54, "fs"),
    (55, "gs"),
    (58, "fs_base"),
    (59, "gs_base"),
    (60, "ssp"),
];
const X86_NAMES: [(u16, &str); 18] = [
    (0, "eax"),
    (1, "ecx"),
    (2, "edx"),
    (3, "ebx"),
    (4, "esp"),
    (5, "ebp"),
    (6, "esi"),
    (7, "edi"),
    (8, "eip"),
    (9, "eflags"),
    (40, "es"),
    (41, "cs"),
    (42, "ss"),
    (43, "ds"),
    (44, "fs"),
    (45, "gs"),
    (58, "gs_base"),
    (60, "ssp"),
];
const AARCH64_NAMES: [(u16, &str); 35] = [
    (0, "x0"),
    (1, "x1"),
    (2, "x2"),
    (3, "x3"),
    (4, "x4"),
    (5, "x5"),
    (6, "x6"),
    (7, "x7"),
    (8, "x8"),
    (9, "x9"),
    (10, "x10"),
    (11, "x11"),
    (12, "x12"),
    (13, "x13"),
    (14, "x14"),
    (15, "x15"),
    (16, "x16"),
    (17, "x17"),
    (18, "x18"),
    (19, "x19"),
    (20, "x20"),
    (21, "x21"),
    (22, "x22"),
    (23, "x23"),
    (24, "x24"),
    (25, "x25"),
    (26, "x26"),
    (27, "x27"),
    (28, "x28"),
    (29, "x29"),
    (30, "x30"),
    (31, "sp"),
    (32, "pc"),
    (33, "pstate"),
    (36, "tpidr_el0"),
];
const ARM_NAMES: [(u16, &str); 17] = [
    (0, "r0"),
    (1, "r1"),
    (2, "r2"),
    (3, "r3"),
    (4, "r4"),
    (5, "r5"),
    (6, "r6"),
    (7, "r7"),
    (8, "r8"),
    (9, "r9"),
    (10, "r10"),
    (11, "r11"),
    (12, "r12"),
    (13, "sp"),
    (14, "lr"),
    (15, "pc"),
    (16, "cpsr"),
];

fn names(arch: Arch) -> &'static [(u16, &'static str)] {
    match arch {
        Arch::X86_64 => &X86_64_NAMES,
        Arch::X86 => &X86_NAMES,
        Arch::Aarch64 => &AARCH64_NAMES,
        Arch::Arm => &ARM_NAMES,
        Arch::Other => &[],
    }
}

/// The field's own name of a register, as used in JSON.
#[must_use]
pub fn register_name(arch: Arch, register: Register) -> Option<&'static str> {
    names(arch).iter().find(|(n, _)| *n == register.0).map(|(_, name)| *name)
}

/// The DWARF number of a register by its name.
#[must_use]
pub fn register_number(arch: Arch, name: &str) -> Option<Register> {
    names(arch).iter().find(|(_, n)| *n == name).map(|(n, _)| Register(*n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_known() {
        let mut r = Registers::new(Arch::X86_64);
        assert_eq!(r.pc(), None);
        r.set(Register(16), 0x1000);
        r.set(Register(64), 7);
        assert_eq!(r.pc(), Some(Addr(0x1000)));
        assert_eq!(r.get(Register(64)), None);
        assert_eq!(r.iter().count(), 1);
        r.forget(Register(16));
        assert_eq!(r.known(), 0);
    }

    #[test]
    fn values_stay_with_their_numbers_in_any_order() {
        let mut r = Registers::new(Arch::Aarch64);
        for n in [5_u16, 63, 0, 31, 5, 12] {
            r.set(Register(n), u64::from(n) + 100);
        }
        let all: Vec<(u16, u64)> = r.iter().map(|(n, v)| (n.0, v)).collect();
        assert_eq!(all, [(0, 100), (5, 105), (12, 112), (31, 131), (63, 163)]);
        r.forget(Register(12));
        r.forget(Register(13));
        r.set(Register(31), 1);
        assert_eq!((r.get(Register(12)), r.get(Register(31)), r.get(Register(63))), (None, Some(1), Some(163)));
    }

    #[test]
    fn names_and_numbers_are_inverse() {
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
            for (n, name) in names(arch) {
                assert_eq!(register_number(arch, name), Some(Register(*n)));
            }
        }
    }
}
