//! The line table of one unit: which line an address belongs to.
//!
//! Rows are kept in the sense in which gdb reads them (`lnp_state_machine::record_line`, `find_pc_sect_line`), because
//! that is what people compare with: rows of line 0 are no rows; of several rows at one address the last statement
//! start wins; a change of file at an address hides what the other file had there.

use super::ranges::RangeMap;
use super::unit::Unit;
use crate::Slice;
use evidence::ToUsize;
use gimli::{AttributeValue, ColumnType, UnitRef};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

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

/// The line table of one unit.
#[derive(Debug)]
pub(crate) struct Lines<'m> {
    rows: Vec<Row>,
    /// Ranges of addresses, each with its rows.
    sequences: RangeMap<(u32, u32)>,
    header: gimli::LineProgramHeader<Slice<'m>>,
    /// Assembled paths, by file number.
    files: Vec<OnceLock<Option<Arc<str>>>>,
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
    pub(crate) fn lines(&self) -> Option<&Lines<'m>> {
        self.lines.get_or_init(|| Lines::read(self)).as_ref()
    }

    /// The line of an address.
    pub(crate) fn line_at(&self, at: u64) -> Option<Place> {
        let lines = self.lines()?;
        let row = lines.find(at)?;
        Some(Place {
            file: lines.file(self, row.file.into()),
            line: Some(row.line),
            column: Some(row.column.into()).filter(|c| *c != 0),
        })
    }

    /// The path of a file by its number in this unit (`DW_AT_decl_file`, `DW_AT_call_file`).
    #[must_use]
    pub fn file(&self, number: u64) -> Option<Arc<str>> {
        self.lines()?.file(self, number)
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
    fn read(unit: &Unit<'m>) -> Option<Self> {
        let (owner, offset) = unit.line_owner();
        let program =
            owner.dwarf.debug_line.program(offset?, owner.header.address_size(), owner.comp_dir, owner.name).ok()?;
        let header = program.header().clone();
        let (mut rows, mut sequences) = (Vec::<Row>::new(), Vec::<Sequence>::new());
        let (mut recorder, mut sequence, mut start) = (Recorder::default(), Vec::new(), u64::MAX);
        let mut machine = program.rows();
        // Rows read before damage are as good as others, but a sequence without its end has no known extent.
        while let Ok(Some((_, row))) = machine.next_row() {
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
        let files = header.file_names().len().saturating_add(1);
        Some(Self {
            rows,
            sequences: RangeMap::new(sequences),
            header,
            files: std::iter::repeat_with(OnceLock::new).take(files).collect(),
        })
    }

    /// The bytes of the line program.
    pub(crate) fn program(&self) -> &'m [u8] {
        self.header.raw_program_buf().slice()
    }

    fn find(&self, at: u64) -> Option<Row> {
        self.sequences.covering(at).find_map(|(range, (first, end))| {
            let rows = self.rows.get(first.to_usize()..end.to_usize())?;
            let offset = at.checked_sub(range.start)?;
            let after = rows.partition_point(|r| u64::from(r.offset) <= offset);
            rows.get(after.checked_sub(1)?).copied()
        })
    }

    /// The path of a file by its number.
    fn file(&self, unit: &Unit<'m>, number: u64) -> Option<Arc<str>> {
        let slot = self.files.get(number.to_usize())?;
        slot.get_or_init(|| self.assemble(&unit.line_owner().0, number).map(Arc::from)).clone()
    }

    /// Directory and name joined; a relative directory is below the compilation directory.
    fn assemble(&self, unit: &UnitRef<'_, Slice<'m>>, number: u64) -> Option<String> {
        let text = |value: AttributeValue<Slice<'m>>| {
            let text = unit.attr_string(value).ok()?;
            Some(String::from_utf8_lossy(text.slice()).into_owned())
        };
        let file = self.header.file(number)?;
        let mut path = text(file.path_name())?;
        if path.is_empty() {
            return None;
        }
        if !path.starts_with('/') {
            let directory = file.directory(&self.header).and_then(text).unwrap_or_default();
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
