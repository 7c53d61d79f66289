//! One block, checked and decompressed.

use std::io::{Read, Seek};

use super::Reader;
use super::groups::Budget;
use crate::convert::{ToU64, ToUsize};
use crate::format::block::{Header, compression};
use crate::format::directory::Entry;
use crate::limits::LIMIT_BLOCK;

/// The error of a block for which the budget has no room.
pub(super) const OVER_BUDGET: &str = "is beyond the budget of this reading";

impl<R: Read + Seek> Reader<R> {
    /// Header and payload of a block, whose decoded bytes are taken from the budget before they are decoded. The error
    /// says what is wrong with it, as the end of a sentence about the block.
    pub(crate) fn payload(&mut self, entry: &Entry, budget: &mut Budget) -> Result<(Header, Vec<u8>), String> {
        let at = entry.offset;
        let mut bytes = self
            .bytes_at(at, entry.length.to_usize())
            .ok_or_else(|| format!("cannot be read: {} bytes at offset {at:#x} were expected", entry.length))?;
        let (header, head) = Header::parse(&bytes).ok_or_else(|| format!("has no intact header at offset {at:#x}"))?;
        if header.id != entry.id {
            return Err(format!("is another block than the directory says at offset {at:#x}"));
        }
        let stored = bytes.split_off(head);
        if stored.len().to_u64() != u64::from(header.stored) {
            return Err(format!("has {} bytes at offset {at:#x}, expected {}", stored.len(), header.stored));
        }
        if header.decoded > LIMIT_BLOCK {
            return Err(format!("claims {} bytes, above the limit of {LIMIT_BLOCK}", header.decoded));
        }
        if !budget.take(header.decoded.into()) {
            return Err(OVER_BUDGET.to_owned());
        }
        let found = crc32fast::hash(&stored);
        if found != header.crc {
            return Err(format!(
                "fails its checksum at offset {at:#x}: expected {:#010x}, found {found:#010x}",
                header.crc
            ));
        }
        let payload = self.unpack(&header, stored).map_err(|why| format!("at offset {at:#x} {why}"))?;
        Ok((header, payload))
    }

    fn unpack(&mut self, header: &Header, mut stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if header.mask != 0 {
            stored.iter_mut().for_each(|byte| *byte ^= header.mask);
        }
        let payload = match header.compression {
            compression::NONE => stored,
            compression::ZSTD => {
                let result = self.unpacker.decompress(&stored, header.decoded.to_usize());
                result.map_err(|error| format!("does not decompress to {} bytes: {error}", header.decoded))?
            }
            other => return Err(format!("has unknown compression {other}")),
        };
        if payload.len() != header.decoded.to_usize() {
            return Err(format!("decompresses to {} bytes, expected {}", payload.len(), header.decoded));
        }
        Ok(payload)
    }
}
