//! The kernel's loadable modules, as their own structures in memory describe them.

use super::context::Linux;
use super::image::build_id_of_notes;
use debuginfo::BuildId;
use debuginfo::images::{Image, SymbolKind};
use debuginfo::kernel::{Orc, OrcVersion};
use debuginfo::symbols::{Stated, SymbolTable};
use evidence::bytes::{c_str_at, u8_at, u16_at, u32_at, u64_at};
use evidence::{Addr, ToUsize};
use std::ops::Range;

/// Most modules: distributions load some hundred.
const LIMIT_MODULES: usize = 16 << 10;
/// Most symbols of one module.
const LIMIT_SYMBOLS: u64 = 1 << 20;
/// Most bytes of a module's names.
const LIMIT_NAMES: u64 = 32 << 20;
/// Largest module: the area for all of them has 1.5 GiB.
const LIMIT_SIZE: u64 = 1 << 31;
/// Most note sections of a module.
const LIMIT_NOTES: u32 = 64;
/// Most sections of a module.
const LIMIT_SECTIONS: u64 = 4096;
/// Longest name of a section.
const LIMIT_SECTION_NAME: usize = 256;
/// Bytes of `Elf64_Sym`.
const ELF_SYMBOL: u64 = 24;
/// `MODULE_STATE_UNFORMED`: the structure is not filled in.
const UNFORMED: u64 = 3;

/// A place of a module: all of it up to 6.3, its code since; and while its init function runs, that one's code.
struct Place {
    base: Addr,
    size: u64,
    /// Bytes of code from `base` on.
    text: u64,
}

fn place(linux: &Linux<'_>, at: Addr) -> Option<Place> {
    let value = |paths: &[&str]| {
        let member = linux.fields.first_place("module", paths).ok()?;
        linux.fields.integer_at(at, &member).ok()
    };
    let base = value(&["mem[0].base", "core_layout.base", "module_core"])?;
    let size = value(&["mem[0].size", "core_layout.size", "core_size"])?;
    let text = value(&["core_layout.text_size", "core_text_size", "mem[0].size"])?;
    (base != 0 && size > 0 && size <= LIMIT_SIZE).then_some(Place { base: Addr(base), size, text: text.min(size) })
}

/// The number of the area that holds the code of init functions, where modules have areas (Linux 6.4). Enumerators are
/// looked for among all of the kernel's, so that it is asked once.
fn init_area(linux: &Linux<'_>) -> Option<i64> {
    linux.fields.layouts.member("module", "mem[0].base")?;
    linux.fields.layouts.enumerator("MOD_INIT_TEXT")
}

/// Where the code of the module's init function lies, which is given back when it has returned.
fn init_place(linux: &Linux<'_>, at: Addr, area: Option<i64>) -> Option<Place> {
    let value = |paths: &[&str]| {
        let member = linux.fields.first_place("module", paths).ok()?;
        linux.fields.integer_at(at, &member).ok()
    };
    let of = |member: &str| area.map_or_else(String::new, |n| format!("mem[{n}].{member}"));
    let (new_base, new_size) = (of("base"), of("size"));
    let base = value(&[&new_base, "init_layout.base", "module_init"])?;
    let size = value(&[&new_size, "init_layout.size", "init_size"])?;
    let text = value(&["init_layout.text_size", "init_text_size", &new_size])?;
    (base != 0 && size > 0 && size <= LIMIT_SIZE).then_some(Place { base: Addr(base), size, text: text.min(size) })
}

/// The symbols that the module keeps for kallsyms, by their distance from its base.
fn symbols(linux: &Linux<'_>, at: Addr, place: &Place) -> Option<SymbolTable> {
    let kallsyms = linux.fields.pointer(at, "module", "kallsyms").ok().filter(|p| p.0 != 0)?;
    let value = |member: &str| linux.fields.integer(kallsyms, "mod_kallsyms", member).ok();
    let (table, strings) = (Addr(value("symtab")?), Addr(value("strtab")?));
    let count = value("num_symtab")?.min(LIMIT_SYMBOLS);
    let endian = linux.endian();
    let raw = linux.bytes(table, count.checked_mul(ELF_SYMBOL)?.to_usize())?;
    let rows: Vec<&[u8]> = raw.chunks_exact(ELF_SYMBOL.to_usize()).collect();
    // The class letter has an array of its own since 5.2, before it was in st_info.
    let classes = value("typetab").filter(|p| *p != 0).and_then(|p| linux.bytes(Addr(p), count.to_usize()));
    let last = rows.iter().filter_map(|r| u32_at(r, 0, endian)).max()?;
    let mut names = vec![0; u64::from(last).saturating_add(512).min(LIMIT_NAMES).to_usize()];
    let (got, _) = linux.memory().read(strings, &mut names);
    names.truncate(got);
    let text = place.base.0..place.base.0.saturating_add(place.text);
    let mut symbols = SymbolTable::new(SymbolKind::Kallsyms, 0..place.text);
    for (n, row) in rows.iter().enumerate().skip(1) {
        let class = match &classes {
            Some(classes) => u8_at(classes, n),
            None => u8_at(row, 4),
        };
        let (Some(name), Some(section), Some(start), Some(size)) =
            (u32_at(row, 0, endian), u16_at(row, 6, endian), u64_at(row, 8, endian), u64_at(row, 16, endian))
        else {
            break;
        };
        let inside = Addr(start).offset_from(place.base).filter(|o| *o < place.size);
        let name = c_str_at(&names, name.to_usize()).filter(|n| !n.is_empty());
        let (Some(inside), Some(name)) = (inside, name) else { continue };
        let class = class.unwrap_or(b'?');
        if section == 0 || matches!(class, b'U' | b'u' | b'a' | b'A') || name.starts_with(".L") {
            continue;
        }
        symbols.push(&Stated {
            name: &name,
            start: inside,
            size: (size > 0).then_some(size),
            function: text.contains(&start) && matches!(class, b't' | b'T' | b'w' | b'W'),
            global: class.is_ascii_uppercase(),
        });
    }
    (!symbols.is_empty()).then(|| symbols.finish())
}

/// The module's build-id: kept by kernels that print it in traces, else in the notes that sysfs shows.
fn build_id(linux: &Linux<'_>, at: Addr) -> Option<BuildId> {
    let kept = linux.fields.place("module", "build_id").ok();
    let kept = kept.and_then(|m| linux.bytes(at.wrapping_add(m.offset), m.size.min(64).to_usize()));
    if let Some(bytes) = kept.filter(|b| b.iter().any(|b| *b != 0)) {
        return BuildId::new(&bytes);
    }
    let attributes = linux.fields.pointer(at, "module", "notes_attrs").ok().filter(|p| p.0 != 0)?;
    let count = linux.fields.integer(attributes, "module_notes_attrs", "notes").ok()?;
    let count = u32::try_from(count).ok()?.min(LIMIT_NOTES);
    let first = attributes.wrapping_add(linux.offset("module_notes_attrs", "attrs")?);
    let each = linux.size("bin_attribute")?;
    (0..count).find_map(|n| {
        let attribute = first.wrapping_add(each.wrapping_mul(u64::from(n)));
        let section = linux.fields.pointer(attribute, "bin_attribute", "private").ok()?;
        let size = linux.fields.integer(attribute, "bin_attribute", "size").ok()?.min(4096);
        build_id_of_notes(&linux.bytes(section, size.to_usize())?, linux.endian())
    })
}

/// Where the module's sections lie, by their distance from its base: what sysfs shows. Up to 6.13 each has a structure
/// with a name and an address; since then each is a file whose private pointer is the address.
fn sections(linux: &Linux<'_>, at: Addr, place: &Place) -> Vec<(Box<str>, u64)> {
    all_sections(linux, at, place).unwrap_or_default()
}

fn all_sections(linux: &Linux<'_>, at: Addr, place: &Place) -> Option<Vec<(Box<str>, u64)>> {
    let fields = &linux.fields;
    let all = fields.pointer(at, "module", "sect_attrs").ok().filter(|p| p.0 != 0)?;
    let first = all.wrapping_add(linux.offset("module_sect_attrs", "attrs")?);
    let named = |name: Addr, address: u64| {
        let name = linux.text(name, LIMIT_SECTION_NAME).filter(|n| !n.is_empty())?;
        Some((name.into(), address.wrapping_sub(place.base.0)))
    };
    let mut found = Vec::new();
    if let Ok(count) = fields.integer(all, "module_sect_attrs", "nsections") {
        let each = linux.size("module_sect_attr")?;
        let name = fields.first_place("module_sect_attr", &["battr.attr.name", "name"]).ok()?;
        for n in 0..count.min(LIMIT_SECTIONS) {
            let section = first.wrapping_add(each.wrapping_mul(n));
            let name = fields.integer_at(section, &name).ok()?;
            found.extend(named(Addr(name), fields.integer(section, "module_sect_attr", "address").ok()?));
        }
        return Some(found);
    }
    let each = linux.size("bin_attribute")?;
    let files = fields.first_place("module_sect_attrs", &["grp.bin_attrs", "grp.bin_attrs_new"]).ok()?;
    let files = Addr(fields.integer_at(all, &files).ok()?);
    for n in 0..LIMIT_SECTIONS {
        // The list of pointers to the files ends with a null pointer; they lie one behind the other.
        if fields.pointer_at(files.wrapping_add(n.wrapping_mul(8))).ok().is_none_or(|p| p.0 == 0) {
            break;
        }
        let section = first.wrapping_add(each.wrapping_mul(n));
        let name = fields.pointer(section, "bin_attribute", "attr.name").ok()?;
        found.extend(named(name, fields.pointer(section, "bin_attribute", "private").ok()?.0));
    }
    Some(found)
}

fn orc(linux: &Linux<'_>, at: Addr, version: OrcVersion) -> Option<Orc> {
    let value = |path: &str| linux.fields.integer(at, "module", path).ok();
    let count = value("arch.num_orcs").filter(|n| *n > 0)?;
    let range = |start: u64, width: u64| -> Option<Range<Addr>> {
        Some(Addr(start)..Addr(start).checked_add(count.checked_mul(width)?)?)
    };
    let addresses = range(value("arch.orc_unwind_ip")?, 4)?;
    let rules = range(value("arch.orc_unwind")?, 6)?;
    match Orc::read(linux.memory(), &addresses, &rules, Some(version)) {
        Ok(orc) => Some(orc),
        Err(why) => {
            linux.doubt("orc", format!("the unwind table of the module at {at} cannot be used: {why}"));
            None
        }
    }
}

/// The images of all modules.
pub(super) fn images(linux: &Linux<'_>, version: Option<OrcVersion>) -> Vec<Image> {
    let (Some(head), Some(link)) = (linux.symbol("modules"), linux.offset("module", "list")) else {
        return Vec::new();
    };
    let ring = linux.ring(head, link);
    if let Some(why) = ring.broken {
        linux.doubt("modules", format!("the list of modules is broken, some are missing: {why}"));
    }
    let mut images = Vec::new();
    let area = init_area(linux);
    for at in ring.elements.into_iter().take(LIMIT_MODULES) {
        if linux.fields.integer(at, "module", "state") == Ok(UNFORMED) {
            continue;
        }
        let (Ok(name), Some(place)) = (linux.fields.text(at, "module", "name"), place(linux, at)) else {
            linux.doubt("modules", format!("the module at {at} cannot be read"));
            continue;
        };
        let symbols = symbols(linux, at, &place);
        if symbols.is_none() {
            linux.doubt("modules", format!("the symbols of module {name} cannot be read"));
        }
        let image = |place: &Place, symbols| Image {
            slide: place.base.0,
            build_id: build_id(linux, at),
            symbols,
            sections: sections(linux, at, place),
            orc: version.and_then(|version| orc(linux, at, version)),
            ..Image::at(&name, place.base, place.size)
        };
        images.push(image(&place, symbols));
        if let Some(init) = init_place(linux, at, area) {
            let symbols = self::symbols(linux, at, &init);
            images.push(image(&init, symbols));
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outline::kernel::linux::testing::{Structures, lines, with_structures};
    use evidence::testing::FakeMemory;

    const MODULE: u64 = 0xffff_ffff_c000_0000;

    fn places(structures: &Structures, fields: &[u64]) -> Vec<(u64, u64, u64)> {
        let bytes = fields.iter().flat_map(|w| w.to_le_bytes()).collect();
        let memory = FakeMemory::new().with(Addr(MODULE), bytes);
        let (found, _) = with_structures(&lines(&[], &[], &[]), structures, memory, |linux| {
            let found = [place(linux, Addr(MODULE)), init_place(linux, Addr(MODULE), init_area(linux))];
            found.into_iter().flatten().map(|p| (p.base.0, p.size, p.text)).collect()
        });
        found
    }

    /// The areas of Linux 6.4 and later: of seven, the first and the fifth hold code.
    #[test]
    fn code_of_the_init_function_is_the_modules_as_long_as_it_is_there() {
        let mut new = Structures::default();
        new.enumerator("MOD_INIT_TEXT", 4).pointer("module", "mem[0].base", 0).integer("module", "mem[0].size", 8, 4);
        new.pointer("module", "mem[4].base", 16).integer("module", "mem[4].size", 24, 4);
        let (text, init) = (MODULE + 0x1000, MODULE + 0x8000);
        assert_eq!(places(&new, &[text, 0x2000, init, 0x300]), [(text, 0x2000, 0x2000), (init, 0x300, 0x300)]);
        assert_eq!(places(&new, &[text, 0x2000, 0, 0]), [(text, 0x2000, 0x2000)]);
        let mut old = Structures::default();
        old.pointer("module", "core_layout.base", 0).integer("module", "core_layout.size", 8, 4);
        old.integer("module", "core_layout.text_size", 12, 4).pointer("module", "init_layout.base", 16);
        old.integer("module", "init_layout.size", 24, 4).integer("module", "init_layout.text_size", 28, 4);
        let both = places(&old, &[text, 0x4000 | 0x1000 << 32, init, 0x600 | 0x200 << 32]);
        assert_eq!(both, [(text, 0x4000, 0x1000), (init, 0x600, 0x200)]);
    }
}
