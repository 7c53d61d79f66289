//! ELF header and program headers of a core.

use crate::Error;
use crate::input::Input;
use evidence::bytes::{Endian, u16_at, u32_at, u64_at};
use evidence::{Addr, Arch, Doubt, Gaps, Protection, ToU64, ToUsize};
use std::ops::Range;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const ET_CORE: u16 = 4;
/// `e_phnum` when the count does not fit: it is in the first section's `sh_info`.
const PN_XNUM: u16 = 0xffff;
/// Most segments read. Linux allows 65,530 mappings unless told otherwise; `vm.max_map_count` of millions exist.
const LIMIT_SEGMENTS: u64 = 1 << 23;

/// A loaded segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The addresses it covers.
    pub range: Range<Addr>,
    /// Where its bytes lie in the file.
    pub offset: u64,
    /// How many of them there are; the rest was not dumped.
    pub file_size: u64,
    /// What the mapping allowed.
    pub protection: Protection,
}

/// A segment of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteSegment {
    /// Where it lies in the file.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its alignment: 4 or 8.
    pub align: u64,
}

/// What the headers of a core say.
#[derive(Clone, Debug)]
pub struct Header {
    /// Architecture by `e_machine`.
    pub arch: Arch,
    /// Byte order.
    pub endian: Endian,
    /// 8 for 64-bit cores, 4 for 32-bit ones.
    pub address_size: u8,
    /// Sorted by address, not overlapping.
    pub segments: Vec<Segment>,
    /// In file order.
    pub note_segments: Vec<NoteSegment>,
}

impl Header {
    /// Reads the headers of `input`.
    pub(super) fn read(input: &Input, gaps: &mut Gaps) -> Result<Self, Error> {
        let bad = |at: u64, expected: &str, found: String| Error::format(input.name(), at, expected, found);
        let ident = input
            .exact(0, 52)
            .ok_or_else(|| bad(0, "an ELF header of 52 bytes or more", format!("a file of {} bytes", input.size())))?;
        let is_64 = match ident.get(4) {
            Some(1) => false,
            Some(2) => true,
            other => return Err(bad(4, "ELF class 1 or 2", format!("{other:?}"))),
        };
        let endian = match ident.get(5) {
            Some(1) => Endian::Little,
            Some(2) => Endian::Big,
            other => return Err(bad(5, "ELF byte order 1 or 2", format!("{other:?}"))),
        };
        let head = if is_64 { input.exact(0, 64) } else { Some(ident) }
            .ok_or_else(|| bad(0, "an ELF header of 64 bytes", format!("a file of {} bytes", input.size())))?;
        let kind = u16_at(&head, 16, endian).unwrap_or(0);
        if kind != ET_CORE {
            let what = match kind {
                1 => "an object file",
                2 | 3 => "an executable or library (give it with --exe, and name the core as the source)",
                _ => "another type",
            };
            return Err(bad(16, "an ELF core (type 4)", format!("type {kind}, {what}")));
        }
        let arch = match u16_at(&head, 18, endian).unwrap_or(0) {
            3 => Arch::X86,
            40 => Arch::Arm,
            62 => Arch::X86_64,
            183 => Arch::Aarch64,
            other => {
                let expected = "x86-64 (62), AArch64 (183), i386 (3) or ARM (40) as the machine";
                return Err(bad(18, expected, format!("machine {other}")));
            }
        };
        let word = |bytes: &[u8], at32: usize, at64: usize| {
            if is_64 { u64_at(bytes, at64, endian) } else { u32_at(bytes, at32, endian).map(u64::from) }.unwrap_or(0)
        };
        let table = word(&head, 28, 32);
        let entry = u64::from(u16_at(&head, if is_64 { 54 } else { 42 }, endian).unwrap_or(0));
        let smallest = if is_64 { 56 } else { 32 };
        if entry < smallest {
            return Err(bad(
                if is_64 { 54 } else { 42 },
                "program headers of the class's size",
                format!("{entry} bytes"),
            ));
        }
        let short = u16_at(&head, if is_64 { 56 } else { 44 }, endian).unwrap_or(0);
        let mut count = u64::from(short);
        if short == PN_XNUM {
            let sections = word(&head, 32, 40);
            let info = input.exact(sections, if is_64 { 64 } else { 40 });
            match info.and_then(|s| u32_at(&s, if is_64 { 44 } else { 28 }, endian)) {
                Some(n) => count = u64::from(n),
                None => gaps.doubts.push(Doubt::new(
                    "program-headers",
                    format!("the number of segments should be in the section header at offset {sections:#x}, outside the file"),
                )),
            }
        }
        if count > LIMIT_SEGMENTS {
            gaps.doubts.push(Doubt::new(
                "program-headers",
                format!("the core claims {count} segments; {LIMIT_SEGMENTS} were read"),
            ));
            count = LIMIT_SEGMENTS;
        }
        let there = input.size().saturating_sub(table).checked_div(entry).unwrap_or(0);
        if count > there {
            gaps.truncated_at = Some(input.size());
            gaps.doubts.push(Doubt::new(
                "program-headers",
                format!("the file ends at offset {:#x}, inside its table of {count} segments", input.size()),
            ));
            count = there;
        }
        let size = count.saturating_mul(entry);
        let bytes = input.exact(table, size.to_usize()).unwrap_or_default();
        let (mut segments, mut note_segments) = (Vec::new(), Vec::new());
        for p in bytes.chunks_exact(entry.to_usize()) {
            let (offset, address) = (word(p, 4, 8), word(p, 8, 16));
            let (file_size, memory_size) = (word(p, 16, 32), word(p, 20, 40));
            let flags = u32_at(p, if is_64 { 4 } else { 24 }, endian).unwrap_or(0);
            match u32_at(p, 0, endian) {
                Some(PT_LOAD) => {
                    let size = memory_size.max(file_size);
                    let end = address.saturating_add(size);
                    if address < end {
                        segments.push(Segment {
                            range: Addr(address)..Addr(end),
                            offset,
                            file_size: file_size.min(end.saturating_sub(address)),
                            protection: Protection {
                                execute: flags & 1 != 0,
                                write: flags & 2 != 0,
                                read: flags & 4 != 0,
                            },
                        });
                    }
                }
                Some(PT_NOTE) => {
                    note_segments.push(NoteSegment { offset, size: file_size, align: word(p, 28, 48) });
                }
                _ => {}
            }
        }
        let segments = disjoint(segments, gaps);
        note_truncation(input, &segments, gaps);
        Ok(Self { arch, endian, address_size: if is_64 { 8 } else { 4 }, segments, note_segments })
    }
}

/// Sorts by address; where two segments claim the same addresses, the first one of the file keeps them.
fn disjoint(mut segments: Vec<Segment>, gaps: &mut Gaps) -> Vec<Segment> {
    segments.sort_by_key(|s| s.range.start);
    let mut out: Vec<Segment> = Vec::with_capacity(segments.len());
    let mut overlaps = 0_u64;
    for mut s in segments {
        if let Some(last) = out.last().filter(|l| s.range.start < l.range.end) {
            overlaps = overlaps.saturating_add(1);
            let cut = last.range.end.0.saturating_sub(s.range.start.0);
            s.range.start = last.range.end;
            s.offset = s.offset.saturating_add(cut);
            s.file_size = s.file_size.saturating_sub(cut);
            if s.range.start >= s.range.end {
                continue;
            }
        }
        out.push(s);
    }
    if overlaps > 0 {
        gaps.doubts.push(Doubt::new("program-headers", format!("{overlaps} segments overlap others and were cut")));
    }
    out
}

fn note_truncation(input: &Input, segments: &[Segment], gaps: &mut Gaps) {
    let mut missing = 0_u64;
    for s in segments {
        let end = s.offset.saturating_add(s.file_size);
        missing = missing.saturating_add(end.saturating_sub(s.offset.max(input.size())));
        let not_dumped = s.range.end.0.saturating_sub(s.range.start.0).saturating_sub(s.file_size);
        gaps.filtered_bytes = gaps.filtered_bytes.saturating_add(not_dumped);
    }
    if missing > 0 {
        gaps.truncated_at = Some(input.size());
        gaps.doubts.push(Doubt::new(
            "truncated",
            format!(
                "the core ends at offset {:#x}; {missing} bytes of memory that its headers promise are not there",
                input.size()
            ),
        ));
    }
    debug_assert!(segments.len().to_u64() <= LIMIT_SEGMENTS);
}
