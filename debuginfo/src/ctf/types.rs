//! Types of a container as the types that variables are shown with.

use super::{Ctf, CtfId, record};
use crate::dwarf::{Part, Scope, UnitId};
use crate::types::{
    Count, Dimension, Enumeration, Kind, LIMIT_MEMBERS, Member, PointerSort, Position, Qualifier, Role, Structure,
    Type, TypeId, canonical,
};
use evidence::ToUsize;
use std::sync::Arc;

/// Encodings of integers (`CTF_INT_*`); the lowest bit says that it is signed.
const CHARACTER: u8 = 2;
const BOOLEAN: u8 = 4;
/// Encodings of floating-point numbers (`CTF_FP_*`): single, double and long double; their complex ones.
const FLOATS: [u8; 3] = [1, 2, 6];
const COMPLEX: [u8; 3] = [3, 4, 5];

/// A type of the container of module number `module`; `None` for `void`.
#[must_use]
pub fn type_id(module: usize, id: CtfId) -> Option<TypeId> {
    let unit = UnitId { part: Part::Ctf, offset: 0 };
    (id.0 != 0).then(|| TypeId { module, at: Scope { unit, die: gimli::UnitOffset(id.0.to_usize()) } })
}

/// The number of a type of a container.
fn ctf_id(id: TypeId) -> Option<CtfId> {
    (id.at.unit.part == Part::Ctf).then_some(())?;
    Some(CtfId(u32::try_from(id.at.die.0).ok()?))
}

impl Ctf {
    /// What `void` is written as: id 0, or an integer of no bits.
    fn is_void(&self, id: CtfId) -> bool {
        id.0 == 0
            || self
                .record(id)
                .is_some_and(|(holder, r)| r.kind == record::INTEGER && r.encoding(holder).is_some_and(|e| e.bits == 0))
    }

    fn reference(&self, module: usize, id: CtfId) -> Option<TypeId> {
        type_id(module, id).filter(|_| !self.is_void(id))
    }

    /// The type at `id`, which is one of [`type_id`].
    pub(crate) fn type_of(&self, id: TypeId) -> Type {
        let found = ctf_id(id).and_then(|number| self.record(number));
        let mut ty = Type::unknown(id, "its container of CTF has no such type, or not its parent");
        let Some((holder, record)) = found else { return ty };
        let module = id.module;
        let reference = |id: CtfId| self.reference(module, id);
        let name = holder.string(record.name).filter(|n| !n.is_empty());
        ty.name = name.map(Arc::from);
        match record.kind {
            record::INTEGER => {
                ty.name = name.map(|n| Arc::from(canonical(n)));
                ty.size = Some(record.size);
                let Some(encoding) = record.encoding(holder) else { return ty };
                ty.kind = Kind::Base {
                    encoding: match (encoding.format & BOOLEAN != 0, encoding.format & CHARACTER != 0, encoding.signed)
                    {
                        (true, ..) => gimli::DW_ATE_boolean,
                        (_, true, true) => gimli::DW_ATE_signed_char,
                        (_, true, false) => gimli::DW_ATE_unsigned_char,
                        (_, false, true) => gimli::DW_ATE_signed,
                        (_, false, false) => gimli::DW_ATE_unsigned,
                    },
                };
            }
            record::FLOAT => {
                ty.size = Some(record.size);
                ty.kind = match record.encoding(holder).map(|e| e.format) {
                    Some(format) if FLOATS.contains(&format) => Kind::Base { encoding: gimli::DW_ATE_float },
                    Some(format) if COMPLEX.contains(&format) => Kind::Base { encoding: gimli::DW_ATE_complex_float },
                    other => Kind::Unknown(format!("a floating-point number of format {other:?}")),
                };
            }
            record::POINTER => {
                ty.size = Some(self.pointer.into());
                ty.kind = Kind::Pointer { target: reference(record.target), sort: PointerSort::Pointer };
            }
            record::ARRAY => {
                let Some((element, count)) = record.array(holder) else { return ty };
                let dimensions = vec![Dimension { count: Count::Known(count) }];
                ty.kind = Kind::Array { element: reference(element), dimensions, vector: false };
            }
            record::FUNCTION => {
                let mut arguments = record.arguments(holder);
                let variadic = arguments.last() == Some(&CtfId(0));
                if variadic {
                    arguments.pop();
                }
                let parameters = arguments.into_iter().map(reference).collect();
                let result = reference(record.target);
                ty.kind = Kind::Function { result, parameters, variadic, prototyped: true, method: false };
            }
            record::STRUCT | record::UNION => {
                ty.size = Some(record.size);
                let union = record.kind == record::UNION;
                let fields = record.fields(holder).take(LIMIT_MEMBERS);
                let members: Vec<Member> = fields.map(|f| self.member(module, holder, f)).collect();
                let truncated = record.count > members.len();
                let keyword = if union { "union" } else { "struct" };
                ty.kind = Kind::Structure(Structure { union, keyword, members, truncated, ..Structure::default() });
            }
            record::FORWARD => {
                ty.declaration = true;
                ty.kind = Kind::Structure(Structure { keyword: "struct", ..Structure::default() });
            }
            record::ENUM => {
                ty.size = Some(record.size);
                let all = record.enumerators(holder).take(LIMIT_MEMBERS);
                let named = all.filter_map(|(n, value)| Some((Arc::from(holder.string(n)?), i128::from(value))));
                let enumerators: Vec<(Arc<str>, i128)> = named.collect();
                let signed = enumerators.iter().any(|(_, value)| *value < 0);
                let flags = crate::types::is_flags(&enumerators);
                ty.kind = Kind::Enumeration(Enumeration { underlying: None, class: false, enumerators, flags, signed });
            }
            record::TYPEDEF => ty.kind = Kind::Typedef { target: reference(record.target) },
            record::VOLATILE | record::CONST | record::RESTRICT => {
                let qualifier = match record.kind {
                    record::VOLATILE => Qualifier::Volatile,
                    record::CONST => Qualifier::Const,
                    _ => Qualifier::Restrict,
                };
                ty.kind = Kind::Qualified { qualifier, target: reference(record.target) };
            }
            _ => ty.kind = Kind::Unknown("the container of CTF does not know it".into()),
        }
        ty
    }

    /// A member. An integer of fewer bits than its size has is a bit field.
    fn member(&self, module: usize, holder: &Self, field: record::Field) -> Member {
        let bits = self.resolved(field.ty).filter(|(_, _, r)| r.kind == record::INTEGER).and_then(|(_, h, r)| {
            let encoding = r.encoding(h)?;
            let (bits, offset) = (u64::from(encoding.bits), u64::from(encoding.offset));
            (bits != 0 && (Some(bits) != r.size.checked_mul(8) || offset != 0)).then_some((bits, offset))
        });
        let position = match bits {
            Some((size, offset)) => {
                field.offset.checked_add(offset).map_or(Position::None, |start| Position::Bits { start, size })
            }
            None if field.offset.is_multiple_of(8) => Position::Byte(field.offset / 8),
            None => Position::None,
        };
        let name = holder.string(field.name).filter(|n| !n.is_empty()).map(Arc::from);
        let unit = UnitId { part: Part::Ctf, offset: 0 };
        let at = Scope { unit, die: gimli::UnitOffset(field.ty.0.to_usize()) };
        Member { name, ty: self.reference(module, field.ty), role: Role::Field, position, artificial: false, at }
    }

    /// The structure, union or enumeration that a declaration stands for.
    pub(crate) fn definition_of(&self, declared: TypeId) -> Option<TypeId> {
        let (holder, record) = self.record(ctf_id(declared)?)?;
        let found = self.find_tag(holder.string(record.name).filter(|n| !n.is_empty())?)?;
        type_id(declared.module, found)
    }

    /// Whether values of this type are passed in one of the registers for integers.
    #[must_use]
    pub fn is_integral(&self, id: CtfId) -> bool {
        self.resolved(id).is_some_and(|(_, _, r)| {
            matches!(r.kind, record::INTEGER | record::POINTER | record::ENUM)
                && (r.kind == record::POINTER || r.size <= 8)
        })
    }

    /// Whether a function that returns this takes no hidden argument: a value of a register, or nothing.
    #[must_use]
    pub fn is_returned_in_registers(&self, id: CtfId) -> bool {
        self.is_void(id)
            || self.resolved(id).is_some_and(|(id, _, r)| {
                !matches!(r.kind, record::STRUCT | record::UNION | record::ARRAY)
                    && self.size(id).is_some_and(|size| size <= 8)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testdata::ctf::CtfWriter;

    fn container() -> (Vec<u8>, Vec<u32>) {
        let mut w = CtfWriter::new(2);
        let (int, void) = (w.integer("unsigned", false, 32, 4), w.integer("void", false, 0, 0));
        let char = w.character("char", true);
        let three = w.integer("unsigned", false, 3, 4);
        let (float, pointer) = (w.float("long double", 6, 16), w.pointer(void));
        let colour = w.enumeration("colour", &[("RED", -1), ("BLUE", 7)]);
        let callback = w.function(int, &[pointer, 0]);
        let callback = w.pointer(callback);
        let declared = w.forward("node");
        let node = w.structure(
            "node",
            40,
            &[
                ("low", three, 0),
                ("high", three, 29),
                ("call", callback, 64),
                ("next", declared, 128),
                ("", float, 192),
            ],
        );
        let grid = w.array(char, int, 4);
        let grid = w.array(grid, int, 2);
        (w.finish(), vec![int, void, char, three, float, pointer, colour, callback, declared, node, grid])
    }

    #[test]
    fn types_are_those_of_variables() {
        let (bytes, ids) = container();
        let ctf = Ctf::parse(&bytes, 8).expect("a container");
        let [int, _, char, _, float, pointer, colour, callback, declared, node, grid] = ids[..] else { panic!() };
        let id = |n| type_id(3, CtfId(n)).expect("a type");
        let get = |n| ctf.type_of(id(n));
        let base = |n: u32| match get(n).kind {
            Kind::Base { encoding } => (get(n).name.as_deref().map(str::to_owned), get(n).size, encoding),
            other => panic!("{other:?}"),
        };
        assert_eq!(base(int), (Some("unsigned int".into()), Some(4), gimli::DW_ATE_unsigned));
        assert_eq!(base(char), (Some("char".into()), Some(1), gimli::DW_ATE_signed_char));
        assert_eq!(base(float), (Some("long double".into()), Some(16), gimli::DW_ATE_float));
        assert!(matches!(get(pointer).kind, Kind::Pointer { target: None, .. }), "void is no type");
        let Kind::Enumeration(e) = get(colour).kind else { panic!() };
        assert_eq!((e.signed, e.flags, e.enumerators.len()), (true, false, 2));
        let Kind::Pointer { target: Some(function), .. } = get(callback).kind else { panic!() };
        let Kind::Function { result, parameters, variadic, .. } = ctf.type_of(function).kind else { panic!() };
        assert_eq!((result, parameters, variadic), (Some(id(int)), vec![Some(id(pointer))], true));
        assert!(get(declared).declaration);
        assert_eq!(ctf.definition_of(id(declared)), Some(id(node)));
        let Kind::Structure(s) = get(node).kind else { panic!() };
        let places: Vec<Position> = s.members.iter().map(|m| m.position).collect();
        let bits = |start| Position::Bits { start, size: 3 };
        assert_eq!(places, [bits(0), bits(29), Position::Byte(8), Position::Byte(16), Position::Byte(24)]);
        assert_eq!((s.members[0].name.as_deref(), s.members[4].name.as_deref()), (Some("low"), None));
        let Kind::Array { element: Some(row), dimensions, .. } = get(grid).kind else { panic!() };
        assert_eq!(dimensions, [Dimension { count: Count::Known(2) }]);
        assert!(matches!(ctf.type_of(row).kind, Kind::Array { .. }));
        assert!(ctf.is_integral(CtfId(pointer)) && !ctf.is_integral(CtfId(float)) && !ctf.is_integral(CtfId(node)));
        assert!(ctf.is_returned_in_registers(CtfId(0)) && !ctf.is_returned_in_registers(CtfId(node)));
        assert!(matches!(ctf.type_of(id(9999)).kind, Kind::Unknown(_)));
    }

    #[test]
    fn damaged_containers_have_types_all_the_same() {
        let (bytes, ids) = container();
        for (at, bit) in (36..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let Ok(ctf) = Ctf::parse(&bad, 8) else { continue };
            for n in &ids {
                let id = type_id(0, CtfId(*n)).expect("a type");
                if let Kind::Structure(s) = ctf.type_of(id).kind {
                    assert!(s.members.len() <= LIMIT_MEMBERS);
                }
                let _ = (ctf.definition_of(id), ctf.is_integral(CtfId(*n)), ctf.is_returned_in_registers(CtfId(*n)));
            }
        }
    }
}
