//! Layouts out of BTF.

use super::Btf;
use super::types::{Raw, kind};
use crate::layout::{Layouts, Member, Shape, parts};

/// Longest chain of typedefs and qualifiers, and deepest nesting of arrays: kernels have a handful.
const LIMIT_CHAIN: usize = 32;
/// Deepest nesting of anonymous structures and unions that is searched.
const LIMIT_ANONYMOUS: usize = 16;
/// Most members looked at for one question, against structures that hold each other.
const LIMIT_MEMBERS: usize = 1 << 20;

/// A member on the way along a path.
#[derive(Clone, Copy)]
struct Step {
    ty: u32,
    /// Bits from the start of the outermost structure.
    start: u64,
    /// Bits of a bit field; 0 for none.
    width: u64,
}

impl Btf {
    /// What a typedef or qualifier means in the end.
    fn resolved(&self, mut number: u32) -> Option<(&Self, Raw)> {
        for _ in 0..LIMIT_CHAIN {
            let (owner, raw) = self.raw(number)?;
            match raw.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => number = raw.size,
                _ => return Some((owner, raw)),
            }
        }
        None
    }

    /// The element type and count of an array.
    fn array(&self, number: u32) -> Option<(u32, u64)> {
        let (owner, raw) = self.resolved(number)?;
        let word = |n| raw.word(&owner.data, n, owner.endian);
        if raw.kind == kind::ARRAY { Some((word(0)?, u64::from(word(2)?))) } else { None }
    }

    fn size(&self, number: u32) -> Option<u64> {
        let (mut number, mut count) = (number, 1_u64);
        for _ in 0..LIMIT_CHAIN {
            let (_, raw) = self.resolved(number)?;
            match raw.kind {
                kind::ARRAY => {
                    let (element, n) = self.array(number)?;
                    (number, count) = (element, count.checked_mul(n)?);
                }
                // BTF is read of 64-bit kernels only.
                kind::POINTER => return count.checked_mul(8),
                kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                    return count.checked_mul(u64::from(raw.size));
                }
                _ => return None,
            }
        }
        None
    }

    /// A member of a structure or of the anonymous ones inside it.
    fn inside(&self, number: u32, name: &[u8], depth: usize, left: &mut usize) -> Option<Step> {
        let (owner, raw) = self.resolved(number)?;
        if !matches!(raw.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        let member = |n: usize| {
            let word = |k: usize| raw.word(&owner.data, n.checked_mul(3)?.checked_add(k)?, owner.endian);
            let (string, ty, offset) = (word(0)?, word(1)?, word(2)?);
            let (start, width) = if raw.flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Some((string, Step { ty, start: u64::from(start), width: u64::from(width) }))
        };
        let anonymous = |string: u32| owner.string(string).is_empty();
        for n in 0..raw.count {
            *left = left.checked_sub(1)?;
            let (string, step) = member(n)?;
            if string != 0 && owner.is_string(string, name) {
                return Some(step);
            }
        }
        let depth = depth.checked_sub(1)?;
        for n in 0..raw.count {
            let (string, outer) = member(n)?;
            if !anonymous(string) {
                continue;
            }
            if let Some(inner) = self.inside(outer.ty, name, depth, left) {
                return Some(Step { start: outer.start.checked_add(inner.start)?, ..inner });
            }
        }
        None
    }

    fn walk(&self, of: &str, path: &str) -> Option<Step> {
        let mut here = Step { ty: self.named(of)?, start: 0, width: 0 };
        let mut left = LIMIT_MEMBERS;
        for (name, index) in parts(path) {
            let inner = self.inside(here.ty, name.as_bytes(), LIMIT_ANONYMOUS, &mut left)?;
            here = Step { start: here.start.checked_add(inner.start)?, ..inner };
            if let Some(index) = index {
                let (element, count) = self.array(here.ty)?;
                if count != 0 && index >= count {
                    return None;
                }
                let skip = self.size(element)?.checked_mul(index)?.checked_mul(8)?;
                here = Step { ty: element, start: here.start.checked_add(skip)?, width: 0 };
            }
        }
        Some(here)
    }

    /// The bits of an integer that is stored in a part of its bytes (bit fields of old BTF without the kind flag).
    fn integer_bits(&self, number: u32) -> Option<(u64, u64)> {
        let (owner, raw) = self.resolved(number)?;
        if raw.kind != kind::INT {
            return None;
        }
        let word = raw.word(&owner.data, 0, owner.endian)?;
        let (offset, bits) = (u64::from(word >> 16 & 0xff), u64::from(word & 0xff));
        (bits != u64::from(raw.size).checked_mul(8)?).then_some((offset, bits))
    }

    fn shape(&self, number: u32) -> Option<Shape> {
        let (owner, raw) = self.resolved(number)?;
        Some(match raw.kind {
            // BTF_INT_SIGNED is bit 24 of the word that follows.
            kind::INT => Shape::Integer { signed: raw.word(&owner.data, 0, owner.endian)? >> 24 & 1 != 0 },
            kind::ENUM | kind::ENUM64 => Shape::Integer { signed: raw.flag },
            kind::POINTER => Shape::Pointer,
            kind::ARRAY => {
                let (element, count) = self.array(number)?;
                Shape::Array { count, element: self.size(element)? }
            }
            kind::STRUCT | kind::UNION => Shape::Structure,
            _ => Shape::Other,
        })
    }

    /// The name of a type, of what it points to, or of its elements.
    fn type_name(&self, number: u32) -> Option<Box<str>> {
        let mut number = number;
        for _ in 0..LIMIT_CHAIN {
            let (owner, raw) = self.resolved(number)?;
            number = match raw.kind {
                kind::POINTER => raw.size,
                kind::ARRAY => self.array(number)?.0,
                _ => {
                    let name = owner.string(raw.name);
                    return (!name.is_empty()).then(|| String::from_utf8_lossy(name).into());
                }
            };
        }
        None
    }
}

impl Layouts for Btf {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        let step = self.walk(of, path)?;
        let whole = self.size(step.ty).unwrap_or(0);
        let (mut start, mut width) = (step.start, step.width);
        if width == 0
            && let Some((offset, bits)) = self.integer_bits(step.ty)
        {
            (start, width) = (start.checked_add(offset)?, bits);
        }
        let (offset, shift) = (start >> 3, start & 7);
        let (size, bits) = if width == 0 {
            (whole, None)
        } else {
            let bytes = shift.checked_add(width)?.div_ceil(8);
            (bytes, Some((u8::try_from(shift).ok()?, u8::try_from(width).ok()?)))
        };
        Some(Member { offset, size, bits, shape: self.shape(step.ty)?, type_name: self.type_name(step.ty) })
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        self.size(self.named(name)?)
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        for (string, number) in std::iter::once(self).chain(self.base.as_deref()).flat_map(Self::enumerations) {
            if self.is_string(string, name.as_bytes()) {
                return Some(number);
            }
        }
        None
    }

    fn source(&self) -> &'static str {
        "BTF"
    }
}

impl Btf {
    /// All enumerators with their values, of this BTF without its base.
    fn enumerations(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let raws = self.offsets.iter().filter_map(|at| Raw::at(&self.data, usize::try_from(*at).ok()?, self.endian));
        raws.filter(|raw| matches!(raw.kind, kind::ENUM | kind::ENUM64)).flat_map(move |raw| {
            (0..raw.count).filter_map(move |n| {
                let word = |k| raw.word(&self.data, k, self.endian);
                if raw.kind == kind::ENUM {
                    let value = word(n.checked_mul(2)?.checked_add(1)?)?;
                    let value = if raw.flag { i64::from(value.cast_signed()) } else { i64::from(value) };
                    // Without the flag the sign is not recorded; the C type of an enumeration of small values is int.
                    return Some((word(n.checked_mul(2)?)?, value));
                }
                let at = n.checked_mul(3)?;
                let (low, high) = (word(at.checked_add(1)?)?, word(at.checked_add(2)?)?);
                let value = u64::from(high) << 32 | u64::from(low);
                Some((word(at)?, value.cast_signed()))
            })
        })
    }
}
