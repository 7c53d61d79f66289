//! What stopped the target: a signal, a panic, or only our request.

use crate::{Addr, ThreadId};

/// How the faulting instruction touched the address, as far as the source itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// A signal as it was delivered, in the numbers of the target's OS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal {
    /// The signal number.
    pub number: i32,
    /// `si_code`, when a siginfo was recorded.
    pub code: Option<i32>,
    /// `si_errno`.
    pub errno: Option<i32>,
    /// `si_addr`: the fault address, present only for signals that carry one.
    pub address: Option<Addr>,
    /// `si_pid`: who sent it, present only for signals that carry one.
    pub sender_pid: Option<u64>,
    /// `si_uid`.
    pub sender_uid: Option<u64>,
}

/// Why the target stopped.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The thread it happened on.
    pub thread: Option<ThreadId>,
    /// The signal that would have killed, or did kill, the process.
    pub signal: Option<Signal>,
    /// The address that could not be accessed, where no signal carries it: the fault of a kernel.
    pub address: Option<Addr>,
    /// The access direction, when the source recorded it (a page-fault error code, an exception record).
    pub access: Option<Access>,
    /// The processor's trap number, when recorded.
    pub trap_number: Option<u64>,
    /// The processor's error code, when recorded.
    pub error_code: Option<u64>,
    /// A panic string, an abort or assertion message, or an exception name, as recorded by the source.
    pub message: Option<Box<str>>,
}
