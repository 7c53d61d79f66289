//! x86-64 page tables: 4 and 5 levels, 4 KiB, 2 MiB and 1 GiB pages.
//!
//! Source: Intel SDM volume 3A, sections 4.5 (4-level) and 4.5.4 (5-level), tables 4-14 to 4-20.

use super::{ReadEntry, Translation};
use crate::{Absent, Addr, PhysAddr};

/// Bits 12 to 51: where an entry points.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Linux `_PAGE_BIT_PROTNONE` shares the global bit: a page that is there although the processor must not see it.
const PROTNONE: u64 = 1 << 8;

/// Translates `at` by the top-level table at `root`, walking `levels` (4 or 5) tables.
///
/// `encryption` is the memory encryption mask (`NUMBER(sme_mask)`), taken out of every entry.
///
/// # Errors
/// `Unmapped` when a table says so; otherwise why a table could not be read.
pub fn translate(
    root: PhysAddr,
    levels: u8,
    encryption: u64,
    at: Addr,
    read: ReadEntry<'_>,
) -> Result<Translation, Absent> {
    if !is_canonical(at, levels) {
        return Err(Absent::Unmapped);
    }
    let mut table = root.0 & FRAME & !encryption;
    let mut shift = 12_u32.saturating_add(u32::from(levels.saturating_sub(1)).saturating_mul(9));
    loop {
        let index = at.0.wrapping_shr(shift) & 0x1ff;
        let entry = read(PhysAddr(table.wrapping_add(index.wrapping_mul(8))))? & !encryption;
        let last = shift == 12;
        let present = entry & PRESENT != 0 || (last && entry & PROTNONE != 0);
        if !present {
            return Err(Absent::Unmapped);
        }
        if last || (entry & LARGE != 0 && shift <= 30) {
            let size = 1_u64.wrapping_shl(shift);
            let offset = at.0 & size.wrapping_sub(1);
            // Bit 12 of a large page's entry is the PAT bit, not an address bit.
            let base = entry & FRAME & !size.wrapping_sub(1);
            return Ok(Translation { physical: PhysAddr(base.wrapping_add(offset)), left: size.wrapping_sub(offset) });
        }
        table = entry & FRAME;
        shift = shift.wrapping_sub(9);
    }
}

/// Whether the unused upper bits repeat the highest used one.
#[must_use]
pub fn is_canonical(at: Addr, levels: u8) -> bool {
    let used = if levels >= 5 { 57_u32 } else { 48 };
    let upper = at.0.cast_signed().wrapping_shr(used.wrapping_sub(1));
    upper == 0 || upper == -1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn check(levels: u8, entries: &[(u64, u64)], at: u64) -> Result<(u64, u64), Absent> {
        let map: HashMap<u64, u64> = entries.iter().copied().collect();
        let read = |p: PhysAddr| map.get(&p.0).copied().ok_or(Absent::Filtered);
        translate(PhysAddr(0x1000), levels, 0, Addr(at), &read).map(|t| (t.physical.0, t.left))
    }

    #[test]
    fn four_levels_to_a_small_page() {
        let at = 0xffff_8000_0000_0000_u64 | 1 << 30 | 2 << 21 | 3 << 12 | 0x45;
        let tables = [
            (0x1000 + 256 * 8, 0x2000 | 1),
            (0x2000 + 8, 0x3000 | 1),
            (0x3000 + 2 * 8, 0x4000 | 1),
            (0x4000 + 3 * 8, 0x8000_0000_0009_9000 | 1),
        ];
        assert_eq!(check(4, &tables, at), Ok((0x99045, 0x1000 - 0x45)));
        assert_eq!(check(4, &tables, at + 0x1000), Err(Absent::Filtered));
        assert_eq!(check(4, &tables[..3], at), Err(Absent::Filtered));
    }

    #[test]
    fn large_pages_ignore_the_pat_bit() {
        let tables = [(0x1000, 0x2001), (0x2000, 0x3001), (0x3000, 0x20_1000 | LARGE | PRESENT)];
        assert_eq!(check(4, &tables, 0x1234), Ok((0x20_1234, 0x20_0000 - 0x1234)));
        let gigabyte = [(0x1000, 0x2001), (0x2000, 0x4000_0000 | LARGE | PRESENT)];
        assert_eq!(check(4, &gigabyte, 0x123_4567), Ok((0x4123_4567, 0x4000_0000 - 0x123_4567)));
    }

    #[test]
    fn five_levels_and_canonical_addresses() {
        let tables = [(0x1000, 0x5001), (0x5000, 0x2001), (0x2000, 0x3001), (0x3000, 0x4001), (0x4000, 0x7001)];
        assert_eq!(check(5, &tables, 0x10), Ok((0x7010, 0xff0)));
        assert_eq!(check(4, &tables, 0x8000_0000_0000), Err(Absent::Unmapped));
        assert!(is_canonical(Addr(0xffff_8000_0000_0000), 4));
        assert!(!is_canonical(Addr(0xfe7f_8000_0000_0000), 5));
        assert!(is_canonical(Addr(0xff10_0000_0000_0000), 5));
    }

    #[test]
    fn not_present_is_unmapped_and_protnone_is_not() {
        assert_eq!(check(4, &[(0x1000, 0)], 0), Err(Absent::Unmapped));
        let tables = [(0x1000, 0x2001), (0x2000, 0x3001), (0x3000, 0x4001), (0x4000, 0x7000 | PROTNONE)];
        assert_eq!(check(4, &tables, 0), Ok((0x7000, 0x1000)));
    }
}
