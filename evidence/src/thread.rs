//! Recorded register contexts: LWPs, CPUs and tasks.

use crate::{Addr, Registers, Signal};
use std::ops::Range;

/// The OS's number of a thread (Linux: tid; FreeBSD: lwpid; illumos: LWP id), or a CPU's number for CPU contexts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadId(pub u64);

/// What kind of context the registers belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// A thread of a user process.
    Lwp,
    /// What was running on this CPU.
    Cpu(u32),
    /// A kernel task that was switched out.
    Task,
}

/// What the thread was doing according to the OS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ThreadState {
    /// The OS's own word or letter, spelled out where it is known: `running`, `sleeping`, `disk-sleep`, `stopped`,
    /// `zombie`, `dead`, `traced`, `idle`.
    pub word: Box<str>,
    /// The system call it was in: number, and the name where the source gives one.
    pub system_call: Option<u64>,
    /// The kernel function it waited in (`/proc/PID/task/TID/wchan`, FreeBSD's wmesg).
    pub wait_channel: Option<Box<str>>,
}

/// One recorded context.
#[derive(Clone, Debug)]
pub struct Thread {
    /// The OS's number for it.
    pub id: ThreadId,
    /// The process it belongs to, where the source holds more than one (kernels).
    pub process: Option<u64>,
    /// What kind of context this is.
    pub context: Context,
    /// The CPU it ran on or last ran on.
    pub cpu: Option<u32>,
    /// Its name.
    pub name: Option<Box<str>>,
    /// What it was doing.
    pub state: Option<ThreadState>,
    /// Its registers; `known == 0` when none could be had (a zombie leader), which a doubt then explains.
    pub registers: Registers,
    /// The mapping or range its stack lies in, when the source says so.
    pub stack: Option<Range<Addr>>,
    /// The signal it was stopped by or is handling.
    pub signal: Option<Signal>,
    /// Blocked signals, bit n-1 for signal n.
    pub signal_mask: Option<u64>,
    /// Signals pending on this thread, bit n-1 for signal n.
    pub signal_pending: Option<u64>,
    /// Hardware debug registers (x86: DR0-DR3, DR6, DR7), when they were readable.
    pub debug_registers: Option<Vec<u64>>,
}

impl Thread {
    /// A thread of which only its number and registers are known.
    #[must_use]
    pub fn new(id: ThreadId, context: Context, registers: Registers) -> Self {
        Self {
            id,
            process: None,
            context,
            cpu: None,
            name: None,
            state: None,
            registers,
            stack: None,
            signal: None,
            signal_mask: None,
            signal_pending: None,
            debug_registers: None,
        }
    }
}
