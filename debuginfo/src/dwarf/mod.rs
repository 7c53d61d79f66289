//! DWARF of one module: units, functions, inlined calls, lines.
//!
//! Input: the sections of a debug file, of its dwz alternate, and of its split files, read in place. Output: what an
//! address means ([`SourceFrame`]), and access to DIEs wherever a reference leads ([`Dwarf::unit`],
//! [`Dwarf::follow`]). It interprets no types and evaluates no expressions.
//!
//! Nothing is read before it is needed. The unit of an address comes from an index or from a scan of root DIEs
//! (`unit_map`); a unit that is hit gets its abbreviations parsed (`unit`), its functions listed (`functions`), the
//! tree of the one function walked (`inlines`), and its line program run (`lines`), each once. All of it may be used
//! from many threads.
//!
//! A [`Scope`] is the place of a DIE: unit and offset. A compile unit in a split file goes by the [`UnitId`] of its
//! skeleton.

mod abbreviations;
mod boundaries;
mod cursor;
mod functions;
mod gdb_index;
mod inlines;
mod line_program;
mod lines;
pub(crate) mod names;
mod ranges;
mod references;
mod resolve;
mod skim;
mod source;
mod split;
mod unit;
mod unit_map;

use crate::elf::ElfFile;
use crate::{Error, Module, Slice};
use evidence::{Doubt, Doubts, Svma, ToU64 as _, ToUsize as _};
use gimli::{Section as _, SectionId};
use std::sync::{Arc, OnceLock};

pub use abbreviations::{LIMIT_ABBREVIATION_STEPS, LIMIT_TABLE, LIMIT_TABLES};
pub(crate) use boundaries::Boundaries;
pub(crate) use cursor::Cursor;
pub use functions::LIMIT_FUNCTION_RANGES;
pub use inlines::LIMIT_INLINES;
pub use lines::{LIMIT_LINE_HEADER, LIMIT_ROWS};
pub use names::LIMIT_ORIGINS;
pub(crate) use names::Names;
pub use ranges::LIMIT_DIE_RANGES;
pub use source::{Scope, SourceFrame};
pub use split::{LIMIT_SPLIT_FILES, SplitFiles};
pub use unit::{Part, Skeleton, Unit, UnitId};
pub use unit_map::LIMIT_UNIT_RANGES;

/// The DWARF of one module, read in place.
#[derive(Debug)]
pub struct Dwarf<'m> {
    /// gimli's view of all sections, with the supplementary (dwz) file attached.
    pub sections: Arc<gimli::Dwarf<Slice<'m>>>,
    /// The file they are in.
    pub file: &'m ElfFile,
    split: &'m SplitFiles,
    /// Whether address 0 can be code: only in files that have an executable section there.
    zero_is_code: bool,
    map: unit_map::UnitMap,
    tables: abbreviations::Tables,
    doubts: &'m Doubts,
    name: &'m str,
    units: elsa::sync::FrozenMap<UnitId, Box<Option<Unit<'m>>>>,
    splits: elsa::sync::FrozenVec<Box<references::Split<'m>>>,
    package: OnceLock<Option<gimli::DwarfPackage<Slice<'m>>>>,
    types: OnceLock<references::TypeUnits<'m>>,
    alternate_types: OnceLock<references::TypeUnits<'m>>,
    signatures_of_package: elsa::sync::FrozenMap<u64, Box<Option<Scope>>>,
    alternate: OnceLock<Vec<usize>>,
    /// Whether it was said that `.debug_info` is damaged.
    damage_said: OnceLock<()>,
}

impl<'m> Dwarf<'m> {
    /// Loads the sections of `module`'s debug file, those with the `locations` of variables on demand; `None` when it has no
    /// `.debug_info`.
    ///
    /// # Errors
    /// A section is damaged.
    pub fn load(module: &'m Module, doubts: &'m Doubts, locations: bool) -> Result<Option<Self>, Error> {
        let Some(file) = module.debug() else { return Ok(None) };
        if file.section(".debug_info").is_none_or(crate::elf::Section::is_nobits) {
            return Ok(None);
        }
        for file in [Some(file), module.supplementary()].into_iter().flatten() {
            if let Some(cache) = module.cache() {
                file.keep_in(cache);
            }
            file.unpack(locations);
        }
        let wanted = |id| wanted(id, locations);
        let mut sections = begun_sections(file, wanted)?;
        if let Some(alternate) = module.supplementary() {
            sections.set_sup(load_sections(alternate, wanted)?);
        }
        let executable = |s: &crate::elf::Section| s.flags() & EXECUTABLE_SECTION == EXECUTABLE_SECTION;
        Ok(Some(Self {
            sections: Arc::new(sections),
            file,
            split: &module.split,
            zero_is_code: file.sections().iter().any(|s| s.address() == Svma(0) && executable(s)),
            map: unit_map::UnitMap::default(),
            tables: abbreviations::Tables::default(),
            doubts,
            name: &module.path,
            units: elsa::sync::FrozenMap::default(),
            splits: elsa::sync::FrozenVec::default(),
            package: OnceLock::new(),
            types: OnceLock::new(),
            alternate_types: OnceLock::new(),
            signatures_of_package: elsa::sync::FrozenMap::default(),
            alternate: OnceLock::new(),
            damage_said: OnceLock::new(),
        }))
    }

    /// Sees to it that `.debug_info` is there up to `upto`, and says how much of it is: less only where it is damaged.
    fn reach(&self, upto: usize) -> usize {
        let whole = self.sections.debug_info.reader().len();
        match self.file.reach(".debug_info", upto.to_u64()) {
            Ok(()) => upto.min(whole),
            Err(why) => {
                self.damage_said.get_or_init(|| self.doubt(why));
                self.file
                    .section(".debug_info")
                    .and_then(crate::elf::Section::reached)
                    .map_or(whole, |reached| reached.to_usize())
            }
        }
    }

    /// Sees to it that the whole unit at `offset` of `.debug_info` is there, and reads its header.
    pub(super) fn info_header(&self, offset: usize) -> Result<gimli::UnitHeader<Slice<'m>>, gimli::Error> {
        let there = |end: usize| {
            if self.reach(end) < end { Err(gimli::Error::OffsetOutOfBounds(end.to_u64())) } else { Ok(()) }
        };
        let whole = self.sections.debug_info.reader().len();
        there(offset.saturating_add(LENGTH_FIELD).min(whole))?;
        let mut start = *self.sections.debug_info.reader();
        gimli::Reader::skip(&mut start, offset)?;
        let (length, format) = gimli::Reader::read_initial_length(&mut start)?;
        there(offset.saturating_add(length).saturating_add(usize::from(format.initial_length_size())).min(whole))?;
        self.sections.debug_info.header_from_offset(gimli::DebugInfoOffset(offset))
    }

    /// Puts into the cache what was decompressed as it was needed.
    pub(crate) fn keep_grown(&self) {
        self.file.keep_grown();
    }

    /// The unit that holds the function at `at`, for [`Dwarf::unit`].
    #[must_use]
    pub fn unit_of(&self, at: Svma) -> Option<UnitId> {
        self.resolve_unit(at.0).map(|found| found.unit.id)
    }

    /// Notes that something could not be read.
    fn doubt(&self, why: impl std::fmt::Display) {
        self.doubts.push(Doubt::new("debug-info", format!("{}: {why}", self.name)));
    }

    /// Lets go of the file pages that were read to resolve addresses of the unit at `offset` (the table of its functions stays).
    pub(crate) fn release_unit_at(&self, offset: usize) {
        let id = UnitId { part: Part::Info, offset };
        let Some(unit) = self.units.get(&id).and_then(Option::as_ref) else { return };
        let release = |unit: &gimli::Unit<Slice<'m>>| {
            if let Ok(entries) = unit.header.range_from(unit.header.root_offset()..) {
                self.file.release(entries.slice());
            }
        };
        release(unit.skeleton.as_ref().map_or(&unit.unit, |s| &s.unit));
        self.file.release(unit.forget_lines());
    }

    /// Lets go of all file pages of the large sections.
    pub(crate) fn release(&self) {
        for part in [
            self.sections.debug_info.reader(),
            self.sections.debug_line.reader(),
            self.sections.debug_str.reader(),
            self.sections.ranges.debug_rnglists().reader(),
            self.sections.ranges.debug_ranges().reader(),
        ] {
            self.file.release(part.slice());
        }
    }

    /// Lets go of the file pages that hold names and DIEs, after a pass over a whole unit.
    pub(crate) fn release_names(&self) {
        for part in [self.sections.debug_str.reader(), self.sections.debug_info.reader()] {
            self.file.release(part.slice());
        }
    }

    /// The ids of all compile and partial units of the debug file, in file order.
    pub fn unit_ids(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.unit_offsets().iter().map(|offset| UnitId { part: Part::Info, offset: *offset })
    }
}

/// `SHF_ALLOC` and `SHF_EXECINSTR`.
const EXECUTABLE_SECTION: u64 = 0x2 | 0x4;

/// The sections that are read; macros are not, and decompressing them would take as long as the lines.
fn wanted(id: SectionId, locations: bool) -> Option<&'static str> {
    match id {
        SectionId::DebugLoc | SectionId::DebugLocLists if !locations => None,
        SectionId::DebugMacro | SectionId::DebugMacinfo => None,
        other => Some(other.name()),
    }
}

/// Longest field of a unit's length, in bytes.
const LENGTH_FIELD: usize = 12;

/// Loads the sections that `name` has a name for.
fn load_sections(
    file: &ElfFile,
    name: impl Fn(SectionId) -> Option<&'static str>,
) -> Result<gimli::Dwarf<Slice<'_>>, Error> {
    gimli::Dwarf::load(|id: SectionId| {
        let data = name(id).map_or(Ok(None), |name| file.section_data(name))?.unwrap_or_default();
        Ok(gimli::EndianSlice::new(data, file.endian()))
    })
}

/// As [`load_sections`], but of `.debug_info` only that is there which [`Dwarf::reach`] was asked for.
fn begun_sections(
    file: &ElfFile,
    name: impl Fn(SectionId) -> Option<&'static str>,
) -> Result<gimli::Dwarf<Slice<'_>>, Error> {
    let mut sections = load_sections(file, |id| name(id).filter(|_| id != SectionId::DebugInfo))?;
    let units = file.begun_data(".debug_info")?.unwrap_or_default();
    sections.debug_info = gimli::DebugInfo::from(gimli::EndianSlice::new(units, file.endian()));
    Ok(sections)
}
