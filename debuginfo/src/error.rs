//! Why a file could not be used.

use std::fmt;
use std::path::PathBuf;

/// Why a file could not be used.
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
        /// Where in the file, in bytes.
        offset: u64,
        /// What was expected there.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A DWARF structure could not be read.
    Dwarf {
        /// The file.
        path: PathBuf,
        /// What the DWARF reader said.
        source: gimli::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Format { path, offset, expected, found } => {
                write!(f, "{}: at offset {offset:#x}: expected {expected}, found {found}", path.display())
            }
            Self::Dwarf { path, source } => write!(f, "{}: DWARF: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Format { .. } => None,
            Self::Dwarf { source, .. } => Some(source),
        }
    }
}
