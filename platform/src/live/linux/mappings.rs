//! What the mappings of a live process say about reading its memory.

use evidence::{Absent, Addr, Extent, Mapping};
use std::ops::Range;

pub(super) use crate::linux_abi::maps::parse;

/// Kernel data pages that no debugger may read, by their name in `maps`.
const UNREADABLE: [&str; 2] = ["[vvar]", "[vvar_vclock]"];

/// Adjacent mappings joined: what can be read, and what cannot.
pub(super) fn extents(mappings: &[Mapping]) -> Vec<Extent> {
    let ranges = mappings.iter().map(|m| (m.range.clone(), unreadable(m).then_some(Absent::Denied)));
    joined(ranges).into_iter().map(|(range, absent)| Extent { range, absent }).collect()
}

/// Whether nobody may read the mapping, a tracer included.
pub(super) fn unreadable(mapping: &Mapping) -> bool {
    mapping.path.as_deref().is_some_and(|p| UNREADABLE.contains(&p))
}

/// Joins adjacent ranges of which the same is true.
pub(super) fn joined<T: PartialEq>(ranges: impl Iterator<Item = (Range<Addr>, T)>) -> Vec<(Range<Addr>, T)> {
    let mut out: Vec<(Range<Addr>, T)> = Vec::new();
    for (range, value) in ranges {
        match out.last_mut() {
            Some((last, same)) if last.end == range.start && *same == value => last.end = range.end,
            _ => out.push((range, value)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_kernel_pages_kept_out() {
        let (mappings, _) = parse(
            b"1000-2000 r--p 0 0:0 0\n2000-3000 rw-p 0 0:0 0\n5000-6000 r--p 0 0:0 0 [vvar]\n6000-7000 r-xp 0 0:0 0 [vdso]\n",
        );
        let extents = extents(&mappings);
        assert_eq!(extents.len(), 3);
        assert_eq!(extents[0].range, Addr(0x1000)..Addr(0x3000));
        assert_eq!(extents[1].absent, Some(Absent::Denied));
    }
}
