//! The memory of a core: segments, read from the file when asked for.

use super::NOT_DUMPED;
use super::headers::Segment;
use crate::input::Input;
use evidence::{Absent, Addr, Extent, Memory, ToU64, ToUsize};

/// The address space that a core holds.
///
/// Nothing is kept in memory: a core of 500 GB costs what is asked of it. `read` is for many threads at once.
pub struct CoreMemory {
    input: Input,
    segments: Vec<Segment>,
    extents: Vec<Extent>,
}

impl CoreMemory {
    pub(super) fn new(input: Input, segments: Vec<Segment>) -> Self {
        let mut extents = Vec::with_capacity(segments.len());
        for s in &segments {
            // Of what the headers promise, the file may lack the end.
            let there = s.file_size.min(input.size().saturating_sub(s.offset));
            let (dumped, promised) = (s.range.start.saturating_add(there), s.range.start.saturating_add(s.file_size));
            let parts = [
                (s.range.start..dumped, None),
                (dumped..promised, Some(Absent::Truncated)),
                (promised..s.range.end, Some(NOT_DUMPED)),
            ];
            extents.extend(
                parts.into_iter().filter(|(r, _)| r.start < r.end).map(|(range, absent)| Extent { range, absent }),
            );
        }
        Self { input, segments, extents }
    }

    /// Bytes of the file that do not belong to this format, for callers that want to look at them again.
    #[must_use]
    pub const fn input(&self) -> &Input {
        &self.input
    }

    fn segment(&self, at: Addr) -> Option<&Segment> {
        let index = self.segments.partition_point(|s| s.range.end <= at);
        self.segments.get(index).filter(|s| s.range.contains(&at))
    }
}

impl Memory for CoreMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let Some(segment) = self.segment(here) else { return (done, Some(Absent::Unmapped)) };
            let skip = here.0.saturating_sub(segment.range.start.0);
            let there = segment.file_size.saturating_sub(skip);
            if there == 0 {
                return (done, Some(NOT_DUMPED));
            }
            let Some(rest) = into.get_mut(done..) else { break };
            let n = rest.len().to_u64().min(there).to_usize();
            let Some(part) = rest.get_mut(..n) else { break };
            match self.input.read_at(segment.offset.saturating_add(skip), part) {
                Ok(got) => {
                    done = done.saturating_add(got);
                    if got < n {
                        return (done, Some(Absent::Truncated));
                    }
                }
                Err(_) => return (done, Some(Absent::Corrupt)),
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}
