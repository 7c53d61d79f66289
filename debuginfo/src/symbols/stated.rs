//! Symbols that no file holds: read out of a kernel's memory, or stated by the source.

use super::table::{Entry, Table};
use crate::images::{Module, SymbolKind};
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use evidence::{ImageSymbols, ToUsize};
use std::ops::Range;
use std::sync::Arc;

/// Most symbols kept of one image: a kernel with everything built in has about 300,000.
const LIMIT_SYMBOLS: usize = 16 << 20;
/// Most symbols of the other kind that are passed on the way to the nearest ones of code, or of data.
const LIMIT_NEAR: usize = 1 << 12;
/// Most bytes of names kept of one image.
const LIMIT_NAMES: usize = 1 << 30;

/// A table of symbols, by the image's own addresses.
#[derive(Debug)]
pub struct SymbolTable {
    names: Names,
    rows: Vec<Row>,
    /// Whether the rows are in order, and have their sizes.
    finished: bool,
    code: Range<u64>,
    kind: SymbolKind,
    /// Symbols that were given and are not kept.
    dropped: usize,
}

/// Where names are.
#[derive(Debug)]
enum Names {
    Own(Vec<u8>),
    /// Those of the table that the symbols come from.
    Shared(Arc<String>),
}

impl Names {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(text) => text.as_bytes(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    start: u64,
    size: u64,
    name: u32,
    length: u16,
    function: bool,
    global: bool,
}

/// What is said of one symbol.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'n> {
    /// Its linkage name.
    pub name: &'n str,
    /// Where it starts: an address of the image (runtime address minus the image's slide).
    pub start: u64,
    /// Its size in bytes; `None` when the source does not say: then it reaches to the next one.
    pub size: Option<u64>,
    /// Code, not data.
    pub function: bool,
    /// Visible outside of its own file.
    pub global: bool,
}

impl SymbolTable {
    /// An empty table. `code` is where functions may lie.
    #[must_use]
    pub const fn new(kind: SymbolKind, code: Range<u64>) -> Self {
        Self { names: Names::Own(Vec::new()), rows: Vec::new(), finished: false, code, kind, dropped: 0 }
    }

    /// An empty table with room for so many symbols, whose names are parts of `names`.
    pub(crate) fn sharing(kind: SymbolKind, code: Range<u64>, names: Arc<String>, symbols: usize) -> Self {
        let rows = Vec::with_capacity(symbols.min(LIMIT_SYMBOLS));
        Self { names: Names::Shared(names), rows, finished: false, code, kind, dropped: 0 }
    }

    /// Adds a symbol to a table that shares its names: one of `length` bytes from `name` on.
    pub(crate) fn push_shared(&mut self, symbol: &Stated<'_>, name: u32, length: u16) {
        self.push_row(symbol, name, length);
    }

    /// The table that a source carries for an image: as in the image's file (`Elf64_Sym`, `Elf32_Sym`).
    pub(crate) fn carried(carried: &ImageSymbols, wide: bool, e: Endian, module: &Module) -> Self {
        let start = module.to_svma(module.base).0;
        let mut table = Self::new(SymbolKind::Symtab, start..start.saturating_add(module.size));
        for raw in carried.symbols.chunks_exact(if wide { 24 } else { 16 }) {
            let word = |at| u32_at(raw, at, e).map(u64::from);
            let fields = if wide {
                u64_at(raw, 8, e).zip(u64_at(raw, 16, e)).zip(u8_at(raw, 4)).zip(u16_at(raw, 6, e))
            } else {
                word(4).zip(word(8)).zip(u8_at(raw, 12)).zip(u16_at(raw, 14, e))
            };
            let (Some((((value, size), info), section)), Some(name)) = (fields, word(0)) else { continue };
            let name = carried.strings.get(name.to_usize()..).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().and_then(|n| std::str::from_utf8(n).ok()).unwrap_or_default();
            // STT_OBJECT and STT_FUNC that are defined.
            let (kind, binding) = (info & 0xf, info >> 4);
            if section != 0 && matches!(kind, 1 | 2) && !name.is_empty() {
                let size = Some(size).filter(|n| *n > 0);
                table.push(&Stated { name, start: value, size, function: kind == 2, global: binding != 0 });
            }
        }
        table.finish()
    }

    /// Adds a symbol. Names are cut off at 64 KiB.
    pub fn push(&mut self, symbol: &Stated<'_>) {
        let name = symbol.name.as_bytes();
        let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
        let own = match &mut self.names {
            Names::Own(own) if own.len() < LIMIT_NAMES => own,
            _ => {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
        };
        let (Ok(at), Ok(length)) = (u32::try_from(own.len()), u16::try_from(name.len())) else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        own.extend_from_slice(name);
        self.push_row(symbol, at, length);
    }

    fn push_row(&mut self, symbol: &Stated<'_>, name: u32, length: u16) {
        if self.rows.len() >= LIMIT_SYMBOLS {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.finished = false;
        self.rows.push(Row {
            start: symbol.start,
            // The widest value says that nobody knows, until all are there.
            size: symbol.size.unwrap_or(u64::MAX),
            name,
            length,
            function: symbol.function,
            global: symbol.global,
        });
    }

    /// How many symbols there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many symbols were more than is kept.
    #[must_use]
    pub const fn dropped(&self) -> usize {
        self.dropped
    }

    /// Where it comes from.
    #[must_use]
    pub const fn kind(&self) -> SymbolKind {
        self.kind
    }

    /// Where functions may lie.
    #[must_use]
    pub const fn code(&self) -> &Range<u64> {
        &self.code
    }

    /// Sorts the table and lets every symbol without a size reach to the next one (the last one to the end of the
    /// code).
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.rows.sort_by_key(|r| r.start);
        self.finished = true;
        let mut next = self.code.end;
        let mut here = u64::MAX;
        for row in self.rows.iter_mut().rev() {
            if row.start != here {
                next = if here == u64::MAX { next } else { here };
                here = row.start;
            }
            if row.size == u64::MAX {
                row.size = next.saturating_sub(row.start);
            }
        }
        self
    }

    /// The first symbol of a name, without building the index of all names.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u64> {
        self.rows.iter().find(|r| self.name(r) == name.as_bytes()).map(|r| r.start)
    }

    /// The symbol that covers an address of the image, and where it starts: the nearest before it. The table must be
    /// finished.
    #[must_use]
    pub fn covering(&self, at: u64) -> Option<(String, u64)> {
        let after = self.rows.partition_point(|r| r.start <= at);
        let row = self.rows.get(after.checked_sub(1)?)?;
        let inside = at.checked_sub(row.start)?;
        // A symbol without size is but the place where it starts.
        (inside == 0 || inside < row.size).then(|| (String::from_utf8_lossy(self.name(row)).into_owned(), row.start))
    }

    fn name(&self, row: &Row) -> &[u8] {
        let start = row.name.to_usize();
        self.names.bytes().get(start..start.saturating_add(usize::from(row.length))).unwrap_or_default()
    }

    fn entry(&self, row: &Row) -> Entry<'_> {
        Entry { start: row.start, size: row.size, name: self.name(row), global: row.global, stub: false }
    }

    pub(super) fn table(&self) -> Table<'_> {
        self.table_of(self.rows.iter())
    }

    /// The symbols of a name.
    pub(super) fn named(&self, name: &[u8]) -> Table<'_> {
        self.table_of(self.rows.iter().filter(|row| self.name(row) == name))
    }

    /// Of [`SymbolTable::table`] the nearest symbols at or before `at`, at least `count` of the code or of the data
    /// with all others of the same address; and the address of the next one before, where there is one. `None` where
    /// they cannot be found without looking at everything.
    pub(super) fn near(&self, at: u64, function: bool, count: usize) -> Option<(Table<'_>, Option<u64>)> {
        if !self.finished {
            return None;
        }
        let before = self.rows.get(..self.rows.partition_point(|r| r.start <= at))?;
        let mut near: Vec<&Row> = Vec::with_capacity(count);
        let mut first = None;
        for (number, row) in before.iter().rev().enumerate() {
            if number >= LIMIT_NEAR {
                return None;
            }
            if row.function != function {
                continue;
            }
            if near.len() >= count && near.last().is_none_or(|last| last.start != row.start) {
                first = Some(row.start);
                break;
            }
            near.push(row);
        }
        Some((self.table_of(near.into_iter().rev()), first))
    }

    fn table_of<'t>(&'t self, rows: impl Iterator<Item = &'t Row> + Clone) -> Table<'t> {
        let entries = |function: bool| {
            let rows = rows.clone().filter(|r| r.function == function);
            let mut entries: Vec<Entry<'t>> = rows.map(|r| self.entry(r)).collect();
            // In order by address already: only names of one address are not.
            let order = |a: &Entry<'_>, b: &Entry<'_>| (a.start, a.name).cmp(&(b.start, b.name));
            entries.chunk_by_mut(|a, b| a.start == b.start).for_each(|same| same.sort_unstable_by(order));
            if !entries.is_sorted_by_key(|e| e.start) {
                entries.sort_unstable_by(order);
            }
            entries
        };
        Table { code: entries(true), data: entries(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::layer::Layer;

    /// Symbols in groups of one address, code and data mixed, some without size.
    fn table() -> SymbolTable {
        let mut table = SymbolTable::new(SymbolKind::Kallsyms, 0x1000..0x9000);
        for n in 0..900_u64 {
            let start = 0x1000 + n / 3 * 0x20 + n % 7 / 5 * 4;
            let name = format!("{}_{}", ["f", "data", "b", "a"][(n % 4) as usize], n * 7919 % 500);
            let size = [None, Some(0), Some(0x10), Some(0x40)][(n % 4 + n / 100) as usize % 4];
            table.push(&Stated { name: &name, start, size, function: n % 5 != 0, global: n % 3 == 0 });
        }
        table.finish()
    }

    #[test]
    fn looking_near_an_address_says_what_the_whole_table_says() {
        let stated = table();
        let (lazy, whole) = (Layer::of_stated(&stated), Layer::of_table(stated.table()));
        let plain = |entry: Option<Entry<'_>>| entry.map(|e| (e.start, e.size, e.name.to_vec(), e.global));
        let mut found = 0;
        for at in 0xff0..0x3800 {
            for section in [0x1000, 0x2004] {
                let expected = plain(whole.code_at(at, section));
                assert_eq!(plain(lazy.code_at(at, section)), expected, "code at {at:#x}");
                found += usize::from(expected.is_some());
            }
            assert_eq!(plain(lazy.object_at(at)), plain(whole.object_at(at)), "data at {at:#x}");
        }
        assert!(found > 10_000 && !lazy.is_in_order(), "{found}");
        for name in [&b"f_0"[..], b"a_21", b"data_7", b"none"] {
            let all = |layer: &Layer<'_>| {
                layer.named(name).iter().map(|(e, code)| (plain(Some(*e)), *code)).collect::<Vec<_>>()
            };
            assert_eq!(all(&lazy), all(&whole));
        }
        assert!(!lazy.is_in_order());
        assert_eq!(lazy.entries().count(), 900);
        assert!(lazy.is_in_order());
    }

    #[test]
    fn what_is_in_no_order_is_put_in_order_first() {
        let mut stated = SymbolTable::new(SymbolKind::Kallsyms, 0x1000..0x9000);
        for (name, start) in [("last", 0x3000), ("first", 0x1000), ("middle", 0x2000)] {
            stated.push(&Stated { name, start, size: Some(0x800), function: true, global: true });
        }
        let lazy = Layer::of_stated(&stated);
        assert_eq!(lazy.code_at(0x2010, 0x1000).map(|e| e.name), Some(&b"middle"[..]));
        assert!(lazy.is_in_order());
    }
}
