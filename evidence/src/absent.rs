//! Why bytes are missing.

use std::fmt;

/// The reason why something that could have been recorded is not there.
///
/// "Nobody mapped it" accuses the program; "nobody wrote it down" accuses the dump. Only [`Absent::Unmapped`] may
/// support a verdict such as "wild pointer".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Absent {
    /// No mapping covered the address when the target stopped.
    Unmapped,
    /// The address was mapped; the writer of the dump left the bytes out on purpose.
    Filtered,
    /// The dump ends before the place where the bytes should be.
    Truncated,
    /// The source refused: permissions, `ptrace_scope`, an inaccessible device mapping.
    Denied,
    /// The bytes are there and cannot be trusted: bad checksum, bad compression, contradicting headers.
    Corrupt,
    /// The live target was let go (or had gone) before these bytes were read.
    Released,
}

impl Absent {
    /// The word used in JSON, in snapshots and in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Filtered => "filtered",
            Self::Truncated => "truncated",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::Released => "released",
        }
    }

    /// The reason a word of [`Absent::word`] stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Unmapped, Self::Filtered, Self::Truncated, Self::Denied, Self::Corrupt, Self::Released]
            .into_iter()
            .find(|a| a.word() == word)
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmapped => "not mapped",
            Self::Filtered => "left out of the dump",
            Self::Truncated => "cut off with the end of the file",
            Self::Denied => "access denied",
            Self::Corrupt => "damaged in the source",
            Self::Released => "not read before the target was released",
        })
    }
}
