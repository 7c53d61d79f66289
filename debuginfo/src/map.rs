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
