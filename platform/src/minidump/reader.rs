//! The outermost layer of a minidump: header, directory, locations, strings, and lists of fixed-size entries.
//!
//! Format: `MINIDUMP_HEADER`, `MINIDUMP_DIRECTORY`, `MINIDUMP_LOCATION_DESCRIPTOR`, `MINIDUMP_STRING` of Windows'
//! minidumpapiset.h. All positions (RVAs) are offsets from the start of the file.

use crate::Error;
use crate::input::Source;
use evidence::bytes::{Endian, u16_at, u32_at, u64_at};
use evidence::{Doubt, Doubts, ToU64, ToUsize};
use std::cell::Cell;

/// Streams that are looked at. Writers have about twenty; a directory of thousands is damage, and each entry costs a
/// look.
pub(super) const LIMIT_STREAMS: usize = 16_384;
/// Bytes of one stream that are read into memory: lists of half a million threads, modules or memory ranges fit.
pub(super) const LIMIT_STREAM: usize = 64 << 20;
/// Bytes of one string. Windows' own limit of a path is 65,534; Crashpad's annotation values are shorter.
pub(super) const LIMIT_STRING: usize = 256 << 10;

/// Bytes of all strings and module records together. Any number of entries may point at one long string, and each is kept
/// some times over; 65,536 handles with names of 90 letters have half of this, 5,000 modules a twentieth.
pub(super) const LIMIT_TEXTS: u64 = 24 << 20;
/// Streams lie behind each other in a file; those of a directory that share their bytes may have so many times its size
/// together. Reading one list 16,384 times would take minutes.
const LIMIT_SHARED: u64 = 4;

/// `MINIDUMP_VERSION`, the low half of the header's version.
const VERSION: u16 = 0xa793;

/// Where something lies in the file: `MINIDUMP_LOCATION_DESCRIPTOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Location {
    pub(super) size: u32,
    pub(super) rva: u32,
}

impl Location {
    /// Out of its eight bytes at `at`.
    pub(super) fn at(bytes: &[u8], at: usize, endian: Endian) -> Option<Self> {
        Some(Self { size: u32_at(bytes, at, endian)?, rva: u32_at(bytes, at.checked_add(4)?, endian)? })
    }
}

/// A stream of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) kind: u32,
    pub(super) location: Location,
}

/// An opened minidump before anything of it is understood.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    pub(super) endian: Endian,
    pub(super) streams: Vec<Stream>,
    /// `TimeDateStamp`, seconds since 1970.
    pub(super) time: u32,
    /// The MINIDUMP_TYPE flags it was written with.
    pub(super) flags: u64,
    /// The largest file offset that anything promised, and was not there.
    pub(super) cut: bool,
    /// How many bytes of strings and records may still be read; `None` once that was too few.
    texts: Cell<Option<u64>>,
    pub(super) doubts: &'s Doubts,
}

impl<'s> Reader<'s> {
    /// Reads header and directory.
    pub(super) fn open(source: &'s Source, doubts: &'s Doubts) -> Result<Self, Error> {
        let head = source.bytes(0, 32);
        let endian = match head.get(..4) {
            Some(b"MDMP") => Endian::Little,
            Some(b"PMDM") => Endian::Big,
            _ => {
                let found = format!("{:02x?}", head.get(..4.min(head.len())).unwrap_or_default());
                return Err(Error::format(source.path(), 0, "a minidump (4d 44 4d 50)", found));
            }
        };
        let word = |at| u32_at(&head, at, endian);
        let (Some(count), Some(directory)) = (word(8), word(12)) else {
            return Err(Error::format(
                source.path(),
                head.len().to_u64(),
                "a header of 32 bytes",
                "the end of the file: it was cut off, fetch it again",
            ));
        };
        // Its low half: the high one is the writer's own.
        let version = word(4).and_then(|v| u16::try_from(v & 0xffff).ok());
        if let Some(version) = version.filter(|v| *v != VERSION) {
            let why = format!("its header has version {version:#x}, expected {VERSION:#x}; it is read all the same");
            doubts.push(Doubt::new("minidump", why));
        }
        let mut reader = Self {
            source,
            endian,
            streams: Vec::new(),
            time: word(20).unwrap_or(0),
            flags: u64_at(&head, 24, endian).unwrap_or(0),
            cut: false,
            texts: Cell::new(Some(LIMIT_TEXTS)),
            doubts,
        };
        reader.read_directory(count, u64::from(directory));
        Ok(reader)
    }

    fn read_directory(&mut self, count: u32, at: u64) {
        let wanted = count.to_usize();
        let kept = wanted.min(LIMIT_STREAMS);
        let raw = self.source.bytes(at, kept.saturating_mul(12));
        let (mut read, mut room) = (0_usize, self.source.len().saturating_mul(LIMIT_SHARED));
        for entry in raw.chunks_exact(12) {
            let stream = u32_at(entry, 0, self.endian).zip(Location::at(entry, 4, self.endian));
            let Some((kind, location)) = stream else { continue };
            read = read.saturating_add(1);
            let there = self.source.len().saturating_sub(location.rva.into()).min(location.size.into());
            if let Some(left) = room.checked_sub(there) {
                room = left;
                self.streams.push(Stream { kind, location });
            }
        }
        if self.streams.len() < read {
            let left = read.saturating_sub(self.streams.len());
            self.doubt(format!(
                "its streams are {LIMIT_SHARED} times as large as the file: {left} of them are left out"
            ));
        }
        if wanted > kept {
            self.doubt(format!("its header promises {wanted} streams; the first {kept} are looked at"));
        }
        if read < kept {
            self.cut = true;
            self.doubt(format!(
                "its directory at offset {at:#x} should have {wanted} entries and ends after {read}: the file is cut off"
            ));
        }
        let end = |s: &Stream| u64::from(s.location.rva).saturating_add(u64::from(s.location.size));
        let outside = self.streams.iter().filter(|s| s.kind != 0 && end(s) > self.source.len()).count();
        if outside > 0 {
            self.cut = true;
            let len = self.source.len();
            self.doubt(format!(
                "{outside} of its streams go on behind the end of the file at {len:#x}: what is there of them is read"
            ));
        }
    }

    pub(super) fn doubt(&self, why: impl Into<Box<str>>) {
        self.doubts.push(Doubt::new("minidump", why));
    }

    /// The bytes of all streams of a kind, in the order of the directory, as far as they are in the file.
    pub(super) fn all(&self, kind: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.streams.iter().filter(move |s| s.kind == kind).map(|s| self.bytes(s.location))
    }

    /// The first stream of a kind that has at least `least` bytes.
    pub(super) fn first(&self, kind: u32, least: usize) -> Option<Vec<u8>> {
        let found = self.all(kind).find(|b| b.len() >= least);
        if found.is_none() && self.streams.iter().any(|s| s.kind == kind) {
            self.doubt(format!("stream {kind:#x} is shorter than the {least} bytes it needs: it is left out"));
        }
        found
    }

    /// What lies at a location, as far as it is in the file, at most [`LIMIT_STREAM`].
    pub(super) fn bytes(&self, location: Location) -> Vec<u8> {
        self.source.bytes(u64::from(location.rva), location.size.to_usize().min(LIMIT_STREAM))
    }

    /// `MINIDUMP_STRING`: a length in bytes, then UTF-16 in the file's byte order.
    pub(super) fn utf16(&self, rva: u64) -> Option<String> {
        let raw = self.counted(rva)?;
        let units = raw.chunks_exact(2).filter_map(|c| u16_at(c, 0, self.endian));
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Some(text.trim_end_matches('\0').to_owned())
    }

    /// Crashpad's `MinidumpUTF8String`: a length in bytes, then UTF-8.
    pub(super) fn utf8(&self, rva: u64) -> Option<String> {
        let raw = self.counted(rva)?;
        Some(String::from_utf8_lossy(&raw).trim_end_matches('\0').to_owned())
    }

    /// A length in bytes, then so many bytes.
    pub(super) fn counted(&self, rva: u64) -> Option<Vec<u8>> {
        if rva == 0 {
            return None;
        }
        let length = u32_at(&self.source.bytes(rva, 4), 0, self.endian)?.to_usize();
        if length > LIMIT_STRING {
            self.doubt(format!("the string at offset {rva:#x} has {length} bytes; the first {LIMIT_STRING} are read"));
        }
        let length = length.min(LIMIT_STRING);
        self.may_read(length).then(|| rva.checked_add(4).map(|at| self.source.bytes(at, length)))?
    }

    /// The record of a module, whatever it is; empty when too much was read of such.
    pub(super) fn record(&self, location: Location) -> Vec<u8> {
        if self.may_read(location.size.to_usize()) { self.bytes(location) } else { Vec::new() }
    }

    /// Takes so many bytes from what strings and records may have together.
    fn may_read(&self, bytes: usize) -> bool {
        let Some(left) = self.texts.get() else { return false };
        self.texts.set(left.checked_sub(bytes.to_u64()));
        let may = self.texts.get().is_some();
        if !may {
            self.doubt(format!("its strings have more than {LIMIT_TEXTS} bytes together: the others are left out"));
        }
        may
    }

    /// The entries of a list: a 32-bit count, then entries of `size` bytes. Some writers align the first entry to eight
    /// bytes, which only the stream's size tells.
    pub(super) fn list<'b>(&self, what: &str, stream: &'b [u8], promised: u32, size: usize) -> Vec<&'b [u8]> {
        let Some(count) = u32_at(stream, 0, self.endian).map(ToUsize::to_usize) else { return Vec::new() };
        let exact = count.saturating_mul(size);
        let padded = promised.to_usize() == exact.saturating_add(8);
        let entries = stream.get(if padded { 8 } else { 4 }..).unwrap_or_default().chunks_exact(size);
        let list: Vec<&[u8]> = entries.take(count).collect();
        if list.len() < count {
            self.doubt(format!("the list of {what} promises {count} entries and holds {}", list.len()));
        }
        list
    }

    /// The entries of a list with its own sizes in front: header size, entry size, and a count of `wide` (eight) or four
    /// bytes. An entry that is shorter than `least` says nothing.
    pub(super) fn sized_list<'b>(&self, what: &str, stream: &'b [u8], wide: bool, least: usize) -> Vec<&'b [u8]> {
        let number = |at| u32_at(stream, at, self.endian).map(ToUsize::to_usize);
        let (Some(header), Some(entry)) = (number(0), number(4)) else { return Vec::new() };
        let count = if wide { u64_at(stream, 8, self.endian).map(ToUsize::to_usize) } else { number(8) };
        let Some(count) = count else { return Vec::new() };
        let shortest = if wide { 16 } else { 12 };
        if entry < least || header < shortest {
            self.doubt(format!(
                "the list of {what} says that its header has {header} and each entry {entry} bytes, expected at least {shortest} and {least}: it is left out"
            ));
            return Vec::new();
        }
        let list: Vec<&[u8]> = stream.get(header..).unwrap_or_default().chunks_exact(entry).take(count).collect();
        if list.len() < count {
            self.doubt(format!("the list of {what} promises {count} entries and holds {}", list.len()));
        }
        list
    }
}
