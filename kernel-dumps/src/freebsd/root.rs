//! Where a full dump's page tables are, without any symbols.
//!
//! The kernel of amd64 maps its tables into themselves: entry 256 of the top-level table points at that very table
//! (`PML4PML4I`, `PML5PML5I` in `sys/amd64/include/vmparam.h`). Every process's table has its own such entry and shares
//! the kernel's half, so the first one found will do. That it is one is proven by the kernel's text, which all versions
//! link 2 MiB above `KERNBASE`.

use crate::machine::{Pages, Translate, X86Tables};
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
            if is_kernel_text(&tables, pages) {
                return Some(tables);
            }
            if plausible.is_none() && maps_something(root, levels, pages) {
                plausible = Some(tables);
            }
        }
    }
    plausible
}

/// Whether the kernel's ELF header lies where it must.
fn is_kernel_text(tables: &X86Tables, pages: &Pages) -> bool {
    let mut magic = [0; 4];
    let read = tables.translate(TEXT, pages).map(|there| pages.read(there.physical, &mut magic));
    matches!(read, Ok((4, None))) && &magic == b"\x7fELF"
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

/// Bytes of a table.
#[cfg(test)]
const TABLE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Physical;
    use evidence::{Absent, ToU64, ToUsize};

    struct Memory(Vec<u8>);

    impl Physical for Memory {
        fn page_size(&self) -> u64 {
            TABLE
        }
        fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
            let at = (number * TABLE).to_usize();
            self.0.get(at..at + TABLE.to_usize()).map(<[u8]>::to_vec).ok_or(Absent::Unmapped)
        }
        fn runs(&self) -> Vec<std::ops::Range<u64>> {
            std::iter::once(0..self.0.len().to_u64() / TABLE).collect()
        }
    }

    /// Memory with tables for the kernel's text, of 4 or 5 levels, and a page before that only looks like a table.
    fn memory(levels: u64) -> Pages {
        let mut bytes = vec![0_u8; 16 * 4096];
        let mut set = |page: u64, index: u64, value: u64| {
            let at = (page * 4096 + index * 8).to_usize();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        set(1, 256, 0x1003);
        set(3, 256, 0x3003);
        if levels == 5 {
            set(3, 511, 0x4003);
        }
        set(if levels == 5 { 4 } else { 3 }, 511, 0x5003);
        set(5, 510, 0x6003);
        set(6, 1, 0x7003);
        set(7, 0, 0x8003);
        bytes[8 * 4096..8 * 4096 + 4].copy_from_slice(b"\x7fELF");
        Pages::new(Box::new(Memory(bytes)))
    }

    #[test]
    fn four_and_five_levels() {
        for levels in [4, 5] {
            let tables = find(&memory(levels)).unwrap();
            assert_eq!((tables.root, u64::from(tables.levels)), (PhysAddr(0x3000), levels));
        }
        assert!(find(&Pages::new(Box::new(Memory(vec![0; 8192])))).is_none());
    }
}
