//! libstdc++: strings and sequences. Layouts: bits/basic_string.h, stl_vector.h, stl_bvector.h, stl_deque.h, array,
//! string_view, initializer_list of GCC 5 and later; strings also in the older layout with a shared header.

use super::super::Variable;
use super::super::build::{Builder, Level};
use super::super::object::Object;
use debuginfo::eval::Place;
use debuginfo::types::Kind;
use evidence::ToU64;
use snapshot_format::schema::Value;

impl<'b> Builder<'b, '_, '_> {
    /// The container called `std::name`.
    pub(super) fn libstdcxx(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        match name {
            "basic_string" | "string" | "wstring" | "u16string" | "u32string" => self.std_string(into, o),
            "basic_string_view" => {
                let start = self.field(o, "_M_str")?;
                let unit = self.types().size(self.target(&start))?;
                let length = self.number_at(o, &["_M_len"])?;
                let start = self.number(&start)?;
                self.counted_string(into, start, length, unit)
            }
            "vector" => match self.path(o, &["_M_impl", "_M_start", "_M_p"]) {
                Some(_) => self.std_bits(into, o),
                None => self.std_vector(into, o, level),
            },
            "array" => {
                let elements = self.field(o, "_M_elems");
                match elements {
                    Some(inner) if matches!(inner.ty.kind, Kind::Array { .. }) => self.transparent(into, &inner, level),
                    // Without elements the member is an empty structure, or none.
                    _ => into.value = Value::Text("std::array of length 0".into()),
                }
                Some(())
            }
            "pair" => {
                for (name, step) in [("first", ".first"), ("second", ".second")] {
                    let part = self.field(o, name)?;
                    let index = usize::from(name == "second");
                    let ty = self.argument(o, index).or(Some(part.ty.id));
                    let child = self.part(name, step, ty, &part.place, None, level.part());
                    into.children.push(child);
                }
                Some(())
            }
            "initializer_list" => {
                let start = self.field(o, "_M_array")?;
                let (element, count) = (self.target(&start)?, self.number_at(o, &["_M_len"])?);
                let start = self.number(&start)?;
                into.value = Value::Text(format!("std::initializer_list of length {count}"));
                self.contiguous(into, element, start, count, level)
            }
            "deque" => self.std_deque(into, o, level),
            "list" | "forward_list" => self.std_list(into, o, name, level),
            "map" | "set" | "multimap" | "multiset" => self.std_tree(into, o, name, level),
            "unordered_map" | "unordered_set" | "unordered_multimap" | "unordered_multiset" => {
                self.std_hash(into, o, name, level)
            }
            "unique_ptr" | "shared_ptr" | "weak_ptr" | "optional" | "variant" | "tuple" | "atomic" | "function" => {
                self.std_owner(into, o, name, level)
            }
            _ => None,
        }
    }

    fn std_string(&mut self, into: &mut Variable, o: &Object<'b>) -> Option<()> {
        let holder = self.field(o, "_M_dataplus")?;
        let (unit, start) = match self.field(&holder, "_M_p") {
            Some(pointer) => (self.types().size(self.target(&pointer))?, self.number(&pointer)?),
            // clang leaves the definition of `_Alloc_hider` to the library's own debug information. It holds the
            // pointer and nothing else.
            None if holder.ty.declaration => {
                let unit = self.types().size(self.argument(o, 0))?;
                (unit, self.pointer_in_memory(holder.place.address()?)?)
            }
            None => return None,
        };
        let length = match self.field(o, "_M_string_length") {
            Some(length) => {
                let length = self.number(&length)?;
                let local = self.field(o, "_M_local_buf")?;
                let capacity = if local.place.address() == Some(start) {
                    self.types().size(Some(local.ty.id))?.checked_div(unit)?.checked_sub(1)?
                } else {
                    self.number_at(o, &["_M_allocated_capacity"])?
                };
                (length <= capacity).then_some(length)?
            }
            // The older layout: length, capacity and reference count stand before the characters.
            None => {
                let size = self.pointer_size();
                let length = self.pointer_in_memory(start.checked_sub(size.checked_mul(3)?)?)?;
                let capacity = self.pointer_in_memory(start.checked_sub(size.checked_mul(2)?)?)?;
                (length <= capacity).then_some(length)?
            }
        };
        // Behind the characters stands a NUL.
        let end = start.checked_add(length.checked_mul(unit)?)?;
        let terminated = Place::Memory(end).read_bits(self.memory(), 0, unit.checked_mul(8)?).ok()? == 0;
        if !terminated {
            return None;
        }
        self.counted_string(into, start, length, unit)
    }

    fn std_vector(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let first = self.path(o, &["_M_impl", "_M_start"])?;
        let element = self.target(&first)?;
        let start = self.number(&first)?;
        let finish = self.number_at(o, &["_M_impl", "_M_finish"])?;
        let end = self.number_at(o, &["_M_impl", "_M_end_of_storage"])?;
        let size = self.types().size(Some(element)).filter(|s| *s > 0)?;
        let (used, all) = (finish.checked_sub(start)?, end.checked_sub(start)?);
        let aligned = |n: u64| n.checked_rem(size) == Some(0);
        if used > all || !aligned(used) || !aligned(all) {
            return None;
        }
        let (count, capacity) = (used.checked_div(size)?, all.checked_div(size)?);
        into.value = Value::Text(format!("std::vector of length {count}, capacity {capacity}"));
        self.contiguous(into, element, start, count, level)
    }

    fn std_bits(&mut self, into: &mut Variable, o: &Object<'b>) -> Option<()> {
        let word = |edge: &str| -> Option<(u64, u64)> {
            let at = self.number_at(o, &["_M_impl", edge, "_M_p"])?;
            Some((at, self.number_at(o, &["_M_impl", edge, "_M_offset"])?))
        };
        let (start, first) = word("_M_start")?;
        let (finish, last) = word("_M_finish")?;
        let end = self.number_at(o, &["_M_impl", "_M_end_of_storage"])?;
        let bits = finish.checked_sub(start)?.checked_mul(8)?;
        let count = bits.checked_add(last)?.checked_sub(first)?;
        let capacity = end.checked_sub(start)?.checked_mul(8)?;
        if first >= 64 || last >= 64 || count > capacity || !self.readable(start, count.div_ceil(8)) {
            return None;
        }
        into.value = Value::Text(format!("std::vector<bool> of length {count}, capacity {capacity}"));
        for n in 0..self.most(count) {
            let bit = Place::Memory(start).read_bits(self.memory(), first.saturating_add(n), 1).ok()?;
            into.children.push(Variable {
                name: format!("[{n}]"),
                type_name: "bool".into(),
                kind: snapshot_format::schema::VariableKind::Member,
                value: Value::Bool(bit == 1),
                ..Variable::default()
            });
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }

    fn std_deque(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let start = self.path(o, &["_M_impl", "_M_start"])?;
        let finish = self.path(o, &["_M_impl", "_M_finish"])?;
        let current = self.field(&start, "_M_cur")?;
        let element = self.target(&current)?;
        let size = self.types().size(Some(element)).filter(|s| *s > 0)?;
        let per_node = if size < 512 { 512_u64.checked_div(size)? } else { 1 };
        let get = |o: &Object<'b>, name: &str| self.number_at(o, &[name]);
        let (first, last) = (get(&start, "_M_cur")?, get(&start, "_M_last")?);
        let (end, end_first) = (get(&finish, "_M_cur")?, get(&finish, "_M_first")?);
        let (node, end_node) = (get(&start, "_M_node")?, get(&finish, "_M_node")?);
        let nodes = end_node.checked_sub(node)?.checked_div(self.pointer_size())?;
        let count = if nodes == 0 {
            end.checked_sub(first)?.checked_div(size)?
        } else {
            let head = last.checked_sub(first)?.checked_div(size)?;
            let tail = end.checked_sub(end_first)?.checked_div(size)?;
            nodes.checked_sub(1)?.checked_mul(per_node)?.checked_add(head)?.checked_add(tail)?
        };
        into.value = Value::Text(format!("std::deque with {count} elements"));
        let (mut at, mut stop, mut node) = (first, last, node);
        for n in 0..self.most(count) {
            if at == stop {
                node = node.checked_add(self.pointer_size())?;
                at = self.pointer_in_memory(node)?;
                stop = at.checked_add(per_node.checked_mul(size)?)?;
            }
            if !self.readable(at, size) {
                return None;
            }
            if !self.element(into, n, Some(element), &Place::Memory(at), level) {
                break;
            }
            at = at.checked_add(size)?;
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }
}
