//! The kernel's red-black trees (`struct rb_root`).

use super::State;
use evidence::Addr;
use std::collections::HashSet;

/// The nodes of the tree whose root pointer lies at `root`, in order, and why not all were found.
pub(super) fn nodes(state: &State<'_, '_>, root: Addr) -> (Vec<Addr>, Option<String>) {
    let (Some(left), Some(right)) = (state.place("rb_node", "rb_left"), state.place("rb_node", "rb_right")) else {
        return (Vec::new(), Some("nothing describes rb_node".into()));
    };
    let link = |at: Addr| state.linux.fields.pointer_at(at).map_err(|e| format!("the link at {at}: {e}"));
    let mut seen = HashSet::new();
    let (mut found, mut above) = (Vec::new(), Vec::new());
    let mut broken = None;
    let mut at = match link(root) {
        Ok(at) => at,
        Err(why) => return (Vec::new(), Some(why)),
    };
    loop {
        while at.0 != 0 {
            if !seen.insert(at) || !state.spend() {
                broken = Some(format!("the tree leads to {at} twice, or is too large"));
                break;
            }
            above.push(at);
            at = link(at.wrapping_add(left)).unwrap_or_else(|why| {
                broken = Some(why);
                Addr(0)
            });
        }
        let Some(node) = above.pop() else { return (found, broken) };
        found.push(node);
        at = link(node.wrapping_add(right)).unwrap_or_else(|why| {
            broken = Some(why);
            Addr(0)
        });
    }
}
