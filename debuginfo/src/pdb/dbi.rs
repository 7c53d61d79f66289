//! The DBI stream: which object file which code came from, and where the image's sections lie.
//!
//! Layout: "The PDB DBI Stream" of LLVM's PDB documentation; Microsoft's `microsoft-pdb` (`dbi.h`).

use super::msf::{Msf, Stream};
use evidence::ToUsize;
use evidence::bytes::{Endian, c_str_at, slice_at, u16_at, u32_at};

const LITTLE: Endian = Endian::Little;
/// No stream of this number.
const NONE: u16 = 0xffff;
/// Most object files of one image: Chromium has about 60,000.
const LIMIT_MODULES: usize = 0xffff;
/// Most pieces of code and data of one image: Chromium has about 2 million.
const LIMIT_PIECES: usize = 32 << 20;

/// What the stream says.
#[derive(Debug, Default)]
pub(super) struct Dbi {
    pub publics: Option<u16>,
    pub records: Option<u16>,
    /// RVA and size of each section, in order, and whether it holds code.
    pub sections: Vec<(u32, u32, bool)>,
    pub modules: Vec<ObjectFile>,
    /// Pieces of the image by RVA: (start, bytes, object file).
    pub pieces: Vec<(u32, u32, u16)>,
    /// The image was rearranged after linking: addresses need tables that are not read.
    pub rearranged: bool,
}

/// An object file's part of the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectFile {
    pub stream: Option<u16>,
    pub symbols: usize,
    pub c11: usize,
    pub c13: usize,
}

impl Dbi {
    pub(super) fn read(msf: &Msf, file: &[u8]) -> Option<Self> {
        let stream = msf.stream(file, 3)?;
        let word = |at| stream.word(at);
        let number = |at| stream.half(at).filter(|n| *n != NONE);
        let mut dbi = Self { publics: number(16), records: number(20), ..Self::default() };
        let mut at = 64_usize;
        let mut part = |size: usize| -> Option<(usize, usize)> {
            let size = word(size)?.to_usize();
            let start = at;
            at = at.checked_add(size)?;
            Some((start, size))
        };
        let (modules, pieces) = (part(24)?, part(28)?);
        for unused in [32, 36, 40, 52] {
            part(unused)?;
        }
        let (optional, size) = part(48)?;
        let number = |n: usize| {
            let offset = n.checked_mul(2).filter(|o| o.checked_add(2).is_some_and(|end| end <= size))?;
            number(optional.checked_add(offset)?)
        };
        dbi.rearranged = number(4).is_some();
        if let Some(headers) = number(5).and_then(|n| msf.stream(file, n.into())) {
            let headers = headers.whole()?;
            // IMAGE_SCN_MEM_EXECUTE.
            let is_code = |h: &[u8]| Some(u32_at(h, 36, LITTLE)? & 0x2000_0000 != 0);
            let section = |h: &[u8]| Some((u32_at(h, 12, LITTLE)?, u32_at(h, 8, LITTLE)?, is_code(h)?));
            dbi.sections = headers.chunks_exact(40).take(0xffff).filter_map(section).collect();
        }
        dbi.modules = object_files(&stream.bytes(modules.0, modules.1)?);
        dbi.read_pieces(&stream, pieces);
        Some(dbi)
    }

    fn read_pieces(&mut self, stream: &Stream<'_>, (at, size): (usize, usize)) -> Option<()> {
        let bytes = stream.bytes(at, size)?;
        let step = match u32_at(&bytes, 0, LITTLE)? {
            0xf12e_ba2d => 28,
            0xf131_51e4 => 32,
            _ => return None,
        };
        for entry in bytes.get(4..)?.chunks_exact(step).take(LIMIT_PIECES) {
            let start = self.rva(u16_at(entry, 0, LITTLE)?, u32_at(entry, 4, LITTLE)?);
            let Some(start) = start else { continue };
            self.pieces.push((start, u32_at(entry, 8, LITTLE)?, u16_at(entry, 16, LITTLE)?));
        }
        self.pieces.sort_unstable();
        Some(())
    }

    /// The RVA of a place that is stated as section (from 1) and offset.
    pub(super) fn rva(&self, section: u16, offset: u32) -> Option<u32> {
        let (start, ..) = self.sections.get(usize::from(section.checked_sub(1)?))?;
        start.checked_add(offset)
    }

    /// Section (from 1) and offset of an RVA.
    pub(super) fn place(&self, rva: u32) -> Option<(u16, u32)> {
        let covers = |(start, size, _): &(u32, u32, bool)| rva.checked_sub(*start).is_some_and(|o| o < *size);
        let index = self.sections.iter().position(covers)?;
        let (start, ..) = self.sections.get(index)?;
        Some((u16::try_from(index).ok()?.checked_add(1)?, rva.checked_sub(*start)?))
    }

    /// Whether an RVA lies in a section of code; `None` in no section.
    pub(super) fn is_code(&self, rva: u32) -> Option<bool> {
        let (section, _) = self.place(rva)?;
        self.sections.get(usize::from(section.checked_sub(1)?)).map(|(_, _, code)| *code)
    }

    /// The object file whose code covers an RVA, and where that piece starts.
    pub(super) fn piece(&self, rva: u32) -> Option<(u32, u16)> {
        let index = self.pieces.partition_point(|(start, ..)| *start <= rva).checked_sub(1)?;
        let (start, size, module) = *self.pieces.get(index)?;
        (rva.checked_sub(start)? < size).then_some((start, module))
    }
}

fn object_files(bytes: &[u8]) -> Vec<ObjectFile> {
    let mut found = Vec::new();
    let mut at = 0_usize;
    let mut next = || -> Option<ObjectFile> {
        let head = slice_at(bytes, at, 64)?;
        let word = |offset| u32_at(head, offset, LITTLE).map(ToUsize::to_usize);
        let file = ObjectFile {
            stream: u16_at(head, 34, LITTLE).filter(|n| *n != NONE),
            symbols: word(36)?,
            c11: word(40)?,
            c13: word(44)?,
        };
        let mut end = at.checked_add(64)?;
        for _ in 0..2 {
            let rest = bytes.get(end..)?;
            let length = memchr::memchr(0, rest)?;
            end = end.checked_add(length)?.checked_add(1)?;
        }
        at = end.checked_next_multiple_of(4)?;
        Some(file)
    };
    while found.len() < LIMIT_MODULES
        && let Some(file) = next()
    {
        found.push(file);
    }
    found
}

/// The number of the stream with the names of source files: a table of names in the stream of the identity.
///
/// Layout: strings, then a hash table: its size and capacity, two bit sets of words with their lengths, and (offset of
/// the name, number of the stream) for each entry.
pub(super) fn names_stream(info: &[u8]) -> Option<u32> {
    let word = |at: usize| u32_at(info, at, LITTLE).map(ToUsize::to_usize);
    let strings = 32_usize;
    let length = word(28)?;
    let mut at = strings.checked_add(length)?;
    let count = word(at)?;
    at = at.checked_add(8)?;
    for _ in 0..2 {
        at = at.checked_add(word(at)?.checked_mul(4)?)?.checked_add(4)?;
    }
    for n in 0..count.min(0xffff) {
        let entry = at.checked_add(n.checked_mul(8)?)?;
        let name = c_str_at(info.get(..strings.checked_add(length)?)?, strings.checked_add(word(entry)?)?)?;
        if name == "/names" {
            return u32_at(info, entry.checked_add(4)?, LITTLE);
        }
    }
    None
}
