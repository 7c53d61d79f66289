//! Relocatable files (`ET_REL`) placed: kernel modules, whose sections the kernel laid out by itself.
//!
//! The file is copied, its sections and symbols are given the addresses that the kernel says, and the relocations of the
//! debug sections and of the call frame information are applied. After that it is read as any other file. The code's
//! own relocations are left alone: the bytes that ran are in memory.
//!
//! Source: gABI "Sections" and "Relocation"; the psABIs of AMD64 (table 4.9) and AArch64 (ELF for the Arm 64-bit
//! Architecture, 5.7.4).

use super::ElfFile;
use crate::Error;
use evidence::bytes::{Endian, c_str_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{Arch, ToU64, ToUsize};
use std::collections::HashMap;

/// Largest file that is copied: amdgpu with debug information has 500 MiB.
const LIMIT_FILE: usize = 2 << 30;
/// `ET_REL`, and what the copy says it is.
const RELOCATABLE: u16 = 1;
const EXECUTABLE: u16 = 2;
/// Bytes of `Elf64_Shdr`, `Elf64_Sym`, `Elf64_Rela`.
const HEADER: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 24;
/// `SHT_PROGBITS`, `SHT_NOBITS`, `SHT_INIT_ARRAY`, `SHT_FINI_ARRAY`, `SHT_X86_64_UNWIND`: what FreeBSD's kernel loads.
const LOADED: [u32; 5] = [1, 8, 14, 15, 0x7000_0001];
/// `DPCPU_SETNAME`, `VNET_SETNAME`: copied to where such variables are.
const ELSEWHERE: [&str; 2] = ["set_pcpu", "set_vnet"];
/// `SHT_RELA`, `SHF_ALLOC`, `SHF_COMPRESSED`.
const RELA: u32 = 4;
const ALLOC: u64 = 2;
const COMPRESSED: u64 = 0x800;
/// Where sections are put that the kernel let go of (`.init.text`): far from all others, so that nothing is found there.
const NOWHERE: u64 = 0xf000_0000_0000_0000;

/// Sections by name, with their addresses.
pub type Places = Vec<(Box<str>, u64)>;

/// Offset and length of bytes that a relocation changes.
pub type Relocated = (usize, usize);

/// A section header.
struct Header {
    /// Where the header itself lies.
    at: usize,
    name: String,
    kind: u32,
    flags: u64,
    offset: usize,
    size: usize,
    /// The address it is given.
    address: u64,
}

/// How a relocation of a debug section changes its place.
enum Change {
    Nothing,
    Word(u64),
    Half(u32),
}

impl ElfFile {
    /// Whether its sections have no addresses yet.
    #[must_use]
    pub const fn is_relocatable(&self) -> bool {
        self.kind == RELOCATABLE
    }

    /// Where FreeBSD's kernel puts the sections of a module that it loads to `base` (`sys/kern/link_elf_obj.c`, and
    /// `stand/common/load_elf_obj.c` for those that the boot loader brings along): one behind the other, in the order of
    /// their headers. Returns their names and addresses, and where the last one ends; `None` for a damaged file. The sets
    /// of variables per CPU and per network stack lie elsewhere and have no name here.
    #[must_use]
    pub fn kld_sections(&self, base: u64) -> Option<(Places, u64)> {
        let mut sections = Vec::new();
        let mut next = base;
        for header in headers(self.is_64.then_some(&self.bytes)?, &[])? {
            if header.size == 0 || !LOADED.contains(&header.kind) || header.flags & ALLOC == 0 {
                continue;
            }
            let align = u64_at(&self.bytes, header.at.checked_add(48)?, Endian::Little)?.max(1);
            next = next.checked_next_multiple_of(align)?;
            if !ELSEWHERE.contains(&header.name.as_str()) {
                sections.push((header.name.as_str().into(), next));
            }
            next = next.checked_add(header.size.to_u64())?;
        }
        Some((sections, next))
    }

    /// The contents of a section of x86-64 as they are in the file, and the bytes of it that relocations change when it is
    /// loaded.
    #[must_use]
    pub fn unrelocated(&self, name: &str) -> Option<(&[u8], Vec<Relocated>)> {
        let headers = headers(self.is_64.then_some(&self.bytes)?, &[])?;
        let section = headers.iter().find(|h| h.name == name && LOADED.contains(&h.kind))?;
        let bytes = slice_at(&self.bytes, section.offset, section.size)?;
        let mut changed = Vec::new();
        let table = headers.iter().find(|h| h.kind == RELA && h.name.strip_prefix(".rela") == Some(name));
        for entry in table.and_then(|t| slice_at(&self.bytes, t.offset, t.size)).unwrap_or_default().chunks(RELOCATION)
        {
            // R_X86_64_64 and R_X86_64_PC64 have 8 bytes, all others that code has 4.
            let length = if matches!(u32_at(entry, 8, Endian::Little)?, 1 | 24) { 8 } else { 4 };
            changed.push((u64_at(entry, 0, Endian::Little)?.to_usize(), length));
        }
        Some((bytes, changed))
    }

    /// A copy whose sections lie at the addresses given by name (the image's own addresses).
    ///
    /// # Errors
    /// The file is damaged, or of an architecture or with relocations that are not known.
    pub fn placed(&self, sections: &[(Box<str>, u64)]) -> Result<Self, Error> {
        let fail = |offset: usize, expected: &'static str, found: String| Error::Format {
            path: self.path.clone(),
            offset: offset.to_u64(),
            expected,
            found,
        };
        if self.bytes.len() > LIMIT_FILE || !self.is_64 || self.endian != object::Endianness::Little {
            let found = format!("{} bytes, {:?}", self.bytes.len(), self.endian);
            return Err(fail(0, "a 64-bit little-endian relocatable file of at most 2 GiB", found));
        }
        let headers = headers(&self.bytes, sections)
            .ok_or_else(|| fail(40, "section headers inside of the file", format!("{} bytes", self.bytes.len())))?;
        let mut copy = self.bytes.to_vec();
        let symbols = place_symbols(&mut copy, &headers)
            .ok_or_else(|| fail(0, "a symbol table", "none that can be read".into()))?;
        for table in headers.iter().filter(|h| h.kind == RELA) {
            let described = |n: &&str| n.starts_with(".debug_") || *n == ".eh_frame";
            let Some(name) = table.name.strip_prefix(".rela").filter(described) else { continue };
            let Some(target) = headers.iter().find(|h| h.name == name) else { continue };
            if target.flags & COMPRESSED != 0 {
                return Err(fail(target.offset, "debug sections that are not compressed", name.to_owned()));
            }
            let entries = slice_at(&self.bytes, table.offset, table.size).unwrap_or_default();
            for (n, entry) in entries.chunks_exact(RELOCATION).enumerate() {
                let at = table.offset.saturating_add(n.saturating_mul(RELOCATION));
                apply(self.arch, &mut copy, target, entry, &symbols)
                    .ok_or_else(|| fail(at, "a relocation of debug information", format!("{entry:02x?}")))?;
            }
        }
        for header in &headers {
            write(&mut copy, header.at.saturating_add(16), &header.address.to_le_bytes());
        }
        write(&mut copy, 16, &EXECUTABLE.to_le_bytes());
        Self::from_bytes(&self.path.to_string_lossy(), copy)
    }
}

fn write(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(value.len())?)?.copy_from_slice(value);
    Some(())
}

fn headers(bytes: &[u8], sections: &[(Box<str>, u64)]) -> Option<Vec<Header>> {
    let le = Endian::Little;
    let table = u64_at(bytes, 40, le)?.to_usize();
    if u16_at(bytes, 58, le)?.to_usize() != HEADER {
        return None;
    }
    let (count, names) = (u16_at(bytes, 60, le)?.to_usize(), u16_at(bytes, 62, le)?.to_usize());
    let place = |n: usize| table.checked_add(n.checked_mul(HEADER)?);
    let field = |at: usize, skip: usize| u64_at(bytes, at.checked_add(skip)?, le);
    let names = field(place(names)?, 24)?.to_usize();
    let known: HashMap<&str, u64> = sections.iter().map(|(name, at)| (&**name, *at)).collect();
    let mut nowhere = NOWHERE;
    (0..count)
        .map(|n| {
            let at = place(n)?;
            let name = c_str_at(bytes, names.checked_add(u32_at(bytes, at, le)?.to_usize())?)?;
            let (flags, size) = (field(at, 8)?, field(at, 32)?);
            let address = match known.get(name.as_str()) {
                _ if flags & ALLOC == 0 => 0,
                Some(address) => *address,
                None => {
                    let here = nowhere;
                    nowhere = nowhere.wrapping_add(size).wrapping_add(0xffff) & !0xffff;
                    here
                }
            };
            Some(Header {
                at,
                name,
                kind: u32_at(bytes, at.checked_add(4)?, le)?,
                flags,
                offset: field(at, 24)?.to_usize(),
                size: size.to_usize(),
                address,
            })
        })
        .collect()
}

/// Moves all symbols to where their sections are; their values, by number.
fn place_symbols(copy: &mut [u8], headers: &[Header]) -> Option<Vec<u64>> {
    let le = Endian::Little;
    let table = headers.iter().find(|h| h.name == ".symtab")?;
    let count = table.size.checked_div(SYMBOL)?;
    slice_at(copy, table.offset, table.size)?;
    let mut values = Vec::with_capacity(count);
    for n in 0..count {
        let at = table.offset.checked_add(n.checked_mul(SYMBOL)?)?;
        let (section, value) = (u16_at(copy, at.checked_add(6)?, le)?, u64_at(copy, at.checked_add(8)?, le)?);
        let moved = headers.get(section.to_usize()).map_or(0, |h| h.address);
        let value = value.wrapping_add(moved);
        write(copy, at.checked_add(8)?, &value.to_le_bytes())?;
        values.push(value);
    }
    Some(values)
}

fn apply(arch: Arch, copy: &mut [u8], target: &Header, entry: &[u8], symbols: &[u64]) -> Option<()> {
    let le = Endian::Little;
    let (offset, info, addend) = (u64_at(entry, 0, le)?, u64_at(entry, 8, le)?, u64_at(entry, 16, le)?);
    let symbol = *symbols.get((info >> 32).to_usize())?;
    let value = symbol.wrapping_add(addend);
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).ok().map(Change::Half);
    let change = match (arch, info & 0xffff_ffff) {
        // R_X86_64_NONE, R_AARCH64_NONE
        (_, 0) => Change::Nothing,
        // R_X86_64_64; R_AARCH64_ABS64
        (Arch::X86_64, 1) | (Arch::Aarch64, 257) => Change::Word(value),
        // R_X86_64_32, R_X86_64_32S; R_AARCH64_ABS32
        (Arch::X86_64, 10 | 11) | (Arch::Aarch64, 258) => half(value)?,
        // R_X86_64_PC32; R_AARCH64_PREL32
        (Arch::X86_64, 2) | (Arch::Aarch64, 261) => half(value.wrapping_sub(target.address).wrapping_sub(offset))?,
        // R_X86_64_PC64; R_AARCH64_PREL64
        (Arch::X86_64, 24) | (Arch::Aarch64, 260) => {
            Change::Word(value.wrapping_sub(target.address).wrapping_sub(offset))
        }
        _ => return None,
    };
    let inside = offset.to_usize();
    let at = target.offset.checked_add(inside)?;
    let width = match change {
        Change::Nothing => return Some(()),
        Change::Word(_) => 8,
        Change::Half(_) => 4,
    };
    if inside.checked_add(width)? > target.size {
        return None;
    }
    match change {
        Change::Word(value) => write(copy, at, &value.to_le_bytes()),
        Change::Half(value) => write(copy, at, &value.to_le_bytes()),
        Change::Nothing => Some(()),
    }
}
