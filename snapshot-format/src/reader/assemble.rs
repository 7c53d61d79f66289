//! Rows out of columns.

use std::io::{Read, Seek};

use super::groups::{Budget, Group, Outcome};
use super::{Reader, span};
use crate::convert::{ToU64, ToUsize};
use crate::doubts::{INVALID, LIMIT, LOST};
use crate::row::{CHUNKED, Cell, ColumnSpec, Row};

/// The column of blob tables that holds small blobs.
const INLINE: u32 = 14;

/// Where a row's blob is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Blob {
    /// In the row.
    #[default]
    Inline,
    /// In chunks, so many bytes.
    Chunked(u64),
    /// Not read: lost, or not asked for.
    Unread,
}

/// The rows of a table that could be read.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    pub(super) rows: Vec<T>,
    /// The number that each row has in the file.
    pub(super) numbers: Vec<u32>,
    /// For tables with blobs, where they are.
    pub(super) blobs: Vec<Blob>,
}

impl<T> Default for Loaded<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), numbers: Vec::new(), blobs: Vec::new() }
    }
}

/// Which rows of a table were read: translates the file's row numbers to indices of what was read.
#[derive(Debug)]
pub(super) struct Numbers(Vec<u32>);

impl Numbers {
    /// The index of the row that has this number in the file.
    pub(super) fn index(&self, number: u32) -> Option<u32> {
        if self.0.get(number.to_usize()) == Some(&number) {
            return Some(number);
        }
        self.0.binary_search(&number).ok().and_then(|index| u32::try_from(index).ok())
    }
}

impl<T> Loaded<T> {
    /// Splits the rows from their numbers.
    pub(super) fn split(self) -> (Vec<T>, Numbers) {
        (self.rows, Numbers(self.numbers))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// The rows of a table, without chunked blobs; `inline` says whether to read the small ones.
    pub(super) fn load<T: Row>(&mut self, inline: bool, budget: &mut Budget) -> Loaded<T> {
        let mut loaded = Loaded::default();
        let mut next = 0u64;
        for group in self.groups(T::TABLE) {
            if group.first > next {
                let last = group.first.saturating_sub(1);
                self.doubts.push(LOST, format!("rows {next} to {last} of {} are lost", T::NAME));
            }
            next = group.first.saturating_add(group.rows.into());
            let bytes = u64::from(group.rows).saturating_mul(size_of::<T>().to_u64());
            if !budget.take(bytes) || next > u64::from(u32::MAX) {
                let why = format!(
                    "rows {} of {} and those after are beyond the budget of this reading",
                    group.first,
                    T::NAME
                );
                self.doubts.push(LIMIT, why);
                break;
            }
            self.load_group(&group, inline, budget, &mut loaded);
        }
        let rows = self.directory.table(T::TABLE).map_or(0, |table| table.rows);
        if rows > next && !self.groups_are_all_there(T::TABLE, rows) {
            self.doubts.push(LOST, format!("rows {next} to {} of {} are lost", rows.saturating_sub(1), T::NAME));
        }
        loaded
    }

    /// Whether the entries of a table reach its last row; a budget may have ended the reading before.
    fn groups_are_all_there(&self, table: u32, rows: u64) -> bool {
        let of_table = self.directory.entries.iter().filter(|entry| entry.id.table == table);
        of_table.map(|entry| entry.id.first.saturating_add(entry.id.rows.into())).max() >= Some(rows)
    }

    fn load_group<T: Row>(&mut self, group: &Group, inline: bool, budget: &mut Budget, loaded: &mut Loaded<T>) {
        let written = self.written(group, budget);
        let blob = T::COLUMNS.iter().any(|spec| spec.id == CHUNKED && spec.name == "chunked");
        let mut rows = vec![T::default(); group.rows.to_usize()];
        let mut bad = vec![false; rows.len()];
        let mut blobs = vec![if inline { Blob::Inline } else { Blob::Unread }; if blob { rows.len() } else { 0 }];
        for spec in T::COLUMNS {
            let is_inline = blob && spec.id == INLINE;
            if is_inline && !inline {
                continue;
            }
            let outcome = self.column(group, written.as_ref(), spec.id, Some(spec.data), budget);
            match outcome {
                // The default of a field may be another than zero.
                Outcome::Unwritten if T::default().get(spec.id) != spec.unwritten() => {
                    rows.iter_mut().for_each(|row| _ = row.set(spec.id, spec.unwritten()));
                }
                Outcome::Unwritten => {}
                Outcome::Lost | Outcome::Unknown if is_inline => blobs.fill(Blob::Unread),
                Outcome::Lost | Outcome::Unknown if spec.essential => {
                    let why = format!(
                        "rows {} of {} are left out: without their column {} they would mislead",
                        span(group.first, group.rows),
                        T::NAME,
                        spec.name
                    );
                    self.doubts.push(LOST, why);
                    return;
                }
                Outcome::Lost | Outcome::Unknown => {}
                Outcome::Read(column) => {
                    for (index, row) in (0u32..).zip(&mut rows) {
                        let cell = column.get(index).unwrap_or(Cell::Null);
                        let room = budget.take(cell.string().map_or(0, <[u8]>::len).to_u64());
                        if blob && spec.id == CHUNKED {
                            if let (Cell::Unsigned(bytes @ 1..), Some(blob)) = (cell, blobs.get_mut(index.to_usize())) {
                                *blob = Blob::Chunked(bytes);
                            }
                        } else if !room || !row.set(spec.id, cell) {
                            self.misfit::<T>(spec, group.first.saturating_add(index.into()), room);
                            bad.get_mut(index.to_usize()).into_iter().for_each(|bad| *bad |= spec.essential);
                        }
                    }
                }
            }
        }
        let mut blobs = blobs.into_iter();
        for ((number, row), bad) in (group.first..).zip(rows).zip(bad) {
            let blob = blobs.next();
            if !bad {
                loaded.rows.push(row);
                loaded.numbers.push(u32::try_from(number).unwrap_or(u32::MAX));
                loaded.blobs.extend(blob);
            }
        }
    }

    fn misfit<T: Row>(&mut self, spec: &ColumnSpec, row: u64, room: bool) {
        let left = if spec.essential { "the row is left out" } else { "it is left out" };
        if room {
            let why =
                format!("{}.{} of row {row} holds a value that the column cannot have: {left}", T::NAME, spec.name);
            self.doubts.push(INVALID, why);
        } else {
            let why = format!("{}.{} of row {row} is beyond the budget of this reading: {left}", T::NAME, spec.name);
            self.doubts.push(LIMIT, why);
        }
    }
}
