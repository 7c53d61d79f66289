//! Why a value cannot be shown.

use evidence::{ReadError, Register};
use std::fmt;

/// Why a value cannot be shown. Only [`Missing::Memory`] says anything about the target; the rest is about what the
/// compiler and the recording left us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The compiler keeps it nowhere at this pc.
    OptimisedOut,
    /// It is in a register that is not known in this frame.
    Register(Register),
    /// It is in memory that is not there.
    Memory(ReadError),
    /// It can only be computed from what the caller passed, and the caller's call site does not tell.
    EntryValue(&'static str),
    /// It is thread-local, and the thread's block for the module cannot be found.
    Tls(&'static str),
    /// The frame's CFA is not known.
    Cfa,
    /// The debug information is damaged, or says something not understood here.
    DebugInfo(String),
    /// A limit was reached.
    Limit(&'static str),
}

impl Missing {
    /// The word used in JSON and in snapshots.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::OptimisedOut => "optimised-out",
            Self::Register(_) => "register-not-recovered",
            Self::Memory(e) => e.why.word(),
            Self::EntryValue(_) => "entry-value-unknown",
            Self::Tls(_) => "tls-not-found",
            Self::Cfa => "cfa-unknown",
            Self::DebugInfo(_) => "bad-debug-info",
            Self::Limit(_) => "limit",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OptimisedOut => f.write_str("optimised out"),
            Self::Register(r) => write!(f, "DWARF register {} is not known in this frame", r.0),
            Self::Memory(e) => e.fmt(f),
            Self::EntryValue(why) => write!(f, "its value on entry is not known: {why}"),
            Self::Tls(why) => write!(f, "its thread-local storage was not found: {why}"),
            Self::Cfa => f.write_str("the frame's CFA is not known"),
            Self::DebugInfo(why) => write!(f, "debug information: {why}"),
            Self::Limit(what) => write!(f, "limit of {what} reached"),
        }
    }
}

impl std::error::Error for Missing {}
