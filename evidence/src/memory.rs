//! The bytes of one address space.

use crate::{
    Absent, Addr,
    bytes::{self, Endian},
};
use std::fmt;
use std::ops::Range;

/// One read of a batch. A short read is normal: `stop` says what is true of the first missing byte.
#[derive(Debug)]
pub struct Read<'b> {
    /// Where to read.
    pub at: Addr,
    /// Where the bytes go; its length is the length asked for.
    pub into: &'b mut [u8],
    /// How many bytes were read (the longest available prefix).
    pub got: usize,
    /// Why the first missing byte is missing; `None` exactly when `got == into.len()`.
    pub stop: Option<Absent>,
}

impl<'b> Read<'b> {
    /// A read that has not happened yet.
    #[must_use]
    pub const fn new(at: Addr, into: &'b mut [u8]) -> Self {
        Self { at, into, got: 0, stop: None }
    }
}

/// A range the source makes a statement about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The addresses.
    pub range: Range<Addr>,
    /// `None`: the bytes are there. `Some`: they are not, for this reason.
    pub absent: Option<Absent>,
}

/// A read of exactly so many bytes that could not be satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The first missing byte.
    pub at: Addr,
    /// Why it is missing.
    pub why: Absent,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory at {}: {}", self.at, self.why)
    }
}

impl std::error::Error for ReadError {}

/// The bytes of one address space.
pub trait Memory: Send + Sync {
    /// Reads the longest available prefix. The reason is `None` exactly when all of `into` was filled.
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>);

    /// Many reads, in as few system calls or decompressions as the source allows.
    fn read_batch(&self, batch: &mut [Read<'_>]) {
        for r in batch {
            (r.got, r.stop) = self.read(r.at, r.into);
        }
    }

    /// Lends bytes that already lie contiguous in our memory (a mapped core, a cached block).
    ///
    /// `None` when the range is not wholly there or not contiguous: then [`Memory::read`] copies.
    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        let _ = range;
        None
    }

    /// Sorted, disjoint ranges the source claims, each with bytes or with the reason it has none.
    /// An address in no extent is [`Absent::Unmapped`] only if the source's extents are complete, which
    /// [`Memory::read`] decides.
    fn extents(&self) -> &[Extent];
}

impl dyn Memory + '_ {
    /// Reads all of `into` or says what is missing.
    ///
    /// # Errors
    /// The address of, and the reason for, the first missing byte.
    pub fn read_exact(&self, at: Addr, into: &mut [u8]) -> Result<(), ReadError> {
        match self.read(at, into) {
            (_, None) => Ok(()),
            (got, Some(why)) => Err(ReadError { at: Addr(at.0.wrapping_add(crate::ToU64::to_u64(got))), why }),
        }
    }

    /// Reads a 64-bit number.
    ///
    /// # Errors
    /// As `read_exact`.
    pub fn read_u64(&self, at: Addr, endian: Endian) -> Result<u64, ReadError> {
        let mut raw = [0; 8];
        self.read_exact(at, &mut raw)?;
        bytes::u64_at(&raw, 0, endian).ok_or(ReadError { at, why: Absent::Truncated })
    }

    /// Reads a 32-bit number.
    ///
    /// # Errors
    /// As `read_exact`.
    pub fn read_u32(&self, at: Addr, endian: Endian) -> Result<u32, ReadError> {
        let mut raw = [0; 4];
        self.read_exact(at, &mut raw)?;
        bytes::u32_at(&raw, 0, endian).ok_or(ReadError { at, why: Absent::Truncated })
    }

    /// Reads a pointer of `size` bytes (4 or 8).
    ///
    /// # Errors
    /// As `read_exact`.
    pub fn read_pointer(&self, at: Addr, size: u8, endian: Endian) -> Result<u64, ReadError> {
        if size == 4 { self.read_u32(at, endian).map(u64::from) } else { self.read_u64(at, endian) }
    }

    /// Reads a NUL-terminated string of at most `limit` bytes, invalid UTF-8 replaced.
    ///
    /// # Errors
    /// When not a single byte is there. A string that runs into missing bytes, or to `limit`, ends there.
    pub fn read_c_string(&self, at: Addr, limit: usize) -> Result<String, ReadError> {
        let mut raw = vec![0; limit];
        let (got, stop) = self.read(at, &mut raw);
        if let (0, Some(why)) = (got, stop) {
            return Err(ReadError { at, why });
        }
        Ok(bytes::c_str_at(raw.get(..got).unwrap_or_default(), 0).unwrap_or_default())
    }
}
