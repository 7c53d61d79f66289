//! One column of one table, without the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

use super::Reader;
use super::groups::{Budget, Outcome};
use crate::error::Error;
use crate::format::block::kind;
use crate::format::column::Decoded;
use crate::format::directory::{ColumnName, TableName};
use crate::limits::DEFAULT_ROW_BUDGET;
use crate::row::{Cell, ColumnSpec, DataType};
use crate::tables::SPECS;

/// A column that a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Name of the table; its number if neither file nor format names it.
    pub table: String,
    /// Name of the column; likewise.
    pub column: String,
    /// Data type; `None` if this version does not know it.
    pub data: Option<DataType>,
    /// Rows of the table.
    pub rows: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// The values of a column.
#[derive(Clone, Debug, Default)]
pub struct Column {
    parts: Vec<Part>,
    rows: u64,
}

#[derive(Clone, Debug)]
struct Part {
    first: u64,
    rows: u32,
    values: PartValues,
}

#[derive(Clone, Debug)]
enum PartValues {
    Read(Box<Decoded>),
    /// The writer left it out: every cell is this.
    Default(Option<ColumnSpec>),
}

impl Column {
    /// Rows of the table.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.rows
    }

    /// Whether the table has no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The cell of a row; `None` where there is no such row or it is lost.
    #[must_use]
    pub fn get(&self, row: u64) -> Option<Cell<'_>> {
        let part = self.parts.get(self.parts.partition_point(|part| part.first <= row).checked_sub(1)?)?;
        let index = u32::try_from(row.checked_sub(part.first)?).ok().filter(|index| *index < part.rows)?;
        match &part.values {
            PartValues::Read(decoded) => decoded.get(index),
            PartValues::Default(spec) => Some(spec.map_or(Cell::Null, |spec| spec.unwritten())),
        }
    }

    /// The cells of all rows, `None` for those that are lost.
    pub fn iter(&self) -> impl Iterator<Item = Option<Cell<'_>>> {
        (0..self.rows).map(|row| self.get(row))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// The columns that the file has, known to this version or not, in the order of their numbers.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnInfo> {
        let mut columns = Vec::new();
        for table in self.tables() {
            for column in &table.columns {
                let of_column = self.directory.entries.iter().filter(|entry| {
                    entry.id.kind == kind::COLUMN && (entry.id.table, entry.id.column) == (table.id, column.id)
                });
                let bytes = of_column.map(|entry| u64::from(entry.length)).sum();
                columns.push(ColumnInfo {
                    table: table.name.clone(),
                    column: column.name.clone(),
                    data: DataType::from_number(column.data),
                    rows: table.rows,
                    bytes,
                });
            }
        }
        columns
    }

    /// Reads one column. Only the blocks of that column are read.
    ///
    /// # Errors
    /// The file has no such table or column.
    pub fn read_column(&mut self, table: &str, column: &str) -> Result<Column, Error> {
        let missing = || Error::NoSuchColumn { table: table.to_owned(), column: column.to_owned() };
        let tables = self.tables();
        let found = tables.iter().find(|named| named.name == table).ok_or_else(missing)?;
        let named = found.columns.iter().find(|named| named.name == column).ok_or_else(missing)?;
        let known = SPECS.iter().find(|spec| spec.id == found.id);
        let spec = known.and_then(|spec| spec.columns.iter().find(|spec| spec.id == named.id));
        let data = spec.map(|spec| spec.data);
        let mut budget = Budget::new(DEFAULT_ROW_BUDGET);
        let mut parts = Vec::new();
        for group in self.groups(found.id) {
            let written = self.written(&group, &mut budget);
            let values = match self.column(&group, written.as_ref(), named.id, data, &mut budget) {
                Outcome::Read(decoded) => PartValues::Read(decoded),
                Outcome::Unwritten => PartValues::Default(spec.copied()),
                Outcome::Lost | Outcome::Unknown => continue,
            };
            parts.push(Part { first: group.first, rows: group.rows, values });
        }
        Ok(Column { parts, rows: found.rows })
    }

    /// The tables as the file names them, else those that were found, as the format names them.
    fn tables(&self) -> Vec<TableName> {
        if !self.directory.tables.is_empty() {
            return self.directory.tables.clone();
        }
        let mut tables: BTreeMap<u32, (u64, BTreeSet<u32>)> = BTreeMap::new();
        for entry in self.directory.entries.iter().filter(|entry| matches!(entry.id.kind, kind::HEAD | kind::COLUMN)) {
            let id = entry.id;
            let (rows, columns) = tables.entry(id.table).or_default();
            *rows = id.first.saturating_add(id.rows.into()).max(*rows);
            columns.extend((id.kind == kind::COLUMN).then_some(id.column));
        }
        let table = |(id, (rows, columns)): (u32, (u64, BTreeSet<u32>))| {
            let column = |column: u32| {
                let known = SPECS.iter().find(|spec| spec.id == id);
                let known = known.and_then(|spec| spec.columns.iter().find(|spec| spec.id == column));
                let name = known.map_or_else(|| column.to_string(), |spec| spec.name.to_owned());
                ColumnName { id: column, data: known.map_or(0, |spec| spec.data.number()), name }
            };
            TableName { id, name: self.table_name(id), rows, columns: columns.into_iter().map(column).collect() }
        };
        tables.into_iter().map(table).collect()
    }
}
