//! The functions of one unit by address.
//!
//! Two tables, each built when first needed: most functions are children of the unit or of a namespace, and are found
//! by stepping from sibling to sibling; GNU C's nested functions, the methods of classes, and what Rust puts into
//! types need a walk over every DIE, which happens only for addresses that the first table does not cover.

use super::cursor::Cursor;
use super::ranges::{Pcs, RangeMap};
use super::skim::{self, Next};
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
    if !everywhere {
        let mut left = LIMIT_RANGE_STEPS;
        let mut whole = true;
        let skimmed = skim::functions(unit, |at| match function(unit, at, &mut left, found) {
            Some((true, next)) => Next::At(next),
            Some((false, _)) => {
                whole = false;
                Next::Enough
            }
            None => Next::Damaged,
        });
        if skimmed.is_some() {
            return Ok(whole);
        }
        found.clear();
    }
    walk_each(unit, everywhere, found)
}

/// Takes the addresses of the function at an offset. Gives whether more are wanted, and where its siblings go on.
fn function(
    unit: &Unit<'_>,
    at: UnitOffset,
    left: &mut usize,
    found: &mut Vec<(Range<u64>, UnitOffset)>,
) -> Option<(bool, UnitOffset)> {
    let reader = unit.reader();
    let mut cursor = Cursor::new(reader, Some(at)).ok()?;
    let die = cursor.next().ok()??;
    let mut pcs = Pcs::default();
    let sibling = cursor.attributes(die, |attribute| pcs.take(attribute)).ok()?;
    let more = take(unit, &pcs, at, left, found);
    cursor.skip_children(die, sibling).ok()?;
    Some((more, UnitOffset(cursor.position())))
}

/// Adds the ranges of one function; a damaged list of one hides no other. Gives `false` at a limit.
fn take<'m>(
    unit: &Unit<'m>,
    pcs: &Pcs<'m>,
    at: UnitOffset,
    left: &mut usize,
    found: &mut Vec<(Range<u64>, UnitOffset)>,
) -> bool {
    if pcs.any() {
        let _ = pcs.each(unit.reader(), unit.zero_is_code, left, |range| {
            found.push((range, at));
            found.len() < LIMIT_FUNCTION_RANGES
        });
    }
    found.len() < LIMIT_FUNCTION_RANGES && *left > 0
}

fn walk_each(
    unit: &Unit<'_>,
    everywhere: bool,
    found: &mut Vec<(Range<u64>, UnitOffset)>,
) -> Result<bool, gimli::Error> {
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
        if is_function && !take(unit, &pcs, die.offset, &mut left, found) {
            return Ok(false);
        }
        if !descend {
            cursor.skip_children(die, sibling)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dwarf::Dwarf;
    use crate::{Locator, Modules};
    use evidence::Doubts;

    #[test]
    fn stepping_over_finds_what_reading_each_die_finds() {
        let mut functions = 0;
        for (victim, variant) in [
            ("containers", "gcc-O0"),
            ("containers", "clang-O2"),
            ("inlines", "gcc-O2"),
            ("collections", "rust-O0"),
            ("null_deref", "m32-O2"),
            ("threads", "static"),
        ] {
            let file = testdata::victims::build(victim, variant).unwrap();
            let modules = Modules::of_file(&file, None, None, &Locator::default()).unwrap();
            let doubts = Doubts::new();
            let info = crate::DebugInfo::new(&modules, &doubts);
            let dwarf: &Dwarf<'_> = info.dwarf(0).unwrap();
            for id in dwarf.unit_ids() {
                let unit = dwarf.unit(id).unwrap();
                let (mut stepped, mut each) = (Vec::new(), Vec::new());
                assert!(walk(unit, false, &mut stepped).unwrap());
                assert!(walk_each(unit, false, &mut each).unwrap());
                assert_eq!(stepped, each, "{victim} {variant} {id:?}");
                let mut left = LIMIT_RANGE_STEPS;
                let mut seen = Vec::new();
                let whole = skim::functions(unit, |at| match function(unit, at, &mut left, &mut seen) {
                    Some((true, next)) => Next::At(next),
                    _ => Next::Damaged,
                });
                assert_eq!((whole, seen.len()), (Some(()), each.len()), "{victim} {variant} {id:?}");
                functions += each.len();
            }
        }
        assert!(functions > 1000, "{functions}");
    }
}
