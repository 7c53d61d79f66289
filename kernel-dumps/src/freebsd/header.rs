//! The record before and after a dump on its device.
//!
//! Source: `struct kerneldumpheader`, `sys/sys/kerneldump.h` (version 4), and the older layouts as savecore keeps them
//! (`kerneldump_compat.h`: versions 1 to 3). All numbers are big-endian. The XOR of its 128 words is 0.

use evidence::ToU64;
use evidence::bytes::{Endian, c_str_at, slice_at, u8_at, u32_at, u64_at};

/// Bytes of the record.
pub const SIZE: usize = 512;
/// Where the version number is.
const VERSION: usize = 32;

/// What is dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// Memory.
    Kernel,
    /// Text that the kernel debugger's scripts made.
    Text,
    /// A dump that was taken off the device before; its bytes may still be there, or be written over.
    Cleared,
}

/// How a dump's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// As a gzip stream.
    Gzip,
    /// As a Zstandard stream.
    Zstd,
    /// In a way that this version does not know.
    Other(u8),
}

/// A parsed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpHeader {
    /// What is dumped.
    pub magic: Magic,
    /// `amd64`, `arm64`, `i386`, ...
    pub architecture: String,
    /// The record's own version, 1 to 4.
    pub version: u32,
    /// Bytes of the dump, as it is stored, without records and key.
    pub length: u64,
    /// Bytes of the device set aside for it.
    pub extent: u64,
    /// When it was written, seconds since 1970.
    pub time: u64,
    /// Bytes of the encrypted key that stands before the dump; 0 for none.
    pub key_size: u32,
    /// Bytes of a sector of the device.
    pub block_size: u32,
    /// The host's name.
    pub host: String,
    /// The kernel's version string, with its line breaks.
    pub version_string: String,
    /// Why the kernel died; at most 174 characters are kept.
    pub panic_string: String,
    /// How the dump is stored.
    pub compression: Compression,
    /// Whether the record's parity is right.
    pub parity_ok: bool,
    /// The record as it is.
    pub raw: Box<[u8]>,
}

impl DumpHeader {
    /// A record that starts with one of the magic strings.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let raw = raw.get(..SIZE)?;
        let magic = match c_str_at(slice_at(raw, 0, 20)?, 0)?.as_str() {
            "FreeBSD Kernel Dump" => Magic::Kernel,
            "FreeBSD Text Dump" => Magic::Text,
            "Cleared Kernel Dump" => Magic::Cleared,
            _ => return None,
        };
        let big = Endian::Big;
        let text = |at, len| c_str_at(slice_at(raw, at, len)?, 0);
        let (long, word) = (|at| u64_at(raw, at, big), |at| u32_at(raw, at, big));
        let version = word(VERSION)?;
        let length = long(40)?;
        let (time, key_size, block_size, host, panic, panic_length) = match version {
            1 => (48, None, 56, 60, 316, 192),
            2 => (48, Some(56), 60, 64, 320, 188),
            3 => (56, Some(64), 68, 73, 329, 179),
            _ => (48, Some(56), 60, 64, 320, 175),
        };
        let (compression, extent) = match version {
            1 | 2 => (0, length),
            3 => (u8_at(raw, 72)?, long(48)?),
            _ => (u8_at(raw, 495)?, long(496)?),
        };
        let parity = raw.chunks_exact(4).fold([0_u8; 4], |sum, word| {
            let mut next = sum;
            for (s, w) in next.iter_mut().zip(word) {
                *s ^= w;
            }
            next
        });
        Some(Self {
            magic,
            architecture: text(20, 12)?,
            version,
            length,
            extent,
            time: long(time)?,
            key_size: key_size.map_or(Some(0), word)?,
            block_size: word(block_size)?,
            host: text(host, 64)?,
            version_string: text(host.checked_add(64)?, 192)?,
            panic_string: text(panic, panic_length)?,
            compression: match compression {
                0 => Compression::None,
                1 => Compression::Gzip,
                2 => Compression::Zstd,
                other => Compression::Other(other),
            },
            parity_ok: parity == [0; 4],
            raw: raw.into(),
        })
    }

    /// Bytes of one record on the device: a sector, which is never smaller than a record.
    #[must_use]
    pub fn sector(&self) -> u64 {
        u64::from(self.block_size).clamp(SIZE.to_u64(), 1 << 20)
    }
}
