//! What all dumps have in common: physical pages behind a cache, and address spaces that are translated into them.

use crate::paging::{Translation, aarch64, x86, x86_64};
use evidence::{Absent, Addr, Extent, Memory, PhysAddr, ToU64, ToUsize};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Most runs of consecutive pages listed as extents. Beyond it, reading still works; only the list is cut.
pub(crate) const LIMIT_RUNS: usize = 1 << 20;
/// Decompressed pages kept: 16 MiB of 4 KiB pages hold the page tables and stacks that an analysis returns to.
const CACHED_PAGES: usize = 4096;
/// Pages of so long a read are looked at once, and not kept.
const LONG_READ: usize = 128 << 10;

/// Physical pages by number.
pub(crate) trait Physical: Send + Sync {
    /// Bytes per page.
    fn page_size(&self) -> u64;
    /// The page, possibly shorter than a page at the end of a segment.
    fn page(&self, number: u64) -> Result<Vec<u8>, Absent>;
    /// Why the rest of a page that is shorter than a page is missing.
    fn short(&self) -> Absent {
        Absent::Filtered
    }
    /// Runs of page numbers that are in the dump.
    fn runs(&self) -> Vec<Range<u64>>;
}

type CachedPage = Result<Arc<Vec<u8>>, Absent>;

/// Physical memory with a bounded cache of decompressed pages.
pub(crate) struct Pages {
    physical: Box<dyn Physical>,
    cache: Mutex<HashMap<u64, CachedPage>>,
}

impl Pages {
    pub(crate) fn new(physical: Box<dyn Physical>) -> Self {
        Self { physical, cache: Mutex::new(HashMap::new()) }
    }

    /// The page, kept if it will be asked for again.
    fn page(&self, number: u64, keep: bool) -> CachedPage {
        if let Some(page) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return page.clone();
        }
        let page: CachedPage = self.physical.page(number).map(Arc::new);
        if !keep {
            return page;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_PAGES {
            cache.clear();
        }
        cache.insert(number, page.clone());
        page
    }

    pub(crate) fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let size = self.physical.page_size();
        let (mut done, keep) = (0_usize, into.len() < LONG_READ);
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let (number, skip) = (here.0.checked_div(size).unwrap_or(0), here.0 & size.wrapping_sub(1));
            let page = match self.page(number, keep) {
                Ok(page) => page,
                Err(why) => return (done, Some(why)),
            };
            let tail = page.get(skip.to_usize()..).unwrap_or_default();
            if tail.is_empty() {
                return (done, Some(self.physical.short()));
            }
            let Some(rest) = into.get_mut(done..) else { break };
            let n = tail.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..n), tail.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
        }
        (done, None)
    }

    /// A little-endian page-table entry of 8 bytes.
    pub(crate) fn entry(&self, at: PhysAddr) -> Result<u64, Absent> {
        let mut raw = [0; 8];
        match self.read(at, &mut raw) {
            (8, None) => Ok(u64::from_le_bytes(raw)),
            (_, why) => Err(why.unwrap_or(Absent::Corrupt)),
        }
    }

    /// The page, not kept: for whoever looks at each page once.
    pub(crate) fn uncached(&self, number: u64) -> Result<Vec<u8>, Absent> {
        self.physical.page(number)
    }

    pub(crate) fn page_size(&self) -> u64 {
        self.physical.page_size()
    }

    pub(crate) fn runs(&self) -> Vec<Range<u64>> {
        self.physical.runs()
    }

    /// The ranges of physical memory that are in the dump.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        let page = self.physical.page_size();
        let address = |n: u64| Addr(n.saturating_mul(page));
        self.runs().into_iter().map(|r| Extent { range: address(r.start)..address(r.end), absent: None }).collect()
    }
}

/// How virtual addresses become physical ones.
pub(crate) trait Translate: Send + Sync {
    /// Where `at` leads.
    fn translate(&self, at: Addr, pages: &Pages) -> Result<Translation, Absent>;
}

/// x86-64 page tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct X86Tables {
    pub(crate) root: PhysAddr,
    pub(crate) levels: u8,
    pub(crate) rules: x86_64::Rules,
}

impl Translate for X86Tables {
    fn translate(&self, at: Addr, pages: &Pages) -> Result<Translation, Absent> {
        x86_64::translate(self.root, self.levels, self.rules, at, &|entry| pages.entry(entry))
    }
}

/// i386 page tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I386Tables {
    pub(crate) top: x86::Top,
}

impl Translate for I386Tables {
    fn translate(&self, at: Addr, pages: &Pages) -> Result<Translation, Absent> {
        x86::translate(&self.top, at, &|entry| pages.entry(entry))
    }
}

/// AArch64 page tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArmTables {
    pub(crate) root: PhysAddr,
    pub(crate) layout: aarch64::Layout,
}

impl Translate for ArmTables {
    fn translate(&self, at: Addr, pages: &Pages) -> Result<Translation, Absent> {
        aarch64::translate(self.root, &self.layout, at, &|entry| pages.entry(entry))
    }
}

/// A virtual address space of the dumped machine.
pub(crate) struct Space {
    pub(crate) pages: Arc<Pages>,
    /// Absent when the dump does not say enough.
    pub(crate) tables: Result<Arc<dyn Translate>, Absent>,
    pub(crate) extents: Vec<Extent>,
}

impl Memory for Space {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let tables = match &self.tables {
            Ok(tables) => tables,
            Err(why) => return (0, Some(*why)),
        };
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let there = match tables.translate(here, &self.pages) {
                Ok(there) => there,
                Err(why) => return (done, Some(why)),
            };
            let Some(rest) = into.get_mut(done..) else { break };
            let n = rest.len().min(there.left.to_usize());
            let Some(part) = rest.get_mut(..n).filter(|p| !p.is_empty()) else { return (done, Some(Absent::Corrupt)) };
            let (got, stop) = self.pages.read(there.physical, part);
            done = done.saturating_add(got);
            if stop.is_some() {
                // A physical page that is no RAM is still mapped: a device, or memory taken away.
                let why = stop.map(|w| if w == Absent::Unmapped { Absent::Filtered } else { w });
                return (done, why);
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}
