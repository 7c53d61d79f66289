//! The first sixteen bytes of a file, and its trailer.

use crate::error::Error;

/// The first eight bytes of every snapshot. Like PNG's, they show what text-mode transfer does to a file: the first is
/// lost to seven-bit channels and is no valid UTF-8, CR LF and LF are swapped by line-end conversion, and 0x1A ends
/// a text file on the systems that have such a character.
pub const MAGIC: [u8; 8] = [0x8f, b'P', b'F', b'S', b'\r', b'\n', 0x1a, b'\n'];

/// The format version this crate writes.
pub const VERSION: u16 = 1;

/// Length of the file header, bytes.
pub(crate) const HEADER_BYTES: usize = 16;

/// Length of the trailer, bytes.
pub(crate) const TRAILER_BYTES: usize = 24;

const END_MAGIC: [u8; 8] = [0x8f, b'P', b'F', b'E', b'\r', b'\n', 0x1a, b'\n'];

/// The header of a file of [`VERSION`].
pub(crate) fn encode() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let fields = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain([0, 0]);
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    let crc = crc32fast::hash(bytes.first_chunk::<12>().map_or(&[][..], |head| &head[..]));
    for (to, from) in bytes.iter_mut().skip(12).zip(crc.to_le_bytes()) {
        *to = from;
    }
    bytes
}

/// Whether the header's checksum holds. With a good one, an unknown version is an error; with a bad one, the caller
/// tries version 1, whose blocks identify themselves.
pub(crate) fn check(bytes: &[u8]) -> Result<bool, Error> {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Error::NotASnapshot { found: bytes.to_vec() });
    };
    if *magic != MAGIC {
        return Err(if mangled(bytes) { Error::TextMode } else { Error::NotASnapshot { found: magic.to_vec() } });
    }
    let (Some(version), Some(body), Some(crc)) = (rest.first_chunk::<2>(), bytes.get(..12), bytes.get(12..16)) else {
        return Ok(false);
    };
    if crc != crc32fast::hash(body).to_le_bytes() {
        return Ok(false);
    }
    match u16::from_le_bytes(*version) {
        VERSION => Ok(true),
        version => Err(Error::Version { found: version }),
    }
}

/// Whether the bytes look like a snapshot after line-end conversion or on a seven-bit channel.
fn mangled(bytes: &[u8]) -> bool {
    [
        &[0x8f, b'P', b'F', b'S', b'\n', 0x1a][..],
        &[0x8f, b'P', b'F', b'S', b'\r', 0x1a],
        &[0x8f, b'P', b'F', b'S', b'\r', b'\r'],
        &[0x8f, b'P', b'F', b'S', b'\n', b'\n'],
        &[0x8f, b'P', b'F', b'S', b'\r', b'\n', 0x1a, b'\r'],
        &[0x0f, b'P', b'F', b'S'],
        &[0xef, 0xbf, 0xbd, b'P', b'F', b'S'],
        &[0xc2, 0x8f, b'P', b'F', b'S'],
    ]
    .iter()
    .any(|form| bytes.starts_with(form))
}

/// The trailer that points at the directory block.
pub(crate) fn encode_trailer(offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TRAILER_BYTES);
    bytes.extend(offset.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(END_MAGIC);
    bytes
}

/// Offset and length of the directory block.
pub(crate) fn parse_trailer(bytes: &[u8]) -> Option<(u64, u32)> {
    let (body, rest) = bytes.split_first_chunk::<12>()?;
    let (crc, magic) = rest.split_first_chunk::<4>()?;
    if magic != END_MAGIC || crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (offset, length) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*offset), u32::from_le_bytes(length.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_recognised_and_mangling_is_named() {
        let header = encode();
        assert!(check(&header).unwrap());
        let mut flipped = header;
        flipped[9] ^= 1;
        assert!(!check(&flipped).unwrap());
        assert!(!check(&header[..10]).unwrap());
        let unix: Vec<u8> = header.iter().copied().filter(|byte| *byte != b'\r').collect();
        assert!(matches!(check(&unix), Err(Error::TextMode)));
        let seven: Vec<u8> = header.iter().map(|byte| byte & 0x7f).collect();
        assert!(matches!(check(&seven), Err(Error::TextMode)));
        let utf8 = String::from_utf8_lossy(&header).into_owned();
        assert!(matches!(check(utf8.as_bytes()), Err(Error::TextMode)));
        assert!(matches!(check(b"\x7fELF\x02\x01\x01\0\0\0"), Err(Error::NotASnapshot { .. })));
        assert!(matches!(check(b""), Err(Error::NotASnapshot { .. })));
    }

    #[test]
    fn a_newer_version_is_an_error_that_says_so() {
        let mut header = encode();
        header[8] = 2;
        let crc = crc32fast::hash(&header[..12]).to_le_bytes();
        header[12..].copy_from_slice(&crc);
        assert!(matches!(check(&header), Err(Error::Version { found: 2 })));
    }

    #[test]
    fn a_trailer_survives_and_damage_is_seen() {
        let trailer = encode_trailer(0x1234, 99);
        assert_eq!(trailer.len(), TRAILER_BYTES);
        assert_eq!(parse_trailer(&trailer), Some((0x1234, 99)));
        for at in 0..TRAILER_BYTES {
            let mut bad = trailer.clone();
            bad[at] ^= 4;
            assert_eq!(parse_trailer(&bad), None);
        }
    }
}
