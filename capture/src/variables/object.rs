//! Objects looked into by member names: what recognising a container needs.

use super::build::Builder;
use debuginfo::eval::Place;
use debuginfo::types::{Kind, Member, Role, Type, TypeId};
use evidence::{Addr, ToU64};

/// Deepest search for a member in bases and unnamed members.
const LIMIT_SEARCH: usize = 16;

/// Most classes looked at in one search: damaged types may have themselves as bases, many times.
const LIMIT_CLASSES: usize = 256;

/// A value with its resolved type.
#[derive(Clone, Debug)]
pub(super) struct Object<'t> {
    pub(super) ty: &'t Type,
    pub(super) place: Place,
}

impl<'b> Builder<'b, '_, '_> {
    /// The object of type `id` at `place`.
    pub(super) fn object(&self, id: Option<TypeId>, place: Place) -> Option<Object<'b>> {
        Some(Object { ty: self.types().resolved(id)?, place })
    }

    /// A member by name, also of bases and of unnamed members.
    pub(super) fn field(&self, of: &Object<'b>, name: &str) -> Option<Object<'b>> {
        self.find(of, name, 0, &mut 0)
    }

    fn find(&self, of: &Object<'b>, name: &str, depth: usize, seen: &mut usize) -> Option<Object<'b>> {
        let Kind::Structure(s) = &of.ty.kind else { return None };
        let open = |m: &&Member| m.role != Role::Static;
        if let Some(m) = s.members.iter().filter(open).find(|m| m.name.as_deref() == Some(name)) {
            return self.at(of, m);
        }
        *seen = seen.saturating_add(1);
        if depth > LIMIT_SEARCH || *seen > LIMIT_CLASSES {
            return None;
        }
        let inner = |m: &&Member| matches!(m.role, Role::Base | Role::VirtualBase) || m.name.is_none();
        let mut inside = s.members.iter().filter(open).filter(inner);
        inside.find_map(|m| self.find(&self.at(of, m)?, name, depth.saturating_add(1), seen))
    }

    fn at(&self, of: &Object<'b>, member: &Member) -> Option<Object<'b>> {
        let (place, bits) = self.member_place(&of.place, member, of.ty.id.module).ok()?;
        match bits {
            None => self.object(member.ty, place),
            Some(_) => None,
        }
    }

    /// A member of a member, and so on.
    pub(super) fn path(&self, of: &Object<'b>, names: &[&str]) -> Option<Object<'b>> {
        names.iter().try_fold(of.clone(), |o, name| self.field(&o, name))
    }

    /// The base class whose name starts with `prefix`.
    pub(super) fn base_named(&self, of: &Object<'b>, prefix: &str) -> Option<Object<'b>> {
        let Kind::Structure(s) = &of.ty.kind else { return None };
        s.members.iter().filter(|m| m.role == Role::Base).find_map(|m| {
            let base = self.at(of, m)?;
            base.ty.name.as_deref().is_some_and(|n| n.starts_with(prefix)).then_some(base)
        })
    }

    /// A number or pointer of at most 8 bytes.
    pub(super) fn number(&self, o: &Object<'b>) -> Option<u64> {
        let size = self.types().size(Some(o.ty.id)).filter(|s| (1..=8).contains(s))?;
        u64::try_from(o.place.read_bits(self.memory(), 0, size.saturating_mul(8)).ok()?).ok()
    }

    /// A number in a member of a member.
    pub(super) fn number_at(&self, of: &Object<'b>, names: &[&str]) -> Option<u64> {
        self.number(&self.path(of, names)?)
    }

    /// What a pointer type points to.
    pub(super) fn target(&self, pointer: &Object<'b>) -> Option<TypeId> {
        match pointer.ty.kind {
            Kind::Pointer { target, .. } => target,
            _ => None,
        }
    }

    /// The `n`-th template argument that is a type.
    pub(super) fn argument(&self, of: &Object<'b>, n: usize) -> Option<TypeId> {
        let Kind::Structure(s) = &of.ty.kind else { return None };
        s.parameters.get(n)?.ty
    }

    /// Bytes in a pointer of the target.
    pub(super) fn pointer_size(&self) -> u64 {
        u64::from(self.arch().pointer_size())
    }

    /// A pointer in memory.
    pub(super) fn pointer_in_memory(&self, at: u64) -> Option<u64> {
        let size = self.arch().pointer_size();
        self.memory().read_pointer(Addr(at), size, evidence::bytes::Endian::Little).ok()
    }

    /// Whether the first and the last byte of a range are there.
    pub(super) fn readable(&self, at: u64, len: u64) -> bool {
        let there = |at: u64| self.memory().read(Addr(at), &mut [0]).1.is_none();
        let Some(last) = len.checked_sub(1) else { return true };
        at.checked_add(last).is_some_and(|last| there(at) && there(last))
    }

    /// How many of `n` elements are shown.
    pub(super) fn most(&self, n: u64) -> u64 {
        n.min(self.options().elements.to_u64())
    }
}

/// `at` rounded up to a multiple of `alignment`.
pub(super) fn align_up(at: u64, alignment: u64) -> u64 {
    at.checked_next_multiple_of(alignment.max(1)).unwrap_or(u64::MAX)
}
