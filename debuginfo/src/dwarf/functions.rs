//! The functions of one unit by address.
//!
//! Two tables, each built when first needed: most functions are children of the unit or of a namespace, and are found
//! by stepping from sibling to sibling; GNU C's nested functions, the methods of classes, and what Rust puts into
//! types need a walk over every DIE, which happens only for addresses that the first table does not cover.

use super::cursor::Cursor;
use super::ranges::{Pcs, RangeMap};
use super::unit::Unit;
use gimli::UnitOffset;
use std::ops::Range;

/// Most ranges kept for one unit: 32 MB. A unit of a million functions would have 200 MB of DWARF of its own.
pub const LIMIT_FUNCTION_RANGES: usize = 1 << 20;

/// Most entries of range lists read for one unit: many functions can be made to share one long list.
const LIMIT_RANGE_STEPS: usize = 1 << 24;

pub(crate) type Functions = RangeMap<UnitOffset>;

impl<'m> Unit<'m> {
    /// The innermost subprogram that covers `at`, with the range of it that does.
    pub(crate) fn function_at(&self, at: u64) -> Option<(Range<u64>, UnitOffset)> {
        let first = |table: &Functions| table.covering(at).next();
        first(self.functions.get_or_init(|| self.collect(false)))
            .or_else(|| first(self.all_functions.get_or_init(|| self.collect(true))))
    }

    /// What was read before damage is kept.
    fn collect(&self, everywhere: bool) -> Functions {
        let mut found = Vec::new();
        match walk(self, everywhere, &mut found) {
            Ok(true) => {}
            Ok(false) => {
                self.doubt(format!("more than {LIMIT_FUNCTION_RANGES} ranges of functions: the rest is unread"))
            }
            Err(e) => self.doubt(format!("damaged DIEs, functions after them are unknown: {e}")),
        }
        RangeMap::new(found)
    }
}

/// Gives `false` when a limit cut it short.
fn walk(unit: &Unit<'_>, everywhere: bool, found: &mut Vec<(Range<u64>, UnitOffset)>) -> Result<bool, gimli::Error> {
    let reader = unit.reader();
    let mut cursor = Cursor::new(reader, None)?;
    let mut left = LIMIT_RANGE_STEPS;
    while let Some(die) = cursor.next()? {
        let tag = die.abbreviation.tag();
        let descend = everywhere || die.depth == 0 || tag == gimli::DW_TAG_namespace || tag == gimli::DW_TAG_module;
        let is_function = tag == gimli::DW_TAG_subprogram;
        if !is_function && (descend || !die.abbreviation.has_children()) {
            cursor.skip_attributes(die)?;
            continue;
        }
        let mut pcs = Pcs::default();
        let sibling = cursor.attributes(die, |attribute| pcs.take(attribute))?;
        if is_function && pcs.any() {
            // A damaged list of one function hides no other function.
            let _ = pcs.each(reader, unit.zero_is_code, &mut left, |range| {
                found.push((range, die.offset));
                found.len() < LIMIT_FUNCTION_RANGES
            });
            if found.len() >= LIMIT_FUNCTION_RANGES || left == 0 {
                return Ok(false);
            }
        }
        if !descend {
            cursor.skip_children(die, sibling)?;
        }
    }
    Ok(true)
}
