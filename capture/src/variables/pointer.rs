//! Pointers and references: their values, the strings and functions they point to, and their pointees under a budget.

use super::build::{Builder, Level, Open, absent};
use super::scalar::Sort;
use super::{Variable, text};
use debuginfo::eval::{Missing, Place};
use debuginfo::types::{Kind, PointerSort, Role, Type, TypeId};
use evidence::{Addr, ToU64};
use snapshot_format::schema::{Value, VariableKind};

/// Most classes looked at for the member that an offset means.
const LIMIT_CLASSES: usize = 64;

impl Builder<'_, '_, '_> {
    /// An address with the function it lies in, as gdb writes it.
    pub(super) fn code_pointer(&self, address: u64) -> String {
        match self.collector.function_at(address) {
            Some((name, 0)) => format!("{address:#x} <{name}>"),
            Some((name, into)) => format!("{address:#x} <{name}+{into}>"),
            None => format!("{address:#x}"),
        }
    }

    pub(super) fn pointer(
        &mut self,
        into: &mut Variable,
        ty: &Type,
        target: Option<TypeId>,
        sort: PointerSort,
        place: &Place,
        level: Level,
    ) -> Result<(), Missing> {
        if let Some((at, offset)) = place.implicit_pointer() {
            return self.implicit(into, at, offset, target, level);
        }
        let size = ty.size.unwrap_or(8).min(8);
        self.spend(size)?;
        let raw = place.read_bits(self.memory(), 0, size.saturating_mul(8))?;
        let address = u64::try_from(raw).unwrap_or(u64::MAX);
        into.value = Value::Pointer(address);
        let types = self.types();
        let Some(pointee) = types.resolved(target).filter(|_| address != 0 || sort != PointerSort::Pointer) else {
            return Ok(());
        };
        match &pointee.kind {
            Kind::Function { .. } => into.value = Value::Text(self.code_pointer(address)),
            Kind::Base { encoding } if sort == PointerSort::Pointer => {
                match Sort::of(pointee, *encoding, &self.typedefs(target)) {
                    Sort::Character { prefix, .. } if pointee.language != debuginfo::types::Language::Rust => {
                        self.string(into, address, pointee.size.unwrap_or(1), prefix, target);
                    }
                    _ => self.pointee(into, target, pointee, address, level),
                }
            }
            Kind::Unspecified | Kind::Unknown(_) => {}
            _ if pointee.declaration => {}
            _ => self.pointee(into, target, pointee, address, level),
        }
        Ok(())
    }

    /// A pointer to a character: with the string there, or with the reason why there is none as its pointee.
    fn string(&mut self, into: &mut Variable, address: u64, unit: u64, prefix: &str, target: Option<TypeId>) {
        let most = self.options().string_bytes.to_u64();
        let mut raw = Vec::new();
        let mut stop = None;
        let unit_bytes = usize::try_from(unit).unwrap_or(1).max(1);
        let mut terminated = false;
        // In small steps, so that a string at the end of a mapping is no error and little is read for nothing.
        while raw.len().to_u64() < most && stop.is_none() && !terminated {
            let at = address.wrapping_add(raw.len().to_u64());
            let step = 64_u64.saturating_sub(at % 64).min(most.saturating_sub(raw.len().to_u64())).max(unit);
            if self.spend(step).is_err() {
                into.truncated = true;
                break;
            }
            let mut chunk = vec![0; usize::try_from(step).unwrap_or(64)];
            let (got, why) = self.memory().read(Addr(at), &mut chunk);
            chunk.truncate(got.saturating_sub(got.checked_rem(unit_bytes).unwrap_or(0)));
            stop = why.map(|why| evidence::ReadError { at: Addr(at.wrapping_add(got.to_u64())), why });
            match chunk.chunks(unit_bytes).position(|u| u.iter().all(|b| *b == 0)) {
                Some(end) => {
                    chunk.truncate(end.saturating_mul(unit_bytes));
                    terminated = true;
                }
                None if got == 0 && stop.is_none() => break,
                None => {}
            }
            raw.extend_from_slice(&chunk);
        }
        if let (Some(error), true, false) = (stop, raw.is_empty(), terminated) {
            let mut pointee = Variable {
                name: "*".into(),
                kind: VariableKind::Member,
                type_name: self.types().name(target).to_string(),
                address: Some(address),
                ..Variable::default()
            };
            absent(&mut pointee, &Missing::Memory(error));
            into.children.push(pointee);
            return;
        }
        into.truncated |= !terminated;
        let shown = if unit_bytes == 1 {
            text::quoted(&raw)
        } else {
            format!("{prefix}{}", text::quoted(text::wide(&raw, unit_bytes).as_bytes()))
        };
        let dots = if terminated { "" } else { "..." };
        into.value = Value::Text(format!("{address:#x} {shown}{dots}"));
    }

    /// Adds what a pointer points to as its child `*`.
    pub(super) fn pointee(
        &mut self,
        into: &mut Variable,
        target: Option<TypeId>,
        resolved: &Type,
        address: u64,
        level: Level,
    ) {
        if let Some(open) = self.open.iter().find(|o| o.address == address && o.ty == resolved.id) {
            into.children.push(Variable {
                name: "*".into(),
                kind: VariableKind::Member,
                type_name: self.types().name(target).to_string(),
                value: Value::Text(format!("<cycle to {}>", open.expression)),
                address: Some(address),
                absent: Some("cycle".into()),
                why: Some(format!("it is shown as {}", open.expression)),
                ..Variable::default()
            });
            return;
        }
        if level.pointers >= self.options().pointer_depth || self.exhausted() {
            into.truncated = true;
            return;
        }
        let child = self.part("*", "*", target, &Place::Memory(address), None, level.pointee());
        into.children.push(child);
    }

    /// A pointer to a variable that lies nowhere, but whose value is known.
    fn implicit(
        &mut self,
        into: &mut Variable,
        at: debuginfo::dwarf::Scope,
        offset: i64,
        target: Option<TypeId>,
        level: Level,
    ) -> Result<(), Missing> {
        into.value = Value::Text("<synthetic pointer>".into());
        let offset = u64::try_from(offset).map_err(|_| Missing::DebugInfo("a negative implicit pointer".into()))?;
        if level.pointers >= self.options().pointer_depth {
            into.truncated = true;
            return Ok(());
        }
        let module = target.map(|t| t.module);
        let ty = module.and_then(|module| {
            let at = debuginfo::types::die::type_of(self.collector.dwarf(module)?, at)?;
            Some(TypeId { module, at })
        });
        let child = match self.place_of(at, ty) {
            Ok(place) => self.part("*", "*", target, &place.at(offset), None, level.pointee()),
            Err(why) => {
                let mut child = Variable {
                    name: "*".into(),
                    kind: VariableKind::Member,
                    type_name: self.types().name(target).to_string(),
                    ..Variable::default()
                };
                absent(&mut child, &why);
                child
            }
        };
        into.children.push(child);
        Ok(())
    }

    /// A pointer to member, in the Itanium C++ ABI: an offset (-1 for null), or a function (or vtable offset plus 1)
    /// with an adjustment of `this`.
    pub(super) fn member_pointer(
        &mut self,
        into: &mut Variable,
        target: Option<TypeId>,
        class: Option<TypeId>,
        place: &Place,
    ) -> Result<(), Missing> {
        let types = self.types();
        let is_method = matches!(types.resolved(target).map(|t| &t.kind), Some(Kind::Function { .. }));
        // Both are `ptrdiff_t`, which is as large as a pointer.
        let size = u64::from(self.address_size());
        self.spend(if is_method { size.saturating_mul(2) } else { size })?;
        let word = |at: u64| -> Result<u64, Missing> {
            let raw = place.at(at).read_bits(self.memory(), 0, size.saturating_mul(8))?;
            Ok(u64::try_from(raw).unwrap_or(u64::MAX))
        };
        let signed = |word: u64| {
            let number = super::scalar::sign_extended(u128::from(word), size.saturating_mul(8));
            i64::try_from(number).unwrap_or(0)
        };
        let first = word(0)?;
        if !is_method {
            into.value = match first {
                null if signed(null) == -1 => Value::Text("NULL".into()),
                offset => match self.member_at(class, offset, &mut 0) {
                    Some(path) => Value::Text(format!("&{path}")),
                    None => Value::Unsigned(offset),
                },
            };
            return Ok(());
        }
        let adjustment = signed(word(size)?);
        let mut shown = if first == 0 {
            "NULL".to_owned()
        } else if first & 1 == 1 {
            format!("&virtual table offset {}", first.wrapping_sub(1))
        } else {
            self.code_pointer(first)
        };
        if adjustment != 0 && first != 0 {
            shown.push_str(&format!(", this adjustment {adjustment}"));
        }
        into.value = Value::Text(shown);
        Ok(())
    }

    fn member_at(&self, class: Option<TypeId>, offset: u64, seen: &mut usize) -> Option<String> {
        let ty = self.types().resolved(class)?;
        let Kind::Structure(s) = &ty.kind else { return None };
        let at = |m: &debuginfo::types::Member| match m.position {
            debuginfo::types::Position::Byte(at) => Some(at),
            _ => None,
        };
        let field = s.members.iter().find(|m| m.role == Role::Field && at(m) == Some(offset) && m.name.is_some());
        if let Some(name) = field.and_then(|m| m.name.as_deref()) {
            return Some(format!("{}::{name}", self.types().name(class)));
        }
        *seen = seen.saturating_add(1);
        if *seen > LIMIT_CLASSES {
            return None;
        }
        s.members
            .iter()
            .filter(|m| m.role == Role::Base)
            .find_map(|m| self.member_at(m.ty, offset.checked_sub(at(m)?)?, seen))
    }

    /// Remembers that the object at `place` is being shown, so that pointers back to it are named.
    pub(super) fn enter(&mut self, ty: &Type, place: &Place) -> bool {
        let Some(address) = place.address() else { return false };
        self.open.push(Open { address, ty: ty.id, expression: self.expression.clone() });
        true
    }
}
