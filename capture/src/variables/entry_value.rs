//! What a function was called with: DW_OP_entry_value and DW_OP_GNU_parameter_ref, answered by the caller's call site.
//!
//! A call site tells only when it really is the call that led here. After a tail call it is not: the function that the
//! site names then differs from the one in the frame, and nothing is known.

use super::frame::Physical;
use debuginfo::Slice;
use debuginfo::dwarf::{Scope, Unit};
use debuginfo::eval::{self, Context, EntryOf, Missing};
use debuginfo::types::die::{self, Entry};
use evidence::Svma;
use gimli::{AttributeValue, DwTag, Expression, UnitOffset};

/// Most DIEs of a caller looked at to find the call site. Functions with some 100,000 DIEs exist in generated code.
pub const LIMIT_CALLER_DIES: usize = 1 << 20;

/// The register that a location of exactly one register names.
fn register_of(expression: Expression<Slice<'_>>, encoding: gimli::Encoding) -> Option<u16> {
    let mut operations = expression.operations(encoding);
    let first = operations.next().ok()??;
    if operations.next().ok()?.is_some() {
        return None;
    }
    match first {
        gimli::Operation::Register { register } => Some(register.0),
        _ => None,
    }
}

const fn is_call_site(tag: DwTag) -> bool {
    matches!(tag, gimli::DW_TAG_call_site | gimli::DW_TAG_GNU_call_site)
}

/// The call site in `function` that returns to `pc`.
fn call_site(unit: &Unit<'_>, function: UnitOffset, pc: Svma) -> Result<Option<UnitOffset>, gimli::Error> {
    let mut entries = unit.unit.entries_at_offset(function)?;
    for n in 0..LIMIT_CALLER_DIES {
        let Some(entry) = entries.next_dfs()? else { break };
        if n > 0 && entry.depth() <= 0 {
            break;
        }
        if !is_call_site(entry.tag()) {
            continue;
        }
        let returns = entry.attr_value(gimli::DW_AT_call_return_pc).or_else(|| entry.attr_value(gimli::DW_AT_low_pc));
        let Some(returns) = returns else { continue };
        if unit.reader().attr_address(returns)? == Some(pc.0) {
            return Ok(Some(entry.offset()));
        }
    }
    Ok(None)
}

/// Whether the call at `site` goes to the function of `callee`; `None` when the site does not say where it goes.
fn goes_to(
    site: &Entry<'_>,
    caller: &Physical<'_, '_, '_>,
    unit: &Unit<'_>,
    callee: &Physical<'_, '_, '_>,
) -> Option<bool> {
    let origin = site.attr_value(gimli::DW_AT_call_origin).or_else(|| site.attr_value(gimli::DW_AT_abstract_origin))?;
    let target = unit_follow(caller, unit, origin)?;
    let function = callee.function?;
    if caller.module == callee.module {
        let chain = origins(callee, function);
        if chain.contains(&target) {
            return Some(true);
        }
    }
    // The site may name a declaration of a function that is defined in another unit: then the names decide.
    let linkage = |p: &Physical<'_, '_, '_>, at: Scope| {
        let text = |name| {
            let (found, value) = die::inherited(p.dwarf, at, name)?;
            die::text(p.dwarf.unit(found.unit)?, value)
        };
        text(gimli::DW_AT_linkage_name).or_else(|| text(gimli::DW_AT_name))
    };
    let (there, here) = (linkage(caller, target)?, linkage(callee, function)?);
    if there == here {
        return Some(true);
    }
    // One function may have several names: glibc's `__nanosleep` is called as `nanosleep`.
    let info = callee.collector.types.info();
    let start = info.function_at(callee.module, callee.pc()).map(|(_, start)| start);
    let named = info.symbols(callee.module).and_then(|symbols| symbols.by_name(&there)).map(|symbol| symbol.start);
    Some(named.is_some() && named == start)
}

/// As [`Dwarf::follow`](debuginfo::dwarf::Dwarf::follow), for an attribute of a DIE whose lifetime is another.
fn unit_follow(caller: &Physical<'_, '_, '_>, unit: &Unit<'_>, value: AttributeValue<Slice<'_>>) -> Option<Scope> {
    match value {
        AttributeValue::UnitRef(offset) => caller.dwarf.follow(unit.id, AttributeValue::UnitRef(offset)),
        AttributeValue::DebugInfoRef(offset) => caller.dwarf.follow(unit.id, AttributeValue::DebugInfoRef(offset)),
        AttributeValue::DebugInfoRefSup(offset) => {
            caller.dwarf.follow(unit.id, AttributeValue::DebugInfoRefSup(offset))
        }
        _ => None,
    }
}

/// A function's DIE, and all that it is an instance or the definition of.
fn origins(p: &Physical<'_, '_, '_>, function: Scope) -> Vec<Scope> {
    let mut chain = vec![function];
    let mut here = function;
    for _ in 0..die::LIMIT_ORIGINS {
        let next = p.dwarf.unit(here.unit).and_then(|unit| {
            let entry = unit.unit.entry(here.die).ok()?;
            let value = entry
                .attr_value(gimli::DW_AT_abstract_origin)
                .or_else(|| entry.attr_value(gimli::DW_AT_specification))?;
            p.dwarf.follow(here.unit, value)
        });
        let Some(next) = next else { break };
        chain.push(next);
        here = next;
    }
    chain
}

/// The value that the caller passed.
pub(super) fn value<'m>(callee: &Physical<'_, '_, 'm>, of: EntryOf<'m>, depth: usize) -> Result<u64, Missing> {
    let this = callee.frames.get(callee.index);
    if this.is_some_and(|f| f.signal_frame) {
        return Err(Missing::EntryValue("the frame is a signal trampoline"));
    }
    let caller = callee.caller().ok_or(Missing::EntryValue("the caller has no debug information"))?;
    let interrupted = callee.frames.get(caller.index).is_some_and(|f| !f.is_return_address || f.signal_frame);
    if interrupted {
        return Err(Missing::EntryValue("the function was not entered by a call"));
    }
    let function = caller.function.ok_or(Missing::EntryValue("the caller has no debug information"))?;
    let unit = caller.dwarf.unit(function.unit).ok_or(Missing::EntryValue("the caller has no debug information"))?;
    let damaged = |e: gimli::Error| Missing::DebugInfo(format!("call site: {e}"));
    let returns = caller.exact_pc();
    let site = callee
        .collector
        .call_sites
        .get((caller.module, function, returns), || call_site(unit, function.die, returns))
        .map_err(damaged)?
        .ok_or(Missing::EntryValue("the caller's debug information has no call site there"))?;
    let entry = unit.unit.entry(site).map_err(damaged)?;
    match goes_to(&entry, &caller, unit, callee) {
        Some(true) => {}
        Some(false) => {
            return Err(Missing::EntryValue("the call went to another function, which tail-called this one"));
        }
        // An indirect call: its target expression is rarely still computable, and without it a tail call cannot be
        // ruled out.
        None => {
            let target = entry
                .attr_value(gimli::DW_AT_call_target)
                .or_else(|| entry.attr_value(gimli::DW_AT_GNU_call_site_target))
                .and_then(|v| v.exprloc_value())
                .ok_or(Missing::EntryValue("the call site does not say which function it calls"))?;
            let context = Context { dwarf: caller.dwarf, unit, frame: &caller };
            let address = context.number(target, None, depth)?;
            let info = callee.collector.types.info();
            let start = info.function_at(callee.module, callee.pc()).map(|(_, start)| start);
            let start = start.map(|s| s.0.wrapping_add(info.module(callee.module).map_or(0, |m| m.slide)));
            if start != Some(address) {
                return Err(Missing::EntryValue("the call went to another function, which tail-called this one"));
            }
        }
    }
    let mut tree = unit.unit.entries_tree(Some(site)).map_err(damaged)?;
    let mut children = tree.root().map_err(damaged)?.children();
    while let Some(child) = children.next().map_err(damaged)? {
        let parameter = child.entry();
        let matches = match of {
            EntryOf::Expression(wanted) => {
                let wanted_unit = callee.function.and_then(|f| callee.dwarf.unit(f.unit));
                let wanted = wanted_unit.and_then(|u| register_of(wanted, u.unit.encoding()));
                let location = parameter.attr_value(gimli::DW_AT_location).and_then(|v| v.exprloc_value());
                wanted.is_some() && location.and_then(|l| register_of(l, unit.unit.encoding())) == wanted
            }
            EntryOf::Parameter(wanted) => {
                let named = parameter
                    .attr_value(gimli::DW_AT_call_parameter)
                    .or_else(|| parameter.attr_value(gimli::DW_AT_abstract_origin));
                named.and_then(|v| unit_follow(&caller, unit, v)).is_some_and(|at| {
                    caller.module == callee.module && (at == wanted || origins(callee, wanted).contains(&at))
                })
            }
        };
        if !matches {
            continue;
        }
        let value = parameter
            .attr_value(gimli::DW_AT_call_value)
            .or_else(|| parameter.attr_value(gimli::DW_AT_GNU_call_site_value))
            .ok_or(Missing::EntryValue("the call site names the parameter without a value"))?;
        let expression = eval::find(unit, value, None)?;
        return Context { dwarf: caller.dwarf, unit, frame: &caller }.number(expression, None, depth);
    }
    Err(Missing::EntryValue("the call site says nothing about this register"))
}
