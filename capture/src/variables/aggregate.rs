//! Arrays, structures, unions and Rust's enumerations with data.

use super::build::{Builder, Level, absent};
use super::scalar::Sort;
use super::{Variable, text};
use debuginfo::eval::{Missing, Place};
use debuginfo::types::{Dimension, Kind, Language, Member, Role, Structure, Type, TypeId, VariantPart};
use evidence::{ToU64, ToUsize};
use snapshot_format::schema::{Value, VariableKind};

impl<'b> Builder<'b, '_, '_> {
    pub(super) fn array(
        &mut self,
        into: &mut Variable,
        element: Option<TypeId>,
        dimensions: &[Dimension],
        place: &Place,
        level: Level,
    ) -> Result<(), Missing> {
        let mut counts = Vec::with_capacity(dimensions.len());
        for dimension in dimensions {
            match self.count(element, dimension.count)? {
                Some(n) => counts.push(n),
                // Nobody knows how long a flexible member or an `extern int a[]` is.
                None => {
                    into.absent = Some("unknown-length".into());
                    into.why = Some("the type does not say how many elements there are".into());
                    return Ok(());
                }
            }
        }
        let size = self.size(element)?;
        let mut left = self.options().elements;
        self.dimension(into, element, size, &counts, place, level, &mut left)
    }

    #[allow(clippy::too_many_arguments, reason = "one recursion over the dimensions of one array")]
    fn dimension(
        &mut self,
        into: &mut Variable,
        element: Option<TypeId>,
        size: u64,
        counts: &[u64],
        place: &Place,
        level: Level,
        left: &mut usize,
    ) -> Result<(), Missing> {
        let Some((count, inner)) = counts.split_first() else { return Ok(()) };
        if inner.is_empty() && self.characters(into, element, size, *count, place)? {
            return Ok(());
        }
        if level.depth >= self.options().depth {
            into.truncated = *count > 0;
            return Ok(());
        }
        let stride = inner.iter().fold(size, |s, n| s.saturating_mul(*n));
        for n in 0..*count {
            if *left == 0 || self.exhausted() {
                into.truncated = true;
                break;
            }
            let at = place.at(n.saturating_mul(stride));
            let name = format!("[{n}]");
            if inner.is_empty() {
                *left = left.saturating_sub(1);
                let child = self.part(name.as_str(), &name, element, &at, None, level.part());
                into.children.push(child);
            } else {
                let mut row = Variable {
                    type_name: self.row_name(element, inner),
                    name,
                    kind: VariableKind::Member,
                    address: at.address(),
                    ..Variable::default()
                };
                if let Err(why) = self.dimension(&mut row, element, size, inner, &at, level.part(), left) {
                    absent(&mut row, &why);
                }
                into.children.push(row);
            }
        }
        Ok(())
    }

    /// The type of a row of a multi-dimensional array.
    fn row_name(&self, element: Option<TypeId>, counts: &[u64]) -> String {
        let element = self.types().name(element);
        let bounds: String = counts.iter().map(|n| format!("[{n}]")).collect();
        format!("{element} {bounds}")
    }

    /// An array of characters as text, without the NULs at its end.
    fn characters(
        &mut self,
        into: &mut Variable,
        element: Option<TypeId>,
        size: u64,
        count: u64,
        place: &Place,
    ) -> Result<bool, Missing> {
        let Some(Type { kind: Kind::Base { encoding }, language, .. }) = self.types().resolved(element) else {
            return Ok(false);
        };
        let ty = self.types().resolved(element);
        let sort = ty.map(|ty| Sort::of(ty, *encoding, &self.typedefs(element)));
        if !matches!(sort, Some(Sort::Character { .. })) || *language == Language::Rust || size == 0 {
            return Ok(false);
        }
        let most = self.options().string_bytes.to_u64();
        let bytes = count.saturating_mul(size).min(most.saturating_sub(most.checked_rem(size).unwrap_or(0)));
        self.spend(bytes)?;
        let mut raw = place.read(self.memory(), bytes.to_usize())?;
        into.truncated = bytes < count.saturating_mul(size);
        let unit = size.to_usize();
        while raw.len() >= unit && raw.get(raw.len().saturating_sub(unit)..).is_some_and(|u| u.iter().all(|b| *b == 0))
        {
            raw.truncate(raw.len().saturating_sub(unit));
        }
        into.value = Value::Text(if unit == 1 { text::bytes(&raw) } else { text::wide(&raw, unit) });
        Ok(true)
    }

    pub(super) fn structure(
        &mut self,
        into: &mut Variable,
        ty: &'b Type,
        s: &Structure,
        place: &Place,
        level: Level,
    ) -> Result<(), Missing> {
        if level.depth >= self.options().depth {
            into.truncated = !s.members.is_empty() || s.variants.is_some();
            return Ok(());
        }
        let entered = self.enter(ty, place);
        let result =
            if self.container(into, ty, place, level) { Ok(()) } else { self.members(into, ty, s, place, level) };
        if entered {
            self.open.pop();
        }
        result
    }

    fn members(
        &mut self,
        into: &mut Variable,
        ty: &Type,
        s: &Structure,
        place: &Place,
        level: Level,
    ) -> Result<(), Missing> {
        into.truncated |= s.truncated;
        if let Some(part) = &s.variants {
            return self.variant(into, ty, part, place, level);
        }
        for member in &s.members {
            if self.exhausted() {
                into.truncated = true;
                break;
            }
            if member.role == Role::Static {
                continue;
            }
            let child = self.member(ty, member, place, level);
            into.children.push(child);
        }
        Ok(())
    }

    fn member(&mut self, ty: &Type, member: &Member, place: &Place, level: Level) -> Variable {
        let (name, step) = match (&member.name, member.role) {
            (_, Role::Base | Role::VirtualBase) => (format!("<{}>", self.types().name(member.ty)), String::new()),
            (Some(name), _) => (name.to_string(), format!(".{name}")),
            (None, _) => ("<anonymous>".to_owned(), String::new()),
        };
        match self.member_place(place, member, ty.id.module) {
            Ok((at, bits)) => self.part(name, &step, member.ty, &at, bits, level.part()),
            Err(why) => {
                let mut child = Variable { name, kind: VariableKind::Member, ..Variable::default() };
                child.type_name = self.types().name(member.ty).to_string();
                absent(&mut child, &why);
                child
            }
        }
    }

    /// One of Rust's alternatives: its name as the value, its fields as children.
    fn variant(
        &mut self,
        into: &mut Variable,
        ty: &Type,
        part: &VariantPart,
        place: &Place,
        level: Level,
    ) -> Result<(), Missing> {
        let chosen = match &part.discriminant {
            None => part.variants.first(),
            Some(discriminant) => {
                let size = self.types().size(discriminant.ty).unwrap_or(0).min(16);
                let (at, _) = self.member_place(place, discriminant, ty.id.module)?;
                self.spend(size)?;
                let bits = size.saturating_mul(8);
                let raw = at.read_bits(self.memory(), 0, bits)?;
                let mask = u32::try_from(bits).ok().and_then(|b| 1_u128.checked_shl(b));
                let mask = mask.map_or(u128::MAX, |m| m.wrapping_sub(1));
                part.variants
                    .iter()
                    .find(|v| v.value.is_some_and(|v| v.cast_unsigned() & mask == raw))
                    .or_else(|| part.variants.iter().find(|v| v.value.is_none()))
            }
        };
        let Some(member) = chosen.and_then(|v| v.members.first()) else {
            return Err(Missing::DebugInfo("no alternative has this discriminant".into()));
        };
        into.value = Value::Text(member.name.as_deref().unwrap_or("?").to_owned());
        let (at, _) = self.member_place(place, member, ty.id.module)?;
        let Some(Type { kind: Kind::Structure(inner), .. }) = self.types().resolved(member.ty) else { return Ok(()) };
        let Some(inner_type) = self.types().resolved(member.ty) else { return Ok(()) };
        for field in inner.members.iter().filter(|m| m.role == Role::Field) {
            if self.exhausted() {
                into.truncated = true;
                break;
            }
            let child = self.member(inner_type, field, &at, level);
            into.children.push(child);
        }
        Ok(())
    }
}
