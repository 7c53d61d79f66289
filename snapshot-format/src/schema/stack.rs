//! Threads, stacks, frames and registers.
//!
//! Frames of many threads share their names.

use std::sync::Arc;

/// A thread, CPU or task with a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// The OS's number.
    pub id: u64,
    /// The process it belongs to, for kernels.
    pub process: Option<u64>,
    /// Name.
    pub name: Option<String>,
    /// Whether the event happened on it.
    pub faulting: bool,
    /// State word.
    pub state: Option<String>,
    /// Kernel function it waits in.
    pub wait_channel: Option<String>,
    /// System call number it is in.
    pub system_call: Option<u64>,
    /// `lwp`, `cpu` or `task`.
    pub context: String,
    /// CPU number.
    pub cpu: Option<u64>,
    /// Index into `stacks`; `None` when it has no registers, which `truncated` explains.
    pub stack: Option<u32>,
    /// Why the stack ends before its true end, or is missing.
    pub truncated: Option<String>,
    /// First address of the range its stack lies in.
    pub stack_start: Option<u64>,
    /// End of that range.
    pub stack_end: Option<u64>,
    /// Signal mask, bit n-1 for signal n.
    pub signal_mask: Option<u64>,
}

/// A distinct stack: `count` frames from index `first` of `frames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Index of the innermost frame.
    pub first: u32,
    /// Number of frames.
    pub count: u32,
}

/// How far a frame can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// The recorded registers themselves.
    #[default]
    Context,
    /// Recovered by DWARF call frame information (or another complete table).
    Cfi,
    /// Recovered by the kernel's ORC table.
    Orc,
    /// Recovered by following the frame pointer.
    FramePointer,
    /// Found by scanning the stack for a return address.
    Scan,
    /// An inlined call in the physical frame that follows it.
    Inline,
    /// The return address is on the processor's shadow stack.
    ShadowStack,
}

impl Trust {
    /// All of them, in the order of their numbers on disk.
    pub const ALL: [Self; 7] =
        [Self::Context, Self::Cfi, Self::Orc, Self::FramePointer, Self::Scan, Self::Inline, Self::ShadowStack];

    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Cfi => "cfi",
            Self::Orc => "orc",
            Self::FramePointer => "frame-pointer",
            Self::Scan => "scan",
            Self::Inline => "inline",
            Self::ShadowStack => "shadow-stack",
        }
    }
}

/// A frame, physical or inlined. Inlined frames come before the physical frame that contains them and share its pc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Instruction pointer (innermost frame) or return address.
    pub pc: u64,
    /// Demangled function name.
    pub function: Option<Arc<str>>,
    /// Linkage (mangled) name.
    pub linkage_name: Option<Arc<str>>,
    /// Bytes from the start of the (outermost, physical) function to `pc`.
    pub offset: Option<u64>,
    /// Index into `modules`.
    pub module: Option<u32>,
    /// `pc` minus the module's slide: the SVMA.
    pub module_offset: Option<u64>,
    /// Source file.
    pub file: Option<Arc<str>>,
    /// Line, from 1.
    pub line: Option<u64>,
    /// Column, from 1.
    pub column: Option<u64>,
    /// Whether this is an inlined call.
    pub inline: bool,
    /// How it was found.
    pub trust: Trust,
    /// Found, but something about it contradicts: shown with a mark.
    pub suspect: bool,
    /// The frame is a signal trampoline.
    pub signal_frame: bool,
}

/// A register of a frame of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterValue {
    /// Thread id.
    pub thread: u64,
    /// Index of the frame within the thread's stack (a physical frame).
    pub frame: u32,
    /// Register name.
    pub name: String,
    /// Value.
    pub value: u64,
}
