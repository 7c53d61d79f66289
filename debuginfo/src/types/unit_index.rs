//! What a unit declares at its outer levels, found in one pass: enclosing scopes by offset, and definitions by name.

use super::die::{LIMIT_NAME, text};
use super::model::Language;
use crate::dwarf::Unit;
use gimli::{AttributeValue, DwTag, UnitOffset};
use std::collections::HashMap;
use std::sync::Arc;

/// Most scopes kept of one unit. The largest unit seen (a whole-program LTO build) has some 400,000 namespaces, classes
/// and functions.
pub const LIMIT_SCOPES: usize = 4 << 20;

/// Deepest nesting of scopes followed upwards.
pub const LIMIT_SCOPE_DEPTH: usize = 256;

/// A DIE that gives its name to, or hides, what is inside it.
#[derive(Debug)]
struct Span {
    start: usize,
    /// Offset of the first DIE after its descendants.
    end: usize,
    parent: Option<usize>,
    tag: DwTag,
    name: Option<Arc<str>>,
}

/// A definition at namespace level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) tag: DwTag,
    pub(crate) die: UnitOffset,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct UnitIndex {
    spans: Vec<Span>,
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
    /// Reads all DIEs of `unit` once; what follows damage is left out.
    pub(crate) fn read(unit: &Unit<'_>) -> Self {
        let mut index = Self::default();
        // The part before the damage is as good as ever.
        let _ = index.fill(unit);
        let end = unit.unit.header.length_including_self();
        for span in &mut index.spans {
            span.end = span.end.min(end);
        }
        index
    }

    fn fill(&mut self, unit: &Unit<'_>) -> Result<(), gimli::Error> {
        let mut entries = unit.unit.entries_raw(None)?;
        // Open scopes with their depths.
        let mut open: Vec<(isize, usize)> = Vec::new();
        while !entries.is_empty() && self.spans.len() < LIMIT_SCOPES {
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            while let Some((_, span)) = open.pop_if(|(d, _)| *d >= depth) {
                if let Some(span) = self.spans.get_mut(span) {
                    span.end = offset.0;
                }
            }
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let tag = abbreviation.tag();
            let local =
                open.last().and_then(|(_, s)| self.spans.get(*s)).is_some_and(|s| s.tag == gimli::DW_TAG_subprogram);
            let scope = is_scope(tag) && abbreviation.has_children();
            let definition = is_definition(tag) && !local;
            if !scope && !definition {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let (mut name, mut declaration, mut specification) = (None, false, false);
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute_inline(*spec)?;
                match (attribute.name(), attribute.value()) {
                    (gimli::DW_AT_name, value) if tag != gimli::DW_TAG_subprogram => name = text(unit, value),
                    (gimli::DW_AT_declaration, AttributeValue::Flag(true)) => declaration = true,
                    (gimli::DW_AT_specification, _) => specification = true,
                    _ => {}
                }
            }
            if definition && tag == gimli::DW_TAG_enumeration_type && !declaration {
                self.enumerations.push(offset);
            }
            if let Some(name) = name.as_ref().filter(|_| definition && !declaration && !specification) {
                self.names.entry(Arc::clone(name)).or_default().push(Definition { tag, die: offset });
            }
            if scope {
                let parent = open.last().map(|(_, s)| *s);
                open.push((depth, self.spans.len()));
                self.spans.push(Span { start: offset.0, end: usize::MAX, parent, tag, name });
            }
        }
        Ok(())
    }

    /// The names of the scopes around the DIE at `die`, joined with `::`, empty for none.
    ///
    /// What is inside a function has no prefix, as in gdb.
    pub(crate) fn prefix(&self, die: UnitOffset, language: Language) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let mut here = self.enclosing(die);
        let mut length = 0_usize;
        while let Some(span) = here.and_then(|i| self.spans.get(i)) {
            if span.tag == gimli::DW_TAG_subprogram || parts.len() >= LIMIT_SCOPE_DEPTH || length > LIMIT_NAME {
                break;
            }
            let name = match (&span.name, span.tag) {
                (_, gimli::DW_TAG_enumeration_type) => None,
                (Some(name), _) => Some(&**name),
                (None, gimli::DW_TAG_namespace) if language == Language::Cpp => Some("(anonymous namespace)"),
                (None, gimli::DW_TAG_union_type) => Some("{union}"),
                (None, gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type) => Some("{struct}"),
                (None, _) => None,
            };
            if let Some(name) = name {
                length = length.saturating_add(name.len());
                parts.push(name);
            }
            here = span.parent;
        }
        parts.reverse();
        parts.join("::")
    }

    fn enclosing(&self, die: UnitOffset) -> Option<usize> {
        // Spans are in file order and nest: the last one that starts before `die` is inside, or has ended together
        // with some of its parents.
        let mut here = self.spans.partition_point(|s| s.start < die.0).checked_sub(1);
        while let Some(span) = here.and_then(|i| self.spans.get(i)) {
            if die.0 < span.end {
                return here;
            }
            here = span.parent;
        }
        None
    }

    /// All complete enumerations at namespace and class level.
    pub(crate) fn enumerations(&self) -> &[UnitOffset] {
        &self.enumerations
    }

    /// Complete types and variables called `name` (unqualified), in file order.
    pub(crate) fn named(&self, name: &str) -> &[Definition] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }
}
