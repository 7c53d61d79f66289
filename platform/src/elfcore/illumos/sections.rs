//! Symbol tables and types that a core carries for the program's objects: `.symtab` with its `.strtab`, and `.SUNW_ctf`
//! with the table that it goes with, which is `.dynsym` where an object has no other.
//!
//! Source: core(5) and `process_scns` of exec/elf/elf.c: `sh_addr` is where the object begins (of a `.dynsym` it is where
//! the table lies in memory), `sh_link` of a table the section with the names, of types the table; what the kernel could
//! not write has a size of 0.

use crate::elfcore::Parts;
use evidence::bytes::{Endian, u16_at, u32_at, u64_at};
use evidence::{Addr, Doubt, ImageSymbols, ToU64, ToUsize};

/// `SHT_PROGBITS`, `SHT_SYMTAB`, `SHT_STRTAB`, `SHT_DYNSYM`.
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const DYNSYM: u32 = 11;
/// `SHN_XINDEX`: the number of the section with the names of sections stands in the first section.
const XINDEX: u32 = 0xffff;
/// The name of the sections with types, with the zero at its end.
const TYPES: &[u8] = b".SUNW_ctf\0";
/// Sections: two or three for each object, of which programs have some hundred.
const LIMIT_SECTIONS: u64 = 1 << 16;
/// Bytes of all tables: a browser's have 100 MB.
const LIMIT_TABLES: u64 = 512 << 20;

struct Section {
    name: u32,
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
}

fn section(raw: &[u8], wide: bool, e: Endian) -> Option<Section> {
    let (name, kind) = (u32_at(raw, 0, e)?, u32_at(raw, 4, e)?);
    Some(if wide {
        Section {
            name,
            kind,
            address: u64_at(raw, 16, e)?,
            offset: u64_at(raw, 24, e)?,
            size: u64_at(raw, 32, e)?,
            link: u32_at(raw, 40, e)?,
        }
    } else {
        let word = |at| u32_at(raw, at, e).map(u64::from);
        Section { name, kind, address: word(12)?, offset: word(16)?, size: word(20)?, link: u32_at(raw, 24, e)? }
    })
}

/// All section headers, and which of them holds the names.
fn sections(parts: &Parts<'_>) -> Option<(Vec<Section>, u32)> {
    let (wide, e) = (parts.headers.wide, parts.headers.endian);
    let head = parts.source.bytes(0, 64);
    let (table, entry, count, names) = if wide {
        (u64_at(&head, 40, e)?, u16_at(&head, 58, e)?, u16_at(&head, 60, e)?, u16_at(&head, 62, e)?)
    } else {
        (u32_at(&head, 32, e).map(u64::from)?, u16_at(&head, 46, e)?, u16_at(&head, 48, e)?, u16_at(&head, 50, e)?)
    };
    let (entry, least) = (u64::from(entry), if wide { 64 } else { 40 });
    if table == 0 || entry < least {
        return None;
    }
    // More than 65,279 sections are counted in the first one.
    let first = section(&parts.source.bytes(table, entry.to_usize()), wide, e)?;
    let count = if count == 0 { first.size } else { u64::from(count) };
    let names = if u32::from(names) == XINDEX { first.link } else { u32::from(names) };
    if count > LIMIT_SECTIONS {
        let why = format!("the core counts {count} sections; the first {LIMIT_SECTIONS} are looked at");
        parts.doubts.push(Doubt::new("sections", why));
    }
    let read = |n: u64| {
        let at = table.checked_add(n.checked_mul(entry)?)?;
        section(&parts.source.bytes(at, entry.to_usize()), wide, e)
    };
    Some(((0..count.min(LIMIT_SECTIONS)).map_while(read).collect(), names))
}

/// Reads the contents of sections while there is room.
struct Contents<'p> {
    parts: &'p Parts<'p>,
    sections: &'p [Section],
    left: u64,
}

impl Contents<'_> {
    /// The bytes of some sections of the object at `base`, all or none. `what` they are.
    fn read<const N: usize>(&mut self, base: u64, what: &str, all: [&Section; N]) -> Option<[Box<[u8]>; N]> {
        let whole = |s: &&Section| s.offset.checked_add(s.size).is_some_and(|end| end <= self.parts.source.len());
        let size = all.iter().try_fold(0_u64, |sum, s| sum.checked_add(s.size));
        let Some(left) = size.filter(|_| all.iter().all(whole)).and_then(|size| self.left.checked_sub(size)) else {
            self.doubt(base, &format!("{what} of the object at this address is cut off, or larger than is read"));
            return None;
        };
        self.left = left;
        let bytes = all.map(|s| self.parts.source.bytes(s.offset, s.size.to_usize()).into_boxed_slice());
        bytes.iter().zip(all).all(|(b, s)| b.len().to_u64() == s.size).then_some(bytes)
    }

    /// A symbol table with its names.
    fn table(&mut self, base: u64, table: &Section) -> Option<[Box<[u8]>; 2]> {
        let names = self.sections.get(table.link.to_usize()).filter(|s| s.kind == STRTAB && s.size > 0);
        let Some(names) = names else {
            self.doubt(base, "the symbol table of the object at this address names no strings");
            return None;
        };
        self.read(base, "the symbol table", [table, names])
    }

    fn doubt(&self, base: u64, why: &str) {
        self.parts.doubts.push(Doubt::at("sections", Addr(base), format!("{why}: it is not used")));
    }
}

/// The tables and the types, in the order of the file.
pub(super) fn read(parts: &Parts<'_>) -> Vec<ImageSymbols> {
    let Some((sections, names)) = sections(parts) else { return Vec::new() };
    let mut contents = Contents { parts, sections: &sections, left: LIMIT_TABLES };
    let mut found: Vec<(usize, ImageSymbols)> = Vec::new();
    let present = |s: &Section| s.size > 0 && s.address != 0;
    for (n, table) in sections.iter().enumerate().filter(|(_, s)| s.kind == SYMTAB && present(s)) {
        if let Some([symbols, strings]) = contents.table(table.address, table) {
            let base = Addr(table.address);
            found.push((n, ImageSymbols { base, symbols, strings, types: Box::default() }));
        }
    }
    let names = sections.get(names.to_usize()).filter(|s| s.kind == STRTAB);
    let is_types = |s: &Section| {
        let at = names.filter(|names| u64::from(s.name) < names.size).and_then(|n| n.offset.checked_add(s.name.into()));
        s.kind == PROGBITS && present(s) && at.is_some_and(|at| parts.source.bytes(at, TYPES.len()) == TYPES)
    };
    for section in sections.iter().filter(|s| is_types(s)) {
        let (base, link) = (Addr(section.address), section.link.to_usize());
        let Some([types]) = contents.read(base.0, "the section with the types", [section]) else { continue };
        if let Some((_, known)) = found.iter_mut().find(|(n, known)| *n == link && known.base == base) {
            known.types = types;
            continue;
        }
        let linked = sections.get(link).filter(|s| matches!(s.kind, SYMTAB | DYNSYM) && s.size > 0);
        let [symbols, strings] = linked.and_then(|table| contents.table(base.0, table)).unwrap_or_default();
        found.push((usize::MAX, ImageSymbols { base, symbols, strings, types }));
    }
    found.into_iter().map(|(_, one)| one).collect()
}
