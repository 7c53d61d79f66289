//! Exported symbols of an image without section headers, by its dynamic section.
//!
//! Sources: gABI chapter 5, "Dynamic Section"; the count of symbols, which no tag states, from `DT_HASH` (its second
//! word) or from `DT_GNU_HASH` (the last chain; GNU binutils `elflink.c`).

use super::table::{Raw, raw};
use crate::elf::ElfFile;
use evidence::{Svma, ToUsize, bytes};

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// The entries of the dynamic section: (tag, value).
pub(crate) fn entries(file: &ElfFile) -> Vec<(u64, u64)> {
    let endian = bytes::Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
    let Some(range) = file.dynamic() else { return Vec::new() };
    let Some(data) = file.bytes_at(Svma(range.start)) else { return Vec::new() };
    let length = range.end.saturating_sub(range.start).to_usize().min(data.len());
    let data = data.get(..length).unwrap_or_default();
    let word = usize::from(file.address_size());
    let read =
        |at| if word == 8 { bytes::u64_at(data, at, endian) } else { bytes::u32_at(data, at, endian).map(u64::from) };
    let mut list = Vec::new();
    for at in (0..data.len()).step_by(word.saturating_mul(2).max(1)) {
        let (Some(tag), Some(value)) = (read(at), read(at.saturating_add(word))) else { break };
        if tag == 0 {
            break;
        }
        list.push((tag, value));
    }
    list
}

/// The table of the exported symbols.
pub(super) fn read(file: &ElfFile) -> Option<Raw<'_>> {
    let entries = entries(file);
    let get = |tag| entries.iter().find(|(t, _)| *t == tag).map(|(_, v)| *v);
    // glibc's loader replaces the addresses in memory by runtime ones, musl's and the kernel (for the vDSO) do not.
    let slid = |address: u64| address.wrapping_sub(file.relocated_by());
    let at = |address: u64| file.bytes_at(Svma(address)).or_else(|| file.bytes_at(Svma(slid(address))));
    let (symbols, strings) = (get(DT_SYMTAB).and_then(at)?, get(DT_STRTAB).and_then(at)?);
    let endian = bytes::Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
    let size = get(DT_STRSZ).map_or(strings.len(), |s| s.to_usize().min(strings.len()));
    let table = raw(file, symbols, strings.get(..size).unwrap_or_default());
    let count = get(DT_HASH)
        .and_then(at)
        .and_then(|h| bytes::u32_at(h, 4, endian))
        .map(ToUsize::to_usize)
        .or_else(|| get(DT_GNU_HASH).and_then(at).and_then(|h| count_by_gnu_hash(h, file.address_size(), endian)));
    let length = count?.saturating_mul(table.entry_size()).min(symbols.len());
    Some(raw(file, symbols.get(..length).unwrap_or_default(), table.strings))
}

/// One more than the highest index in any chain.
fn count_by_gnu_hash(hash: &[u8], address_size: u8, endian: bytes::Endian) -> Option<usize> {
    let word = |index: usize| bytes::u32_at(hash, index.checked_mul(4)?, endian);
    let (buckets, first, bloom) = (word(0)?.to_usize(), word(1)?, word(2)?.to_usize());
    let words_per_bloom = usize::from(address_size).checked_div(4)?;
    let bucket_start = bloom.checked_mul(words_per_bloom)?.checked_add(4)?;
    let chain_start = bucket_start.checked_add(buckets)?;
    let mut highest = 0;
    for index in bucket_start..chain_start {
        highest = highest.max(word(index)?);
    }
    if highest < first {
        return Some(first.to_usize());
    }
    let mut last = highest;
    // The chain's last entry has bit 0 set.
    loop {
        let entry = word(chain_start.checked_add(last.checked_sub(first)?.to_usize())?)?;
        last = last.checked_add(1)?;
        if entry & 1 == 1 {
            return Some(last.to_usize());
        }
    }
}
