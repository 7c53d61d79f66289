//! Symbol tables that a core carries for the program's objects, one `.symtab` with its `.strtab` for each.
//!
//! Source: core(5) and `process_scns` of exec/elf/elf.c: `sh_addr` is where the object begins, `sh_link` the section with
//! the names; what the kernel could not write has a size of 0.

use crate::elfcore::Parts;
use evidence::bytes::{Endian, u16_at, u32_at, u64_at};
use evidence::{Addr, Doubt, ImageSymbols, ToU64, ToUsize};

/// `SHT_SYMTAB`, `SHT_STRTAB`.
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
/// Sections: two or three for each object, of which programs have some hundred.
const LIMIT_SECTIONS: u64 = 1 << 16;
/// Bytes of all tables: a browser's have 100 MB.
const LIMIT_TABLES: u64 = 512 << 20;

struct Section {
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
}

fn section(raw: &[u8], wide: bool, e: Endian) -> Option<Section> {
    let kind = u32_at(raw, 4, e)?;
    Some(if wide {
        Section {
            kind,
            address: u64_at(raw, 16, e)?,
            offset: u64_at(raw, 24, e)?,
            size: u64_at(raw, 32, e)?,
            link: u32_at(raw, 40, e)?,
        }
    } else {
        let word = |at| u32_at(raw, at, e).map(u64::from);
        Section { kind, address: word(12)?, offset: word(16)?, size: word(20)?, link: u32_at(raw, 24, e)? }
    })
}

/// All section headers.
fn sections(parts: &Parts<'_>) -> Option<Vec<Section>> {
    let (wide, e) = (parts.headers.wide, parts.headers.endian);
    let head = parts.source.bytes(0, 64);
    let (table, entry, count) = if wide {
        (u64_at(&head, 40, e)?, u16_at(&head, 58, e)?, u16_at(&head, 60, e)?)
    } else {
        (u32_at(&head, 32, e).map(u64::from)?, u16_at(&head, 46, e)?, u16_at(&head, 48, e)?)
    };
    let (entry, least) = (u64::from(entry), if wide { 64 } else { 40 });
    if table == 0 || entry < least {
        return None;
    }
    // More than 65,279 sections are counted in the first one.
    let first = section(&parts.source.bytes(table, entry.to_usize()), wide, e)?;
    let count = if count == 0 { first.size } else { u64::from(count) };
    if count > LIMIT_SECTIONS {
        let why = format!("the core counts {count} sections; the first {LIMIT_SECTIONS} are looked at");
        parts.doubts.push(Doubt::new("sections", why));
    }
    let read = |n: u64| {
        let at = table.checked_add(n.checked_mul(entry)?)?;
        section(&parts.source.bytes(at, entry.to_usize()), wide, e)
    };
    Some((0..count.min(LIMIT_SECTIONS)).map_while(read).collect())
}

/// The tables, in the order of the file.
pub(super) fn read(parts: &Parts<'_>) -> Vec<ImageSymbols> {
    let Some(sections) = sections(parts) else { return Vec::new() };
    let mut left = LIMIT_TABLES;
    let mut found = Vec::new();
    for table in sections.iter().filter(|s| s.kind == SYMTAB && s.size > 0 && s.address != 0) {
        let names = sections.get(table.link.to_usize()).filter(|s| s.kind == STRTAB && s.size > 0);
        let Some(names) = names else {
            let why = "the symbol table of the object at this address names no strings: it is not used";
            parts.doubts.push(Doubt::at("sections", Addr(table.address), why));
            continue;
        };
        let whole = [table, names].map(|s| s.offset.checked_add(s.size).is_some_and(|end| end <= parts.source.len()));
        let fits = table.size.checked_add(names.size).filter(|n| whole == [true; 2] && *n <= left);
        let Some(bytes) = fits else {
            let why =
                "the symbol table of the object at this address is cut off, or larger than is read: it is not used";
            parts.doubts.push(Doubt::at("sections", Addr(table.address), why));
            continue;
        };
        left = left.saturating_sub(bytes);
        let read = |s: &Section| parts.source.bytes(s.offset, s.size.to_usize()).into_boxed_slice();
        let one = ImageSymbols { base: Addr(table.address), symbols: read(table), strings: read(names) };
        if one.symbols.len().to_u64() == table.size {
            found.push(one);
        }
    }
    found
}
