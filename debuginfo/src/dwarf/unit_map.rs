//! Which unit an address belongs to.
//!
//! `.debug_aranges` and `.gdb_index` name units by address, and neither is ever complete: clang writes no aranges unless
//! asked, a single object of gcc among many of clang's supplies only its own, linkers build the index from what they
//! were given. So an address that none of them knows is looked for among the units that they do not mention, by their
//! root DIEs alone. (`.debug_names` has no addresses.)

use super::ranges::{LIMIT_DIE_RANGES, Pcs, RangeMap};
use super::unit::Root;
use super::{Dwarf, abbreviations, gdb_index};
use crate::Slice;
use crate::cache::bytes_to_numbers;
use crate::parallel::parallel;
use evidence::{Svma, ToU64 as _, ToUsize as _};
use gimli::Section as _;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// Most ranges kept for all units together: 40 times what a 2 GB debug file has, and 128 MB.
pub const LIMIT_UNIT_RANGES: usize = 1 << 22;

/// Units per piece of work of a parallel scan.
const UNITS_PER_STEP: usize = 16;

/// Headers walked before the pages around them are let go. The kernel maps 16 pages for each one that is touched, so
/// that 10,000 headers would hold 640 MB.
const HEADERS_PER_RELEASE: usize = 128;

pub(crate) type Map = RangeMap<usize>;

/// What is known about where units lie, each part found when first needed.
#[derive(Debug, Default)]
pub(crate) struct UnitMap {
    /// Offsets of all unit headers in `.debug_info`, sorted.
    headers: OnceLock<Vec<usize>>,
    indexed: OnceLock<(Map, HashSet<usize>)>,
    /// The units that no index mentions.
    scanned: OnceLock<Map>,
    /// All units, for addresses of which an index told a lie.
    everything: OnceLock<Map>,
}

/// The ranges that a cache entry states; `None` unless each could be one of a `.debug_info` of `size` bytes.
fn ranges_of(entry: &[u8], size: usize) -> Option<Vec<(Range<u64>, usize)>> {
    let numbers: Vec<u64> = bytes_to_numbers(entry)?.collect();
    let (triples, rest) = numbers.as_chunks::<3>();
    if !rest.is_empty() || triples.len() > LIMIT_UNIT_RANGES {
        return None;
    }
    let range =
        |[start, end, unit]: &[u64; 3]| (start < end && *unit < size.to_u64()).then(|| (*start..*end, unit.to_usize()));
    triples.iter().map(range).collect()
}

/// The headers of the units in the first `there` bytes of `.debug_info`, in order; stops at damage.
pub(super) fn headers<'m>(
    sections: &gimli::Dwarf<Slice<'m>>,
    there: usize,
) -> impl Iterator<Item = gimli::UnitHeader<Slice<'m>>> {
    let mut units = sections.units();
    let end = |header: &gimli::UnitHeader<Slice<'m>>| {
        header.debug_info_offset().map_or(0, |start| start.0.saturating_add(header.length_including_self()))
    };
    std::iter::from_fn(move || units.next().ok().flatten()).take_while(move |header| end(header) <= there)
}

impl<'m> Dwarf<'m> {
    /// Offsets of all unit headers in `.debug_info`, in order; stops at damage.
    pub(crate) fn unit_offsets(&self) -> &[usize] {
        self.map.headers.get_or_init(|| {
            let there = self.reach(usize::MAX);
            let mut offsets = Vec::new();
            let mut done = 0;
            for header in headers(&self.sections, there) {
                offsets.extend(header.debug_info_offset().map(|o| o.0));
                if offsets.len().is_multiple_of(HEADERS_PER_RELEASE) {
                    let read = self.sections.debug_info.reader().slice();
                    let upto = offsets.last().copied().unwrap_or(0);
                    self.file.release(read.get(done..upto).unwrap_or_default());
                    done = upto;
                }
            }
            offsets
        })
    }

    /// The units that say they cover `at`, the most trustworthy first; lazily, since the first is mostly right.
    pub(crate) fn units_at(&self, at: u64) -> impl Iterator<Item = usize> + '_ {
        let stages: [fn(&Self) -> &Map; 3] = [|d| &d.indexed().0, Self::scanned, Self::everything];
        let mut seen = Vec::new();
        stages
            .into_iter()
            .flat_map(move |stage| stage(self).covering(at))
            .map(|(_, unit)| unit)
            .filter(move |unit| !seen.contains(unit) && (seen.push(*unit), true).1)
    }

    /// The unit that will most likely turn out to hold `at`.
    pub(crate) fn likely_unit(&self, at: Svma) -> Option<usize> {
        self.units_at(at.0).next()
    }

    /// What `.debug_aranges` and `.gdb_index` say, and which units they mention.
    fn indexed(&self) -> &(Map, HashSet<usize>) {
        self.map.indexed.get_or_init(|| {
            let section = self.file.section_data(".gdb_index").ok().flatten().unwrap_or_default();
            let mut ranges = gdb_index::ranges(section, LIMIT_UNIT_RANGES).unwrap_or_default();
            ranges.retain(|(range, _)| range.start != 0 || self.zero_is_code);
            let mut headers = self.sections.debug_aranges.headers();
            while let Ok(Some(header)) = headers.next() {
                let unit = header.debug_info_offset().0;
                let mut entries = header.entries();
                while let Ok(Some(entry)) = entries.next() {
                    let range = entry.range();
                    if range.begin < range.end && (range.begin != 0 || self.zero_is_code) {
                        ranges.push((range.begin..range.end, unit));
                    }
                    if ranges.len() >= LIMIT_UNIT_RANGES {
                        break;
                    }
                }
            }
            self.file.release(self.sections.debug_aranges.reader().slice());
            let named = ranges.iter().map(|(_, unit)| *unit).collect();
            (RangeMap::new(ranges), named)
        })
    }

    fn scanned(&self) -> &Map {
        self.map.scanned.get_or_init(|| {
            let named = &self.indexed().1;
            self.kept("units-unnamed", |unit| !named.contains(&unit))
        })
    }

    fn everything(&self) -> &Map {
        self.map.everything.get_or_init(|| {
            let named = &self.indexed().1;
            self.kept("units-named", |unit| named.contains(&unit))
        })
    }

    /// The ranges of all units that `wanted` says: out of the cache, else by a scan, which then goes into the cache.
    fn kept(&self, what: &str, wanted: impl Fn(usize) -> bool) -> Map {
        let size = self.sections.debug_info.reader().len();
        let cache = self.file.cache().filter(|(cache, _)| size.to_u64() >= cache.smallest);
        let known = cache.and_then(|(cache, subject)| ranges_of(&cache.load(subject, what)?, size));
        RangeMap::new(known.unwrap_or_else(|| {
            let units: Vec<_> = self.unit_offsets().iter().copied().filter(|u| wanted(*u)).collect();
            let found = self.scan(&units);
            if let Some((cache, subject)) = cache {
                let numbers: Vec<u64> =
                    found.iter().flat_map(|(range, unit)| [range.start, range.end, unit.to_u64()]).collect();
                cache.keep_numbers(subject, what, &numbers);
            }
            found
        }))
    }

    /// The ranges of the root DIEs of `units`.
    fn scan(&self, units: &[usize]) -> Vec<(Range<u64>, usize)> {
        let steps = AtomicU64::new(0);
        let pieces: Vec<&[usize]> = units.chunks(UNITS_PER_STEP).collect();
        let mut found = parallel(&pieces, |some| {
            let mut found = Vec::new();
            for unit in *some {
                let _ = self.root_ranges(*unit, &steps, |range| {
                    found.push((range, *unit));
                    found.len() < LIMIT_UNIT_RANGES
                });
            }
            // The pages around roots that nobody will look at again.
            if let (Some(first), Some(last)) = (some.first(), some.last()) {
                self.file.release(self.sections.debug_info.reader().slice().get(*first..*last).unwrap_or_default());
                self.file.release(self.sections.ranges.debug_rnglists().reader().slice());
                self.file.release(self.sections.ranges.debug_ranges().reader().slice());
            }
            found
        })
        .concat();
        found.truncate(LIMIT_UNIT_RANGES);
        found
    }

    fn root_ranges(
        &self,
        unit: usize,
        steps: &AtomicU64,
        with: impl FnMut(Range<u64>) -> bool,
    ) -> Result<(), gimli::Error> {
        let header = self.info_header(unit)?;
        let abbreviations = abbreviations::of_root(&self.sections.debug_abbrev, &header, steps)?;
        let root = Root::read(&self.sections, header, abbreviations)?;
        if matches!(root.tag, gimli::DW_TAG_partial_unit | gimli::DW_TAG_type_unit) {
            return Ok(());
        }
        let pcs: Pcs<'m> = root.pcs;
        pcs.each(root.unit.unit_ref(&self.sections), self.zero_is_code, &mut LIMIT_DIE_RANGES.clone(), with)
    }
}
