//! An address space of the dumped machine: the kernel's, or a program's by the address of its `struct as`.

use super::map::{KERNEL_BASE, Map};
use super::pages::Pages;
use evidence::bytes::{Endian, u64_at};
use evidence::{Absent, Addr, Extent, Memory};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The lowest address that is never a null pointer with an offset: the kernel maps nothing below.
const LOWEST: u64 = 0x1_0000;
/// The first address of no half of the address space (48-bit addresses).
const CANONICAL: u64 = 0x8000_0000_0000;

/// One address space.
pub(super) struct Space {
    pages: Arc<Pages>,
    map: Arc<Map>,
    space: Option<u64>,
    /// Where the kernel maps all physical memory; only its own space has it.
    kpm: Option<Range<u64>>,
    extents: OnceLock<Vec<Extent>>,
}

impl Space {
    pub(super) fn of(pages: Arc<Pages>, map: Arc<Map>, space: u64) -> Self {
        Self { pages, map, space: Some(space), kpm: None, extents: OnceLock::new() }
    }

    /// The kernel's; `known` are the addresses of `kas`, `kpm_vbase` and `kpm_size`.
    pub(super) fn kernel(pages: Arc<Pages>, map: Arc<Map>, kas: Option<u64>, known: &[Option<u64>]) -> Self {
        let mut space = Self { pages, map, space: kas, kpm: None, extents: OnceLock::new() };
        let variable = |n: usize| {
            let mut raw = [0; 8];
            let at = Addr((*known.get(n)?)?);
            (space.read(at, &mut raw).1.is_none()).then(|| u64_at(&raw, 0, Endian::Little))?
        };
        // segkpm lies in the kernel's half and is as long as memory is.
        let kpm = variable(1).zip(variable(2)).filter(|(base, size)| *base >= KERNEL_BASE >> 1 && *size > 0);
        space.kpm = kpm.and_then(|(base, size)| Some(base..base.checked_add(size)?));
        space
    }

    fn index(&self, at: u64) -> Result<u64, Absent> {
        if let Some(index) = self.space.and_then(|s| self.map.find(s, at, &self.pages.pfns)) {
            return Ok(index);
        }
        if let Some(kpm) = self.kpm.as_ref().filter(|k| k.contains(&at)) {
            let pfn = at.wrapping_sub(kpm.start).checked_div(self.pages.page_size()).unwrap_or(0);
            return self.pages.pfns.find(pfn).ok_or(Absent::Filtered);
        }
        // Nothing is ever mapped at the first addresses, nor between the halves. Elsewhere the kernel leaves mapped
        // memory out of its dumps: file caches, and what a partial dump did not come to.
        let never = at < LOWEST || (CANONICAL..CANONICAL.wrapping_neg()).contains(&at);
        Err(if never { Absent::Unmapped } else { Absent::Filtered })
    }
}

impl Memory for Space {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        self.pages.read(at.0, into, &|here| self.index(here))
    }

    fn extents(&self) -> &[Extent] {
        self.extents.get_or_init(|| self.space.map_or_else(Vec::new, |s| self.map.extents(s)))
    }
}
