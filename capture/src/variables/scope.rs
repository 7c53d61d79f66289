//! Which variables a source frame has at its pc.

use super::{Collector, LIMIT_VARIABLES};
use debuginfo::dwarf::{Dwarf, Scope, Unit};
use debuginfo::eval;
use debuginfo::types::die;
use evidence::Svma;
use snapshot_format::schema::VariableKind;
use std::collections::HashSet;

/// Deepest nesting of lexical blocks. Compilers give up at 256 levels of braces.
pub const LIMIT_BLOCKS: usize = 256;

/// A variable's DIE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) at: Scope,
    pub(super) kind: VariableKind,
}

struct Walk<'w, 'm> {
    dwarf: &'w Dwarf<'m>,
    pc: Svma,
    /// Each with the depth of its block.
    found: Vec<(usize, Found)>,
}

/// Parameters in their order, then locals, innermost block first, in the order of their declaration within a block.
pub(super) fn variables(collector: &Collector<'_, '_>, module: usize, scope: Scope, pc: Svma) -> Vec<Found> {
    let Some(dwarf) = collector.dwarf(module) else { return Vec::new() };
    let mut walk = Walk { dwarf, pc, found: Vec::new() };
    walk.function(scope);
    let mut found = walk.found;
    found.sort_by_key(|(depth, f)| (f.kind != VariableKind::Parameter, std::cmp::Reverse(*depth)));
    found.into_iter().map(|(_, f)| f).collect()
}

impl Walk<'_, '_> {
    fn function(&mut self, scope: Scope) {
        if let Some(unit) = self.dwarf.unit(scope.unit) {
            // What precedes damage is still shown.
            let _ = self.instance(unit, scope, 0, 0);
        }
    }

    /// A function or block, and what its abstract instance declares beside it: a variable of which this instance says
    /// nothing still exists, optimised out.
    fn instance(&mut self, unit: &Unit<'_>, scope: Scope, depth: usize, nesting: usize) -> Result<(), gimli::Error> {
        let mut origins = HashSet::new();
        self.block(unit, scope, depth, nesting, &mut origins)?;
        let own = self.dwarf.unit(scope.unit);
        let origin = own.and_then(|own| {
            let value = own.unit.entry(scope.die).ok()?.attr_value(gimli::DW_AT_abstract_origin)?;
            self.dwarf.follow(scope.unit, value)
        });
        match origin.and_then(|origin| Some((origin, self.dwarf.unit(origin.unit)?))) {
            Some((origin, unit)) => self.rest(unit, origin, &origins, depth, nesting),
            None => Ok(()),
        }
    }

    /// The variables of one block and of the live blocks in it; `origins` gets what its direct children are
    /// instances of.
    fn block(
        &mut self,
        unit: &Unit<'_>,
        at: Scope,
        depth: usize,
        nesting: usize,
        origins: &mut HashSet<Scope>,
    ) -> Result<(), gimli::Error> {
        if nesting > LIMIT_BLOCKS {
            return Ok(());
        }
        let nesting = nesting.saturating_add(1);
        let mut tree = unit.unit.entries_tree(Some(at.die))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let here = Scope { unit: at.unit, die: entry.offset() };
            let origin = entry.attr_value(gimli::DW_AT_abstract_origin);
            let origin = match origin {
                Some(gimli::AttributeValue::UnitRef(die)) => Some(Scope { unit: at.unit, die }),
                Some(gimli::AttributeValue::DebugInfoRef(offset)) => {
                    self.dwarf.follow(at.unit, gimli::AttributeValue::DebugInfoRef(offset))
                }
                Some(gimli::AttributeValue::DebugInfoRefSup(offset)) => {
                    self.dwarf.follow(at.unit, gimli::AttributeValue::DebugInfoRefSup(offset))
                }
                _ => None,
            };
            origins.extend(origin);
            if self.found.len() >= LIMIT_VARIABLES {
                break;
            }
            match entry.tag() {
                gimli::DW_TAG_formal_parameter => self.add(unit, here, depth, VariableKind::Parameter),
                gimli::DW_TAG_variable => self.add(unit, here, depth, VariableKind::Local),
                gimli::DW_TAG_lexical_block | gimli::DW_TAG_try_block | gimli::DW_TAG_catch_block => {
                    match live(unit, here, self.pc)? {
                        Some(true) => self.instance(unit, here, depth.saturating_add(1), nesting)?,
                        Some(false) => {}
                        // A block without addresses is none: what it holds belongs to the one around it.
                        None => self.block(unit, here, depth, nesting, &mut HashSet::new())?,
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What an abstract function declares beside `known`.
    fn rest(
        &mut self,
        unit: &Unit<'_>,
        at: Scope,
        known: &HashSet<Scope>,
        depth: usize,
        nesting: usize,
    ) -> Result<(), gimli::Error> {
        if nesting > LIMIT_BLOCKS {
            return Ok(());
        }
        let mut tree = unit.unit.entries_tree(Some(at.die))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let here = Scope { unit: at.unit, die: child.entry().offset() };
            if known.contains(&here) || self.found.len() >= LIMIT_VARIABLES {
                continue;
            }
            match child.entry().tag() {
                gimli::DW_TAG_formal_parameter => self.add(unit, here, depth, VariableKind::Parameter),
                gimli::DW_TAG_variable => self.add(unit, here, depth, VariableKind::Local),
                gimli::DW_TAG_lexical_block => self.rest(unit, here, known, depth, nesting.saturating_add(1))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, unit: &Unit<'_>, at: Scope, depth: usize, kind: VariableKind) {
        let Ok(entry) = unit.unit.entry(at.die) else { return };
        // `extern int x;` in a function only brings a name into scope.
        let placeless = !entry.has_attr(gimli::DW_AT_location) && !entry.has_attr(gimli::DW_AT_const_value);
        if placeless && die::flag(&entry, gimli::DW_AT_declaration) {
            return;
        }
        if die::name(self.dwarf, at).is_some() {
            self.found.push((depth, Found { at, kind }));
        }
    }
}

fn live(unit: &Unit<'_>, at: Scope, pc: Svma) -> Result<Option<bool>, gimli::Error> {
    eval::live(unit, &unit.unit.entry(at.die)?, pc)
}

/// Whether the location of the variable at `at` asks for thread-local storage.
pub(super) fn is_thread_local(dwarf: &Dwarf<'_>, at: Scope) -> bool {
    let expression = die::inherited(dwarf, at, gimli::DW_AT_location).and_then(|(from, value)| {
        let encoding = dwarf.unit(from.unit)?.unit.encoding();
        Some(value.exprloc_value()?.operations(encoding))
    });
    let Some(mut operations) = expression else { return false };
    while let Ok(Some(operation)) = operations.next() {
        if matches!(operation, gimli::Operation::TLS) {
            return true;
        }
    }
    false
}
