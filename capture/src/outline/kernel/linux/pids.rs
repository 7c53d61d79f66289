//! Tasks by the table of pids: a second way to them, for when the list of processes is broken.
//!
//! The table (`struct idr`) is a radix tree: `struct xa_node` since 4.20, `struct radix_tree_node` before. Pointers to
//! inner nodes have a tag in their two lowest bits (`include/linux/xarray.h`, `radix-tree.h`); leaves are `struct pid`.

use super::context::Linux;
use debuginfo::layout::Shape;
use evidence::Addr;
use std::collections::HashSet;

/// Most levels: 64 bits of index at 4 bits each.
const LIMIT_DEPTH: usize = 16;
/// Most nodes: 2^22 pids in nodes of 16, with every level above.
const LIMIT_NODES: usize = 1 << 20;
/// Most slots of a node: `XA_CHUNK_SIZE` is 64.
const LIMIT_SLOTS: u64 = 64;

struct Tree<'l, 'k> {
    linux: &'l Linux<'k>,
    slots: u64,
    count: u64,
    seen: HashSet<Addr>,
    leaves: Vec<Addr>,
}

impl Tree<'_, '_> {
    fn walk(&mut self, entry: Addr, depth: usize) {
        if entry.0 & 3 == 0 {
            if entry.0 != 0 {
                self.leaves.push(entry);
            }
            return;
        }
        let node = Addr(entry.0 & !3);
        if depth >= LIMIT_DEPTH || self.seen.len() >= LIMIT_NODES || !self.seen.insert(node) {
            return;
        }
        for slot in 0..self.count {
            let at = node.wrapping_add(self.slots).wrapping_add(slot.wrapping_mul(8));
            if let Ok(entry) = self.linux.fields.pointer_at(at) {
                self.walk(entry, depth.saturating_add(1));
            }
        }
    }
}

/// The `task_struct` of every pid of the first namespace, in the order of pids.
pub(super) fn all(linux: &Linux<'_>) -> Vec<Addr> {
    find(linux).unwrap_or_default()
}

fn find(linux: &Linux<'_>) -> Option<Vec<Addr>> {
    let layouts = linux.fields.layouts;
    let root = linux.fields.first_place("pid_namespace", &["idr.idr_rt.xa_head", "idr.idr_rt.rnode"]).ok()?;
    let node = ["xa_node", "radix_tree_node"].iter().find_map(|name| layouts.member(name, "slots"))?;
    let Shape::Array { count, .. } = node.shape else { return None };
    let (tasks, link) =
        (layouts.member("pid", "tasks[0]")?.offset, layouts.member("task_struct", "pid_links[0]")?.offset);
    let head = linux.fields.pointer_at(linux.symbol("init_pid_ns")?.wrapping_add(root.offset)).ok()?;
    let count = count.min(LIMIT_SLOTS);
    let mut tree = Tree { linux, slots: node.offset, count, seen: HashSet::new(), leaves: Vec::new() };
    tree.walk(head, 0);
    let task = |pid: &Addr| {
        let first = linux.fields.pointer_at(pid.wrapping_add(tasks)).ok()?;
        (first.0 != 0).then(|| first.wrapping_sub(link))
    };
    Some(tree.leaves.iter().filter_map(task).collect())
}
