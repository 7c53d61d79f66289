//! amd64's page tables in a full dump.
//!
//! The kernel of amd64 maps its tables into themselves: entry 256 of the top-level table points at that very table
//! (`PML4PML4I`, `PML5PML5I` in `sys/amd64/include/vmparam.h`). Every process's table has its own such entry and shares
//! the kernel's half, so the first one found will do. That it is one is proven by the kernel's text, which all versions
//! link 2 MiB above `KERNBASE`.

use super::is_elf_at;
use crate::machine::{Pages, X86Tables};
use crate::paging::x86_64::Rules;
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, PhysAddr};

/// The entry that points at its own table.
const OWN: usize = 256;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// `KERNBASE` and 2 MiB: the kernel's first byte, its ELF header.
const TEXT: Addr = Addr(0xffff_ffff_8020_0000);
/// Most pages looked at: 4 GiB. The kernel takes its first tables right behind itself, near the start of memory.
const LIMIT_SCAN: u64 = 1 << 20;
/// Most tables tried that point at themselves: garbage may, and processes' do.
const LIMIT_TRIED: usize = 4096;

/// The top-level table and the number of levels.
pub(super) fn find(pages: &Pages) -> Option<X86Tables> {
    let mut plausible = None;
    let (mut scanned, mut tried) = (0_u64, 0_usize);
    for number in pages.runs().into_iter().flatten() {
        scanned = scanned.saturating_add(1);
        if scanned > LIMIT_SCAN || tried > LIMIT_TRIED {
            break;
        }
        let Some(root) = number.checked_mul(4096) else { break };
        let Ok(page) = pages.uncached(number) else { continue };
        let Some(entry) = u64_at(&page, OWN.saturating_mul(8), Endian::Little) else { continue };
        if entry & 1 == 0 || entry & FRAME != root {
            continue;
        }
        tried = tried.saturating_add(1);
        for levels in [4, 5] {
            let tables = X86Tables { root: PhysAddr(root), levels, rules: Rules::default() };
            if is_elf_at(&tables, TEXT, pages) {
                return Some(tables);
            }
            if plausible.is_none() && maps_something(root, levels, pages) {
                plausible = Some(tables);
            }
        }
    }
    plausible
}

/// Whether there is a directory for the gigabyte at `KERNBASE`, and something in it. For dumps whose first text page is
/// missing.
fn maps_something(root: u64, levels: u8, pages: &Pages) -> bool {
    let mut table = root;
    let indexes: &[u64] = if levels == 5 { &[511, 511, 510] } else { &[511, 510] };
    for index in indexes {
        match pages.entry(PhysAddr(table.wrapping_add(index.wrapping_mul(8)))) {
            // Neither absent nor a large page.
            Ok(entry) if entry & 0x81 == 1 => table = entry & FRAME,
            _ => return false,
        }
    }
    (0..512_u64).any(|n| pages.entry(PhysAddr(table.wrapping_add(n.wrapping_mul(8)))).is_ok_and(|e| e & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::memory;
    use super::*;

    #[test]
    fn four_and_five_levels() {
        for levels in [4, 5] {
            // Page 1 only looks like one.
            let mut numbers = vec![(0x1000 + 256 * 8, 8, 0x1003), (0x3000 + 256 * 8, 8, 0x3003)];
            if levels == 5 {
                numbers.push((0x3000 + 511 * 8, 8, 0x4003));
            }
            numbers.push((if levels == 5 { 0x4000 } else { 0x3000 } + 511 * 8, 8, 0x5003));
            numbers.extend([(0x5000 + 510 * 8, 8, 0x6003), (0x6000 + 8, 8, 0x7003), (0x7000, 8, 0x8003)]);
            let tables = find(&memory(16, &numbers, 0x8000)).unwrap();
            assert_eq!((tables.root, tables.levels), (PhysAddr(0x3000), levels));
        }
        assert!(find(&memory(2, &[], 0)).is_none());
    }
}
