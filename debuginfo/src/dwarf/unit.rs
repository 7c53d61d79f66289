//! One unit, with everything its attributes refer to.

use super::functions::Functions;
use super::lines::LinesSlot;
use super::ranges::Pcs;
use crate::Slice;
use evidence::{Doubt, Doubts};
use gimli::{AttributeValue, UnitRef};
use std::sync::{Arc, OnceLock};

/// In which section a unit lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `.debug_info` of the debug file.
    Info,
    /// `.debug_types` of the debug file (DWARF 4).
    Types,
    /// `.debug_info` of the dwz alternate file.
    Alternate,
    /// `.debug_info.dwo` of a split file, by its number among those opened.
    Split(u32),
    /// `.debug_types.dwo` of a split file.
    SplitTypes(u32),
    /// No DWARF: a container of CTF, whose types are known by their numbers ([`crate::ctf`]).
    Ctf,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Info => ".debug_info",
            Self::Types => ".debug_types",
            Self::Alternate => ".debug_info of the alternate file",
            Self::Split(_) => ".debug_info.dwo",
            Self::SplitTypes(_) => ".debug_types.dwo",
            Self::Ctf => "CTF",
        })
    }
}

/// Names a unit of one module; stays valid as long as the module.
///
/// A compile unit in a split file has the name of its skeleton: the split unit is what
/// [`Dwarf::unit`](super::Dwarf::unit) gives for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId {
    /// The section.
    pub part: Part,
    /// Offset of its header in that section.
    pub offset: usize,
}

/// One parsed unit (its header, abbreviations and root DIE; nothing else is read before it is asked for).
#[derive(Debug)]
pub struct Unit<'m> {
    /// Its name.
    pub id: UnitId,
    /// The sections that its attributes refer to: those of its own file, with `.debug_addr` of the debug file.
    pub sections: Arc<gimli::Dwarf<Slice<'m>>>,
    /// The unit itself: for a skeleton whose split file was found, the split unit.
    pub unit: gimli::Unit<Slice<'m>>,
    /// The skeleton, when [`Unit::unit`] came from a split file.
    pub skeleton: Option<Box<Skeleton<'m>>>,
    /// `DW_AT_language`.
    pub language: Option<gimli::DwLang>,
    /// `DW_AT_stmt_list` in `unit`.
    pub(crate) line_offset: Option<gimli::DebugLineOffset>,
    pub(crate) zero_is_code: bool,
    /// The number of the split file it lies in.
    pub(crate) split: Option<u32>,
    pub(crate) functions: OnceLock<Functions>,
    pub(crate) all_functions: OnceLock<Functions>,
    pub(crate) lines: LinesSlot<'m>,
    pub(crate) doubts: &'m Doubts,
}

/// The part of a split unit that stayed in the debug file.
#[derive(Debug)]
pub struct Skeleton<'m> {
    /// The sections of the debug file.
    pub sections: Arc<gimli::Dwarf<Slice<'m>>>,
    /// The skeleton unit.
    pub unit: gimli::Unit<Slice<'m>>,
    pub(crate) line_offset: Option<gimli::DebugLineOffset>,
}

impl<'m> Unit<'m> {
    /// gimli's view of the unit with its sections: strings, addresses, ranges, locations, entries.
    #[must_use]
    pub fn reader(&self) -> UnitRef<'_, Slice<'m>> {
        UnitRef::new(&self.sections, &self.unit)
    }

    /// Notes that something about this unit could not be read.
    pub(crate) fn doubt(&self, why: impl std::fmt::Display) {
        let UnitId { part, offset } = self.id;
        self.doubts.push(Doubt::new("debug-info", format!("unit at {offset:#x} of {part}: {why}")));
    }

    /// The unit whose line table its addresses and file numbers refer to: the skeleton of a split unit, else itself.
    pub(crate) fn line_owner(&self) -> (UnitRef<'_, Slice<'m>>, Option<gimli::DebugLineOffset>) {
        match &self.skeleton {
            Some(s) => (UnitRef::new(&s.sections, &s.unit), s.line_offset),
            None => (self.reader(), self.line_offset),
        }
    }
}

/// What the root DIE of a unit says.
#[derive(Debug)]
pub(crate) struct Root<'m> {
    pub(crate) unit: gimli::Unit<Slice<'m>>,
    pub(crate) tag: gimli::DwTag,
    pub(crate) pcs: Pcs<'m>,
    pub(crate) language: Option<gimli::DwLang>,
    pub(crate) line_offset: Option<gimli::DebugLineOffset>,
    pub(crate) dwo_name: Option<AttributeValue<Slice<'m>>>,
}

impl<'m> Root<'m> {
    /// Reads the root DIE with `abbreviations`, which must hold at least its own.
    ///
    /// Unlike [`gimli::Unit::new`] it leaves the line program alone, so that a damaged one costs lines only.
    pub(crate) fn read(
        sections: &gimli::Dwarf<Slice<'m>>,
        header: gimli::UnitHeader<Slice<'m>>,
        abbreviations: Arc<gimli::Abbreviations>,
    ) -> Result<Self, gimli::Error> {
        let (encoding, file_type) = (header.encoding(), sections.file_type);
        let mut unit = gimli::Unit {
            abbreviations,
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file_type),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file_type),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file_type),
            line_program: None,
            dwo_id: match header.type_() {
                gimli::UnitType::Skeleton(id) | gimli::UnitType::SplitCompilation(id) => Some(id),
                _ => None,
            },
            header,
        };
        let root = unit.entry(unit.header.root_offset())?;
        let (mut pcs, mut language, mut line_offset, mut dwo_name) = (Pcs::default(), None, None, None);
        let (mut name, mut comp_dir, mut low_pc) = (None, None, None);
        for attribute in root.attrs() {
            pcs.take(attribute);
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => name = Some(value),
                (gimli::DW_AT_comp_dir, value) => comp_dir = Some(value),
                (gimli::DW_AT_low_pc, value) => low_pc = Some(value),
                (gimli::DW_AT_dwo_name | gimli::DW_AT_GNU_dwo_name, value) => dwo_name = Some(value),
                (_, AttributeValue::DebugLineRef(offset)) => line_offset = Some(offset),
                (_, AttributeValue::Language(l)) => language = Some(l),
                (_, AttributeValue::DebugStrOffsetsBase(base)) => unit.str_offsets_base = base,
                (_, AttributeValue::DebugAddrBase(base)) => unit.addr_base = base,
                (_, AttributeValue::DebugLocListsBase(base)) => unit.loclists_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => unit.rnglists_base = base,
                (_, AttributeValue::DwoId(id)) => unit.dwo_id = unit.dwo_id.or(Some(id)),
                _ => {}
            }
        }
        unit.name = name.and_then(|v| sections.attr_string(&unit, v).ok());
        unit.comp_dir = comp_dir.and_then(|v| sections.attr_string(&unit, v).ok());
        if let Some(value) = low_pc {
            unit.low_pc = sections.attr_address(&unit, value).ok().flatten().unwrap_or(0);
        }
        Ok(Self { tag: root.tag(), unit, pcs, language, line_offset, dwo_name })
    }
}
