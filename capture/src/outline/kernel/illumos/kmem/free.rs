//! Which buffers are free: those in the lists of their slabs, and those in magazines.

use super::caches::{Cache, Caches, HASH, Slab};
use evidence::{Addr, ToU64};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// CPUs of one machine.
const LIMIT_CPUS: u64 = 4096;
/// Buffers of one magazine: the largest kind has 143.
const LIMIT_ROUNDS: u64 = 4096;

/// The buffers in a cache's magazines: free, but not given back to their slabs.
#[derive(Debug, Default)]
pub(super) struct Magazines {
    buffers: HashSet<Addr>,
    broken: Option<String>,
}

/// The free buffers of a slab.
#[derive(Debug, Default)]
pub(super) struct Free {
    /// Those in the slab's own list, with their control structures.
    listed: HashMap<Addr, Addr>,
    magazines: Rc<Magazines>,
    /// Why not all of them are known.
    pub broken: Option<String>,
}

impl Free {
    /// What is known of a buffer.
    pub(super) fn word(&self, buffer: Addr) -> &'static str {
        match (self.has(buffer), &self.broken) {
            (true, _) => "free",
            (false, None) => "allocated",
            (false, Some(_)) => "not known to be free",
        }
    }

    pub(super) fn has(&self, buffer: Addr) -> bool {
        self.listed.contains_key(&buffer) || self.magazines.buffers.contains(&buffer)
    }

    /// The control structure of a buffer that is in its slab's list.
    pub(super) fn control(&self, buffer: Addr) -> Option<Addr> {
        self.listed.get(&buffer).copied()
    }
}

impl Caches<'_, '_> {
    /// The free buffers of a slab.
    pub(super) fn free(&self, slab: &Slab) -> Free {
        let Some(cache) = self.list.get(slab.cache) else { return Free::default() };
        let known = self.magazines.borrow().get(&slab.cache).cloned();
        let magazines = known.unwrap_or_else(|| Rc::new(self.in_magazines(cache)));
        self.magazines.borrow_mut().insert(slab.cache, magazines.clone());
        let mut free = self.in_list(slab, cache);
        free.broken = free.broken.or_else(|| magazines.broken.clone());
        free.magazines = magazines;
        free
    }

    /// The list of a slab: control structures, or, without a hash, links inside of the buffers.
    fn in_list(&self, slab: &Slab, cache: &Cache) -> Free {
        let mut free = Free::default();
        let place = |path: &str| self.illumos.fields.layouts.member("kmem_bufctl", path).map(|m| m.offset);
        let (Some(next), Some(address)) = (place("bc_next"), place("bc_addr")) else {
            free.broken = Some("nothing describes the slab's list of free buffers".into());
            return free;
        };
        let mut at = slab.head;
        while at.0 != 0 {
            let buffer = if cache.flags & HASH == 0 {
                at.0.checked_sub(cache.to_bufctl).map(Addr)
            } else {
                self.word(at.wrapping_add(address)).map(Addr)
            };
            // A buffer of this slab, at its start, that is not in the list already.
            let own = buffer.filter(|b| slab.index(cache, *b).is_some_and(|(_, inside)| inside == 0));
            let Some(buffer) = own.filter(|b| self.spend() && free.listed.insert(*b, at).is_none()) else {
                free.broken = Some(format!("the slab's list of free buffers is broken at {at}"));
                return free;
            };
            match self.word(at.wrapping_add(next)) {
                Some(link) => at = Addr(link),
                None => {
                    free.broken = Some(format!("the slab's list of free buffers cannot be read behind {buffer}"));
                    return free;
                }
            }
        }
        let unused = slab.chunks.saturating_sub(slab.used);
        if free.listed.len().to_u64() != unused {
            let listed = free.listed.len();
            free.broken = Some(format!("the slab counts {unused} free buffers, and lists {listed}"));
        }
        free
    }

    fn in_magazines(&self, cache: &Cache) -> Magazines {
        let illumos = self.illumos;
        let mut free = Magazines::default();
        let kind = illumos.pointer(cache.at, "kmem_cache", "cache_magtype");
        let size = kind.and_then(|at| illumos.number(at, "kmem_magtype", "mt_magsize"));
        let place = |of: &str, path: &str| illumos.fields.layouts.member(of, path).map(|m| m.offset);
        let rounds = place("kmem_magazine", "mag_round").zip(place("kmem_magazine", "mag_next"));
        let (Some(size), Some((rounds, next))) = (size.filter(|n| *n <= LIMIT_ROUNDS), rounds) else {
            // Caches that are to have no magazines have no kind of them either.
            if kind.is_some() {
                free.broken = Some("the cache's magazines cannot be read".into());
            }
            return free;
        };
        let take = |free: &mut Magazines, magazine: Addr, count: u64| {
            for n in 0..count.min(LIMIT_ROUNDS) {
                let at = magazine.wrapping_add(rounds).wrapping_add(n.wrapping_mul(8));
                match self.word(at).filter(|_| self.spend()) {
                    Some(buffer) => {
                        free.buffers.insert(Addr(buffer));
                    }
                    None => {
                        free.broken = Some(format!("the magazine at {magazine} cannot be read"));
                        return;
                    }
                }
            }
        };
        let mut seen = HashSet::new();
        let mut at = illumos.number(cache.at, "kmem_cache", "cache_full.ml_list");
        while let Some(magazine) = at.filter(|m| *m != 0).map(Addr) {
            if !seen.insert(magazine) || !self.spend() {
                free.broken = Some(format!("the list of full magazines leads back to {magazine}"));
                break;
            }
            take(&mut free, magazine, size);
            at = self.word(magazine.wrapping_add(next));
        }
        if at.is_none() {
            free.broken = Some("the list of full magazines cannot be read to its end".into());
        }
        self.of_cpus(cache, &mut free, &take);
        free
    }

    fn of_cpus(&self, cache: &Cache, free: &mut Magazines, take: &dyn Fn(&mut Magazines, Addr, u64)) {
        let illumos = self.illumos;
        let layouts = illumos.fields.layouts;
        let first = layouts.member("kmem_cache", "cache_cpu").map(|m| cache.at.wrapping_add(m.offset));
        let count = ["max_ncpus", "ncpus"].iter().find_map(|name| {
            let at = Addr(illumos.symbols.find(name)?);
            illumos.given.memory.read_u32(at, illumos.fields.endian).ok().map(u64::from)
        });
        let (Some(first), Some(size), Some(count)) = (first, layouts.size_of("kmem_cpu_cache"), count) else {
            free.broken = Some("the magazines of CPUs are not described".into());
            return;
        };
        if count > LIMIT_CPUS {
            free.broken = Some(format!("the kernel counts {count} CPUs"));
        }
        for cpu in 0..count.min(LIMIT_CPUS) {
            let at = first.wrapping_add(cpu.wrapping_mul(size));
            let value = |path: &str| illumos.number(at, "kmem_cpu_cache", path);
            for (magazine, rounds, saved) in
                [("cc_loaded", "cc_rounds", "cc_dump_rounds"), ("cc_ploaded", "cc_prounds", "cc_dump_prounds")]
            {
                let (Some(magazine), Some(mut held)) = (value(magazine), value(rounds)) else {
                    free.broken = Some(format!("the magazines of CPU {cpu} cannot be read"));
                    continue;
                };
                // The CPU that writes the dump sets its numbers aside, and -1 in their place.
                if held.cast_signed() < 0 {
                    held = value(saved).filter(|n| n.cast_signed() > 0).unwrap_or(0);
                }
                if held > 0 && magazine != 0 {
                    take(free, Addr(magazine), held);
                }
            }
        }
    }
}
