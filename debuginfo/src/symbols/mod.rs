//! ELF symbol tables: which function or object an address lies in when there is no DWARF.
//!
//! All tables of an image are merged: `.symtab` (of the image, else of its debug file or of its MiniDebugInfo),
//! `.dynsym`, and a made-up `name@plt` for every stub of the procedure linkage table. Without section headers (an image
//! out of memory) the dynamic section leads to the exported symbols.

pub(crate) mod dynamic;
mod plt;
mod stated;
mod table;

use crate::demangle::demangle;
use crate::elf::ElfFile;
use crate::images::{Module, SymbolKind};
use evidence::Svma;
use object::elf;
pub use stated::{Stated, SymbolTable};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;
use table::Entry;

/// The symbols of one module.
#[derive(Debug)]
pub struct Symbols<'m> {
    /// The image's own tables, then those of its other files.
    layers: Vec<Layer<'m>>,
    /// Where code lies: a symbol counts only for addresses of its own section.
    sections: Vec<Range<u64>>,
    kind: SymbolKind,
    by_name: OnceLock<HashMap<&'m [u8], Symbol<'m>>>,
}

/// The symbols of one file.
#[derive(Debug)]
struct Layer<'m> {
    /// Code, by (address, local before global, name).
    code: Vec<Entry<'m>>,
    /// Data, by (address, local before global, name).
    data: Vec<Entry<'m>>,
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

impl<'m> Symbols<'m> {
    /// Reads all tables of a module.
    #[must_use]
    pub(crate) fn load(module: &'m Module) -> Self {
        let (mut layers, mut kind, mut sections) = (Vec::new(), SymbolKind::None, Vec::new());
        let mut full = false;
        if let Some(main) = module.main() {
            let mut found = table::Found::default();
            found.read(main, ".dynsym");
            if found.is_empty() {
                dynamic::read(main, &mut found);
            }
            if !found.is_empty() {
                kind = SymbolKind::Dynsym;
            }
            full = has_symbols(main);
            found.read(main, ".symtab");
            plt::read(main, &mut found);
            layers.push(found.into_layer());
            sections = code_ranges(main);
        }
        if !full
            && let Some(file) =
                [module.debug(), module.mini_debug_info()].into_iter().flatten().find(|f| has_symbols(f))
        {
            let mut found = table::Found::default();
            found.read(file, ".symtab");
            layers.push(found.into_layer());
            full = true;
            if sections.is_empty() {
                sections = code_ranges(file);
            }
        }
        if full {
            kind = SymbolKind::Symtab;
        } else if let Some(stated) = module.stated_symbols() {
            layers.push(stated.layer());
            sections.push(stated.code().clone());
            kind = stated.kind();
        }
        // Reading a table touches every name; later on only a few are wanted.
        for file in [module.main(), module.debug()].into_iter().flatten() {
            file.release_symbols();
        }
        Self { layers, sections, kind, by_name: OnceLock::new() }
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
        let nearer = |best: Option<&'_ Entry<'m>>, new: &Entry<'m>| best.is_none_or(|b| new.start > b.start);
        let mut best: Option<&Entry<'m>> = None;
        for entry in self.layers.iter().filter_map(|l| l.code_at(at.0, section)) {
            if nearer(best, entry) {
                best = Some(entry);
            }
        }
        best.map(|e| symbol(e, true))
    }

    /// The object (variable, vtable) that covers `at`.
    #[must_use]
    pub fn object_at(&self, at: Svma) -> Option<Symbol<'m>> {
        self.layers.iter().find_map(|l| l.object_at(at.0)).map(|e| symbol(e, false))
    }

    /// A symbol by its linkage name (without version). Of several, an exported one.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Symbol<'m>> {
        let table = self.by_name.get_or_init(|| {
            let mut table = HashMap::new();
            for layer in &self.layers {
                for (entry, is_function) in layer.entries().filter(|(e, _)| !e.stub) {
                    let known = table.entry(entry.name);
                    known
                        .and_modify(|old| {
                            if entry.global {
                                *old = symbol(entry, is_function);
                            }
                        })
                        .or_insert_with(|| symbol(entry, is_function));
                }
            }
            table
        });
        table.get(name.as_bytes()).cloned()
    }

    /// All symbols, file by file: code by address, then data by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'m>> + '_ {
        self.layers.iter().flat_map(Layer::entries).map(|(e, is_function)| symbol(e, is_function))
    }
}

impl<'m> Layer<'m> {
    fn entries(&self) -> impl Iterator<Item = (&Entry<'m>, bool)> {
        self.code.iter().map(|e| (e, true)).chain(self.data.iter().map(|e| (e, false)))
    }

    fn code_at(&self, at: u64, section: u64) -> Option<&Entry<'m>> {
        let covers = |e: &Entry<'_>| at.wrapping_sub(e.start) < e.size;
        let mut index = self.code.partition_point(|e| e.start <= at).checked_sub(1);
        let mut label = None;
        while let Some(i) = index {
            let entry = self.code.get(i)?;
            if entry.start < section {
                break;
            }
            let before = i.checked_sub(1);
            if entry.size == 0 {
                label = label.or(Some(entry));
            } else if covers(entry) {
                // Labels inside of a sized function do not count.
                return Some(entry);
            } else if !before.and_then(|p| self.code.get(p)).is_some_and(|p| covers(p) || p.start == entry.start) {
                break;
            }
            index = before;
        }
        label
    }

    fn object_at(&self, at: u64) -> Option<&Entry<'m>> {
        /// How many objects before the nearest one may be larger and cover the address as well.
        const NEAR: usize = 8;
        let end = self.data.partition_point(|e| e.start <= at);
        let near = self.data.get(end.saturating_sub(NEAR)..end)?;
        near.iter().rev().find(|e| at.wrapping_sub(e.start) < e.size)
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
    file.section(".symtab").is_some_and(|s| !s.is_nobits() && s.size() > 0)
}
