//! Containers of the C++ and Rust standard libraries, shown by what they contain.
//!
//! A container is recognised by its type's name *and* by its parts: all members that are needed exist, sizes do not
//! exceed capacities, and what pointers lead to is there. Anything else is shown as the plain structure that it is.

mod libcxx;
mod libstdcxx;
mod nodes;
mod owners;
mod rust;

use super::build::{Builder, Level};
use super::object::Object;
use super::{Variable, text};
use debuginfo::eval::Place;
use debuginfo::types::{Language, Type, TypeId};
use evidence::{Addr, ToU64, ToUsize};
use snapshot_format::schema::Value;

/// Most links of a list, tree or table followed without showing an element: damaged ones may run for long.
pub const LIMIT_LINKS: usize = 1 << 16;

impl<'b> Builder<'b, '_, '_> {
    /// Shows `into` as a container; `false` (and `into` as it was) when it is none, or a damaged one.
    pub(super) fn container(&mut self, into: &mut Variable, ty: &'b Type, place: &Place, level: Level) -> bool {
        let Some(name) = ty.name.as_deref() else { return false };
        let object = Object { ty, place: place.clone() };
        let truncated = into.truncated;
        let done = match ty.language {
            Language::Cpp => name.strip_prefix("std::").and_then(|name| {
                let (inline, plain) = inline_namespace(name);
                let plain = plain.split('<').next().unwrap_or(plain);
                if matches!(inline, "__1" | "__ndk1") {
                    self.libcxx(into, &object, plain, level)
                } else {
                    self.libstdcxx(into, &object, plain, level)
                }
            }),
            Language::Rust => self.rust(into, &object, name, level),
            Language::C => None,
        };
        if done.is_none() {
            into.children.clear();
            into.value = Value::None;
            into.truncated = truncated;
        }
        done.is_some()
    }

    /// Elements that lie one after another.
    pub(super) fn contiguous(
        &mut self,
        into: &mut Variable,
        element: TypeId,
        start: u64,
        count: u64,
        level: Level,
    ) -> Option<()> {
        let size = self.types().size(Some(element))?;
        if count > 0 && !self.readable(start, size.checked_mul(count)?) {
            return None;
        }
        for n in 0..self.most(count) {
            let at = start.wrapping_add(n.wrapping_mul(size));
            if !self.element(into, n, Some(element), &Place::Memory(at), level) {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }

    /// Adds element `n`; `false` when there is no room for it.
    pub(super) fn element(
        &mut self,
        into: &mut Variable,
        n: u64,
        ty: Option<TypeId>,
        place: &Place,
        level: Level,
    ) -> bool {
        if self.exhausted() {
            into.truncated = true;
            return false;
        }
        let name = format!("[{n}]");
        let child = self.part(name.as_str(), &name, ty, place, None, level.part());
        into.children.push(child);
        true
    }

    /// Adds an entry of a map: under its key where that is a plain value, else as a pair.
    pub(super) fn entry(
        &mut self,
        into: &mut Variable,
        n: u64,
        key: (Option<TypeId>, Place),
        value: (Option<TypeId>, Place),
        level: Level,
    ) -> bool {
        if self.exhausted() {
            into.truncated = true;
            return false;
        }
        let shown = self.part("first", ".first", key.0, &key.1, None, level.part().part());
        let label = match (&shown.value, shown.children.is_empty(), shown.truncated) {
            (Value::Text(t), true, false) if t.starts_with(|c: char| c.is_ascii_digit()) && t.contains('\'') => {
                Some(t.clone())
            }
            (Value::Text(t), true, false) => Some(text::quoted(t.as_bytes())),
            (Value::Signed(v), true, _) => Some(v.to_string()),
            (Value::Unsigned(v), true, _) => Some(v.to_string()),
            (Value::Bool(v), true, _) => Some(v.to_string()),
            _ => None,
        };
        let name = format!("[{}]", label.clone().unwrap_or_else(|| n.to_string()));
        if label.is_some() {
            let child = self.part(name.as_str(), &name, value.0, &value.1, None, level.part());
            into.children.push(child);
            return true;
        }
        let second = self.part("second", ".second", value.0, &value.1, None, level.part().part());
        into.children.push(Variable {
            name,
            kind: snapshot_format::schema::VariableKind::Member,
            address: key.1.address(),
            children: vec![shown, second],
            ..Variable::default()
        });
        true
    }

    /// A string of `length` units of `unit` bytes at `start`.
    pub(super) fn counted_string(&mut self, into: &mut Variable, start: u64, length: u64, unit: u64) -> Option<()> {
        let bytes = length.checked_mul(unit)?;
        if !self.readable(start, bytes) {
            return None;
        }
        let most = self.options().string_bytes.to_u64();
        let shown = bytes.min(most.saturating_sub(most.checked_rem(unit)?));
        self.spend(shown).ok()?;
        let mut raw = vec![0; shown.to_usize()];
        self.memory().read_exact(Addr(start), &mut raw).ok()?;
        into.truncated |= shown < bytes;
        let unit = unit.to_usize();
        into.value = Value::Text(if unit == 1 { text::bytes(&raw) } else { text::wide(&raw, unit) });
        Some(())
    }

    /// Shows `into` as what is inside it.
    pub(super) fn transparent(&mut self, into: &mut Variable, inner: &Object<'b>, level: Level) {
        let (type_name, address) = (std::mem::take(&mut into.type_name), into.address);
        self.fill(into, Some(inner.ty.id), &inner.place, None, level);
        into.type_name = type_name;
        into.address = address;
    }
}

/// The inline namespace that a standard library hides its names in, and the rest of the name.
fn inline_namespace(name: &str) -> (&str, &str) {
    match name.split_once("::") {
        Some((first, rest)) if first.starts_with("__") && !first.contains('<') => (first, rest),
        _ => ("", name),
    }
}
