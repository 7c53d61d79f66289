//! Register contexts: Windows' CONTEXT of x86 and x86-64, Windows' and Breakpad's of ARM and ARM64, Breakpad's of MIPS.
//!
//! Layouts: winnt.h (`CONTEXT`, `ARM_NT_CONTEXT`, `ARM64_NT_CONTEXT`) and Breakpad's minidump_cpu_*.h. A context that is
//! shorter than its layout gives the registers that are in it: lldb up to 19 writes 720 of the 1232 bytes of x86-64,
//! which hold all but the upper vector registers.

use evidence::bytes::{Endian, u16_at, u32_at, u64_at};
use evidence::{Arch, Register, Registers, Vectors, X87};
use std::sync::Arc;

/// Processor numbers of `MINIDUMP_SYSTEM_INFO` (winnt.h `PROCESSOR_ARCHITECTURE_*`; from 0x8000 on Breakpad's own).
pub(super) const PROCESSOR_X86: u16 = 0;
pub(super) const PROCESSOR_ARM: u16 = 5;
pub(super) const PROCESSOR_AMD64: u16 = 9;
pub(super) const PROCESSOR_X86_ON_AMD64: u16 = 10;
pub(super) const PROCESSOR_ARM64: u16 = 12;
pub(super) const PROCESSOR_ARM64_OLD: u16 = 0x8003;
pub(super) const PROCESSOR_MIPS: u16 = 1;
pub(super) const PROCESSOR_MIPS64: u16 = 0x8004;

/// The bits of `ContextFlags` that name a processor.
const FLAG_X86: u32 = 0x0001_0000;
const FLAG_AMD64: u32 = 0x0010_0000;
const FLAG_ARM_NT: u32 = 0x0020_0000;
const FLAG_ARM64_NT: u32 = 0x0040_0000;
const FLAG_ARM: u32 = 0x4000_0000;
const FLAG_ARM64_OLD: u32 = 0x8000_0000;

/// What a context's layout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    X86,
    Amd64,
    Arm,
    Arm64,
    Arm64Old,
    Mips,
    Unknown,
}

/// The architecture that a processor number stands for.
pub(super) const fn arch(processor: u16) -> Arch {
    match processor {
        PROCESSOR_X86 | PROCESSOR_X86_ON_AMD64 => Arch::X86,
        PROCESSOR_AMD64 => Arch::X86_64,
        PROCESSOR_ARM => Arch::Arm,
        PROCESSOR_ARM64 | PROCESSOR_ARM64_OLD => Arch::Aarch64,
        _ => Arch::Other,
    }
}

/// The processor's name.
pub(super) const fn processor_name(processor: u16) -> &'static str {
    match processor {
        PROCESSOR_X86 => "x86",
        PROCESSOR_X86_ON_AMD64 => "x86 on x86-64",
        PROCESSOR_AMD64 => "x86-64",
        PROCESSOR_ARM => "ARM",
        PROCESSOR_ARM64 | PROCESSOR_ARM64_OLD => "ARM64",
        PROCESSOR_MIPS => "MIPS",
        PROCESSOR_MIPS64 => "MIPS64",
        3 => "PowerPC",
        6 => "Itanium",
        0x8001 => "SPARC",
        0x8002 => "PowerPC 64",
        0x8005 => "RISC-V",
        0x8006 => "RISC-V 64",
        _ => "unknown",
    }
}

/// The layout of a context: by the processor of the machine, and where several are possible, by size and flags.
pub(super) fn layout(processor: Option<u16>, bytes: &[u8], endian: Endian) -> Layout {
    // The flags lie first everywhere but on x86-64, where six words for spilled arguments come before them.
    let first = u32_at(bytes, 0, endian).unwrap_or(0);
    let amd64 = u32_at(bytes, 0x30, endian).unwrap_or(0);
    match processor {
        Some(PROCESSOR_X86 | PROCESSOR_X86_ON_AMD64) => Layout::X86,
        Some(PROCESSOR_AMD64) => Layout::Amd64,
        Some(PROCESSOR_ARM) => Layout::Arm,
        Some(PROCESSOR_ARM64 | PROCESSOR_ARM64_OLD) if first & FLAG_ARM64_OLD != 0 => Layout::Arm64Old,
        Some(PROCESSOR_ARM64_OLD) if first & FLAG_ARM64_NT == 0 => Layout::Arm64Old,
        Some(PROCESSOR_ARM64 | PROCESSOR_ARM64_OLD) => Layout::Arm64,
        Some(PROCESSOR_MIPS | PROCESSOR_MIPS64) => Layout::Mips,
        Some(_) => Layout::Unknown,
        // No system information: the flags must name one processor alone.
        None if amd64 & FLAG_AMD64 != 0 && amd64 >> 24 == 0 && bytes.len() >= 0x100 => Layout::Amd64,
        None if first & 0xffff_0000 == FLAG_X86 => Layout::X86,
        None if first & 0xffff_0000 == FLAG_ARM_NT || first & 0xffff_0000 == FLAG_ARM => Layout::Arm,
        None if first & 0xffff_0000 == FLAG_ARM64_NT => Layout::Arm64,
        None if first & 0xffff_0000 == FLAG_ARM64_OLD => Layout::Arm64Old,
        None => Layout::Unknown,
    }
}

impl Layout {
    /// The architecture it belongs to.
    pub(super) const fn arch(self) -> Arch {
        match self {
            Self::X86 => Arch::X86,
            Self::Amd64 => Arch::X86_64,
            Self::Arm => Arch::Arm,
            Self::Arm64 | Self::Arm64Old => Arch::Aarch64,
            Self::Mips | Self::Unknown => Arch::Other,
        }
    }

    /// How many bytes it takes up to its last general register.
    const fn general(self) -> usize {
        match self {
            Self::X86 => 204,
            Self::Amd64 => 0x100,
            Self::Arm => 72,
            Self::Arm64 => 272,
            Self::Arm64Old => 276,
            Self::Mips => 320,
            Self::Unknown => 0,
        }
    }
}

/// A decoded context.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) registers: Registers,
    /// DR0-DR3, DR6, DR7.
    pub(super) debug: Option<Vec<u64>>,
    /// It ends before all general registers.
    pub(super) short: bool,
}

/// (offset, DWARF number) of x86's general and segment registers.
const X86: [(usize, u16); 16] = [
    (140, 45),
    (144, 44),
    (148, 40),
    (152, 43),
    (156, 7),
    (160, 6),
    (164, 3),
    (168, 2),
    (172, 1),
    (176, 0),
    (180, 5),
    (184, 8),
    (188, 41),
    (192, 9),
    (196, 4),
    (200, 42),
];

/// DWARF numbers of x86-64's registers from offset 0x78 on: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15, rip.
const AMD64: [u16; 17] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// x86-64's segment registers from offset 0x38 on, 16 bits each: cs, ds, es, fs, gs, ss.
const AMD64_SEGMENTS: [u16; 6] = [51, 53, 50, 54, 55, 52];

/// Reads a context of a known layout; `None` when not even the flags are there, or nothing is known about it.
pub(super) fn read(layout: Layout, bytes: &[u8], endian: Endian) -> Option<Context> {
    let mut registers = Registers::new(layout.arch());
    let mut set = |number: u16, value: Option<u64>| {
        if let Some(value) = value {
            registers.set(Register(number), value);
        }
    };
    let word = |at| u32_at(bytes, at, endian).map(u64::from);
    let wide = |at| u64_at(bytes, at, endian);
    let half = |at| u16_at(bytes, at, endian).map(u64::from);
    let mut debug = None;
    let mut x87 = None;
    let mut vectors = None;
    match layout {
        Layout::X86 => {
            for (offset, number) in X86 {
                set(number, word(offset));
            }
            if word(0)? & 0x10 != 0 {
                debug = (0..6_usize).map(|n| word(n.saturating_mul(4).saturating_add(4))).collect();
            }
            set(60, (word(0)? & 0x40 != 0).then(|| super::xstate::shadow_stack(bytes, 716)).flatten());
            // XMM0-7, 160 bytes into the FXSAVE image behind the rest.
            if word(0)? & 0x20 != 0 {
                x87 = bytes.get(204..716).and_then(X87::from_fxsave);
                vectors = block(bytes, 204 + 160, 8, 21);
            }
        }
        Layout::Amd64 => {
            let at = |base: usize, n: usize, size: usize| base.saturating_add(n.saturating_mul(size));
            for (n, number) in AMD64.into_iter().enumerate() {
                set(number, wide(at(0x78, n, 8)));
            }
            for (n, number) in AMD64_SEGMENTS.into_iter().enumerate() {
                set(number, half(at(0x38, n, 2)));
            }
            set(49, word(0x44));
            if word(0x30)? & 0x10 != 0 {
                debug = (0..6_usize).map(|n| wide(at(0x48, n, 8))).collect();
            }
            if word(0x30)? & 8 != 0 {
                x87 = bytes.get(0x100..0x300).and_then(X87::from_fxsave);
                vectors = block(bytes, 0x1a0, 16, 17);
            }
            set(60, (word(0x30)? & 0x40 != 0).then(|| super::xstate::shadow_stack(bytes, 1232)).flatten());
        }
        Layout::Arm => {
            for n in 0..17_u16 {
                set(n, word(usize::from(n).saturating_mul(4).saturating_add(4)));
            }
        }
        Layout::Arm64 => {
            for n in 0..33_u16 {
                set(n, wide(usize::from(n).saturating_mul(8).saturating_add(8)));
            }
            set(33, word(4));
            vectors = block(bytes, 272, 32, 64);
            set(Registers::FPCR.0, word(784));
            set(Registers::FPSR.0, word(788));
        }
        Layout::Arm64Old => {
            for n in 0..33_u16 {
                set(n, wide(usize::from(n).saturating_mul(8).saturating_add(8)));
            }
            set(33, word(272));
            set(Registers::FPSR.0, word(276));
            set(Registers::FPCR.0, word(280));
            vectors = block(bytes, 284, 32, 64);
        }
        Layout::Mips => {
            // Only where it stood and its stack: r29 and the exception program counter.
            set(7, wide(8 + 29 * 8));
            set(16, wide(312));
        }
        Layout::Unknown => return None,
    }
    registers.vectors = vectors;
    registers.x87 = x87.map(Arc::new);
    Some(Context { short: bytes.len() < layout.general(), registers, debug })
}

/// `count` vector registers of 16 bytes.
fn block(bytes: &[u8], at: usize, count: usize, first: u16) -> Option<Arc<Vectors>> {
    let block = bytes.get(at..at.checked_add(count.checked_mul(16)?)?)?;
    Some(Arc::new(Vectors { first, width: 16, bytes: block.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::register_number;

    fn numbered(words: usize) -> Vec<u8> {
        (0..words).flat_map(|n| u32::try_from(n * 4).unwrap().to_le_bytes()).collect()
    }

    #[track_caller]
    fn check(layout: Layout, bytes: &[u8], names: &[(&str, u64)]) {
        let context = read(layout, bytes, Endian::Little).unwrap();
        for (name, value) in names {
            let number = register_number(layout.arch(), name).unwrap();
            assert_eq!(context.registers.get(number), Some(*value), "{name}");
        }
    }

    /// Every word holds its own offset, so each register says where it was read from (offsets of winnt.h).
    #[test]
    fn registers_come_from_their_offsets() {
        let bytes = numbered(1232 / 4);
        check(
            Layout::X86,
            &bytes,
            &[("gs", 140), ("edi", 156), ("eax", 176), ("ebp", 180), ("eip", 184), ("esp", 196)],
        );
        let wide = |at: u64| at | (at + 4) << 32;
        let amd64 =
            [("rax", wide(0x78)), ("rbx", wide(0x90)), ("rsp", wide(0x98)), ("r15", wide(0xf0)), ("rip", wide(0xf8))];
        check(Layout::Amd64, &bytes, &amd64);
        check(Layout::Amd64, &bytes, &[("rflags", 0x44), ("cs", 0x38), ("gs", 0x40)]);
        check(Layout::Arm, &bytes, &[("r0", 4), ("sp", 56), ("lr", 60), ("pc", 64), ("cpsr", 68)]);
        check(Layout::Arm64, &bytes, &[("x0", wide(8)), ("sp", wide(256)), ("pc", wide(264)), ("pstate", 4)]);
        check(Layout::Arm64Old, &bytes, &[("x30", wide(248)), ("pc", wide(264)), ("pstate", 272)]);
    }

    #[test]
    fn a_cut_context_gives_what_is_in_it() {
        let bytes = numbered(1232 / 4);
        let lldb = read(Layout::Amd64, &bytes[..720], Endian::Little).unwrap();
        assert!(!lldb.short && lldb.registers.pc().is_some() && lldb.registers.known().count_ones() == 24);
        let cut = read(Layout::Amd64, &bytes[..0x98], Endian::Little).unwrap();
        assert!(cut.short && cut.registers.pc().is_none());
        for length in 0..400 {
            for l in [Layout::X86, Layout::Amd64, Layout::Arm, Layout::Arm64, Layout::Arm64Old, Layout::Mips] {
                let _ = read(l, &bytes[..length], Endian::Big);
            }
        }
    }

    #[test]
    fn flags_name_the_processor_when_nothing_else_does() {
        let with = |at: usize, flags: u32| {
            let mut bytes = vec![0_u8; 1232];
            bytes[at..at + 4].copy_from_slice(&flags.to_le_bytes());
            layout(None, &bytes, Endian::Little)
        };
        assert_eq!(with(0, 0x1003f), Layout::X86);
        assert_eq!(with(0x30, 0x10000f), Layout::Amd64);
        assert_eq!(with(0, 0x4000_0006), Layout::Arm);
        assert_eq!(with(0, 0x40_0007), Layout::Arm64);
        assert_eq!(with(0, 0x8000_0006), Layout::Arm64Old);
        assert_eq!(with(0, 0), Layout::Unknown);
    }
}
