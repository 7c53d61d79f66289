//! Rows of one table, gathered into row groups.

use std::io::Write;

use super::emit::Emitter;
use crate::convert::{ToU64, to_u32};
use crate::error::Error;
use crate::format::block::{Header, Id, kind};
use crate::format::column::{Pending, encode_head};
use crate::limits::{GROUP_BYTES, LIMIT_GROUP_ROWS, LIMIT_VALUE};
use crate::row::{Cell, ColumnSpec, Row};

/// The row group of a table that is being filled.
pub(super) struct TableBuilder {
    id: u32,
    name: &'static str,
    columns: &'static [ColumnSpec],
    /// Rows in groups already written.
    first: u64,
    group: u32,
    rows: u32,
    bytes: usize,
    pending: Vec<Pending>,
}

impl TableBuilder {
    pub(super) fn new<R: Row>() -> Self {
        Self {
            id: R::TABLE,
            name: R::NAME,
            columns: R::COLUMNS,
            first: 0,
            group: 0,
            rows: 0,
            bytes: 0,
            pending: Vec::new(),
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn columns(&self) -> &'static [ColumnSpec] {
        self.columns
    }

    /// Rows so far, written or not.
    pub(super) fn rows(&self) -> u64 {
        self.first.saturating_add(self.rows.into())
    }

    /// Appends a row, and writes the group when it is full.
    pub(super) fn push<'a, W: Write>(
        &mut self,
        emitter: &mut Emitter<W>,
        cell: impl Fn(u32) -> Cell<'a>,
    ) -> Result<(), Error> {
        let row = self.rows();
        if row >= u64::from(u32::MAX) {
            return Err(Error::TooManyRows { table: self.name });
        }
        let too_long = |spec: &&ColumnSpec| cell(spec.id).string().is_some_and(|bytes| bytes.len() > LIMIT_VALUE);
        if let Some(spec) = self.columns.iter().find(too_long) {
            let length = cell(spec.id).string().map_or(0, |bytes| bytes.len().to_u64());
            return Err(Error::ValueTooLong { table: self.name, column: spec.name, row, length });
        }
        self.pending.resize_with(self.columns.len(), Pending::default);
        for (pending, spec) in self.pending.iter_mut().zip(self.columns) {
            self.bytes = self.bytes.saturating_add(pending.push(cell(spec.id), spec.optional));
        }
        self.rows = self.rows.saturating_add(1);
        if self.rows >= LIMIT_GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.flush(emitter)?;
        }
        Ok(())
    }

    /// Writes the group, unless it is empty.
    pub(super) fn flush<W: Write>(&mut self, emitter: &mut Emitter<W>) -> Result<(), Error> {
        if self.rows == 0 {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let id = Id {
            kind: kind::HEAD,
            table: self.id,
            group: self.group,
            first: self.first,
            rows: self.rows,
            ..Id::default()
        };
        let written: Vec<_> =
            self.columns.iter().zip(pending).filter(|(_, pending)| pending.is_informative()).collect();
        let ids: Vec<u32> = written.iter().map(|(spec, _)| spec.id).collect();
        emitter.block(Header { id, ..Header::default() }, &encode_head(&ids))?;
        for (spec, pending) in written {
            let id = Id { kind: kind::COLUMN, column: spec.id, ..id };
            emitter.column(id, spec.data.number(), pending.candidates(spec.data))?;
        }
        self.first = self.rows();
        self.group = self.group.saturating_add(1);
        self.rows = 0;
        self.bytes = 0;
        Ok(())
    }
}

/// The identity of a chunk of `bytes` at `offset` of the blob of `row`.
pub(super) fn chunk_id<R: Row>(row: u64, offset: u64, bytes: usize, (space, address): (u64, u64)) -> Id {
    Id {
        kind: kind::CHUNK,
        table: R::TABLE,
        column: crate::row::CHUNKED,
        group: u32::try_from(row).unwrap_or(u32::MAX),
        first: offset,
        rows: to_u32(bytes),
        space,
        address,
    }
}
