//! ELF vmcores: `/proc/vmcore` as copied by kexec-tools, and QEMU's dumps.
//!
//! QEMU 7.2 writes `e_ehsize` 8 and puts section headers before program headers: only `e_phoff` counts. It also sets
//! `p_vaddr` to `p_paddr`, so virtual addresses of segments are not used at all: the page tables are.
//!
//! `/proc/kcore` has the same shape for a kernel that runs (fs/proc/kcore.c): offsets reach terabytes, as they are virtual
//! addresses, nothing is stored, and its notes have no registers, only zeros. Ranges that have no one physical address
//! (vmalloc, modules) have a `p_paddr` of all ones, and read as zeros where nothing is mapped: they are passed over, and
//! the page tables lead to what is there. Linux 4.18 and before gave no physical addresses and no VMCOREINFO.

use crate::Error;
use crate::machine::{LIMIT_RUNS, Physical};
use crate::source::{ReadAt, exact};
use evidence::bytes::{Endian, slice_at, u16_at, u32_at, u64_at};
use evidence::{Absent, Doubt, ToU64, ToUsize};
use std::path::Path;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` of a file whose true count is in section 0's `sh_info`.
const PN_XNUM: u16 = 0xffff;
/// Most program headers read: one per memory range, and the largest machines have thousands.
const LIMIT_SEGMENTS: u64 = 1 << 20;
/// Largest note segment; see kdump's.
const LIMIT_NOTES: u64 = 64 << 20;
/// `p_paddr` of a range of `/proc/kcore` that is no direct image of physical memory.
const NO_PHYSICAL: u64 = u64::MAX;
/// ELF vmcores have no page size of their own; 4 KiB divides all.
const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Segment {
    physical: u64,
    offset: u64,
    file_size: u64,
    memory_size: u64,
}

/// An opened ELF vmcore.
pub struct ElfDump {
    source: Box<dyn ReadAt>,
    segments: Vec<Segment>,
    pub(super) notes: Vec<u8>,
    pub(super) machine: u16,
    pub(super) doubts: Vec<Doubt>,
    pub(super) truncated_at: Option<u64>,
    /// It is `/proc/kcore`: what it shows goes on running.
    pub(super) live: bool,
}

impl ElfDump {
    pub(super) fn open(path: &Path, source: Box<dyn ReadAt>) -> Result<Self, Error> {
        let bad = |offset, expected, found: String| Error::Format { path: path.to_owned(), offset, expected, found };
        let head = exact(&*source, 0, 64)
            .ok_or_else(|| bad(0, "an ELF header of 64 bytes", format!("a file of {} bytes", source.size())))?;
        if slice_at(&head, 4, 2) != Some(&[2, 1]) {
            let found = format!("class {:?}, byte order {:?}", head.get(4), head.get(5));
            return Err(bad(4, "64-bit little-endian ELF", found));
        }
        let le = Endian::Little;
        let kind = u16_at(&head, 16, le).unwrap_or(0);
        if kind != 4 {
            return Err(bad(16, "an ELF core (type 4)", format!("type {kind}")));
        }
        let machine = u16_at(&head, 18, le).unwrap_or(0);
        let phoff = u64_at(&head, 32, le).unwrap_or(0);
        let entry = u64::from(u16_at(&head, 54, le).unwrap_or(0));
        if entry < 56 {
            return Err(bad(54, "program headers of 56 bytes or more", format!("{entry}")));
        }
        let mut count = u64::from(u16_at(&head, 56, le).unwrap_or(0));
        let mut doubts = Vec::new();
        if count == u64::from(PN_XNUM) {
            let shoff = u64_at(&head, 40, le).unwrap_or(0);
            if let Some(n) = exact(&*source, shoff, 64).and_then(|s| u32_at(&s, 44, le)) {
                count = u64::from(n);
            }
        }
        if count > LIMIT_SEGMENTS {
            doubts.push(Doubt::new("elf", format!("{count} program headers; only {LIMIT_SEGMENTS} were read")));
            count = LIMIT_SEGMENTS;
        }
        let mut segments = Vec::new();
        let mut notes = Vec::new();
        let mut truncated_at = None;
        let mut live = false;
        for index in 0..count {
            let at = phoff.saturating_add(index.saturating_mul(entry));
            let Some(p) = exact(&*source, at, 56) else {
                doubts.push(Doubt::new("elf", format!("program header {index} at {at:#x} lies outside the file")));
                truncated_at = Some(source.size());
                break;
            };
            let field = |at| u64_at(&p, at, le).unwrap_or(0);
            let (offset, physical, file_size, memory_size) = (field(8), field(24), field(32), field(40));
            match u32_at(&p, 0, le) {
                Some(PT_LOAD) if physical == NO_PHYSICAL => live = true,
                Some(PT_LOAD) if file_size > 0 => {
                    if offset.saturating_add(file_size) > source.size() {
                        truncated_at = Some(source.size());
                    }
                    segments.push(Segment { physical, offset, file_size, memory_size });
                }
                Some(PT_NOTE) if file_size <= LIMIT_NOTES => match exact(&*source, offset, file_size.to_usize()) {
                    Some(bytes) => notes.extend(bytes),
                    None => doubts.push(Doubt::new("elf", format!("notes at {offset:#x} lie outside the file"))),
                },
                _ => {}
            }
        }
        // The length that the system tells of `/proc/kcore` is of the time when its table was made.
        let truncated_at = truncated_at.filter(|_| !live);
        if let Some(end) = truncated_at {
            doubts.push(Doubt::new("elf", format!("the file ends at {end:#x}, before its headers say")));
        }
        segments.sort_by_key(|s| s.physical);
        Ok(Self { source, segments, notes, machine, doubts, truncated_at, live })
    }
}

impl Physical for ElfDump {
    fn page_size(&self) -> u64 {
        PAGE
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
        let at = number.checked_mul(PAGE).ok_or(Absent::Unmapped)?;
        // Segments may overlap (kernel text and direct map name the same memory); equal bytes, so any will do.
        let index = self.segments.partition_point(|s| s.physical <= at);
        let candidates = self.segments.get(..index).unwrap_or_default();
        let found =
            candidates.iter().rev().take(16).find(|s| at.saturating_sub(s.physical) < s.memory_size.max(s.file_size));
        let segment = found.ok_or(Absent::Unmapped)?;
        let skip = at.saturating_sub(segment.physical);
        let there = segment.file_size.saturating_sub(skip).min(PAGE);
        if there == 0 {
            return Err(Absent::Filtered);
        }
        let mut page = vec![0; there.to_usize()];
        let got = self.source.read_at(segment.offset.saturating_add(skip), &mut page).map_err(|_| Absent::Corrupt)?;
        page.truncate(got);
        if got == 0 { Err(Absent::Truncated) } else { Ok(page) }
    }

    fn runs(&self) -> Vec<std::ops::Range<u64>> {
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        for s in self.segments.iter().take(LIMIT_RUNS) {
            let (start, end) = (s.physical >> 12, s.physical.saturating_add(s.file_size).div_ceil(PAGE));
            match runs.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => runs.push(start..end),
            }
        }
        debug_assert!(runs.len().to_u64() <= LIMIT_SEGMENTS);
        runs
    }
}
