//! libstdc++: pointers that own, values that may be absent or of several types, tuples, atomics, functions. Layouts:
//! bits/unique_ptr.h, shared_ptr_base.h, optional, variant, tuple, atomic_base.h, std_function.h.

use super::super::Variable;
use super::super::build::{Builder, Level};
use super::super::object::Object;
use debuginfo::types::{Kind, TypeId};
use evidence::ToU64;
use snapshot_format::schema::{Value, VariableKind};

/// Most elements of a tuple.
const LIMIT_TUPLE: u64 = 256;

impl<'b> Builder<'b, '_, '_> {
    pub(super) fn std_owner(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        match name {
            "unique_ptr" => {
                // A tuple of pointer and deleter, in one or two wrappers depending on the version.
                let outer = self.field(o, "_M_t")?;
                let tuple = self.field(&outer, "_M_t").unwrap_or(outer);
                let inner = self.base_named(&tuple, "std::_Tuple_impl<0")?;
                let head = self.base_named(&inner, "std::_Head_base<0")?;
                let pointer = self.field(&head, "_M_head_impl")?;
                self.owned(into, &pointer, level)
            }
            "shared_ptr" | "weak_ptr" => {
                let pointer = self.field(o, "_M_ptr")?;
                let block = self.path(o, &["_M_refcount", "_M_pi"])?;
                self.owned(into, &pointer, level)?;
                let at = self.number(&block)?;
                let counts = self.object(self.target(&block), debuginfo::eval::Place::Memory(at));
                if let (Some(counts), true) = (counts, at != 0) {
                    let used = self.number_at(&counts, &["_M_use_count"])?;
                    let weak = self.number_at(&counts, &["_M_weak_count"])?;
                    // All owners together hold one weak reference.
                    let weak = if used == 0 { weak } else { weak.checked_sub(1)? };
                    self.note(into, "use_count", "long", used);
                    self.note(into, "weak_count", "long", weak);
                    if used == 0 {
                        into.children.retain(|c| c.name != "*");
                    }
                }
                Some(())
            }
            "optional" => {
                let engaged = self.path(o, &["_M_payload", "_M_engaged"]).and_then(|e| self.number(&e))?;
                match engaged {
                    0 => into.value = Value::Text("[no contained value]".into()),
                    1 => {
                        let payload = self.path(o, &["_M_payload", "_M_payload"])?;
                        let value = self.object(self.argument(o, 0), payload.place)?;
                        self.contained(into, &value, level);
                    }
                    _ => return None,
                }
                Some(())
            }
            "variant" => {
                let index = self.field(o, "_M_index")?;
                let size = self.types().size(Some(index.ty.id))?;
                let index = self.number(&index)?;
                // All bits set: no value. Libraries use the smallest type that can tell.
                let none = u64::MAX.checked_shr(64_u32.checked_sub(u32::try_from(size.checked_mul(8)?).ok()?)?)?;
                if index == none {
                    into.value = Value::Text("[no contained value]".into());
                    return Some(());
                }
                let ty = self.argument(o, usize::try_from(index).ok()?)?;
                let storage = self.field(o, "_M_u")?;
                into.value = Value::Text(format!("index {index}"));
                let value = self.object(Some(ty), storage.place)?;
                self.contained(into, &value, level);
                Some(())
            }
            "tuple" => self.std_tuple(into, o, level),
            "atomic" => {
                let inner = ["_M_i", "_M_fp", "_M_p"].iter().find_map(|n| self.field(o, n)).or_else(|| {
                    let base = self.field(o, "_M_b").or_else(|| self.field(o, "_M_base"))?;
                    ["_M_i", "_M_p"].iter().find_map(|n| self.field(&base, n))
                })?;
                self.transparent(into, &inner, level);
                Some(())
            }
            "function" => {
                let manager = self.number_at(o, &["_M_manager"])?;
                let invoker = self.number_at(o, &["_M_invoker"])?;
                into.value = Value::Text(if manager == 0 { "empty".into() } else { self.code_pointer(invoker) });
                Some(())
            }
            _ => None,
        }
    }

    /// A pointer with its pointee.
    pub(super) fn owned(&mut self, into: &mut Variable, pointer: &Object<'b>, level: Level) -> Option<()> {
        if !matches!(pointer.ty.kind, Kind::Pointer { .. }) {
            return None;
        }
        self.transparent(into, pointer, level);
        into.absent.is_none().then_some(())
    }

    /// A count that the structure keeps beside the value.
    pub(super) fn note(&self, into: &mut Variable, name: &str, ty: &str, count: u64) {
        into.children.push(Variable {
            name: name.into(),
            type_name: ty.into(),
            kind: VariableKind::Member,
            value: Value::Unsigned(count),
            ..Variable::default()
        });
    }

    pub(super) fn contained(&mut self, into: &mut Variable, value: &Object<'b>, level: Level) {
        let child = self.part("[contained value]", "", Some(value.ty.id), &value.place, None, level.part());
        into.children.push(child);
    }

    fn std_tuple(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let Kind::Structure(s) = &o.ty.kind else { return None };
        let count = s.parameters.len().to_u64().min(LIMIT_TUPLE);
        let mut inner = o.clone();
        let mut parts: Vec<(Option<TypeId>, debuginfo::eval::Place)> = Vec::new();
        for n in 0..count {
            inner = self.base_named(&inner, &format!("std::_Tuple_impl<{n}"))?;
            let head = self.base_named(&inner, &format!("std::_Head_base<{n}"))?;
            let value = self.field(&head, "_M_head_impl").unwrap_or_else(|| head.clone());
            parts.push((self.argument(o, usize::try_from(n).ok()?), value.place));
        }
        for (n, (ty, place)) in parts.into_iter().enumerate() {
            if !self.element(into, n.to_u64(), ty, &place, level) {
                break;
            }
        }
        Some(())
    }
}
