//! Reads one type DIE.

use super::die::{Entry, constant, flag, own_name, unsigned};
use super::model::{
    Count, Dimension, Enumeration, Kind, Language, Member, PointerSort, Position, Qualifier, Role, Structure,
    TemplateParameter, Type, TypeId, Variant, VariantPart,
};
use crate::dwarf::{Dwarf, Scope, Unit};
use gimli::{AttributeValue, UnitOffset};
use std::sync::Arc;

/// Most members, enumerators or parameters kept of one type. The largest seen are generated enumerations of some
/// 20,000 names.
pub const LIMIT_MEMBERS: usize = 1 << 16;

/// Most dimensions of an array. Fortran allows 15; compilers give 1 to 4.
pub const LIMIT_DIMENSIONS: usize = 32;

/// What reading a type DIE needs.
pub(crate) struct Reader<'d, 'm> {
    pub(crate) dwarf: &'d Dwarf<'m>,
    pub(crate) unit: &'d Unit<'m>,
    pub(crate) module: usize,
    pub(crate) language: Language,
}

impl<'m> Reader<'_, 'm> {
    fn scope(&self, die: UnitOffset) -> Scope {
        Scope { unit: self.unit.id, die }
    }

    fn target(&self, entry: &Entry<'m>, name: gimli::DwAt) -> Option<TypeId> {
        let at = self.dwarf.follow(self.unit.id, entry.attr_value(name)?)?;
        Some(TypeId { module: self.module, at })
    }

    fn type_of(&self, entry: &Entry<'m>) -> Option<TypeId> {
        self.target(entry, gimli::DW_AT_type)
    }

    /// Calls `each` with every child DIE until it says `false`.
    fn children(&self, die: UnitOffset, mut each: impl FnMut(&Entry<'m>) -> bool) -> Result<bool, gimli::Error> {
        let mut tree = self.unit.unit.entries_tree(Some(die))?;
        let mut children = tree.root()?.children();
        let mut left = LIMIT_MEMBERS;
        while let Some(child) = children.next()? {
            left = left.saturating_sub(1);
            if left == 0 || !each(child.entry()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the DIE at `id`; `name` is its qualified name, if it has one.
    pub(crate) fn read(&self, id: TypeId, name: Option<Arc<str>>, qualified: &dyn Fn(&str) -> Arc<str>) -> Type {
        let mut ty = Type {
            id,
            name,
            language: self.language,
            size: None,
            alignment: None,
            declaration: false,
            kind: Kind::Unknown(String::new()),
        };
        let entry = match self.unit.unit.entry(id.at.die) {
            Ok(entry) => entry,
            Err(e) => {
                ty.kind = Kind::Unknown(format!("no type at {:#x} of its unit: {e}", id.at.die.0));
                return ty;
            }
        };
        ty.size = unsigned(&entry, gimli::DW_AT_byte_size)
            .or_else(|| Some(unsigned(&entry, gimli::DW_AT_bit_size)?.div_ceil(8)));
        ty.alignment = unsigned(&entry, gimli::DW_AT_alignment);
        ty.declaration = flag(&entry, gimli::DW_AT_declaration);
        ty.kind = self.kind(&entry, qualified).unwrap_or_else(|e| Kind::Unknown(format!("damaged: {e}")));
        if matches!(ty.kind, Kind::Pointer { .. }) && ty.size.is_none() {
            ty.size = Some(u64::from(self.unit.unit.header.address_size()));
        }
        ty
    }

    fn kind(&self, entry: &Entry<'m>, qualified: &dyn Fn(&str) -> Arc<str>) -> Result<Kind, gimli::Error> {
        let target = || self.type_of(entry);
        let pointer = |sort| Kind::Pointer { target: target(), sort };
        let with = |qualifier| Kind::Qualified { qualifier, target: target() };
        let die = entry.offset();
        Ok(match entry.tag() {
            gimli::DW_TAG_base_type => match entry.attr_value(gimli::DW_AT_encoding) {
                Some(AttributeValue::Encoding(encoding)) => Kind::Base { encoding },
                _ => Kind::Unknown("a base type without encoding".into()),
            },
            gimli::DW_TAG_pointer_type => pointer(PointerSort::Pointer),
            gimli::DW_TAG_reference_type => pointer(PointerSort::Reference),
            gimli::DW_TAG_rvalue_reference_type => pointer(PointerSort::RvalueReference),
            gimli::DW_TAG_ptr_to_member_type => {
                Kind::MemberPointer { target: target(), class: self.target(entry, gimli::DW_AT_containing_type) }
            }
            gimli::DW_TAG_typedef | gimli::DW_TAG_template_alias => Kind::Typedef { target: target() },
            // A range of another type (Ada, Pascal), shown as that type.
            gimli::DW_TAG_subrange_type => Kind::Typedef { target: target() },
            gimli::DW_TAG_const_type => with(Qualifier::Const),
            gimli::DW_TAG_volatile_type => with(Qualifier::Volatile),
            gimli::DW_TAG_restrict_type => with(Qualifier::Restrict),
            gimli::DW_TAG_atomic_type => with(Qualifier::Atomic),
            gimli::DW_TAG_unspecified_type => Kind::Unspecified,
            gimli::DW_TAG_array_type => self.array(entry)?,
            gimli::DW_TAG_enumeration_type => Kind::Enumeration(self.enumeration(entry, qualified)?),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_interface_type => {
                Kind::Structure(self.structure(die, "struct")?)
            }
            gimli::DW_TAG_class_type => Kind::Structure(self.structure(die, "class")?),
            gimli::DW_TAG_union_type => Kind::Structure(self.structure(die, "union")?),
            gimli::DW_TAG_subroutine_type | gimli::DW_TAG_subprogram => {
                let (mut parameters, mut variadic, mut method) = (Vec::new(), false, false);
                self.children(die, |child| {
                    match child.tag() {
                        gimli::DW_TAG_formal_parameter => {
                            method |= parameters.is_empty() && flag(child, gimli::DW_AT_artificial);
                            parameters.push(self.type_of(child));
                        }
                        gimli::DW_TAG_unspecified_parameters => variadic = true,
                        _ => {}
                    }
                    true
                })?;
                let prototyped = self.language != Language::C || flag(entry, gimli::DW_AT_prototyped);
                Kind::Function { result: target(), parameters, variadic, prototyped, method }
            }
            other => Kind::Unknown(format!("a type of kind {other}")),
        })
    }

    fn array(&self, entry: &Entry<'m>) -> Result<Kind, gimli::Error> {
        let mut dimensions = Vec::new();
        self.children(entry.offset(), |child| {
            if matches!(child.tag(), gimli::DW_TAG_subrange_type | gimli::DW_TAG_enumeration_type) {
                dimensions.push(self.dimension(child));
            }
            dimensions.len() < LIMIT_DIMENSIONS
        })?;
        if dimensions.is_empty() {
            dimensions.push(Dimension { count: Count::Unknown });
        }
        let vector = flag(entry, gimli::DW_AT_GNU_vector);
        Ok(Kind::Array { element: self.type_of(entry), dimensions, vector })
    }

    fn dimension(&self, entry: &Entry<'m>) -> Dimension {
        // C and its descendants, and Rust, count from 0; the languages that do not say so explicitly in practice.
        let lower = entry
            .attr_value(gimli::DW_AT_lower_bound)
            .and_then(|v| constant(&v))
            .and_then(|v| i64::try_from(v).ok())
            .unwrap_or(0);
        let at = self.scope(entry.offset());
        let count = if let Some(value) = entry.attr_value(gimli::DW_AT_count) {
            match constant(&value).map(u64::try_from) {
                Some(Ok(n)) => Count::Known(n),
                Some(Err(_)) => Count::Unknown,
                None => Count::Dynamic { at, is_count: true, lower },
            }
        } else if let Some(value) = entry.attr_value(gimli::DW_AT_upper_bound) {
            match constant(&value) {
                // An upper bound of -1, in whatever width, is how GCC writes `int a[0]`.
                Some(upper) if upper == -1 || is_minus_one(&value) => Count::Known(0),
                Some(upper) => {
                    let count = upper.checked_sub(i128::from(lower)).and_then(|n| n.checked_add(1));
                    count.and_then(|n| u64::try_from(n).ok()).map_or(Count::Unknown, Count::Known)
                }
                None => Count::Dynamic { at, is_count: false, lower },
            }
        } else {
            Count::Unknown
        };
        Dimension { count }
    }

    fn enumeration(
        &self,
        entry: &Entry<'m>,
        qualified: &dyn Fn(&str) -> Arc<str>,
    ) -> Result<Enumeration, gimli::Error> {
        let mut enumerators: Vec<(Arc<str>, i128)> = Vec::new();
        let class = flag(entry, gimli::DW_AT_enum_class);
        self.children(entry.offset(), |child| {
            if child.tag() == gimli::DW_TAG_enumerator {
                let value = child.attr_value(gimli::DW_AT_const_value).and_then(|v| constant(&v));
                if let (Some(name), Some(value)) = (own_name(self.unit, child), value) {
                    enumerators.push((qualified(&name), value));
                }
            }
            true
        })?;
        let signed = enumerators.iter().any(|(_, v)| *v < 0);
        Ok(Enumeration { underlying: self.type_of(entry), class, flags: is_flags(&enumerators), signed, enumerators })
    }

    fn structure(&self, die: UnitOffset, keyword: &'static str) -> Result<Structure, gimli::Error> {
        let mut s = Structure { union: keyword == "union", keyword, ..Structure::default() };
        let mut part = None;
        s.truncated = self.children(die, |child| {
            match child.tag() {
                gimli::DW_TAG_member | gimli::DW_TAG_inheritance => s.members.push(self.member(child, child.tag())),
                gimli::DW_TAG_variable => s.members.push(self.member(child, gimli::DW_TAG_variable)),
                gimli::DW_TAG_variant_part if part.is_none() => part = Some(child.offset()),
                gimli::DW_TAG_template_type_parameter | gimli::DW_TAG_template_value_parameter => {
                    s.parameters.push(self.template_parameter(child));
                }
                // A parameter pack: its members are parameters like the others.
                gimli::DW_TAG_GNU_template_parameter_pack => {
                    let _ = self.children(child.offset(), |inner| {
                        if inner.tag() != gimli::DW_TAG_null {
                            s.parameters.push(self.template_parameter(inner));
                        }
                        true
                    });
                }
                _ => {}
            }
            true
        })?;
        if let Some(part) = part {
            s.variants = Some(self.variant_part(part)?);
        }
        Ok(s)
    }

    fn template_parameter(&self, entry: &Entry<'m>) -> TemplateParameter {
        TemplateParameter {
            name: own_name(self.unit, entry),
            ty: self.type_of(entry),
            value: entry.attr_value(gimli::DW_AT_const_value).and_then(|v| constant(&v)),
        }
    }

    fn member(&self, entry: &Entry<'m>, tag: gimli::DwTag) -> Member {
        let is_virtual = matches!(
            entry.attr_value(gimli::DW_AT_virtuality),
            Some(AttributeValue::Virtuality(gimli::DW_VIRTUALITY_virtual))
        );
        // DWARF 2 to 4 write static members as declared, external members without a location.
        let is_static = tag == gimli::DW_TAG_variable
            || (flag(entry, gimli::DW_AT_external) && flag(entry, gimli::DW_AT_declaration));
        let role = match tag {
            gimli::DW_TAG_inheritance if is_virtual => Role::VirtualBase,
            gimli::DW_TAG_inheritance => Role::Base,
            _ if is_static => Role::Static,
            _ => Role::Field,
        };
        let ty = self.type_of(entry);
        Member {
            name: own_name(self.unit, entry),
            position: if is_static { Position::None } else { self.position(entry, ty) },
            ty,
            role,
            artificial: flag(entry, gimli::DW_AT_artificial),
            at: self.scope(entry.offset()),
        }
    }

    fn position(&self, entry: &Entry<'m>, ty: Option<TypeId>) -> Position {
        let byte = match entry.attr_value(gimli::DW_AT_data_member_location) {
            None => 0,
            Some(AttributeValue::Exprloc(e)) => match self.constant_location(e) {
                Some(byte) => byte,
                None => return Position::Expression,
            },
            Some(AttributeValue::Block(b)) => match self.constant_location(gimli::Expression(b)) {
                Some(byte) => byte,
                None => return Position::Expression,
            },
            Some(value) => match constant(&value).and_then(|v| u64::try_from(v).ok()) {
                Some(byte) => byte,
                None => return Position::None,
            },
        };
        let Some(size) = unsigned(entry, gimli::DW_AT_bit_size) else { return Position::Byte(byte) };
        let base = byte.saturating_mul(8);
        if let Some(offset) = unsigned(entry, gimli::DW_AT_data_bit_offset) {
            return Position::Bits { start: base.saturating_add(offset), size };
        }
        let Some(offset) = entry.attr_value(gimli::DW_AT_bit_offset).and_then(|v| constant(&v)) else {
            return Position::Bits { start: base, size };
        };
        // DWARF 2: counted from the most significant bit of a storage unit, whose size may be given on the spot. GCC
        // writes negative offsets where a field crosses the unit's end.
        let storage = unsigned(entry, gimli::DW_AT_byte_size).or_else(|| self.plain_size(ty));
        let start = storage.and_then(|bytes| {
            let top = i128::from(base).checked_add(i128::from(bytes).checked_mul(8)?)?;
            u64::try_from(top.checked_sub(offset)?.checked_sub(i128::from(size))?).ok()
        });
        start.map_or(Position::None, |start| Position::Bits { start, size })
    }

    /// Size of a number type behind typedefs and qualifiers.
    fn plain_size(&self, ty: Option<TypeId>) -> Option<u64> {
        let mut at = ty?.at;
        for _ in 0..super::LIMIT_ALIASES {
            let unit = self.dwarf.unit(at.unit)?;
            let entry = unit.unit.entry(at.die).ok()?;
            if let Some(size) = unsigned(&entry, gimli::DW_AT_byte_size) {
                return Some(size);
            }
            at = self.dwarf.follow(at.unit, entry.attr_value(gimli::DW_AT_type)?)?;
        }
        None
    }

    /// DWARF 2 and 3 write a member's offset as an expression of one `DW_OP_plus_uconst` (or `DW_OP_constu` and plus).
    fn constant_location(&self, expression: gimli::Expression<crate::Slice<'m>>) -> Option<u64> {
        let mut operations = expression.operations(self.unit.unit.encoding());
        let first = operations.next().ok()??;
        let second = operations.next().ok()?;
        match (first, second) {
            (gimli::Operation::PlusConstant { value }, None) => Some(value),
            (gimli::Operation::UnsignedConstant { value }, Some(gimli::Operation::Plus)) => {
                operations.next().ok()?.is_none().then_some(value)
            }
            _ => None,
        }
    }

    fn variant_part(&self, die: UnitOffset) -> Result<VariantPart, gimli::Error> {
        let entry = self.unit.unit.entry(die)?;
        let discriminant = match entry.attr_value(gimli::DW_AT_discr) {
            Some(AttributeValue::UnitRef(at)) => {
                let member = self.unit.unit.entry(at)?;
                Some(Box::new(self.member(&member, gimli::DW_TAG_member)))
            }
            _ => None,
        };
        let mut variants = Vec::new();
        self.children(die, |child| {
            if child.tag() == gimli::DW_TAG_variant {
                let mut members = Vec::new();
                let _ = self.children(child.offset(), |m| {
                    if m.tag() == gimli::DW_TAG_member {
                        members.push(self.member(m, gimli::DW_TAG_member));
                    }
                    true
                });
                let value = child.attr_value(gimli::DW_AT_discr_value).and_then(|v| constant(&v));
                variants.push(Variant { value, members });
            }
            true
        })?;
        Ok(VariantPart { discriminant, variants })
    }
}

fn is_minus_one(value: &AttributeValue<crate::Slice<'_>>) -> bool {
    matches!(
        value,
        AttributeValue::Data4(u32::MAX)
            | AttributeValue::Data8(u64::MAX)
            | AttributeValue::Udata(u64::MAX)
            | AttributeValue::Sdata(-1)
    )
}

/// gdb's rule: every value is 0 or a single bit.
pub(crate) fn is_flags(enumerators: &[(Arc<str>, i128)]) -> bool {
    enumerators.iter().all(|(_, value)| u64::try_from(*value).is_ok_and(|v| v.count_ones() <= 1))
}

/// The name of the DIE at `entry` and where its scope is to be looked for: at the declaration it specifies, if any.
pub(crate) fn named_at<'m>(dwarf: &Dwarf<'m>, unit: &Unit<'m>, entry: &Entry<'m>) -> Option<(Scope, Arc<str>)> {
    let own = own_name(unit, entry);
    let declared = entry.attr_value(gimli::DW_AT_specification).and_then(|v| dwarf.follow(unit.id, v));
    let Some(declared) = declared else { return Some((Scope { unit: unit.id, die: entry.offset() }, own?)) };
    let name = own.or_else(|| {
        let unit = dwarf.unit(declared.unit)?;
        own_name(unit, &unit.unit.entry(declared.die).ok()?)
    });
    Some((declared, name?))
}
