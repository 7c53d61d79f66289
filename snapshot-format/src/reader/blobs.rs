//! Blobs out of their chunks.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::Reader;
use super::assemble::{Blob, Loaded};
use super::block::OVER_BUDGET;
use super::groups::{Budget, NOWHERE};
use crate::convert::{ToU64, ToUsize};
use crate::doubts::{DAMAGED, LIMIT, LOST};
use crate::format::block::kind;
use crate::format::directory::Entry;
use crate::row::Row;

/// A piece of a blob, in the order of offsets.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes that are there.
    Bytes(Vec<u8>),
    /// So many bytes are lost.
    Lost(u64),
}

impl<R: Read + Seek> Reader<R> {
    /// The chunks of a table by row, each row's in the order of their offsets.
    pub(super) fn chunks(&self, table: u32) -> BTreeMap<u32, Vec<Entry>> {
        let mut chunks: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        let of_table =
            |entry: &&Entry| entry.id.kind == kind::CHUNK && entry.id.table == table && entry.offset != NOWHERE;
        for entry in self.directory.entries.iter().filter(of_table) {
            chunks.entry(entry.id.group).or_default().push(*entry);
        }
        chunks.values_mut().for_each(|entries| entries.sort_by_key(|entry| (entry.id.first, entry.offset)));
        chunks
    }

    /// The bytes of one chunk.
    pub(super) fn chunk(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let mut budget = Budget::new(entry.id.rows.into());
        let bytes =
            self.payload(entry, &mut budget).and_then(|(_, payload)| match payload.len() == entry.id.rows.to_usize() {
                true => Ok(payload),
                false => Err(format!("has {} bytes, expected {}", payload.len(), entry.id.rows)),
            });
        match bytes {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                let why = if why == OVER_BUDGET { "claims more bytes than its row has" } else { &why };
                let why = format!("{} {why}", self.describe(&entry.id));
                self.doubts.push(DAMAGED, why);
                None
            }
        }
    }

    /// A blob of `length` bytes: what is there and what is lost. `None` if the budget does not suffice.
    pub(super) fn pieces(&mut self, chunks: &[Entry], length: u64, budget: &mut Budget) -> Option<Vec<Piece>> {
        let there: u64 = chunks.iter().map(|entry| u64::from(entry.id.rows)).sum();
        if !budget.take(there) {
            return None;
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0u64;
        for entry in chunks {
            let end = entry.id.first.saturating_add(entry.id.rows.into());
            if entry.id.first < at || end > length {
                continue;
            }
            let Some(bytes) = self.chunk(entry) else { continue };
            if entry.id.first > at {
                pieces.push(Piece::Lost(entry.id.first.saturating_sub(at)));
            }
            at = end;
            match pieces.last_mut() {
                Some(Piece::Bytes(last)) => last.extend_from_slice(&bytes),
                _ => pieces.push(Piece::Bytes(bytes)),
            }
        }
        if at < length {
            pieces.push(Piece::Lost(length.saturating_sub(at)));
        }
        Some(pieces)
    }

    /// Fills in the blobs of notes and attachments. Of a damaged one, the bytes before the damage are kept.
    pub(super) fn fill_blobs<T: Row>(&mut self, loaded: &mut Loaded<T>, budget: &mut Budget) {
        let chunks = self.chunks(T::TABLE);
        for ((row, number), blob) in loaded.rows.iter_mut().zip(&loaded.numbers).zip(&loaded.blobs) {
            let Blob::Chunked(length) = *blob else { continue };
            let entries = chunks.get(number).map(Vec::as_slice).unwrap_or_default();
            let Some(pieces) = self.pieces(entries, length, budget) else {
                let why =
                    format!("the {length} bytes of row {number} of {} are beyond the budget of this reading", T::NAME);
                self.doubts.push(LIMIT, why);
                continue;
            };
            let bytes = match pieces.into_iter().next() {
                Some(Piece::Bytes(bytes)) => bytes,
                _ => Vec::new(),
            };
            if bytes.len().to_u64() < length {
                let why = format!("row {number} of {} has its first {} bytes only, of {length}", T::NAME, bytes.len());
                self.doubts.push(LOST, why);
            }
            row.blob_mut().into_iter().for_each(|to| to.clone_from(&bytes));
        }
    }
}
