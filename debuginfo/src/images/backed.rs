//! Memory that was left out of a dump because it is in a file: read from the file that was verified.

use super::Modules;
use super::report::Verified;
use evidence::{Absent, Addr, Extent, Memory, ToU64, ToUsize};
use std::ops::Range;

/// Decorates a [`Memory`]: what a source left out or lost, and what lies in a segment that cannot be written, comes from
/// the image's file.
///
/// Cores leave file-backed segments out (`coredump_filter`), minidumps leave nearly everything out. Only files whose
/// build-id or program headers were found in the target's memory are used, and never for segments that can be
/// written: those the program may have changed.
pub struct Backed<'b> {
    inner: &'b dyn Memory,
    modules: &'b Modules,
}

impl<'b> Backed<'b> {
    /// Over `inner`, with the files of `modules`.
    #[must_use]
    pub const fn new(inner: &'b dyn Memory, modules: &'b Modules) -> Self {
        Self { inner, modules }
    }

    /// The file's bytes from `at` to the end of the segment's file part.
    fn file_bytes(&self, at: Addr) -> Option<&'b [u8]> {
        let (_, module) = self.modules.find(at)?;
        if !matches!(module.verified(), Verified::BuildId | Verified::ProgramHeaders) {
            return None;
        }
        let file = module.main()?;
        let svma = module.to_svma(at);
        let inside = file.segments().iter().find(|s| svma.offset_from(s.address).is_some_and(|o| o < s.file_size))?;
        if inside.writable { None } else { file.bytes_at(svma) }
    }
}

impl Memory for Backed<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let (got, stop) = self.inner.read(here, rest);
            done = done.saturating_add(got);
            let Some(why) = stop else { break };
            // A page that nobody mapped is a fact about the program; a file must not paint over it.
            if !matches!(why, Absent::Filtered | Absent::Truncated | Absent::Released) {
                return (done, Some(why));
            }
            let (Some(rest), Some(here)) = (into.get_mut(done..), at.checked_add(done.to_u64())) else {
                return (done, Some(why));
            };
            let Some(bytes) = self.file_bytes(here).filter(|b| !b.is_empty()) else { return (done, Some(why)) };
            // At most to the end of the page: the next one may be in the dump itself.
            let page = 4096_u64.wrapping_sub(here.0 & 4095).to_usize();
            let n = bytes.len().min(rest.len()).min(page);
            if let (Some(to), Some(from)) = (rest.get_mut(..n), bytes.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
        }
        (done, None)
    }

    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        self.inner.view(range)
    }

    fn extents(&self) -> &[Extent] {
        self.inner.extents()
    }
}
