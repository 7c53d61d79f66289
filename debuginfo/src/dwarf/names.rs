//! What a function is called.

use super::cursor::Cursor;
use super::{Dwarf, Scope, Unit, UnitId};
use crate::demangle;
use gimli::{AttributeValue, UnitOffset};
use std::borrow::Cow;
use std::sync::Arc;

/// Longest chain of `DW_AT_abstract_origin` and `DW_AT_specification` followed. Real ones have at most three links:
/// concrete instance, abstract instance, declaration in the class.
pub const LIMIT_ORIGINS: usize = 16;

/// Most enclosing namespaces and classes put before a name.
pub const LIMIT_SCOPE_NAMES: usize = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) function: Option<Arc<str>>,
    pub(crate) linkage: Option<Arc<str>>,
}

/// The names of the function at `at`: of itself, or else of what it is an instance or the definition of.
pub(crate) fn of(dwarf: &Dwarf<'_>, at: Scope) -> Names {
    let (mut plain, mut linkage, mut here): (_, Option<String>, _) = (None, None, Some(at));
    let mut demangled = None;
    let mut named_at = at;
    for _ in 0..LIMIT_ORIGINS {
        let Some(place) = here.take() else { break };
        let Some(unit) = dwarf.unit(place.unit) else { break };
        let Ok(entry) = unit.unit.entry(place.die) else { break };
        let (mut origin, mut specification) = (None, None);
        let text = |value| {
            let text = unit.reader().attr_string(value).ok()?;
            Some(String::from_utf8_lossy(text.slice()).into_owned()).filter(|s| !s.is_empty())
        };
        for attribute in entry.attrs() {
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name if linkage.is_none() => {
                    linkage = text(attribute.value());
                }
                gimli::DW_AT_name if plain.is_none() => {
                    plain = text(attribute.value());
                    named_at = place;
                }
                gimli::DW_AT_abstract_origin => origin = Some(attribute.value()),
                gimli::DW_AT_specification => specification = Some(attribute.value()),
                _ => {}
            }
        }
        // Not every mangled name can be taken apart; what it is an instance of may have a plain one.
        if demangled.is_none() {
            demangled = linkage.as_deref().and_then(demangle::demangle);
        }
        if linkage.is_some() && (demangled.is_some() || plain.is_some()) {
            break;
        }
        let next: Option<AttributeValue<_>> = origin.or(specification);
        here = next.and_then(|value| dwarf.follow(place.unit, value));
    }
    let function = demangled.or_else(|| plain.map(|name| qualified(dwarf, at.unit, named_at, name)));
    // A linkage name that is not mangled is the symbol's name, and as good as a plain one.
    let function = function.or_else(|| linkage.clone());
    Names { function: function.map(Arc::from), linkage: linkage.map(Arc::from) }
}

/// The name with its namespaces and classes, for languages that have them. The language is that of the unit `user`
/// where the search for the name began: dwz's partial units have none.
fn qualified(dwarf: &Dwarf<'_>, user: UnitId, at: Scope, name: String) -> String {
    let (Some(user), Some(unit)) = (dwarf.unit(user), dwarf.unit(at.unit)) else { return name };
    let separator = match user.language.or(unit.language) {
        Some(
            gimli::DW_LANG_C_plus_plus
            | gimli::DW_LANG_C_plus_plus_03
            | gimli::DW_LANG_C_plus_plus_11
            | gimli::DW_LANG_C_plus_plus_14
            | gimli::DW_LANG_C_plus_plus_17
            | gimli::DW_LANG_C_plus_plus_20
            | gimli::DW_LANG_Rust,
        ) => "::",
        _ => return name,
    };
    let mut path: Vec<Cow<'_, str>> = enclosing(unit, at.die).unwrap_or_default();
    path.push(Cow::Owned(name));
    path.join(separator)
}

/// The names of the namespaces and types around a DIE, outermost first; those outside of a function do not count.
fn enclosing<'m>(unit: &Unit<'m>, die: UnitOffset) -> Result<Vec<Cow<'m, str>>, gimli::Error> {
    let mut cursor = Cursor::new(unit.reader(), None)?;
    let mut path: Vec<(isize, Option<Cow<'m, str>>)> = Vec::new();
    while let Some(here) = cursor.next()? {
        if here.offset >= die {
            break;
        }
        while path.last().is_some_and(|(depth, _)| *depth >= here.depth) {
            path.pop();
        }
        let mut name = None;
        let sibling = cursor.attributes(here, |attribute| {
            if attribute.name() == gimli::DW_AT_name {
                name = unit.reader().attr_string(attribute.value()).ok().map(|s| String::from_utf8_lossy(s.slice()));
            }
        })?;
        if !here.abbreviation.has_children() {
            continue;
        }
        if sibling.is_some_and(|at| at <= die) {
            cursor.skip_children(here, sibling)?;
            continue;
        }
        let name = match here.abbreviation.tag() {
            gimli::DW_TAG_namespace => Some(name.unwrap_or(Cow::Borrowed("(anonymous namespace)"))),
            gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
            | gimli::DW_TAG_interface_type => name,
            gimli::DW_TAG_subprogram => {
                path.clear();
                None
            }
            _ => None,
        };
        path.push((here.depth, name));
    }
    let names = path.into_iter().filter_map(|(_, name)| name);
    Ok(names.take(LIMIT_SCOPE_NAMES).collect())
}
