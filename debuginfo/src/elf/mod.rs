//! One ELF file: its segments, sections (decompressed when first asked for), notes and symbol tables. A Mach-O image is
//! read into the same shape.

mod growing;
mod in_memory;
mod macho;
mod mini;
mod program;
mod relocatable;
mod sections;
mod unpack;

use crate::cache::{Cache, Subject};
use crate::macho::MachO;
use crate::{BuildId, Error, map::FileBytes};
use evidence::{Arch, Svma, ToU64};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind};
pub use program::ProgramHeader;
pub(crate) use program::{Headers, LIMIT_HEAD, build_id as note_build_id};
pub use sections::Section;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of an ELF program header")]
pub struct Segment {
    pub address: Svma,
    pub memory_size: u64,
    pub file_offset: u64,
    pub file_size: u64,
    pub executable: bool,
    pub writable: bool,
}

/// An opened ELF file.
#[derive(Debug)]
pub struct ElfFile {
    path: PathBuf,
    bytes: FileBytes,
    endian: Endianness,
    is_64: bool,
    arch: Arch,
    /// `ET_EXEC`, `ET_DYN`, `ET_REL`.
    kind: u16,
    entry: Svma,
    programs: Vec<ProgramHeader>,
    segments: Vec<Segment>,
    /// Range of the dynamic section, in SVMA.
    dynamic: Option<Range<u64>>,
    /// Range of `.eh_frame_hdr` by `PT_GNU_EH_FRAME`, in SVMA.
    eh_frame_header: Option<Range<u64>>,
    tls: Option<Range<u64>>,
    sections: Vec<Section>,
    build_id: Option<BuildId>,
    relocated_by: u64,
    cache: OnceLock<(Cache, Subject)>,
    /// What is particular to an image of macOS or iOS.
    macho: Option<Box<MachO>>,
}

impl ElfFile {
    /// Maps and reads the headers of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened, or is no ELF file of a known class and byte order.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_build(path, None)
    }

    /// As [`ElfFile::open`]; of a universal file of several images the one of that identity.
    pub(crate) fn open_build(path: &Path, wanted: Option<&BuildId>) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(Error::Format {
                path: path.to_owned(),
                offset: 0,
                expected: "an ELF file",
                found: if meta.is_file() { "an empty file".into() } else { "no regular file".into() },
            });
        }
        Self::parse(path.to_owned(), FileBytes::map(&file).map_err(io)?, wanted)
    }

    /// Reads an image that was copied out of a target's memory (a vDSO), or decompressed.
    ///
    /// # Errors
    /// As [`ElfFile::open`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(PathBuf::from(name), FileBytes::Owned(bytes.into()), None)
    }

    fn parse(path: PathBuf, bytes: FileBytes, wanted: Option<&BuildId>) -> Result<Self, Error> {
        if crate::macho::is_macho(&bytes) {
            return Self::parse_macho(path, bytes, wanted);
        }
        match FileKind::parse(&*bytes) {
            Ok(FileKind::Elf64) => Self::parse_class::<elf::FileHeader64<Endianness>>(path, bytes, true),
            Ok(FileKind::Elf32) => Self::parse_class::<elf::FileHeader32<Endianness>>(path, bytes, false),
            _ => Err(Error::Format {
                path,
                offset: 0,
                expected: "an ELF header (7f 45 4c 46)",
                found: format!("{:02x?}", bytes.get(..4).unwrap_or(&bytes)),
            }),
        }
    }

    fn parse_class<H: FileHeader<Endian = Endianness>>(
        path: PathBuf,
        bytes: FileBytes,
        is_64: bool,
    ) -> Result<Self, Error> {
        let bad = |e: object::Error| Error::Format {
            path: path.clone(),
            offset: 0,
            expected: "ELF headers that lie inside the file",
            found: e.to_string(),
        };
        let header = H::parse(&*bytes).map_err(bad)?;
        let endian = header.endian().map_err(bad)?;
        let mut segments = Vec::new();
        let (mut dynamic, mut eh_frame_header, mut tls, mut build_id) = (None, None, None, None);
        // A separate debug file keeps the program headers of its image although the contents are gone; a truncated
        // file may have lost them. Sections alone are still of use, so a bad table is no error.
        let table = header.program_headers(endian, &*bytes).unwrap_or_default();
        let programs = program::widen::<H>(table, endian);
        for p in table {
            let address: u64 = p.p_vaddr(endian).into();
            let memory_size: u64 = p.p_memsz(endian).into();
            let range = address..address.saturating_add(memory_size);
            match p.p_type(endian) {
                elf::PT_LOAD => segments.push(Segment {
                    address: Svma(address),
                    memory_size,
                    file_offset: p.p_offset(endian).into(),
                    file_size: p.p_filesz(endian).into(),
                    executable: p.p_flags(endian) & elf::PF_X != elf::ProgramFlags(0),
                    writable: p.p_flags(endian) & elf::PF_W != elf::ProgramFlags(0),
                }),
                elf::PT_DYNAMIC => dynamic = Some(range),
                elf::PT_GNU_EH_FRAME => eh_frame_header = Some(range),
                elf::PT_TLS => tls = Some(range),
                elf::PT_NOTE if build_id.is_none() => {
                    if let Ok(Some(mut notes)) = p.notes(endian, &*bytes) {
                        while let Ok(Some(note)) = notes.next() {
                            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                                build_id = BuildId::new(note.desc());
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        let (sections, section_build_id) = sections::read(header, endian, &bytes, is_64);
        let arch = match header.e_machine(endian) {
            elf::EM_X86_64 => Arch::X86_64,
            elf::EM_386 => Arch::X86,
            elf::EM_AARCH64 => Arch::Aarch64,
            elf::EM_ARM => Arch::Arm,
            _ => Arch::Other,
        };
        let kind = header.e_type(endian).0;
        let entry = Svma(header.e_entry(endian).into());
        Ok(Self {
            endian,
            is_64,
            arch,
            kind,
            entry,
            programs,
            segments,
            dynamic,
            eh_frame_header,
            tls,
            sections,
            // A separate debug file's PT_NOTE points at contents that were dropped: its section header is right.
            build_id: section_build_id.or(build_id),
            relocated_by: 0,
            cache: OnceLock::new(),
            macho: None,
            path,
            bytes,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lets go of the memory behind `part` of the file, which is read from disk again when needed.
    pub(crate) fn release(&self, part: &[u8]) {
        self.bytes.release(part);
        self.sections.iter().for_each(|s| s.release(part));
    }

    /// A number that tells files of different sections apart.
    pub(crate) fn shape(&self) -> u32 {
        sections::shape(&self.sections)
    }

    /// What is found out about this file is kept in `cache`. A file without a build-id, or one whose bytes came from
    /// memory, cannot be told from others, and nothing is.
    pub(crate) fn keep_in(&self, cache: &Cache) {
        let Some(build_id) = self.build_id.clone().filter(|_| self.bytes.is_mapped()) else { return };
        let shape = self.shape();
        self.cache.get_or_init(|| (cache.clone(), Subject { build_id, size: self.size(), shape }));
    }

    /// The cache, and what this file is called in it.
    pub(crate) fn cache(&self) -> Option<&(Cache, Subject)> {
        self.cache.get()
    }

    /// Decompresses all debug sections that need it, at the same time; those with the `locations` of variables if asked to.
    /// One that is decompressed as it is needed goes on for as long as others are not done, where there is a processor
    /// for it.
    pub(crate) fn unpack(&self, locations: bool) {
        let wanted = |s: &&Section| s.is_packed_debug() && (locations || !s.name().contains("debug_loc"));
        let mut packed: Vec<&Section> = self.sections.iter().filter(wanted).collect();
        // The errors are met again by whoever wants the section.
        for section in &packed {
            if section.grows() {
                let _ = section.begun(self);
            }
        }
        packed.retain(|s| s.reached().is_none() || crate::parallel::processors() > 1);
        packed.sort_by_key(|s| (s.reached().is_none(), std::cmp::Reverse(s.size())));
        let others = AtomicUsize::new(packed.iter().filter(|s| s.reached().is_none()).count());
        crate::parallel::parallel(&packed, |section| {
            while let Some(reached) = section.reached().filter(|_| others.load(Ordering::Acquire) > 0) {
                if reached >= section.size() || section.reach(self, reached.saturating_add(1)).is_err() {
                    return;
                }
            }
            if section.reached().is_none() {
                let _ = section.data(self);
                others.fetch_sub(1, Ordering::Release);
            }
        });
    }

    /// As [`ElfFile::section_data`], for contents that are looked at after [`ElfFile::reach`] said that they are there.
    pub(crate) fn begun_data(&self, name: &str) -> Result<Option<&[u8]>, Error> {
        self.section(name).map_or(Ok(None), |s| s.begun(self))
    }

    /// Sees to it that the first `upto` bytes of the section are there.
    pub(crate) fn reach(&self, name: &str, upto: u64) -> Result<(), Error> {
        self.section(name).map_or(Ok(()), |s| s.reach(self, upto))
    }

    /// Puts into the cache what was decompressed as it was needed.
    pub(crate) fn keep_grown(&self) {
        self.sections.iter().for_each(|s| s.keep_grown(self));
    }

    /// As [`ElfFile::release`], for a part of the file itself.
    fn release_mapped(&self, part: &[u8]) {
        self.bytes.release(part);
    }

    /// Lets go of the memory behind its symbol tables and their names.
    pub(crate) fn release_symbols(&self) {
        for section in self.sections.iter().filter(|s| matches!(s.name(), ".symtab" | ".strtab")) {
            self.release(self.data_of(section).ok().flatten().unwrap_or_default());
        }
    }

    /// Its build-id.
    #[must_use]
    pub const fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// The architecture of its code.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// Byte order, as gimli wants it.
    #[must_use]
    pub const fn endian(&self) -> gimli::RunTimeEndian {
        match self.endian {
            Endianness::Little => gimli::RunTimeEndian::Little,
            Endianness::Big => gimli::RunTimeEndian::Big,
        }
    }

    /// Bytes in an address: 4 or 8.
    #[must_use]
    pub const fn address_size(&self) -> u8 {
        if self.is_64 { 8 } else { 4 }
    }

    /// Whether it can be loaded anywhere (`ET_DYN`).
    #[must_use]
    pub const fn is_position_independent(&self) -> bool {
        self.kind == elf::ET_DYN.0
    }

    /// Entry point.
    #[must_use]
    pub const fn entry(&self) -> Svma {
        self.entry
    }

    /// All program headers, in file order.
    #[must_use]
    pub fn program_headers(&self) -> &[ProgramHeader] {
        &self.programs
    }

    /// Loadable segments in file order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// SVMA range of the dynamic section.
    #[must_use]
    pub fn dynamic(&self) -> Option<Range<u64>> {
        self.dynamic.clone()
    }

    /// SVMA range of the `.eh_frame_hdr` that the program headers name.
    #[must_use]
    pub fn eh_frame_header(&self) -> Option<Range<u64>> {
        self.eh_frame_header.clone()
    }

    /// SVMA range of the TLS template.
    #[must_use]
    pub fn tls(&self) -> Option<Range<u64>> {
        self.tls.clone()
    }

    /// All sections.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The first section of that name (`.debug_x` also finds an old `.zdebug_x`).
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name() == name).or_else(|| {
            let rest = name.strip_prefix(".debug_")?;
            self.sections.iter().find(|s| s.name().strip_prefix(".zdebug_") == Some(rest))
        })
    }

    /// The contents of a section, decompressed; `None` when there is no such section or it has no contents here.
    ///
    /// # Errors
    /// The section lies outside the file or its compressed stream is damaged.
    pub fn section_data(&self, name: &str) -> Result<Option<&[u8]>, Error> {
        self.section(name).map_or(Ok(None), |s| s.data(self))
    }

    /// The contents of one of this file's sections; `None` when it has none here.
    ///
    /// # Errors
    /// As [`ElfFile::section_data`].
    pub fn data_of<'f>(&'f self, section: &'f Section) -> Result<Option<&'f [u8]>, Error> {
        section.data(self)
    }

    /// File contents at an SVMA, as far as the segment's file part goes.
    #[must_use]
    pub fn bytes_at(&self, address: Svma) -> Option<&[u8]> {
        self.segments.iter().find_map(|s| {
            let skip = address.offset_from(s.address).filter(|skip| *skip < s.file_size)?;
            let start = usize::try_from(s.file_offset.checked_add(skip)?).ok()?;
            let end = usize::try_from(s.file_offset.checked_add(s.file_size)?).ok()?.min(self.bytes.len());
            self.bytes.get(start..end)
        })
    }

    /// The SVMA range that the loadable segments span, and 0..0 for none.
    #[must_use]
    pub fn span(&self) -> Range<u64> {
        let start = self.segments.iter().map(|s| s.address.0).min().unwrap_or(0);
        let end = self.segments.iter().map(|s| s.address.0.saturating_add(s.memory_size)).max().unwrap_or(0);
        start..end
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len().to_u64()
    }
}
