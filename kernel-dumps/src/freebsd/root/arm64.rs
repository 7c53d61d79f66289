//! arm64's page tables in a full dump.
//!
//! The kernel is linked to the first address of its half, `VM_MIN_KERNEL_ADDRESS` (`sys/arm64/include/vmparam.h`,
//! `sys/conf/ldscript.arm64`): the table for `TTBR1_EL1` whose first entries lead to an ELF header is it. Addresses have 48
//! bits, tables a granule of 4 or 16 KiB. A table of the second level that is taken for one of the first leads to the
//! header, too, when the kernel was loaded to the start of a gigabyte; only the first one maps the second half as well,
//! where the direct map is.

use super::is_elf_at;
use crate::machine::{ArmTables, Pages};
use crate::paging::aarch64::{Granule, Layout};
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, PhysAddr, ToUsize};

/// `VM_MIN_KERNEL_ADDRESS`: the kernel's ELF header.
const TEXT: Addr = Addr(0xffff_0000_0000_0000);
/// Most pages looked at: 32 GiB. The tables lie behind the kernel, which is loaded anywhere.
const LIMIT_SCAN: u64 = 8 << 20;
/// An entry that leads to a table.
const TABLE: u64 = 3;

/// The kernel's topmost table.
pub(super) fn find(pages: &Pages) -> Option<ArmTables> {
    let mut plausible = None;
    let mut scanned = 0_u64;
    for number in pages.runs().into_iter().flatten() {
        scanned = scanned.saturating_add(1);
        if scanned > LIMIT_SCAN {
            break;
        }
        let Some(root) = number.checked_mul(4096) else { break };
        let Ok(page) = pages.uncached(number) else { continue };
        if u64_at(&page, 0, Endian::Little).is_none_or(|first| first & 3 != TABLE) {
            continue;
        }
        for granule in [Granule::K4, Granule::K16] {
            let layout = Layout { granule, va_bits: 48, wide: false, top_byte_ignored: false };
            let tables = ArmTables { root: PhysAddr(root), layout };
            if root.checked_rem(granule.bytes()) != Some(0) || !is_elf_at(&tables, TEXT, pages) {
                continue;
            }
            if has_second_half(&page, granule) {
                return Some(tables);
            }
            plausible = plausible.or(Some(tables));
        }
    }
    plausible
}

/// Whether the table has anything for the upper half of the kernel's addresses.
fn has_second_half(page: &[u8], granule: Granule) -> bool {
    // Bits 39 to 47 choose among 512 entries with 4 KiB, bit 47 alone between two with 16 KiB.
    let entries = match granule {
        Granule::K4 => 256..512_u64,
        _ => 1..2,
    };
    let entry = |n: u64| u64_at(page, n.wrapping_mul(8).to_usize(), Endian::Little);
    entries.into_iter().any(|n| entry(n).is_some_and(|e| e & 3 == TABLE))
}

#[cfg(test)]
mod tests {
    use super::super::testing::memory;
    use super::*;

    #[test]
    fn four_levels_of_4_kib() {
        let numbers = [
            // Taken for the topmost one, the second maps a block of 1 GiB: where the header is by chance.
            (0x2000, 8, 0x3003),
            (0x3000, 8, 0x701),
            (0x4000, 8, 0x2003),
            (0x4000 + 320 * 8, 8, 0x6003),
        ];
        let found = find(&memory(8, &numbers, 0)).unwrap();
        assert_eq!((found.root, found.layout.granule), (PhysAddr(0x4000), Granule::K4));
        assert_eq!(find(&memory(8, &numbers[..3], 0)).unwrap().root, PhysAddr(0x2000));
        assert!(find(&memory(8, &numbers[..1], 0)).is_none());
    }

    #[test]
    fn four_levels_of_16_kib() {
        let numbers = [
            (0x4000, 8, 0x8003),
            (0x4008, 8, 0x1_8003),
            (0x8000, 8, 0xc003),
            (0xc000, 8, 0x1_0003),
            (0x1_0000, 8, 0x1_4003),
        ];
        let found = find(&memory(28, &numbers, 0x1_4000)).unwrap();
        assert_eq!((found.root, found.layout.granule), (PhysAddr(0x4000), Granule::K16));
    }
}
