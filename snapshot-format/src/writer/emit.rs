//! Blocks on their way out: compression, masks, checksums and the growing directory.

use std::collections::BTreeMap;
use std::io::Write;

use zstd::bulk::Compressor;

use super::WriteOptions;
use crate::convert::{ToU64, to_u32};
use crate::error::Error;
use crate::format::block::{Header, Id, choose_mask, compression, kind};
use crate::format::directory::{Directory, Entry, TableName};
use crate::format::header;
use crate::limits::LIMIT_BLOCKS;

/// Payloads up to this size are compressed at [`SMALL_LEVEL`]: it is the size of nearly every block of a process's
/// snapshot, and takes milliseconds.
const SMALL_PAYLOAD: usize = 256 << 10;

/// The zstd level of small payloads.
const SMALL_LEVEL: i32 = 16;

/// The zstd level at which encodings are compared.
const TRIAL_LEVEL: i32 = 3;

/// Payloads below this are compared as they are; zstd's own framing would decide otherwise.
const TINY_PAYLOAD: usize = 48;

/// The output and what has been written to it.
pub(super) struct Emitter<W: Write> {
    out: W,
    offset: u64,
    entries: Vec<Entry>,
    bytes_by_table: BTreeMap<u32, u64>,
    large: Compressor<'static>,
    small: Compressor<'static>,
    trial: Compressor<'static>,
}

impl<W: Write> Emitter<W> {
    pub(super) fn new(out: W, options: WriteOptions) -> Result<Self, Error> {
        let level = options.level.clamp(1, 22);
        let compressor = |level| Compressor::new(level).map_err(|source| io("preparing compression", 0, source));
        let mut emitter = Self {
            out,
            offset: 0,
            entries: Vec::new(),
            bytes_by_table: BTreeMap::new(),
            large: compressor(level)?,
            small: compressor(level.max(SMALL_LEVEL))?,
            trial: compressor(TRIAL_LEVEL)?,
        };
        emitter.write(&header::encode())?;
        Ok(emitter)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|source| io("writing", self.offset, source))?;
        self.offset = self.offset.saturating_add(bytes.len().to_u64());
        Ok(())
    }

    /// Bytes of the blocks of a table so far.
    pub(super) fn bytes_of(&self, table: u32) -> u64 {
        self.bytes_by_table.get(&table).copied().unwrap_or(0)
    }

    /// Writes a column in the encoding that compresses best; the first of equals.
    pub(super) fn column(&mut self, id: Id, data: u8, candidates: Vec<(u8, Vec<u8>)>) -> Result<(), Error> {
        let mut best: Option<(usize, u8, Vec<u8>)> = None;
        for (encoding, payload) in candidates {
            let size = self.trial_size(&payload)?;
            if best.as_ref().is_none_or(|(smallest, ..)| size < *smallest) {
                best = Some((size, encoding, payload));
            }
        }
        let Some((_, encoding, payload)) = best else { return Ok(()) };
        self.block(Header { id, data, encoding, ..Header::default() }, &payload)
    }

    fn trial_size(&mut self, payload: &[u8]) -> Result<usize, Error> {
        if payload.len() < TINY_PAYLOAD {
            return Ok(payload.len());
        }
        let packed = self.trial.compress(payload).map_err(|source| io("compressing", self.offset, source))?;
        Ok(packed.len().min(payload.len()))
    }

    /// Writes a block; sizes, compression, mask and checksum of `header` are filled in here.
    pub(super) fn block(&mut self, mut header: Header, payload: &[u8]) -> Result<(), Error> {
        if self.entries.len() >= LIMIT_BLOCKS {
            return Err(Error::TooManyBlocks);
        }
        let small = payload.len() <= SMALL_PAYLOAD && header.id.kind != kind::CHUNK;
        let packer = if small { &mut self.small } else { &mut self.large };
        let packed = packer.compress(payload).map_err(|source| io("compressing", self.offset, source))?;
        header.decoded = to_u32(payload.len());
        let mut stored = if packed.len() < payload.len() {
            header.compression = compression::ZSTD;
            packed
        } else {
            header.compression = compression::NONE;
            payload.to_vec()
        };
        header.mask = choose_mask(&stored);
        if header.mask != 0 {
            stored.iter_mut().for_each(|byte| *byte ^= header.mask);
        }
        header.stored = to_u32(stored.len());
        header.crc = crc32fast::hash(&stored);
        let head = header.encode();
        let offset = self.offset;
        self.write(&head)?;
        self.write(&stored)?;
        let length = to_u32(head.len().saturating_add(stored.len()));
        self.entries.push(Entry { id: header.id, offset, length });
        let bytes = self.bytes_by_table.entry(header.id.table).or_default();
        *bytes = bytes.saturating_add(length.into());
        Ok(())
    }

    /// Writes the directory and the trailer. The output, the length of the snapshot and the number of its blocks.
    pub(super) fn finish(mut self, tables: Vec<TableName>) -> Result<(W, u64, usize), Error> {
        let offset = self.offset;
        let payload = Directory { tables, entries: std::mem::take(&mut self.entries) };
        let blocks = payload.entries.len().saturating_add(1);
        let id = Id { kind: kind::DIRECTORY, ..Id::default() };
        self.block(Header { id, ..Header::default() }, &payload.encode())?;
        let length = u32::try_from(self.offset.saturating_sub(offset)).unwrap_or(u32::MAX);
        self.write(&header::encode_trailer(offset, length))?;
        self.out.flush().map_err(|source| io("writing", self.offset, source))?;
        Ok((self.out, self.offset, blocks))
    }
}

pub(super) fn io(doing: &'static str, offset: u64, source: std::io::Error) -> Error {
    Error::Io { doing, offset, source }
}
