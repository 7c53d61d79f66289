//! The instruction at the fault, decoded: what it touches, where that is, and what it is for.

mod aarch64;
mod x86;

use crate::view::{Arch, View};

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
    Unknown,
}

impl Access {
    /// The word of the JSON contract.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "execute" => Some(Self::Execute),
            _ => None,
        }
    }
}

/// A register and what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) name: String,
    /// `None` when the snapshot does not have it.
    pub(crate) value: Option<u64>,
}

/// One memory operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    /// Its effective address, when every register it needs is known.
    pub(crate) address: Option<u64>,
    pub(crate) access: Access,
    /// Bytes; 0 when the instruction does not fix it.
    pub(crate) size: u64,
    pub(crate) base: Option<Held>,
    pub(crate) index: Option<Held>,
    pub(crate) displacement: i64,
    /// Addressed from the base of fs or gs.
    pub(crate) thread_local: bool,
    /// Pushed, popped, or addressed from the stack pointer.
    pub(crate) stack: bool,
    /// The instruction demands this alignment of the address, bytes; 1 when it demands none.
    pub(crate) alignment: u64,
}

impl Operand {
    /// Whether the `size` bytes at the operand's address contain `address`.
    pub(crate) fn covers(&self, address: u64, arch: Arch) -> bool {
        let Some(start) = self.address else { return false };
        // AArch64 ignores the top byte of a data address, and the kernel reports it cleared.
        let mask = if arch == Arch::Aarch64 { u64::MAX >> 8 } else { u64::MAX };
        (address & mask).wrapping_sub(start & mask) < self.size.max(1)
    }
}

/// What an instruction is for, as far as a fault is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    /// Divides by a value (if known); `signed`, and the operand's width in bytes.
    Divide {
        divisor: Option<u64>,
        signed: bool,
        width: u64,
    },
    /// There to stop the program: `ud2`, `int3`, `brk`.
    Trap,
    /// Goes to an address taken from a register or memory; `ret` included.
    Branch {
        target: Option<u64>,
        returns: bool,
    },
    /// Not allowed to user programs.
    Privileged,
    /// No instruction at all.
    Invalid,
}

/// A decoded instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// As a disassembler writes it.
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// Bytes.
    pub(crate) length: u64,
    pub(crate) operands: Vec<Operand>,
    /// Processor features it needs beyond the base set.
    pub(crate) features: Vec<String>,
}

/// The instruction at `pc`, when its bytes were kept and this crate knows the instruction set.
pub(crate) fn decode(view: &View<'_>, pc: u64) -> Option<Decoded> {
    match view.arch {
        Arch::X86_64 => x86::decode(view, pc, 64),
        Arch::X86 => x86::decode(view, pc, 32),
        Arch::Aarch64 => aarch64::decode(view, pc),
        Arch::Other => None,
    }
}
