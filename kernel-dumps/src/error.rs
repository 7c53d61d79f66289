//! Why a dump could not be opened.

use std::fmt;
use std::path::PathBuf;

/// Why a dump could not be opened.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    Format {
        /// The file.
        path: PathBuf,
        /// Where in the file, bytes.
        offset: u64,
        /// What was expected there.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The dump is encrypted, and what opens it is missing or does not fit.
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The cipher's name.
        cipher: &'static str,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The file is a dump of a kind that is known and not read.
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Format { path, offset, expected, found } => {
                write!(f, "{}: at offset {offset:#x}: expected {expected}, found {found}", path.display())
            }
            Self::Encrypted { path, cipher, why } => {
                write!(f, "{}: is encrypted ({cipher}): {why}", path.display())
            }
            Self::Unsupported { path, what } => {
                write!(f, "{}: is {what}, which this version does not read", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
