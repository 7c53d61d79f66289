//! Why a command has no result, and the exit code for it.

use std::fmt;
use std::process::ExitCode;

/// How a command that has a result ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete: exit code 0.
    Complete,
    /// Doubts under `--strict`, missing bytes, or differences: exit code 1.
    Different,
}

/// Why a command has no result.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something impossible: exit code 2.
    Usage(String),
    /// There is no result: exit code 3. The text says what to do next.
    NoResult(String),
    /// Whoever read our output went away; not worth a message.
    Closed,
}

impl Failure {
    /// No result, because of `what`.
    pub fn new(what: impl fmt::Display) -> Self {
        Self::NoResult(what.to_string())
    }

    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::NoResult(_) => 3,
            Self::Closed => 0,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::NoResult(text) => f.write_str(text),
            Self::Closed => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// For errors of standard output; files name themselves in [`Failure::new`].
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe { Self::Closed } else { Self::NoResult(format!("output: {e}")) }
    }
}
