//! Large byte strings, in chunks.

use std::io::{ErrorKind, Read, Write};

use super::emit::{Emitter, io};
use super::table::chunk_id;
use crate::convert::ToU64;
use crate::error::Error;
use crate::format::block::Header;
use crate::limits::{CHUNK_BYTES, INLINE_BLOB};
use crate::row::{DataType, Row};

/// Writes the blob of a row as chunks if it is too large for its column.
pub(super) fn write_if_large<R: Row, W: Write>(emitter: &mut Emitter<W>, number: u64, row: &R) -> Result<(), Error> {
    if row.blob().len() <= INLINE_BLOB {
        return Ok(());
    }
    stream::<R, W>(emitter, number, row.blob(), row.place()).map(|_| ())
}

/// Writes what `source` yields as chunks of row `row`. Its length, and the error that ended it early.
pub(super) fn stream<R: Row, W: Write>(
    emitter: &mut Emitter<W>,
    row: u64,
    mut source: impl Read,
    (space, address): (u64, u64),
) -> Result<(u64, Option<Error>), Error> {
    let mut chunk = Vec::new();
    let mut offset = 0u64;
    loop {
        chunk.clear();
        let failure = fill(&mut source, &mut chunk);
        if !chunk.is_empty() {
            let id = chunk_id::<R>(row, offset, chunk.len(), (space, address.wrapping_add(offset)));
            emitter.block(Header { id, data: DataType::Bytes.number(), ..Header::default() }, &chunk)?;
            offset = offset.saturating_add(chunk.len().to_u64());
        }
        if failure.is_some() || chunk.len() < CHUNK_BYTES {
            return Ok((offset, failure.map(|source| io("reading what is to be kept", offset, source))));
        }
    }
}

/// Reads up to a chunk; the error that ended it early.
fn fill(source: &mut impl Read, chunk: &mut Vec<u8>) -> Option<std::io::Error> {
    loop {
        let left = CHUNK_BYTES.saturating_sub(chunk.len());
        match source.take(left.to_u64()).read_to_end(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Some(error),
            Ok(_) => return None,
        }
    }
}
