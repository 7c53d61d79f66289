//! Layouts out of DWARF.
//!
//! C compilers repeat a structure in every unit that uses it, so the first units of a kernel usually answer. A name that
//! is nowhere costs one pass over the units; their indexes are kept, and the next such name costs nothing.

use super::{Layouts, Member, Shape, parts};
use crate::DebugInfo;
use crate::dwarf::Scope;
use crate::types::{Count, Kind, LIMIT_SEARCH, Position, Role, Structure, Type, TypeId, Types};
use elsa::sync::FrozenMap;

/// Deepest nesting of anonymous structures and unions that is searched.
const LIMIT_ANONYMOUS: usize = 16;

/// The structures that one module's DWARF describes.
pub struct DwarfLayouts<'i, 'm> {
    types: Types<'i, 'm>,
    module: usize,
    named: FrozenMap<String, Box<Option<TypeId>>>,
    enumerators: FrozenMap<String, Box<Option<i64>>>,
}

/// A member on the way along a path.
struct Step {
    ty: Option<TypeId>,
    /// Bits from the start of the outermost structure.
    start: u64,
    /// Bits of a bit field.
    width: Option<u64>,
}

impl<'i, 'm> DwarfLayouts<'i, 'm> {
    /// The layouts of the module at an index of [`Modules::list`](crate::Modules::list); `None` when it has no DWARF.
    #[must_use]
    pub fn new(info: &'i DebugInfo<'m>, module: usize) -> Option<Self> {
        info.dwarf(module)?;
        Some(Self { types: Types::new(info), module, named: FrozenMap::new(), enumerators: FrozenMap::new() })
    }

    fn find(&self, name: &str) -> Option<TypeId> {
        if let Some(known) = self.named.get(name) {
            return *known;
        }
        // A structure's own name goes before a typedef of the same name.
        let found = [false, true].into_iter().find_map(|typedef| self.search(name, typedef));
        *self.named.insert(name.to_owned(), Box::new(found))
    }

    fn search(&self, name: &str, typedef: bool) -> Option<TypeId> {
        let dwarf = self.types.info().dwarf(self.module)?;
        let mut searched = 0_usize;
        for unit in dwarf.unit_ids() {
            let Some(unit) = dwarf.unit(unit) else { continue };
            searched = searched.saturating_add(unit.unit.header.length_including_self());
            if searched > LIMIT_SEARCH {
                break;
            }
            let definitions = self.types.named(self.module, unit, name);
            let fits = |tag| match tag {
                gimli::DW_TAG_variable => false,
                gimli::DW_TAG_typedef => typedef,
                _ => !typedef,
            };
            if let Some(d) = definitions.iter().find(|d| fits(d.tag)) {
                return Some(TypeId { module: self.module, at: Scope { unit: unit.id, die: d.die } });
            }
        }
        None
    }

    fn walk(&self, of: &str, path: &str) -> Option<Step> {
        let mut here = Step { ty: Some(self.find(of)?), start: 0, width: None };
        for (name, index) in parts(path) {
            let ty = self.types.resolved(here.ty)?;
            let Kind::Structure(structure) = &ty.kind else { return None };
            let inner = self.inside(structure, name, LIMIT_ANONYMOUS)?;
            here = Step { ty: inner.ty, start: here.start.checked_add(inner.start)?, width: inner.width };
            if let Some(index) = index {
                let (element, count) = self.array(here.ty)?;
                if count.is_some_and(|n| index >= n) {
                    return None;
                }
                let bytes = self.types.size(Some(element))?.checked_mul(index)?;
                here = Step { ty: Some(element), start: here.start.checked_add(bytes.checked_mul(8)?)?, width: None };
            }
        }
        Some(here)
    }

    /// An array's element and, if it is known, its length over all dimensions.
    fn array(&self, id: Option<TypeId>) -> Option<(TypeId, Option<u64>)> {
        let Kind::Array { element, dimensions, .. } = &self.types.resolved(id)?.kind else { return None };
        let mut count = Some(1_u64);
        for dimension in dimensions {
            count = match (count, dimension.count) {
                (Some(so_far), Count::Known(n)) => so_far.checked_mul(n),
                _ => None,
            };
        }
        Some(((*element)?, count))
    }

    fn inside(&self, structure: &Structure, name: &str, depth: usize) -> Option<Step> {
        let fields = || structure.members.iter().filter(|m| m.role == Role::Field);
        let place = |position| match position {
            Position::Byte(byte) => Some((byte.checked_mul(8)?, None)),
            Position::Bits { start, size } => Some((start, Some(size))),
            Position::Expression | Position::None => None,
        };
        if let Some(member) = fields().find(|m| m.name.as_deref() == Some(name)) {
            let (start, width) = place(member.position)?;
            return Some(Step { ty: member.ty, start, width });
        }
        let depth = depth.checked_sub(1)?;
        fields().filter(|m| m.name.is_none()).find_map(|member| {
            let Kind::Structure(anonymous) = &self.types.resolved(member.ty)?.kind else { return None };
            let (outer, _) = place(member.position)?;
            let inner = self.inside(anonymous, name, depth)?;
            Some(Step { start: inner.start.checked_add(outer)?, ..inner })
        })
    }

    fn shape(&self, ty: &Type) -> (Shape, Option<TypeId>) {
        match &ty.kind {
            Kind::Base { encoding } => match *encoding {
                gimli::DW_ATE_signed | gimli::DW_ATE_signed_char => (Shape::Integer { signed: true }, None),
                gimli::DW_ATE_unsigned | gimli::DW_ATE_unsigned_char | gimli::DW_ATE_boolean | gimli::DW_ATE_UTF => {
                    (Shape::Integer { signed: false }, None)
                }
                _ => (Shape::Other, None),
            },
            Kind::Enumeration(e) => (Shape::Integer { signed: e.signed }, None),
            Kind::Pointer { target, .. } => (Shape::Pointer, *target),
            Kind::Array { .. } => match self.array(Some(ty.id)) {
                Some((element, count)) => {
                    let size = self.types.size(Some(element)).unwrap_or(0);
                    (Shape::Array { count: count.unwrap_or(0), element: size }, Some(element))
                }
                None => (Shape::Other, None),
            },
            Kind::Structure(_) => (Shape::Structure, None),
            _ => (Shape::Other, None),
        }
    }
}

impl Layouts for DwarfLayouts<'_, '_> {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        let step = self.walk(of, path)?;
        let ty = self.types.resolved(step.ty)?;
        let (shape, behind) = self.shape(ty);
        let named = behind.map_or(Some(ty), |id| self.types.resolved(Some(id)));
        let type_name = named.and_then(|t| t.name.as_deref()).map(Into::into);
        let offset = step.start.checked_div(8)?;
        let within = u8::try_from(step.start & 7).ok()?;
        let (size, bits) = match step.width {
            Some(width) => {
                let bytes = u64::from(within).checked_add(width)?.div_ceil(8);
                (bytes, Some((within, u8::try_from(width).ok()?)))
            }
            // A flexible array has no size of its own.
            None => (self.types.size(Some(ty.id)).or(matches!(shape, Shape::Array { .. }).then_some(0))?, None),
        };
        Some(Member { offset, size, bits, shape, type_name })
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        self.types.size(Some(self.find(name)?))
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        if let Some(known) = self.enumerators.get(name) {
            return *known;
        }
        let search = || {
            let dwarf = self.types.info().dwarf(self.module)?;
            let mut searched = 0_usize;
            for unit in dwarf.unit_ids() {
                let Some(unit) = dwarf.unit(unit) else { continue };
                searched = searched.saturating_add(unit.unit.header.length_including_self());
                if searched > LIMIT_SEARCH {
                    break;
                }
                for die in self.types.enumerations(self.module, unit) {
                    let ty = self.types.get(TypeId { module: self.module, at: Scope { unit: unit.id, die: *die } });
                    let Kind::Enumeration(e) = &ty.kind else { continue };
                    if let Some((_, value)) = e.enumerators.iter().find(|(n, _)| &**n == name) {
                        return i64::try_from(*value).ok();
                    }
                }
            }
            None
        };
        *self.enumerators.insert(name.to_owned(), Box::new(search()))
    }

    fn source(&self) -> &'static str {
        "DWARF"
    }
}
