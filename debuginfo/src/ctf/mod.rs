//! Layouts out of CTF: the compact type format of illumos (version 2) and FreeBSD (version 2, and 3 since 14).
//!
//! Input: the contents of a `.SUNW_ctf` section, or the same bytes out of a kernel's memory. Output: structures by name
//! ([`Layouts`](crate::layout::Layouts)), the types of the functions and objects of the symbol table that it goes with
//! ([`ImageTypes`]), and all of them as variables are shown with ([`crate::types::Types`]). GNU's `.ctf` sections are another format, which has the same magic number and is refused by its version.
//!
//! Source: `sys/sys/ctf.h` and ctf(5) of FreeBSD, `uts/common/sys/ctf.h` of illumos. The header has 36 bytes and is
//! never compressed; what follows may be one zlib stream: labels, objects, functions, types, strings. Type ids count
//! the records of the type section from 1; a container that names a parent uses the upper half of the ids for its own.

mod functions;
mod image;
mod layouts;
mod record;
mod types;

use crate::elf::ElfFile;
use evidence::bytes::{Endian, slice_at, u8_at, u16_at, u32_at};
use evidence::{ToU64, ToUsize};
use record::Record;
use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

pub use functions::Prototype;
pub use image::ImageTypes;
pub use types::type_id;

const MAGIC: u16 = 0xcff1;
const HEADER: usize = 36;
const FLAG_COMPRESSED: u8 = 1;

/// Largest container: the types of a whole kernel take 2 to 12 MB; this is for all of it after decompression.
pub const LIMIT_CONTAINER: u64 = 1 << 30;
/// Most types of one container: a generic kernel has 60,000. Each costs 4 bytes here.
pub const LIMIT_TYPES: usize = 1 << 24;
/// Longest chain of typedefs, qualifiers and arrays followed. Damaged containers hold circles.
pub const LIMIT_CHAIN: usize = 64;

/// A type's number within a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtfId(pub u32);

/// Why bytes are no CTF that is read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtfError {
    /// Where in the container, bytes.
    pub offset: u64,
    /// What was expected there.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for CtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CTF: at offset {:#x}: expected {}, found {}", self.offset, self.expected, self.found)
    }
}

impl std::error::Error for CtfError {}

/// What differs between the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

/// Where the sections lie in the (decompressed) bytes after the header.
#[derive(Clone, Copy, Debug)]
struct Sections {
    objects: usize,
    functions: usize,
    types: usize,
    strings: usize,
}

/// A container of types.
pub struct Ctf {
    bytes: Box<[u8]>,
    endian: Endian,
    version: Version,
    /// Bytes of a pointer of the machine.
    pointer: u8,
    sections: Sections,
    parent_name: Option<Box<str>>,
    parent: Option<Arc<Ctf>>,
    /// The string table of the ELF file: for names whose highest bit is set.
    external: Box<[u8]>,
    /// Where the record of type `n + 1` starts.
    starts: Vec<u32>,
    /// Structures, unions and enumerations by name; the others by name.
    tags: HashMap<Box<str>, Named>,
    others: HashMap<Box<str>, Named>,
    /// Where the type section could not be read any further.
    broken_at: Option<u64>,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
struct Named {
    index: u32,
    root: bool,
    /// Several types that are hidden from each other's units have this name.
    ambiguous: bool,
}

impl fmt::Debug for Ctf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctf").field("version", &self.version).field("types", &self.starts.len()).finish_non_exhaustive()
    }
}

impl Ctf {
    /// Reads a container. `pointer`: bytes of a pointer of the machine that it describes.
    ///
    /// # Errors
    /// It has another magic number or version, is cut off, or cannot be decompressed.
    pub fn parse(raw: &[u8], pointer: u8) -> Result<Self, CtfError> {
        Self::parse_with_strings(raw, pointer, &[])
    }

    /// As [`Ctf::parse`], with the ELF string table that some names may lie in.
    ///
    /// # Errors
    /// As [`Ctf::parse`].
    pub fn parse_with_strings(raw: &[u8], pointer: u8, external: &[u8]) -> Result<Self, CtfError> {
        let bad = |offset: usize, expected, found: String| CtfError { offset: offset.to_u64(), expected, found };
        let endian = match (u16_at(raw, 0, Endian::Little), u16_at(raw, 0, Endian::Big)) {
            (Some(MAGIC), _) => Endian::Little,
            (_, Some(MAGIC)) => Endian::Big,
            (Some(other), _) => return Err(bad(0, "the magic number 0xcff1", format!("{other:#x}"))),
            _ => return Err(bad(0, "a header of 36 bytes", format!("{} bytes", raw.len()))),
        };
        let version = match u8_at(raw, 2) {
            Some(2) => Version::V2,
            Some(3) => Version::V3,
            other => return Err(bad(2, "version 2 or 3", format!("{other:?}"))),
        };
        let body = raw.get(HEADER..).ok_or_else(|| bad(0, "a header of 36 bytes", format!("{} bytes", raw.len())))?;
        let field = |at| u32_at(raw, at, endian).unwrap_or(0).to_usize();
        let sections = Sections { objects: field(16), functions: field(20), types: field(24), strings: field(28) };
        let (Sections { objects, functions, types, strings }, names) = (sections, field(32));
        let size = strings.saturating_add(names);
        if field(12) > objects || objects > functions || functions > types || types > strings {
            let found = format!("offsets {:#x}, {objects:#x}, {functions:#x}, {types:#x}, {strings:#x}", field(12));
            return Err(bad(12, "sections in their order", found));
        }
        if size.to_u64() > LIMIT_CONTAINER {
            return Err(bad(28, "at most 1 GiB of types and names", format!("{size:#x} bytes")));
        }
        let bytes: Box<[u8]> = if u8_at(raw, 3).unwrap_or(0) & FLAG_COMPRESSED == 0 {
            body.get(..size)
                .ok_or_else(|| bad(28, "sections inside the container", format!("{size:#x} of {:#x}", body.len())))?
                .into()
        } else {
            let mut bytes = Vec::new();
            let most = size.to_u64().saturating_add(1);
            flate2::read::ZlibDecoder::new(body)
                .take(most)
                .read_to_end(&mut bytes)
                .map_err(|e| bad(HEADER, "a zlib stream", e.to_string()))?;
            if bytes.len() != size {
                let found = format!("{:#x} instead of {size:#x}", bytes.len());
                return Err(bad(HEADER, "as many bytes as the header says", found));
            }
            bytes.into()
        };
        let mut ctf = Self {
            bytes,
            endian,
            version,
            pointer,
            sections,
            parent_name: None,
            parent: None,
            external: external.into(),
            starts: Vec::new(),
            tags: HashMap::new(),
            others: HashMap::new(),
            broken_at: None,
        };
        let parent = u32_at(raw, 8, endian).unwrap_or(0);
        ctf.parent_name = (parent != 0).then(|| ctf.string(parent)).flatten().filter(|n| !n.is_empty()).map(Into::into);
        ctf.index();
        Ok(ctf)
    }

    /// Reads the `.SUNW_ctf` section of a file; `None` when it has none.
    ///
    /// # Errors
    /// As [`Ctf::parse`], also when the section cannot be read.
    pub fn of_file(file: &ElfFile) -> Option<Result<Self, CtfError>> {
        let section = file.section(".SUNW_ctf").filter(|s| !s.is_nobits())?;
        let strings = file.section_data(".strtab").ok().flatten().unwrap_or_default();
        Some(match file.section_data(".SUNW_ctf") {
            Ok(raw) => Self::parse_with_strings(raw.unwrap_or_default(), file.address_size(), strings),
            Err(e) => Err(CtfError {
                offset: section.file_offset(),
                expected: "the contents of section .SUNW_ctf",
                found: e.to_string(),
            }),
        })
    }

    /// The name of the container that holds the types of the lower half of the ids: `genunix`, `kernel`.
    #[must_use]
    pub fn parent_name(&self) -> Option<&str> {
        self.parent_name.as_deref()
    }

    /// With the container of [`Ctf::parent_name`].
    #[must_use]
    pub fn with_parent(mut self, parent: Arc<Self>) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Whether names of its types lie in the string table of the symbol table that it goes with.
    #[must_use]
    pub fn has_external_names(&self) -> bool {
        let names =
            |start: &u32| Record::read(self, start.to_usize()).is_some_and(|r| r.names(self).any(|n| n >> 31 != 0));
        self.starts.iter().any(names)
    }

    /// How many types it holds itself.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds no type.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Where in the decompressed bytes after the header the types could not be read any further; those before are used.
    #[must_use]
    pub const fn broken_at(&self) -> Option<u64> {
        self.broken_at
    }

    /// A name of the internal string table, or of the external one.
    fn string(&self, name: u32) -> Option<&str> {
        let at = (name & 0x7fff_ffff).to_usize();
        let table = if name >> 31 == 0 { self.bytes.get(self.sections.strings..)? } else { &*self.external };
        let tail = table.get(at..)?;
        let end = memchr(tail)?;
        std::str::from_utf8(tail.get(..end)?).ok()
    }

    /// Finds where each type starts, and the names.
    fn index(&mut self) {
        let mut at = self.sections.types;
        let mut names: Vec<(bool, u32, Named)> = Vec::new();
        while at < self.sections.strings && self.starts.len() < LIMIT_TYPES {
            let (Some(record), Ok(start)) = (Record::read(self, at), u32::try_from(at)) else {
                self.broken_at = Some(at.to_u64());
                break;
            };
            self.starts.push(start);
            let index = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
            if record.name != 0 && !matches!(record.kind, record::UNKNOWN | record::FORWARD | record::FUNCTION) {
                let tag = matches!(record.kind, record::STRUCT | record::UNION | record::ENUM);
                names.push((tag, record.name, Named { index, root: record.root, ambiguous: false }));
            }
            at = record.end;
        }
        if self.broken_at.is_none() && at < self.sections.strings {
            self.broken_at = Some(at.to_u64());
        }
        for (tag, name, named) in names {
            let Some(name) = self.string(name).map(Box::<str>::from) else { continue };
            let table = if tag { &mut self.tags } else { &mut self.others };
            table
                .entry(name)
                .and_modify(|old| match (old.root, named.root) {
                    (true, _) => {}
                    (false, true) => *old = named,
                    (false, false) => old.ambiguous = true,
                })
                .or_insert(named);
        }
    }

    /// A type by its name. Types hidden from other units count only when there is one of that name.
    fn find(&self, name: &str) -> Option<CtfId> {
        let own = [&self.tags, &self.others].into_iter().find_map(|t| t.get(name).filter(|n| n.root || !n.ambiguous));
        match own {
            Some(named) => Some(self.own(named)),
            None => self.parent.as_ref()?.find(name),
        }
    }

    /// As [`Ctf::find`], of structures, unions and enumerations only.
    fn find_tag(&self, name: &str) -> Option<CtfId> {
        match self.tags.get(name).filter(|n| n.root || !n.ambiguous) {
            Some(named) => Some(self.own(named)),
            None => self.parent.as_ref()?.find_tag(name),
        }
    }

    const fn own(&self, named: &Named) -> CtfId {
        CtfId(if self.parent_name.is_some() { named.index | self.child_bit() } else { named.index })
    }

    const fn child_bit(&self) -> u32 {
        match self.version {
            Version::V2 => 0x8000,
            Version::V3 => 0x8000_0000,
        }
    }

    /// The record of a type, and the container that it lies in.
    fn record(&self, id: CtfId) -> Option<(&Self, Record)> {
        let bit = self.child_bit();
        let own = self.parent_name.is_none() || id.0 & bit != 0;
        let holder = if own { self } else { &**self.parent.as_ref()? };
        let index = (id.0 & !bit).checked_sub(1)?;
        let start = *holder.starts.get(index.to_usize())?;
        Some((holder, Record::read(holder, start.to_usize())?))
    }

    /// An id at `at`.
    fn id_at(&self, at: usize) -> Option<CtfId> {
        Some(CtfId(match self.version {
            Version::V2 => u32::from(u16_at(&self.bytes, at, self.endian)?),
            Version::V3 => u32_at(&self.bytes, at, self.endian)?,
        }))
    }

    /// Bytes of an id.
    const fn id_width(&self) -> usize {
        match self.version {
            Version::V2 => 2,
            Version::V3 => 4,
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        u32_at(&self.bytes, at, self.endian)
    }

    /// Whether `length` bytes at `at` lie in the type section.
    fn has(&self, at: usize, length: usize) -> bool {
        at.checked_add(length).is_some_and(|end| end <= self.sections.strings)
            && slice_at(&self.bytes, at, length).is_some()
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == 0)
}
