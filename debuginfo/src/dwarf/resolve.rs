//! From an address to functions, inlined calls and lines.

use super::inlines::{self, InlinedCall};
use super::names::Names;
use super::unit::{Part, Unit, UnitId};
use super::{Dwarf, Scope, SourceFrame, names};
use evidence::Svma;
use gimli::UnitOffset;
use std::collections::HashMap;
use std::ops::Range;

/// The unit of an address, and the function if one covers it.
pub(crate) struct Found<'d, 'm> {
    pub(crate) unit: &'d Unit<'m>,
    pub(crate) function: Option<(Range<u64>, UnitOffset)>,
}

impl<'m> Dwarf<'m> {
    /// The unit of an address: one with a function there, or one that has a line for it although it has no function
    /// (assembly).
    pub(crate) fn resolve_unit(&self, at: u64) -> Option<Found<'_, 'm>> {
        for offset in self.units_at(at) {
            let Some(unit) = self.unit(UnitId { part: Part::Info, offset }) else { continue };
            let function = unit.function_at(at);
            if function.is_some() || unit.line_at(at).is_some() {
                return Some(Found { unit, function });
            }
        }
        None
    }

    /// What an address means: inlined calls innermost first, the physical function last; empty when no unit knows.
    #[must_use]
    pub fn resolve(&self, at: Svma) -> Vec<SourceFrame> {
        self.resolve_unit(at.0).map_or_else(Vec::new, |found| self.frames(&found, at.0))
    }

    /// The physical function at an address and where that part of it starts; no line program is run.
    pub(crate) fn function_at(&self, at: Svma) -> Option<(Scope, Svma)> {
        let found = self.resolve_unit(at.0)?;
        let (range, die) = found.function?;
        Some((Scope { unit: found.unit.id, die }, Svma(range.start)))
    }

    /// As [`Dwarf::resolve`], for one who asks about many addresses of the same functions: names are looked up once.
    pub(crate) fn resolve_with(&self, at: Svma, known: &mut HashMap<Scope, Names>) -> Vec<SourceFrame> {
        let name = |scope| known.entry(scope).or_insert_with(|| names::of(self, scope)).clone();
        self.resolve_unit(at.0).map_or_else(Vec::new, |found| frames(&found, at.0, name))
    }

    /// As [`Dwarf::resolve`], with the unit known.
    pub(crate) fn frames(&self, found: &Found<'_, 'm>, at: u64) -> Vec<SourceFrame> {
        frames(found, at, |scope| names::of(self, scope))
    }
}

fn frames(found: &Found<'_, '_>, at: u64, mut name: impl FnMut(Scope) -> Names) -> Vec<SourceFrame> {
    let unit = found.unit;
    let place = unit.line_at(at).unwrap_or_default();
    let Some((range, function)) = found.function.clone() else {
        return vec![SourceFrame {
            file: place.file,
            line: place.line,
            column: place.column,
            ..SourceFrame::default()
        }];
    };
    let calls = inlines::chain(unit, function, at).unwrap_or_default();
    let start = Some(Svma(range.start));
    let mut frames = Vec::with_capacity(calls.len().saturating_add(1));
    let mut place = (place.file, place.line, place.column);
    let dies = calls.iter().rev().map(|call| (Some(call), call.die)).chain([(None, Some(function))]);
    for (call, die) in dies {
        let scope = die.map(|die| Scope { unit: unit.id, die });
        let names = scope.map(&mut name).unwrap_or_default();
        let (file, line, column) = std::mem::take(&mut place);
        frames.push(SourceFrame {
            function: names.function,
            linkage_name: names.linkage,
            file,
            line,
            column,
            inline: call.is_some(),
            function_start: start,
            scope,
        });
        if let Some(call) = call {
            place = call_site(unit, call);
        }
    }
    frames
}

/// Where the caller makes an inlined call. Line 0 means that the compiler knew no place; gdb shows none then.
fn call_site(unit: &Unit<'_>, call: &InlinedCall) -> (Option<std::sync::Arc<str>>, Option<u32>, Option<u32>) {
    let number = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n != 0);
    let line = number(call.line);
    if line.is_none() {
        return (None, None, None);
    }
    (call.file.and_then(|n| unit.file(n)), line, number(call.column))
}
