//! SLUB's lists of free objects: each free object holds a pointer to the next one, which may be obfuscated.
//!
//! Source: `freelist_ptr`, `get_freepointer` in `mm/slub.c`. With `CONFIG_SLAB_FREELIST_HARDENED` the pointer is XORed
//! with the cache's random number and with the address that it lies at; since 5.7 with that address's bytes reversed.
//! Which of the two it is is not written down: the one is taken that leads to objects of the slab.

use evidence::Addr;
use std::collections::HashSet;

/// Most objects of one slab: `objects` has 15 bits.
pub(super) const LIMIT_OBJECTS: u64 = 1 << 15;

/// The objects of one slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objects {
    /// Where the first object starts, behind what guards it.
    pub first: Addr,
    /// Bytes from one object to the next.
    pub size: u64,
    /// How many.
    pub count: u64,
}

impl Objects {
    /// The number of the object that an address lies in.
    pub(super) fn index(&self, at: Addr) -> Option<u64> {
        let index = at.offset_from(self.first)?.checked_div(self.size)?;
        (index < self.count).then_some(index)
    }

    /// Where an object starts.
    pub(super) fn start(&self, index: u64) -> Addr {
        self.first.wrapping_add(index.wrapping_mul(self.size))
    }

    fn is_start(&self, at: Addr) -> bool {
        self.index(at).is_some_and(|index| self.start(index) == at)
    }
}

/// How pointers of free objects are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding {
    /// Where in an object the pointer lies.
    pub offset: u64,
    /// The cache's random number, when the kernel has one.
    pub random: Option<u64>,
}

/// The free objects of a list by their numbers.
///
/// # Errors
/// Why the list is no list of objects of this slab.
pub(super) fn walk(
    first: Addr,
    objects: &Objects,
    coding: Coding,
    word: &dyn Fn(Addr) -> Option<u64>,
) -> Result<HashSet<u64>, String> {
    let Some(random) = coding.random else { return one(first, objects, coding.offset, word, &|raw, _| raw) };
    let swapped = one(first, objects, coding.offset, word, &|raw, at| raw ^ random ^ at.swap_bytes());
    swapped.or_else(|why| one(first, objects, coding.offset, word, &|raw, at| raw ^ random ^ at).map_err(|_| why))
}

fn one(
    first: Addr,
    objects: &Objects,
    offset: u64,
    word: &dyn Fn(Addr) -> Option<u64>,
    decode: &dyn Fn(u64, u64) -> u64,
) -> Result<HashSet<u64>, String> {
    let mut free = HashSet::new();
    let mut at = first;
    while at.0 != 0 {
        let index = objects.index(at).filter(|_| objects.is_start(at));
        let index = index.ok_or_else(|| format!("the list of free objects leads to {at}, where no object starts"))?;
        if !free.insert(index) {
            return Err(format!("the list of free objects leads to {at} twice"));
        }
        let place = at.wrapping_add(offset);
        let raw = word(place).ok_or_else(|| format!("the bytes at {place} are missing"))?;
        at = Addr(decode(raw, place.0));
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const OBJECTS: Objects = Objects { first: Addr(0xffff_8880_0010_0000), size: 64, count: 4 };

    fn list(order: &[u64], code: &dyn Fn(u64, u64) -> u64) -> HashMap<Addr, u64> {
        let next = order.iter().skip(1).map(|i| OBJECTS.start(*i).0).chain([0]);
        let link = |(i, next): (&u64, u64)| {
            let at = OBJECTS.start(*i).wrapping_add(32);
            (at, code(next, at.0))
        };
        order.iter().zip(next).map(link).collect()
    }

    fn found(words: &HashMap<Addr, u64>, random: Option<u64>) -> Result<Vec<u64>, String> {
        let free = walk(OBJECTS.start(2), &OBJECTS, Coding { offset: 32, random }, &|at| words.get(&at).copied())?;
        let mut free: Vec<u64> = free.into_iter().collect();
        free.sort_unstable();
        Ok(free)
    }

    #[test]
    fn plain_and_hardened_lists() {
        let random = 0x1234_5678_9abc_def0;
        assert_eq!(found(&list(&[2, 0, 3], &|next, _| next), None), Ok(vec![0, 2, 3]));
        let swapped = list(&[2, 0, 3], &|next, at| next ^ random ^ at.swap_bytes());
        assert_eq!(found(&swapped, Some(random)), Ok(vec![0, 2, 3]));
        let older = list(&[2, 0, 3], &|next, at| next ^ random ^ at);
        assert_eq!(found(&older, Some(random)), Ok(vec![0, 2, 3]));
    }

    #[test]
    fn lists_that_are_none() {
        let mut words = list(&[2, 0], &|next, _| next);
        words.insert(OBJECTS.start(0).wrapping_add(32), OBJECTS.start(2).0);
        assert!(found(&words, None).unwrap_err().contains("twice"));
        words.insert(OBJECTS.start(0).wrapping_add(32), 0x4141_4141_4141_4141);
        assert!(found(&words, None).unwrap_err().contains("no object starts"));
        assert!(found(&words, Some(1)).is_err());
        words.remove(&OBJECTS.start(0).wrapping_add(32));
        assert!(found(&words, None).unwrap_err().contains("missing"));
    }
}
