//! Minidumps: the pages that the kernel itself uses, of amd64, arm64 and i386.
//!
//! Source: `machine/minidump.h` and `minidump_machdep.c` of each, libkvm's `kvm_minidump_*.c`. One page of header
//! (little-endian), the message buffer, from the version with `dump_avail` on the ranges of memory that there were, a
//! bitmap of the pages that were dumped, the kernel's page tables in a form of their own, and the pages in the order of
//! their bits. Everything starts on a page.

use crate::Error;
use crate::machine::{LIMIT_RUNS, Pages, Physical, Translate};
use crate::paging::Translation;
use crate::rank::Rank;
use crate::source::{ReadAt, exact, prefix};
use evidence::bytes::{Endian, c_str_at, slice_at, u32_at, u64_at};
use evidence::{Absent, Addr, Arch, Doubt, PhysAddr, ToUsize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the fixed part of any header, with room to spare.
const HEADER: usize = 128;
/// Largest message buffer: kernels have 96 KiB; administrators set some megabytes.
const LIMIT_MESSAGES: u64 = 256 << 20;
/// Largest list of memory ranges: one entry per bank and hole.
const LIMIT_RANGES: u64 = 16 << 20;
/// Largest bitmap: 4 GiB of bits name 128 TiB of 4 KiB pages.
const LIMIT_BITMAP: u64 = 4 << 30;

/// What the header says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub arch: Arch,
    pub version: u32,
    pub page: u64,
    /// Lowest address of the kernel's own mappings.
    pub kernel_base: u64,
    /// Where all physical memory is mapped, and the physical address of its start.
    pub direct: Option<(Range<u64>, u64)>,
    /// Bytes of an entry of the page tables.
    pub entry: u64,
    pub raw: Vec<u8>,
}

/// An opened minidump.
pub(super) struct Minidump {
    pub header: Header,
    pub messages: Vec<u8>,
    pub physical: Box<dyn Physical>,
    pub tables: Arc<dyn Translate>,
    pub doubts: Vec<Doubt>,
    pub truncated_at: Option<u64>,
}

/// The pages of a dump.
struct DumpedPages {
    source: Arc<dyn ReadAt>,
    page: u64,
    /// Where the first page is.
    start: u64,
    bits: Rank,
    /// The ranges that the bits stand for, in page numbers, with the number of the first bit; empty: bit n is page n.
    ranges: Vec<(Range<u64>, u64)>,
}

impl DumpedPages {
    fn bit(&self, number: u64) -> Option<u64> {
        if self.ranges.is_empty() {
            return Some(number);
        }
        let (range, first) = self.ranges.iter().find(|(r, _)| r.contains(&number))?;
        first.checked_add(number.checked_sub(range.start)?)
    }
}

impl Physical for DumpedPages {
    fn page_size(&self) -> u64 {
        self.page
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
        let bit = self.bit(number).ok_or(Absent::Unmapped)?;
        if !self.bits.get(bit) {
            // Beyond the bitmap there is no memory; below it pages of no interest to the kernel were left out.
            return Err(if bit >= self.bits.bits() { Absent::Unmapped } else { Absent::Filtered });
        }
        let at = self.bits.rank(bit).checked_mul(self.page).and_then(|o| o.checked_add(self.start));
        // The last page of a file that was cut off is there in part.
        prefix(&*self.source, at.ok_or(Absent::Corrupt)?, self.page.to_usize())
    }

    fn short(&self) -> Absent {
        Absent::Truncated
    }

    fn runs(&self) -> Vec<Range<u64>> {
        let mut runs = Vec::new();
        for run in self.bits.runs().take(LIMIT_RUNS) {
            if self.ranges.is_empty() {
                runs.push(run);
                continue;
            }
            for (range, first) in &self.ranges {
                let last = first.saturating_add(range.end.saturating_sub(range.start));
                let (start, end) = (run.start.max(*first), run.end.min(last));
                if start < end {
                    let page = |bit: u64| range.start.saturating_add(bit.saturating_sub(*first));
                    runs.push(page(start)..page(end));
                }
            }
        }
        runs.sort_by_key(|r| r.start);
        runs
    }
}

/// The kernel's page tables as a minidump holds them.
struct DumpedTables {
    source: Arc<dyn ReadAt>,
    /// Where they are in the file, and how many bytes.
    start: u64,
    size: u64,
    header: Header,
}

/// Bits 12 to 51 of an x86 entry, 12 to 47 of an AArch64 one.
const X86_FRAME: u64 = 0x000f_ffff_ffff_f000;
const ARM_FRAME: u64 = 0x0000_ffff_ffff_f000;

impl DumpedTables {
    /// Entry `index`, zero-extended.
    fn entry(&self, index: u64) -> Result<u64, Absent> {
        let at = index.checked_mul(self.header.entry).ok_or(Absent::Unmapped)?;
        if at.saturating_add(self.header.entry) > self.size {
            return Err(Absent::Unmapped);
        }
        let raw = exact(&*self.source, self.start.saturating_add(at), self.header.entry.to_usize());
        let raw = raw.ok_or(Absent::Truncated)?;
        let narrow = u32_at(&raw, 0, Endian::Little).map(u64::from);
        u64_at(&raw, 0, Endian::Little).or(narrow).ok_or(Absent::Truncated)
    }
}

/// The page at `frame` (or the larger one of `1 << shift` bytes) that `at` lies in.
fn found(frame: u64, at: u64, shift: u32) -> Translation {
    let within = 1_u64.wrapping_shl(shift).wrapping_sub(1);
    let offset = at & within;
    Translation {
        physical: PhysAddr((frame & !within).wrapping_add(offset)),
        left: within.wrapping_sub(offset).wrapping_add(1),
    }
}

impl Translate for DumpedTables {
    fn translate(&self, at: Addr, pages: &Pages) -> Result<Translation, Absent> {
        let header = &self.header;
        if let Some((range, physical)) = header.direct.as_ref().filter(|(r, _)| r.contains(&at.0)) {
            let offset = at.0.wrapping_sub(range.start);
            let there = PhysAddr(physical.wrapping_add(offset));
            return Ok(Translation { physical: there, left: range.end.wrapping_sub(at.0).min(1 << 30) });
        }
        let Some(above) = at.0.checked_sub(header.kernel_base) else {
            // Programs' memory is no part of a minidump.
            return Err(Absent::Filtered);
        };
        match header.arch {
            // Version 1 holds one entry per page, later ones the entries of the level above, one per 2 MiB.
            Arch::X86_64 if header.version >= 2 => {
                let directory = self.entry(above >> 21)?;
                if directory & 1 == 0 {
                    return Err(Absent::Unmapped);
                }
                if directory & 0x80 != 0 {
                    return Ok(found(directory & X86_FRAME, at.0, 21));
                }
                let slot = at.0.wrapping_shr(12) & 0x1ff;
                let table = directory & X86_FRAME;
                let entry = pages.entry(PhysAddr(table.wrapping_add(slot.wrapping_mul(8))))?;
                if entry & 1 == 0 { Err(Absent::Unmapped) } else { Ok(found(entry & X86_FRAME, at.0, 12)) }
            }
            Arch::X86_64 | Arch::X86 => {
                let entry = self.entry(above >> 12)?;
                if entry & 1 == 0 { Err(Absent::Unmapped) } else { Ok(found(entry & X86_FRAME, at.0, 12)) }
            }
            // Blocks are written as so many pages; bits 1 and 0 say 3 for a page and 1 for a block.
            _ => {
                let shift = header.page.trailing_zeros();
                let entry = self.entry(above.wrapping_shr(shift))?;
                if entry & 1 == 0 { Err(Absent::Unmapped) } else { Ok(found(entry & ARM_FRAME, at.0, shift)) }
            }
        }
    }
}

fn header(raw: &[u8]) -> Result<Header, (u64, &'static str, String)> {
    let name = c_str_at(slice_at(raw, 0, 24).unwrap_or_default(), 0).unwrap_or_default();
    let le = Endian::Little;
    let word = |at| u32_at(raw, at, le).map(u64::from).unwrap_or(0);
    let long = |at| u64_at(raw, at, le).unwrap_or(0);
    let version = u32_at(raw, 24, le).unwrap_or(0);
    let known = |most| {
        let expected = "a version of this architecture that is known (amd64 1 to 3, arm64 1 to 3, i386 1 and 2)";
        if (1..=most).contains(&version) { Ok(()) } else { Err((24, expected, format!("{version}"))) }
    };
    let span = |start: u64, end: u64| (start < end).then_some(start..end);
    let mut header = Header {
        arch: Arch::Other,
        version,
        page: 4096,
        kernel_base: long(40),
        direct: None,
        entry: 8,
        raw: raw.to_vec(),
    };
    match name.as_str() {
        "minidump FreeBSD/amd64" => {
            known(3)?;
            header.arch = Arch::X86_64;
            header.direct = span(long(48), long(56)).map(|r| (r, 0));
        }
        "minidump FreeBSD/arm64" => {
            known(3)?;
            header.arch = Arch::Aarch64;
            header.direct = span(long(56), long(64)).map(|r| (r, long(48)));
            // MINIDUMP_FLAG_PS_MASK: 0 for 4 KiB, 1 for 16 KiB.
            if version >= 3 && word(76) & 3 == 1 {
                header.page = 16_384;
            }
        }
        "minidump FreeBSD/i386" => {
            known(2)?;
            header.arch = Arch::X86;
            header.kernel_base = word(40);
            header.entry = if word(44) == 0 { 4 } else { 8 };
        }
        other => return Err((0, "a minidump of amd64, arm64 or i386", format!("{other:?}"))),
    }
    Ok(header)
}

pub(super) fn open(path: &Path, source: Arc<dyn ReadAt>) -> Result<Minidump, Error> {
    let bad = |offset, expected, found: String| Error::Format { path: path.to_owned(), offset, expected, found };
    let raw = exact(&*source, 0, HEADER)
        .ok_or_else(|| bad(0, "a minidump header of 128 bytes", format!("a file of {} bytes", source.size())))?;
    let header = header(&raw).map_err(|(offset, expected, found)| bad(offset, expected, found))?;
    let le = Endian::Little;
    let word = |at| u32_at(&raw, at, le).map(u64::from).unwrap_or(0);
    let (message_bytes, bitmap_bytes, table_bytes) = (word(28), word(32), word(36));
    // dump_avail came with version 3 of amd64 and version 2 of the others.
    let range_bytes = match (header.arch, header.version) {
        (Arch::X86_64, 3..) => word(64),
        (Arch::Aarch64, 2..) => word(72),
        (Arch::X86, 2..) => word(48),
        _ => 0,
    };
    for (what, size, limit) in [
        ("a message buffer of at most 256 MiB", message_bytes, LIMIT_MESSAGES),
        ("at most 16 MiB of memory ranges", range_bytes, LIMIT_RANGES),
        ("a bitmap of at most 4 GiB", bitmap_bytes, LIMIT_BITMAP),
    ] {
        if size > limit {
            return Err(bad(28, what, format!("{size:#x} bytes")));
        }
    }
    let round = |bytes: u64| bytes.div_ceil(header.page).saturating_mul(header.page);
    let messages_at = header.page;
    let ranges_at = messages_at.saturating_add(round(message_bytes));
    let bitmap_at = ranges_at.saturating_add(round(range_bytes));
    let tables_at = bitmap_at.saturating_add(round(bitmap_bytes));
    let start = tables_at.saturating_add(round(table_bytes));
    let mut doubts = Vec::new();
    let bitmap = exact(&*source, bitmap_at, bitmap_bytes.to_usize()).ok_or_else(|| {
        bad(
            bitmap_at,
            "the bitmap of pages inside the file",
            format!("{bitmap_bytes:#x} bytes in a file of {:#x}", source.size()),
        )
    })?;
    let messages = exact(&*source, messages_at, message_bytes.to_usize()).unwrap_or_default();
    let raw_ranges = exact(&*source, ranges_at, range_bytes.to_usize()).unwrap_or_default();
    let ranges = ranges(&raw_ranges, header.page);
    if range_bytes > 0 && ranges.is_empty() {
        doubts.push(Doubt::new("minidump", "the list of memory ranges is empty: pages are taken as numbered from 0"));
    }
    let bits = Rank::new(bitmap);
    let expected = start.saturating_add(bits.rank(u64::MAX).saturating_mul(header.page));
    let mut truncated_at = None;
    if expected > source.size() {
        truncated_at = Some(source.size());
        doubts.push(Doubt::new(
            "minidump",
            format!("the file ends at {:#x}, and its header speaks of {expected:#x} bytes", source.size()),
        ));
    }
    let physical = DumpedPages { source: source.clone(), page: header.page, start, bits, ranges };
    let tables = DumpedTables { source, start: tables_at, size: table_bytes, header: header.clone() };
    Ok(Minidump { header, messages, physical: Box::new(physical), tables: Arc::new(tables), doubts, truncated_at })
}

/// `dump_avail`: pairs of start and end up to a pair of zeros, on all architectures as 64-bit addresses.
fn ranges(raw: &[u8], page: u64) -> Vec<(Range<u64>, u64)> {
    let mut ranges = Vec::new();
    let mut first = 0_u64;
    for pair in raw.chunks_exact(16) {
        let field = |at| u64_at(pair, at, Endian::Little).unwrap_or(0);
        let (start, end) = (field(0), field(8));
        if start == 0 && end == 0 {
            break;
        }
        let numbers = start.checked_div(page).unwrap_or(0)..end.div_ceil(page);
        let count = numbers.end.saturating_sub(numbers.start);
        ranges.push((numbers, first));
        first = first.saturating_add(count);
    }
    ranges
}

/// Whether the first bytes are a minidump's.
pub(super) fn is_minidump(head: &[u8]) -> bool {
    head.starts_with(b"minidump FreeBSD/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_by_ranges_of_memory() {
        let mut raw = Vec::new();
        for n in [0x0_u64, 0x3000, 0x10_0800, 0x10_3000, 0, 0, 7, 9] {
            raw.extend(n.to_le_bytes());
        }
        let ranges = ranges(&raw, 4096);
        assert_eq!(ranges, [(0..3, 0), (0x100..0x103, 3)]);
        let pages = DumpedPages {
            source: Arc::new(vec![0_u8; 3 * 4096]),
            page: 4096,
            start: 0,
            bits: Rank::new(vec![0b10_1001]),
            ranges,
        };
        assert_eq!(pages.runs(), [0..1, 0x100..0x101, 0x102..0x103]);
        assert_eq!(pages.page(1), Err(Absent::Filtered));
        assert_eq!(pages.page(3), Err(Absent::Unmapped));
        assert!(pages.page(0x102).is_ok());
    }
}
