//! The types of one image of a program: its container, and what the symbols that it goes with have of it.

use super::{Ctf, CtfError, CtfId, Prototype};
use crate::elf::{ElfFile, Section};
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use evidence::{Arch, ImageSymbols, Svma, ToUsize};
use std::collections::HashMap;

/// Names that stand for the ends of an image, and have no rows.
const ENDS: [&[u8]; 2] = [b"_START_", b"_END_"];
/// `STT_OBJECT`, `STT_FUNC`; `SHN_UNDEF`, `SHN_ABS`.
const OBJECT: u8 = 1;
const FUNCTION: u8 = 2;
const UNDEFINED: u16 = 0;
const ABSOLUTE: u16 = 0xfff1;

/// The types of one image.
#[derive(Debug)]
pub struct ImageTypes {
    ctf: Ctf,
    arch: Arch,
    /// By where they start.
    functions: HashMap<u64, Prototype>,
    /// Name, where it lies, its type; sorted by name.
    objects: Vec<(Box<str>, Svma, CtfId)>,
    /// Why the functions and objects have no types.
    unmatched: Option<String>,
}

/// `SHT_SYMTAB`, `SHT_DYNSYM`.
const SYMTAB: u32 = 2;
const DYNSYM: u32 = 11;

/// What is needed of a symbol.
struct Symbol<'s> {
    name: &'s [u8],
    value: u64,
    kind: u8,
    section: u16,
}

impl ImageTypes {
    /// Of the section that a source carries, with its symbols.
    ///
    /// # Errors
    /// When it is no container of CTF.
    pub(crate) fn carried(carried: &ImageSymbols, arch: Arch, endian: Endian) -> Result<Self, CtfError> {
        let ctf = Ctf::parse_with_strings(&carried.types, arch.pointer_size(), &carried.strings)?;
        Ok(Self::matched(ctf, arch, endian, [&carried.symbols, &carried.strings]))
    }

    /// Of a file's section `.SUNW_ctf`, with the table that its `sh_link` names; `None` when it has none.
    ///
    /// # Errors
    /// When it is no container of CTF.
    pub(crate) fn of_file(file: &ElfFile) -> Option<Result<Self, CtfError>> {
        let ctf = match Ctf::of_file(file)? {
            Ok(ctf) => ctf,
            Err(e) => return Some(Err(e)),
        };
        let section = |n: u32| file.sections().get(n.to_usize());
        let table = file.section(".SUNW_ctf").and_then(|s| section(s.link()));
        let table = table.filter(|t| matches!(t.kind(), SYMTAB | DYNSYM));
        let strings = table.and_then(|t| section(t.link()));
        let endian = Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
        let both = [contents(file, table), contents(file, strings)];
        Some(Ok(Self::matched(ctf, file.arch(), endian, both)))
    }

    fn matched(ctf: Ctf, arch: Arch, endian: Endian, [symbols, strings]: [&[u8]; 2]) -> Self {
        let wide = arch.pointer_size() == 8;
        let entries = symbols.chunks_exact(if wide { 24 } else { 16 });
        let symbols: Vec<Symbol<'_>> = entries.filter_map(|raw| Symbol::read(raw, wide, endian, strings)).collect();
        let mut types = Self { ctf, arch, functions: HashMap::new(), objects: Vec::new(), unmatched: None };
        types.unmatched = types.match_functions(&symbols).and_then(|()| types.match_objects(&symbols)).err();
        types
    }

    /// The types.
    #[must_use]
    pub const fn ctf(&self) -> &Ctf {
        &self.ctf
    }

    /// The machine that they are for.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// What the function that starts at `start` takes and returns.
    #[must_use]
    pub fn prototype(&self, start: Svma) -> Option<&Prototype> {
        self.functions.get(&start.0)
    }

    /// The variables of this name: where they lie, and their types.
    pub fn objects(&self, name: &str) -> impl Iterator<Item = (Svma, CtfId)> {
        let from = self.objects.partition_point(|(n, ..)| **n < *name);
        let rest = self.objects.get(from..).unwrap_or_default();
        rest.iter().take_while(move |(n, ..)| **n == *name).map(|(_, at, id)| (*at, *id))
    }

    /// Why functions and objects have no types, when they have none.
    #[must_use]
    pub fn unmatched(&self) -> Option<&str> {
        self.unmatched.as_deref()
    }

    /// Rows have no names: one for each symbol, and at most one that fills up the section. Where the numbers differ, the
    /// rows are those of another table.
    fn match_functions(&mut self, symbols: &[Symbol<'_>]) -> Result<(), String> {
        let rows = self.ctf.functions();
        let all: Vec<&Symbol<'_>> = symbols.iter().filter(|s| s.kind == FUNCTION && s.counts()).collect();
        let filled = rows.get(all.len()).is_none_or(Option::is_none);
        if rows.is_empty() {
            return Ok(());
        }
        if rows.len() < all.len() || rows.len() > all.len().saturating_add(1) || !filled {
            return Err(format!("types of {} functions for {} symbols", rows.len(), all.len()));
        }
        for (symbol, row) in all.iter().zip(rows) {
            let Some(row) = row else { continue };
            // Several names of one function have a row each.
            self.functions.entry(symbol.value).or_insert(row);
        }
        Ok(())
    }

    fn match_objects(&mut self, symbols: &[Symbol<'_>]) -> Result<(), String> {
        let rows = self.ctf.objects();
        let counts = |s: &&Symbol<'_>| s.kind == OBJECT && s.counts() && !(s.section == ABSOLUTE && s.value == 0);
        let all: Vec<&Symbol<'_>> = symbols.iter().filter(counts).collect();
        let filled = rows.get(all.len()).is_none_or(|id| id.0 == 0);
        if rows.is_empty() {
            return Ok(());
        }
        if rows.len() < all.len() || rows.len() > all.len().saturating_add(1) || !filled {
            return Err(format!("types of {} variables for {} symbols", rows.len(), all.len()));
        }
        for (symbol, id) in all.iter().zip(rows).filter(|(_, id)| id.0 != 0) {
            if let Ok(name) = std::str::from_utf8(symbol.name) {
                self.objects.push((name.into(), Svma(symbol.value), id));
            }
        }
        self.objects.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(())
    }
}

fn contents<'f>(file: &'f ElfFile, section: Option<&'f Section>) -> &'f [u8] {
    section.and_then(|s| file.data_of(s).ok().flatten()).unwrap_or_default()
}

impl<'s> Symbol<'s> {
    fn read(raw: &[u8], wide: bool, e: Endian, strings: &'s [u8]) -> Option<Self> {
        let (value, info, section) = if wide {
            (u64_at(raw, 8, e)?, u8_at(raw, 4)?, u16_at(raw, 6, e)?)
        } else {
            (u64::from(u32_at(raw, 4, e)?), u8_at(raw, 12)?, u16_at(raw, 14, e)?)
        };
        let name = strings.get(u32_at(raw, 0, e)?.to_usize()..).unwrap_or_default();
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        Some(Self { name, value, kind: info & 0xf, section })
    }

    /// Whether it has a row.
    fn counts(&self) -> bool {
        !self.name.is_empty() && self.section != UNDEFINED && !ENDS.contains(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::Addr;
    use testdata::ctf::CtfWriter;

    /// Name, value, type and section of each symbol.
    const SYMBOLS: [(&str, u64, u8, u16); 8] = [
        ("file.c", 0, 4, ABSOLUTE),
        ("first", 0x100, FUNCTION, 1),
        ("elsewhere", 0, FUNCTION, 0),
        ("_START_", 0, OBJECT, 1),
        ("zero", 0, OBJECT, ABSOLUTE),
        ("number", 0x800, OBJECT, 2),
        ("second", 0x200, FUNCTION, 1),
        ("text", 0x804, OBJECT, 2),
    ];

    fn carried(wide: bool, functions: usize) -> ImageSymbols {
        let (mut symbols, mut strings) = (vec![0; if wide { 24 } else { 16 }], vec![0]);
        for (name, value, kind, section) in SYMBOLS {
            let at = strings.len() as u32;
            strings.extend([name.as_bytes(), b"\0"].concat());
            symbols.extend(at.to_le_bytes());
            if wide {
                symbols.extend([[0x10 | kind, 0], section.to_le_bytes()].concat());
                symbols.extend([value.to_le_bytes(), 4_u64.to_le_bytes()].concat());
            } else {
                symbols.extend([(value as u32).to_le_bytes(), 4_u32.to_le_bytes()].concat());
                symbols.extend([[0x10 | kind, 0], section.to_le_bytes()].concat());
            }
        }
        let mut w = CtfWriter::new(2);
        let int = w.integer("int", true, 32, 4);
        let text = w.pointer(int);
        (0..functions).for_each(|n| w.function_row((n == 1).then_some((int, &[text]))));
        w.object_row(int);
        w.object_row(text);
        let [symbols, strings, types] = [symbols, strings, w.finish()].map(Vec::into_boxed_slice);
        ImageSymbols { base: Addr(0x40_0000), symbols, strings, types }
    }

    #[test]
    fn rows_are_those_of_defined_symbols() {
        for arch in [Arch::X86_64, Arch::X86] {
            let types = ImageTypes::carried(&carried(arch == Arch::X86_64, 2), arch, Endian::Little).expect("types");
            assert_eq!((types.unmatched(), types.prototype(Svma(0x100))), (None, None));
            let second = types.prototype(Svma(0x200)).expect("a prototype");
            assert_eq!((second.returns, &*second.arguments), (CtfId(1), &[CtfId(2)][..]));
            let places = |name| types.objects(name).collect::<Vec<_>>();
            assert_eq!(places("number"), [(Svma(0x800), CtfId(1))]);
            assert_eq!(places("text"), [(Svma(0x804), CtfId(2))]);
            assert_eq!((places("zero"), places("first")), (vec![], vec![]));
        }
    }

    #[test]
    fn rows_of_another_table_are_not_used() {
        for functions in [4, 5, 6] {
            let types = ImageTypes::carried(&carried(true, functions), Arch::X86_64, Endian::Little).expect("types");
            assert!(types.unmatched().is_some(), "{functions}");
            assert!(types.prototype(Svma(0x200)).is_none() && types.objects("number").next().is_none());
        }
    }
}
