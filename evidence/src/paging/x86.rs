//! i386 page tables: two levels with entries of 4 bytes, and PAE's three with entries of 8.
//!
//! Source: Intel SDM volume 3A, sections 4.3 (32-bit paging, with `CR4.PSE` and PSE-36) and 4.4 (PAE paging).

use super::{ReadEntry, Translation};
use crate::{Absent, Addr, PhysAddr};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Bits 12 to 51 of an entry of 8 bytes.
const WIDE_FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Bits 12 to 31 of one of 4 bytes.
const FRAME: u64 = 0xffff_f000;

/// The top of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// A page directory of 1,024 entries of 4 bytes.
    Directory(PhysAddr),
    /// PAE: the four page directories that the four entries of the pointer table lead to; `None` where one is absent.
    Pae([Option<PhysAddr>; 4]),
}

impl Top {
    /// The directories of PAE by the pointer table that `CR3` holds.
    ///
    /// # Errors
    /// Why an entry could not be read.
    pub fn pae(root: PhysAddr, read: ReadEntry<'_>) -> Result<Self, Absent> {
        let mut directories = [None; 4];
        let table = root.0 & 0xffff_ffe0;
        for (place, directory) in (table..).step_by(8).zip(directories.iter_mut()) {
            let entry = read(PhysAddr(place))?;
            *directory = (entry & PRESENT != 0).then_some(PhysAddr(entry & WIDE_FRAME));
        }
        Ok(Self::Pae(directories))
    }
}

fn page(base: u64, at: Addr, shift: u32) -> Translation {
    let within = 1_u64.wrapping_shl(shift).wrapping_sub(1);
    let offset = at.0 & within;
    Translation {
        physical: PhysAddr((base & !within).wrapping_add(offset)),
        left: within.wrapping_sub(offset).wrapping_add(1),
    }
}

/// Translates `at`.
///
/// # Errors
/// `Unmapped` when a table says so or the address has more than 32 bits; otherwise why a table could not be read.
pub fn translate(top: &Top, at: Addr, read: ReadEntry<'_>) -> Result<Translation, Absent> {
    if at.0 > u64::from(u32::MAX) {
        return Err(Absent::Unmapped);
    }
    let present = |entry: u64| if entry & PRESENT == 0 { Err(Absent::Unmapped) } else { Ok(entry) };
    match top {
        Top::Directory(root) => {
            // Entries are read in pairs: the lower half is the one at the address that 8 divides.
            let narrow = |table: u64, index: u64| {
                let place = table.wrapping_add(index.wrapping_mul(4));
                let pair = read(PhysAddr(place & !7))?;
                present(if place & 4 == 0 { pair & 0xffff_ffff } else { pair >> 32 })
            };
            let directory = narrow(root.0 & FRAME, at.0 >> 22)?;
            if directory & LARGE != 0 {
                // PSE-36: bits 13 to 20 are the bits 32 to 39 of the address.
                let upper = (directory >> 13 & 0xff) << 32;
                return Ok(page((directory & 0xffc0_0000) | upper, at, 22));
            }
            let entry = narrow(directory & FRAME, at.0 >> 12 & 0x3ff)?;
            Ok(page(entry & FRAME, at, 12))
        }
        Top::Pae(directories) => {
            let wide = |table: u64, index: u64| present(read(PhysAddr(table.wrapping_add(index.wrapping_mul(8))))?);
            let index = usize::from(u8::try_from(at.0 >> 30 & 3).unwrap_or(0));
            let root = directories.get(index).copied().flatten().ok_or(Absent::Unmapped)?;
            let directory = wide(root.0, at.0 >> 21 & 0x1ff)?;
            if directory & LARGE != 0 {
                return Ok(page(directory & WIDE_FRAME, at, 21));
            }
            let entry = wide(directory & WIDE_FRAME, at.0 >> 12 & 0x1ff)?;
            Ok(page(entry & WIDE_FRAME, at, 12))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn check(top: &Top, entries: &[(u64, u64)], at: u64) -> Result<(u64, u64), Absent> {
        let map: HashMap<u64, u64> = entries.iter().copied().collect();
        let read = |p: PhysAddr| map.get(&p.0).copied().ok_or(Absent::Filtered);
        translate(top, Addr(at), &read).map(|t| (t.physical.0, t.left))
    }

    #[test]
    fn two_levels() {
        let top = Top::Directory(PhysAddr(0x1000));
        // 0xc0401234: entries 769 and 1; 0xc0800000: a page of 4 MiB above 4 GiB.
        let pair = |low: u64, high: u64| high << 32 | low;
        let large = 0x0180_0000 | 3 << 13 | LARGE | PRESENT;
        let tables = [
            (0x1000 + 768 * 4, pair(0, 0x2000 | 3)),
            (0x1000 + 770 * 4, pair(large, 0)),
            (0x2000, pair(0, 0x7000 | 1)),
        ];
        assert_eq!(check(&top, &tables, 0xc040_1234), Ok((0x7234, 0xdcc)));
        assert_eq!(check(&top, &tables, 0xc000_1234), Err(Absent::Unmapped));
        assert_eq!(check(&top, &tables, 0xc080_0010), Ok((0x3_0180_0010, 0x3f_fff0)));
        assert_eq!(check(&top, &tables, 0xc0c0_0010), Err(Absent::Unmapped));
        assert_eq!(check(&top, &tables, 0x1_c040_1234), Err(Absent::Unmapped));
        assert_eq!(check(&top, &tables[..2], 0xc040_1234), Err(Absent::Filtered));
    }

    #[test]
    fn three_levels() {
        let pointers: HashMap<u64, u64> = [(0x20, 0), (0x28, 0), (0x30, 0), (0x38, 0x5001)].into();
        let top = Top::pae(PhysAddr(0x20), &|p| pointers.get(&p.0).copied().ok_or(Absent::Filtered)).unwrap();
        assert_eq!(top, Top::Pae([None, None, None, Some(PhysAddr(0x5000))]));
        let tables = [
            (0x5000 + 2 * 8, 0x6001),
            (0x5000 + 3 * 8, 0x1_2340_0000 | LARGE | PRESENT),
            (0x6000 + 8, 0x8000_0001_0000_9001),
        ];
        assert_eq!(check(&top, &tables, 0xc040_1234), Ok((0x1_0000_9234, 0xdcc)));
        assert_eq!(check(&top, &tables, 0xc060_0000), Ok((0x1_2340_0000, 0x20_0000)));
        assert_eq!(check(&top, &tables, 0x0040_1234), Err(Absent::Unmapped));
    }
}
