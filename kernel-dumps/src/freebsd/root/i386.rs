//! i386's page tables in a full dump.
//!
//! Both of its pmaps map the page directories into themselves (`PTDPTDI` in `sys/i386/include/pmap_nopae.h` and
//! `pmap_pae.h`): an entry of the directory leads to the directory, and with PAE four consecutive ones lead to the four
//! directories in their order; PAE's table of pointers leads to them, too. Where all that is differs, and so does where the kernel is linked to (from 12 on it has the
//! address space for itself), so that an ELF header at one of the places proves it.

use super::is_elf_at;
use crate::machine::{I386Tables, Pages};
use crate::paging::x86::Top;
use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{Addr, PhysAddr};

/// Most pages looked at: all that 32 bits name. With PAE the kernel's tables still lie in the first 4 GiB.
const LIMIT_SCAN: u64 = 1 << 20;
/// Most tables tried that point at themselves: garbage may, and processes' do.
const LIMIT_TRIED: usize = 1 << 16;
/// `KERNBASE`: 0 since 12, before that what `KVA_PAGES` made it.
const BASES: [u64; 4] = [0xc000_0000, 0, 0x8000_0000, 0xa000_0000];
/// `KERNLOAD` is one to eight MiB above it.
const LOADS: std::ops::RangeInclusive<u64> = 1..=16;
const WIDE_FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The kernel's directories.
pub(super) fn find(pages: &Pages) -> Option<I386Tables> {
    let (mut scanned, mut tried) = (0_u64, 0_usize);
    for number in pages.runs().into_iter().flatten() {
        scanned = scanned.saturating_add(1);
        if scanned > LIMIT_SCAN || tried > LIMIT_TRIED {
            break;
        }
        let Some(place) = number.checked_mul(4096) else { break };
        let Ok(page) = pages.uncached(number) else { continue };
        for top in plain(&page, place).into_iter().chain(with_pae(&page, place)).chain(pointer_tables(&page)) {
            tried = tried.saturating_add(1);
            let tables = I386Tables { top };
            if is_kernel(&tables, pages) {
                return Some(tables);
            }
        }
    }
    None
}

/// A directory that leads to itself.
fn plain(page: &[u8], place: u64) -> Option<Top> {
    let own = |entry: &[u8]| {
        u32_at(entry, 0, Endian::Little).map(u64::from).is_some_and(|e| e & 1 == 1 && e & 0xffff_f000 == place)
    };
    page.chunks_exact(4).any(own).then_some(Top::Directory(PhysAddr(place)))
}

/// Four directories, one of which is this one and leads to all of them.
fn with_pae(page: &[u8], place: u64) -> Option<Top> {
    let entries: Vec<u64> = page.chunks_exact(8).filter_map(|e| u64_at(e, 0, Endian::Little)).collect();
    let frame = |entry: &u64| (entry & 1 == 1).then_some(PhysAddr(entry & WIDE_FRAME));
    entries.windows(4).find_map(|four| {
        let [a, b, c, d] = four else { return None };
        let directories = [frame(a), frame(b), frame(c), frame(d)];
        let all = directories.iter().all(Option::is_some);
        (all && directories.contains(&Some(PhysAddr(place)))).then_some(Top::Pae(directories))
    })
}

/// PAE's table of four pointers, whose entries have but two bits besides an address.
fn pointer_tables(page: &[u8]) -> Vec<Top> {
    let pointer = |entry: &[u8]| {
        let entry = u64_at(entry, 0, Endian::Little)?;
        (entry & !WIDE_FRAME & !0x18 == 1).then_some(PhysAddr(entry & WIDE_FRAME))
    };
    let table = |four: &[u8]| {
        let mut directories = [None; 4];
        for (entry, directory) in four.chunks_exact(8).zip(directories.iter_mut()) {
            *directory = Some(pointer(entry)?);
        }
        Some(Top::Pae(directories))
    };
    page.chunks_exact(32).filter_map(table).collect()
}

fn is_kernel(tables: &I386Tables, pages: &Pages) -> bool {
    let places = BASES.iter().flat_map(|base| LOADS.map(move |load| base.wrapping_add(load << 20)));
    places.into_iter().any(|at| is_elf_at(tables, Addr(at), pages))
}

#[cfg(test)]
mod tests {
    use super::super::testing::memory;
    use super::*;

    #[test]
    fn a_directory_that_leads_to_itself() {
        // Page 2 only looks like one; page 3 is the kernel's: entry 767 its own, 769 the table in page 4.
        let numbers = [
            (0x2000 + 8, 4, 0x2003),
            (0x3000 + 767 * 4, 4, 0x3003),
            (0x3000 + 769 * 4, 4, 0x4003),
            (0x4000, 4, 0x5003),
        ];
        let found = find(&memory(8, &numbers, 0x5000)).unwrap();
        assert_eq!(found.top, Top::Directory(PhysAddr(0x3000)));
        assert!(find(&memory(8, &numbers[..3], 0x5000)).is_none());
    }

    #[test]
    fn four_directories() {
        // The kernel at 8 MiB: entry 4 of the first directory.
        let numbers = [
            (0x6000 + 500 * 8, 8, 0x3003),
            (0x6000 + 501 * 8, 8, 0x4003),
            (0x6000 + 502 * 8, 8, 0x5003),
            (0x6000 + 503 * 8, 8, 0x6003),
            (0x3000 + 4 * 8, 8, 0x7003),
            (0x7000, 8, 0x8003),
        ];
        let found = find(&memory(9, &numbers, 0x8000)).unwrap();
        assert_eq!(found.top, Top::Pae([0x3000, 0x4000, 0x5000, 0x6000].map(|at| Some(PhysAddr(at)))));
        assert!(find(&memory(9, &numbers[1..], 0x8000)).is_none());
    }
}
