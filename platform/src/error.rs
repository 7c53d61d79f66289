//! Why a process or a file gave no evidence.

use std::fmt;
use std::path::PathBuf;

/// Why a source could not be used at all.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused an operation on a file.
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as in "cannot {doing}".
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    Format {
        /// The file, or `-` for a stream.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was expected there.
        expected: Box<str>,
        /// What was found.
        found: Box<str>,
    },
    /// A live process cannot be attached to.
    Attach {
        /// The process.
        pid: u64,
        /// Why, and what would help.
        why: Refusal,
    },
}

/// Why a live process cannot be attached to.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such process (any more).
    NoSuchProcess,
    /// The number names a thread; its process is the one to attach to.
    NotALeader {
        /// The process it belongs to.
        process: u64,
    },
    /// Every thread of it has ended and only its parent has to notice.
    Zombie,
    /// It is a kernel thread: there is no user memory and no user stack.
    KernelThread,
    /// It is the collector itself or one of its threads.
    Ourselves,
    /// Another program traces it already; Linux allows one tracer.
    Traced {
        /// The tracer's process id.
        tracer: u64,
        /// The tracer's name.
        command: Box<str>,
    },
    /// The kernel forbids it: other user, set-user-id program, `ptrace_scope`, a user namespace, a security module.
    Forbidden {
        /// What was found to be the reason, and what would help.
        reason: Box<str>,
    },
    /// A copy of it was asked for, and cannot be made without risk.
    NoFork {
        /// What stands against it, and what would help.
        reason: Box<str>,
    },
    /// Something unexpected failed.
    System {
        /// What was being done.
        doing: Box<str>,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// A failed operation on a file.
    #[must_use]
    pub fn io(path: impl Into<PathBuf>, doing: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), doing, source }
    }

    /// A file that is not what it should be.
    #[must_use]
    pub fn format(
        path: impl Into<PathBuf>,
        offset: u64,
        expected: impl Into<Box<str>>,
        found: impl Into<Box<str>>,
    ) -> Self {
        Self::Format { path: path.into(), offset, expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, doing, source } => write!(f, "{}: cannot {doing}: {source}", path.display()),
            Self::Format { path, offset, expected, found } => {
                write!(f, "{}: at offset {offset:#x}: expected {expected}, found {found}", path.display())
            }
            Self::Attach { pid, why } => write!(f, "cannot attach to process {pid}: {why}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess => f.write_str("there is no such process (it may have just ended)"),
            Self::NotALeader { process } => {
                write!(f, "this is the number of a thread; attach to its process, {process}")
            }
            Self::Zombie => f.write_str("it is a zombie: it has ended, and only its exit status is left"),
            Self::KernelThread => {
                f.write_str("it is a kernel thread, which has no user stack; look at the running kernel instead")
            }
            Self::Ourselves => f.write_str("it is this program itself, which cannot stop and look at itself"),
            Self::Traced { tracer, command } => write!(
                f,
                "process {tracer} ({command}) traces it already, and Linux allows one tracer; end or detach that one first"
            ),
            Self::Forbidden { reason } => f.write_str(reason),
            Self::NoFork { reason } => write!(f, "it cannot be copied: {reason}"),
            Self::System { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Attach { why: Refusal::System { source, .. }, .. } => Some(source),
            Self::Format { .. } | Self::Attach { .. } => None,
        }
    }
}
