//! Symbols that no file holds: read out of a kernel's memory, or stated by the source.

use super::table::{Entry, Table};
use crate::images::{Module, SymbolKind};
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use evidence::{ImageSymbols, ToUsize};
use std::ops::Range;

/// Most symbols kept of one image: a kernel with everything built in has about 300,000.
const LIMIT_SYMBOLS: usize = 16 << 20;
/// Most bytes of names kept of one image.
const LIMIT_NAMES: usize = 1 << 30;

/// A table of symbols, by the image's own addresses.
#[derive(Debug)]
pub struct SymbolTable {
    names: Vec<u8>,
    rows: Vec<Row>,
    code: Range<u64>,
    kind: SymbolKind,
    /// Symbols that were given and are not kept.
    dropped: usize,
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
        Self { names: Vec::new(), rows: Vec::new(), code, kind, dropped: 0 }
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

    /// Makes room for so many symbols with so many bytes of names.
    pub fn reserve(&mut self, symbols: usize, names: usize) {
        self.rows.reserve(symbols.min(LIMIT_SYMBOLS));
        self.names.reserve(names.min(LIMIT_NAMES));
    }

    /// Adds a symbol. Names are cut off at 64 KiB.
    pub fn push(&mut self, symbol: &Stated<'_>) {
        let name = symbol.name.as_bytes();
        let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
        let (Ok(at), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        if self.rows.len() >= LIMIT_SYMBOLS || self.names.len() >= LIMIT_NAMES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.names.extend_from_slice(name);
        self.rows.push(Row {
            start: symbol.start,
            // The widest value says that nobody knows, until all are there.
            size: symbol.size.unwrap_or(u64::MAX),
            name: at,
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
        self.names.get(start..start.saturating_add(usize::from(row.length))).unwrap_or_default()
    }

    pub(super) fn table(&self) -> Table<'_> {
        let entries = |function: bool| {
            let rows = self.rows.iter().filter(|r| r.function == function);
            let mut entries: Vec<Entry<'_>> = rows
                .map(|r| Entry { start: r.start, size: r.size, name: self.name(r), global: r.global, stub: false })
                .collect();
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
