//! Images of macOS and iOS: load commands, sections, identity, symbols, compact unwind information.
//!
//! Sources: Apple's `<mach-o/loader.h>`, `<mach-o/fat.h>`, `<mach-o/nlist.h>`. This module reads what is particular to the
//! format; what it has in common with ELF (segments, sections, DWARF, call frame information) is asked of the
//! [`ElfFile`](crate::elf::ElfFile) that is made of it.

pub mod compact;
mod symbols;

use crate::symbols::SymbolTable;
use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Arch, ToUsize};
use std::ops::Range;
use std::sync::OnceLock;

/// Most bytes of load commands: Chromium's framework has 6 KiB; images with thousands of dependencies some hundred.
pub(crate) const LIMIT_COMMANDS: u32 = 4 << 20;
/// Most segments: the system's own images have up to ten.
const LIMIT_SEGMENTS: usize = 256;
/// Most sections: the symbol table can name 255.
const LIMIT_SECTIONS: usize = 4096;
/// Most slices of a universal file: there are about a dozen processors and subtypes in all.
const LIMIT_SLICES: u32 = 64;

const LC_SEGMENT: u32 = 0x1;
const LC_SYMTAB: u32 = 0x2;
const LC_SEGMENT_64: u32 = 0x19;
const LC_UUID: u32 = 0x1b;
const LC_FUNCTION_STARTS: u32 = 0x26;

const VM_PROT_WRITE: u32 = 2;
const VM_PROT_EXECUTE: u32 = 4;

/// Section types without contents (`S_ZEROFILL`, `S_GB_ZEROFILL`, `S_THREAD_LOCAL_ZEROFILL`).
const ZERO_FILLED: [u32; 3] = [0x1, 0xc, 0x12];
/// `S_ATTR_PURE_INSTRUCTIONS` and `S_ATTR_SOME_INSTRUCTIONS`.
const INSTRUCTIONS: u32 = 0x8000_0400;

/// A segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub name: Box<str>,
    pub address: u64,
    pub memory_size: u64,
    /// From the start of the image's own file (of its slice).
    pub file_offset: u64,
    pub file_size: u64,
    pub writable: bool,
    pub executable: bool,
}

/// A section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub name: Box<str>,
    pub segment: Box<str>,
    pub address: u64,
    pub size: u64,
    /// From the start of the image's own file; 0 where the file has no contents for it.
    pub file_offset: u64,
    pub has_contents: bool,
    pub executable: bool,
}

/// A part of the file that a load command names: offset and size.
#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u32,
    size: u32,
}

/// `LC_SYMTAB`.
#[derive(Clone, Copy, Debug)]
struct Symtab {
    symbols: Part,
    strings: Part,
}

/// What the load commands of one image say.
#[derive(Debug)]
pub struct MachO {
    pub(crate) arch: Arch,
    pub(crate) is_64: bool,
    pub(crate) endian: Endian,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    symtab: Option<Symtab>,
    function_starts: Option<Part>,
    /// Where the parts of the image's file lie in the bytes at hand: (offset in its file, offset in the bytes, size).
    places: Vec<(u64, u64, u64)>,
    starts: OnceLock<Vec<u64>>,
    symbols: OnceLock<SymbolTable>,
}

/// The byte order and width of a thin file, by its magic number.
fn kind_of(head: &[u8]) -> Option<(Endian, bool)> {
    match head.get(..4)? {
        [0xcf, 0xfa, 0xed, 0xfe] => Some((Endian::Little, true)),
        [0xce, 0xfa, 0xed, 0xfe] => Some((Endian::Little, false)),
        [0xfe, 0xed, 0xfa, 0xcf] => Some((Endian::Big, true)),
        [0xfe, 0xed, 0xfa, 0xce] => Some((Endian::Big, false)),
        _ => None,
    }
}

/// Whether these are the first bytes of an image or of a universal file.
pub(crate) fn is_macho(head: &[u8]) -> bool {
    kind_of(head).is_some() || matches!(head.get(..4), Some([0xca, 0xfe, 0xba, 0xbe | 0xbf]))
}

/// The slices of a universal file; the whole of a thin one. `None`: it is neither.
pub(crate) fn slices(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    if kind_of(bytes).is_some() {
        return Some(std::iter::once(0..bytes.len()).collect());
    }
    let wide = match bytes.get(..4)? {
        [0xca, 0xfe, 0xba, 0xbe] => false,
        [0xca, 0xfe, 0xba, 0xbf] => true,
        _ => return None,
    };
    let count = u32_at(bytes, 4, Endian::Big)?.min(LIMIT_SLICES).to_usize();
    let mut all = Vec::new();
    for n in 0..count {
        let entry = n.checked_mul(if wide { 32 } else { 20 })?.checked_add(8)?;
        let number = |at: usize| {
            let at = entry.checked_add(at)?;
            if wide { u64_at(bytes, at, Endian::Big) } else { u32_at(bytes, at, Endian::Big).map(u64::from) }
        };
        let (Some(offset), Some(size)) = (number(8), number(if wide { 16 } else { 12 })) else { break };
        let end = offset.checked_add(size).map(|end| end.to_usize().min(bytes.len()));
        let range = offset.to_usize()..end?;
        if bytes.get(range.clone()).is_some_and(|slice| kind_of(slice).is_some()) {
            all.push(range);
        }
    }
    (!all.is_empty()).then_some(all)
}

/// How many bytes header and load commands have; `None` when no image starts here.
pub(crate) fn head_size(head: &[u8]) -> Option<usize> {
    let (endian, is_64) = kind_of(head)?;
    let commands = u32_at(head, 20, endian)?;
    if commands > LIMIT_COMMANDS {
        return None;
    }
    commands.to_usize().checked_add(header_size(is_64))
}

const fn header_size(is_64: bool) -> usize {
    if is_64 { 32 } else { 28 }
}

fn name_at(raw: &[u8], at: usize) -> Option<Box<str>> {
    let name = slice_at(raw, at, 16)?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(16);
    Some(String::from_utf8_lossy(name.get(..end)?).into())
}

impl MachO {
    /// Reads header and load commands. Commands that end early are left out, and all behind them.
    pub(crate) fn parse(image: &[u8]) -> Option<Self> {
        let (endian, is_64) = kind_of(image)?;
        let word = |at| u32_at(image, at, endian);
        // CPU_TYPE_X86, ..._X86_64, ..._ARM, ..._ARM64, ..._ARM64_32.
        let arch = match word(4)? {
            0x7 => Arch::X86,
            0x0100_0007 => Arch::X86_64,
            0xc => Arch::Arm,
            0x0100_000c | 0x0200_000c => Arch::Aarch64,
            _ => Arch::Other,
        };
        let end = header_size(is_64).checked_add(word(20)?.min(LIMIT_COMMANDS).to_usize())?;
        let mut found = Self {
            arch,
            is_64,
            endian,
            uuid: None,
            segments: Vec::new(),
            sections: Vec::new(),
            symtab: None,
            function_starts: None,
            places: Vec::new(),
            starts: OnceLock::new(),
            symbols: OnceLock::new(),
        };
        let mut at = header_size(is_64);
        for _ in 0..word(16)? {
            let (Some(command), Some(size)) = (word(at), at.checked_add(4).and_then(word)) else { break };
            let next = at.checked_add(size.to_usize()).filter(|next| *next <= end && size >= 8);
            let Some((raw, next)) = slice_at(image, at, size.to_usize()).zip(next) else { break };
            found.take(command, raw);
            at = next;
        }
        Some(found)
    }

    fn take(&mut self, command: u32, raw: &[u8]) {
        let word = |at| u32_at(raw, at, self.endian);
        let part = |offset, size| Some(Part { offset: word(offset)?, size: word(size)? });
        match command {
            LC_SEGMENT => self.segment(raw, false).unwrap_or_default(),
            LC_SEGMENT_64 => self.segment(raw, true).unwrap_or_default(),
            LC_UUID => self.uuid = slice_at(raw, 8, 16).and_then(|id| id.try_into().ok()),
            LC_FUNCTION_STARTS => self.function_starts = part(8, 12),
            LC_SYMTAB => {
                let entry: u32 = if self.is_64 { 16 } else { 12 };
                self.symtab = part(8, 12).zip(part(16, 20)).map(|(symbols, strings)| Symtab {
                    symbols: Part { size: symbols.size.saturating_mul(entry), ..symbols },
                    strings,
                });
            }
            _ => {}
        }
    }

    fn segment(&mut self, raw: &[u8], wide: bool) -> Option<()> {
        if self.segments.len() >= LIMIT_SEGMENTS {
            return None;
        }
        let word = |at| u32_at(raw, at, self.endian);
        let number = |raw: &[u8], n: usize, at: usize, endian| {
            let at = n.checked_mul(if wide { 8 } else { 4 })?.checked_add(at)?;
            if wide { u64_at(raw, at, endian) } else { u32_at(raw, at, endian).map(u64::from) }
        };
        let (protection, sections) = if wide { (60, 72) } else { (44, 56) };
        let (file_offset, file_size) = (number(raw, 2, 24, self.endian)?, number(raw, 3, 24, self.endian)?);
        let initial = word(protection)?;
        let count = word(protection.checked_add(4)?)?.to_usize();
        let name = name_at(raw, 8)?;
        for section in raw.get(sections..)?.chunks_exact(if wide { 80 } else { 68 }).take(count) {
            if self.sections.len() >= LIMIT_SECTIONS {
                break;
            }
            let word = |at| u32_at(section, at, self.endian);
            let (offset, flags) = if wide { (word(48)?, word(64)?) } else { (word(40)?, word(56)?) };
            let size = number(section, 1, 32, self.endian)?;
            // dsymutil keeps the headers of sections that it leaves out, with a place of 0.
            let has_contents = !ZERO_FILLED.contains(&(flags & 0xff)) && offset != 0 && file_size != 0;
            self.sections.push(Section {
                name: name_at(section, 0)?,
                segment: name_at(section, 16)?,
                address: number(section, 0, 32, self.endian)?,
                size,
                file_offset: offset.into(),
                has_contents,
                executable: flags & INSTRUCTIONS != 0,
            });
        }
        self.segments.push(Segment {
            name,
            address: number(raw, 0, 24, self.endian)?,
            memory_size: number(raw, 1, 24, self.endian)?,
            file_offset,
            file_size,
            writable: initial & VM_PROT_WRITE != 0,
            executable: initial & VM_PROT_EXECUTE != 0,
        });
        Some(())
    }

    /// The address that the image's first byte is linked to: that of the segment that begins its file, which holds the
    /// header.
    #[must_use]
    pub fn header_address(&self) -> Option<u64> {
        self.segments.iter().find(|s| &*s.name == "__TEXT").map(|s| s.address)
    }

    /// Says where the parts of the image's file lie in the bytes at hand.
    pub(crate) fn set_places(&mut self, places: Vec<(u64, u64, u64)>) {
        self.places = places;
    }

    /// Where a part of the image's file lies in the bytes at hand; `None` when not all of it is there.
    pub(crate) fn place(&self, offset: u64, size: u64) -> Option<u64> {
        self.places.iter().find_map(|(start, place, length)| {
            let inside = offset.checked_sub(*start)?;
            (inside.checked_add(size)? <= *length).then(|| place.checked_add(inside)).flatten()
        })
    }

    fn part<'b>(&self, bytes: &'b [u8], part: Part) -> Option<&'b [u8]> {
        let place = self.place(part.offset.into(), part.size.into())?;
        slice_at(bytes, place.to_usize(), part.size.to_usize())
    }

    /// Whether an address lies in a section of code; `None` in no section.
    #[must_use]
    pub fn is_code(&self, address: u64) -> Option<bool> {
        let covers = |s: &&Section| address.checked_sub(s.address).is_some_and(|inside| inside < s.size);
        self.sections.iter().find(covers).map(|s| s.executable)
    }

    /// The function that an address lies in, from its first byte to the next function's (or to the end of its section),
    /// as `LC_FUNCTION_STARTS` lists them. `bytes` are the file's.
    #[must_use]
    pub fn function_at(&self, bytes: &[u8], address: u64) -> Option<Range<u64>> {
        let starts = self.starts(bytes);
        let next = starts.partition_point(|start| *start <= address);
        let start = *starts.get(next.checked_sub(1)?)?;
        let section = self.sections.iter().find(|s| start.checked_sub(s.address).is_some_and(|o| o < s.size))?;
        let section_end = section.address.saturating_add(section.size);
        let end = starts.get(next).copied().unwrap_or(section_end).min(section_end);
        (address < end).then_some(start..end)
    }

    fn starts(&self, bytes: &[u8]) -> &[u64] {
        self.starts.get_or_init(|| {
            let list = self.function_starts.and_then(|part| self.part(bytes, part));
            list.zip(self.header_address()).map(|(list, base)| symbols::starts(list, base)).unwrap_or_default()
        })
    }

    /// Its symbols. `bytes` are the file's.
    #[must_use]
    pub fn symbols(&self, bytes: &[u8]) -> &SymbolTable {
        self.symbols.get_or_init(|| symbols::read(self, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn universal_files() {
        let mut file = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 2];
        for (offset, size) in [(64_u32, 40_u32), (128, 32)] {
            for word in [7_u32, 3, offset, size, 5] {
                file.extend(word.to_be_bytes());
            }
        }
        file.resize(160, 0);
        file[64..68].copy_from_slice(&[0xcf, 0xfa, 0xed, 0xfe]);
        assert_eq!(slices(&file).as_deref(), Some(std::slice::from_ref(&(64..104))));
        file[128..132].copy_from_slice(&[0xce, 0xfa, 0xed, 0xfe]);
        assert_eq!(slices(&file), Some(vec![64..104, 128..160]));
        // A Java class begins with the same four bytes.
        assert_eq!(slices(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52, 0, 1, 2, 3]), None);
        assert_eq!(slices(b"\x7fELF"), None);
    }

    #[test]
    fn commands_that_lie_about_their_size() {
        let mut image = vec![0xcf, 0xfa, 0xed, 0xfe, 7, 0, 0, 1, 3, 0, 0, 0, 6, 0, 0, 0];
        for word in [2_u32, 32, 0, 0, LC_UUID, 24, 1, 2, 3, 4, LC_SYMTAB, 0] {
            image.extend(word.to_le_bytes());
        }
        let found = MachO::parse(&image).unwrap();
        assert_eq!(found.arch, Arch::X86_64);
        assert_eq!(found.uuid, Some([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]));
        assert!(found.symtab.is_none() && found.segments.is_empty());
        assert_eq!(head_size(&image), Some(64));
    }
}
