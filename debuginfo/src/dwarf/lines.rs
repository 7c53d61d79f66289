//! The line table of one unit: which line an address belongs to.
//!
//! Rows are kept in the sense in which gdb reads them (`lnp_state_machine::record_line`, `find_pc_sect_line`), because
//! that is what people compare with: rows of line 0 are no rows; of several rows at one address the last statement
//! start wins; a change of file at an address hides what the other file had there.

use super::ranges::RangeMap;
use super::unit::Unit;
use crate::Slice;
use evidence::{ToU64, ToUsize};
use gimli::{AttributeValue, ColumnType, Reader as _, Section as _, UnitRef};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most rows kept for one unit: what a unit of some two million source lines needs, and 100 MB.
pub const LIMIT_ROWS: usize = 1 << 22;

/// One row of the table: from its address to the next row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Address minus the start of the sequence.
    offset: u32,
    file: u32,
    line: u32,
    column: u16,
}

/// Addresses, and which rows are theirs.
type Sequence = (Range<u64>, (u32, u32));

/// Largest header of a line table, in bytes: ten times the largest seen (every file of a unit has an entry of some 6
/// bytes, which takes 150 in memory).
pub const LIMIT_LINE_HEADER: u64 = 1 << 20;

/// The line table of one unit.
#[derive(Debug)]
pub(crate) struct Lines<'m> {
    program: gimli::IncompleteLineProgram<Slice<'m>>,
    rows: OnceLock<Rows>,
}

/// What the line program makes.
#[derive(Debug)]
struct Rows {
    rows: Vec<Row>,
    /// Ranges of addresses, each with its rows.
    sequences: RangeMap<(u32, u32)>,
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
        let table = lines.rows.get_or_init(|| lines.run(self));
        for (range, (first, end)) in table.sequences.iter() {
            let rows = table.rows.get(first.to_usize()..end.to_usize()).unwrap_or_default();
            into.extend(rows.iter().map(|r| range.start.saturating_add(r.offset.into())));
            into.extend([range.start, range.end]);
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

/// Adds the rows of one finished sequence.
fn keep(rows: &mut Vec<Row>, sequences: &mut Vec<Sequence>, sequence: &mut [(u64, Row)], range: Range<u64>) {
    if !sequence.is_sorted_by_key(|(address, _)| *address) {
        sequence.sort_by_key(|(address, _)| *address);
    }
    let first = rows.len();
    rows.extend(sequence.iter().map_while(|(address, row)| {
        // No sequence spans 4 GiB: branches in one function cannot.
        let offset = u32::try_from(address.checked_sub(range.start)?).ok()?;
        Some(Row { offset, ..*row })
    }));
    if let (Ok(first), Ok(end)) = (u32::try_from(first), u32::try_from(rows.len())) {
        sequences.push((range, (first, end)));
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
        Ok(Some(Self { program, rows: OnceLock::new() }))
    }

    fn run(&self, unit: &Unit<'m>) -> Rows {
        let (mut rows, mut sequences) = (Vec::<Row>::new(), Vec::<Sequence>::new());
        let (mut recorder, mut sequence, mut start) = (Recorder::default(), Vec::new(), u64::MAX);
        let mut machine = self.program.clone().rows();
        // Rows read before damage are as good as others, but a sequence without its end has no known extent.
        loop {
            let row = match machine.next_row() {
                Ok(Some((_, row))) => row,
                Ok(None) => break,
                Err(e) => {
                    unit.doubt(format!("damaged line program, some lines are unknown: {e}"));
                    break;
                }
            };
            if row.end_sequence() {
                recorder.leave(&mut sequence);
                let range = std::mem::replace(&mut start, u64::MAX)..row.address();
                if range.start < range.end && (range.start != 0 || unit.zero_is_code) {
                    keep(&mut rows, &mut sequences, &mut sequence, range);
                }
                sequence.clear();
                recorder = Recorder { here: std::mem::take(&mut recorder.here), ..Recorder::default() };
                continue;
            }
            if rows.len().saturating_add(sequence.len()) >= LIMIT_ROWS {
                unit.doubt(format!("more than {LIMIT_ROWS} lines: the rest is unread"));
                break;
            }
            start = start.min(row.address());
            let column = match row.column() {
                ColumnType::LeftEdge => 0,
                ColumnType::Column(c) => u16::try_from(c.get()).unwrap_or(0),
            };
            let candidate = Candidate {
                file: u32::try_from(row.file_index()).unwrap_or(u32::MAX),
                line: row.line().and_then(|l| u32::try_from(l.get()).ok()).unwrap_or(0),
                column,
                is_stmt: row.is_stmt(),
                repeats: false,
            };
            recorder.record(&mut sequence, row.address(), candidate, row.discriminator());
        }
        rows.shrink_to_fit();
        Rows { rows, sequences: RangeMap::new(sequences) }
    }

    fn find(&self, unit: &Unit<'m>, at: u64) -> Option<Row> {
        let table = self.rows.get_or_init(|| self.run(unit));
        table.sequences.covering(at).find_map(|(range, (first, end))| {
            let rows = table.rows.get(first.to_usize()..end.to_usize())?;
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
