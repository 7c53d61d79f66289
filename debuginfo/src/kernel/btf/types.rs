//! One type of BTF: its header, and what follows it.

use evidence::ToUsize;
use evidence::bytes::{Endian, u32_at};

/// `BTF_KIND_*`.
pub(super) mod kind {
    pub const INT: u8 = 1;
    pub const POINTER: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FORWARD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNCTION: u8 = 12;
    pub const PROTOTYPE: u8 = 13;
    pub const VARIABLE: u8 = 14;
    pub const DATA_SECTION: u8 = 15;
    pub const FLOAT: u8 = 16;
    pub const DECLARATION_TAG: u8 = 17;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;

    /// Whether a named one describes a layout.
    pub(in super::super) const fn is_layout(kind: u8) -> bool {
        matches!(kind, INT | STRUCT | UNION | ENUM | TYPEDEF | FLOAT | ENUM64)
    }
}

/// `struct btf_type`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    /// Where it lies in the data.
    pub at: usize,
    pub name: u32,
    pub kind: u8,
    /// How many members, enumerators or parameters follow.
    pub count: usize,
    /// Structures: members say where bit fields start. Enumerations: signed.
    pub flag: bool,
    /// The size in bytes, or the type that is meant.
    pub size: u32,
}

/// Bytes of the header.
const HEADER: usize = 12;

impl Raw {
    pub(super) fn at(data: &[u8], at: usize, endian: Endian) -> Option<Self> {
        let word = |n: usize| u32_at(data, at.checked_add(n)?, endian);
        let info = word(4)?;
        Some(Self {
            at,
            name: word(0)?,
            kind: u8::try_from(info >> 24 & 0x1f).ok()?,
            count: (info & 0xffff).to_usize(),
            flag: info >> 31 != 0,
            size: word(8)?,
        })
    }

    /// Bytes of the header and what follows; `None` for an unknown kind.
    pub(super) fn length(&self) -> Option<usize> {
        let each = match self.kind {
            kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => return HEADER.checked_add(4),
            kind::ARRAY => return HEADER.checked_add(12),
            kind::STRUCT | kind::UNION | kind::DATA_SECTION | kind::ENUM64 => 12,
            kind::ENUM | kind::PROTOTYPE => 8,
            kind::POINTER
            | kind::FORWARD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNCTION
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            _ => return None,
        };
        HEADER.checked_add(self.count.checked_mul(each)?)
    }

    /// The n-th word after the header.
    pub(super) fn word(&self, data: &[u8], n: usize, endian: Endian) -> Option<u32> {
        u32_at(data, self.at.checked_add(HEADER)?.checked_add(n.checked_mul(4)?)?, endian)
    }
}
