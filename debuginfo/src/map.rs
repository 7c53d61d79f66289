//! Files mapped read-only into our memory: the only unsafe code of this crate.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a whole file, mapped, or owned where there was no file (an image copied out of memory).
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(memmap2::Mmap),
    Owned(Box<[u8]>),
}

impl FileBytes {
    /// Maps all of `file`.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and read-only, and its bytes are only ever read as plain `u8` by code that
        // accepts any contents. A writer changing the file meanwhile can change what we read, which the parsers must
        // survive in any case; a writer truncating it makes reads raise SIGBUS, which ends this process without harm
        // to others, as it does for every debugger that maps symbol files.
        let map = unsafe { memmap2::MmapOptions::new().map(file)? };
        Ok(Self::Mapped(map))
    }

    /// Whether they come from a file.
    pub(crate) const fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }

    /// Lets go of the pages that hold `part` of the file, which come back from the file when it is read again: so that
    /// reading much of a large file here and there does not keep all of it in memory.
    pub(crate) fn release(&self, part: &[u8]) {
        let Self::Mapped(map) = self else { return };
        let Some(offset) = part.as_ptr().addr().checked_sub(map.as_ptr().addr()) else { return };
        if part.is_empty() || offset.checked_add(part.len()).is_none_or(|end| end > map.len()) {
            return;
        }
        // SAFETY: the mapping is private, read-only and backed by a file, and nobody writes to it: dropped pages read
        // the same again (as far as the file was not changed by others, for which see `map`).
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
    }
}

impl Deref for FileBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
