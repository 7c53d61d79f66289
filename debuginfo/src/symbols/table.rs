//! Entries of `.symtab` and `.dynsym` (gABI chapter 4, "Symbol Table").

use crate::elf::ElfFile;
use evidence::{Svma, ToUsize, bytes};
use object::elf;

/// Most symbols of one table: Chromium's debug build has about 3 million.
const LIMIT_SYMBOLS: usize = 64 << 20;

/// Reading a table touches every name; this many symbols' names are kept in memory meanwhile.
const SYMBOLS_PER_RELEASE: usize = 1 << 14;

/// One symbol that lies in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'m> {
    pub start: u64,
    pub size: u64,
    /// Without version.
    pub name: &'m [u8],
    pub global: bool,
    /// A stub of the procedure linkage table, named after what it calls.
    pub stub: bool,
}

/// Symbols as they are read, code and data apart.
#[derive(Debug, Default)]
pub(super) struct Found<'m> {
    code: Vec<Entry<'m>>,
    data: Vec<Entry<'m>>,
}

/// Symbols in order.
#[derive(Debug)]
pub(super) struct Table<'m> {
    /// Code, by (address, local before global, name).
    pub code: Vec<Entry<'m>>,
    /// Data, by (address, local before global, name).
    pub data: Vec<Entry<'m>>,
}

/// A table's raw contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'m> {
    pub symbols: &'m [u8],
    pub strings: &'m [u8],
    pub is_64: bool,
    pub endian: bytes::Endian,
}

/// The fields of `Elf64_Sym` / `Elf32_Sym` that matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawSymbol {
    /// Where the name starts in the strings.
    pub name: u32,
    pub info: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

impl RawSymbol {
    /// Whether it names a place in the image: not a section, a file, a thread's variable or something undefined.
    pub(super) const fn is_placed(&self) -> bool {
        let kind = elf::SymbolType(self.info & 0xf);
        let kind_known = matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_OBJECT | elf::STT_NOTYPE);
        // Reserved indexes (absolute, common) have no place in the image; the extended one is only seen in files
        // with 65,280 sections, whose symbols are then told apart by address alone.
        kind_known && self.section != 0 && (self.section < 0xff00 || self.section == 0xffff)
    }
}

impl<'m> Raw<'m> {
    pub(super) const fn entry_size(self) -> usize {
        if self.is_64 { 24 } else { 16 }
    }

    pub(super) fn len(self) -> usize {
        self.symbols.len().checked_div(self.entry_size()).unwrap_or(0).min(LIMIT_SYMBOLS)
    }

    pub(super) fn get(self, index: usize) -> Option<RawSymbol> {
        let raw = bytes::slice_at(self.symbols, index.checked_mul(self.entry_size())?, self.entry_size())?;
        self.parse(raw)
    }

    /// All of them but the first, which the format keeps empty.
    pub(super) fn all(self) -> impl Iterator<Item = RawSymbol> {
        self.symbols.chunks_exact(self.entry_size()).take(self.len()).skip(1).filter_map(move |raw| self.parse(raw))
    }

    fn parse(self, raw: &[u8]) -> Option<RawSymbol> {
        let u32_at = |at| bytes::u32_at(raw, at, self.endian);
        let (info, section, value, size) = if self.is_64 {
            (4, 6, bytes::u64_at(raw, 8, self.endian)?, bytes::u64_at(raw, 16, self.endian)?)
        } else {
            (12, 14, u64::from(u32_at(4)?), u64::from(u32_at(8)?))
        };
        let (info, section) = (bytes::u8_at(raw, info)?, bytes::u16_at(raw, section, self.endian)?);
        Some(RawSymbol { name: u32_at(0)?, info, section, value, size })
    }

    /// A symbol's name, with its version.
    pub(super) fn name(self, symbol: &RawSymbol) -> &'m [u8] {
        let tail = self.strings.get(symbol.name.to_usize()..).unwrap_or_default();
        let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
        tail.get(..end).unwrap_or_default()
    }

    /// Whether that is a symbol's name, without its version.
    pub(super) fn has_name(self, symbol: &RawSymbol, name: &[u8]) -> bool {
        let rest = self.strings.get(symbol.name.to_usize()..).and_then(|tail| tail.strip_prefix(name));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(0 | b'@')))
    }

    /// The symbol for a table of symbols; `None` for labels and for what has no name.
    pub(super) fn entry(self, symbol: &RawSymbol) -> Option<Entry<'m>> {
        let name = self.name(symbol);
        if name.is_empty() || is_label(name) {
            return None;
        }
        Some(Entry {
            start: symbol.value,
            size: symbol.size,
            name: without_version(name),
            // An IFUNC symbol is another name of its resolver; the resolver's own name says what the code is.
            global: symbol.info >> 4 != 0 && elf::SymbolType(symbol.info & 0xf) != elf::STT_GNU_IFUNC,
            stub: false,
        })
    }
}

/// The name before `@VERSION` or `@@VERSION`.
fn without_version(name: &[u8]) -> &[u8] {
    match name.iter().position(|b| *b == b'@') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

/// Labels that compilers and assemblers leave for themselves: `.L1`, and AArch64's `$x`, `$d` that tell code from data.
fn is_label(name: &[u8]) -> bool {
    name.starts_with(b".L") || name.starts_with(b"$x") || name.starts_with(b"$d") || name.starts_with(b"$L")
}

/// The table of that section name, and the names that belong to it.
pub(super) fn section<'m>(file: &'m ElfFile, name: &str) -> Option<Raw<'m>> {
    let symbols = file.section_data(name).ok().flatten()?;
    let strings = usize::try_from(file.section(name)?.link()).ok().and_then(|i| file.sections().get(i));
    let strings = strings.and_then(|s| file.data_of(s).ok().flatten()).unwrap_or_default();
    Some(raw(file, symbols, strings))
}

impl<'m> Found<'m> {
    pub(super) fn read(&mut self, file: &'m ElfFile, raw: Raw<'m>) {
        for (index, symbol) in raw.all().enumerate() {
            if index.is_multiple_of(SYMBOLS_PER_RELEASE) {
                file.release_symbols();
            }
            if symbol.is_placed()
                && let Some(entry) = raw.entry(&symbol)
            {
                if is_code(file, usize::from(symbol.section), symbol.value) {
                    self.code.push(entry);
                } else {
                    self.data.push(entry);
                }
            }
        }
    }

    pub(super) fn push(&mut self, entry: Entry<'m>, is_code: bool) {
        if is_code { &mut self.code } else { &mut self.data }.push(entry);
    }

    /// Code and data by (address, local before global, name), each once.
    pub(super) fn into_table(self) -> Table<'m> {
        let sort = |mut list: Vec<Entry<'m>>| {
            list.sort_unstable_by(|a, b| (a.start, a.name, a.size).cmp(&(b.start, b.name, b.size)));
            list.dedup_by(|b, a| {
                let same = (a.start, a.name) == (b.start, b.name);
                if same {
                    a.size = a.size.max(b.size);
                    a.global |= b.global;
                }
                same
            });
            // Linkers make hidden names local: seen in static-pie, where `raise` is local and `gsignal`, the same code,
            // weak. Debuggers show the name that other files could use.
            list.sort_by_key(|e| (e.start, e.global));
            list.shrink_to_fit();
            list
        };
        Table { code: sort(self.code), data: sort(self.data) }
    }
}

pub(super) fn raw<'m>(file: &ElfFile, symbols: &'m [u8], strings: &'m [u8]) -> Raw<'m> {
    let endian = bytes::Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
    Raw { symbols, strings, is_64: file.address_size() == 8, endian }
}

/// Whether a symbol lies in code: by its section, and without sections by its segment.
pub(super) fn is_code(file: &ElfFile, section: usize, value: u64) -> bool {
    if let Some(s) = file.sections().get(section)
        && section != 0
    {
        return s.flags() & elf::SHF_EXECINSTR.0 != 0;
    }
    let inside = |s: &&crate::elf::Segment| Svma(value).offset_from(s.address).is_some_and(|o| o < s.memory_size);
    file.segments().iter().find(inside).is_some_and(|s| s.executable)
}
