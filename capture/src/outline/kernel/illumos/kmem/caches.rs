//! The allocator's caches and slabs, and which slab an address lies in.

use super::super::Illumos;
use super::free::Magazines;
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, ToUsize};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

const LE: Endian = Endian::Little;
/// Caches of one kernel: a machine with many pools has some hundred.
const LIMIT_CACHES: usize = 1 << 14;
/// Slabs, buffers and magazines that are looked at in all: damaged lists may all lead into one long one.
const LIMIT_LINKS: usize = 2 << 20;
/// Buffers of one slab: slabs have 128 KiB at most, buffers 8 bytes at least.
const LIMIT_CHUNKS: u64 = 1 << 16;
/// Bytes of one slab: oversize slabs take a few times the largest buffer.
const LIMIT_SLAB: u64 = 64 << 20;
/// `KMF_HASH`: buffers have control structures outside of their slab (sys/kmem_impl.h).
pub(super) const HASH: u64 = 0x200;

/// A cache.
pub(super) struct Cache {
    pub at: Addr,
    pub name: String,
    /// Bytes of a buffer, and with what the allocator adds to it.
    pub size: u64,
    pub chunk: u64,
    pub slab: u64,
    /// How far behind a buffer's start its control structure (of caches without a hash) and its tag lie.
    pub to_bufctl: u64,
    pub to_tag: u64,
    /// Bytes that are filled when a buffer is freed.
    pub verify: u64,
    pub flags: u64,
}

/// A slab that is linked into its cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    pub at: Addr,
    /// Its cache's place in the list.
    pub cache: usize,
    pub base: Addr,
    pub chunks: u64,
    pub used: u64,
    /// The first free buffer's control structure.
    pub head: Addr,
}

impl Slab {
    /// Where a buffer starts.
    pub(super) fn start(&self, cache: &Cache, index: u64) -> Option<Addr> {
        self.base.checked_add(index.checked_mul(cache.chunk)?)
    }

    /// The buffer that an address lies in, and how far inside.
    pub(super) fn index(&self, cache: &Cache, at: Addr) -> Option<(u64, u64)> {
        let offset = at.offset_from(self.base)?;
        let (index, inside) = (offset.checked_div(cache.chunk)?, offset.checked_rem(cache.chunk)?);
        (index < self.chunks).then_some((index, inside))
    }
}

/// Where members lie that are read often.
struct Places {
    slab: u64,
    cache: u64,
    base: u64,
    link: u64,
    head: u64,
    used: u64,
    chunks: u64,
    children: u64,
    parent: u64,
}

impl Places {
    fn of(illumos: &Illumos<'_>) -> Option<Self> {
        let place = |of: &str, path: &str| illumos.fields.layouts.member(of, path).map(|m| m.offset);
        Some(Self {
            slab: illumos.fields.layouts.size_of("kmem_slab").filter(|n| (24..=4096).contains(n))?,
            cache: place("kmem_slab", "slab_cache")?,
            base: place("kmem_slab", "slab_base")?,
            link: place("kmem_slab", "slab_link")?,
            head: place("kmem_slab", "slab_head")?,
            used: place("kmem_slab", "slab_refcnt")?,
            chunks: place("kmem_slab", "slab_chunks")?,
            children: place("avl_node", "avl_child")?,
            parent: place("avl_node", "avl_pcb")?,
        })
    }
}

/// All caches.
pub(super) struct Caches<'k, 'i> {
    pub illumos: &'k Illumos<'i>,
    pub list: Vec<Cache>,
    by_address: HashMap<Addr, usize>,
    places: Places,
    left: Cell<usize>,
    /// What could not be read: the first reason, and how many there are.
    broken: RefCell<Option<(String, usize)>>,
    /// The slabs of the addresses that were looked for.
    known: HashMap<Addr, Slab>,
    /// The buffers in magazines by cache.
    pub magazines: RefCell<HashMap<usize, Rc<Magazines>>>,
}

impl<'k, 'i> Caches<'k, 'i> {
    /// Reads all caches, and looks for the slabs of these addresses.
    pub(super) fn read(illumos: &'k Illumos<'i>, addresses: &BTreeSet<Addr>) -> Option<Self> {
        let places = Places::of(illumos)?;
        let list = Addr(illumos.symbols.find("kmem_caches")?);
        let place = |of: &str, path: &str| illumos.fields.layouts.member(of, path).map(|m| m.offset);
        let head = list.checked_add(place("list", "list_head")?)?;
        let (link, next) = (place("kmem_cache", "cache_link")?, place("list_node", "list_next")?);
        let mut found = Self {
            illumos,
            list: Vec::new(),
            by_address: HashMap::new(),
            places,
            left: Cell::new(LIMIT_LINKS),
            broken: RefCell::default(),
            known: HashMap::new(),
            magazines: RefCell::default(),
        };
        let mut at = found.word(head.wrapping_add(next)).map(Addr)?;
        while at != head {
            let cache = at.wrapping_sub(link);
            if found.by_address.contains_key(&cache) || found.list.len() >= LIMIT_CACHES {
                found.lacks(format!("the list of caches does not come round at {at}"));
                break;
            }
            let (Some(row), Some(following)) = (found.cache(cache), found.word(at.wrapping_add(next))) else {
                found.lacks(format!("the cache at {cache} cannot be read"));
                break;
            };
            found.by_address.insert(cache, found.list.len());
            found.list.push(row);
            at = Addr(following);
        }
        found.find(addresses);
        (!found.list.is_empty()).then_some(found)
    }

    fn cache(&self, at: Addr) -> Option<Cache> {
        let value = |path: &str| self.illumos.number(at, "kmem_cache", path);
        let name = self.illumos.fields.text(at, "kmem_cache", "cache_name").ok().filter(|n| !n.is_empty());
        let cache = Cache {
            at,
            name: name.unwrap_or_else(|| format!("at {at}")),
            size: value("cache_bufsize")?,
            chunk: value("cache_chunksize")?,
            slab: value("cache_slabsize")?,
            to_bufctl: value("cache_bufctl")?,
            to_tag: value("cache_buftag")?,
            verify: value("cache_verify")?,
            flags: value("cache_flags")? & 0xffff_ffff,
        };
        let sound = cache.chunk >= 8 && cache.size <= cache.chunk && cache.chunk <= cache.slab;
        (sound && cache.slab <= LIMIT_SLAB && cache.to_tag <= cache.chunk && cache.to_bufctl <= cache.chunk)
            .then_some(cache)
    }

    pub(super) fn word(&self, at: Addr) -> Option<u64> {
        self.illumos.fields.pointer_at(at).ok().map(|a| a.0)
    }

    /// Takes one link from those that may still be followed.
    pub(super) fn spend(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Notes what could not be read.
    pub(super) fn lacks(&self, why: String) {
        let mut broken = self.broken.borrow_mut();
        let entry = broken.get_or_insert_with(|| (why, 0));
        entry.1 = entry.1.saturating_add(1);
    }

    /// Says what could not be read: one doubt speaks for all.
    pub(super) fn state_doubts(&self) {
        if let Some((why, count)) = self.broken.take() {
            let more =
                if count > 1 { format!("; {} more of that kind", count.saturating_sub(1)) } else { String::new() };
            self.illumos.doubt("kernel-memory", format!("{why}{more}"));
        }
        if self.left.get() == 0 {
            let why = format!("more than {LIMIT_LINKS} slabs, buffers and magazines: not all were looked at");
            self.illumos.doubt("kernel-memory", why);
        }
    }

    fn slab(&self, at: Addr) -> Option<Slab> {
        let places = &self.places;
        let mut raw = vec![0; places.slab.to_usize()];
        self.illumos.given.memory.read_exact(at, &mut raw).ok()?;
        let word = |place: u64| u64_at(&raw, place.to_usize(), LE);
        let number = *self.by_address.get(&Addr(word(places.cache)?))?;
        let cache = self.list.get(number)?;
        let (chunks, used) = (word(places.chunks)?, word(places.used)?);
        let fits = (1..=LIMIT_CHUNKS).contains(&chunks) && chunks.checked_mul(cache.chunk)? <= cache.slab;
        let (base, head) = (Addr(word(places.base)?), Addr(word(places.head)?));
        (fits && used <= chunks).then_some(Slab { at, cache: number, base, chunks, used, head })
    }

    /// The slab that an address lies in, if it was among those that were looked for.
    pub(super) fn slab_of(&self, at: Addr) -> Option<Slab> {
        self.known.get(&at).copied()
    }

    /// Looks for the slabs that addresses lie in.
    fn find(&mut self, addresses: &BTreeSet<Addr>) {
        let mut found: HashMap<Addr, Slab> = addresses.iter().filter_map(|at| Some((*at, self.inside(*at)?))).collect();
        let wanted: BTreeSet<Addr> = addresses.iter().filter(|at| !found.contains_key(at)).copied().collect();
        if !wanted.is_empty() {
            for (number, cache) in self.list.iter().enumerate().filter(|(_, c)| c.flags & HASH != 0) {
                self.walk(number, cache, &mut |slab| {
                    let end = slab.base.saturating_add(slab.chunks.saturating_mul(cache.chunk));
                    found.extend(wanted.range(slab.base..end).map(|at| (*at, *slab)));
                });
            }
        }
        self.known = found;
    }

    /// The slab of a cache without a hash keeps its structure in its own last bytes.
    fn inside(&self, at: Addr) -> Option<Slab> {
        let sizes: BTreeSet<u64> = self.list.iter().filter(|c| c.flags & HASH == 0).map(|c| c.slab).collect();
        sizes.into_iter().filter(|size| size.is_power_of_two()).find_map(|size| {
            let end = Addr(at.0 & !size.wrapping_sub(1)).checked_add(size)?;
            let slab = self.slab(Addr(end.0.checked_sub(self.places.slab)?))?;
            let cache = self.list.get(slab.cache).filter(|c| c.flags & HASH == 0 && c.slab == size)?;
            let own = end.offset_from(slab.base).is_some_and(|n| n <= size);
            (own && slab.index(cache, at).is_some() && self.linked(&slab, cache)).then_some(slab)
        })
    }

    /// Whether a slab is where its cache keeps its slabs: what lies in the last bytes of a page may be left over.
    fn linked(&self, slab: &Slab, cache: &Cache) -> bool {
        let node = slab.at.wrapping_add(self.places.link);
        if slab.head.0 == 0 {
            // In the list of slabs that are all in use: its neighbours lead back to it.
            let next = self.member("list_node", "list_next").unwrap_or(0);
            let previous = self.member("list_node", "list_prev").unwrap_or(8);
            let back = self.word(node.wrapping_add(next)).and_then(|n| self.word(Addr(n).wrapping_add(previous)));
            return back == Some(node.0);
        }
        // In the tree of the others: its parent, or the tree's root, leads to it.
        let Some(parent) = self.word(node.wrapping_add(self.places.parent)) else { return false };
        let child = match parent & !7 {
            0 => self.illumos.number(cache.at, "kmem_cache", "cache_partial_slabs.avl_root"),
            at => self.word(Addr(at).wrapping_add(self.places.children).wrapping_add((parent & 4) << 1)),
        };
        child == Some(node.0)
    }

    fn member(&self, of: &str, path: &str) -> Option<u64> {
        self.illumos.fields.layouts.member(of, path).map(|m| m.offset)
    }

    /// All slabs of a cache with a hash.
    fn walk(&self, number: usize, cache: &Cache, each: &mut dyn FnMut(&Slab)) {
        let name = &cache.name;
        let mut visit = |node: Addr| {
            let slab = self.slab(node.wrapping_sub(self.places.link)).filter(|s| s.cache == number);
            if let Some(slab) = &slab {
                each(slab);
            } else {
                self.lacks(format!("a slab of cache {name} (linked at {node}) cannot be read, or is none"));
            }
            slab.is_some()
        };
        let whole =
            self.member("kmem_cache", "cache_complete_slabs.list_head").zip(self.member("list_node", "list_next"));
        if let Some((head, next)) = whole {
            let head = cache.at.wrapping_add(head);
            let mut at = self.word(head.wrapping_add(next)).map(Addr);
            let mut seen = HashSet::new();
            while let Some(node) = at.filter(|n| *n != head) {
                if !self.spend() || !seen.insert(node) || !visit(node) {
                    break;
                }
                at = self.word(node.wrapping_add(next)).map(Addr);
            }
        }
        let root = self.illumos.pointer(cache.at, "kmem_cache", "cache_partial_slabs.avl_root");
        let mut stack: Vec<Addr> = root.into_iter().collect();
        let mut seen = HashSet::new();
        while let Some(node) = stack.pop() {
            if !self.spend() || !seen.insert(node) || !visit(node) {
                break;
            }
            for child in [0, 8] {
                let at = self.word(node.wrapping_add(self.places.children).wrapping_add(child));
                stack.extend(at.filter(|n| *n != 0).map(Addr));
            }
        }
    }
}
