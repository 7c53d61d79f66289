//! Full dumps: all of memory as segments of an ELF core.
//!
//! Source: `sys/kern/kern_dump.c`. `p_paddr` and `p_vaddr` are the physical address, there are no notes, and
//! `e_ident[EI_OSABI]` is `ELFOSABI_STANDALONE`. Virtual addresses are translated by the kernel's own page tables.

use crate::Error;
use crate::machine::Physical;
use crate::source::{ReadAt, exact, prefix};
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use evidence::{Absent, Arch, Doubt, ToU64, ToUsize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const STANDALONE: u8 = 255;
const FREEBSD: u8 = 9;
const CORE: u16 = 4;
const LOAD: u32 = 1;
const PAGE: u64 = 4096;
/// Most segments: one per range of memory.
const LIMIT_SEGMENTS: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
struct Segment {
    physical: u64,
    offset: u64,
    size: u64,
}

/// An opened full dump.
pub(super) struct Full {
    source: Arc<dyn ReadAt>,
    segments: Vec<Segment>,
    pub arch: Arch,
    pub doubts: Vec<Doubt>,
    pub truncated_at: Option<u64>,
}

/// Whether the first bytes are those of a FreeBSD kernel's ELF dump: a core whose system is "none", or FreeBSD, without
/// notes. Linux's have notes.
pub(super) fn is_full(source: &dyn ReadAt) -> bool {
    let Some(head) = exact(source, 0, 52) else { return false };
    let system = u8_at(&head, 7).unwrap_or(0);
    head.starts_with(b"\x7fELF")
        && u16_at(&head, 16, Endian::Little) == Some(CORE)
        && (system == STANDALONE || system == FREEBSD)
        && kinds(source, &head).is_some_and(|kinds| kinds.iter().all(|k| *k == LOAD) && !kinds.is_empty())
}

/// Where the program headers are: offset, bytes of one, count.
fn table(head: &[u8]) -> Option<(bool, u64, u64, u64)> {
    let le = Endian::Little;
    let wide = u8_at(head, 4)? == 2;
    let (offset, entry, count) = if wide {
        (u64_at(head, 32, le)?, u16_at(head, 54, le), u16_at(head, 56, le))
    } else {
        (u64::from(u32_at(head, 28, le)?), u16_at(head, 42, le), u16_at(head, 44, le))
    };
    Some((wide, offset, u64::from(entry.unwrap_or(0)), u64::from(count.unwrap_or(0))))
}

fn kinds(source: &dyn ReadAt, head: &[u8]) -> Option<Vec<u32>> {
    let head = if head.len() < 64 { exact(source, 0, 64)? } else { head.to_vec() };
    let (_, offset, entry, count) = table(&head)?;
    (0..count.min(LIMIT_SEGMENTS.to_u64()))
        .map(|n| {
            let at = offset.checked_add(n.checked_mul(entry)?)?;
            u32_at(&exact(source, at, 4)?, 0, Endian::Little)
        })
        .collect()
}

impl Full {
    pub(super) fn open(path: &Path, source: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let bad = |offset, expected, found: String| Error::Format { path: path.to_owned(), offset, expected, found };
        let head = exact(&*source, 0, 64)
            .ok_or_else(|| bad(0, "an ELF header of 64 bytes", format!("a file of {} bytes", source.size())))?;
        let le = Endian::Little;
        let machine = u16_at(&head, 18, le).unwrap_or(0);
        let arch = match machine {
            3 => Arch::X86,
            62 => Arch::X86_64,
            183 => Arch::Aarch64,
            _ => Arch::Other,
        };
        let (wide, table_at, entry, count) = table(&head).unwrap_or_default();
        let least = if wide { 56 } else { 32 };
        if entry < least {
            return Err(bad(
                if wide { 54 } else { 42 },
                "program headers of their full size",
                format!("{entry} bytes"),
            ));
        }
        let (mut segments, mut doubts, mut truncated_at) = (Vec::new(), Vec::new(), None);
        for n in 0..count {
            let at = table_at.saturating_add(n.saturating_mul(entry));
            let Some(raw) = exact(&*source, at, usize::try_from(least).unwrap_or(56)) else {
                doubts.push(Doubt::new("elf", format!("program header {n} at {at:#x} lies outside the file")));
                truncated_at = Some(source.size());
                break;
            };
            let long = |at| u64_at(&raw, at, le).unwrap_or(0);
            let word = |at| u64::from(u32_at(&raw, at, le).unwrap_or(0));
            let (offset, physical, size) =
                if wide { (long(8), long(24), long(32)) } else { (word(4), word(12), word(16)) };
            if word(0) == u64::from(LOAD) && size > 0 {
                if offset.saturating_add(size) > source.size() {
                    truncated_at = Some(source.size());
                }
                segments.push(Segment { physical, offset, size });
            }
        }
        if let Some(end) = truncated_at {
            doubts.push(Doubt::new("elf", format!("the file ends at {end:#x}, before its headers say")));
        }
        segments.sort_by_key(|s| s.physical);
        Ok(Self { source, segments, arch, doubts, truncated_at })
    }
}

impl Physical for Full {
    fn page_size(&self) -> u64 {
        PAGE
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
        let at = number.checked_mul(PAGE).ok_or(Absent::Unmapped)?;
        let index = self.segments.partition_point(|s| s.physical <= at);
        let near = self.segments.get(..index).unwrap_or_default();
        let segment = near.iter().rev().take(16).find(|s| at.saturating_sub(s.physical) < s.size);
        let segment = segment.ok_or(Absent::Unmapped)?;
        let skip = at.saturating_sub(segment.physical);
        let length = segment.size.saturating_sub(skip).min(PAGE);
        prefix(&*self.source, segment.offset.saturating_add(skip), length.to_usize())
    }

    fn short(&self) -> Absent {
        Absent::Truncated
    }

    fn runs(&self) -> Vec<Range<u64>> {
        let page = |at: u64| at.checked_div(PAGE).unwrap_or(0);
        self.segments.iter().map(|s| page(s.physical)..page(s.physical.saturating_add(s.size))).collect()
    }
}
