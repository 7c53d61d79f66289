//! x86-64 page tables: 4 and 5 levels, 4 KiB, 2 MiB and 1 GiB pages.
//!
//! Source: Intel SDM volume 3A, sections 4.5 (4-level) and 4.5.4 (5-level), tables 4-14 to 4-20.

use super::{ReadEntry, Translation};
use crate::{Absent, Addr, PhysAddr};

/// Bits 12 to 51: where an entry points.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// The PAT bit of a large page's entry, among the address bits of a small one's.
const LARGE_PAT: u64 = 1 << 12;
/// Linux `_PAGE_BIT_PROTNONE` shares the global bit: a page that is there although the processor must not see it.
const PROTNONE: u64 = 1 << 8;

/// What an entry means beyond what every processor takes it to mean. The default is: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    /// The memory encryption mask (`NUMBER(sme_mask)` of Linux), taken out of every entry.
    pub encryption: u64,
    /// Whether bit 8 of an entry that is not present says that the page is there: Linux's pages without access
    /// (`PROT_NONE`, and those that NUMA balancing watches). For other systems such an entry is free for any use.
    pub linux_protnone: bool,
}

/// Translates `at` by the top-level table at `root`, walking `levels` (4 or 5) tables.
///
/// Address bits above the processor's physical width are taken as they are: such an address is simply no memory.
///
/// # Errors
/// `Unmapped` when a table says so, `Corrupt` when a bit is set that makes the processor refuse the entry; otherwise
/// why a table could not be read.
pub fn translate(
    root: PhysAddr,
    levels: u8,
    rules: Rules,
    at: Addr,
    read: ReadEntry<'_>,
) -> Result<Translation, Absent> {
    if !is_canonical(at, levels) {
        return Err(Absent::Unmapped);
    }
    let mut table = root.0 & FRAME & !rules.encryption;
    let mut shift = 12_u32.saturating_add(u32::from(levels.saturating_sub(1)).saturating_mul(9));
    loop {
        let index = at.0.wrapping_shr(shift) & 0x1ff;
        let entry = read(PhysAddr(table.wrapping_add(index.wrapping_mul(8))))? & !rules.encryption;
        let present = entry & PRESENT != 0;
        let leaf = shift == 12 || (entry & LARGE != 0 && shift <= 30);
        let hidden = leaf && rules.linux_protnone && entry & PROTNONE != 0;
        if !present && !hidden {
            return Err(Absent::Unmapped);
        }
        if leaf {
            let size = 1_u64.wrapping_shl(shift);
            let within = size.wrapping_sub(1);
            if present && shift > 12 && entry & FRAME & within & !LARGE_PAT != 0 {
                return Err(Absent::Corrupt);
            }
            let frame = if present { entry } else { protnone_frame(entry, rules.encryption) };
            let offset = at.0 & within;
            let base = frame & FRAME & !rules.encryption & !within;
            return Ok(Translation { physical: PhysAddr(base.wrapping_add(offset)), left: size.wrapping_sub(offset) });
        }
        if entry & LARGE != 0 {
            return Err(Absent::Corrupt);
        }
        table = entry & FRAME;
        shift = shift.wrapping_sub(9);
    }
}

/// The frame bits of a page without access. Since the answer to L1TF (Linux 4.18.1, and older kernels by backport)
/// they are stored inverted, before it as they are (`arch/x86/include/asm/pgtable-invert.h`). No machine has memory in
/// the upper half of the physical address space, so the highest frame bit tells which.
const fn protnone_frame(entry: u64, encryption: u64) -> u64 {
    let frame = FRAME & !encryption;
    let highest = 1_u64.wrapping_shl(63_u32.saturating_sub(frame.leading_zeros()));
    if entry & highest == 0 { entry } else { !entry }
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

    const LINUX: Rules = Rules { encryption: 0, linux_protnone: true };

    fn check(levels: u8, entries: &[(u64, u64)], at: u64) -> Result<(u64, u64), Absent> {
        check_by(Rules::default(), levels, entries, at)
    }

    fn check_by(rules: Rules, levels: u8, entries: &[(u64, u64)], at: u64) -> Result<(u64, u64), Absent> {
        let map: HashMap<u64, u64> = entries.iter().copied().collect();
        let read = |p: PhysAddr| map.get(&p.0).copied().ok_or(Absent::Filtered);
        translate(PhysAddr(0x1000), levels, rules, Addr(at), &read).map(|t| (t.physical.0, t.left))
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
    fn a_page_without_access_is_there_for_linux_only() {
        assert_eq!(check_by(LINUX, 4, &[(0x1000, 0)], 0), Err(Absent::Unmapped));
        let small = |entry| [(0x1000, 0x2001), (0x2000, 0x3001), (0x3000, 0x4001), (0x4000, entry)];
        let inverted = (!0x7000 & FRAME) | PROTNONE;
        assert_eq!(check(4, &small(inverted), 0), Err(Absent::Unmapped));
        assert_eq!(check_by(LINUX, 4, &small(inverted), 5), Ok((0x7005, 0xffb)));
        assert_eq!(check_by(LINUX, 4, &small(0x7000 | PROTNONE), 5), Ok((0x7005, 0xffb)));
        // A page that was swapped out: the bit is clear, the rest is the place in the swap area.
        assert_eq!(check_by(LINUX, 4, &small(0xffff_0000_0000_0200), 0), Err(Absent::Unmapped));
        let large =
            [(0x1000, 0x2001), (0x2000, 0x3001), (0x3000, (!0x20_0000 & FRAME & !0x1f_ffff) | LARGE | PROTNONE)];
        assert_eq!(check_by(LINUX, 4, &large, 0x1234), Ok((0x20_1234, 0x20_0000 - 0x1234)));
    }

    #[test]
    fn the_encryption_bit_is_no_address_bit() {
        for bit in [47, 51] {
            let rules = Rules { encryption: 1 << bit, linux_protnone: true };
            let to = |at: u64| at | 1 << bit | PRESENT;
            let tables = |last| [(0x1000, to(0x2000)), (0x2000, to(0x3000)), (0x3000, to(0x4000)), (0x4000, last)];
            assert_eq!(check_by(rules, 4, &tables(to(0x7000)), 0), Ok((0x7000, 0x1000)));
            // The bit itself is not inverted.
            let inverted = (!0x7000 & FRAME) | 1 << bit | PROTNONE;
            assert_eq!(check_by(rules, 4, &tables(inverted), 0), Ok((0x7000, 0x1000)));
        }
    }

    #[test]
    fn bits_that_must_be_clear() {
        let tables = [(0x1000, 0x2001), (0x2000, 0x3001), (0x3000, 0x20_2000 | LARGE | PRESENT)];
        assert_eq!(check(4, &tables, 0), Err(Absent::Corrupt));
        assert_eq!(check(4, &[(0x1000, 0x2000 | LARGE | PRESENT), (0x2000, 0)], 0), Err(Absent::Corrupt));
    }
}
