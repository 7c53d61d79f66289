//! The objects of the slab allocator that the registers of an oops point to: cache, place, free or not, contents.
//!
//! Source: `mm/slab.h`, `mm/slub.c`, `include/linux/page-flags.h` of Linux 4.19 to 6.x. A page belongs to a slab when
//! the kernel says so of it and its cache is in the kernel's list of caches. An object is free when the slab's list, the
//! list of a CPU whose slab it is, or a sheaf (6.18) holds it; where a list cannot be read to its end, it is not known.

use super::freelist::{Coding, LIMIT_OBJECTS, Objects, walk};
use super::suspects::{Suspects, pointers};
use super::{State, attribute};
use evidence::{Addr, Attribute, ToUsize};
use std::collections::HashSet;

/// Most bytes of an object that are looked at.
const LIMIT_CONTENTS: u64 = 64 << 10;
/// Longest name of a cache.
const LIMIT_NAME: usize = 128;
/// Most objects of a sheaf.
const LIMIT_SHEAF: u64 = 1 << 16;
/// Most memory nodes: `MAX_NUMNODES` is 1024.
const LIMIT_NODES: u64 = 1024;
/// `SLAB_POISON` (include/linux/slab.h) up to 6.8; since then its bit is an enumerator.
const POISON: u64 = 0x800;
/// `POISON_FREE`, `POISON_END` (include/linux/poison.h).
const POISON_FREE: u8 = 0x6b;

/// Where the memory map and the slabs' members lie.
struct Map<'m, 's, 'k> {
    state: &'m State<'s, 'k>,
    /// The first address of the direct map, and of the array of `struct page`.
    direct: Addr,
    pages: Addr,
    page: u64,
    /// `slab` since 5.17, `page` before.
    of: &'static str,
    caches: HashSet<Addr>,
}

/// A slab and its cache.
struct Slab {
    at: Addr,
    cache: Addr,
    objects: Objects,
    coding: Option<Coding>,
}

impl<'m, 's, 'k> Map<'m, 's, 'k> {
    fn of(state: &'m State<'s, 'k>) -> Option<Self> {
        let linux = state.linux;
        let (direct, pages) = (linux.pointer("page_offset_base")?, linux.pointer("vmemmap_base")?);
        let of = if state.place("slab", "slab_cache").is_some() { "slab" } else { "page" };
        let ring = state.ring(linux.symbol("slab_caches")?, state.place("kmem_cache", "list")?);
        if let Some(why) = ring.broken {
            linux.doubt("slab", format!("the list of caches is broken: {why}"));
        }
        let caches = ring.elements.into_iter().collect();
        Some(Self { state, direct, pages, page: linux.size("page")?, of, caches })
    }

    /// The first page of what a page of the direct map belongs to.
    fn head(&self, at: Addr) -> Option<Addr> {
        let number = at.offset_from(self.direct)?.checked_div(self.state.linux.info.page_size())?;
        let page = self.pages.checked_add(number.checked_mul(self.page)?)?;
        let compound = self.state.first(page, "page", &["compound_head", "compound_info"])?;
        Some(if compound & 1 == 1 { Addr(compound.wrapping_sub(1)) } else { page })
    }

    /// Whether the kernel says that a page is a slab's; `None` where nothing describes how it would.
    fn marked(&self, head: Addr) -> Option<bool> {
        let layouts = self.state.linux.fields.layouts;
        if let Some(bit) = layouts.enumerator("PG_slab").and_then(|n| u32::try_from(n).ok()) {
            let flags = self.state.first(head, "page", &["flags", "flags.f"])?;
            return Some(flags.checked_shr(bit)? & 1 == 1);
        }
        let kind = u64::try_from(layouts.enumerator("PGTY_slab")?).ok()?;
        Some((self.state.value(head, "page", "page_type")? & 0xffff_ffff) >> 24 == kind & 0xff)
    }

    fn slab(&self, at: Addr) -> Option<Slab> {
        let state = self.state;
        let head = self.head(at)?;
        if self.marked(head) == Some(false) {
            return None;
        }
        let cache = state.pointer(head, self.of, "slab_cache").filter(|c| self.caches.contains(c))?;
        let size = state.value(cache, "kmem_cache", "size").filter(|n| *n > 0)?;
        let number = head.offset_from(self.pages)?.checked_div(self.page)?;
        let start = self.direct.checked_add(number.checked_mul(state.linux.info.page_size())?)?;
        let count = state.value(head, self.of, "objects").filter(|n| *n > 0 && *n <= LIMIT_OBJECTS)?;
        let pad = state.value(cache, "kmem_cache", "red_left_pad").unwrap_or(0);
        let offset = state.value(cache, "kmem_cache", "offset");
        let coding = offset.map(|offset| Coding { offset, random: state.value(cache, "kmem_cache", "random") });
        let objects = Objects { first: start.checked_add(pad)?, size, count };
        Some(Slab { at: head, cache, objects, coding })
    }

    /// The free objects by number, and why not all of them are known.
    fn free(&self, slab: &Slab) -> (HashSet<u64>, Option<String>) {
        let state = self.state;
        let Some(coding) = slab.coding else {
            return (HashSet::new(), Some("this allocator's lists of free objects are not read".into()));
        };
        let mut free = HashSet::new();
        let mut broken = None;
        let word = |at| state.linux.word(at);
        let mut add = |first: Option<Addr>| match first.ok_or_else(|| "a list of free objects cannot be read".into()) {
            Ok(first) => match walk(first, &slab.objects, coding, &word) {
                Ok(more) => free.extend(more),
                Err(why) => broken = Some(why),
            },
            Err(why) => broken = Some(why),
        };
        add(state.value(slab.at, self.of, "freelist").map(Addr));
        let own = state.first_place("kmem_cache_cpu", &["slab", "page"]);
        let per_cpu = state.pointer(slab.cache, "kmem_cache", "cpu_slab");
        if let (Some(own), Some(per_cpu)) = (own, per_cpu) {
            for cpu in &state.numbers {
                let at = state.linux.cpu_offset(*cpu).map(|offset| per_cpu.wrapping_add(offset));
                if at.and_then(|at| state.linux.word(at.wrapping_add(own))) == Some(slab.at.0) {
                    add(at.and_then(|at| state.value(at, "kmem_cache_cpu", "freelist")).map(Addr));
                }
            }
        }
        for sheaf in self.sheaves(slab.cache) {
            match self.sheaf(sheaf) {
                Some(objects) => free.extend(objects.into_iter().filter_map(|at| slab.objects.index(at))),
                None => broken = Some(format!("the sheaf at {sheaf} cannot be read")),
            }
        }
        (free, broken)
    }

    /// The sheaves of a cache: those of CPUs, and the full ones that wait in the barns of memory nodes.
    fn sheaves(&self, cache: Addr) -> Vec<Addr> {
        let state = self.state;
        let mut found = Vec::new();
        if let Some(per_cpu) = state.pointer(cache, "kmem_cache", "cpu_sheaves") {
            for cpu in &state.numbers {
                let Some(offset) = state.linux.cpu_offset(*cpu) else { continue };
                let at = per_cpu.wrapping_add(offset);
                found.extend(["main", "spare"].iter().filter_map(|m| state.pointer(at, "slub_percpu_sheaves", m)));
            }
        }
        let (Some(nodes), Some(link)) = (self.nodes(), state.place("slab_sheaf", "barn_list")) else { return found };
        for node in 0..nodes {
            let barn = state.pointer(cache, "kmem_cache", &format!("per_node[{node}].barn")).or_else(|| {
                let node = state.pointer(cache, "kmem_cache", &format!("node[{node}]"))?;
                state.pointer(node, "kmem_cache_node", "barn")
            });
            let Some(head) = barn.zip(state.place("node_barn", "sheaves_full")) else { continue };
            found.extend(state.ring(head.0.wrapping_add(head.1), link).elements);
        }
        found
    }

    fn nodes(&self) -> Option<u64> {
        let nodes = self.state.linux.int("nr_node_ids").unwrap_or(1);
        Some(u64::from(nodes).clamp(1, LIMIT_NODES))
    }

    fn sheaf(&self, sheaf: Addr) -> Option<Vec<Addr>> {
        let size = self.state.value(sheaf, "slab_sheaf", "size").filter(|n| *n <= LIMIT_SHEAF)?;
        let first = sheaf.wrapping_add(self.state.place("slab_sheaf", "objects")?);
        (0..size).map(|n| self.state.linux.word(first.wrapping_add(n.wrapping_mul(8))).map(Addr)).collect()
    }

    fn poisoned(&self, cache: Addr) -> bool {
        let layouts = self.state.linux.fields.layouts;
        let bit = layouts.enumerator("_SLAB_POISON").and_then(|n| u32::try_from(n).ok());
        let mask = bit.map_or(POISON, |bit| 1_u64.checked_shl(bit).unwrap_or(0));
        self.state.value(cache, "kmem_cache", "flags").is_some_and(|flags| flags & mask != 0)
    }

    fn describe(&self, slab: &Slab, index: u64, named: &[(String, u64)], wild: &[(String, u64)]) -> String {
        let state = self.state;
        let start = slab.objects.start(index);
        let name = state.pointer(slab.cache, "kmem_cache", "name").and_then(|at| state.linux.text(at, LIMIT_NAME));
        let name = name.unwrap_or_else(|| format!("at {}", slab.cache));
        let size = state.value(slab.cache, "kmem_cache", "object_size").unwrap_or(slab.objects.size);
        let shared = state.value(slab.cache, "kmem_cache", "refcount").filter(|n| *n > 1 && *n <= 1024);
        let shared = shared.map_or_else(String::new, |n| format!(", shared by {n} kinds of objects"));
        let (free, broken) = self.free(slab);
        let word = |index: u64| match (free.contains(&index), &broken) {
            (true, _) => "free",
            (false, None) => "allocated",
            (false, Some(_)) => "not known to be free",
        };
        let mut text = format!("object {start} of cache {name} ({size} bytes{shared}): {}", word(index));
        for (register, inside) in named {
            text.push_str(&format!("; {register} is +{inside:#x}"));
        }
        let length = size.min(slab.objects.size).min(LIMIT_CONTENTS);
        let bytes = state.linux.bytes(start, length.to_usize()).unwrap_or_default();
        for (what, value) in wild {
            let words = bytes.chunks_exact(8);
            let holds = words.enumerate().find(|(_, w)| *w == value.to_le_bytes()).map(|(n, _)| n.saturating_mul(8));
            if let Some(inside) = holds {
                text.push_str(&format!("; {what} ({value:#x}) is what it holds at +{inside:#x}"));
            }
        }
        let poisoned = self.poisoned(slab.cache);
        match bytes.split_first() {
            Some((b, rest)) if rest.iter().all(|x| x == b) => text.push_str(&format!("; all its bytes are {b:#04x}")),
            Some((_, rest)) if poisoned && rest.iter().rev().skip(1).all(|b| *b == POISON_FREE) => {
                text.push_str("; filled with the poison of free objects");
            }
            _ => {}
        }
        if poisoned {
            text.push_str("; the cache poisons free objects");
        }
        if let Some(before) = index.checked_sub(1) {
            text.push_str(&format!("; the object before it: {}", word(before)));
        }
        let behind = index.saturating_add(1);
        if behind < slab.objects.count {
            text.push_str(&format!("; the one behind it: {}", word(behind)));
        }
        if let Some(why) = broken {
            text.push_str(&format!("; {why}"));
        }
        text
    }
}

/// An object with the registers that point to it, and how far into it.
struct Found {
    slab: Slab,
    index: u64,
    registers: Vec<(String, u64)>,
}

/// One attribute per object that a register points to, in the order of registers.
pub(super) fn read(state: &State<'_, '_>, suspects: &Suspects) -> Vec<Attribute> {
    let pointers = pointers(suspects);
    if pointers.is_empty() {
        return Vec::new();
    }
    let Some(map) = Map::of(state) else {
        state.linux.doubt("slab", "nothing says where the kernel keeps its memory map: objects are not looked up");
        return Vec::new();
    };
    let wild = suspects.wild();
    let mut found: Vec<Found> = Vec::new();
    for (register, at) in pointers {
        let Some(slab) = map.slab(at) else { continue };
        let Some(index) = slab.objects.index(at) else { continue };
        let inside = at.offset_from(slab.objects.start(index)).unwrap_or(0);
        let named = (register.to_owned(), inside);
        match found.iter_mut().find(|f| f.slab.at == slab.at && f.index == index) {
            Some(known) => known.registers.push(named),
            None => found.push(Found { slab, index, registers: vec![named] }),
        }
    }
    let text = |f: &Found| map.describe(&f.slab, f.index, &f.registers, &wild);
    found.iter().map(|f| attribute("slab", None, text(f))).collect()
}
