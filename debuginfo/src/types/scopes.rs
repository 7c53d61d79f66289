//! The scopes around a DIE, found from the unit's root downwards, past everything that lies elsewhere.
//!
//! The outer levels of a unit are read when they are first needed, from sibling to sibling, and kept: most of a unit is
//! inside of functions that nobody asks about.

use super::die::{LIMIT_NAME, own_name};
use super::model::Language;
use crate::dwarf::{Cursor, Unit};
use gimli::{DwTag, UnitOffset};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most scopes kept of one unit. The largest unit seen (a whole-program LTO build) has some 400,000 namespaces, classes
/// and functions.
pub const LIMIT_SCOPES: usize = 4 << 20;

/// Deepest nesting of scopes followed.
pub const LIMIT_SCOPE_DEPTH: usize = 256;

/// A DIE with children.
#[derive(Debug)]
struct Node {
    start: usize,
    /// Offset of the first DIE after its descendants.
    end: usize,
    tag: DwTag,
    inside: OnceLock<Vec<Node>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    outermost: OnceLock<Vec<Node>>,
    kept: AtomicUsize,
}

impl Scopes {
    /// Reads the unit's outermost level.
    pub(super) fn of(unit: &Unit<'_>) -> Self {
        let scopes = Self::default();
        scopes.outermost.get_or_init(|| scopes.below(unit, None));
        scopes
    }

    /// The names of the scopes around the DIE at `die`, joined with `::`, empty for none.
    ///
    /// What is inside a function has no prefix, as in gdb.
    pub(super) fn prefix(&self, unit: &Unit<'_>, die: UnitOffset, language: Language) -> String {
        let mut parts: Vec<std::sync::Arc<str>> = Vec::new();
        let mut length = 0_usize;
        for node in self.path(unit, die).iter().rev() {
            if node.tag == gimli::DW_TAG_subprogram || length > LIMIT_NAME {
                break;
            }
            let name = || own_name(unit, &unit.unit.entry(UnitOffset(node.start)).ok()?);
            let unnamed = match node.tag {
                gimli::DW_TAG_namespace if language == Language::Cpp => "(anonymous namespace)",
                gimli::DW_TAG_union_type => "{union}",
                gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => "{struct}",
                gimli::DW_TAG_namespace | gimli::DW_TAG_interface_type | gimli::DW_TAG_module => "",
                _ => continue,
            };
            let name = name().unwrap_or_else(|| unnamed.into());
            if !name.is_empty() {
                length = length.saturating_add(name.len());
                parts.push(name);
            }
        }
        parts.reverse();
        parts.join("::")
    }

    /// The DIEs around the one at `die`, outermost first.
    fn path(&self, unit: &Unit<'_>, die: UnitOffset) -> Vec<&Node> {
        let mut path: Vec<&Node> = Vec::new();
        let mut level = self.outermost.get_or_init(|| self.below(unit, None));
        while path.len() < LIMIT_SCOPE_DEPTH {
            let before = level.partition_point(|n| n.start < die.0).checked_sub(1);
            let Some(node) = before.and_then(|i| level.get(i)).filter(|n| die.0 < n.end) else { break };
            path.push(node);
            level = node.inside.get_or_init(|| self.below(unit, Some(UnitOffset(node.start))));
        }
        path
    }

    /// The DIEs with children right below that one, or below the root. The part before damage is as good as ever.
    fn below(&self, unit: &Unit<'_>, above: Option<UnitOffset>) -> Vec<Node> {
        let mut nodes = Vec::new();
        let _ = self.read(unit, above, &mut nodes);
        let end = unit.unit.header.length_including_self();
        for node in &mut nodes {
            node.end = node.end.min(end);
        }
        nodes
    }

    fn read(&self, unit: &Unit<'_>, above: Option<UnitOffset>, nodes: &mut Vec<Node>) -> Result<(), gimli::Error> {
        let mut cursor = Cursor::new(unit.reader(), above)?;
        while let Some(die) = cursor.next()? {
            if die.depth == 0 || !die.abbreviation.has_children() {
                cursor.skip_attributes(die)?;
                continue;
            }
            if self.kept.fetch_add(1, Ordering::Relaxed) >= LIMIT_SCOPES {
                break;
            }
            let (start, tag) = (die.offset.0, die.abbreviation.tag());
            nodes.push(Node { start, end: usize::MAX, tag, inside: OnceLock::new() });
            let sibling = cursor.attributes(die, |_| {})?;
            cursor.skip_children(die, sibling)?;
            if let Some(node) = nodes.last_mut() {
                node.end = cursor.position();
            }
        }
        Ok(())
    }
}
