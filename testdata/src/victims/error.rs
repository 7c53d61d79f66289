//! Why a victim could not be built or run.

use std::fmt;
use std::path::PathBuf;

/// The error of this module.
#[derive(Debug)]
pub enum VictimError {
    /// There is no such victim or variant.
    Unknown {
        /// `victim` or `variant`.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// A program that the build needs is not installed.
    MissingTool {
        /// Its name; `ci/install-packages.sh` installs what is needed.
        tool: String,
    },
    /// A tool ran and failed.
    Failed {
        /// The command line.
        command: String,
        /// Its exit status and what it printed.
        output: String,
    },
    /// A file operation failed.
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The program did not say that it was ready, or did not end as promised.
    Behaviour {
        /// The victim's executable.
        program: PathBuf,
        /// Expected and found.
        why: String,
    },
    /// The kernel writes no core that we could find.
    NoCore {
        /// Why, and what to do about it.
        why: String,
    },
}

impl fmt::Display for VictimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { what, name } => write!(f, "no {what} is called `{name}`"),
            Self::MissingTool { tool } => {
                write!(f, "`{tool}` is not installed; run ci/install-packages.sh")
            }
            Self::Failed { command, output } => write!(f, "`{command}` failed: {output}"),
            Self::Io { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
            Self::Behaviour { program, why } => write!(f, "{}: {why}", program.display()),
            Self::NoCore { why } => write!(f, "no core: {why}"),
        }
    }
}

impl std::error::Error for VictimError {}

/// Turns an I/O result into one that says what was done to which file.
pub(super) fn io<T>(
    what: &'static str,
    path: impl Into<PathBuf>,
    result: std::io::Result<T>,
) -> Result<T, VictimError> {
    result.map_err(|source| VictimError::Io { what, path: path.into(), source })
}
