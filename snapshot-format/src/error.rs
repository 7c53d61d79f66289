//! Why an operation on a snapshot has no result at all. Damage is not among them: it becomes doubts.

use std::{fmt, io};

use crate::limits::{LIMIT_BLOCKS, LIMIT_VALUE};

/// Writing failed, or a file is no snapshot this crate can read.
#[derive(Debug)]
pub enum Error {
    /// The output or input failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// Offset in the snapshot, bytes.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The first bytes are not [`MAGIC`](crate::MAGIC).
    NotASnapshot {
        /// The bytes found instead, at most eight.
        found: Vec<u8>,
    },
    /// The first bytes are [`MAGIC`](crate::MAGIC) after a text-mode transfer.
    TextMode,
    /// A version this crate does not know.
    Version {
        /// The version in the header.
        found: u16,
    },
    /// Neither the file nor the format has such a column.
    NoSuchColumn {
        /// The table asked for.
        table: String,
        /// The column asked for.
        column: String,
    },
    /// A text or byte string is longer than the format holds.
    ValueTooLong {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Row in the table.
        row: u64,
        /// Length, bytes.
        length: u64,
    },
    /// The writer reached [`LIMIT_BLOCKS`].
    TooManyBlocks,
    /// A table has more rows than references can count (2^32).
    TooManyRows {
        /// Table.
        table: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, offset, source } => {
                write!(out, "{doing} at offset {offset:#x} of the snapshot: {source}")
            }
            Self::NotASnapshot { found } => {
                write!(out, "not a snapshot: expected 8f 50 46 53 0d 0a 1a 0a at offset 0, found")?;
                found.iter().try_for_each(|byte| write!(out, " {byte:02x}"))?;
                if found.is_empty() { write!(out, " an empty file") } else { Ok(()) }
            }
            Self::TextMode => out.write_str(
                "the snapshot was changed by a text-mode transfer (line ends or character set were converted at \
                 offset 0): copy the original again in binary mode",
            ),
            Self::Version { found } => write!(
                out,
                "the snapshot has format version {found} (offset 8), and this program reads version 1: use the \
                 postfault that wrote it, or a newer one"
            ),
            Self::NoSuchColumn { table, column } => write!(out, "the snapshot has no column {table}.{column}"),
            Self::ValueTooLong { table, column, row, length } => write!(
                out,
                "{table}.{column} of row {row} has {length} bytes, and a value holds at most {LIMIT_VALUE}: shorten it"
            ),
            Self::TooManyBlocks => {
                write!(out, "a snapshot holds at most {LIMIT_BLOCKS} blocks: keep less memory in one snapshot")
            }
            Self::TooManyRows { table } => write!(out, "table {table} has more than 4294967295 rows: keep fewer"),
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
