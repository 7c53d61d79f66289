//! The symbols that the kernel keeps of a module for its debugger.
//!
//! Source: `struct elf_file` of `sys/kern/link_elf_obj.c` (modules of amd64, whose symbols hold addresses) and of
//! `link_elf.c` (all others, whose symbols are relative to the module's start). Both begin with the `struct linker_file`
//! that is on the list, and hold, somewhere behind it, `ddbsymtab`, `ddbsymcnt`, `ddbstrtab`, `ddbstrcnt`, four words in a
//! row. Two structures of one name cannot be told apart by types, so that the four are looked for and have to prove
//! themselves: the first symbol and the first name are empty, and the functions lie inside of the module.

use super::super::context::FreeBsd;
use super::LIMIT_SIZE;
use debuginfo::images::SymbolKind;
use debuginfo::symbols::{Stated, SymbolTable};
use evidence::bytes::{Endian, c_str_at, u8_at, u16_at, u32_at, u64_at};
use evidence::{Addr, ToU64, ToUsize};
use std::cell::Cell;

/// Bytes of the structure that are looked at: `struct linker_file` has some 200, what follows as many.
const LIMIT_LOOK: usize = 1024;
/// Most symbols, and bytes of names, of one module: zfs has 12,000.
const LIMIT_SYMBOLS: u64 = 1 << 20;
const LIMIT_NAMES: u64 = 64 << 20;
/// `STT_OBJECT`, `STT_FUNC`.
const OBJECT: u8 = 1;
const FUNCTION: u8 = 2;

/// One symbol, by its address.
pub(super) struct Symbol {
    pub name: String,
    pub start: u64,
    size: u64,
    pub function: bool,
    global: bool,
}

/// Those of one module.
pub(super) struct Kept(pub Vec<Symbol>);

/// Where the tables are.
struct Tables {
    symbols: Addr,
    count: u64,
    names: Addr,
    bytes: u64,
}

impl Kept {
    /// The symbols of the module whose structure lies at `file`, loaded to `base`.
    /// `left`: bytes of tables that may still be read.
    pub(super) fn read(
        kernel: &FreeBsd<'_>,
        file: Addr,
        base: Addr,
        size: Option<u64>,
        left: &Cell<u64>,
    ) -> Option<Self> {
        let word = usize::from(kernel.fields.pointer);
        let mut raw = vec![0; LIMIT_LOOK];
        let (got, _) = kernel.memory().read(file, &mut raw);
        raw.truncate(got);
        let words: Vec<u64> = raw.chunks_exact(word).map(number).collect();
        words.windows(4).find_map(|four| {
            let [symbols, count, names, bytes] = *four else { return None };
            let counted = (2..=LIMIT_SYMBOLS).contains(&count) && (2..=LIMIT_NAMES).contains(&bytes);
            if !counted
                || symbols.checked_rem(u64::from(kernel.fields.pointer)) != Some(0)
                || symbols == 0
                || names == 0
            {
                return None;
            }
            Self::table(kernel, &Tables { symbols: Addr(symbols), count, names: Addr(names), bytes }, base, size, left)
        })
    }

    fn table(kernel: &FreeBsd<'_>, tables: &Tables, base: Addr, size: Option<u64>, left: &Cell<u64>) -> Option<Self> {
        let wide = kernel.fields.pointer == 8;
        let entry = if wide { 24 } else { 16 };
        let memory = kernel.memory();
        // The cheap proofs first: most words are no tables.
        let (mut first, mut name) = (vec![0; entry], [0]);
        memory.read_exact(tables.symbols, &mut first).ok()?;
        memory.read_exact(tables.names, &mut name).ok()?;
        if name != [0] || first.iter().any(|b| *b != 0) {
            return None;
        }
        let bytes = tables.count.checked_mul(entry.to_u64())?.checked_add(tables.bytes)?;
        left.set(left.get().checked_sub(bytes)?);
        let mut raw = vec![0; tables.count.to_usize().checked_mul(entry)?];
        let mut names = vec![0; tables.bytes.to_usize()];
        memory.read_exact(tables.symbols, &mut raw).ok()?;
        memory.read_exact(tables.names, &mut names).ok()?;
        let parsed: Vec<Symbol> = raw.chunks_exact(entry).skip(1).filter_map(|row| symbol(row, &names, wide)).collect();
        let span = size.filter(|n| *n > 0).unwrap_or(LIMIT_SIZE);
        let within = |start: u64| start.wrapping_sub(base.0) < span;
        let functions = || parsed.iter().filter(|s| s.function);
        let all = functions().count();
        let absolute = functions().filter(|s| within(s.start)).count();
        let relative = functions().filter(|s| s.start < span).count();
        let slide = match (absolute, relative) {
            _ if all == 0 => return None,
            (n, _) if n == all => 0,
            (_, n) if n == all => base.0,
            _ => return None,
        };
        let moved = parsed.into_iter().map(|s| Symbol { start: s.start.wrapping_add(slide), ..s });
        Some(Self(moved.filter(|s| within(s.start)).collect()))
    }

    /// Where the last function ends.
    pub(super) fn end(&self) -> Option<u64> {
        self.0.iter().filter(|s| s.function).map(|s| s.start.saturating_add(s.size.max(1))).max()
    }

    /// As symbols of an image at its own addresses plus `slide`.
    pub(super) fn stated(&self, slide: u64) -> Option<SymbolTable> {
        let functions = || self.0.iter().filter(|s| s.function);
        let own = |at: u64| at.wrapping_sub(slide);
        let start = own(functions().map(|s| s.start).min()?);
        let mut table = SymbolTable::new(SymbolKind::Kallsyms, start..own(self.end()?).max(start));
        for symbol in &self.0 {
            table.push(&Stated {
                name: &symbol.name,
                start: own(symbol.start),
                size: (symbol.size > 0).then_some(symbol.size),
                function: symbol.function,
                global: symbol.global,
            });
        }
        Some(table.finish())
    }
}

fn number(word: &[u8]) -> u64 {
    word.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A function or object that is defined; `Elf64_Sym` or `Elf32_Sym`.
fn symbol(row: &[u8], names: &[u8], wide: bool) -> Option<Symbol> {
    let le = Endian::Little;
    let (info, section, value, size) = if wide {
        (u8_at(row, 4)?, u16_at(row, 6, le)?, u64_at(row, 8, le)?, u64_at(row, 16, le)?)
    } else {
        (u8_at(row, 12)?, u16_at(row, 14, le)?, u32_at(row, 4, le)?.into(), u32_at(row, 8, le)?.into())
    };
    let kind = info & 0xf;
    // Reserved sections are no places in the module.
    if !matches!(kind, OBJECT | FUNCTION) || section == 0 || section >= 0xff00 {
        return None;
    }
    let name = c_str_at(names, u32_at(row, 0, le)?.to_usize()).filter(|n| !n.is_empty())?;
    Some(Symbol { name, start: value, size, function: kind == FUNCTION, global: info >> 4 != 0 })
}
