//! Which page a virtual address leads to: the raw map of devices and vmdump.N, the hashed one of vmcore.N.

use super::dumphdr::DumpHeader;
use super::table::{Cached, Pfns, Translation};
use super::window::Window;
use crate::source::ReadAt;
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, Doubt, Extent, ToU64};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs of consecutive addresses that are kept of the raw map. 24 bytes each; a kernel maps in long runs, user
/// programs in runs of some pages: this is enough for more than a hundred gigabytes.
const LIMIT_RUNS: usize = 4 << 20;
/// Links followed in one bucket: the hash is as wide as the map, so that chains have a few entries.
const LIMIT_CHAIN: usize = 4096;
/// Entries of a hashed map that are listed.
const LIMIT_LISTED: u64 = 4 << 20;
/// The lowest address of the kernel (`USERLIMIT`, i86pc/sys/machparam.h): user programs lie below.
pub(super) const KERNEL_BASE: u64 = 0xffff_fc80_0000_0000;

/// Translations whose addresses follow one another, as do their places in the map.
#[derive(Clone, Copy, Debug)]
struct Run {
    space: u64,
    at: u64,
    first: u32,
    pages: u32,
}

enum Form {
    Runs(Vec<Run>),
    Hashed { mask: u64 },
}

/// The translations of a dump.
pub(super) struct Map {
    form: Form,
    table: Arc<Cached>,
    at: u64,
    page_shift: u32,
    data: u64,
}

/// Bytes of `dump_map_t`.
pub(super) const HASHED: u64 = 40;

impl Map {
    /// The raw map: read once, kept as runs.
    pub(super) fn raw(source: &dyn ReadAt, table: Arc<Cached>, h: &DumpHeader, doubts: &mut Vec<Doubt>) -> Self {
        let mut window = Window::new(source);
        let fits = source.size().saturating_sub(h.map).checked_div(Translation::SIZE).unwrap_or(0);
        if fits < h.nvtop {
            let why = format!("the map has {} translations, the file ends after {fits}", h.nvtop);
            doubts.push(Doubt::at("dump-map", Addr(h.map), why));
        }
        let count = h.nvtop.min(fits).min(u64::from(u32::MAX));
        let mut runs: Vec<Run> = Vec::new();
        for index in 0..count {
            let at = h.map.saturating_add(index.saturating_mul(Translation::SIZE));
            let Some(t) = window.bytes(at, 24).and_then(Translation::parse) else { break };
            let next = |r: &Run| r.at.checked_add(u64::from(r.pages).checked_mul(h.page_size)?);
            let full = runs.len() >= LIMIT_RUNS;
            match runs.last_mut() {
                Some(run) if run.space == t.space && next(run) == Some(t.at) => run.pages = run.pages.saturating_add(1),
                _ if full => {
                    let why =
                        format!("only the first {index} of {count} translations are used: they form {LIMIT_RUNS} runs");
                    doubts.push(Doubt::new("dump-map", why));
                    break;
                }
                _ => runs.push(Run { space: t.space, at: t.at, first: u32::try_from(index).unwrap_or(0), pages: 1 }),
            }
        }
        runs.sort_by_key(|r| (r.space, r.at, r.first));
        Self { form: Form::Runs(runs), table, at: h.map, page_shift: h.page_shift, data: h.data }
    }

    /// The hashed map: stays in the file.
    pub(super) fn hashed(table: Arc<Cached>, h: &DumpHeader) -> Self {
        let form = Form::Hashed { mask: h.hashmask };
        Self { form, table, at: h.map, page_shift: h.page_shift, data: h.data }
    }

    /// The index of the page at `at` of the address space `space`.
    pub(super) fn find(&self, space: u64, at: u64, pfns: &Pfns) -> Option<u64> {
        let page = at.checked_shr(self.page_shift)?.checked_shl(self.page_shift)?;
        match &self.form {
            Form::Runs(runs) => {
                let last = runs.partition_point(|r| (r.space, r.at) <= (space, page));
                let run = runs.get(last.checked_sub(1)?).filter(|r| r.space == space)?;
                let n = page.checked_sub(run.at)?.checked_shr(self.page_shift)?;
                if n >= u64::from(run.pages) {
                    return None;
                }
                let index = u64::from(run.first).checked_add(n)?;
                let mut raw = [0; 24];
                let found = self.table.fill(self.at.checked_add(index.checked_mul(Translation::SIZE)?)?, &mut raw);
                let t = Translation::parse(&raw).filter(|t| found && t.space == space && t.at == page)?;
                pfns.find(t.pfn)
            }
            Form::Hashed { mask } => {
                let hash = space.wrapping_shr(3).wrapping_add(page.checked_shr(self.page_shift)?) & mask;
                let bucket = self.at.checked_add(hash.checked_mul(HASHED)?)?;
                let mut entry = self.table.u64(bucket)?;
                for _ in 0..LIMIT_CHAIN {
                    if entry < self.at {
                        return None;
                    }
                    let mut raw = [0; 40];
                    if !self.table.fill(entry, &mut raw) {
                        return None;
                    }
                    let field = |at| u64_at(&raw, at, Endian::Little);
                    if (field(24)?, field(32)?) == (space, page) {
                        return self.index(field(16)?);
                    }
                    entry = field(8)?;
                }
                None
            }
        }
    }

    /// The index of the page whose bytes a hashed entry says lie at `data`.
    fn index(&self, data: u64) -> Option<u64> {
        data.checked_sub(self.data)?.checked_shr(self.page_shift)
    }

    /// Whether the map says anything about an address space.
    pub(super) fn knows(&self, space: u64) -> bool {
        match &self.form {
            Form::Runs(runs) => {
                let at = runs.partition_point(|r| r.space < space);
                runs.get(at).is_some_and(|r| r.space == space)
            }
            Form::Hashed { .. } => {
                let mut found = false;
                self.each(&mut |s, _| {
                    found = s == space;
                    !found
                });
                found
            }
        }
    }

    /// Calls `each` for all translations (or runs of them) until it says no: space and address.
    fn each(&self, each: &mut dyn FnMut(u64, std::ops::Range<u64>) -> bool) {
        let page = 1_u64.checked_shl(self.page_shift).unwrap_or(0);
        match &self.form {
            Form::Runs(runs) => {
                for r in runs {
                    let length = u64::from(r.pages).saturating_mul(page);
                    if !each(r.space, r.at..r.at.saturating_add(length)) {
                        return;
                    }
                }
            }
            Form::Hashed { mask } => {
                let mut raw = [0; 40];
                for n in 0..mask.saturating_add(1).min(LIMIT_LISTED) {
                    if !self.table.fill(self.at.saturating_add(n.saturating_mul(HASHED)), &mut raw) {
                        return;
                    }
                    let field = |at| u64_at(&raw, at, Endian::Little).unwrap_or(0);
                    if field(16) != 0 && !each(field(24), field(32)..field(32).saturating_add(page)) {
                        return;
                    }
                }
            }
        }
    }

    /// Address spaces that have pages among the kernel's addresses: there is only one, the kernel's own.
    pub(super) fn kernel_spaces(&self) -> BTreeSet<u64> {
        let mut spaces = BTreeSet::new();
        self.each(&mut |space, range| {
            if range.start >= KERNEL_BASE {
                spaces.insert(space);
            }
            spaces.len() < 16
        });
        spaces
    }

    /// Sorted, disjoint ranges of one address space.
    pub(super) fn extents(&self, space: u64) -> Vec<Extent> {
        let mut ranges = Vec::new();
        self.each(&mut |s, range| {
            if s == space {
                ranges.push(range);
            }
            ranges.len().to_u64() < LIMIT_LISTED
        });
        ranges.sort_by_key(|r| r.start);
        let mut extents: Vec<Extent> = Vec::new();
        for r in ranges {
            match extents.last_mut().filter(|e| e.range.end.0 >= r.start) {
                Some(last) => last.range.end = last.range.end.max(Addr(r.end)),
                None => extents.push(Extent { range: Addr(r.start)..Addr(r.end), absent: None }),
            }
        }
        extents
    }
}
