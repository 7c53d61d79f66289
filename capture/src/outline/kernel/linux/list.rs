//! The kernel's doubly linked lists (`struct list_head`): rings whose links lie inside of what they link.

use super::context::Linux;
use evidence::Addr;
use std::collections::HashSet;

/// Most elements of one list: more than the tasks of the largest machine.
const LIMIT_ELEMENTS: usize = 4 << 20;

/// The elements of a ring, and whether all were found.
pub(super) struct Ring {
    /// Where each element starts, in order.
    pub elements: Vec<Addr>,
    /// Why the walk stopped before it came round.
    pub broken: Option<String>,
}

impl Linux<'_> {
    /// Walks the ring whose head lies at `head`; the link lies `link` bytes into each element. A ring that is broken is
    /// walked backwards from its head as well.
    pub(super) fn ring(&self, head: Addr, link: u64) -> Ring {
        self.ring_within(head, link, LIMIT_ELEMENTS)
    }

    /// As [`Linux::ring`], of at most `most` elements in each direction.
    pub(super) fn ring_within(&self, head: Addr, link: u64, most: usize) -> Ring {
        let next = self.offset("list_head", "next").unwrap_or(0);
        let previous = self.offset("list_head", "prev").unwrap_or_else(|| u64::from(self.fields.pointer));
        let mut seen = HashSet::from([head]);
        let (mut elements, broken) = self.follow(head, next, &mut seen, most);
        if broken.is_some() {
            let (mut behind, _) = self.follow(head, previous, &mut seen, most);
            behind.reverse();
            elements.append(&mut behind);
        }
        for element in &mut elements {
            *element = element.wrapping_sub(link);
        }
        Ring { elements, broken }
    }

    fn follow(&self, head: Addr, direction: u64, seen: &mut HashSet<Addr>, most: usize) -> (Vec<Addr>, Option<String>) {
        let mut found = Vec::new();
        let mut at = head;
        loop {
            let link = match self.fields.pointer_at(at.wrapping_add(direction)) {
                Ok(link) => link,
                Err(e) => return (found, Some(format!("the link at {at}: {e}"))),
            };
            if link == head {
                return (found, None);
            }
            if !seen.insert(link) {
                return (found, Some(format!("the link at {at} leads back to {link}")));
            }
            if found.len() >= most {
                return (found, Some(format!("more than {most} elements")));
            }
            found.push(link);
            at = link;
        }
    }
}
