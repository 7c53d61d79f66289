//! The pages of a dump, by index and by physical address, with a bounded cache.

use super::Lost;
use super::dumphdr::{DataHeader, DumpHeader, flag};
use super::open::Place;
use super::streams::{Mode, Section, Streamed};
use super::table::Pfns;
use crate::source::ReadAt;
use evidence::bytes::slice_at;
use evidence::{Absent, Addr, Doubt, PhysAddr, ToU64, ToUsize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decompressed pages that are kept.
const LIMIT_CACHED: u64 = 16 << 20;

enum Form {
    Streamed(Box<Streamed>),
    /// Page `i` lies at `data + i * page size`; what the file does not reach is zero.
    Plain {
        data: u64,
    },
}

type Page = Result<Arc<[u8]>, Absent>;

/// The pages.
pub(super) struct Pages {
    form: Form,
    source: Arc<dyn ReadAt>,
    page_size: u64,
    pub pfns: Pfns,
    cache: Mutex<HashMap<u64, Page>>,
}

impl Pages {
    #[allow(clippy::too_many_arguments, reason = "called once, with everything that was found")]
    pub(super) fn open(
        source: Arc<dyn ReadAt>,
        place: Place,
        header: &DumpHeader,
        data: Option<DataHeader>,
        end: u64,
        pfns: Pfns,
        doubts: &mut Vec<Doubt>,
    ) -> Self {
        let form = match place {
            Place::Vmcore => {
                plain_doubts(&*source, header, pfns.count(), doubts);
                Form::Plain { data: header.data }
            }
            Place::Device | Place::Vmdump => {
                let section = Section {
                    start: header.data,
                    end,
                    page_size: header.page_size,
                    total: pfns.count(),
                    complete: header.has(flag::COMPLETE),
                    header: data,
                };
                Form::Streamed(Box::new(Streamed::open(source.clone(), &section, doubts)))
            }
        };
        Self { form, source, page_size: header.page_size, pfns, cache: Mutex::default() }
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        match &self.form {
            Form::Streamed(s) => Some(s.mode),
            Form::Plain { .. } => None,
        }
    }

    pub(super) const fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The page of an index.
    pub(super) fn page(&self, index: u64) -> Page {
        if index >= self.pfns.count() {
            return Err(Absent::Truncated);
        }
        if let Some(page) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&index) {
            return page.clone();
        }
        let mut wanted = Err(Absent::Corrupt);
        let mut keep = Vec::new();
        match &self.form {
            Form::Streamed(s) => s.pages(index, &mut |n, page| {
                let page: Page = page.map(Arc::from);
                if n == index {
                    wanted = page.clone();
                }
                keep.push((n, page));
            }),
            Form::Plain { data } => {
                wanted = self.plain(*data, index);
                keep.push((index, wanted.clone()));
            }
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let most = LIMIT_CACHED.checked_div(self.page_size).unwrap_or(1).to_usize();
        if cache.len().saturating_add(keep.len()) > most {
            cache.clear();
        }
        cache.extend(keep);
        wanted
    }

    fn plain(&self, data: u64, index: u64) -> Page {
        let at = index.checked_mul(self.page_size).and_then(|o| data.checked_add(o)).ok_or(Absent::Corrupt)?;
        if self.source.size() <= data {
            return Err(Absent::Truncated);
        }
        let mut page = vec![0; self.page_size.to_usize()];
        if at < self.source.size() {
            self.source.read_at(at, &mut page).map_err(|_| Absent::Corrupt)?;
        }
        Ok(Arc::from(page))
    }

    /// Reads physical memory.
    pub(super) fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        self.read(at.0, into, &|pfn_at| {
            let pfn = pfn_at.checked_div(self.page_size).unwrap_or(0);
            // The table lists what was dumped, not what memory the machine has.
            self.pfns.find(pfn).ok_or(Absent::Filtered)
        })
    }

    /// Reads pages whose indices `index` tells by address.
    pub(super) fn read(
        &self,
        at: u64,
        into: &mut [u8],
        index: &dyn Fn(u64) -> Result<u64, Absent>,
    ) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let page = match index(here).and_then(|i| self.page(i)) {
                Ok(page) => page,
                Err(why) => return (done, Some(why)),
            };
            let skip = (here & self.page_size.wrapping_sub(1)).to_usize();
            let n = page.len().saturating_sub(skip).min(into.len().saturating_sub(done));
            match (slice_at(&page, skip, n), into.get_mut(done..done.saturating_add(n))) {
                (Some(from), Some(to)) if n > 0 => to.copy_from_slice(from),
                _ => return (done, Some(Absent::Corrupt)),
            }
            done = done.saturating_add(n);
        }
        (done, None)
    }

    /// What the chain of blocks lost, and whether it came to its end.
    pub(super) fn chain_doubts(&self, doubts: &mut Vec<Doubt>) {
        let Form::Streamed(s) = &self.form else { return };
        for gap in &s.gaps {
            let (from, to) = (gap.range.start, gap.range.end);
            let why = format!(
                "at file offset {from:#x}: {:#010x} is no block's header (tag and length); {} at {to:#x}",
                gap.word,
                if gap.settled { "the block's contents are whole and are used, and end" } else { "reading goes on" }
            );
            doubts.push(Doubt::at("dump-blocks", Addr(from), why));
        }
        if !s.ended && s.gaps.is_empty() {
            doubts.push(Doubt::new("dump-blocks", format!("only the first {} blocks were indexed", s.blocks)));
        }
    }

    fn named(&self, pages: std::ops::Range<u64>, why: Absent) -> Lost {
        let last = pages.end.saturating_sub(1);
        let frames = self.pfns.get(pages.start).zip(self.pfns.get(last));
        Lost { pages, frames, why }
    }

    /// What is lost as far as headers tell. Streams are not looked into here: that would be reading everything.
    pub(super) fn unplaced(&self) -> Vec<Lost> {
        match &self.form {
            Form::Streamed(s) if s.mode == Mode::Serial => {
                let why = if s.ended { Absent::Corrupt } else { Absent::Truncated };
                s.unplaced(self.pfns.count()).into_iter().map(|r| self.named(r, why)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is lost, by reading everything.
    pub(super) fn lost(&self) -> Vec<Lost> {
        if let Form::Streamed(s) = &self.form {
            s.compare_streams();
        }
        let mut lost: Vec<Lost> = Vec::new();
        for index in 0..self.pfns.count() {
            let Err(why) = self.page(index) else { continue };
            match lost.last_mut() {
                Some(l) if l.pages.end == index && l.why == why => l.pages.end = index.saturating_add(1),
                _ => lost.push(Lost { pages: index..index.saturating_add(1), frames: None, why }),
            }
        }
        lost.into_iter().map(|l| self.named(l.pages, l.why)).collect()
    }
}

/// In `vmcore.N` a page that was not written reads as zeros, and so does one that savecore could not decompress.
fn plain_doubts(source: &dyn ReadAt, h: &DumpHeader, count: u64, doubts: &mut Vec<Doubt>) {
    let full = count.checked_mul(h.page_size).and_then(|b| h.data.checked_add(b)).unwrap_or(u64::MAX);
    if count > 0 && source.size() <= h.data {
        let why = "not a single page has bytes: savecore could not decompress any (it says so nowhere); use vmdump.N";
        doubts.push(Doubt::new("dump-pages", why));
    } else if source.size() < full {
        let missing = full.saturating_sub(source.size()).div_ceil(h.page_size);
        let why = format!(
            "the file ends before its last {missing} pages: they were zero, or could not be saved; they are read as zero"
        );
        doubts.push(Doubt::new("dump-pages", why));
    }
}
