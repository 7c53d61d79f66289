//! Rust's standard library: strings, slices, vectors, shared pointers, cells, maps. Layouts: library/alloc, library/core
//! and hashbrown as of Rust 1.77 to 1.95; fields are found by name, so that rustc may order them as it likes.

use super::super::Variable;
use super::super::build::{Builder, Level};
use super::super::object::Object;
use debuginfo::eval::Place;
use debuginfo::types::{Kind, TypeId};
use evidence::{Addr, ToU64, ToUsize};
use snapshot_format::schema::Value;

/// Highest B-tree: with at least 6 children per node, 20 levels hold more than 2^50 entries.
const LIMIT_HEIGHT: u64 = 20;

/// Keys in a B-tree node (`CAPACITY` of alloc's btree/node.rs).
const NODE_KEYS: u64 = 11;

impl<'b> Builder<'b, '_, '_> {
    pub(super) fn rust(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        let Kind::Structure(s) = &o.ty.kind else { return None };
        if s.members.len() == 2 && s.members.iter().any(|m| m.name.as_deref() == Some("data_ptr")) {
            return self.rust_slice(into, o, name, level);
        }
        let plain = name.split('<').next().unwrap_or(name);
        match plain {
            "alloc::string::String" => {
                let (_, start, count, _) = self.rust_vec(&self.field(o, "vec")?)?;
                self.counted_string(into, start, count, 1)
            }
            "std::path::PathBuf" | "std::ffi::os_str::OsString" => {
                let inner = self.field(o, "inner")?;
                let inner = if plain.ends_with("PathBuf") { self.field(&inner, "inner")? } else { inner };
                let (_, start, count, _) = self.rust_vec(&self.field(&inner, "inner").unwrap_or(inner))?;
                self.counted_string(into, start, count, 1)
            }
            "alloc::vec::Vec" => {
                let (element, start, count, capacity) = self.rust_vec(o)?;
                into.value = Value::Text(format!("Vec of length {count}, capacity {capacity}"));
                self.contiguous(into, element, start, count, level)
            }
            "alloc::collections::vec_deque::VecDeque" => self.rust_deque(into, o, level),
            "alloc::rc::Rc" | "alloc::sync::Arc" => self.rust_shared(into, o, level),
            "core::cell::Cell" | "core::cell::UnsafeCell" | "core::mem::manually_drop::ManuallyDrop" => {
                let inner = self.field(o, "value")?;
                self.transparent(into, &inner, level);
                Some(())
            }
            "core::sync::atomic::Atomic" => self.rust_atomic(into, o, level),
            "core::num::nonzero::NonZero" => {
                let inner = self.path(o, &["__0", "__0"])?;
                self.transparent(into, &inner, level);
                Some(())
            }
            "std::collections::hash::map::HashMap" => {
                let table = self.path(o, &["base", "table"])?;
                self.rust_table(into, &table, true, level)
            }
            "std::collections::hash::set::HashSet" => {
                let table = self.path(o, &["base", "map", "table"])?;
                self.rust_table(into, &table, false, level)
            }
            "alloc::collections::btree::map::BTreeMap" => self.rust_tree(into, o, true, level),
            "alloc::collections::btree::set::BTreeSet" => {
                let map = self.field(o, "map")?;
                self.rust_tree(into, &map, false, level)
            }
            _ if plain.starts_with("core::sync::atomic::Atomic") => self.rust_atomic(into, o, level),
            _ => None,
        }
    }

    fn rust_atomic(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let mut inner = self.path(o, &["v", "value"])?;
        // Since 1.9x the number lies in an aligned wrapper.
        while let Kind::Structure(_) = inner.ty.kind {
            inner = self.field(&inner, "__0")?;
        }
        self.transparent(into, &inner, level);
        if into.type_name.ends_with("AtomicBool") {
            into.value = match into.value {
                Value::Unsigned(0) => Value::Bool(false),
                Value::Unsigned(1) => Value::Bool(true),
                ref other => other.clone(),
            };
        }
        Some(())
    }

    /// `&[T]`, `&str` and boxes of them: a pointer and a length.
    fn rust_slice(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        let data = self.field(o, "data_ptr")?;
        let count = self.number_at(o, &["length"])?;
        let start = self.number(&data)?;
        let element = self.target(&data)?;
        let is_text = name.ends_with("str") || name.contains("<str,") || name.contains("<str>");
        if is_text {
            return self.counted_string(into, start, count, 1);
        }
        into.value = Value::Text(format!("slice of length {count}"));
        self.contiguous(into, element, start, count, level)
    }

    /// Element type, start, length and capacity of a `Vec`.
    fn rust_vec(&self, o: &Object<'b>) -> Option<(TypeId, u64, u64, u64)> {
        let element = self.argument(o, 0)?;
        let buffer = self.field(o, "buf")?;
        let (start, capacity) = self.rust_buffer(&buffer)?;
        let count = self.number_at(o, &["len"])?;
        let size = self.types().size(Some(element))?;
        (size == 0 || count <= capacity).then_some((element, start, count, capacity))
    }

    fn rust_buffer(&self, buffer: &Object<'b>) -> Option<(u64, u64)> {
        // RawVec { inner: RawVecInner { ptr, cap, alloc } } since 1.82, RawVec { ptr, cap, alloc } before.
        let inner = self.field(buffer, "inner").unwrap_or_else(|| buffer.clone());
        let start = self.number_at(&inner, &["ptr", "pointer", "pointer"])?;
        let capacity = self.field(&inner, "cap")?;
        let capacity = self.field(&capacity, "__0").unwrap_or(capacity);
        Some((start, self.number(&capacity)?))
    }

    fn rust_deque(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let element = self.argument(o, 0)?;
        let size = self.types().size(Some(element)).filter(|s| *s > 0)?;
        let (start, capacity) = self.rust_buffer(&self.field(o, "buf")?)?;
        let (head, count) = (self.number_at(o, &["head"])?, self.number_at(o, &["len"])?);
        if count > capacity || (head >= capacity && capacity > 0) || !self.readable(start, capacity.checked_mul(size)?)
        {
            return None;
        }
        into.value = Value::Text(format!("VecDeque of length {count}, capacity {capacity}"));
        for n in 0..self.most(count) {
            let at = head.checked_add(n)?.checked_rem(capacity)?.checked_mul(size)?;
            if !self.element(into, n, Some(element), &Place::Memory(start.checked_add(at)?), level) {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }

    fn rust_shared(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let pointer = self.path(o, &["ptr", "pointer"])?;
        let inner_type = self.target(&pointer)?;
        let at = self.number(&pointer)?;
        let inner = self.object(Some(inner_type), Place::Memory(at))?;
        let count = |name: &str| {
            let raw = self.field(&inner, name)?.place.read_bits(self.memory(), 0, self.pointer_size().checked_mul(8)?);
            u64::try_from(raw.ok()?).ok()
        };
        let value = self.field(&inner, if self.field(&inner, "value").is_some() { "value" } else { "data" })?;
        let (strong, weak) = (count("strong")?, count("weak")?);
        if strong == 0 || weak == 0 {
            return None;
        }
        let address = value.place.address()?;
        into.value = Value::Pointer(address);
        self.pointee(into, Some(value.ty.id), value.ty, address, level);
        self.note(into, "strong", "usize", strong);
        // All strong references together hold one weak one.
        self.note(into, "weak", "usize", weak.checked_sub(1)?);
        Some(())
    }

    fn rust_table(&mut self, into: &mut Variable, o: &Object<'b>, map: bool, level: Level) -> Option<()> {
        // hashbrown::map::HashMap { hash_builder, table: RawTable<(K, V)> { table: RawTableInner } }
        let entry = self.object(self.argument(o, 0), Place::Memory(0))?;
        let size = self.types().size(Some(entry.ty.id))?;
        let inner = self.field(o, "table")?;
        let mask = self.number_at(&inner, &["bucket_mask"])?;
        let items = self.number_at(&inner, &["items"])?;
        let control = self.number_at(&inner, &["ctrl", "pointer"])?;
        let buckets = mask.checked_add(1).filter(|b| b.is_power_of_two())?;
        if items > buckets || !self.readable(control, buckets) {
            return None;
        }
        into.value = Value::Text(format!("{} with {items} elements", if map { "HashMap" } else { "HashSet" }));
        let mut found = 0_u64;
        let most = self.most(items);
        let mut groups = vec![0; 4096];
        let mut bucket = 0_u64;
        while found < most && bucket < buckets.min(LIMIT_BUCKETS) {
            let step = buckets.checked_sub(bucket)?.min(4096);
            let group = groups.get_mut(..step.to_usize())?;
            self.memory().read_exact(Addr(control.checked_add(bucket)?), group).ok()?;
            for (n, byte) in group.iter().enumerate() {
                // A full bucket's control byte has the top bit clear.
                if byte & 0x80 != 0 || found >= most {
                    continue;
                }
                let number = bucket.checked_add(n.to_u64())?.checked_add(1)?;
                let at = control.checked_sub(number.checked_mul(size)?)?;
                if !self.readable(at, size) {
                    return None;
                }
                let pair = self.object(Some(entry.ty.id), Place::Memory(at))?;
                let key = self.field(&pair, "__0")?;
                let shown = if map {
                    let value = self.field(&pair, "__1")?;
                    self.entry(into, found, (Some(key.ty.id), key.place), (Some(value.ty.id), value.place), level)
                } else {
                    self.element(into, found, Some(key.ty.id), &key.place, level)
                };
                if !shown {
                    return Some(());
                }
                found = found.checked_add(1)?;
            }
            bucket = bucket.checked_add(step)?;
        }
        into.truncated |= found < items;
        Some(())
    }

    fn rust_tree(&mut self, into: &mut Variable, o: &Object<'b>, map: bool, level: Level) -> Option<()> {
        let (key, value) = (self.argument(o, 0)?, self.argument(o, 1)?);
        let length = self.number_at(o, &["length"])?;
        into.value = Value::Text(format!("{} with {length} elements", if map { "BTreeMap" } else { "BTreeSet" }));
        if length == 0 {
            return Some(());
        }
        let root = self.field(o, "root")?;
        let node_ref = self.rust_some(&root)?;
        let height = self.number_at(&node_ref, &["height"])?;
        let pointer = self.path(&node_ref, &["node", "pointer"])?;
        if height > LIMIT_HEIGHT {
            return None;
        }
        let leaf = self.target(&pointer)?;
        let mut entries: Vec<(Place, Place)> = Vec::new();
        let most = self.most(length).to_usize();
        self.rust_nodes(leaf, self.number(&pointer)?, height, (key, value), most, &mut entries)?;
        if entries.len() < most {
            return None;
        }
        for (n, (key_at, value_at)) in entries.into_iter().enumerate() {
            let n = n.to_u64();
            let shown = if map {
                self.entry(into, n, (Some(key), key_at), (Some(value), value_at), level)
            } else {
                self.element(into, n, Some(key), &key_at, level)
            };
            if !shown {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < length;
        Some(())
    }

    /// In order: child, entry, child, entry, .., child.
    fn rust_nodes(
        &self,
        leaf: TypeId,
        at: u64,
        height: u64,
        types: (TypeId, TypeId),
        most: usize,
        entries: &mut Vec<(Place, Place)>,
    ) -> Option<()> {
        let node = self.object(Some(leaf), Place::Memory(at))?;
        let size = self.types().size(Some(leaf))?;
        let count = self.number_at(&node, &["len"]).filter(|n| *n <= NODE_KEYS)?;
        let (keys, values) = (self.field(&node, "keys")?.place, self.field(&node, "vals")?.place);
        let stride = (self.types().size(Some(types.0))?, self.types().size(Some(types.1))?);
        // InternalNode is repr(C): the leaf's fields, then the edges.
        let edges = at.checked_add(size)?;
        for n in 0..=count {
            if height > 0 && entries.len() < most {
                let child = self.pointer_in_memory(edges.checked_add(n.checked_mul(self.pointer_size())?)?)?;
                self.rust_nodes(leaf, child, height.checked_sub(1)?, types, most, entries)?;
            }
            if n < count && entries.len() < most {
                entries.push((keys.at(n.checked_mul(stride.0)?), values.at(n.checked_mul(stride.1)?)));
            }
        }
        Some(())
    }

    /// What is inside an `Option` that holds something.
    fn rust_some(&self, o: &Object<'b>) -> Option<Object<'b>> {
        let Kind::Structure(s) = &o.ty.kind else { return None };
        let part = s.variants.as_ref()?;
        let some = part.variants.iter().flat_map(|v| &v.members).find(|m| m.name.as_deref() == Some("Some"))?;
        let (place, _) = self.member_place(&o.place, some, o.ty.id.module).ok()?;
        let inner = self.object(some.ty, place)?;
        self.field(&inner, "__0")
    }
}

/// Most control bytes of one hash table looked at.
const LIMIT_BUCKETS: u64 = 1 << 24;
