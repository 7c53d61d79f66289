//! The symbols of one file: looked through for the first few addresses, put in order when more are asked for.
//!
//! A backtrace asks for few symbols, because DWARF knows most names. Reading 24 bytes of each of 300,000 entries takes
//! 2 ms and keeps nothing; sorting them with their names takes 30 ms and 20 MB.

use super::plt;
use super::stated::SymbolTable;
use super::table::{Entry, Found, Raw, RawSymbol, Table, is_code};
use crate::elf::ElfFile;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many questions are answered by looking through the table.
const SCANS: usize = 8;
/// How many symbols before an address are looked at, before the whole table is put in order.
const NEAR: usize = 64;
/// How many symbols before an address are looked at first, where they are in order already.
const FEW: usize = 4;
/// How many objects before the nearest one may be larger and cover the address as well.
const NEAR_OBJECTS: usize = 8;

/// The symbols of one file.
#[derive(Debug)]
pub(super) struct Layer<'m> {
    file: Option<&'m ElfFile>,
    raw: Vec<Raw<'m>>,
    /// Symbols that no file holds, by address.
    stated: Option<&'m SymbolTable>,
    /// Stubs of the procedure linkage table.
    stubs: Vec<Entry<'m>>,
    scans: AtomicUsize,
    table: OnceLock<Table<'m>>,
}

/// The symbols near an address do not tell.
#[derive(Debug, PartialEq, Eq)]
struct TooFar;

impl<'m> Layer<'m> {
    /// Of the image itself, with its stubs.
    pub(super) fn of_file(file: &'m ElfFile, raw: Vec<Raw<'m>>) -> Self {
        Self { stubs: plt::read(file), ..Self::of_debug_file(file, raw) }
    }

    /// Of a file whose code lies elsewhere.
    pub(super) const fn of_debug_file(file: &'m ElfFile, raw: Vec<Raw<'m>>) -> Self {
        Self {
            file: Some(file),
            raw,
            stated: None,
            stubs: Vec::new(),
            scans: AtomicUsize::new(0),
            table: OnceLock::new(),
        }
    }

    /// Of no file.
    pub(super) const fn of_stated(stated: &'m SymbolTable) -> Self {
        Self {
            file: None,
            raw: Vec::new(),
            stated: Some(stated),
            stubs: Vec::new(),
            scans: AtomicUsize::new(0),
            table: OnceLock::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_table(table: Table<'m>) -> Self {
        let (file, raw, stubs, scans) = (None, Vec::new(), Vec::new(), AtomicUsize::new(0));
        Self { file, raw, stated: None, stubs, scans, table: table.into() }
    }

    #[cfg(test)]
    pub(super) fn is_in_order(&self) -> bool {
        self.table.get().is_some()
    }

    /// The nearest stated symbols, unless all are in order already.
    fn near(&self, at: u64, function: bool, count: usize) -> Option<(Table<'m>, Option<u64>)> {
        self.stated.filter(|_| self.table.get().is_none())?.near(at, function, count)
    }

    /// All symbols in order.
    pub(super) fn table(&self) -> &Table<'m> {
        self.table.get_or_init(|| {
            if let Some(stated) = self.stated {
                return stated.table();
            }
            let mut found = Found::default();
            if let Some(file) = self.file {
                self.raw.iter().for_each(|raw| found.read(file, *raw));
            }
            self.stubs.iter().for_each(|stub| found.push(*stub, true));
            let table = found.into_table();
            self.release();
            table
        })
    }

    /// All symbols, and whether they are code.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry<'m>, bool)> {
        let table = self.table();
        table.code.iter().map(|e| (e, true)).chain(table.data.iter().map(|e| (e, false)))
    }

    /// The symbol of the code at `at`, in the section that starts at `section`.
    pub(super) fn code_at(&self, at: u64, section: u64) -> Option<Entry<'m>> {
        // The first few tell nearly always.
        for count in [FEW, NEAR] {
            if let Some((near, first)) = self.near(at, true, count)
                && let Ok(found) = near.code_at(at, section, first)
            {
                return found.copied();
            }
        }
        if self.file.is_some()
            && self.may_scan()
            && let Ok(found) = self.scan(at, section)
        {
            return found;
        }
        self.table().code_at(at, section, None).ok().flatten().copied()
    }

    /// The object that covers `at`.
    pub(super) fn object_at(&self, at: u64) -> Option<Entry<'m>> {
        match self.near(at, false, NEAR_OBJECTS) {
            Some((near, _)) => near.object_at(at).copied(),
            None => self.table().object_at(at).copied(),
        }
    }

    /// The symbols of a name, in the order of [`Layer::entries`].
    pub(super) fn named(&self, name: &[u8]) -> Vec<(Entry<'m>, bool)> {
        let list = |table: Table<'m>| {
            table.code.iter().map(|e| (*e, true)).chain(table.data.iter().map(|e| (*e, false))).collect()
        };
        if let Some(stated) = self.stated.filter(|_| self.table.get().is_none()) {
            return list(stated.named(name));
        }
        let Some(file) = self.file.filter(|_| self.table.get().is_none()) else {
            return self.entries().filter(|(e, _)| e.name == name && !e.stub).map(|(e, code)| (*e, code)).collect();
        };
        let mut found = Found::default();
        for raw in &self.raw {
            let named = |s: &RawSymbol| s.is_placed() && raw.has_name(s, name);
            for (symbol, entry) in raw.all().filter(named).filter_map(|s| Some((s, raw.entry(&s)?))) {
                found.push(entry, is_code(file, usize::from(symbol.section), symbol.value));
            }
        }
        self.release();
        list(found.into_table())
    }

    /// Whether nobody has put the symbols in order yet, and few have asked for one.
    fn may_scan(&self) -> bool {
        self.table.get().is_none() && self.scans.fetch_add(1, Ordering::Relaxed) < SCANS
    }

    /// Reading a table touches every page of it; later on only a few names are wanted.
    fn release(&self) {
        if let Some(file) = self.file {
            file.release_symbols();
        }
    }

    /// Looks through all symbols for the nearest ones before `at`.
    fn scan(&self, at: u64, section: u64) -> Result<Option<Entry<'m>>, TooFar> {
        let (mut near, first) = self.nearest(at, section);
        self.stubs.iter().filter(|s| s.start <= at && s.start >= section).for_each(|stub| near.push(*stub, true));
        near.into_table().code_at(at, section, first).map(|found| found.copied())
    }

    /// The nearest symbols of code before `at`, and if they are not all, the address from which on they are.
    fn nearest(&self, at: u64, section: u64) -> (Found<'m>, Option<u64>) {
        let mut found = Found::default();
        let Some(file) = self.file else { return (found, None) };
        // The farthest on top: (address, table, place in `kept`).
        let mut heap: BinaryHeap<Reverse<(u64, usize, usize)>> = BinaryHeap::with_capacity(NEAR);
        let mut kept: Vec<(usize, RawSymbol)> = Vec::with_capacity(NEAR);
        let mut first = None;
        for (index, raw) in self.raw.iter().enumerate() {
            for symbol in raw.all() {
                if symbol.value > at || symbol.value < section || first.is_some_and(|f| symbol.value <= f) {
                    continue;
                }
                if !symbol.is_placed() || !is_code(file, usize::from(symbol.section), symbol.value) {
                    continue;
                }
                if heap.len() < NEAR {
                    heap.push(Reverse((symbol.value, index, kept.len())));
                    kept.push((index, symbol));
                } else if let Some(mut farthest) = heap.peek_mut() {
                    let Reverse((value, _, slot)) = *farthest;
                    if value >= symbol.value {
                        first = Some(value);
                        continue;
                    }
                    first = Some(value);
                    if let Some(place) = kept.get_mut(slot) {
                        *place = (index, symbol);
                    }
                    *farthest = Reverse((symbol.value, index, slot));
                }
            }
        }
        for (index, symbol) in &kept {
            if let Some(entry) = self.raw.get(*index).and_then(|raw| raw.entry(symbol)) {
                found.push(entry, true);
            }
        }
        self.release();
        (found, first)
    }
}

impl<'m> Table<'m> {
    /// The symbol of the code at `at`. With `first`, only what lies behind that address is complete.
    fn code_at(&self, at: u64, section: u64, first: Option<u64>) -> Result<Option<&Entry<'m>>, TooFar> {
        let covers = |e: &Entry<'_>| at.wrapping_sub(e.start) < e.size;
        let is_known = |e: Option<&Entry<'_>>| match first {
            Some(first) if e.is_none_or(|e| e.start <= first) => Err(TooFar),
            _ => Ok(()),
        };
        let mut rest = self.code.get(..self.code.partition_point(|e| e.start <= at)).unwrap_or_default();
        let mut label = None;
        loop {
            is_known(rest.last())?;
            let Some((entry, before)) = rest.split_last().filter(|(e, _)| e.start >= section) else { break };
            if entry.size == 0 {
                label = label.or(Some(entry));
            } else if covers(entry) {
                // Labels inside of a sized function do not count.
                return Ok(Some(entry));
            } else {
                is_known(before.last())?;
                if !before.last().is_some_and(|p| covers(p) || p.start == entry.start) {
                    break;
                }
            }
            rest = before;
        }
        Ok(label)
    }

    fn object_at(&self, at: u64) -> Option<&Entry<'m>> {
        let end = self.data.partition_point(|e| e.start <= at);
        let near = self.data.get(end.saturating_sub(NEAR_OBJECTS)..end)?;
        near.iter().rev().find(|e| at.wrapping_sub(e.start) < e.size)
    }
}

#[cfg(test)]
mod tests {
    use crate::symbols::Symbols;
    use crate::{Locator, Modules};
    use std::path::Path;

    /// Looks up many addresses both ways.
    fn check(file: &Path) {
        let modules = Modules::of_file(file, None, None, &Locator::default()).unwrap();
        let symbols = Symbols::load(&modules.list()[0]);
        let (mut told, mut all) = (0, 0);
        for section in &symbols.sections {
            let step = ((section.end - section.start) / 400).max(1);
            for at in (section.start..section.end).step_by(step as usize) {
                for layer in &symbols.layers {
                    let expected = layer.table().code_at(at, section.start, None).unwrap().map(|e| (e.start, e.name));
                    all += 1;
                    if let Ok(found) = layer.scan(at, section.start) {
                        assert_eq!(found.map(|e| (e.start, e.name)), expected, "{} at {at:#x}", file.display());
                        told += 1;
                    }
                }
            }
        }
        for (n, (entry, is_function)) in symbols.layers.iter().flat_map(|l| l.entries()).enumerate() {
            if n % 50 == 0 && !entry.stub {
                let name = std::str::from_utf8(entry.name).unwrap();
                let fresh = Symbols::load(&modules.list()[0]);
                let listed = |l: &super::Layer<'_>| l.named(entry.name).iter().map(|(e, c)| (e.start, *c)).collect();
                let by_scan: Vec<Vec<(u64, bool)>> = fresh.layers.iter().map(listed).collect();
                assert_eq!(by_scan, symbols.layers.iter().map(listed).collect::<Vec<_>>(), "{name}");
                assert!(by_scan.concat().contains(&(entry.start, is_function)), "{name}");
                let indexed = symbols.indexed().get(entry.name).cloned();
                assert_eq!(fresh.by_name(name), indexed, "{name} in {}", file.display());
            }
        }
        assert!(all > 300 && told * 10 > all * 9, "{}: {told} of {all}", file.display());
    }

    #[test]
    fn looking_through_says_what_the_table_says() {
        for (victim, variant) in [("containers", "gcc-O0"), ("null_deref", "static"), ("null_deref", "m32-O2")] {
            check(&testdata::victims::build(victim, variant).unwrap());
        }
    }
}
