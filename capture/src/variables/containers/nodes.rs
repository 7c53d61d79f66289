//! libstdc++: containers made of nodes. Layouts: bits/stl_list.h, forward_list.h, stl_tree.h, hashtable_policy.h.
//!
//! A node is a header of links followed by the element at its own alignment, so elements are found without the node's
//! type, which the debug information of a program need not contain.

use super::super::Variable;
use super::super::build::{Builder, Level};
use super::super::object::{Object, align_up};
use super::LIMIT_LINKS;
use debuginfo::eval::Place;
use debuginfo::types::TypeId;
use evidence::ToU64;
use snapshot_format::schema::Value;

/// What the nodes of a map or set hold: a key, and for maps a value, with their places in the node.
#[derive(Clone, Copy)]
struct Payload {
    key: TypeId,
    key_at: u64,
    value: Option<(TypeId, u64)>,
    size: u64,
}

impl<'b> Builder<'b, '_, '_> {
    pub(super) fn std_list(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        let word = self.pointer_size();
        let element = self.argument(o, 0)?;
        let single = name == "forward_list";
        let links = if single { word } else { word.checked_mul(2)? };
        let skip = align_up(links, self.types().alignment(Some(element))?);
        let size = self.types().size(Some(element))?;
        let head = if single { self.path(o, &["_M_impl", "_M_head"])? } else { self.path(o, &["_M_impl", "_M_node"])? };
        let head = head.place.address()?;
        let end = if single { 0 } else { head };
        let mut count = 0_u64;
        let (mut before, mut node) = (head, self.pointer_in_memory(head)?);
        let most = self.most(u64::MAX);
        while node != end && count < LIMIT_LINKS.to_u64() {
            if !single && self.pointer_in_memory(node.checked_add(word)?)? != before {
                return None;
            }
            if !self.readable(node, skip.checked_add(size)?) {
                return None;
            }
            if count < most && !into.truncated {
                self.element(into, count, Some(element), &Place::Memory(node.checked_add(skip)?), level);
            }
            count = count.saturating_add(1);
            (before, node) = (node, self.pointer_in_memory(node)?);
        }
        // A list without an end is none.
        if node != end {
            return None;
        }
        let stated = self.path(o, &["_M_impl", "_M_node", "_M_size"]).and_then(|n| self.number(&n));
        if stated.is_some_and(|stated| stated != count) {
            return None;
        }
        into.truncated |= into.children.len().to_u64() < count;
        into.value = Value::Text(format!("std::{name} with {count} elements"));
        Some(())
    }

    /// Key and value behind `links` bytes of links.
    fn payload(&self, o: &Object<'b>, name: &str, links: u64) -> Option<Payload> {
        let types = self.types();
        let key = self.argument(o, 0)?;
        let (key_size, key_align) = (types.size(Some(key))?, types.alignment(Some(key))?);
        if !name.ends_with("map") {
            return Some(Payload { key, key_at: align_up(links, key_align), value: None, size: key_size });
        }
        // std::pair<const K, V>: one after the other.
        let value = self.argument(o, 1)?;
        let (value_size, value_align) = (types.size(Some(value))?, types.alignment(Some(value))?);
        let start = align_up(links, key_align.max(value_align));
        let value_at = align_up(start.checked_add(key_size)?, value_align);
        let size = value_at.checked_add(value_size)?.checked_sub(start)?;
        Some(Payload { key, key_at: start, value: Some((value, value_at)), size })
    }

    fn payload_of(&mut self, into: &mut Variable, n: u64, node: u64, p: Payload, level: Level) -> bool {
        let key = Place::Memory(node.wrapping_add(p.key_at));
        match p.value {
            None => self.element(into, n, Some(p.key), &key, level),
            Some((value, at)) => {
                let value = (Some(value), Place::Memory(node.wrapping_add(at)));
                self.entry(into, n, (Some(p.key), key), value, level)
            }
        }
    }

    pub(super) fn std_tree(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        let word = self.pointer_size();
        // _Rb_tree_node_base: colour, parent, left, right.
        let (parent, left, right) = (word, word.checked_mul(2)?, word.checked_mul(3)?);
        let payload = self.payload(o, name, word.checked_mul(4)?)?;
        let header = self.path(o, &["_M_t", "_M_impl", "_M_header"])?.place.address()?;
        let count = self.number_at(o, &["_M_t", "_M_impl", "_M_node_count"])?;
        let link = |node: u64, at: u64| self.pointer_in_memory(node.checked_add(at)?);
        let mut nodes = Vec::new();
        let mut node = link(header, left)?;
        let most = self.most(count);
        let mut steps = 0_usize;
        while nodes.len().to_u64() < most {
            if node == header || !self.readable(node, payload.key_at.checked_add(payload.size)?) {
                return None;
            }
            nodes.push(node);
            // The next one in order: leftmost of the right subtree, or the first ancestor reached from its left.
            let subtree = link(node, right)?;
            if subtree != 0 {
                node = subtree;
                while let Some(next) = link(node, left).filter(|n| *n != 0) {
                    node = next;
                    steps = steps.saturating_add(1);
                    if steps > LIMIT_LINKS {
                        return None;
                    }
                }
            } else {
                let mut above = link(node, parent)?;
                while node == link(above, right)? {
                    (node, above) = (above, link(above, parent)?);
                    steps = steps.saturating_add(1);
                    if steps > LIMIT_LINKS {
                        return None;
                    }
                }
                // From the last node the walk ends at the header, whose right link is that node.
                if link(node, right)? != above {
                    node = above;
                }
            }
        }
        if most == count && node != header && count > 0 {
            return None;
        }
        into.value = Value::Text(format!("std::{name} with {count} elements"));
        for (n, node) in nodes.into_iter().enumerate() {
            if !self.payload_of(into, n.to_u64(), node, payload, level) {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }

    pub(super) fn std_hash(&mut self, into: &mut Variable, o: &Object<'b>, name: &str, level: Level) -> Option<()> {
        let payload = self.payload(o, name, self.pointer_size())?;
        let count = self.number_at(o, &["_M_h", "_M_element_count"])?;
        let mut node = self.number_at(o, &["_M_h", "_M_before_begin", "_M_nxt"])?;
        let mut nodes = Vec::new();
        let most = self.most(count);
        while node != 0 && nodes.len().to_u64() < most {
            if !self.readable(node, payload.key_at.checked_add(payload.size)?) {
                return None;
            }
            nodes.push(node);
            node = self.pointer_in_memory(node)?;
        }
        if nodes.len().to_u64() < most || (most == count && node != 0) {
            return None;
        }
        into.value = Value::Text(format!("std::{name} with {count} elements"));
        for (n, node) in nodes.into_iter().enumerate() {
            if !self.payload_of(into, n.to_u64(), node, payload, level) {
                break;
            }
        }
        into.truncated |= into.children.len().to_u64() < count;
        Some(())
    }
}
