//! A memory with some ranges taken out.

use crate::{Absent, Addr, Extent, Memory, ToU64, ToUsize};
use std::ops::Range;

/// Decorates a [`Memory`] so that the given ranges read as [`Absent::Filtered`].
pub struct Redacted<'m> {
    inner: &'m dyn Memory,
    hidden: Vec<Range<Addr>>,
    extents: Vec<Extent>,
}

impl<'m> Redacted<'m> {
    /// Hides `hidden` (in any order, overlapping or not) of `inner`.
    #[must_use]
    pub fn new(inner: &'m dyn Memory, hidden: Vec<Range<Addr>>) -> Self {
        let mut hidden: Vec<_> = hidden.into_iter().filter(|r| r.start < r.end).collect();
        hidden.sort_by_key(|r| (r.start, r.end));
        let mut extents = Vec::new();
        for extent in inner.extents() {
            let mut from = extent.range.start;
            for h in &hidden {
                let (start, end) = (h.start.max(from), h.end.min(extent.range.end));
                if start >= end {
                    continue;
                }
                if from < start {
                    extents.push(Extent { range: from..start, absent: extent.absent });
                }
                extents.push(Extent { range: start..end, absent: Some(extent.absent.unwrap_or(Absent::Filtered)) });
                from = end;
            }
            if from < extent.range.end {
                extents.push(Extent { range: from..extent.range.end, absent: extent.absent });
            }
        }
        Self { inner, hidden, extents }
    }
}

impl Memory for Redacted<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let end = at.saturating_add(into.len().to_u64());
        // Ranges are sorted by start, not disjoint: the first one that ends after `at` and starts first decides.
        let cut = self.hidden.iter().filter(|h| h.end > at && h.start < end).map(|h| h.start.max(at)).min();
        let Some(cut) = cut else { return self.inner.read(at, into) };
        let len = cut.offset_from(at).unwrap_or(0).to_usize();
        let Some(part) = into.get_mut(..len) else { return (0, Some(Absent::Filtered)) };
        let (got, stop) = self.inner.read(at, part);
        (got, Some(stop.unwrap_or(Absent::Filtered)))
    }

    fn view(&self, range: Range<Addr>) -> Option<&[u8]> {
        if self.hidden.iter().any(|h| h.end > range.start && h.start < range.end) {
            return None;
        }
        self.inner.view(range)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMemory;

    #[test]
    fn hidden_bytes_are_filtered_and_the_rest_is_not() {
        let memory = FakeMemory::new().with(Addr(0x1000), (0..64).collect::<Vec<u8>>());
        let redacted = Redacted::new(&memory, vec![Addr(0x1010)..Addr(0x1020)]);
        let mut buffer = [0; 32];
        assert_eq!(redacted.read(Addr(0x1000), &mut buffer), (16, Some(Absent::Filtered)));
        assert_eq!(redacted.read(Addr(0x1010), &mut buffer), (0, Some(Absent::Filtered)));
        assert_eq!(redacted.read(Addr(0x1020), &mut buffer), (32, None));
        assert_eq!(buffer[0], 32);
        assert_eq!(redacted.extents().len(), 3);
        assert!(redacted.view(Addr(0x1000)..Addr(0x1011)).is_none());
    }
}
