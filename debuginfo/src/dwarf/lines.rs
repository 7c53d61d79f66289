//! The line table of one unit: which line an address belongs to.
//!
//! Rows are kept in the sense in which gdb reads them (`lnp_state_machine::record_line`, `find_pc_sect_line`), because
//! that is what people compare with: rows of line 0 are no rows; of several rows at one address the last statement
//! start wins; a change of file at an address hides what the other file had there.

use super::line_program::{Program, Registers, Sequence};
use super::ranges::RangeMap;
use super::unit::Unit;
use crate::Slice;
use evidence::ToU64;
use gimli::{AttributeValue, Reader as _, Section as _, UnitRef};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most rows kept for one unit: what a unit of some two million source lines needs, and 100 MB.
pub const LIMIT_ROWS: usize = 1 << 22;

/// Most sequences kept for one unit: as many as it may have functions.
pub const LIMIT_SEQUENCES: usize = 1 << 20;

/// One row of the table: from its address to the next row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Address minus the start of the sequence.
    offset: u32,
    file: u32,
    line: u32,
    column: u16,
}

/// Largest header of a line table, in bytes: ten times the largest seen (every file of a unit has an entry of some 6
/// bytes, which takes 150 in memory).
pub const LIMIT_LINE_HEADER: u64 = 1 << 20;

/// The line table of one unit.
#[derive(Debug)]
pub(crate) struct Lines<'m> {
    program: gimli::IncompleteLineProgram<Slice<'m>>,
    opcodes: Program<'m>,
    sequences: OnceLock<Sequences>,
}

/// The sequences of a line program, and the rows of those that were asked for.
#[derive(Debug)]
struct Sequences {
    list: Vec<Sequence>,
    by_address: RangeMap<usize>,
    rows: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    by_sequence: HashMap<usize, Arc<[Row]>>,
    /// How many rows there are in all of them.
    count: usize,
}

/// Where a unit keeps its line table while addresses of it are asked for, and the paths of files for ever.
#[derive(Debug, Default)]
pub(crate) struct LinesSlot<'m> {
    table: Mutex<Option<Option<Arc<Lines<'m>>>>>,
    paths: Mutex<HashMap<u64, Option<Arc<str>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Option<Arc<str>>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
}

impl<'m> Unit<'m> {
    /// The unit's line table; `None` when it has none or it is damaged from the start.
    fn lines(&self) -> Option<Arc<Lines<'m>>> {
        lock(&self.lines.table)
            .get_or_insert_with(|| {
                let lines = Lines::open(self);
                lines.map_err(|e| self.doubt(format!("damaged line table, no lines: {e}"))).ok().flatten().map(Arc::new)
            })
            .clone()
    }

    /// The line of an address.
    pub(crate) fn line_at(&self, at: u64) -> Option<Place> {
        let lines = self.lines()?;
        let row = lines.find(self, at)?;
        Some(Place {
            file: self.file(row.file.into()),
            line: Some(row.line),
            column: Some(row.column.into()).filter(|c| *c != 0),
        })
    }

    /// The addresses at which the line may change.
    pub(crate) fn line_boundaries(&self, into: &mut Vec<u64>) {
        let Some(lines) = self.lines() else { return };
        let sequences = lines.sequences(self);
        for (index, Sequence { addresses, .. }) in sequences.list.iter().enumerate() {
            let rows = lines.rows(self, sequences, index);
            into.extend(rows.iter().map(|r| addresses.start.saturating_add(r.offset.into())));
            into.extend([addresses.start, addresses.end]);
        }
    }

    /// The path of a file by its number in this unit (`DW_AT_decl_file`, `DW_AT_call_file`).
    #[must_use]
    pub fn file(&self, number: u64) -> Option<Arc<str>> {
        if let Some(known) = lock(&self.lines.paths).get(&number) {
            return known.clone();
        }
        let lines = self.lines()?;
        let path = lines.assemble(&self.line_owner().0, number).map(Arc::from);
        lock(&self.lines.paths).entry(number).or_insert(path).clone()
    }

    /// Drops the line table, to be read again when it is needed again; gives the bytes of its program.
    pub(crate) fn forget_lines(&self) -> &'m [u8] {
        let table = lock(&self.lines.table).take().flatten();
        table.map_or(&[], |lines| lines.program.header().raw_program_buf().slice())
    }
}

/// Follows gdb's `lnp_state_machine` through one sequence, and leaves one row for each address.
#[derive(Default)]
struct Recorder {
    /// Rows at `address` that nothing hides yet.
    here: Vec<Candidate>,
    address: u64,
    stmt_at_address: bool,
    last_file: Option<u32>,
    last_line: u32,
    /// The line register at the last row, whether or not that was kept.
    line_register: u32,
    discriminated: bool,
}

#[derive(Clone, Copy)]
struct Candidate {
    file: u32,
    line: u32,
    column: u16,
    is_stmt: bool,
    /// Another discriminator of the line before it: gdb keeps no entry for it; here it only knows a better column.
    repeats: bool,
}

impl Recorder {
    fn record(&mut self, rows: &mut Vec<(u64, Row)>, address: u64, mut row: Candidate, discriminator: u64) {
        let line_changed = self.line_register != row.line;
        self.discriminated = discriminator != 0 || (self.discriminated && !line_changed);
        self.line_register = row.line;
        if address != self.address {
            self.leave(rows);
            (self.address, self.stmt_at_address) = (address, false);
        }
        let file_changed = self.last_file != Some(row.file);
        let hidden = file_changed && !row.is_stmt && self.stmt_at_address;
        if !hidden && row.line != 0 {
            if file_changed {
                self.here.clear();
            }
            row.repeats = !file_changed && row.line == self.last_line && self.discriminated;
            self.here.push(row);
            (self.last_file, self.last_line) = (Some(row.file), row.line);
        }
        self.stmt_at_address |= row.is_stmt;
    }

    /// Chooses among the rows at the address that is left: the last where a statement starts, else the last.
    fn leave(&mut self, rows: &mut Vec<(u64, Row)>) {
        let Some(exact) = self.here.last().copied() else { return };
        let before = rows.last().map(|(_, row)| *row);
        let entries = || self.here.iter().rev().filter(|r| !r.repeats);
        let chosen = entries().find(|r| r.is_stmt).or_else(|| entries().next());
        let mut row = match (chosen, before) {
            (Some(c), _) => Row { offset: 0, file: c.file, line: c.line, column: c.column },
            (None, Some(before)) => before,
            (None, None) => Row { offset: 0, file: exact.file, line: exact.line, column: exact.column },
        };
        if (row.file, row.line) == (exact.file, exact.line) {
            row.column = exact.column;
        }
        self.here.clear();
        if before != Some(row) {
            rows.push((self.address, row));
        }
    }
}

impl Candidate {
    fn of(registers: &Registers) -> Self {
        Self {
            file: u32::try_from(registers.file).unwrap_or(u32::MAX),
            line: u32::try_from(registers.line).unwrap_or(0),
            column: u16::try_from(registers.column).unwrap_or(0),
            is_stmt: registers.is_stmt,
            repeats: false,
        }
    }
}

impl<'m> Lines<'m> {
    fn open(unit: &Unit<'m>) -> Result<Option<Self>, gimli::Error> {
        let (owner, offset) = unit.line_owner();
        let Some(offset) = offset else { return Ok(None) };
        let section = owner.dwarf.debug_line;
        // The length of the header is checked before all of it is put into vectors.
        let mut start = *section.reader();
        start.skip(offset.0)?;
        let (_, format) = start.read_initial_length()?;
        let version = start.read_u16()?;
        start.skip(if version >= 5 { 2 } else { 0 })?;
        if start.read_length(format)?.to_u64() > LIMIT_LINE_HEADER {
            return Err(gimli::Error::UnsupportedOffset);
        }
        let program = section.program(offset, owner.header.address_size(), owner.comp_dir, owner.name)?;
        let opcodes = Program::new(program.header());
        Ok(Some(Self { program, opcodes, sequences: OnceLock::new() }))
    }

    fn sequences(&self, unit: &Unit<'m>) -> &Sequences {
        self.sequences.get_or_init(|| {
            // Rows before damage are as good as others, but a sequence without its end has no known extent.
            let (mut list, damage) = self.opcodes.sequences();
            if let Some(why) = damage {
                unit.doubt(format!("damaged line program, some lines are unknown: {why}"));
            }
            list.retain(|s| s.addresses.start != 0 || unit.zero_is_code);
            if list.len() > LIMIT_SEQUENCES {
                unit.doubt(format!("more than {LIMIT_SEQUENCES} sequences of lines: the rest is unread"));
                list.truncate(LIMIT_SEQUENCES);
            }
            let by_address = RangeMap::new(list.iter().enumerate().map(|(n, s)| (s.addresses.clone(), n)).collect());
            Sequences { list, by_address, rows: Mutex::default() }
        })
    }

    /// The rows of a sequence by address, made when first asked for.
    fn rows(&self, unit: &Unit<'m>, sequences: &Sequences, index: usize) -> Arc<[Row]> {
        let mut made = lock(&sequences.rows);
        if let Some(rows) = made.by_sequence.get(&index) {
            return Arc::clone(rows);
        }
        let left = LIMIT_ROWS.saturating_sub(made.count);
        let rows = sequences.list.get(index).map_or_else(Vec::new, |s| self.run(unit, s, left));
        made.count = made.count.saturating_add(rows.len());
        let rows: Arc<[Row]> = rows.into();
        made.by_sequence.insert(index, Arc::clone(&rows));
        rows
    }

    fn run(&self, unit: &Unit<'m>, sequence: &Sequence, most: usize) -> Vec<Row> {
        let (mut recorder, mut rows) = (Recorder::default(), Vec::new());
        self.opcodes.rows(sequence, |registers| {
            if rows.len() >= most {
                unit.doubt(format!("more than {LIMIT_ROWS} lines: the rest is unread"));
                return false;
            }
            recorder.record(&mut rows, registers.address, Candidate::of(registers), registers.discriminator);
            true
        });
        recorder.leave(&mut rows);
        if !rows.is_sorted_by_key(|(address, _)| *address) {
            rows.sort_by_key(|(address, _)| *address);
        }
        let rows = rows.iter().map_while(|(address, row)| {
            // No sequence spans 4 GiB: branches in one function cannot.
            let offset = u32::try_from(address.checked_sub(sequence.addresses.start)?).ok()?;
            Some(Row { offset, ..*row })
        });
        rows.collect()
    }

    fn find(&self, unit: &Unit<'m>, at: u64) -> Option<Row> {
        let sequences = self.sequences(unit);
        sequences.by_address.covering(at).find_map(|(range, index)| {
            let rows = self.rows(unit, sequences, index);
            let offset = at.checked_sub(range.start)?;
            let after = rows.partition_point(|r| u64::from(r.offset) <= offset);
            rows.get(after.checked_sub(1)?).copied()
        })
    }

    /// Directory and name joined; a relative directory is below the compilation directory.
    fn assemble(&self, unit: &UnitRef<'_, Slice<'m>>, number: u64) -> Option<String> {
        let text = |value: AttributeValue<Slice<'m>>| {
            let text = unit.attr_string(value).ok()?;
            Some(String::from_utf8_lossy(text.slice()).into_owned())
        };
        let header = self.program.header();
        let file = header.file(number)?;
        let mut path = text(file.path_name())?;
        if path.is_empty() {
            return None;
        }
        if !path.starts_with('/') {
            let directory = file.directory(header).and_then(text).unwrap_or_default();
            path = join(directory, &path);
        }
        if !path.starts_with('/')
            && let Some(base) = &unit.comp_dir
        {
            path = join(String::from_utf8_lossy(base.slice()).into_owned(), &path);
        }
        Some(path)
    }
}

fn join(mut directory: String, name: &str) -> String {
    if directory.is_empty() || directory == "." {
        return name.to_owned();
    }
    if !directory.ends_with('/') {
        directory.push('/');
    }
    directory.push_str(name);
    directory
}
