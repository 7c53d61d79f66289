//! ELF symbol tables: which function or object an address lies in when there is no DWARF.
//!
//! All tables of an image are merged: `.symtab` (of the image, else of its debug file or of its MiniDebugInfo),
//! `.dynsym`, and a made-up `name@plt` for every stub of the procedure linkage table. Without section headers (an image
//! out of memory) the dynamic section leads to the exported symbols.

pub(crate) mod dynamic;
mod layer;
mod plt;
mod stated;
mod table;

use crate::demangle::demangle;
use crate::elf::ElfFile;
use crate::images::{Module, SymbolKind};
use evidence::Svma;
use layer::Layer;
use object::elf;
pub use stated::{Stated, SymbolTable};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::Entry;

/// So many names are looked for one by one before all are put into an index, which takes 100 bytes for each symbol.
const NAMES_WITHOUT_INDEX: usize = 16;

/// The symbols of one module.
#[derive(Debug)]
pub struct Symbols<'m> {
    /// The image's own tables, then those of its other files.
    layers: Vec<Layer<'m>>,
    /// Where code lies: a symbol counts only for addresses of its own section.
    sections: Vec<Range<u64>>,
    kind: SymbolKind,
    by_name: OnceLock<HashMap<&'m [u8], Symbol<'m>>>,
    names_asked: AtomicUsize,
}

/// A symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol<'s> {
    /// The linkage name, without a symbol version.
    pub name: Cow<'s, str>,
    /// Where it starts.
    pub start: Svma,
    /// Its size in bytes; 0 when the table does not say.
    pub size: u64,
    /// Code (a function, a label in assembly), not data.
    pub is_function: bool,
}

impl Symbol<'_> {
    /// The name as its author wrote it.
    #[must_use]
    pub fn demangled(&self) -> String {
        let (plain, stub) = match self.name.strip_suffix("@plt") {
            Some(plain) => (plain, "@plt"),
            None => (&*self.name, ""),
        };
        demangle(plain).map_or_else(|| self.name.to_string(), |d| format!("{d}{stub}"))
    }
}

fn symbol<'s>(entry: &Entry<'s>, is_function: bool) -> Symbol<'s> {
    let name = String::from_utf8_lossy(entry.name);
    let name = if entry.stub { Cow::Owned(format!("{name}@plt")) } else { name };
    Symbol { name, start: Svma(entry.start), size: entry.size, is_function }
}

/// Of several symbols of one name the last one that is not local counts, else the first.
fn add<'m>(table: &mut HashMap<&'m [u8], Symbol<'m>>, entry: &Entry<'m>, is_function: bool) {
    match table.entry(entry.name) {
        MapEntry::Vacant(place) => {
            place.insert(symbol(entry, is_function));
        }
        MapEntry::Occupied(mut old) if entry.global => {
            old.insert(symbol(entry, is_function));
        }
        MapEntry::Occupied(_) => {}
    }
}

impl<'m> Symbols<'m> {
    /// Finds all tables of a module; they are read when something is asked.
    #[must_use]
    pub(crate) fn load(module: &'m Module) -> Self {
        let (mut layers, mut kind, mut sections) = (Vec::new(), SymbolKind::None, Vec::new());
        let mut full = false;
        if let Some(main) = module.main() {
            let has_any = |raw: &table::Raw<'_>| raw.all().any(|s| s.is_placed() && raw.entry(&s).is_some());
            let exported = table::section(main, ".dynsym").filter(has_any);
            let exported = exported.or_else(|| dynamic::read(main).filter(has_any));
            if exported.is_some() {
                kind = SymbolKind::Dynsym;
            }
            full = has_symbols(main);
            let tables = exported.into_iter().chain(table::section(main, ".symtab")).collect();
            layers.push(Layer::of_file(main, tables));
            sections = code_ranges(main);
        }
        if !full
            && let Some(file) =
                [module.debug(), module.mini_debug_info()].into_iter().flatten().find(|f| has_symbols(f))
        {
            layers.push(Layer::of_debug_file(file, table::section(file, ".symtab").into_iter().collect()));
            full = true;
            if sections.is_empty() {
                sections = code_ranges(file);
            }
        }
        let debug = module.debug().filter(|d| module.main().is_none_or(|main| !std::ptr::eq(main, *d)));
        for file in [module.main(), debug].into_iter().flatten() {
            let Some(stated) = file.macho().map(|m| m.symbols(file.bytes())).filter(|s| !s.is_empty()) else {
                continue;
            };
            layers.push(Layer::of_stated(stated));
            full = true;
            if sections.is_empty() {
                sections = code_ranges(file);
            }
        }
        if let Some(pe) = module.pe().filter(|pe| !pe.exports().is_empty()) {
            layers.push(Layer::of_stated(pe.exports()));
            sections.push(pe.exports().code().clone());
            kind = SymbolKind::PeExports;
        }
        if full {
            kind = SymbolKind::Symtab;
        } else if let Some(stated) = module.stated_symbols() {
            layers.push(Layer::of_stated(stated));
            sections.push(stated.code().clone());
            kind = stated.kind();
        }
        Self { layers, sections, kind, by_name: OnceLock::new(), names_asked: AtomicUsize::new(0) }
    }

    /// The best table there was.
    #[must_use]
    pub const fn kind(&self) -> SymbolKind {
        self.kind
    }

    /// The function that code at `at` belongs to.
    ///
    /// As gdb chooses: the last symbol of the same section at or before the address that has a size and covers it; a
    /// symbol without size (a label) only when none with a size lies between. Of several at one address one that
    /// is not local, and of those the one whose name sorts last; of several files the one whose symbol is nearer.
    #[must_use]
    pub fn at(&self, at: Svma) -> Option<Symbol<'m>> {
        let section = self.sections.iter().find(|s| s.contains(&at.0))?.start;
        let mut best: Option<Entry<'m>> = None;
        for entry in self.layers.iter().filter_map(|l| l.code_at(at.0, section)) {
            if best.is_none_or(|b| entry.start > b.start) {
                best = Some(entry);
            }
        }
        best.map(|e| symbol(&e, true))
    }

    /// The object (variable, vtable) that covers `at`.
    #[must_use]
    pub fn object_at(&self, at: Svma) -> Option<Symbol<'m>> {
        self.layers.iter().find_map(|l| l.object_at(at.0)).map(|e| symbol(&e, false))
    }

    /// A symbol by its linkage name (without version). Of several, an exported one.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Symbol<'m>> {
        let asked = self.names_asked.fetch_add(1, Ordering::Relaxed);
        if asked >= NAMES_WITHOUT_INDEX || self.by_name.get().is_some() {
            return self.indexed().get(name.as_bytes()).cloned();
        }
        let mut found = HashMap::new();
        for (entry, is_function) in self.layers.iter().flat_map(|l| l.named(name.as_bytes())) {
            add(&mut found, &entry, is_function);
        }
        found.remove(name.as_bytes())
    }

    fn indexed(&self) -> &HashMap<&'m [u8], Symbol<'m>> {
        self.by_name.get_or_init(|| {
            let mut table = HashMap::new();
            for (entry, is_function) in self.layers.iter().flat_map(Layer::entries).filter(|(e, _)| !e.stub) {
                add(&mut table, entry, is_function);
            }
            table
        })
    }

    /// All symbols, file by file: code by address, then data by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'m>> + '_ {
        self.layers.iter().flat_map(Layer::entries).map(|(e, is_function)| symbol(e, is_function))
    }
}

/// The address ranges of code: sections, and without section headers the segments.
fn code_ranges(file: &ElfFile) -> Vec<Range<u64>> {
    let range = |start: u64, size: u64| start..start.saturating_add(size);
    let sections = file.sections().iter().filter(|s| s.flags() & elf::SHF_EXECINSTR.0 != 0);
    let mut ranges: Vec<_> = sections.map(|s| range(s.address().0, s.size())).collect();
    if ranges.is_empty() {
        let segments = file.segments().iter().filter(|s| s.executable);
        ranges.extend(segments.map(|s| range(s.address.0, s.memory_size)));
    }
    ranges
}

/// Whether a file has a full symbol table with contents.
pub(crate) fn has_symbols(file: &ElfFile) -> bool {
    if let Some(image) = file.macho() {
        return image.symbols(file.bytes()).kind() == SymbolKind::Symtab;
    }
    file.section(".symtab").is_some_and(|s| !s.is_nobits() && s.size() > 0)
}
