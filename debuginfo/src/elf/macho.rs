//! A Mach-O image in the shape of an ELF file: its segments, and its sections by the names that DWARF and call frame
//! information have in ELF.

use super::{ElfFile, Section, Segment};
use crate::macho::{self, MachO};
use crate::map::FileBytes;
use crate::{BuildId, Error};
use evidence::bytes::Endian;
use evidence::{Addr, Memory, Svma, ToU64, ToUsize};
use object::{Endianness, elf};
use std::path::PathBuf;
use std::sync::OnceLock;

/// How much of the head is read at first out of memory: all load commands of nearly all images lie in it.
const FIRST_READ: usize = 4096;
/// Segments that are no part of the image's code or data. `__PAGEZERO` is the gap at address 0; `__LINKEDIT` (symbols)
/// lies elsewhere for images of the shared cache; `__DWARF` is never loaded.
const NOT_LOADED: [&str; 3] = ["__PAGEZERO", "__LINKEDIT", "__DWARF"];

impl ElfFile {
    /// From a file: of a universal one the slice of that build (UUID), else its only one, or the first one, of which the
    /// caller will see that it is not the right one.
    pub(super) fn parse_macho(path: PathBuf, bytes: FileBytes, wanted: Option<&BuildId>) -> Result<Self, Error> {
        let bad = |found: &str| Error::Format {
            path: path.clone(),
            offset: 0,
            expected: "a Mach-O image",
            found: found.to_owned(),
        };
        let slices = macho::slices(&bytes).ok_or_else(|| bad("a header of nothing"))?;
        if slices.len() > 1 && wanted.is_none() {
            return Err(bad("a universal file of several images: take one out with lipo"));
        }
        let mut chosen = None;
        for slice in slices {
            let Some(image) = bytes.get(slice.clone()).and_then(MachO::parse) else { continue };
            let right = wanted.is_some_and(|id| image.uuid.is_some_and(|uuid| uuid == id.bytes()));
            if right || chosen.is_none() {
                chosen = Some((image, slice));
            }
            if right {
                break;
            }
        }
        let (mut image, slice) = chosen.ok_or_else(|| bad("load commands that end too early"))?;
        image.set_places(vec![(0, slice.start.to_u64(), slice.len().to_u64())]);
        Ok(Self::of_macho(path, bytes, image, 0))
    }

    /// From a target's memory: a copy of the loaded segments, each up to its first missing byte, and not more than
    /// `limit` bytes in all. `None` when no image begins at `base`.
    pub(crate) fn macho_from_memory(name: &str, base: Addr, memory: &dyn Memory, limit: u64) -> Option<Self> {
        let mut head = vec![0; FIRST_READ];
        let (got, _) = memory.read(base, &mut head);
        head.truncate(got);
        let size = macho::head_size(&head)?;
        if size > head.len() {
            head = vec![0; size];
            let (got, _) = memory.read(base, &mut head);
            head.truncate(got);
        }
        let mut image = MachO::parse(&head)?;
        let slide = base.0.wrapping_sub(image.header_address()?);
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for segment in image.segments.iter().filter(|s| !matches!(&*s.name, "__PAGEZERO" | "__DWARF")) {
            let room = limit.saturating_sub(bytes.len().to_u64());
            let mut part = vec![0; segment.file_size.min(segment.memory_size).min(room).to_usize()];
            let (got, _) = memory.read(Addr(segment.address.wrapping_add(slide)), &mut part);
            places.push((segment.file_offset, bytes.len().to_u64(), got.to_u64()));
            bytes.extend_from_slice(part.get(..got).unwrap_or_default());
        }
        image.set_places(places);
        Some(Self::of_macho(name.into(), FileBytes::Owned(bytes.into()), image, slide))
    }

    fn of_macho(path: PathBuf, bytes: FileBytes, image: MachO, relocated_by: u64) -> Self {
        let segments = image.segments.iter().filter(|s| !NOT_LOADED.contains(&&*s.name)).map(|s| {
            // Of an image in memory not all of a segment may be there.
            let place = image.place(s.file_offset, s.file_size);
            Segment {
                address: Svma(s.address),
                memory_size: s.memory_size,
                file_offset: place.unwrap_or(0),
                file_size: if place.is_some() { s.file_size.min(s.memory_size) } else { 0 },
                executable: s.executable,
                writable: s.writable,
            }
        });
        let segments = segments.collect();
        let mut sections = Vec::new();
        for s in &image.sections {
            let place = if s.has_contents { image.place(s.file_offset, s.size) } else { None };
            let mut flags = if &*s.segment == "__DWARF" { 0 } else { elf::SHF_ALLOC.0 };
            if s.executable {
                flags |= elf::SHF_EXECINSTR.0;
            }
            let kind = if place.is_some() { elf::SHT_PROGBITS.0 } else { elf::SHT_NOBITS.0 };
            let (name, offset) = (name(&s.name), place.unwrap_or(0));
            sections.push(Section::placed(name, kind, flags, Svma(s.address), offset, s.size, &bytes));
        }
        Self {
            path,
            bytes,
            endian: if image.endian == Endian::Big { Endianness::Big } else { Endianness::Little },
            is_64: image.is_64,
            arch: image.arch,
            kind: elf::ET_DYN.0,
            // What LC_MAIN names is called by the loader: no stack ends in it.
            entry: Svma(0),
            programs: Vec::new(),
            segments,
            dynamic: None,
            eh_frame_header: None,
            tls: None,
            sections,
            build_id: image.uuid.and_then(|id| BuildId::new(&id)),
            relocated_by,
            cache: OnceLock::new(),
            macho: Some(Box::new(image)),
        }
    }

    /// What is particular to Mach-O; `None` for ELF files.
    #[must_use]
    pub fn macho(&self) -> Option<&MachO> {
        self.macho.as_deref()
    }
}

/// The name of a section in ELF; sections without a counterpart keep theirs.
fn name(name: &str) -> Box<str> {
    match name {
        // Names have 16 bytes at most.
        "__debug_str_offs" => ".debug_str_offsets".into(),
        "__debug_gnu_pubn" => ".debug_gnu_pubnames".into(),
        "__debug_gnu_pubt" => ".debug_gnu_pubtypes".into(),
        "__text" => ".text".into(),
        "__eh_frame" => ".eh_frame".into(),
        other => match other.strip_prefix("__").filter(|n| n.starts_with("debug_") || n.starts_with("zdebug_")) {
            Some(rest) => format!(".{rest}").into(),
            None => other.into(),
        },
    }
}
