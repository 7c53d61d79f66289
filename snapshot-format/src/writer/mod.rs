//! Writing: one pass, to anything that is [`Write`], with memory bounded by one row group a table.

mod blob;
mod emit;
mod table;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::convert::ToU64;
use crate::error::Error;
use crate::format::directory::{ColumnName, TableName, data_number};
use crate::row::Row;
use crate::schema::{Attachment, Fingerprint, MemoryExtent};
use crate::tables::{FingerprintFrame, FingerprintValue};
use emit::Emitter;
use table::TableBuilder;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// The zstd level of large blocks, 1 to 22; out of range means the nearest. Small blocks of tables are compressed
    /// harder whatever this says, because they cost no time.
    pub level: i32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { level: 3 }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of the snapshot, bytes.
    pub bytes: u64,
    /// Number of blocks, the directory among them.
    pub blocks: u64,
    /// Tables that have rows, in the order of their numbers.
    pub tables: Vec<TableSummary>,
}

/// What one table took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Name.
    pub name: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes of its blocks.
    pub bytes: u64,
}

/// Writes a snapshot, table by table, in any order, in as many pieces as the caller likes.
///
/// Rows are buffered until a row group is full; [`flush`](Self::flush) and [`finish`](Self::finish) write the rest. The
/// same calls give the same bytes.
pub struct Writer<W: Write> {
    emitter: Emitter<W>,
    pending: BTreeMap<u32, TableBuilder>,
}

impl<W: Write> Writer<W> {
    /// Starts a snapshot.
    ///
    /// # Errors
    /// The output failed.
    pub fn new(out: W, options: WriteOptions) -> Result<Self, Error> {
        Ok(Self { emitter: Emitter::new(out, options)?, pending: BTreeMap::new() })
    }

    /// Appends rows to their table.
    ///
    /// # Errors
    /// The output failed, a value is longer than the format holds, or the table is full.
    pub fn rows<R: Row>(&mut self, rows: &[R]) -> Result<(), Error> {
        for row in rows {
            let number = self.push(row)?;
            blob::write_if_large(&mut self.emitter, number, row)?;
        }
        Ok(())
    }

    /// Keeps the bytes that `source` yields until its end, from `address` of address space `space` on; their number.
    /// They are streamed in chunks, never held at once.
    ///
    /// # Errors
    /// The output failed, or `source` did; then what it yielded before is kept.
    pub fn memory(&mut self, space: u64, address: u64, source: impl Read) -> Result<u64, Error> {
        let row = self.table::<MemoryExtent>().rows();
        let (length, failure) = blob::stream::<MemoryExtent, _>(&mut self.emitter, row, source, (space, address))?;
        let extent = MemoryExtent { space, address, length, ..MemoryExtent::default() };
        self.push_streamed(&extent, length)?;
        failure.map_or(Ok(length), Err)
    }

    /// Keeps a file under `name`; its length. It is streamed.
    ///
    /// # Errors
    /// The output failed, or `source` did; then what it yielded before is kept.
    pub fn attachment(&mut self, name: &str, source: impl Read) -> Result<u64, Error> {
        let row = self.table::<Attachment>().rows();
        let (length, failure) = blob::stream::<Attachment, _>(&mut self.emitter, row, source, (0, 0))?;
        self.push_streamed(&Attachment { name: name.to_owned(), body: Vec::new() }, length)?;
        failure.map_or(Ok(length), Err)
    }

    /// Keeps the fingerprint.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn fingerprint(&mut self, fingerprint: &Fingerprint) -> Result<(), Error> {
        self.rows(&[FingerprintValue { value: fingerprint.value.clone() }])?;
        fingerprint.frames.iter().try_for_each(|text| self.rows(&[FingerprintFrame { text: text.clone() }]))
    }

    /// Writes the buffered rows of every table, so that a reader of what has been written so far finds them.
    ///
    /// # Errors
    /// The output failed.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.pending.values_mut().try_for_each(|table| table.flush(&mut self.emitter))
    }

    /// Writes what is buffered, the directory and the trailer; gives back the output.
    ///
    /// # Errors
    /// The output failed.
    pub fn finish(mut self) -> Result<(W, Summary), Error> {
        self.flush()?;
        let names = self.pending.iter().map(|(id, table)| table_name(*id, table)).collect();
        let mut tables: Vec<TableSummary> = Vec::new();
        for (id, table) in &self.pending {
            tables.push(TableSummary { name: table.name(), rows: table.rows(), bytes: self.emitter.bytes_of(*id) });
        }
        let (out, bytes, blocks) = self.emitter.finish(names)?;
        Ok((out, Summary { bytes, blocks: blocks.to_u64(), tables }))
    }

    fn table<R: Row>(&mut self) -> &mut TableBuilder {
        self.pending.entry(R::TABLE).or_insert_with(|| TableBuilder::new::<R>())
    }

    /// Buffers a row; its number in the table.
    fn push<R: Row>(&mut self, row: &R) -> Result<u64, Error> {
        let table = self.pending.entry(R::TABLE).or_insert_with(|| TableBuilder::new::<R>());
        let number = table.rows();
        table.push(&mut self.emitter, |column| row.get(column))?;
        Ok(number)
    }

    /// Buffers a row whose blob of `length` bytes has been written as chunks.
    fn push_streamed<R: Row>(&mut self, row: &R, length: u64) -> Result<(), Error> {
        let table = self.pending.entry(R::TABLE).or_insert_with(|| TableBuilder::new::<R>());
        table.push(&mut self.emitter, |column| match column {
            crate::row::CHUNKED => crate::row::Cell::Unsigned(length),
            _ => row.get(column),
        })
    }
}

fn table_name(id: u32, table: &TableBuilder) -> TableName {
    let column = |spec: &crate::row::ColumnSpec| ColumnName {
        id: spec.id,
        data: data_number(spec.data),
        name: spec.name.to_owned(),
    };
    TableName {
        id,
        name: table.name().to_owned(),
        rows: table.rows(),
        columns: table.columns().iter().map(column).collect(),
    }
}
