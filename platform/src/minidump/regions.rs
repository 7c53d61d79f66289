//! Mapped ranges: `/proc/PID/maps` where a Linux writer kept it, else `MINIDUMP_MEMORY_INFO_LIST`.
//!
//! A minidump without either says nothing about what was mapped, and then no mapping is given: the modules' ranges
//! alone would look like a complete list, in which the stacks and the heap are missing.

use super::modules::Module;
use super::reader::Reader;
use super::{LINUX_MAPS, MEMORY_INFO_LIST};
use crate::linux_abi::maps;
use evidence::bytes::{u32_at, u64_at};
use evidence::{Addr, Doubt, Mapping, Protection};

/// Entries of the memory information that are read: as many as mappings of a Linux process.
const LIMIT_REGIONS: usize = 262_144;

/// `MEM_FREE`, `MEM_MAPPED`, `MEM_IMAGE`, `MEM_RESERVE` and protection bits of winnt.h.
const FREE: u32 = 0x1_0000;
const RESERVED: u32 = 0x2000;
const SHARED: u32 = 0x4_0000;
const IMAGE: u32 = 0x100_0000;
const GUARD: u32 = 0x100;

/// The mapped ranges, sorted and disjoint; empty when the file does not list them.
pub(super) fn read(reader: &Reader<'_>, modules: &[Module]) -> Vec<Mapping> {
    for text in reader.all(LINUX_MAPS) {
        let (mappings, problems) = maps::parse(&text);
        for problem in problems {
            reader.doubts.push(Doubt::new("mappings", problem));
        }
        if !mappings.is_empty() {
            return mappings;
        }
    }
    let Some(stream) = reader.first(MEMORY_INFO_LIST, 16) else { return Vec::new() };
    let mut regions: Vec<Mapping> = Vec::new();
    let entries = reader.sized_list("memory information", &stream, true, 44);
    if entries.len() > LIMIT_REGIONS {
        reader.doubt(format!("more than {LIMIT_REGIONS} memory regions: the rest is left out"));
    }
    for entry in entries.into_iter().take(LIMIT_REGIONS) {
        regions.extend(region(reader, entry));
    }
    regions.sort_by_key(|m| m.range.start);
    let mut end = Addr(0);
    let before = regions.len();
    regions.retain(|m| {
        let apart = m.range.start >= end;
        end = if apart { m.range.end } else { end };
        apart
    });
    if regions.len() < before {
        reader.doubt(format!(
            "{} entries of the memory information lie over the one before them and are left out",
            before.saturating_sub(regions.len())
        ));
    }
    name(&mut regions, modules);
    regions
}

/// `MINIDUMP_MEMORY_INFO`: base, allocation base, allocation protection, size, state, protection, type.
fn region(reader: &Reader<'_>, entry: &[u8]) -> Option<Mapping> {
    let word = |at| u32_at(entry, at, reader.endian);
    let (start, size) = (u64_at(entry, 0, reader.endian)?, u64_at(entry, 24, reader.endian)?);
    let (state, protect, kind) = (word(32)?, word(36)?, word(40)?);
    if state & FREE != 0 || size == 0 {
        return None;
    }
    let protection = if state & RESERVED != 0 { Protection::default() } else { protection(protect) };
    Some(Mapping {
        range: Addr(start)..Addr(start.saturating_add(size)),
        protection: Some(protection),
        shared: Some(kind & (SHARED | IMAGE) == SHARED),
        file_offset: 0,
        path: None,
        deleted: false,
        file_id: None,
        open: Vec::new(),
    })
}

/// What `PAGE_*` allows. A guard page refuses the first access whatever else it says.
const fn protection(bits: u32) -> Protection {
    if bits & GUARD != 0 {
        return Protection { read: false, write: false, execute: false };
    }
    Protection {
        read: bits & (0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80) != 0,
        write: bits & (0x04 | 0x08 | 0x40 | 0x80) != 0,
        execute: bits & (0x10 | 0x20 | 0x40 | 0x80) != 0,
    }
}

/// Ranges inside of a module carry its name.
fn name(regions: &mut [Mapping], modules: &[Module]) {
    let mut sorted: Vec<&Module> = modules.iter().collect();
    sorted.sort_by_key(|m| m.base);
    for region in regions {
        let before = sorted.partition_point(|m| m.base <= region.range.start.0);
        let module = sorted.get(..before).and_then(|m| m.last());
        let module = module.filter(|m| region.range.start.0.wrapping_sub(m.base) < m.size);
        region.path = module.and_then(|m| m.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections() {
        let rwx = |bits| {
            let p = protection(bits);
            (p.read, p.write, p.execute)
        };
        assert_eq!(rwx(0x01), (false, false, false));
        assert_eq!(rwx(0x02), (true, false, false));
        assert_eq!(rwx(0x04), (true, true, false));
        assert_eq!(rwx(0x10), (false, false, true));
        assert_eq!(rwx(0x20), (true, false, true));
        assert_eq!(rwx(0x40), (true, true, true));
        assert_eq!(rwx(0x104), (false, false, false));
    }
}
