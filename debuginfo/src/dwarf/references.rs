//! Units by name, and where references between DIEs lead: other units, the dwz alternate, type units, split files.

use super::lines::LinesSlot;
use super::unit::Root;
use super::unit_map::headers;
use super::{Dwarf, Part, Scope, Skeleton, Unit, UnitId, load_sections};
use crate::Slice;
use evidence::{ToU64, ToUsize};
use gimli::{AttributeValue, DebugInfoOffset, DebugTypeSignature, UnitHeader, UnitOffset, UnitType};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The type units of one file.
#[derive(Debug, Default)]
pub(crate) struct TypeUnits<'m> {
    /// Where the type of a signature is.
    by_signature: HashMap<u64, Scope>,
    /// Units of `.debug_types` by offset, which cannot be read by offset alone.
    headers: HashMap<usize, UnitHeader<Slice<'m>>>,
}

/// The sections of one split unit: a `.dwo` file, or one unit's share of a `.dwp`.
#[derive(Debug)]
pub(crate) struct Split<'m> {
    sections: Arc<gimli::Dwarf<Slice<'m>>>,
    /// The skeleton and the split compile unit that belong together.
    unit: Option<(UnitId, usize)>,
    headers: OnceLock<Vec<usize>>,
    types: OnceLock<TypeUnits<'m>>,
}

impl<'m> Dwarf<'m> {
    /// The unit of that name, parsed when first asked for; for a skeleton, its split unit if that can be found.
    #[must_use]
    pub fn unit(&self, id: UnitId) -> Option<&Unit<'m>> {
        if let Some(known) = self.units.get(&id) {
            return known.as_ref();
        }
        // Not under the map's lock: reading a split unit may ask for others. Two threads may both read; one is kept.
        let read = self.read_unit(id);
        let read = read.map_err(|e| self.doubt(format!("unit at {:#x} of {}: {e}", id.offset, id.part))).ok();
        self.units.insert(id, Box::new(read)).as_ref()
    }

    /// The unit that holds the byte at `offset` of a section.
    #[must_use]
    pub fn unit_containing(&self, part: Part, offset: usize) -> Option<UnitId> {
        let headers = match part {
            Part::Info => self.unit_offsets(),
            Part::Alternate => {
                let list = || self.sections.sup().map_or_else(Vec::new, offsets);
                self.alternate.get_or_init(list)
            }
            Part::Split(n) => {
                let split = self.splits.get(n.to_usize())?;
                split.headers.get_or_init(|| offsets(&split.sections))
            }
            Part::Types | Part::SplitTypes(_) | Part::Ctf => return None,
        };
        let index = headers.partition_point(|start| *start <= offset).checked_sub(1)?;
        let start = *headers.get(index)?;
        if let Part::Split(n) = part
            && let Some((skeleton, _)) = self.splits.get(n.to_usize())?.unit.filter(|(_, at)| *at == start)
        {
            return Some(skeleton);
        }
        Some(UnitId { part, offset: start })
    }

    /// Where a reference found in a DIE of unit `from` leads: within the unit, to another one (`DW_FORM_ref_addr`), to
    /// the dwz alternate (`DW_FORM_GNU_ref_alt`, `DW_FORM_ref_sup`), or to a type unit (`DW_FORM_ref_sig8`).
    #[must_use]
    pub fn follow(&self, from: UnitId, value: AttributeValue<Slice<'m>>) -> Option<Scope> {
        let at = |part, offset: usize| {
            let unit = self.unit_containing(part, offset)?;
            // A split compile unit goes by its skeleton's offset, which says nothing about where it lies itself.
            let start = match part {
                Part::Split(n) => match self.splits.get(n.to_usize())?.unit {
                    Some((skeleton, start)) if skeleton == unit => start,
                    _ => unit.offset,
                },
                _ => unit.offset,
            };
            Some(Scope { unit, die: UnitOffset(offset.checked_sub(start)?) })
        };
        match value {
            AttributeValue::UnitRef(die) => Some(Scope { unit: from, die }),
            AttributeValue::DebugInfoRef(DebugInfoOffset(offset)) => at(self.home(from), offset),
            AttributeValue::DebugInfoRefSup(DebugInfoOffset(offset)) => at(Part::Alternate, offset),
            AttributeValue::DebugTypesRef(signature) => self.type_unit(from, signature),
            _ => None,
        }
    }

    /// The `.debug_info` that references of unit `from` point into.
    fn home(&self, from: UnitId) -> Part {
        match from.part {
            Part::Info => self.unit(from).and_then(|u| u.split).map_or(Part::Info, Part::Split),
            Part::Types => Part::Info,
            Part::SplitTypes(n) => Part::Split(n),
            other => other,
        }
    }

    /// The type that a signature stands for.
    fn type_unit(&self, from: UnitId, signature: DebugTypeSignature) -> Option<Scope> {
        let home = self.home(from);
        let own = self.type_units(home)?.by_signature.get(&signature.0).copied();
        own.or_else(|| if let Part::Split(_) = home { self.packaged_type_unit(signature) } else { None })
    }

    /// The type units in the file of `part`.
    fn type_units(&self, part: Part) -> Option<&TypeUnits<'m>> {
        Some(match part {
            Part::Info | Part::Types => {
                let there = || self.reach(usize::MAX);
                self.types.get_or_init(|| TypeUnits::read(&self.sections, there(), Part::Info, Part::Types))
            }
            Part::Alternate => {
                let alternate = self.sections.sup()?;
                self.alternate_types
                    .get_or_init(|| TypeUnits::read(alternate, usize::MAX, Part::Alternate, Part::Types))
            }
            Part::Split(n) | Part::SplitTypes(n) => {
                let split = self.splits.get(n.to_usize())?;
                let read = || TypeUnits::read(&split.sections, usize::MAX, Part::Split(n), Part::SplitTypes(n));
                split.types.get_or_init(read)
            }
            Part::Ctf => return None,
        })
    }

    fn packaged_type_unit(&self, signature: DebugTypeSignature) -> Option<Scope> {
        let known = self.signatures_of_package.get(&signature.0);
        if let Some(known) = known {
            return *known;
        }
        let found =
            self.package().and_then(|p| p.find_tu(signature, &self.sections).ok().flatten()).and_then(|mut d| {
                d.file_type = gimli::DwarfFileType::Dwo;
                let number = self.keep_split(d, None)?;
                self.type_units(Part::Split(number))?.by_signature.get(&signature.0).copied()
            });
        *self.signatures_of_package.insert(signature.0, Box::new(found))
    }

    fn read_unit(&self, id: UnitId) -> Result<Unit<'m>, gimli::Error> {
        let missing = gimli::Error::MissingUnitDie;
        let split = |n: u32| self.splits.get(n.to_usize()).map(|s| Arc::clone(&s.sections)).ok_or(missing);
        let types = |part| {
            let header = self.type_units(part).and_then(|t| t.headers.get(&id.offset)).copied();
            header.ok_or(gimli::Error::OffsetOutOfBounds(id.offset.to_u64()))
        };
        let (sections, header) = match id.part {
            Part::Info => (Arc::clone(&self.sections), self.info_header(id.offset)?),
            Part::Types => (Arc::clone(&self.sections), types(id.part)?),
            Part::Alternate => {
                let sections = self.sections.sup.clone().ok_or(missing)?;
                let header = sections.debug_info.header_from_offset(DebugInfoOffset(id.offset))?;
                (sections, header)
            }
            Part::Split(n) => {
                let sections = split(n)?;
                let header = sections.debug_info.header_from_offset(DebugInfoOffset(id.offset))?;
                (sections, header)
            }
            Part::SplitTypes(n) => (split(n)?, types(id.part)?),
            Part::Ctf => return Err(missing),
        };
        let abbreviations = self.tables.of(&sections, &header)?;
        let root = Root::read(&sections, header, abbreviations)?;
        let split = if id.part == Part::Info { self.split_unit(id, &root) } else { None };
        if let Some((number, sections, own)) = split {
            let mut unit = self.finish(id, sections, own, Some(number));
            unit.skeleton = Some(Box::new(Skeleton {
                sections: Arc::clone(&self.sections),
                unit: root.unit,
                line_offset: root.line_offset,
            }));
            return Ok(unit);
        }
        let number = match id.part {
            Part::Split(n) | Part::SplitTypes(n) => Some(n),
            _ => None,
        };
        Ok(self.finish(id, sections, root, number))
    }

    fn finish(
        &self,
        id: UnitId,
        sections: Arc<gimli::Dwarf<Slice<'m>>>,
        root: Root<'m>,
        split: Option<u32>,
    ) -> Unit<'m> {
        Unit {
            id,
            sections,
            unit: root.unit,
            skeleton: None,
            language: root.language,
            line_offset: root.line_offset,
            zero_is_code: self.zero_is_code,
            split,
            functions: OnceLock::new(),
            all_functions: OnceLock::new(),
            lines: LinesSlot::default(),
            doubts: self.doubts,
        }
    }

    /// The split unit of a skeleton with its sections and their number: from a package, or from the file it names.
    fn split_unit(&self, id: UnitId, skeleton: &Root<'m>) -> Option<(u32, Arc<gimli::Dwarf<Slice<'m>>>, Root<'m>)> {
        let wanted = skeleton.unit.dwo_id?;
        let name = skeleton.dwo_name?;
        let packaged = self.package().and_then(|p| p.find_cu(wanted, &self.sections).ok().flatten());
        let (sections, header) = match packaged.and_then(|d| with_unit(d, wanted)) {
            Some(found) => found,
            None => match self.dwo_file(skeleton, name, wanted) {
                Some(found) => found,
                None => {
                    let name = self.sections.attr_string(&skeleton.unit, name).ok()?;
                    let name = String::from_utf8_lossy(name.slice());
                    let why = "not found, or of another build: its functions have no names; keep it, or a .dwp, beside \
                               the program or in a --symbols directory";
                    self.doubt(format!("split file {name}: {why}"));
                    return None;
                }
            },
        };
        let abbreviations = self.tables.of(&sections, &header).ok()?;
        let start = header.debug_info_offset()?.0;
        let mut root = Root::read(&sections, header, abbreviations).ok()?;
        root.unit.copy_relocated_attributes(&skeleton.unit);
        let number = self.keep_split(sections, Some((id, start)))?;
        Some((number, Arc::clone(&self.splits.get(number.to_usize())?.sections), root))
    }

    fn keep_split(&self, sections: gimli::Dwarf<Slice<'m>>, unit: Option<(UnitId, usize)>) -> Option<u32> {
        let split = Split { sections: Arc::new(sections), unit, headers: OnceLock::new(), types: OnceLock::new() };
        u32::try_from(self.splits.push_get_index(Box::new(split))).ok()
    }

    fn package(&self) -> Option<&gimli::DwarfPackage<Slice<'m>>> {
        self.package
            .get_or_init(|| {
                let file = self.split.package(self.file.path())?;
                let empty = gimli::EndianSlice::new(&[], file.endian());
                gimli::DwarfPackage::load(
                    |id| -> Result<Slice<'m>, gimli::Error> {
                        let name = id.dwo_name().or_else(|| index_name(id));
                        let data = name.and_then(|name| file.section_data(name).ok().flatten()).unwrap_or_default();
                        Ok(gimli::EndianSlice::new(data, file.endian()))
                    },
                    empty,
                )
                .ok()
            })
            .as_ref()
    }

    fn dwo_file(
        &self,
        skeleton: &Root<'m>,
        name: AttributeValue<Slice<'m>>,
        wanted: gimli::DwoId,
    ) -> Option<(gimli::Dwarf<Slice<'m>>, UnitHeader<Slice<'m>>)> {
        let name = self.sections.attr_string(&skeleton.unit, name).ok()?;
        let name = String::from_utf8_lossy(name.slice()).into_owned();
        let directory = skeleton.unit.comp_dir.map(|d| String::from_utf8_lossy(d.slice()).into_owned());
        let directory = directory.unwrap_or_default();
        let paths = self.split.candidates(Path::new(&directory), Path::new(&name), self.file.path());
        paths.iter().find_map(|path| {
            let file = self.split.open_candidate(path)?;
            let mut sections = load_sections(file, |id| id.dwo_name()).ok()?;
            sections.make_dwo(&self.sections);
            with_unit(sections, wanted)
        })
    }
}

/// gimli's loader of packages asks for the two indexes by ids that have a name in packages only.
fn index_name(id: gimli::SectionId) -> Option<&'static str> {
    matches!(id, gimli::SectionId::DebugCuIndex | gimli::SectionId::DebugTuIndex).then(|| id.name())
}

/// `sections` with the header of the compile unit `wanted`; `None` when there is none: another build's file.
fn with_unit<'m>(
    sections: gimli::Dwarf<Slice<'m>>,
    wanted: gimli::DwoId,
) -> Option<(gimli::Dwarf<Slice<'m>>, UnitHeader<Slice<'m>>)> {
    let mut units = sections.units();
    while let Ok(Some(header)) = units.next() {
        let id = match header.type_() {
            UnitType::SplitCompilation(id) => Some(id),
            UnitType::Compilation => {
                let root = sections.abbreviations(&header).and_then(|a| Root::read(&sections, header, a)).ok()?;
                root.unit.dwo_id
            }
            _ => None,
        };
        if id == Some(wanted) {
            return Some((sections, header));
        }
    }
    None
}

fn offsets(sections: &gimli::Dwarf<Slice<'_>>) -> Vec<usize> {
    headers(sections, usize::MAX).filter_map(|header| Some(header.debug_info_offset()?.0)).collect()
}

impl<'m> TypeUnits<'m> {
    /// All type units of the first `there` bytes of `.debug_info` (DWARF 5), and of `.debug_types` (DWARF 4).
    fn read(sections: &gimli::Dwarf<Slice<'m>>, there: usize, info: Part, types: Part) -> Self {
        let mut found = Self::default();
        let mut note = |part, offset: usize, header: &UnitHeader<Slice<'m>>| {
            if let UnitType::Type { type_signature, type_offset }
            | UnitType::SplitType { type_signature, type_offset } = header.type_()
            {
                let scope = Scope { unit: UnitId { part, offset }, die: type_offset };
                found.by_signature.entry(type_signature.0).or_insert(scope);
                if part == types {
                    found.headers.insert(offset, *header);
                }
            }
        };
        for header in headers(sections, there) {
            if let Some(offset) = header.debug_info_offset() {
                note(info, offset.0, &header);
            }
        }
        let mut units = sections.type_units();
        while let Ok(Some(header)) = units.next() {
            if let Some(offset) = header.debug_types_offset() {
                note(types, offset.0, &header);
            }
        }
        found
    }
}
