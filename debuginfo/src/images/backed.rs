//! A memory whose gaps are filled from the files that were mapped there.
//!
//! Cores usually leave out what can be read from the program's files again: code and constants. Only ranges that
//! nobody could have written are filled, and only from files that were verified.

use super::{Module, Modules, Verified};
use crate::symbols::dynamic;
use evidence::{Absent, Addr, Extent, Memory, ToU64, ToUsize};
use std::ops::Range;

/// Tags of the dynamic section that say that the loader wrote into code (gABI, `DT_TEXTREL`, `DF_TEXTREL`).
const DT_TEXTREL: u64 = 22;
const DT_FLAGS: u64 = 30;
const DF_TEXTREL: u64 = 4;

/// Granularity of what a dump may hold of a mapping, bytes.
const PAGE: u64 = 4096;

/// The memory beneath, with what it left out read from verified files.
pub struct Backed<'a> {
    inner: &'a dyn Memory,
    /// Read-only segments, by address, disjoint.
    segments: Vec<(Range<Addr>, &'a [u8])>,
    extents: Vec<Extent>,
}

/// Whether a file's bytes are what memory held: by build-id or by all program headers. Mapped ranges alone do not say
/// what was in them.
const fn is_sure(module: &Module) -> bool {
    matches!(module.verified(), Verified::BuildId | Verified::ProgramHeaders)
}

/// A page that nobody mapped is a fact about the program, which a file must not paint over; what a dump left out or
/// lost, or a live process was not asked for in time, is not.
const fn is_gap(why: Absent) -> bool {
    matches!(why, Absent::Filtered | Absent::Truncated | Absent::Released)
}

impl<'a> Backed<'a> {
    /// Fills the gaps of `inner` from the files of `modules`.
    #[must_use]
    pub fn new(inner: &'a dyn Memory, modules: &'a Modules) -> Self {
        let mut segments: Vec<(Range<Addr>, &[u8])> = Vec::new();
        for module in modules.list().iter().filter(|m| is_sure(m)) {
            let Some(file) = module.main() else { continue };
            let rewritten = dynamic::entries(file)
                .iter()
                .any(|(tag, value)| *tag == DT_TEXTREL || (*tag == DT_FLAGS && value & DF_TEXTREL != 0));
            if rewritten {
                continue;
            }
            for segment in file.segments().iter().filter(|s| !s.writable) {
                let Some(bytes) = file.bytes_at(segment.address) else { continue };
                let start = module.to_addr(segment.address);
                if let Some(end) = start.checked_add(bytes.len().to_u64()) {
                    segments.push((start..end, bytes));
                }
            }
        }
        segments.sort_by_key(|(range, _)| range.start);
        let mut end = Addr(0);
        segments.retain(|(range, _)| {
            let apart = range.start >= end;
            if apart {
                end = range.end;
            }
            apart
        });
        let extents = fill(inner.extents(), &segments);
        Self { inner, segments, extents }
    }

    /// The file bytes from `at` to the end of its segment.
    fn in_file(&self, at: Addr) -> Option<&'a [u8]> {
        let index = self.segments.partition_point(|(range, _)| range.start <= at).checked_sub(1)?;
        let (range, bytes) = self.segments.get(index)?;
        bytes.get(at.offset_from(range.start)?.to_usize()..).filter(|tail| !tail.is_empty())
    }
}

/// The extents with every gap that a segment covers marked as there.
fn fill(extents: &[Extent], segments: &[(Range<Addr>, &[u8])]) -> Vec<Extent> {
    let mut filled = Vec::with_capacity(extents.len());
    for extent in extents {
        if !extent.absent.is_some_and(is_gap) {
            filled.push(extent.clone());
            continue;
        }
        let mut at = extent.range.start;
        let first = segments.partition_point(|(range, _)| range.end <= at);
        for (range, _) in segments.get(first..).unwrap_or_default() {
            if range.start >= extent.range.end {
                break;
            }
            let (start, end) = (range.start.max(at), range.end.min(extent.range.end));
            if at < start {
                filled.push(Extent { range: at..start, absent: extent.absent });
            }
            filled.push(Extent { range: start..end, absent: None });
            at = end;
        }
        if at < extent.range.end {
            filled.push(Extent { range: at..extent.range.end, absent: extent.absent });
        }
    }
    filled
}

impl Memory for Backed<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        loop {
            let Some(rest) = into.get_mut(done..) else { return (done, None) };
            let here = at.wrapping_add(done.to_u64());
            let (got, stop) = self.inner.read(here, rest);
            done = done.saturating_add(got);
            let Some(why) = stop else { return (done, None) };
            let missing = at.wrapping_add(done.to_u64());
            let (Some(bytes), Some(rest)) = (self.in_file(missing).filter(|_| is_gap(why)), into.get_mut(done..))
            else {
                return (done, Some(why));
            };
            // At most to the end of the page: the next one may have been written to (by a debugger) and be recorded.
            let page = PAGE.wrapping_sub(missing.0 & PAGE.wrapping_sub(1)).to_usize();
            let n = bytes.len().min(rest.len()).min(page);
            if let (Some(to), Some(from)) = (rest.get_mut(..n), bytes.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
            if done == into.len() {
                return (done, None);
            }
        }
    }

    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        self.inner.view(range.clone()).or_else(|| {
            // Only where the memory beneath has nothing of its own.
            let mut probe = [0; 1];
            let (0, Some(why)) = self.inner.read(range.start, &mut probe) else { return None };
            let length = range.end.offset_from(range.start)?.to_usize();
            let within = self.extent_is_gap(&range);
            self.in_file(range.start).filter(|_| is_gap(why) && within)?.get(..length)
        })
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

impl Backed<'_> {
    /// Whether one gap of the memory beneath covers the whole range.
    fn extent_is_gap(&self, range: &Range<Addr>) -> bool {
        let extents = self.inner.extents();
        let index = extents.partition_point(|e| e.range.start <= range.start).checked_sub(1);
        let extent = index.and_then(|i| extents.get(i));
        extent.is_some_and(|e| e.absent.is_some_and(is_gap) && e.range.end >= range.end)
    }
}
