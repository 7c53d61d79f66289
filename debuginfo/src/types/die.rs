//! Small questions to one DIE.

use crate::Slice;
use crate::dwarf::{Dwarf, Scope, Unit};
use gimli::{AttributeValue, DebuggingInformationEntry, DwAt};
use std::sync::Arc;

/// A DIE with its attributes.
pub type Entry<'m> = DebuggingInformationEntry<Slice<'m>>;

/// Longest chain of specifications and abstract origins followed. Real ones have three links.
pub const LIMIT_ORIGINS: usize = 16;

/// Longest name kept, in bytes. The longest seen in real C++ programs are some 20,000 bytes of template arguments.
pub const LIMIT_NAME: usize = 1 << 16;

/// A string attribute.
pub fn text<'m>(unit: &Unit<'m>, value: AttributeValue<Slice<'m>>) -> Option<Arc<str>> {
    let raw = unit.reader().attr_string(value).ok()?;
    let bytes = raw.slice().get(..raw.slice().len().min(LIMIT_NAME)).unwrap_or_default();
    (!bytes.is_empty()).then(|| Arc::from(String::from_utf8_lossy(bytes)))
}

/// `DW_AT_name` of this DIE itself.
pub fn own_name<'m>(unit: &Unit<'m>, entry: &Entry<'m>) -> Option<Arc<str>> {
    text(unit, entry.attr_value(gimli::DW_AT_name)?)
}

/// A flag attribute that is there and set.
pub fn flag(entry: &Entry<'_>, name: DwAt) -> bool {
    matches!(entry.attr_value(name), Some(AttributeValue::Flag(true)))
}

/// A constant attribute as a signed number; the fixed-size forms are taken as unsigned, as compilers mean them.
pub fn constant(value: &AttributeValue<Slice<'_>>) -> Option<i128> {
    Some(match *value {
        AttributeValue::Data1(v) => i128::from(v),
        AttributeValue::Data2(v) => i128::from(v),
        AttributeValue::Data4(v) => i128::from(v),
        AttributeValue::Data8(v) | AttributeValue::Udata(v) => i128::from(v),
        AttributeValue::Data16(v) => v.cast_signed(),
        AttributeValue::Sdata(v) => i128::from(v),
        AttributeValue::Flag(v) => i128::from(v),
        _ => return None,
    })
}

/// An attribute that is a plain non-negative number.
pub fn unsigned(entry: &Entry<'_>, name: DwAt) -> Option<u64> {
    u64::try_from(constant(&entry.attr_value(name)?)?).ok()
}

/// The attribute `name` of the DIE at `at`, or of what it specifies or is an instance of, with the DIE it was found on.
pub fn inherited<'m>(dwarf: &Dwarf<'m>, at: Scope, name: DwAt) -> Option<(Scope, AttributeValue<Slice<'m>>)> {
    let mut here = at;
    for _ in 0..LIMIT_ORIGINS {
        let unit = dwarf.unit(here.unit)?;
        let entry = unit.unit.entry(here.die).ok()?;
        if let Some(value) = entry.attr_value(name) {
            return Some((here, value));
        }
        let next = entry.attr_value(gimli::DW_AT_abstract_origin).or(entry.attr_value(gimli::DW_AT_specification))?;
        here = dwarf.follow(here.unit, next)?;
    }
    None
}

/// `DW_AT_name`, of the DIE or of its origin.
pub fn name(dwarf: &Dwarf<'_>, at: Scope) -> Option<Arc<str>> {
    let (found, value) = inherited(dwarf, at, gimli::DW_AT_name)?;
    text(dwarf.unit(found.unit)?, value)
}

/// `DW_AT_type`, of the DIE or of its origin.
pub fn type_of(dwarf: &Dwarf<'_>, at: Scope) -> Option<Scope> {
    let (found, value) = inherited(dwarf, at, gimli::DW_AT_type)?;
    dwarf.follow(found.unit, value)
}
