//! The kernel's symbols: out of the dump, or of a `unix` file that was given.

use super::super::Given;
use debuginfo::images::SymbolKind;
use debuginfo::symbols::{Stated, SymbolTable};
use evidence::{Addr, Doubt};
use object::{Object as _, ObjectSymbol as _, SymbolKind as Kind};
use std::collections::HashMap;
use std::ops::Range;

/// Most symbols: a kernel with all its modules has 300,000.
const LIMIT_SYMBOLS: usize = 4 << 20;
/// Bytes of a `unix` file.
const LIMIT_FILE: u64 = 256 << 20;

struct Row {
    start: u64,
    size: u64,
    name: String,
    function: bool,
    global: bool,
}

/// All symbols by address, and by name.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    names: HashMap<String, u64>,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Where a symbol lies. Global ones come before local ones of the same name.
    pub(super) fn find(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied().filter(|at| *at != 0)
    }

    /// Where a variable lies, and its size, which may be 0 where nothing tells.
    pub(super) fn extent(&self, name: &str) -> Option<(u64, u64)> {
        let start = self.find(name)?;
        let from = self.rows.partition_point(|r| r.start < start);
        let mut rows = self.rows.get(from..)?.iter().take_while(|r| r.start == start);
        Some((start, rows.find(|r| r.name == name).map_or(0, |r| r.size)))
    }

    /// The function an address lies in.
    pub(super) fn function(&self, at: Addr) -> Option<&str> {
        let row = self.rows.get(self.rows.partition_point(|r| r.start <= at.0).checked_sub(1)?)?;
        let inside = at.0.wrapping_sub(row.start) < row.size.max(1);
        (inside && row.function).then_some(row.name.as_str())
    }

    /// The symbol at an address, with its distance where that is not 0.
    pub(super) fn name(&self, at: Addr) -> Option<String> {
        let row = self.rows.get(self.rows.partition_point(|r| r.start <= at.0).checked_sub(1)?)?;
        let skip = at.0.wrapping_sub(row.start);
        match skip {
            0 => Some(row.name.clone()),
            n if n < row.size => Some(format!("{}+{n:#x}", row.name)),
            _ => None,
        }
    }

    /// The symbols of one module's code.
    pub(super) fn of(&self, code: Range<u64>) -> SymbolTable {
        let mut table = SymbolTable::new(SymbolKind::Symtab, code.clone());
        let from = self.rows.partition_point(|r| r.start < code.start);
        for r in self.rows.get(from..).unwrap_or_default().iter().take_while(|r| r.start < code.end) {
            let size = Some(r.size).filter(|s| *s > 0);
            table.push(&Stated { name: &r.name, start: r.start, size, function: r.function, global: r.global });
        }
        table.finish()
    }

    /// From the first function to the end of the last one.
    pub(super) fn code(&self) -> Option<Range<u64>> {
        let functions = || self.rows.iter().filter(|r| r.function && r.start != 0);
        let end = functions().map(|r| r.start.saturating_add(r.size.max(1))).max()?;
        Some(functions().map(|r| r.start).min()?..end)
    }
}

/// Reads the table that there is.
pub(super) fn read(given: Given<'_>) -> Table {
    let doubt = |why: String| given.doubts.push(Doubt::new("kernel-symbols", why));
    let carried = given.target.machine().and_then(|m| m.symbol_file()).map(parse);
    match carried {
        Some(Ok(table)) if !table.is_empty() => return table,
        Some(Err(why)) => doubt(format!("the dump's own symbol table cannot be read: {why}")),
        _ => {}
    }
    let Some(path) = &given.locator.kernel else { return Table::default() };
    let small = path.metadata().is_ok_and(|m| m.len() <= LIMIT_FILE);
    match std::fs::read(path) {
        Ok(bytes) if small => match parse(&bytes) {
            Ok(table) => return table,
            Err(why) => doubt(format!("{}: {why}", path.display())),
        },
        Ok(_) => doubt(format!("{}: is larger than a kernel's symbol table ({LIMIT_FILE} bytes)", path.display())),
        Err(e) => doubt(format!("{}: {e}", path.display())),
    }
    Table::default()
}

fn parse(bytes: &[u8]) -> Result<Table, String> {
    let file = object::File::parse(bytes).map_err(|e| e.to_string())?;
    let mut table = Table::default();
    for symbol in file.symbols().take(LIMIT_SYMBOLS) {
        let Ok(name) = symbol.name() else { continue };
        // ksyms makes every symbol absolute, so that only its type tells code from data.
        let function = symbol.kind() == Kind::Text;
        if name.is_empty() || !(function || matches!(symbol.kind(), Kind::Data | Kind::Unknown | Kind::Label)) {
            continue;
        }
        let (start, global) = (symbol.address(), symbol.is_global());
        if global || !table.names.contains_key(name) {
            table.names.insert(name.to_owned(), start);
        }
        table.rows.push(Row { start, size: symbol.size(), name: name.to_owned(), function, global });
    }
    table.rows.sort_by(|a, b| (a.start, !a.global, &a.name).cmp(&(b.start, !b.global, &b.name)));
    Ok(table)
}
