//! Steps over the DIEs of a unit in file order, past whole subtrees where nothing in them matters.
//!
//! Nothing here recurses, and every step consumes input, so neither depth nor number of DIEs needs a limit.

use crate::Slice;
use gimli::{Abbreviation, Attribute, AttributeValue, EntriesRaw, Error, UnitOffset, UnitRef};

/// A DIE whose attributes are the next thing to read.
#[derive(Clone, Copy)]
pub(crate) struct Die<'u> {
    pub(crate) offset: UnitOffset,
    /// Depth below the DIE that the cursor started at.
    pub(crate) depth: isize,
    pub(crate) abbreviation: &'u Abbreviation,
}

pub(crate) struct Cursor<'u, 'm> {
    unit: UnitRef<'u, Slice<'m>>,
    entries: EntriesRaw<'u, Slice<'m>>,
    /// Depth of what `entries` calls 0.
    base: isize,
}

impl<'u, 'm> Cursor<'u, 'm> {
    /// Starts at the DIE `from`, or at the root; sees that DIE and its descendants.
    pub(crate) fn new(unit: UnitRef<'u, Slice<'m>>, from: Option<UnitOffset>) -> Result<Self, Error> {
        Ok(Self { unit, entries: unit.unit.entries_raw(from)?, base: 0 })
    }

    fn depth(&self) -> isize {
        self.base.saturating_add(self.entries.next_depth())
    }

    /// The next DIE; its attributes must then be read or skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Die<'u>>, Error> {
        while !self.entries.is_empty() {
            let (offset, depth) = (self.entries.next_offset(), self.depth());
            if let Some(abbreviation) = self.entries.read_abbreviation()? {
                return Ok(Some(Die { offset, depth, abbreviation }));
            }
            if self.depth() <= 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Offset of what is read next.
    pub(crate) fn position(&self) -> usize {
        self.entries.next_offset().0
    }

    /// Whether what follows is no descendant of the starting DIE any more.
    pub(crate) fn at_end(&self) -> bool {
        self.depth() <= 0
    }

    pub(crate) fn skip_attributes(&mut self, die: Die<'u>) -> Result<(), Error> {
        self.entries.skip_attributes(die.abbreviation.attributes())
    }

    /// Hands over each attribute; gives the DIE's `DW_AT_sibling`.
    pub(crate) fn attributes(
        &mut self,
        die: Die<'u>,
        mut with: impl FnMut(&Attribute<Slice<'m>>),
    ) -> Result<Option<UnitOffset>, Error> {
        let mut sibling = None;
        for spec in die.abbreviation.attributes() {
            let attribute = self.entries.read_attribute_inline(*spec)?;
            if let (gimli::DW_AT_sibling, AttributeValue::UnitRef(at)) = (attribute.name(), attribute.raw_value()) {
                sibling = Some(at);
            }
            with(&attribute);
        }
        Ok(sibling)
    }

    /// Steps past the descendants of `die`, whose attributes were just read.
    pub(crate) fn skip_children(&mut self, die: Die<'u>, sibling: Option<UnitOffset>) -> Result<(), Error> {
        if !die.abbreviation.has_children() {
            return Ok(());
        }
        // A sibling that points backwards would make a loop.
        if let Some(at) = sibling.filter(|at| *at > self.entries.next_offset())
            && let Ok(entries) = self.unit.unit.entries_raw(Some(at))
        {
            (self.entries, self.base) = (entries, die.depth);
            return Ok(());
        }
        while self.depth() > die.depth && !self.entries.is_empty() {
            let depth = self.depth();
            let offset = self.entries.next_offset();
            let Some(abbreviation) = self.entries.read_abbreviation()? else { continue };
            let inner = Die { offset, depth, abbreviation };
            if abbreviation.has_children()
                && abbreviation.attributes().iter().any(|spec| spec.name() == gimli::DW_AT_sibling)
            {
                let sibling = self.attributes(inner, |_| {})?;
                if let Some(at) = sibling.filter(|at| *at > self.entries.next_offset())
                    && let Ok(entries) = self.unit.unit.entries_raw(Some(at))
                {
                    (self.entries, self.base) = (entries, depth);
                }
            } else {
                self.skip_attributes(inner)?;
            }
        }
        Ok(())
    }
}
