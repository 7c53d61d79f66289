//! Block headers: the frame around every payload.

use memchr::memmem;

use super::varint::{Cursor, put};

/// The bytes every block starts with. A payload never contains them, see [`Header::mask`].
pub(crate) const SYNC: [u8; 4] = [0xf7, b'P', b'B', b'1'];

/// Longest header, bytes: sync, length, 255 bytes of fields, checksum.
pub(crate) const LIMIT_HEADER: usize = 4 + 1 + 255 + 4;

/// Kinds of blocks.
pub(crate) mod kind {
    /// Announces a row group and its columns.
    pub(crate) const HEAD: u8 = 1;
    /// One column of one row group.
    pub(crate) const COLUMN: u8 = 2;
    /// A piece of a blob.
    pub(crate) const CHUNK: u8 = 3;
    /// The directory.
    pub(crate) const DIRECTORY: u8 = 4;
}

/// How a payload is compressed.
pub(crate) mod compression {
    /// As it is.
    pub(crate) const NONE: u8 = 0;
    /// One zstd frame (RFC 8878).
    pub(crate) const ZSTD: u8 = 1;
}

/// What a block is, apart from its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) kind: u8,
    pub(crate) table: u32,
    pub(crate) column: u32,
    /// Row group; the row for chunks.
    pub(crate) group: u32,
    /// First row; the offset in the blob for chunks.
    pub(crate) first: u64,
    /// Rows; bytes for chunks.
    pub(crate) rows: u32,
    /// Address space and address of a chunk's first byte; 0 elsewhere.
    pub(crate) space: u64,
    pub(crate) address: u64,
}

/// A block's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: Id,
    /// Data type of a column.
    pub(crate) data: u8,
    pub(crate) encoding: u8,
    pub(crate) compression: u8,
    /// Every stored byte is XORed with this.
    pub(crate) mask: u8,
    /// Payload bytes in the file.
    pub(crate) stored: u32,
    /// Payload bytes after decompression.
    pub(crate) decoded: u32,
    /// CRC-32 of the payload as stored.
    pub(crate) crc: u32,
}

impl Header {
    /// The bytes of the header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(32);
        let id = &self.id;
        fields.push(id.kind);
        put(&mut fields, id.table.into());
        put(&mut fields, id.column.into());
        put(&mut fields, id.group.into());
        put(&mut fields, id.first);
        put(&mut fields, id.rows.into());
        fields.extend([self.data, self.encoding, self.compression, self.mask]);
        put(&mut fields, self.stored.into());
        put(&mut fields, self.decoded.into());
        fields.extend(self.crc.to_le_bytes());
        if id.kind == kind::CHUNK {
            put(&mut fields, id.space);
            put(&mut fields, id.address);
        }
        let mut bytes = SYNC.to_vec();
        bytes.push(u8::try_from(fields.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&fields);
        let crc = crc32fast::hash(bytes.get(SYNC.len()..).unwrap_or_default());
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, and its length; `None` if there is no whole and intact one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let rest = bytes.strip_prefix(&SYNC)?;
        let fields_len = usize::from(*rest.first()?);
        let (body, tail) = rest.split_at_checked(fields_len.checked_add(1)?)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*tail.first_chunk()?) {
            return None;
        }
        let mut at = Cursor::new(body.get(1..)?);
        let mut header = Self {
            id: Id {
                kind: at.byte()?,
                table: at.varint32()?,
                column: at.varint32()?,
                group: at.varint32()?,
                first: at.varint()?,
                rows: at.varint32()?,
                space: 0,
                address: 0,
            },
            data: at.byte()?,
            encoding: at.byte()?,
            compression: at.byte()?,
            mask: at.byte()?,
            stored: at.varint32()?,
            decoded: at.varint32()?,
            crc: u32::from_le_bytes(at.array()?),
        };
        if header.id.kind == kind::CHUNK {
            header.id.space = at.varint()?;
            header.id.address = at.varint()?;
        }
        Some((header, fields_len.checked_add(SYNC.len().checked_add(5)?)?))
    }
}

/// The first mask under which `payload` does not contain [`SYNC`]; 0 if all 256 fail, which takes deliberate work by
/// whoever chose the bytes, and then costs only what recovery could have told apart.
pub(crate) fn choose_mask(payload: &[u8]) -> u8 {
    (0..=u8::MAX).find(|mask| memmem::find(payload, &SYNC.map(|byte| byte ^ mask)).is_none()).unwrap_or(0)
}

/// Position of [`SYNC`] in `bytes`.
pub(crate) fn find_sync(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, &SYNC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        let id =
            Id { kind: kind::CHUNK, table: 3, column: 14, group: 9, first: 1 << 40, rows: 700, space: 2, address: !0 };
        Header {
            id,
            data: 6,
            encoding: 16,
            compression: 1,
            mask: 0x55,
            stored: 1000,
            decoded: 70_000,
            crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_survives_and_every_flip_is_seen() {
        let bytes = sample().encode();
        assert_eq!(Header::parse(&bytes), Some((sample(), bytes.len())));
        for at in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..at]), None);
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Header::parse(&bad), None);
        }
    }

    #[test]
    fn fields_that_a_later_writer_adds_are_skipped() {
        let mut bytes = sample().encode();
        bytes.truncate(bytes.len() - 4);
        bytes.extend([1, 2, 3]);
        bytes[4] += 3;
        let crc = crc32fast::hash(&bytes[4..]);
        bytes.extend(crc.to_le_bytes());
        assert_eq!(Header::parse(&bytes), Some((sample(), bytes.len())));
    }

    #[test]
    fn a_mask_hides_the_sync_bytes() {
        assert_eq!(choose_mask(b"abcd"), 0);
        let mut payload = b"x".to_vec();
        payload.extend(SYNC);
        payload.extend(SYNC.map(|byte| byte ^ 1));
        let mask = choose_mask(&payload);
        assert_eq!(mask, 2);
        let masked: Vec<u8> = payload.iter().map(|byte| byte ^ mask).collect();
        assert_eq!(find_sync(&masked), None);
        assert_eq!(find_sync(&payload), Some(1));
    }
}
