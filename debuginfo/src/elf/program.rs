//! Program headers, as a file has them and as the loader left them in memory.

use crate::BuildId;
use object::elf;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader as _};
use object::{Endianness, FileKind};

/// One program header, widened to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of Elf64_Phdr")]
pub struct ProgramHeader {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub align: u64,
}

impl ProgramHeader {
    /// Whether it is of a type such as `PT_LOAD`.
    pub(crate) const fn is(&self, kind: elf::ProgramType) -> bool {
        self.kind == kind.0
    }
}

/// The fields of an ELF header that identify an image, and its program headers.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    pub endian: Endianness,
    pub is_64: bool,
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    /// File offset of the program headers.
    pub table_offset: u64,
    pub programs: Vec<ProgramHeader>,
}

/// Most bytes of an image's head that are read for its program headers. glibc's loader reads 832 bytes, the kernel one
/// page; files with 65,535 headers of 56 bytes are cores, not images.
pub(crate) const LIMIT_HEAD: u64 = 64 << 10;

impl Headers {
    /// Parses the head of an image. `Err` holds how many bytes of head are needed when `head` is too short.
    pub(crate) fn parse(head: &[u8]) -> Result<Option<Self>, u64> {
        match FileKind::parse(head) {
            Ok(FileKind::Elf64) => Self::parse_class::<elf::FileHeader64<Endianness>>(head, true),
            Ok(FileKind::Elf32) => Self::parse_class::<elf::FileHeader32<Endianness>>(head, false),
            _ => Ok(None),
        }
    }

    fn parse_class<H: FileHeader<Endian = Endianness>>(head: &[u8], is_64: bool) -> Result<Option<Self>, u64> {
        let Ok(header) = H::parse(head) else { return Ok(None) };
        let Ok(endian) = header.endian() else { return Ok(None) };
        let table_offset: u64 = header.e_phoff(endian).into();
        let table_size = u64::from(header.e_phnum(endian)).saturating_mul(u64::from(header.e_phentsize(endian)));
        let needed = table_offset.saturating_add(table_size);
        if needed > evidence::ToU64::to_u64(head.len()) {
            return if needed > LIMIT_HEAD { Ok(None) } else { Err(needed) };
        }
        let Ok(table) = header.program_headers(endian, head) else { return Ok(None) };
        Ok(Some(Self {
            endian,
            is_64,
            kind: header.e_type(endian).0,
            machine: header.e_machine(endian).0,
            entry: header.e_entry(endian).into(),
            table_offset,
            programs: widen::<H>(table, endian),
        }))
    }

    /// The loadable segments.
    pub(crate) fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.programs.iter().filter(|p| p.is(elf::PT_LOAD))
    }
}

/// Copies a table into the widened form.
pub(crate) fn widen<H: FileHeader<Endian = Endianness>>(
    table: &[H::ProgramHeader],
    endian: Endianness,
) -> Vec<ProgramHeader> {
    let widened = table.iter().map(|p| ProgramHeader {
        kind: p.p_type(endian).0,
        flags: p.p_flags(endian).0,
        offset: p.p_offset(endian).into(),
        address: p.p_vaddr(endian).into(),
        file_size: p.p_filesz(endian).into(),
        memory_size: p.p_memsz(endian).into(),
        align: p.p_align(endian).into(),
    });
    widened.collect()
}

/// The build-id in the bytes of a note segment.
pub(crate) fn build_id(notes: &[u8], endian: Endianness, is_64: bool, align: u64) -> Option<BuildId> {
    if is_64 {
        build_id_class::<elf::FileHeader64<Endianness>>(notes, endian, align)
    } else {
        build_id_class::<elf::FileHeader32<Endianness>>(notes, endian, u32::try_from(align).unwrap_or(4))
    }
}

fn build_id_class<H: FileHeader<Endian = Endianness>>(
    notes: &[u8],
    endian: Endianness,
    align: H::Word,
) -> Option<BuildId> {
    let mut notes = NoteIterator::<H>::new(endian, align, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            return BuildId::new(note.desc());
        }
    }
    None
}
