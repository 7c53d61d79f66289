//! Memory extents, loaded with the snapshot.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::Reader;
use super::assemble::{Blob, Loaded};
use super::blobs::Piece;
use super::groups::Budget;
use crate::convert::ToU64;
use crate::doubts::{INVALID, LIMIT, LOST};
use crate::format::directory::Entry;
use crate::row::Row;
use crate::schema::MemoryExtent;

/// The word of absence for bytes that the snapshot once had.
const CORRUPT: &str = "corrupt";

impl<R: Read + Seek> Reader<R> {
    /// The memory extents, with their bytes if `contents`.
    pub(super) fn load_memory(&mut self, contents: bool, rows: &mut Budget, budget: &mut Budget) -> Vec<MemoryExtent> {
        let loaded = self.load::<MemoryExtent>(contents, rows);
        let chunks = if contents { self.chunks(MemoryExtent::TABLE) } else { Default::default() };
        let Loaded { rows, numbers, blobs } = loaded;
        let known: BTreeSet<u32> = numbers.iter().copied().collect();
        let mut extents = Vec::with_capacity(rows.len());
        for ((extent, number), blob) in rows.into_iter().zip(numbers).zip(blobs) {
            if extent.length > 0 && extent.address.checked_add(extent.length.saturating_sub(1)).is_none() {
                let why = format!("memory row {number} reaches beyond the last address: it is left out");
                self.doubts.push(INVALID, why);
                continue;
            }
            let entries = chunks.get(&number).map(Vec::as_slice).unwrap_or_default();
            match blob {
                _ if !contents => extents.push(extent),
                Blob::Chunked(length) => self.split(extent, length, entries, budget, &mut extents),
                Blob::Unread if extent.length > 0 && extent.absent.is_none() => {
                    extents.push(MemoryExtent { absent: Some(CORRUPT.to_owned()), ..extent });
                }
                Blob::Inline | Blob::Unread => extents.push(extent),
            }
        }
        for entries in chunks.into_iter().filter(|(row, _)| !known.contains(row)).map(|(_, entries)| entries) {
            self.orphans(&entries, budget, &mut extents);
        }
        extents
    }

    /// An extent and its bytes; around lost chunks, several.
    fn split(
        &mut self,
        extent: MemoryExtent,
        length: u64,
        chunks: &[Entry],
        budget: &mut Budget,
        out: &mut Vec<MemoryExtent>,
    ) {
        let at = extent.address;
        let Some(pieces) = self.pieces(chunks, length, budget) else {
            let why =
                format!("the {length} bytes at {at:#x} are beyond the budget of this reading: read them in place");
            self.doubts.push(LIMIT, why);
            out.push(extent);
            return;
        };
        if matches!(pieces.as_slice(), [Piece::Bytes(_)]) {
            let bytes = pieces.into_iter().find_map(|piece| match piece {
                Piece::Bytes(bytes) => Some(bytes),
                Piece::Lost(_) => None,
            });
            out.push(MemoryExtent { bytes: bytes.unwrap_or_default(), ..extent });
            return;
        }
        let mut offset = 0u64;
        for piece in pieces {
            let place =
                MemoryExtent { space: extent.space, address: at.wrapping_add(offset), ..MemoryExtent::default() };
            let part = match piece {
                Piece::Bytes(bytes) => MemoryExtent { length: bytes.len().to_u64(), bytes, ..place },
                Piece::Lost(length) => {
                    let why = format!("{length} bytes of memory at {:#x} are lost", place.address);
                    self.doubts.push(LOST, why);
                    MemoryExtent { length, absent: Some(CORRUPT.to_owned()), ..place }
                }
            };
            offset = offset.saturating_add(part.length);
            out.push(part);
        }
    }

    /// Chunks whose row is lost: they say themselves where they belong.
    fn orphans(&mut self, chunks: &[Entry], budget: &mut Budget, out: &mut Vec<MemoryExtent>) {
        for entry in chunks {
            let (length, address) = (u64::from(entry.id.rows), entry.id.address);
            if length == 0 || address.checked_add(length.saturating_sub(1)).is_none() {
                continue;
            }
            if !budget.take(length) {
                let why = format!("the {length} bytes at {address:#x} are beyond the budget of this reading");
                self.doubts.push(LIMIT, why);
                continue;
            }
            let Some(bytes) = self.chunk(entry) else { continue };
            let space = entry.id.space;
            match out.last_mut() {
                Some(last)
                    if last.space == space
                        && last.address.checked_add(last.length) == Some(address)
                        && !last.bytes.is_empty() =>
                {
                    last.bytes.extend_from_slice(&bytes);
                    last.length = last.length.saturating_add(length);
                }
                _ => out.push(MemoryExtent { space, address, length, bytes, absent: None }),
            }
        }
    }
}
