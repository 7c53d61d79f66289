//! Where what is known changes: for writers that turn the whole of a file's debug information into another form.

use super::Dwarf;
use super::cursor::Cursor;
use super::ranges::Pcs;
use super::unit::Unit;
use evidence::Svma;
use std::ops::Range;

/// Most boundaries of one file: ten times what a debug file of 2 GB has, and 1 GB.
const LIMIT_BOUNDARIES: usize = 1 << 27;
/// Most entries of range lists read for one unit: many DIEs can be made to share one long list.
const LIMIT_STEPS: usize = 1 << 24;

/// The functions of a file, and all addresses between which nothing changes.
#[derive(Debug, Default)]
pub(crate) struct Boundaries {
    /// Where ranges of functions start, sorted.
    pub(crate) functions: Vec<u64>,
    /// Where lines, functions and inlined calls start and end, sorted.
    pub(crate) all: Vec<u64>,
    /// Whether a limit was reached.
    pub(crate) cut_off: bool,
}

impl Dwarf<'_> {
    /// Reads every unit.
    pub(crate) fn boundaries(&self) -> Boundaries {
        let mut found = Boundaries::default();
        for id in self.unit_ids() {
            let Some(unit) = self.unit(id) else { continue };
            unit.line_boundaries(&mut found.all);
            // What was read before damage is kept; the damage is a doubt once the unit is asked for an address.
            let _ = walk(unit, &mut found);
            self.release_unit_at(id.offset);
            if found.all.len() > LIMIT_BOUNDARIES {
                found.all.truncate(LIMIT_BOUNDARIES);
                found.cut_off = true;
                break;
            }
        }
        for list in [&mut found.functions, &mut found.all] {
            list.sort_unstable();
            list.dedup();
        }
        found
    }

    /// The range of a function that an address lies in, as [`Dwarf::resolve`] finds it.
    pub(crate) fn function_range(&self, at: Svma) -> Option<Range<u64>> {
        self.resolve_unit(at.0)?.function.map(|(range, _)| range)
    }
}

fn walk(unit: &Unit<'_>, found: &mut Boundaries) -> Result<(), gimli::Error> {
    let reader = unit.reader();
    let mut cursor = Cursor::new(reader, None)?;
    let mut left = LIMIT_STEPS;
    while let Some(die) = cursor.next()? {
        let tag = die.abbreviation.tag();
        let is_function = tag == gimli::DW_TAG_subprogram;
        let is_block = matches!(
            tag,
            gimli::DW_TAG_inlined_subroutine
                | gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_try_block
                | gimli::DW_TAG_catch_block
                | gimli::DW_TAG_with_stmt
                | gimli::DW_TAG_common_block
        );
        if !is_function && !is_block {
            cursor.skip_attributes(die)?;
            continue;
        }
        let mut pcs = Pcs::default();
        cursor.attributes(die, |attribute| pcs.take(attribute))?;
        if pcs.any() {
            let _ = pcs.each(reader, unit.zero_is_code, &mut left, |range| {
                if is_function {
                    found.functions.push(range.start);
                }
                found.all.extend([range.start, range.end]);
                found.all.len() <= LIMIT_BOUNDARIES
            });
        }
    }
    Ok(())
}
