//! An index of all FDEs of a section, made by one pass over it.

use crate::Slice;
use gimli::{BaseAddresses, CieOrFde, FrameDescriptionEntry, UnwindOffset, UnwindSection};

/// FDEs by start address.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// (start, end, offset in the section), sorted.
    entries: Vec<(u64, u64, usize)>,
}

impl Index {
    /// Skims the section. A damaged entry is left out; behind a damaged length nothing can be found any more.
    pub(super) fn build<'m, S: UnwindSection<Slice<'m>>>(section: &S, bases: &BaseAddresses) -> Self {
        let mut entries = Vec::new();
        let mut all = section.entries(bases);
        let mut cies = std::collections::HashMap::new();
        while let Ok(Some(entry)) = all.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde = partial.parse(|section, bases, offset| {
                let key: usize = UnwindOffset::into(offset);
                if let Some(known) = cies.get(&key) {
                    return Clone::clone(known);
                }
                let cie = section.cie_from_offset(bases, offset);
                cies.insert(key, cie.clone());
                cie
            });
            // Linkers leave FDEs of dropped functions behind, at address 0 and of length 0.
            if let Ok(fde) = fde
                && fde.len() > 0
            {
                entries.push((fde.initial_address(), fde.end_address(), fde.offset()));
            }
        }
        entries.sort_unstable();
        Self { entries }
    }

    /// The offsets of all FDEs, by address.
    pub(super) fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().map(|(_, _, offset)| *offset)
    }

    /// The offset of the FDE that covers `at`.
    pub(super) fn find(&self, at: u64) -> Option<usize> {
        let index = self.entries.partition_point(|(start, _, _)| *start <= at).checked_sub(1)?;
        // Entries do not nest in what compilers write; the few before are looked at for hand-written ones.
        let near = self.entries.get(index.saturating_sub(4)..=index)?;
        near.iter().rev().find(|(_, end, _)| at < *end).map(|(_, _, offset)| *offset)
    }
}

/// Parses the FDE at an offset.
pub(super) fn fde<'m, S: UnwindSection<Slice<'m>>>(
    section: &S,
    bases: &BaseAddresses,
    offset: S::Offset,
) -> gimli::Result<FrameDescriptionEntry<Slice<'m>>> {
    section.fde_from_offset(bases, offset, S::cie_from_offset)
}
