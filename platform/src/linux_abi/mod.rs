//! The Linux kernel's own records of registers and signals: the same bytes come from `ptrace` and from core notes.
//!
//! Everything here is a pure function over bytes and works on every host. The byte order is the target's, which is
//! little-endian for every architecture known here.

pub mod maps;
pub mod registers;
pub mod siginfo;
pub mod xstate;

/// `NT_PRSTATUS` (`include/uapi/linux/elf.h`).
pub const NT_PRSTATUS: u32 = 1;
/// `NT_PRFPREG`: FXSAVE on x86-64, `user_fpsimd_state` on AArch64.
pub const NT_PRFPREG: u32 = 2;
/// `NT_AUXV`.
pub const NT_AUXV: u32 = 6;
/// `NT_SIGINFO`: a `siginfo_t` of 128 bytes; the number is the letters `SIGI`.
pub const NT_SIGINFO: u32 = 0x5349_4749;
/// `NT_X86_XSTATE`: an XSAVE area in the standard format.
pub const NT_X86_XSTATE: u32 = 0x202;
/// `NT_X86_XSAVE_LAYOUT`: where this processor puts each XSAVE component (cores since Linux 6.12).
pub const NT_X86_XSAVE_LAYOUT: u32 = 0x205;
/// `NT_ARM_TLS`: `tpidr_el0`, and `tpidr2_el0` where there is one.
pub const NT_ARM_TLS: u32 = 0x401;
/// `NT_ARM_SYSTEM_CALL`: the number of the system call, -1 for none.
pub const NT_ARM_SYSTEM_CALL: u32 = 0x404;
