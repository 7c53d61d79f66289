//! The compressed kdump format of makedumpfile, QEMU and diskdump.
//!
//! Source: makedumpfile's `IMPLEMENTATION` and `diskdump_mod.h`. Block 0 holds the header, block 1 and following the
//! sub header, then two bitmaps (which pages are RAM; which are in the dump), then one 24-byte descriptor per page that
//! is in the dump, in the order of page frame numbers.

use super::vmcoreinfo::LIMIT_VMCOREINFO;
use crate::machine::{LIMIT_RUNS, Physical};
use crate::rank::Rank;
use crate::source::{ReadAt, exact};
use crate::{Error, linux::lzo};
use evidence::bytes::{Endian, i32_at, slice_at, u32_at, u64_at};
use evidence::{Absent, Doubt, ToU64, ToUsize};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Offset of `block_size` in a 64-bit `disk_dump_header`: signature 8, version 4, utsname 390, padding to 408,
/// timeval 16, status 4. 32-bit headers have a timeval of 8 bytes and no padding.
const BLOCK_SIZE_64: usize = 428;
/// Block sizes seen: 4 KiB (x86), 64 KiB (arm64, ppc64).
const LIMIT_BLOCK: u32 = 1 << 20;
/// Largest bitmap: 4 GiB of bits name 128 TiB of 4 KiB pages.
const LIMIT_BITMAP: u64 = 4 << 30;
/// Largest note area. One CPU's note takes some 400 bytes; 64 MiB serve 160,000 CPUs.
const LIMIT_NOTES: u64 = 64 << 20;
const DESCRIPTOR: u64 = 24;
const STATUS_INCOMPLETE: u32 = 8;

/// An opened kdump.
pub struct Kdump {
    source: Box<dyn ReadAt>,
    page: u64,
    /// Pages that are RAM.
    ram: Rank,
    /// Pages that are in the dump.
    dumped: Rank,
    descriptors: u64,
    /// Number of set bits before the first page of this part, for split files.
    first: u64,
    /// Pages of this part.
    start: u64,
    end: u64,
    split: bool,
    incomplete: bool,
    pub(super) notes: Vec<u8>,
    pub(super) vmcoreinfo: Vec<u8>,
    pub(super) machine: String,
    pub(super) doubts: Vec<Doubt>,
    pub(super) truncated_at: Option<u64>,
    /// Contexts that nobody uses at the moment: at most one for each thread that reads.
    zlib: Mutex<Vec<libdeflater::Decompressor>>,
    zstd: Mutex<Vec<zstd::bulk::Decompressor<'static>>>,
}

impl Kdump {
    /// Reads headers and bitmaps.
    pub(super) fn open(path: &Path, source: Box<dyn ReadAt>) -> Result<Self, Error> {
        let bad = |offset, expected, found: String| Error::Format { path: path.to_owned(), offset, expected, found };
        let head = exact(&*source, 0, 464)
            .ok_or_else(|| bad(0, "a kdump header of 464 bytes", format!("a file of {} bytes", source.size())))?;
        let le = Endian::Little;
        let version = i32_at(&head, 8, le).unwrap_or(0);
        let machine = evidence::bytes::c_str_at(slice_at(&head, 12 + 4 * 65, 65).unwrap_or_default(), 0);
        let block_size = u32_at(&head, BLOCK_SIZE_64, le).unwrap_or(0);
        if !block_size.is_power_of_two() || !(512..=LIMIT_BLOCK).contains(&block_size) {
            return Err(bad(
                428,
                "a block size of 512 bytes to 1 MiB (64-bit little-endian header)",
                format!("{block_size:#x} (32-bit and big-endian kdumps are not read)"),
            ));
        }
        let block = u64::from(block_size);
        let status = u32_at(&head, 424, le).unwrap_or(0);
        let sub_blocks = u64::from(u32_at(&head, 432, le).unwrap_or(0));
        let bitmap_blocks = u64::from(u32_at(&head, 436, le).unwrap_or(0));
        let max_mapnr = u64::from(u32_at(&head, 440, le).unwrap_or(0));
        let sub = exact(&*source, block, 112).unwrap_or_default();
        let field = |from: i32, at: usize| (version >= from).then(|| u64_at(&sub, at, le)).flatten().unwrap_or(0);
        let max_mapnr = if version >= 6 { field(6, 96) } else { max_mapnr };
        let bitmap_at = block.saturating_mul(sub_blocks.saturating_add(1));
        let bitmap_size = block.saturating_mul(bitmap_blocks);
        if bitmap_size > LIMIT_BITMAP || bitmap_size == 0 {
            return Err(bad(436, "bitmaps of 1 byte to 4 GiB", format!("{bitmap_size:#x} bytes")));
        }
        // makedumpfile 1.7.2 does not write the zeros at the end of the last block of a part without pages.
        let lost = bitmap_at.saturating_add(bitmap_size).saturating_sub(source.size());
        let there = bitmap_size.checked_sub(lost).filter(|_| lost < block).unwrap_or(bitmap_size);
        let mut bitmaps = exact(&*source, bitmap_at, there.to_usize()).ok_or_else(|| {
            bad(
                bitmap_at,
                "bitmaps inside the file",
                format!("{bitmap_size:#x} bytes in a file of {:#x}", source.size()),
            )
        })?;
        bitmaps.resize(bitmap_size.to_usize(), 0);
        // Dumps with one bitmap only have room for no more than max_mapnr bits.
        let half = bitmaps.len().wrapping_shr(1);
        let two = max_mapnr <= half.to_u64().saturating_mul(8);
        let (ram, dumped) =
            if two { bitmaps.split_at_checked(half).unwrap_or_default() } else { (&*bitmaps, &*bitmaps) };
        let (ram, dumped) = (Rank::new(ram.to_vec()), Rank::new(dumped.to_vec()));
        let split = version >= 2 && u32_at(&sub, 12, le) == Some(1);
        let (start, end) = match (split, version >= 6) {
            (false, _) => (0, u64::MAX),
            (true, true) => (field(6, 80), field(6, 88)),
            (true, false) => (field(2, 16), field(2, 24)),
        };
        let mut doubts = Vec::new();
        let mut area = |what: &'static str, at: u64, size: u64, limit: u64| {
            if size == 0 {
                return Vec::new();
            }
            let bytes = (size <= limit).then(|| exact(&*source, at, size.to_usize())).flatten();
            bytes.unwrap_or_else(|| {
                doubts.push(Doubt::new("kdump", format!("{what}: {size:#x} bytes at {at:#x} are not in the file")));
                Vec::new()
            })
        };
        let vmcoreinfo = area("VMCOREINFO", field(3, 32), field(3, 40), LIMIT_VMCOREINFO.to_u64());
        let notes = area("notes", field(4, 48), field(4, 56), LIMIT_NOTES);
        let descriptors = bitmap_at.saturating_add(bitmap_size);
        let first = dumped.rank(start);
        let last = dumped.rank(end.min(dumped.bits()));
        let table_end = descriptors.saturating_add(last.saturating_sub(first).saturating_mul(DESCRIPTOR));
        let mut truncated_at = None;
        if last > first && table_end > source.size() {
            truncated_at = Some(source.size());
            doubts.push(Doubt::new(
                "kdump",
                format!("the file ends at {:#x}, inside its table of pages ({table_end:#x})", source.size()),
            ));
        }
        if lost > 0 && !split {
            truncated_at = Some(source.size());
            doubts.push(Doubt::new("kdump", format!("the last {lost} bytes of its bitmaps are not in the file")));
        }
        let incomplete = status & STATUS_INCOMPLETE != 0;
        if incomplete {
            doubts.push(Doubt::new("kdump", "the dump says of itself that it is incomplete: the disk was full"));
        }
        Ok(Self {
            page: block,
            ram,
            dumped,
            descriptors,
            first,
            start,
            end,
            split,
            incomplete,
            notes,
            vmcoreinfo,
            machine: machine.unwrap_or_default(),
            doubts,
            truncated_at,
            zlib: Mutex::default(),
            zstd: Mutex::default(),
            source,
        })
    }

    /// Whether this is one of the files of a split dump.
    pub(super) const fn is_part(&self) -> bool {
        self.split
    }

    /// The numbers of the pages whose descriptors are in this file.
    pub(super) const fn range(&self) -> std::ops::Range<u64> {
        self.start..self.end
    }

    /// Whether the dump, of which this may be a part, has one of these pages.
    pub(super) fn holds(&self, pages: std::ops::Range<u64>) -> bool {
        let bits = self.dumped.bits();
        self.dumped.rank(pages.end.min(bits)) > self.dumped.rank(pages.start.min(bits))
    }

    /// Whether both are of the same dump.
    pub(super) fn same_dump(&self, other: &Self) -> bool {
        self.page == other.page && self.vmcoreinfo == other.vmcoreinfo && self.dumped == other.dumped
    }

    fn decompress(&self, flags: u32, data: Vec<u8>) -> Result<Vec<u8>, Absent> {
        let page = self.page.to_usize();
        let mut out = Vec::new();
        match flags & 0x27 {
            0 => out = data,
            1 => {
                // As with zstd: a decoder is worth keeping.
                let free = self.zlib.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut decoder = free.unwrap_or_default();
                // A stream that goes on after the page is an error of its own.
                out.resize(page, 0);
                let end = decoder.zlib_decompress(&data, &mut out);
                self.zlib.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
                out.truncate(end.map_err(|_| Absent::Corrupt)?);
            }
            2 => out = lzo::decompress(&data, page).map_err(|_| Absent::Corrupt)?,
            4 => {
                let length = snap::raw::decompress_len(&data).map_err(|_| Absent::Corrupt)?;
                if length > page {
                    return Err(Absent::Corrupt);
                }
                out = snap::raw::Decoder::new().decompress_vec(&data).map_err(|_| Absent::Corrupt)?;
            }
            0x20 => {
                // A context is worth keeping: making one costs more than a page.
                let free = self.zstd.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut decoder = free.map_or_else(zstd::bulk::Decompressor::new, Ok).map_err(|_| Absent::Corrupt)?;
                out = decoder.decompress(&data, page).map_err(|_| Absent::Corrupt)?;
                self.zstd.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
            }
            _ => return Err(Absent::Corrupt),
        }
        if out.len() == page { Ok(out) } else { Err(Absent::Corrupt) }
    }
}

impl Physical for Kdump {
    fn page_size(&self) -> u64 {
        self.page
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
        if !self.dumped.get(number) {
            return Err(if self.ram.get(number) { Absent::Filtered } else { Absent::Unmapped });
        }
        if number >= self.end {
            return Err(Absent::Truncated);
        }
        let Some(index) = self.dumped.rank(number).checked_sub(self.first) else { return Err(Absent::Truncated) };
        let at = self.descriptors.saturating_add(index.saturating_mul(DESCRIPTOR));
        let descriptor = exact(&*self.source, at, DESCRIPTOR.to_usize()).ok_or(Absent::Truncated)?;
        let le = Endian::Little;
        let offset = u64_at(&descriptor, 0, le).unwrap_or(0);
        let size = u32_at(&descriptor, 8, le).unwrap_or(0);
        let flags = u32_at(&descriptor, 12, le).unwrap_or(0);
        if offset == 0 && size == 0 {
            return Err(if self.incomplete { Absent::Truncated } else { Absent::Corrupt });
        }
        // A page that did not shrink is stored raw, never as a longer stream.
        if size == 0 || u64::from(size) > self.page {
            return Err(Absent::Corrupt);
        }
        if offset.saturating_add(u64::from(size)) > self.source.size() {
            return Err(Absent::Truncated);
        }
        let data = exact(&*self.source, offset, size.to_usize()).ok_or(Absent::Truncated)?;
        self.decompress(flags, data)
    }

    fn runs(&self) -> Vec<std::ops::Range<u64>> {
        self.dumped.runs().take(LIMIT_RUNS).collect()
    }
}
