//! Values of members in a target's memory.

use super::{Layouts, Member, Shape};
use evidence::bytes::Endian;
use evidence::{Absent, Addr, Memory, ReadError, ToU64, ToUsize};
use std::fmt;

/// Longest text read out of a structure: names, paths and panic messages are shorter.
const LIMIT_TEXT: usize = 4096;

/// Why a member has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// No description knows such a structure or member, or it is not of the kind that was asked for.
    Unknown(Box<str>),
    /// Its bytes are missing.
    Missing(Addr, Absent),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "nothing describes {what}"),
            Self::Missing(at, why) => write!(f, "the bytes at {at} are missing: {why}"),
        }
    }
}

/// Reads members of structures by name.
#[derive(Clone, Copy)]
pub struct Fields<'f> {
    /// What describes the structures.
    pub layouts: &'f dyn Layouts,
    /// Where they lie.
    pub memory: &'f dyn Memory,
    /// The target's byte order.
    pub endian: Endian,
    /// Bytes of a pointer.
    pub pointer: u8,
}

impl Fields<'_> {
    /// Where a member lies.
    ///
    /// # Errors
    /// [`Unread::Unknown`].
    pub fn place(&self, of: &str, path: &str) -> Result<Member, Unread> {
        self.layouts.member(of, path).ok_or_else(|| Unread::Unknown(format!("{of}.{path}").into()))
    }

    /// The first of several paths that is described: members that were renamed from one version to the next.
    ///
    /// # Errors
    /// [`Unread::Unknown`], naming the first.
    pub fn first_place(&self, of: &str, paths: &[&str]) -> Result<Member, Unread> {
        paths
            .iter()
            .find_map(|path| self.layouts.member(of, path))
            .ok_or_else(|| Unread::Unknown(format!("{of}.{}", paths.first().unwrap_or(&"")).into()))
    }

    /// The value of an integer, enumeration, bit field or pointer, sign-extended where it is signed.
    ///
    /// # Errors
    /// It is not described, not of that kind, or its bytes are missing.
    pub fn integer(&self, at: Addr, of: &str, path: &str) -> Result<u64, Unread> {
        self.integer_at(at, &self.place(of, path)?)
    }

    /// As [`Fields::integer`], of a member that was found before.
    ///
    /// # Errors
    /// As [`Fields::integer`].
    pub fn integer_at(&self, structure: Addr, member: &Member) -> Result<u64, Unread> {
        let signed = match member.shape {
            Shape::Integer { signed } => signed,
            Shape::Pointer => false,
            _ => return Err(Unread::Unknown("a member that is an integer".into())),
        };
        let at = structure.wrapping_add(member.offset);
        let size = member.size.to_usize();
        let mut raw = [0_u8; 16];
        let Some(bytes) = raw.get_mut(..size).filter(|b| !b.is_empty() && b.len() <= 9) else {
            return Err(Unread::Unknown("an integer of one to eight bytes".into()));
        };
        self.memory.read_exact(at, bytes).map_err(|e| missing(&e))?;
        if self.endian == Endian::Big {
            bytes.reverse();
        }
        let value = u128::from_le_bytes(raw);
        let (shift, width) = match member.bits {
            Some((shift, width)) => (u32::from(shift), u32::from(width)),
            None => (0, u32::from(u8::try_from(size).unwrap_or(8)).saturating_mul(8)),
        };
        let value = u64::try_from(value.checked_shr(shift).unwrap_or(0) & u128::from(u64::MAX)).unwrap_or(0);
        let unused = 64_u32.saturating_sub(width.clamp(1, 64));
        let left = value.wrapping_shl(unused);
        Ok(if signed { left.cast_signed().wrapping_shr(unused).cast_unsigned() } else { left.wrapping_shr(unused) })
    }

    /// The value of a pointer.
    ///
    /// # Errors
    /// As [`Fields::integer`].
    pub fn pointer(&self, at: Addr, of: &str, path: &str) -> Result<Addr, Unread> {
        self.integer(at, of, path).map(Addr)
    }

    /// A pointer that lies at `at`.
    ///
    /// # Errors
    /// Its bytes are missing.
    pub fn pointer_at(&self, at: Addr) -> Result<Addr, Unread> {
        self.memory.read_pointer(at, self.pointer, self.endian).map(Addr).map_err(|e| missing(&e))
    }

    /// The text of a character array, up to its first NUL; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// It is not described, no array, or its bytes are missing.
    pub fn text(&self, at: Addr, of: &str, path: &str) -> Result<String, Unread> {
        let member = self.place(of, path)?;
        if !matches!(member.shape, Shape::Array { .. }) {
            return Err(Unread::Unknown(format!("{of}.{path} as an array of characters").into()));
        }
        self.text_at(at.wrapping_add(member.offset), member.size.to_usize())
    }

    /// Text at `at`: up to the first NUL, or `length` bytes. What can be read of it before a gap counts when the NUL
    /// comes first.
    ///
    /// # Errors
    /// Its bytes are missing.
    pub fn text_at(&self, at: Addr, length: usize) -> Result<String, Unread> {
        let mut bytes = vec![0; length.min(LIMIT_TEXT)];
        let (got, why) = self.memory.read(at, &mut bytes);
        bytes.truncate(got);
        match (bytes.iter().position(|b| *b == 0), why) {
            (Some(end), _) => bytes.truncate(end),
            (None, Some(why)) => return Err(Unread::Missing(at.wrapping_add(got.to_u64()), why)),
            (None, None) => {}
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn missing(e: &ReadError) -> Unread {
    Unread::Missing(e.at, e.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::testing::FakeMemory;

    struct One;

    impl Layouts for One {
        fn member(&self, _: &str, path: &str) -> Option<Member> {
            let (offset, size, bits, signed) = match path {
                "whole" => (0, 4, None, true),
                "bits" => (1, 2, Some((3, 7)), false),
                "negative" => (1, 1, Some((4, 4)), true),
                _ => return None,
            };
            Some(Member { offset, size, bits, shape: Shape::Integer { signed }, type_name: None })
        }
        fn size_of(&self, _: &str) -> Option<u64> {
            None
        }
        fn enumerator(&self, _: &str) -> Option<i64> {
            None
        }
        fn source(&self) -> &'static str {
            "a test"
        }
    }

    #[test]
    fn integers_and_bit_fields() {
        let memory = FakeMemory::new().with(Addr(0x1000), vec![0xfe, 0xf8, 0x03, 0xff, b'a', 0]);
        let fields = Fields { layouts: &One, memory: &memory, endian: Endian::Little, pointer: 8 };
        assert_eq!(fields.integer(Addr(0x1000), "x", "whole"), Ok(0xffff_ffff_ff03_f8fe));
        assert_eq!(fields.integer(Addr(0x1000), "x", "bits"), Ok(0x7f));
        assert_eq!(fields.integer(Addr(0x1000), "x", "negative"), Ok(u64::MAX));
        assert!(matches!(fields.integer(Addr(0x1000), "x", "other"), Err(Unread::Unknown(_))));
        assert!(matches!(fields.integer(Addr(0x1003), "x", "whole"), Err(Unread::Missing(..))));
        assert_eq!(fields.text_at(Addr(0x1004), 16).as_deref(), Ok("a"));
    }

    #[test]
    fn paths() {
        let parts: Vec<_> = super::super::parts("a.b[3].c").collect();
        assert_eq!(parts, [("a", None), ("b", Some(3)), ("c", None)]);
    }
}
