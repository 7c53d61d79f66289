//! LLVM's libc++: strings and sequences. Layouts: `<string>`, `<vector>`, `<array>`, `<deque>`, `<list>` of versions 11 to 19, in
//! the stable ABI.

use super::super::Variable;
use super::super::build::{Builder, Level};
use super::super::object::{Object, align_up};
use super::LIMIT_LINKS;
use debuginfo::eval::Place;
use evidence::ToU64;
use snapshot_format::schema::Value;

/// Bytes of a deque's block (`__deque_block_size`): 16 elements when they are 256 bytes or larger.
const BLOCK: u64 = 4096;

impl<'b> Builder<'b, '_, '_> {
    /// The container called `std::__1::name`.
    pub(super) fn libcxx(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        match name {
            "basic_string" | "string" | "wstring" => self.cxx_string(into, o),
            "basic_string_view" => {
                let start = ["__data", "__data_"].iter().find_map(|n| self.field(o, n))?;
                let length = ["__size", "__size_"].iter().find_map(|n| self.field(o, n))?;
                let unit = self.types().size(self.target(&start))?;
                let (start, length) = (self.number(&start)?, self.number(&length)?);
                self.counted_string(into, start, length, unit)
            }
            "vector" => self.cxx_vector(into, o, level),
            "array" => {
                let inner = self.field(o, "__elems_")?;
                self.transparent(into, &inner, level);
                Some(())
            }
            "list" => self.cxx_list(into, o, level),
            "deque" => self.cxx_deque(into, o, level),
            _ => None,
        }
    }

    /// A member that older versions keep in a `__compressed_pair`.
    fn pair_value(&self, o: &Object<'b>, old: &str, new: &str) -> Option<Object<'b>> {
        match self.field(o, old) {
            Some(pair) => self.field(&pair, "__value_").or(Some(pair)),
            None => self.field(o, new),
        }
    }

    fn cxx_string(&mut self, into: &mut Variable, o: &Object<'b>) -> Option<()> {
        let rep = self.pair_value(o, "__r_", "__rep_")?;
        let short = self.field(&rep, "__s")?;
        let long = self.field(&rep, "__l")?;
        let data = self.field(&long, "__data_")?;
        let unit = self.types().size(self.target(&data))?;
        // Since version 15 flag and size are bit fields, before that a byte; in memory both have the flag in the
        // lowest bit of the first byte and the size above it.
        let first = short.place.read_bits(self.memory(), 0, 8).ok()?;
        if first & 1 == 1 {
            let length = self.number_at(&long, &["__size_"])?;
            let capacity = long.place.read_bits(self.memory(), 0, self.pointer_size().checked_mul(8)?).ok()?;
            if u128::from(length) >= capacity {
                return None;
            }
            let start = self.number(&data)?;
            return self.counted_string(into, start, length, unit);
        }
        let length = u64::try_from(first.checked_shr(1)?).ok()?;
        let text = self.field(&short, "__data_")?;
        let room = self.types().size(Some(text.ty.id))?.checked_div(unit)?;
        if length >= room {
            return None;
        }
        let start = text.place.address()?;
        self.counted_string(into, start, length, unit)
    }

    fn cxx_vector(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let begin = self.field(o, "__begin_")?;
        let element = self.target(&begin)?;
        let size = self.types().size(Some(element)).filter(|s| *s > 0)?;
        let start = self.number(&begin)?;
        if let Some(bits) = self.field(o, "__size_").filter(|_| self.field(o, "__end_").is_none()) {
            return self.cxx_bits(into, start, self.number(&bits)?);
        }
        let finish = self.number_at(o, &["__end_"])?;
        let end = self.pair_value(o, "__end_cap_", "__cap_").and_then(|e| self.number(&e))?;
        let (used, all) = (finish.checked_sub(start)?, end.checked_sub(start)?);
        if used > all || used.checked_rem(size)? != 0 {
            return None;
        }
        let (count, capacity) = (used.checked_div(size)?, all.checked_div(size)?);
        into.value = Value::Text(format!("std::vector of length {count}, capacity {capacity}"));
        self.contiguous(into, element, start, count, level)
    }

    fn cxx_bits(&mut self, into: &mut Variable, start: u64, count: u64) -> Option<()> {
        if !self.readable(start, count.div_ceil(8)) {
            return None;
        }
        into.value = Value::Text(format!("std::vector<bool> of length {count}"));
        for n in 0..self.most(count) {
            let bit = Place::Memory(start).read_bits(self.memory(), n, 1).ok()?;
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

    fn cxx_list(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let element = self.argument(o, 0)?;
        let word = self.pointer_size();
        let skip = align_up(word.checked_mul(2)?, self.types().alignment(Some(element))?);
        let size = self.types().size(Some(element))?;
        let end = self.field(o, "__end_")?.place.address()?;
        let stated = self.pair_value(o, "__size_alloc_", "__size_").and_then(|s| self.number(&s))?;
        // __prev_, then __next_.
        let mut node = self.pointer_in_memory(end.checked_add(word)?)?;
        let mut before = end;
        let mut count = 0_u64;
        while node != end && count < LIMIT_LINKS.to_u64() {
            if self.pointer_in_memory(node)? != before || !self.readable(node, skip.checked_add(size)?) {
                return None;
            }
            if count < self.most(u64::MAX) && !into.truncated {
                self.element(into, count, Some(element), &Place::Memory(node.checked_add(skip)?), level);
            }
            count = count.saturating_add(1);
            (before, node) = (node, self.pointer_in_memory(node.checked_add(word)?)?);
        }
        if node != end || stated != count {
            return None;
        }
        into.truncated |= into.children.len().to_u64() < count;
        into.value = Value::Text(format!("std::list with {count} elements"));
        Some(())
    }

    fn cxx_deque(&mut self, into: &mut Variable, o: &Object<'b>, level: Level) -> Option<()> {
        let element = self.argument(o, 0)?;
        let size = self.types().size(Some(element)).filter(|s| *s > 0)?;
        let per_block = if size < 256 { BLOCK.checked_div(size)? } else { 16 };
        let start = self.number_at(o, &["__start_"])?;
        let count = self.pair_value(o, "__size_", "__size_").and_then(|s| self.number(&s))?;
        let (begin, end) = (self.number_at(o, &["__map_", "__begin_"])?, self.number_at(o, &["__map_", "__end_"])?);
        let blocks = end.checked_sub(begin)?.checked_div(self.pointer_size())?;
        if start.checked_add(count)? > blocks.checked_mul(per_block)? {
            return None;
        }
        into.value = Value::Text(format!("std::deque with {count} elements"));
        for n in 0..self.most(count) {
            let at = start.checked_add(n)?;
            let slot = begin.checked_add(at.checked_div(per_block)?.checked_mul(self.pointer_size())?)?;
            let block = self.pointer_in_memory(slot)?;
            let place = block.checked_add(at.checked_rem(per_block)?.checked_mul(size)?)?;
            if !self.readable(place, size) {
                return None;
            }
            if !self.element(into, n, Some(element), &Place::Memory(place), level) {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }
}
