//! Address ranges of DIEs, and maps from an address to what covers it.

use crate::Slice;
use gimli::{AttributeValue, UnitRef};
use std::cmp::Reverse;
use std::ops::Range;

/// Most ranges read for one DIE. The largest seen is the root of a whole-program LTO unit with some 100,000 of them.
pub const LIMIT_DIE_RANGES: usize = 1 << 20;

/// The attributes that say which addresses a DIE covers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pcs<'m> {
    low: Option<AttributeValue<Slice<'m>>>,
    high: Option<AttributeValue<Slice<'m>>>,
    ranges: Option<AttributeValue<Slice<'m>>>,
}

impl<'m> Pcs<'m> {
    /// Keeps `attribute` if it is one of them.
    pub(crate) fn take(&mut self, attribute: &gimli::Attribute<Slice<'m>>) {
        match attribute.name() {
            gimli::DW_AT_low_pc => self.low = Some(attribute.value()),
            gimli::DW_AT_high_pc => self.high = Some(attribute.value()),
            gimli::DW_AT_ranges => self.ranges = Some(attribute.value()),
            _ => {}
        }
    }

    /// Whether there is any of them that could give a range.
    pub(crate) const fn any(&self) -> bool {
        self.ranges.is_some() || (self.low.is_some() && self.high.is_some())
    }

    /// Calls `with` for each non-empty range that code can lie in, in the order of the list, until it returns `false`
    /// or `left` is used up, of which every entry of a list takes one.
    ///
    /// Linkers leave the ranges of dropped functions behind: at 0 (GNU ld, gold; 1 in `.debug_ranges`), or at -1 or -2
    /// (lld, DWARF 5 appendix). None of them is passed on, except at 0 when `zero_is_code`.
    pub(crate) fn each(
        &self,
        unit: UnitRef<'_, Slice<'m>>,
        zero_is_code: bool,
        left: &mut usize,
        mut with: impl FnMut(Range<u64>) -> bool,
    ) -> Result<(), gimli::Error> {
        let top = unit.header.address_size();
        let last =
            if top >= 8 { u64::MAX } else { (1u64 << (u32::from(top).saturating_mul(8)).min(63)).wrapping_sub(1) };
        let plausible = |r: &Range<u64>| {
            r.start < r.end && r.end <= last && r.start < last.wrapping_sub(1) && (r.start != 0 || zero_is_code)
        };
        if let Some(value) = self.ranges
            && let Some(mut list) = unit.attr_ranges(value)?
        {
            while *left > 0
                && let Some(raw) = list.next_raw()?
            {
                *left = left.saturating_sub(1);
                if let Some(range) = list.convert_raw(raw)? {
                    let range = range.begin..range.end;
                    if plausible(&range) && !with(range) {
                        break;
                    }
                }
            }
            return Ok(());
        }
        let (Some(low), Some(high)) = (self.low, self.high) else { return Ok(()) };
        let Some(start) = unit.attr_address(low)? else { return Ok(()) };
        let end = match unit.attr_address(high)? {
            Some(end) => end,
            None => high.udata_value().map_or(start, |size| start.checked_add(size).unwrap_or(start)),
        };
        let range = start..end;
        if plausible(&range) {
            with(range);
        }
        Ok(())
    }
}

/// Ranges, possibly overlapping, each with a value; finds those that cover an address.
#[derive(Debug)]
pub(crate) struct RangeMap<T> {
    /// Sorted by start, wider ranges first.
    entries: Box<[Entry<T>]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    start: u64,
    end: u64,
    /// The largest end among this and all earlier entries: lets a search stop.
    reach: u64,
    value: T,
}

impl<T: Copy> RangeMap<T> {
    pub(crate) fn new(ranges: Vec<(Range<u64>, T)>) -> Self {
        let mut entries: Vec<_> =
            ranges.into_iter().map(|(r, value)| Entry { start: r.start, end: r.end, reach: r.end, value }).collect();
        entries.sort_by_key(|e| (e.start, Reverse(e.end)));
        let mut reach = 0;
        for e in &mut entries {
            reach = e.end.max(reach);
            e.reach = reach;
        }
        Self { entries: entries.into() }
    }

    /// Everything that covers `at`, innermost (latest start, then shortest) first.
    pub(crate) fn covering(&self, at: u64) -> impl Iterator<Item = (Range<u64>, T)> + '_ {
        let after = self.entries.partition_point(|e| e.start <= at);
        let before = self.entries.get(..after).unwrap_or_default();
        before
            .iter()
            .rev()
            .take_while(move |e| e.reach > at)
            .filter(move |e| e.end > at)
            .map(|e| (e.start..e.end, e.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_range_comes_first() {
        let map = RangeMap::new(vec![(0..100, 'a'), (10..20, 'b'), (10..12, 'c'), (50..60, 'd')]);
        let names = |at| map.covering(at).map(|(_, v)| v).collect::<String>();
        assert_eq!(names(11), "cba");
        assert_eq!(names(15), "ba");
        assert_eq!(names(30), "a");
        assert_eq!(names(55), "da");
        assert_eq!(names(100), "");
    }
}
