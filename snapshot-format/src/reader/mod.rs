//! Reading: through the directory where there is one, by scanning for blocks where there is none.

mod assemble;
mod blobs;
mod block;
mod columns;
pub(crate) mod groups;
mod in_place;
mod memory;
mod references;
mod scan;
mod whole;

pub use columns::{Column, ColumnInfo};

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

use zstd::bulk::Decompressor;

use crate::convert::{ToU64, ToUsize};
use crate::doubts::{DAMAGED, Doubts};
use crate::error::Error;
use crate::format::block::{Id, kind};
use crate::format::directory::{Directory, Entry};
use crate::format::header::{self, HEADER_BYTES, TRAILER_BYTES};
use crate::limits::{DEFAULT_MEMORY_BUDGET, DEFAULT_ROW_BUDGET, LIMIT_BLOCK};
use crate::schema::Doubt;
use crate::tables::SPECS;
use groups::Budget;
use in_place::MemoryIndex;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Names of the tables to read; `None` for all. References into tables that are not read are kept unchecked.
    pub tables: Option<BTreeSet<String>>,
    /// Whether to load the bytes of memory extents. Without them, extents have their place and length only.
    pub memory: bool,
    /// Decoded bytes and rows of all tables together, bytes; what is beyond is left out with a doubt.
    pub row_budget: u64,
    /// Bytes of memory, notes and attachments together; what is beyond is left out with a doubt.
    pub memory_budget: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { tables: None, memory: true, row_budget: DEFAULT_ROW_BUDGET, memory_budget: DEFAULT_MEMORY_BUDGET }
    }
}

impl ReadOptions {
    /// Everything but the bytes of memory extents.
    #[must_use]
    pub fn without_memory() -> Self {
        Self { memory: false, ..Self::default() }
    }

    /// Only the named tables, see [`TABLES`](crate::TABLES).
    #[must_use]
    pub fn only<'a>(tables: impl IntoIterator<Item = &'a str>) -> Self {
        Self { tables: Some(tables.into_iter().map(str::to_owned).collect()), ..Self::default() }
    }

    fn wants(&self, table: &str) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.contains(table))
    }
}

/// An open snapshot: reads columns and memory one at a time, or all of it.
pub struct Reader<R> {
    source: R,
    length: u64,
    pub(crate) directory: Directory,
    /// The directory was written by the writer; without it, entries are what scanning found.
    complete: bool,
    doubts: Doubts,
    unpacker: Decompressor<'static>,
    /// Built by the first reading in place.
    memory: Option<MemoryIndex>,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens a snapshot. Only its header, directory and trailer are read, unless it is damaged.
    ///
    /// # Errors
    /// The input fails at its start, is no snapshot, or is one of an unknown version.
    pub fn open(mut source: R) -> Result<Self, Error> {
        let io = |source| Error::Io { doing: "reading the header", offset: 0, source };
        let length = source.seek(SeekFrom::End(0)).map_err(io)?;
        source.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut head = Vec::with_capacity(HEADER_BYTES);
        source.by_ref().take(HEADER_BYTES.to_u64()).read_to_end(&mut head).map_err(io)?;
        let intact = header::check(&head)?;
        let unpacker = Decompressor::new().map_err(io)?;
        let directory = Directory::default();
        let mut reader =
            Self { source, length, directory, complete: false, doubts: Doubts::default(), unpacker, memory: None };
        if !intact {
            let why = "the header at offset 0 fails its checksum: read as version 1".to_owned();
            reader.doubts.push(DAMAGED, why);
        }
        if let Some(directory) = reader.read_directory() {
            reader.directory = directory;
            reader.complete = true;
        } else {
            reader.recover();
        }
        Ok(reader)
    }

    /// What is missing or wrong, as far as it has been looked at.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        self.doubts.list()
    }

    /// Whether the directory was found, so that everything that the writer wrote is known, if perhaps damaged.
    #[must_use]
    pub const fn has_directory(&self) -> bool {
        self.complete
    }

    fn read_directory(&mut self) -> Option<Directory> {
        let at = self.length.checked_sub(TRAILER_BYTES.to_u64())?;
        let (offset, length) = header::parse_trailer(&self.bytes_at(at, TRAILER_BYTES)?)?;
        if offset.checked_add(length.into())? != at {
            return None;
        }
        let id = Id { kind: kind::DIRECTORY, ..Id::default() };
        let payload = self.payload(&Entry { id, offset, length }, &mut Budget::new(LIMIT_BLOCK.into())).ok()?.1;
        let directory = Directory::decode(&payload)?;
        let end = directory.entries.last().map_or(HEADER_BYTES.to_u64(), Entry::end);
        (end == offset).then_some(directory)
    }

    /// Exactly `length` bytes at `offset`; `None` if the file ends before or cannot be read.
    fn bytes_at(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(length.to_u64())?;
        if end > self.length || length > LIMIT_BLOCK.to_usize().saturating_mul(2) {
            return None;
        }
        self.source.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = vec![0; length];
        self.source.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// What a person calls a block.
    fn describe(&self, id: &Id) -> String {
        let table = self.table_name(id.table);
        match id.kind {
            kind::HEAD => format!("the head of rows {} of {table}", span(id.first, id.rows)),
            kind::COLUMN => {
                format!("column {table}.{} of rows {}", self.column_name(id), span(id.first, id.rows))
            }
            kind::CHUNK => format!("bytes {} of the blob of row {} of {table}", span(id.first, id.rows), id.group),
            kind::DIRECTORY => "the directory".to_owned(),
            other => format!("a block of unknown kind {other}"),
        }
    }

    fn table_name(&self, table: u32) -> String {
        if let Some(known) = SPECS.iter().find(|spec| spec.id == table) {
            return known.name.to_owned();
        }
        self.directory.table(table).map_or_else(|| format!("table {table}"), |table| table.name.clone())
    }

    fn column_name(&self, id: &Id) -> String {
        let known = SPECS.iter().find(|spec| spec.id == id.table);
        if let Some(known) = known.and_then(|spec| spec.columns.iter().find(|column| column.id == id.column)) {
            return known.name.to_owned();
        }
        let named = self.directory.table(id.table);
        let named = named.and_then(|table| table.columns.iter().find(|column| column.id == id.column));
        named.map_or_else(|| id.column.to_string(), |column| column.name.clone())
    }
}

/// The rows or bytes from `first` on, as text.
fn span(first: u64, count: u32) -> String {
    format!("{first} to {}", first.saturating_add(u64::from(count)).saturating_sub(1))
}
