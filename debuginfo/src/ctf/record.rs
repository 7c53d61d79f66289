//! One record of the type section.

use super::{Ctf, CtfId, Version};
use evidence::ToUsize;
use evidence::bytes::u16_at;

/// Kinds of types (`CTF_K_*`).
pub(super) const UNKNOWN: u8 = 0;
pub(super) const INTEGER: u8 = 1;
pub(super) const FLOAT: u8 = 2;
pub(super) const POINTER: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const FUNCTION: u8 = 5;
pub(super) const STRUCT: u8 = 6;
pub(super) const UNION: u8 = 7;
pub(super) const ENUM: u8 = 8;
pub(super) const FORWARD: u8 = 9;
pub(super) const TYPEDEF: u8 = 10;
pub(super) const VOLATILE: u8 = 11;
pub(super) const CONST: u8 = 12;
pub(super) const RESTRICT: u8 = 13;

/// `CTF_INT_SIGNED`.
const SIGNED: u32 = 1;

/// A type record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Its name, a reference into a string table.
    pub name: u32,
    pub kind: u8,
    /// Visible from everywhere.
    pub root: bool,
    /// Members, enumerators or arguments.
    pub count: usize,
    /// Bytes, for kinds that have a size.
    pub size: u64,
    /// The type referred to, for kinds that refer to one.
    pub target: CtfId,
    /// Where what follows the fixed part starts.
    pub data: usize,
    /// Where the next record starts.
    pub end: usize,
    /// Members have 64-bit offsets.
    large: bool,
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub name: u32,
    pub ty: CtfId,
    /// Bits from the start of the structure.
    pub offset: u64,
}

/// What an integer's record says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    /// What kind of number it is (`CTF_INT_*`, or `CTF_FP_*` of a floating-point number).
    pub format: u8,
    pub signed: bool,
    pub offset: u8,
    pub bits: u16,
}

impl Record {
    /// The record at `at`, if all of it is there.
    pub(super) fn read(ctf: &Ctf, at: usize) -> Option<Self> {
        let name = ctf.word(at)?;
        let (kind, root, count, short, sentinel, fixed, threshold) = match ctf.version {
            Version::V2 => {
                let info = u16_at(&ctf.bytes, at.checked_add(4)?, ctf.endian)?;
                let short = u16_at(&ctf.bytes, at.checked_add(6)?, ctf.endian)?;
                let kind = u8::try_from(info >> 11).ok()?;
                (kind, info & 0x400 != 0, usize::from(info & 0x3ff), u32::from(short), 0xffff, 8, 1_u64 << 13)
            }
            Version::V3 => {
                let info = ctf.word(at.checked_add(4)?)?;
                let short = ctf.word(at.checked_add(8)?)?;
                let kind = u8::try_from(info >> 26).ok()?;
                let count = (info & 0xff_ffff).to_usize();
                (kind, info & 0x200_0000 != 0, count, short, u32::MAX, 12, 1 << 29)
            }
        };
        let sized = matches!(kind, INTEGER | FLOAT | STRUCT | UNION | ENUM);
        let (size, data) = if sized && short == sentinel {
            let at = at.checked_add(fixed)?;
            let (high, low) = (ctf.word(at)?, ctf.word(at.checked_add(4)?)?);
            (u64::from(high) << 32 | u64::from(low), at.checked_add(8)?)
        } else {
            (u64::from(short), at.checked_add(fixed)?)
        };
        let large = size >= threshold;
        let width = ctf.id_width();
        let member: usize = match (ctf.version, large) {
            (Version::V2, false) => 8,
            (Version::V3, false) => 12,
            (_, true) => 16,
        };
        let follows = match kind {
            INTEGER | FLOAT => 4,
            ARRAY => width.checked_mul(2)?.checked_add(4)?,
            // An even number of 16-bit ids.
            FUNCTION => width.checked_mul(count)?.checked_next_multiple_of(4)?,
            STRUCT | UNION => member.checked_mul(count)?,
            ENUM => count.checked_mul(8)?,
            UNKNOWN | POINTER | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT => 0,
            _ => return None,
        };
        if !ctf.has(data, follows) {
            return None;
        }
        let end = data.checked_add(follows)?;
        Some(Self { name, kind, root, count, size, target: CtfId(short), data, end, large })
    }

    /// References to its name and to those of its members or enumerators.
    pub(super) fn names<'c>(&self, ctf: &'c Ctf) -> impl Iterator<Item = u32> + use<'c> {
        let members = matches!(self.kind, STRUCT | UNION).then(|| self.fields(ctf).map(|f| f.name));
        let enumerators = (self.kind == ENUM).then(|| self.enumerators(ctf).map(|(name, _)| name));
        std::iter::once(self.name).chain(members.into_iter().flatten()).chain(enumerators.into_iter().flatten())
    }

    /// The members of a structure or union.
    pub(super) fn fields<'c>(&self, ctf: &'c Ctf) -> impl Iterator<Item = Field> + use<'c> {
        let (data, large, version) = (self.data, self.large, ctf.version);
        (0..self.count).map_while(move |n| {
            let size: usize = match (version, large) {
                (Version::V2, false) => 8,
                (Version::V3, false) => 12,
                (_, true) => 16,
            };
            let at = data.checked_add(n.checked_mul(size)?)?;
            let name = ctf.word(at)?;
            let ty = ctf.id_at(at.checked_add(4)?)?;
            let offset = match (version, large) {
                (Version::V2, false) => u64::from(u16_at(&ctf.bytes, at.checked_add(6)?, ctf.endian)?),
                (Version::V3, false) => u64::from(ctf.word(at.checked_add(8)?)?),
                (_, true) => {
                    let (high, low) = (ctf.word(at.checked_add(8)?)?, ctf.word(at.checked_add(12)?)?);
                    u64::from(high) << 32 | u64::from(low)
                }
            };
            Some(Field { name, ty, offset })
        })
    }

    /// The enumerators: name and value.
    pub(super) fn enumerators<'c>(&self, ctf: &'c Ctf) -> impl Iterator<Item = (u32, i32)> + use<'c> {
        let data = self.data;
        (0..self.count).map_while(move |n| {
            let at = data.checked_add(n.checked_mul(8)?)?;
            Some((ctf.word(at)?, ctf.word(at.checked_add(4)?)?.cast_signed()))
        })
    }

    /// An array's element type and length.
    pub(super) fn array(&self, ctf: &Ctf) -> Option<(CtfId, u64)> {
        let width = ctf.id_width();
        let count = ctf.word(self.data.checked_add(width.checked_mul(2)?)?)?;
        Some((ctf.id_at(self.data)?, u64::from(count)))
    }

    /// The arguments of a function's type; a last one 0 says "and more".
    pub(super) fn arguments(&self, ctf: &Ctf) -> Vec<CtfId> {
        let width = ctf.id_width();
        let at = |n: usize| self.data.checked_add(n.checked_mul(width)?);
        (0..self.count).map_while(|n| ctf.id_at(at(n)?)).collect()
    }

    /// How an integer is stored, or a floating-point number.
    pub(super) fn encoding(&self, ctf: &Ctf) -> Option<Encoding> {
        let [bits_low, bits_high, offset, flags] = ctf.word(self.data)?.to_le_bytes();
        let signed = u32::from(flags) & SIGNED != 0;
        Some(Encoding { format: flags, signed, offset, bits: u16::from_le_bytes([bits_low, bits_high]) })
    }
}
