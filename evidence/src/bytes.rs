//! Fixed-width integers out of byte slices, without panics: `None` where the slice ends too early.

use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// The byte order of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Endian {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// The order a `big_endian` flag means.
    #[must_use]
    pub const fn from_big(big: bool) -> Self {
        if big { Self::Big } else { Self::Little }
    }
}

/// `len` bytes at `at`.
#[must_use]
pub fn slice_at(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// The byte at `at`.
#[must_use]
pub fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// The 16-bit number at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize, endian: Endian) -> Option<u16> {
    let field = slice_at(bytes, at, 2)?;
    Some(match endian {
        Endian::Little => LittleEndian::read_u16(field),
        Endian::Big => BigEndian::read_u16(field),
    })
}

/// The 32-bit number at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize, endian: Endian) -> Option<u32> {
    let field = slice_at(bytes, at, 4)?;
    Some(match endian {
        Endian::Little => LittleEndian::read_u32(field),
        Endian::Big => BigEndian::read_u32(field),
    })
}

/// The 64-bit number at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize, endian: Endian) -> Option<u64> {
    let field = slice_at(bytes, at, 8)?;
    Some(match endian {
        Endian::Little => LittleEndian::read_u64(field),
        Endian::Big => BigEndian::read_u64(field),
    })
}

/// The signed 32-bit number at `at`.
#[must_use]
pub fn i32_at(bytes: &[u8], at: usize, endian: Endian) -> Option<i32> {
    u32_at(bytes, at, endian).map(u32::cast_signed)
}

/// The NUL-terminated (or slice-terminated) string at `at`, invalid UTF-8 replaced.
#[must_use]
pub fn c_str_at(bytes: &[u8], at: usize) -> Option<String> {
    let tail = bytes.get(at..)?;
    let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
    Some(String::from_utf8_lossy(tail.get(..end)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stop_at_the_end_of_the_slice() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(u32_at(&bytes, 0, Endian::Little), Some(0x0403_0201));
        assert_eq!(u32_at(&bytes, 0, Endian::Big), Some(0x0102_0304));
        assert_eq!(u64_at(&bytes, 0, Endian::Big), Some(0x0102_0304_0506_0708));
        assert_eq!(u32_at(&bytes, 5, Endian::Little), None);
        assert_eq!(u16_at(&bytes, usize::MAX, Endian::Little), None);
        assert_eq!(c_str_at(b"ab\0cd", 1).as_deref(), Some("b"));
        assert_eq!(c_str_at(b"ab", 3), None);
    }
}
