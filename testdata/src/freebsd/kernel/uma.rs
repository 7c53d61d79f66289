//! The allocator of a made kernel: two zones with a slab each, items that are taken, that were freed, and that wait in
//! buckets. As `sys/vm/uma_int.h` of FreeBSD 12 has its structures, and of 13 and later.

use super::{Builder, Layout, Port};

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Pointer,
    /// Bytes, signed.
    Number(u64, bool),
    /// The head or link of a list: so many pointers.
    Words(u64),
    /// A flexible array of pointers.
    Pointers,
    /// Another structure of the list.
    Inner(&'static str),
    /// A flexible array of another one.
    Inners(&'static str),
}

/// A structure, or a union.
#[derive(Clone, Debug)]
pub(in super::super) struct Described {
    pub name: &'static str,
    pub size: u64,
    pub union: bool,
    /// Name, what it is, offset.
    pub members: Vec<(&'static str, Kind, u64)>,
}

impl Described {
    fn new(name: &'static str, size: u64, members: &[(&'static str, Kind, u64)]) -> Self {
        Self { name, size, union: false, members: members.to_vec() }
    }

    fn at(&self, member: &str) -> u64 {
        self.members.iter().find(|m| m.0 == member).unwrap_or_else(|| panic!("{}.{member}", self.name)).2
    }
}

/// Items of the first zone by what became of them.
pub const WAITS_ON_CPU: u64 = 3;
/// See [`WAITS_ON_CPU`].
pub const FREE: u64 = 5;
/// See [`WAITS_ON_CPU`].
pub const WAITS: u64 = 6;
/// See [`WAITS_ON_CPU`].
pub const TAKEN: u64 = 7;
/// See [`WAITS_ON_CPU`].
pub const TWICE: u64 = 9;
/// Bytes of an item of the first zone, and of the second, whose slab does not lie behind its items.
pub const SIZES: (u64, u64) = (112, 256);
const EACH: (u64, u64) = (128, 256);
/// Where the slabs' pages are.
const PAGES: u64 = 0xffff_fe00_0030_0000;
/// Where the freed item of the first zone holds a pointer.
pub const HOLDS: u64 = 0x10;

impl Port {
    /// Where an item of the first zone (`malloc-128`) is.
    #[must_use]
    pub const fn item(self, index: u64) -> u64 {
        self.at(PAGES) + index * EACH.0
    }

    /// Where an item of the second zone (`mbuf`) is; the first one is taken, the second one free.
    #[must_use]
    pub const fn buffer(self, index: u64) -> u64 {
        self.at(PAGES + 0x1000) + index * EACH.1
    }

    /// A pointer that leads nowhere.
    #[must_use]
    pub const fn wild(self) -> u64 {
        if matches!(self, Self::I386) { 0x0dea_d000 } else { 0xffff_dead_0000_1000 }
    }
}

fn is_new(l: &Layout) -> bool {
    l.osreldate >= 1_400_000
}

/// The structures of a layout: those that others hold come first.
pub(in super::super) fn structures(port: Port, l: &Layout) -> Vec<Described> {
    use Kind::{Inner, Inners, Number, Pointer, Pointers, Words};
    let w = port.pointer();
    let (short, half) = (Number(2, true), Number(4, false));
    let mut all = Vec::new();
    let union =
        |name, members: &[(&'static str, Kind, u64)]| Described { union: true, ..Described::new(name, w * 2, members) };
    if is_new(l) {
        all.extend([
            Described::new("uma_cache_bucket", w + 8, &[("ucb_bucket", Pointer, 0), ("ucb_cnt", short, w)]),
            Described::new(
                "uma_cache",
                128,
                &[
                    ("uc_freebucket", Inner("uma_cache_bucket"), 0),
                    ("uc_allocbucket", Inner("uma_cache_bucket"), w + 8),
                    ("uc_crossbucket", Inner("uma_cache_bucket"), 2 * w + 16),
                ],
            ),
            Described::new(
                "uma_bucket",
                5 * w,
                &[("ub_link", Words(1), 0), ("ub_cnt", short, w), ("ub_bucket", Pointers, 3 * w)],
            ),
            Described::new("uma_zone_domain", 64, &[("uzd_buckets", Words(2), 0), ("uzd_cross", Pointer, 2 * w)]),
            Described::new(
                "uma_zone",
                256,
                &[
                    ("uz_smr", Pointer, 24),
                    ("uz_keg", Pointer, 64),
                    ("uz_link", Words(2), 128),
                    ("uz_name", Pointer, 168),
                    ("uz_cpu", Inners("uma_cache"), 256),
                ],
            ),
            Described::new(
                "uma_keg",
                256,
                &[
                    ("uk_zones", Words(1), 16),
                    ("uk_size", half, 48),
                    ("uk_rsize", half, 52),
                    ("uk_pgoff", half, 104),
                    ("uk_ipers", Number(2, false), 110),
                    ("uk_flags", half, 112),
                    ("uk_name", Pointer, 120),
                    ("uk_link", Words(2), 136),
                ],
            ),
            Described::new("uma_slab", 2 * w + 8, &[("us_link", Words(2), 0), ("us_free", Words(0), 2 * w + 8)]),
            Described::new(
                "uma_hash_slab",
                5 * w + 8,
                &[("uhs_data", Pointer, 2 * w), ("uhs_slab", Inner("uma_slab"), 3 * w)],
            ),
            Described::new("vm_page_uma", 2 * w, &[("slab", Pointer, 0), ("zone", Pointer, w)]),
            union("vm_page_links", &[("q", Words(2), 0), ("uma", Inner("vm_page_uma"), 0)]),
            Described::new(
                "vm_page",
                104,
                &[("plinks", Inner("vm_page_links"), 0), ("phys_addr", Number(8, false), 48)],
            ),
        ]);
    } else {
        all.extend([
            Described::new("uma_cache", 64, &[("uc_freebucket", Pointer, 0), ("uc_allocbucket", Pointer, w)]),
            Described::new(
                "uma_bucket",
                4 * w,
                &[("ub_link", Words(2), 0), ("ub_cnt", short, 2 * w), ("ub_bucket", Pointers, 2 * w + 8)],
            ),
            Described::new("uma_zone_domain", 32, &[("uzd_buckets", Words(1), 8)]),
            Described::new(
                "uma_zone",
                320,
                &[
                    ("uz_name", Pointer, 8),
                    ("uz_domain", Pointer, 16),
                    ("uz_link", Words(2), 96),
                    ("uz_cpu", Inners("uma_cache"), 320),
                ],
            ),
            Described::new(
                "uma_keg",
                256,
                &[
                    ("uk_zones", Words(1), 56),
                    ("uk_size", half, 88),
                    ("uk_rsize", half, 92),
                    ("uk_pgoff", half, 160),
                    ("uk_ipers", Number(2, false), 166),
                    ("uk_flags", half, 168),
                    ("uk_name", Pointer, 176),
                    ("uk_link", Words(2), 184),
                ],
            ),
            Described::new(
                "uma_slab",
                160,
                &[("us_keg", Pointer, 0), ("us_data", Pointer, 32), ("us_free", Words(8), 40)],
            ),
            Described::new("vm_page_s", 2 * w, &[("ss", Pointer, 0), ("pv", Pointer, w)]),
            union("vm_page_links", &[("q", Words(2), 0), ("s", Inner("vm_page_s"), 0)]),
            Described::new(
                "vm_page",
                112,
                &[("plinks", Inner("vm_page_links"), 8), ("phys_addr", Number(8, false), 56)],
            ),
        ]);
    }
    all.push(Described::new(
        "vm_phys_seg",
        64,
        &[("start", Number(8, false), 8), ("end", Number(8, false), 16), ("first_page", Pointer, 24)],
    ));
    all
}

struct Types(Vec<Described>);

impl Types {
    fn at(&self, of: &str, member: &str) -> u64 {
        self.of(of).at(member)
    }
    fn of(&self, name: &str) -> &Described {
        self.0.iter().find(|d| d.name == name).unwrap_or_else(|| panic!("no {name}"))
    }
}

/// The allocator's structures in memory.
pub(super) fn allocator(b: &mut Builder, l: &Layout) {
    let t = Types(structures(b.port, l));
    let (port, new) = (b.port, is_new(l));
    let (small, large) = (port.item(0), port.buffer(0));
    b.memory.write(small, &[0x11; 4096]);
    b.memory.write(large, &[0x22; 4096]);
    // What was freed and still holds what it held.
    let (freed, wild) = (port.item(WAITS_ON_CPU) + HOLDS, port.wild());
    b.word(freed, wild);
    b.memory.write(port.item(FREE), &0xdead_c0de_u32.to_le_bytes().repeat(28));
    let first = zone(b, &t, "malloc-128", (SIZES.0, EACH.0), (31, 3968), 0);
    let second = zone(b, &t, "mbuf", (SIZES.1, EACH.1), (16, 0), 0x20_0000);
    for (this, next) in [(&first, second.keg), (&second, 0)] {
        b.word(this.keg + t.at("uma_keg", "uk_link"), next);
    }
    b.pointer("uma_kegs", first.keg);
    b.global("mp_maxid", 4, &1_u32.to_le_bytes());
    b.global("vm_ndomains", 4, &if new { 2_u32 } else { 1 }.to_le_bytes());
    // Slabs: the first one's lies behind its items, the second one's elsewhere.
    let inside = small + 3968;
    let outside = b.heap(256) + if new { t.at("uma_hash_slab", "uhs_slab") } else { 0 };
    for (slab, zone, data, free) in [(inside, &first, small, 1 << FREE | 1 << TWICE), (outside, &second, large, 0b10)] {
        b.memory.write(slab, &[0; 64]);
        b.word(slab + t.at("uma_slab", "us_free"), free);
        if new {
            if zone.keg == second.keg {
                b.word(slab - t.at("uma_hash_slab", "uhs_slab") + t.at("uma_hash_slab", "uhs_data"), data);
            }
        } else {
            b.word(slab + t.at("uma_slab", "us_keg"), zone.keg);
            b.word(slab + t.at("uma_slab", "us_data"), data);
        }
    }
    // Buckets: of CPU 1, of CPU 0, and a full one of the last domain.
    let (one, none) = (bucket(b, &t, &[port.item(WAITS_ON_CPU)], new), bucket(b, &t, &[port.item(TWICE)], new));
    cached(b, &t, &first, 1, "uc_freebucket", one, new);
    cached(b, &t, &first, 0, "uc_allocbucket", none, new);
    let full = bucket(b, &t, &[port.item(20), port.item(WAITS)], false);
    let domains = first.domains + if new { t.of("uma_zone_domain").size } else { 0 };
    b.word(domains + t.at("uma_zone_domain", "uzd_buckets"), full);
    pages(b, &t, &[(small, inside, first.zone), (large, outside, second.zone)], new);
}

struct Zone {
    zone: u64,
    keg: u64,
    domains: u64,
}

fn zone(b: &mut Builder, t: &Types, name: &str, sizes: (u64, u64), slab: (u16, u32), flags: u32) -> Zone {
    let caches = t.at("uma_zone", "uz_cpu");
    let (zone, keg, name) = (b.heap(caches + 1024), b.heap(256), b.string(name));
    let cpus = caches + 2 * t.of("uma_cache").size;
    let domains = if b_has(t, "uma_zone", "uz_domain") {
        let domains = b.heap(256);
        b.word(zone + t.at("uma_zone", "uz_domain"), domains);
        domains
    } else {
        b.word(zone + t.at("uma_zone", "uz_keg"), keg);
        zone + cpus
    };
    b.word(zone + t.at("uma_zone", "uz_name"), name);
    b.word(keg + t.at("uma_keg", "uk_name"), name);
    b.word(keg + t.at("uma_keg", "uk_zones"), zone);
    b.half(keg + t.at("uma_keg", "uk_size"), sizes.0 as u32);
    b.half(keg + t.at("uma_keg", "uk_rsize"), sizes.1 as u32);
    b.half(keg + t.at("uma_keg", "uk_pgoff"), slab.1);
    b.half(keg + t.at("uma_keg", "uk_flags"), flags);
    b.memory.write(keg + t.at("uma_keg", "uk_ipers"), &slab.0.to_le_bytes());
    Zone { zone, keg, domains }
}

fn b_has(t: &Types, of: &str, member: &str) -> bool {
    t.of(of).members.iter().any(|m| m.0 == member)
}

/// A bucket; one that a CPU has loaded since 13 does not count its items itself.
fn bucket(b: &mut Builder, t: &Types, items: &[u64], loaded: bool) -> u64 {
    let at = b.heap(256);
    let count = if loaded { 0 } else { items.len() as u16 };
    b.memory.write(at + t.at("uma_bucket", "ub_cnt"), &count.to_le_bytes());
    for (n, item) in items.iter().enumerate() {
        b.word(at + t.at("uma_bucket", "ub_bucket") + n as u64 * b.port.pointer(), *item);
    }
    at
}

fn cached(b: &mut Builder, t: &Types, zone: &Zone, cpu: u64, name: &str, bucket: u64, new: bool) {
    let at = zone.zone + t.at("uma_zone", "uz_cpu") + cpu * t.of("uma_cache").size + t.at("uma_cache", name);
    b.word(at, bucket);
    if new {
        b.memory.write(at + t.at("uma_cache_bucket", "ucb_cnt"), &1_u16.to_le_bytes());
    }
}

/// The descriptions of the slabs' pages: in one array for all memory, or in those of segments.
fn pages(b: &mut Builder, t: &Types, slabs: &[(u64, u64, u64)], new: bool) {
    let physical = |b: &Builder, at: u64| b.memory.maps[&(at / 4096)];
    let numbers: Vec<u64> = slabs.iter().map(|s| physical(b, s.0)).collect();
    let (first, last) = (*numbers.iter().min().unwrap(), *numbers.iter().max().unwrap());
    let size = t.of("vm_page").size;
    let array = b.heap((last - first + 1) * size);
    for ((_, slab, zone), number) in slabs.iter().zip(&numbers) {
        let page = array + (number - first) * size;
        b.memory.write(page + t.at("vm_page", "phys_addr"), &(number * 4096).to_le_bytes());
        let links = page + t.at("vm_page", "plinks");
        if new {
            b.word(links + t.at("vm_page_uma", "slab"), *slab);
            b.word(links + t.at("vm_page_uma", "zone"), *zone);
        } else {
            b.word(links + t.at("vm_page_s", "pv"), *slab);
        }
    }
    if new {
        let segments = b.global("vm_phys_segs", 64 * 3, &[0]);
        for (n, (start, end)) in [(0, first.min(16)), (first, last + 1)].into_iter().enumerate() {
            let at = segments + n as u64 * 64;
            b.memory.write(at + t.at("vm_phys_seg", "start"), &(start * 4096).to_le_bytes());
            b.memory.write(at + t.at("vm_phys_seg", "end"), &(end * 4096).to_le_bytes());
            b.word(at + t.at("vm_phys_seg", "first_page"), array);
        }
        b.global("vm_phys_nsegs", 4, &2_u32.to_le_bytes());
    } else {
        b.pointer("vm_page_array", array);
        b.pointer("first_page", first);
        b.pointer("vm_page_array_size", last - first + 1);
    }
}
