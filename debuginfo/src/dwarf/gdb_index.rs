//! The address table of `.gdb_index` (gdb's manual, appendix "Index Section Format", versions 7 to 9).
//!
//! A header of offsets, a list of units (offset in `.debug_info`, length), and a table of address ranges with the
//! number of their unit. All numbers are little-endian whatever the target's order, offsets count from the start of
//! the section. Names are not used.

use evidence::ToUsize;
use evidence::bytes::{Endian, u32_at, u64_at};
use std::ops::Range;

/// Versions whose address table is known. Version 9 has one more field at the end of the header.
const VERSIONS: std::ops::RangeInclusive<u32> = 7..=9;

const UNIT_ENTRY: usize = 16;
const ADDRESS_ENTRY: usize = 20;

/// All ranges of the address table with the offsets of their units; `None` when the section is of another version or
/// its header points outside of it. `limit` bounds the number of ranges.
pub(super) fn ranges(section: &[u8], limit: usize) -> Option<Vec<(Range<u64>, usize)>> {
    let word = |at| u32_at(section, at, Endian::Little);
    if !VERSIONS.contains(&word(0)?) {
        return None;
    }
    let (units, types, addresses, symbols) = (word(4)?, word(8)?, word(12)?, word(16)?);
    let units = section.get(units.to_usize()..types.to_usize())?;
    let addresses = section.get(addresses.to_usize()..symbols.to_usize())?;
    let mut found = Vec::new();
    for entry in addresses.chunks_exact(ADDRESS_ENTRY).take(limit) {
        let (Some(start), Some(end), Some(unit)) =
            (u64_at(entry, 0, Endian::Little), u64_at(entry, 8, Endian::Little), u32_at(entry, 16, Endian::Little))
        else {
            break;
        };
        let at = unit.to_usize().checked_mul(UNIT_ENTRY)?;
        // Entries of type units, or damage: another way of finding the unit will do.
        let Some(offset) = u64_at(units, at, Endian::Little) else { continue };
        if start < end {
            found.push((start..end, offset.to_usize()));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(version: u32, entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = if version == 9 { 28 } else { 24 };
        let (units, addresses) = (header, header + 32);
        let symbols = addresses + u32::try_from(entries.len()).unwrap() * 20;
        for field in [version, units, units + 32, addresses, symbols, symbols] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(header as usize, 0);
        for n in [0_u64, 0x100, 0x100, 0x40] {
            bytes.extend(n.to_le_bytes());
        }
        for (start, end, unit) in entries {
            bytes.extend(start.to_le_bytes());
            bytes.extend(end.to_le_bytes());
            bytes.extend(unit.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn address_ranges_lead_to_units() {
        for version in 7..=9 {
            let bytes = index(version, &[(0x1000, 0x1100, 1), (0x2000, 0x2000, 0), (0x3000, 0x3010, 7), (5, 9, 0)]);
            assert_eq!(ranges(&bytes, 100), Some(vec![(0x1000..0x1100, 0x100), (5..9, 0)]));
        }
        assert_eq!(ranges(&index(6, &[]), 100), None);
        assert_eq!(ranges(index(8, &[]).split_at(20).0, 100), None);
        assert_eq!(ranges(&index(8, &[(1, 2, 0), (2, 3, 0)]), 1).map(|r| r.len()), Some(1));
    }
}
