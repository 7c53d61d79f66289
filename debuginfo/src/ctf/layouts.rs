//! Structures by name.

use super::record::{self, Record};
use super::{Ctf, CtfId, LIMIT_CHAIN};
use crate::layout::{Layouts, Member, Shape, parts};

/// Deepest nesting of anonymous structures and unions that is searched.
const LIMIT_ANONYMOUS: usize = 16;
/// Most members looked at for one part of a path: more than the largest structure has, with all that is nested in it.
const LIMIT_LOOKED: usize = 1 << 20;

impl Ctf {
    /// What typedefs and qualifiers lead to.
    pub(super) fn resolved(&self, mut id: CtfId) -> Option<(CtfId, &Self, Record)> {
        for _ in 0..LIMIT_CHAIN {
            let (holder, record) = self.record(id)?;
            match record.kind {
                record::TYPEDEF | record::VOLATILE | record::CONST | record::RESTRICT => id = record.target,
                _ => return Some((id, holder, record)),
            }
        }
        None
    }

    /// The size of a type in bytes.
    #[must_use]
    pub fn size(&self, id: CtfId) -> Option<u64> {
        let mut count = 1_u64;
        let mut id = id;
        for _ in 0..LIMIT_CHAIN {
            let (_, holder, record) = self.resolved(id)?;
            let size = match record.kind {
                record::INTEGER | record::FLOAT | record::STRUCT | record::UNION | record::ENUM => record.size,
                record::POINTER => u64::from(self.pointer),
                record::ARRAY => {
                    let (element, n) = record.array(holder)?;
                    count = count.checked_mul(n)?;
                    id = element;
                    continue;
                }
                _ => return None,
            };
            return count.checked_mul(size);
        }
        None
    }

    /// What a type is, typedefs and qualifiers followed.
    #[must_use]
    pub fn shape(&self, id: CtfId) -> Option<Shape> {
        let (_, holder, record) = self.resolved(id)?;
        Some(match record.kind {
            record::INTEGER => Shape::Integer { signed: record.encoding(holder)?.signed },
            // Enumerators are signed 32-bit numbers; an enumeration without negative ones is taken as unsigned, as
            // compilers do.
            record::ENUM => Shape::Integer { signed: record.enumerators(holder).any(|(_, value)| value < 0) },
            record::POINTER => Shape::Pointer,
            record::ARRAY => {
                let (element, count) = self.elements(id)?;
                Shape::Array { count, element: self.size(element)? }
            }
            record::STRUCT | record::UNION => Shape::Structure,
            _ => Shape::Other,
        })
    }

    /// The innermost element of an array and how many of them there are over all dimensions.
    fn elements(&self, id: CtfId) -> Option<(CtfId, u64)> {
        let mut count = 1_u64;
        let mut id = id;
        for _ in 0..LIMIT_CHAIN {
            let (_, holder, record) = self.resolved(id)?;
            if record.kind != record::ARRAY {
                return Some((id, count));
            }
            let (element, n) = record.array(holder)?;
            count = count.checked_mul(n)?;
            id = element;
        }
        None
    }

    /// A type's name, typedefs and qualifiers followed; of a pointer or an array, that of what is behind it.
    #[must_use]
    pub fn type_name(&self, id: CtfId) -> Option<&str> {
        let (_, holder, record) = self.resolved(id)?;
        let (holder, record) = match record.kind {
            record::POINTER => {
                let (_, holder, record) = self.resolved(record.target)?;
                (holder, record)
            }
            record::ARRAY => {
                let (_, holder, record) = self.resolved(self.elements(id)?.0)?;
                (holder, record)
            }
            _ => (holder, record),
        };
        holder.string(record.name).filter(|n| !n.is_empty())
    }

    /// A member of a structure by its own name, through anonymous ones: its type, and bits from the start.
    fn inside(&self, id: CtfId, name: &str, depth: usize, looked: &mut usize) -> Option<(CtfId, u64)> {
        let (_, holder, record) = self.resolved(id)?;
        if !matches!(record.kind, record::STRUCT | record::UNION) {
            return None;
        }
        *looked = looked.saturating_add(record.count);
        if *looked > LIMIT_LOOKED {
            return None;
        }
        if let Some(field) = record.fields(holder).find(|f| holder.string(f.name) == Some(name)) {
            return Some((field.ty, field.offset));
        }
        let depth = depth.checked_sub(1)?;
        record.fields(holder).filter(|f| holder.string(f.name).is_none_or(str::is_empty)).find_map(|field| {
            let (ty, offset) = self.inside(field.ty, name, depth, looked)?;
            Some((ty, offset.checked_add(field.offset)?))
        })
    }

    fn described(&self, id: CtfId, start: u64) -> Option<Member> {
        let shape = self.shape(id)?;
        let type_name = self.type_name(id).map(Into::into);
        let (_, holder, record) = self.resolved(id)?;
        let size = match shape {
            // A flexible array has no size of its own.
            Shape::Array { count: 0, .. } => 0,
            _ => self.size(id)?,
        };
        let encoding = if record.kind == record::INTEGER { record.encoding(holder) } else { None };
        let start = start.checked_add(encoding.map_or(0, |e| u64::from(e.offset)))?;
        let (offset, within) = (start.checked_div(8)?, u8::try_from(start & 7).ok()?);
        let bits = encoding.map_or(size.checked_mul(8)?, |e| u64::from(e.bits));
        if within == 0 && bits == size.checked_mul(8)? {
            return Some(Member { offset, size, bits: None, shape, type_name });
        }
        // Only an integer's record says how wide a bit field is.
        encoding?;
        let width = u8::try_from(bits).ok().filter(|w| (1..=64).contains(w))?;
        let size = u64::from(within).checked_add(u64::from(width))?.div_ceil(8);
        Some(Member { offset, size, bits: Some((within, width)), shape, type_name })
    }
}

impl Layouts for Ctf {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        let (mut id, mut start) = (self.find(of)?, 0_u64);
        for (name, index) in parts(path) {
            let (ty, offset) = self.inside(id, name, LIMIT_ANONYMOUS, &mut 0)?;
            id = ty;
            start = start.checked_add(offset)?;
            if let Some(index) = index {
                let (_, _, array) = self.resolved(id)?;
                let (element, count) = self.elements(id).filter(|_| array.kind == record::ARRAY)?;
                if index >= count && count != 0 {
                    return None;
                }
                start = start.checked_add(self.size(element)?.checked_mul(index)?.checked_mul(8)?)?;
                id = element;
            }
        }
        self.described(id, start)
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        self.size(self.find(name)?)
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        let own = self.starts.iter().find_map(|start| {
            let record = Record::read(self, usize::try_from(*start).ok()?)?;
            if record.kind != record::ENUM {
                return None;
            }
            record.enumerators(self).find(|(n, _)| self.string(*n) == Some(name)).map(|(_, value)| i64::from(value))
        });
        own.or_else(|| self.parent.as_ref()?.enumerator(name))
    }

    fn source(&self) -> &'static str {
        "CTF"
    }
}
