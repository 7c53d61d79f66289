//! The directory's payload: names of tables and columns, and where every block lies.

use super::block::{Id, kind};
use super::header::HEADER_BYTES;
use super::varint::{Cursor, put};
use crate::convert::{ToU64, ToUsize};
use crate::limits::{LIMIT_BLOCKS, LIMIT_NAMES};
use crate::row::DataType;

/// A column as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnName {
    pub(crate) id: u32,
    pub(crate) data: u8,
    pub(crate) name: String,
}

/// A table as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) columns: Vec<ColumnName>,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    /// Offset of the header in the file.
    pub(crate) offset: u64,
    /// Bytes of header and payload.
    pub(crate) length: u32,
}

impl Entry {
    /// Offset of the first byte behind the block.
    pub(crate) const fn end(&self) -> u64 {
        self.offset.saturating_add(widen(self.length))
    }
}

#[allow(clippy::as_conversions, reason = "u64::from is not const, and widening loses nothing")]
const fn widen(value: u32) -> u64 {
    value as u64
}

/// What a directory says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) tables: Vec<TableName>,
    pub(crate) entries: Vec<Entry>,
}

impl Directory {
    /// The payload. Blocks follow each other without gaps, so that lengths say offsets.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.tables.len().to_u64());
        for table in &self.tables {
            put(&mut out, table.id.into());
            put_text(&mut out, &table.name);
            put(&mut out, table.rows);
            put(&mut out, table.columns.len().to_u64());
            for column in &table.columns {
                put(&mut out, column.id.into());
                out.push(column.data);
                put_text(&mut out, &column.name);
            }
        }
        put(&mut out, self.entries.len().to_u64());
        for Entry { id, length, .. } in &self.entries {
            out.push(id.kind);
            put(&mut out, id.table.into());
            put(&mut out, id.column.into());
            put(&mut out, id.group.into());
            put(&mut out, id.first);
            put(&mut out, id.rows.into());
            put(&mut out, (*length).into());
            if id.kind == kind::CHUNK {
                put(&mut out, id.space);
                put(&mut out, id.address);
            }
        }
        out
    }

    /// Reads a payload; `None` if it contradicts itself. What a later writer adds at its end is skipped.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut at = Cursor::new(payload);
        let mut tables = Vec::new();
        for _ in 0..limited(at.varint()?)? {
            let (id, name, rows) = (at.varint32()?, text(&mut at)?, at.varint()?);
            let count = limited(at.varint()?)?;
            let column = |_| Some(ColumnName { id: at.varint32()?, data: at.byte()?, name: text(&mut at)? });
            let columns = (0..count).map(column).collect::<Option<_>>()?;
            tables.push(TableName { id, name, rows, columns });
        }
        let count = at.varint()?.to_usize();
        if count > LIMIT_BLOCKS {
            return None;
        }
        let mut offset = HEADER_BYTES.to_u64();
        let mut entries = Vec::new();
        for _ in 0..count {
            let mut id = Id {
                kind: at.byte()?,
                table: at.varint32()?,
                column: at.varint32()?,
                group: at.varint32()?,
                first: at.varint()?,
                rows: at.varint32()?,
                space: 0,
                address: 0,
            };
            let length = at.varint32()?;
            if id.kind == kind::CHUNK {
                id.space = at.varint()?;
                id.address = at.varint()?;
            }
            let entry = Entry { id, offset, length };
            offset = entry.end();
            entries.push(entry);
        }
        Some(Self { tables, entries })
    }

    /// The name of a table, if the file gives one.
    pub(crate) fn table(&self, id: u32) -> Option<&TableName> {
        self.tables.iter().find(|table| table.id == id)
    }
}

fn limited(count: u64) -> Option<u64> {
    (count <= LIMIT_NAMES).then_some(count)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len().to_u64());
    out.extend_from_slice(text.as_bytes());
}

fn text(at: &mut Cursor<'_>) -> Option<String> {
    let length = at.varint()?.to_usize();
    Some(String::from_utf8_lossy(at.take(length)?).into_owned())
}

/// The number of a data type, for a [`ColumnName`].
pub(crate) const fn data_number(data: DataType) -> u8 {
    data.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_survives_and_short_ones_are_refused() {
        let column = ColumnName { id: 14, data: 6, name: "bytes".into() };
        let table = TableName { id: 21, name: "memory".into(), rows: 3, columns: vec![column] };
        let head = Id { kind: kind::HEAD, table: 21, rows: 3, ..Id::default() };
        let chunk = Id { kind: kind::CHUNK, column: 14, group: 2, space: 7, address: 0x1000, ..head };
        let entries = vec![Entry { id: head, offset: 16, length: 30 }, Entry { id: chunk, offset: 46, length: 500 }];
        let directory = Directory { tables: vec![table], entries };
        let payload = directory.encode();
        assert_eq!(Directory::decode(&payload), Some(directory));
        for cut in 0..payload.len() {
            assert_eq!(Directory::decode(&payload[..cut]), None);
        }
    }
}
