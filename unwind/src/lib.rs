//! Frames with full register recovery, each with its trust.
//!
//! Input: a register context, a memory, and the call frame information of the images. Output: the frames of one stack,
//! innermost first, each with all registers that could be recovered. It does not name functions and never sees a
//! target: what it needs is handed to it.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod abi;
mod arm64_code;
mod cfi_step;
mod code;
mod compact_step;
mod expression;
mod frame_pointer;
mod freebsd_kernel;
mod illumos_trap;
mod linux_frames;
mod orc_step;
mod pe_arm64;
mod pe_epilogue;
mod pe_step;
mod plain;
mod scan;
mod shadow_stack;
mod sym_step;
mod trampoline;
mod undo;
mod walk;

use debuginfo::DebugInfo;
use evidence::{Addr, Memory, Registers};
pub use freebsd_kernel::unwind_freebsd_kernel;
pub use plain::{Plain, StackBytes};

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The recorded registers themselves.
    Context,
    /// Recovered by DWARF call frame information.
    Cfi,
    /// Recovered by the kernel's ORC table.
    Orc,
    /// Recovered by following the frame pointer.
    FramePointer,
    /// The return address is on the processor's shadow stack.
    ShadowStack,
    /// Found by scanning the stack.
    Scan,
}

/// A physical frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The registers as they were in this frame; what could not be recovered is unknown.
    pub registers: Registers,
    /// Program counter: the interrupted instruction, or a return address.
    pub pc: Addr,
    /// Whether `pc` is a return address, so that look-ups must use `pc - 1`.
    pub is_return_address: bool,
    /// Canonical frame address, when known.
    pub cfa: Option<Addr>,
    /// How it was found.
    pub trust: Trust,
    /// A signal trampoline.
    pub signal_frame: bool,
    /// Something about it contradicts.
    pub suspect: bool,
}

impl Frame {
    /// The address to look up symbols, lines and scopes with.
    #[must_use]
    pub const fn lookup(&self) -> Addr {
        if self.is_return_address { self.pc.wrapping_sub(1) } else { self.pc }
    }
}

/// The frames of one thread.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why it ends before the outermost function; `None` when it is complete.
    pub truncated: Option<String>,
}

/// Bounds of one unwinding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most frames kept of one stack.
    pub frames: usize,
    /// The bits of a user program's pointers that are address, where the source says it.
    pub address_mask: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frames: 100_000, address_mask: None }
    }
}

/// Unwinds one stack.
#[must_use]
pub fn unwind(start: &Registers, memory: &dyn Memory, info: &DebugInfo<'_>, limits: &Limits) -> Stack {
    walk::walk(start, false, memory, info, limits)
}

/// Unwinds the stack of a task that was switched out: its program counter is where the call of the switch will return
/// to (or, for a task that never ran, where it will begin).
#[must_use]
pub fn unwind_switched(start: &Registers, memory: &dyn Memory, info: &DebugInfo<'_>, limits: &Limits) -> Stack {
    walk::walk(start, true, memory, info, limits)
}
