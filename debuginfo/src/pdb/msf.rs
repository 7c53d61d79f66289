//! The container of program databases: numbered streams, each a list of blocks of the file.
//!
//! Layout: "The MSF File Format" of LLVM's PDB documentation.

use evidence::ToUsize;
use evidence::bytes::{Endian, slice_at, u32_at};
use std::borrow::Cow;

const MAGIC: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// Largest stream that is ever read in one piece.
const LIMIT_WHOLE: usize = 256 << 20;
const LITTLE: Endian = Endian::Little;

/// Where the streams of a file lie.
#[derive(Debug)]
pub(super) struct Msf {
    block: usize,
    /// (bytes, where its list of blocks starts in `directory`).
    streams: Vec<(u32, usize)>,
    directory: Vec<u8>,
}

/// One stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream<'s> {
    file: &'s [u8],
    msf: &'s Msf,
    size: usize,
    blocks: usize,
}

impl Msf {
    /// Reads the directory. The error is (offset, what is wrong).
    pub(super) fn read(file: &[u8]) -> Result<Self, (u64, &'static str)> {
        if file.get(..MAGIC.len()) != Some(MAGIC) {
            return Err((0, "another signature"));
        }
        Self::directory(file).ok_or((32, "a directory that does not lie inside the file"))
    }

    fn directory(file: &[u8]) -> Option<Self> {
        let word = |at| u32_at(file, at, LITTLE).map(ToUsize::to_usize);
        let (block, bytes, map) = (word(32)?, word(44)?, word(52)?);
        if !(512..=65_536).contains(&block) || !block.is_power_of_two() || bytes > file.len() {
            return None;
        }
        // A block that holds the numbers of the directory's blocks; large directories have several in a row.
        let map = map.checked_mul(block)?;
        let mut directory = Vec::with_capacity(bytes);
        for n in 0..bytes.div_ceil(block) {
            let number = word(map.checked_add(n.checked_mul(4)?)?)?;
            let part = slice_at(file, number.checked_mul(block)?, block.min(bytes.checked_sub(directory.len())?))?;
            directory.extend_from_slice(part);
        }
        let word = |at| u32_at(&directory, at, LITTLE);
        let count = word(0)?.to_usize();
        // Each stream has a word of its own, so the directory's size bounds their number.
        let mut at = count.checked_mul(4)?.checked_add(4)?;
        if at > directory.len() {
            return None;
        }
        let mut streams = Vec::with_capacity(count);
        for n in 0..count {
            let size = word(n.checked_mul(4)?.checked_add(4)?)?;
            let size = if size == u32::MAX { 0 } else { size };
            streams.push((size, at));
            at = at.checked_add(size.to_usize().div_ceil(block).checked_mul(4)?)?;
        }
        Some(Self { block, streams, directory })
    }

    /// The stream of a number.
    pub(super) fn stream<'s>(&'s self, file: &'s [u8], number: u32) -> Option<Stream<'s>> {
        let (size, blocks) = *self.streams.get(number.to_usize())?;
        // One stream cannot be larger than the file, whatever the directory says.
        let size = size.to_usize();
        (size <= file.len()).then_some(Stream { file, msf: self, size, blocks })
    }
}

impl<'s> Stream<'s> {
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    fn block(&self, number: usize) -> Option<&'s [u8]> {
        let at = self.blocks.checked_add(number.checked_mul(4)?)?;
        let place = u32_at(&self.msf.directory, at, LITTLE)?.to_usize().checked_mul(self.msf.block)?;
        let rest = self.file.get(place..)?;
        Some(rest.get(..self.msf.block).unwrap_or(rest))
    }

    /// `length` bytes at `at`; lent where they lie in one block.
    pub(super) fn bytes(&self, at: usize, length: usize) -> Option<Cow<'s, [u8]>> {
        let end = at.checked_add(length).filter(|end| *end <= self.size)?;
        let first = at.checked_div(self.msf.block)?;
        let inside = at.checked_rem(self.msf.block)?;
        if let Some(part) = slice_at(self.block(first).unwrap_or_default(), inside, length) {
            return Some(Cow::Borrowed(part));
        }
        if length > LIMIT_WHOLE {
            return None;
        }
        let mut all = Vec::with_capacity(length);
        let (mut number, mut skip) = (first, inside);
        while all.len() < length {
            let left = end.checked_sub(at)?.checked_sub(all.len())?;
            let block = self.block(number)?.get(skip..)?;
            let part = block.get(..left).unwrap_or(block);
            if part.is_empty() {
                return None;
            }
            all.extend_from_slice(part);
            (number, skip) = (number.checked_add(1)?, 0);
        }
        Some(Cow::Owned(all))
    }

    /// All of it.
    pub(super) fn whole(&self) -> Option<Cow<'s, [u8]>> {
        self.bytes(0, self.size)
    }

    pub(super) fn word(&self, at: usize) -> Option<u32> {
        u32_at(&self.bytes(at, 4)?, 0, LITTLE)
    }

    pub(super) fn half(&self, at: usize) -> Option<u16> {
        evidence::bytes::u16_at(&self.bytes(at, 2)?, 0, LITTLE)
    }
}
