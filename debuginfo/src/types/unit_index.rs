//! What a unit declares at its outer levels: enclosing scopes by offset, and definitions by name.

use super::die::text;
use super::model::Language;
use super::scopes::Scopes;
use crate::dwarf::Unit;
use gimli::{AttributeValue, DwTag, UnitOffset};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Most definitions kept of one unit.
const LIMIT_DEFINITIONS: usize = 4 << 20;

/// A definition at namespace level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) tag: DwTag,
    pub(crate) die: UnitOffset,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct UnitIndex {
    scopes: Scopes,
    definitions: OnceLock<Definitions>,
}

/// What one pass over all DIEs of a unit finds.
#[derive(Debug, Default)]
struct Definitions {
    /// Complete types, typedefs and variables by their own (unqualified) name.
    names: HashMap<Arc<str>, Vec<Definition>>,
    /// All complete enumerations that are not inside of functions, also those without a name.
    enumerations: Vec<UnitOffset>,
}

const fn is_scope(tag: DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_namespace
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_interface_type
            | gimli::DW_TAG_enumeration_type
            | gimli::DW_TAG_module
            | gimli::DW_TAG_subprogram
    )
}

const fn is_definition(tag: DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
            | gimli::DW_TAG_typedef
            | gimli::DW_TAG_variable
    )
}

impl UnitIndex {
    /// An index of `unit`, which is to be given again to each question.
    pub(crate) fn of(unit: &Unit<'_>) -> Self {
        Self { scopes: Scopes::of(unit), definitions: OnceLock::new() }
    }

    /// See [`Scopes::prefix`].
    pub(crate) fn prefix(&self, unit: &Unit<'_>, die: UnitOffset, language: Language) -> String {
        self.scopes.prefix(unit, die, language)
    }

    /// Makes the pass over all DIEs; gives whether it had not been made.
    pub(super) fn read_whole(&self, unit: &Unit<'_>) -> bool {
        let mut first = false;
        self.definitions.get_or_init(|| {
            first = true;
            Definitions::read(unit)
        });
        first
    }

    /// All complete enumerations at namespace and class level.
    pub(super) fn enumerations(&self, unit: &Unit<'_>) -> &[UnitOffset] {
        &self.definitions.get_or_init(|| Definitions::read(unit)).enumerations
    }

    /// Complete types and variables called `name` (unqualified), in file order.
    pub(super) fn named(&self, unit: &Unit<'_>, name: &str) -> &[Definition] {
        self.definitions.get_or_init(|| Definitions::read(unit)).names.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Definitions {
    /// Reads all DIEs of `unit` once; what follows damage is left out.
    fn read(unit: &Unit<'_>) -> Self {
        let mut found = Self::default();
        // The part before the damage is as good as ever.
        let _ = found.fill(unit);
        found
    }

    fn fill(&mut self, unit: &Unit<'_>) -> Result<(), gimli::Error> {
        let mut entries = unit.unit.entries_raw(None)?;
        // Open scopes with their depths.
        let mut open: Vec<(isize, DwTag)> = Vec::new();
        let mut left = LIMIT_DEFINITIONS;
        while !entries.is_empty() && left > 0 {
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            while open.pop_if(|(d, _)| *d >= depth).is_some() {}
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let tag = abbreviation.tag();
            let local = open.last().is_some_and(|(_, tag)| *tag == gimli::DW_TAG_subprogram);
            if is_scope(tag) && abbreviation.has_children() {
                open.push((depth, tag));
            }
            if local || !is_definition(tag) {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let (mut name, mut declaration, mut specification) = (None, false, false);
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute_inline(*spec)?;
                match (attribute.name(), attribute.value()) {
                    (gimli::DW_AT_name, value) => name = text(unit, value),
                    (gimli::DW_AT_declaration, AttributeValue::Flag(true)) => declaration = true,
                    (gimli::DW_AT_specification, _) => specification = true,
                    _ => {}
                }
            }
            if tag == gimli::DW_TAG_enumeration_type && !declaration {
                self.enumerations.push(offset);
                left = left.saturating_sub(1);
            }
            if let Some(name) = name.filter(|_| !declaration && !specification) {
                self.names.entry(name).or_default().push(Definition { tag, die: offset });
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}
