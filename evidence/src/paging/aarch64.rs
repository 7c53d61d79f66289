//! AArch64 page tables: granules of 4, 16 and 64 KiB, 36 to 52 bits of virtual address, block entries.
//!
//! Source: Arm Architecture Reference Manual for A-profile, DDI 0487, chapter D8 "The AArch64 Virtual Memory System
//! Architecture" (stage 1 descriptor formats, D8.3).

use super::{ReadEntry, Translation};
use crate::{Absent, Addr, PhysAddr};

/// The smallest unit of mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the sizes")]
pub enum Granule {
    K4,
    K16,
    K64,
}

impl Granule {
    /// Bits of an address within a page.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1_u64.wrapping_shl(self.bits())
    }

    /// The granule of pages of so many bytes.
    #[must_use]
    pub const fn of_page_size(bytes: u64) -> Option<Self> {
        match bytes {
            0x1000 => Some(Self::K4),
            0x4000 => Some(Self::K16),
            0x1_0000 => Some(Self::K64),
            _ => None,
        }
    }
}

/// How a machine uses its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The granule.
    pub granule: Granule,
    /// Bits of a virtual address (64 minus `T0SZ` or `T1SZ`): 36 to 52.
    pub va_bits: u8,
    /// Output addresses of 52 bits: FEAT_LPA with 64 KiB, FEAT_LPA2 (`TCR.DS`) with the others.
    pub wide: bool,
    /// Bits 56 to 63 of an address are a tag (`TCR.TBI`).
    pub top_byte_ignored: bool,
}

const VALID: u64 = 1;
/// At the last level: a page. At others: a table, where it is clear a block.
const TABLE: u64 = 2;

/// Translates `at` by the top-level table at `root` (the address in `TTBR0` or `TTBR1`, without its ASID).
///
/// # Errors
/// `Unmapped` when a table says so or the address is outside of what the tables can map, `Corrupt` for entries that are
/// reserved; otherwise why a table could not be read.
pub fn translate(root: PhysAddr, layout: &Layout, at: Addr, read: ReadEntry<'_>) -> Result<Translation, Absent> {
    let page = layout.granule.bits();
    // An entry has 8 bytes, so a table of one granule resolves three bits fewer than a page has.
    let stride = page.wrapping_sub(3);
    let va_bits = u32::from(layout.va_bits);
    if !(page.wrapping_add(1)..=52).contains(&va_bits) {
        return Err(Absent::Corrupt);
    }
    if !is_canonical(at, layout) {
        return Err(Absent::Unmapped);
    }
    let levels = va_bits.wrapping_sub(page).div_ceil(stride);
    let mut shift = page.wrapping_add(stride.wrapping_mul(levels.wrapping_sub(1)));
    let mut table = root.0 & 0x000f_ffff_ffff_ffff & !63;
    // The first table may have fewer entries, the others are full.
    let mut index_bits = va_bits.wrapping_sub(shift);
    loop {
        let index = at.0.wrapping_shr(shift) & mask(index_bits);
        let entry = read(PhysAddr(table.wrapping_add(index.wrapping_mul(8))))?;
        if entry & VALID == 0 {
            return Err(Absent::Unmapped);
        }
        let last = shift == page;
        let address = output(entry, layout);
        if last || entry & TABLE == 0 {
            if last && entry & TABLE == 0 || !last && !block_allowed(layout, shift) {
                return Err(Absent::Corrupt);
            }
            let within = mask(shift);
            let offset = at.0 & within;
            let physical = PhysAddr((address & !within).wrapping_add(offset));
            return Ok(Translation { physical, left: within.wrapping_sub(offset).wrapping_add(1) });
        }
        table = address;
        shift = shift.wrapping_sub(stride);
        index_bits = stride;
    }
}

/// Whether the unused upper bits repeat bit 55, which chooses between the two halves.
#[must_use]
pub const fn is_canonical(at: Addr, layout: &Layout) -> bool {
    let top = if layout.top_byte_ignored { 56 } else { 64 };
    let used = if layout.va_bits < 52 { layout.va_bits } else { 52 };
    let ignored = 64_u32.wrapping_sub(top);
    let upper = at.0.wrapping_shl(ignored).cast_signed().wrapping_shr(ignored);
    let bits = upper.wrapping_shr(widen(used));
    bits == 0 || bits == -1
}

const fn widen(bits: u8) -> u32 {
    u32::from_le_bytes([bits, 0, 0, 0])
}

const fn mask(bits: u32) -> u64 {
    1_u64.wrapping_shl(bits).wrapping_sub(1)
}

/// Where an entry points: bits 47 and below; with 52-bit addresses the upper ones lie where there was room.
const fn output(entry: u64, layout: &Layout) -> u64 {
    let low = entry & 0x0000_ffff_ffff_f000 & !mask(layout.granule.bits());
    if !layout.wide {
        return low;
    }
    match layout.granule {
        // OA[51:48] are bits 15 to 12.
        Granule::K64 => low | (entry & 0xf000) << 36,
        // OA[49:48] are where they belong, OA[51:50] are bits 9 and 8 (where the shareability was).
        Granule::K4 | Granule::K16 => low | entry & 0x0003_0000_0000_0000 | (entry & 0x300) << 42,
    }
}

/// Which levels may hold blocks, by the number of address bits that such an entry covers.
const fn block_allowed(layout: &Layout, shift: u32) -> bool {
    match (layout.granule, shift) {
        (Granule::K4, 21 | 30) | (Granule::K16, 25) | (Granule::K64, 29) => true,
        (Granule::K4, 39) | (Granule::K16, 36) | (Granule::K64, 42) => layout.wide,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn layout(granule: Granule, va_bits: u8) -> Layout {
        Layout { granule, va_bits, wide: false, top_byte_ignored: false }
    }

    fn check(layout: Layout, entries: &[(u64, u64)], at: u64) -> Result<(u64, u64), Absent> {
        let map: HashMap<u64, u64> = entries.iter().copied().collect();
        let read = |p: PhysAddr| map.get(&p.0).copied().ok_or(Absent::Filtered);
        translate(PhysAddr(0x10_0000), &layout, Addr(at), &read).map(|t| (t.physical.0, t.left))
    }

    #[test]
    fn four_kilobytes_48_bits() {
        let at = 0xffff_0000_0000_0000_u64 | 3 << 39 | 4 << 30 | 5 << 21 | 6 << 12 | 0x123;
        let tables = [
            (0x10_0000 + 3 * 8, 0x20_0003),
            (0x20_0000 + 4 * 8, 0x30_0003),
            (0x30_0000 + 5 * 8, 0x40_0003),
            (0x40_0000 + 6 * 8, 0x0060_0000_8000_0f03),
        ];
        assert_eq!(check(layout(Granule::K4, 48), &tables, at), Ok((0x8000_0123, 0x1000 - 0x123)));
        assert_eq!(check(layout(Granule::K4, 48), &tables[..3], at), Err(Absent::Filtered));
        let block = [tables[0], tables[1], (0x30_0000 + 5 * 8, 0x0060_0000_8020_0f01)];
        assert_eq!(check(layout(Granule::K4, 48), &block, at), Ok((0x8020_6123, 0x20_0000 - 0x6123)));
        let gigabyte = [tables[0], (0x20_0000 + 4 * 8, 0x0060_0000_c000_0f01)];
        assert_eq!(check(layout(Granule::K4, 48), &gigabyte, at), Ok((0xc0a0_6123, 0x4000_0000 - 0xa0_6123)));
        let terabytes = [(0x10_0000 + 3 * 8, 0x0060_0080_0000_0f01)];
        assert_eq!(check(layout(Granule::K4, 48), &terabytes, at), Err(Absent::Corrupt));
        let last = [tables[0], tables[1], tables[2], (0x40_0000 + 6 * 8, 0x8000_0f01)];
        assert_eq!(check(layout(Granule::K4, 48), &last, at), Err(Absent::Corrupt));
        let empty = [(0x10_0000 + 3 * 8, 2)];
        assert_eq!(check(layout(Granule::K4, 48), &empty, at), Err(Absent::Unmapped));
    }

    #[test]
    fn fewer_bits_have_fewer_levels() {
        let at = 0xffff_ff80_0000_0000_u64 | 1 << 30 | 2 << 21 | 3 << 12;
        let tables = [(0x10_0008, 0x20_0003), (0x20_0010, 0x30_0003), (0x30_0018, 0x9000_0003)];
        assert_eq!(check(layout(Granule::K4, 39), &tables, at), Ok((0x9000_0000, 0x1000)));
        assert_eq!(check(layout(Granule::K4, 39), &tables, at & !(1 << 39)), Err(Absent::Unmapped));
    }

    #[test]
    fn sixteen_kilobytes() {
        // 47 bits: three levels of 11 bits, one of 2048 entries each.
        let at = 5_u64 << 36 | 7 << 25 | 9 << 14 | 0x3fff;
        let tables = [(0x10_0028, 0x20_0003), (0x20_0038, 0x30_4003), (0x30_4048, 0x8000_c003)];
        assert_eq!(check(layout(Granule::K16, 47), &tables, at), Ok((0x8000_ffff, 1)));
        // 48 bits: a first table of two entries.
        let top = [(0x10_0008, 0x50_0003), (0x50_0028, 0x20_0003), tables[1], tables[2]];
        assert_eq!(check(layout(Granule::K16, 48), &top, at | 0xffff_8000_0000_0000), Ok((0x8000_ffff, 1)));
        let block = [(0x10_0028, 0x20_0003), (0x20_0038, 0x0a00_0001)];
        assert_eq!(check(layout(Granule::K16, 47), &block, at), Ok((0x0a02_7fff, 0x200_0000 - 0x2_7fff)));
    }

    #[test]
    fn sixty_four_kilobytes() {
        let at = 1_u64 << 42 | 2 << 29 | 3 << 16 | 0x10;
        let tables = [(0x10_0008, 0x20_0003), (0x20_0010, 0x30_0003), (0x30_0018, 0x8005_0003)];
        assert_eq!(check(layout(Granule::K64, 48), &tables, at), Ok((0x8005_0010, 0xfff0)));
        let wide = Layout { wide: true, ..layout(Granule::K64, 52) };
        let far = [tables[0], tables[1], (0x30_0018, 0x8005_a003)];
        assert_eq!(check(wide, &far, at), Ok((0x000a_0000_8005_0010, 0xfff0)));
    }

    #[test]
    fn fifty_two_bits_with_four_kilobytes() {
        let wide = Layout { wide: true, ..layout(Granule::K4, 52) };
        let at = 0xffff_u64 << 52 | 9 << 48 | 1 << 39 | 2 << 30 | 3 << 21;
        let tables = [
            (0x10_0048, 0x20_0003),
            (0x20_0008, 0x30_0003),
            (0x30_0010, 0x40_0003),
            (0x40_0018, 0x0002_0000_8020_0301),
        ];
        assert_eq!(check(wide, &tables, at), Ok((0x000e_0000_8020_0000, 0x20_0000)));
    }

    #[test]
    fn tags() {
        let plain = layout(Granule::K4, 48);
        let tagged = Layout { top_byte_ignored: true, ..plain };
        let at = Addr(0xf4ff_8000_0000_0000);
        assert!(is_canonical(at, &tagged) && !is_canonical(at, &plain));
        assert!(!is_canonical(Addr(0x0001_0000_0000_0000), &tagged));
        assert!(is_canonical(Addr(0x0000_ffff_ffff_ffff), &plain));
        assert_eq!(check(layout(Granule::K4, 12), &[], 0), Err(Absent::Corrupt));
        assert_eq!(check(layout(Granule::K4, 60), &[], 0), Err(Absent::Corrupt));
    }
}
