//! A Linux kernel's table of its own symbols, read out of its memory.
//!
//! Names are compressed by a table of 256 tokens; addresses are 32-bit numbers that mean one of three things,
//! depending on the kernel's version and configuration, or 64-bit addresses. Which one it is is not written down: the
//! rule is taken that gives the addresses which VMCOREINFO states.
//!
//! Source: `kernel/kallsyms.c` and `scripts/kallsyms.c` of Linux 4.19 to 6.x.

use super::name_index::NameIndex;
use crate::images::SymbolKind;
use crate::symbols::{Stated, SymbolTable};
use evidence::bytes::{Endian, i32_at, slice_at, u16_at, u64_at};
use evidence::{Addr, Memory, ToU64, ToUsize};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Most symbols: a kernel with everything built in has about 300,000.
const LIMIT_SYMBOLS: u32 = 4 << 20;
/// Most bytes of compressed names: ten times what such a kernel has.
const LIMIT_NAMES: u64 = 64 << 20;
/// Most bytes of expanded names.
const LIMIT_EXPANDED: usize = 512 << 20;
/// Bytes read of the token table: 256 tokens, of which the longest have some dozens of characters.
const LIMIT_TOKENS: usize = 64 << 10;

/// Where the parts of the table lie, as VMCOREINFO says (Linux 6.0 and later) or a scan found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `kallsyms_num_syms`.
    pub count: Addr,
    /// `kallsyms_names`.
    pub names: Addr,
    /// `kallsyms_token_table`.
    pub token_table: Addr,
    /// `kallsyms_token_index`.
    pub token_index: Addr,
    /// `kallsyms_offsets`: 32-bit numbers.
    pub offsets: Option<Addr>,
    /// `kallsyms_relative_base`: what the numbers are relative to. Kernels without it count from each number's own
    /// place.
    pub relative_base: Option<Addr>,
    /// `kallsyms_addresses`: 64-bit addresses instead of numbers.
    pub addresses: Option<Addr>,
}

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'k> {
    /// Its name.
    pub name: &'k str,
    /// Its runtime address; for a variable that each CPU has, what to add to the CPU's offset.
    pub address: u64,
    /// Its class as `nm` prints it: `T`, `t`, `D`, `A`.
    pub class: u8,
}

impl Symbol<'_> {
    /// Whether it is code. Weak symbols are, where they lie in `text`.
    #[must_use]
    pub fn is_function(&self, text: &Range<u64>) -> bool {
        matches!(self.class, b't' | b'T') || (matches!(self.class, b'w' | b'W') && text.contains(&self.address))
    }

    /// Whether the symbol names a place in the image, rather than a number.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        !matches!(self.class, b'a' | b'A')
    }
}

/// The symbols, by address.
#[derive(Debug, Default)]
pub struct Kallsyms {
    names: Arc<String>,
    rows: Vec<Row>,
    by_name: OnceLock<NameIndex>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    name: u32,
    length: u16,
    class: u8,
}

/// How a 32-bit number becomes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// `CONFIG_KALLSYMS_ABSOLUTE_PERCPU` (x86-64 up to 6.14): numbers from 0 on are themselves, negative ones count
    /// backwards from the base.
    AbsolutePerCpu,
    /// Unsigned, from the base.
    Relative,
    /// Signed, from the place of the number.
    FromPlace,
}

impl Kallsyms {
    /// Reads the table. `known` are symbols with their runtime addresses; at least one of them must be in the table,
    /// and all that are must have their address.
    ///
    /// # Errors
    /// What is missing or contradicts, in words.
    pub fn read(memory: &dyn Memory, endian: Endian, places: &Places, known: &[(&str, u64)]) -> Result<Self, String> {
        let count = memory.read_u32(places.count, endian).map_err(|e| format!("kallsyms_num_syms: {e}"))?;
        if count == 0 || count > LIMIT_SYMBOLS {
            return Err(format!("kallsyms_num_syms at {} is {count}: no kernel has so many symbols", places.count));
        }
        let mut table = Self::decode_names(memory, endian, places, count)?;
        table.place(memory, endian, places, known)?;
        Ok(table)
    }

    fn decode_names(memory: &dyn Memory, endian: Endian, places: &Places, count: u32) -> Result<Self, String> {
        let mut index = [0; 512];
        memory.read_exact(places.token_index, &mut index).map_err(|e| format!("kallsyms_token_index: {e}"))?;
        let mut raw = vec![0; LIMIT_TOKENS];
        let (got, _) = memory.read(places.token_table, &mut raw);
        raw.truncate(got);
        let token = |n: usize| {
            let start = usize::from(u16_at(&index, n.checked_mul(2)?, endian)?);
            let tail = raw.get(start..)?;
            tail.get(..tail.iter().position(|b| *b == 0)?)
        };
        let tokens: Vec<Option<&[u8]>> = (0..256).map(token).collect();
        let stream = read_names(memory, places)?;
        let mut rows = Vec::with_capacity(count.to_usize());
        let mut names: Vec<u8> = Vec::with_capacity(stream.len().saturating_mul(2));
        let mut at = 0_usize;
        for number in 0..count {
            let (length, skip) = length_at(&stream, at)
                .ok_or_else(|| format!("kallsyms_names ends before symbol {number} of {count}"))?;
            at = at.saturating_add(skip);
            let codes = slice_at(&stream, at, length)
                .ok_or_else(|| format!("kallsyms_names ends inside of symbol {number} of {count}"))?;
            at = at.saturating_add(length);
            let start = names.len();
            for code in codes {
                let token = tokens.get(usize::from(*code)).copied().flatten();
                names.extend_from_slice(token.ok_or_else(|| format!("kallsyms has no token {code:#x}"))?);
            }
            let class = names.get(start).copied().unwrap_or(b'?');
            let (name, end) = (start.saturating_add(1).min(names.len()), names.len());
            let length = u16::try_from(end.saturating_sub(name)).map_err(|_| "a symbol's name is too long")?;
            let name = u32::try_from(name).map_err(|_| "the names of kallsyms are too long")?;
            if end > LIMIT_EXPANDED {
                return Err(format!("the names of kallsyms take more than {LIMIT_EXPANDED} bytes"));
            }
            rows.push(Row { address: 0, name, length, class });
        }
        let names = String::from_utf8(names).map_err(|_| "the names of kallsyms are no text")?;
        Ok(Self { names: Arc::new(names), rows, by_name: OnceLock::new() })
    }

    /// Gives every symbol its address, by the rule that fits what is known.
    fn place(
        &mut self,
        memory: &dyn Memory,
        endian: Endian,
        places: &Places,
        known: &[(&str, u64)],
    ) -> Result<(), String> {
        let width = if places.offsets.is_some() { 4 } else { 8 };
        let start = places.offsets.or(places.addresses).ok_or("kallsyms has neither offsets nor addresses")?;
        let mut raw = vec![0; self.rows.len().saturating_mul(width)];
        memory.read_exact(start, &mut raw).map_err(|e| format!("the addresses of kallsyms: {e}"))?;
        if places.offsets.is_none() {
            for (n, row) in self.rows.iter_mut().enumerate() {
                row.address = u64_at(&raw, n.saturating_mul(8), endian).unwrap_or(0);
            }
            return self.check(known);
        }
        let base = places.relative_base.map(|at| memory.read_u64(at, endian));
        let base = base.transpose().map_err(|e| format!("kallsyms_relative_base: {e}"))?;
        let rules: &[Rule] = match base {
            Some(_) => &[Rule::AbsolutePerCpu, Rule::Relative],
            None => &[Rule::FromPlace],
        };
        let base = base.unwrap_or(0);
        let mut failure = String::new();
        for rule in rules {
            for (n, row) in self.rows.iter_mut().enumerate() {
                let at = n.saturating_mul(4);
                let number = i32_at(&raw, at, endian).unwrap_or(0);
                let signed = i64::from(number).cast_unsigned();
                row.address = match rule {
                    Rule::AbsolutePerCpu if number >= 0 => signed,
                    Rule::AbsolutePerCpu => base.wrapping_sub(1).wrapping_sub(signed),
                    Rule::Relative => base.wrapping_add(u64::from(number.cast_unsigned())),
                    Rule::FromPlace => start.wrapping_add(at.to_u64()).wrapping_add(signed).0,
                };
            }
            match self.check(known) {
                Ok(()) => return Ok(()),
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }

    fn check(&self, known: &[(&str, u64)]) -> Result<(), String> {
        let mut any = false;
        for (name, expected) in known {
            match self.by_name(name) {
                Some(found) if found == *expected => any = true,
                Some(found) => {
                    return Err(format!("kallsyms has {name} at {found:#x}, but it is at {expected:#x}"));
                }
                None => {}
            }
        }
        if any { Ok(()) } else { Err("kallsyms has none of the symbols whose addresses are known".into()) }
    }

    fn name(&self, row: &Row) -> &str {
        let start = row.name.to_usize();
        self.names.get(start..start.saturating_add(usize::from(row.length))).unwrap_or_default()
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

    /// All symbols, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.rows.iter().map(|r| Symbol { name: self.name(r), address: r.address, class: r.class })
    }

    /// The last symbol at or before a runtime address; of several at one address the first. `None` outside of the
    /// kernel's image, and at its very end.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.rows.partition_point(|r| r.address <= address);
        self.rows.get(after)?;
        let start = self.rows.get(after.checked_sub(1)?)?.address;
        let first = self.rows.partition_point(|r| r.address < start);
        // Variables of CPUs and absolute numbers have small values.
        let row = self.rows.get(first).filter(|r| r.address >> 63 == 1)?;
        Some(Symbol { name: self.name(row), address: row.address, class: row.class })
    }

    /// The address of the first symbol of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<u64> {
        let rows = self.by_name.get_or_init(|| {
            NameIndex::new(self.rows.len(), |row| self.rows.get(row).map_or("", |r| self.name(r)).as_bytes())
        });
        let mut rows = rows.candidates(name.as_bytes()).filter_map(|row| self.rows.get(row));
        rows.find(|r| self.name(r) == name).map(|r| r.address)
    }

    /// The symbols of `image`, by runtime address, as a table of an image with that slide.
    ///
    /// Labels inside of the system call entry (`entry_SYSCALL_64_after_hwframe`) are symbols here and are left out:
    /// they are no functions, and without sizes they would cut the function that they lie in.
    #[must_use]
    pub fn table(&self, image: &Range<u64>, text: &Range<u64>, slide: u64) -> SymbolTable {
        let own = |at: u64| at.wrapping_sub(slide);
        let code = own(text.start)..own(text.end);
        let mut table = SymbolTable::sharing(SymbolKind::Kallsyms, code, Arc::clone(&self.names), self.rows.len());
        let mut last = None;
        for row in self.rows.iter().filter(|row| image.contains(&row.address)) {
            let symbol = Symbol { name: self.name(row), address: row.address, class: row.class };
            if !symbol.is_placed() || is_inner_label(symbol.name) {
                continue;
            }
            let function = symbol.is_function(text);
            // Of several names of one function the first counts, as in the kernel's own traces; a symbol of size 0 gives
            // way to one that has a size.
            let alias = function && last.replace(symbol.address) == Some(symbol.address);
            let (start, size, global) = (own(symbol.address), alias.then_some(0), symbol.class.is_ascii_uppercase());
            table.push_shared(&Stated { name: symbol.name, start, size, function, global }, row.name, row.length);
        }
        table.finish()
    }
}

/// Labels that `SYM_INNER_LABEL` makes in `arch/x86/entry/entry_64.S` and `entry_64_compat.S`.
fn is_inner_label(name: &str) -> bool {
    let entry = name.starts_with("entry_SYS") || name.starts_with("entry_INT80");
    let inner = ["_after_hwframe", "_safe_stack", "_unsafe_stack", "_end", "_l1_safe_stack"];
    entry && inner.iter().any(|suffix| name.ends_with(suffix))
}

/// The compressed names: up to the next part of the table, or to where memory ends.
fn read_names(memory: &dyn Memory, places: &Places) -> Result<Vec<u8>, String> {
    let parts = [Some(places.count), Some(places.token_table), Some(places.token_index), places.offsets];
    let parts = parts.into_iter().chain([places.relative_base, places.addresses]).flatten();
    let end = parts.filter(|at| *at > places.names).min();
    let length = end.and_then(|end| end.offset_from(places.names)).unwrap_or(LIMIT_NAMES).min(LIMIT_NAMES);
    let mut stream = Vec::new();
    let mut chunk = vec![0; 256 << 10];
    while stream.len().to_u64() < length {
        let (got, stop) = memory.read(places.names.wrapping_add(stream.len().to_u64()), &mut chunk);
        stream.extend_from_slice(chunk.get(..got).unwrap_or_default());
        if stop.is_some() {
            break;
        }
    }
    if stream.is_empty() {
        return Err(format!("kallsyms_names at {} cannot be read", places.names));
    }
    Ok(stream)
}

/// The length of a compressed name, and how many bytes say it. Since 6.1 the top bit says that a second byte follows;
/// before, no name was long enough to set it.
pub(super) fn length_at(stream: &[u8], at: usize) -> Option<(usize, usize)> {
    let low = *stream.get(at)?;
    if low & 0x80 == 0 {
        return Some((usize::from(low), 1));
    }
    let high = *stream.get(at.checked_add(1)?)?;
    Some((usize::from(low & 0x7f) | usize::from(high) << 7, 2))
}
