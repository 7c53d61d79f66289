//! The allocator of the kernel that is made here: caches with and without checks, slabs in lists and trees, magazines.
//!
//! Source: sys/kmem_impl.h and os/kmem.c of illumos-gate, sys/avl_impl.h, sys/list_impl.h.

use super::kernel::Image;
use super::layouts::{Kind, Members};

/// `KMF_AUDIT`, `KMF_DEADBEEF`, `KMF_REDZONE`, `KMF_HASH`.
const CHECKED: u64 = 1 | 2 | 4 | HASH;
const HASH: u64 = 0x200;
/// `KMEM_FREE_PATTERN`, `KMEM_UNINITIALIZED_PATTERN`, `KMEM_REDZONE_PATTERN`.
pub const FREED: u64 = 0xdead_beef_dead_beef;
const UNSET: u64 = 0xbadd_cafe_badd_cafe;
const PAST: u64 = 0xfeed_face_feed_face;
/// `KMEM_BUFTAG_ALLOC`, `KMEM_BUFTAG_FREE`.
const TAGS: [u64; 2] = [0xa110_c8ed, 0xf4ee_f4ee];
const PAGE: u64 = 4096;
/// What the free object of the plain cache holds, and where.
pub const WILD: (u64, u64) = (0x28, 0xffff_dead_0000_1000);
/// When the panic was, and when a buffer was last taken or given back, in nanoseconds since the start.
const PANIC: u64 = 90_000_000_000;
const TAKEN: u64 = 88_766_000_000;

pub(super) const STRUCTURES: [(&str, Members); 13] = [
    ("list_node", &[("list_next", Kind::Pointer), ("list_prev", Kind::Pointer)]),
    ("list", &[("list_size", Kind::Int(8)), ("list_offset", Kind::Int(8)), ("list_head", Kind::Inner("list_node"))]),
    ("avl_node", &[("avl_child", Kind::Longs(2)), ("avl_pcb", Kind::Int(8))]),
    ("avl_tree", &[("avl_root", Kind::Pointer), ("avl_numnodes", Kind::Int(8))]),
    ("kmem_bufctl", &[("bc_next", Kind::Pointer), ("bc_addr", Kind::Pointer), ("bc_slab", Kind::Pointer)]),
    (
        "kmem_bufctl_audit",
        &[
            ("bc_next", Kind::Pointer),
            ("bc_addr", Kind::Pointer),
            ("bc_slab", Kind::Pointer),
            ("bc_cache", Kind::Pointer),
            ("bc_timestamp", Kind::Signed(8)),
            ("bc_thread", Kind::Pointer),
            ("bc_lastlog", Kind::Pointer),
            ("bc_contents", Kind::Pointer),
            ("bc_depth", Kind::Signed(4)),
            ("bc_stack", Kind::Longs(15)),
        ],
    ),
    ("kmem_buftag", &[("bt_redzone", Kind::Int(8)), ("bt_bufctl", Kind::Pointer), ("bt_bxstat", Kind::Signed(8))]),
    (
        "kmem_slab",
        &[
            ("slab_cache", Kind::Pointer),
            ("slab_base", Kind::Pointer),
            ("slab_link", Kind::Inner("avl_node")),
            ("slab_head", Kind::Pointer),
            ("slab_refcnt", Kind::Signed(8)),
            ("slab_chunks", Kind::Signed(8)),
        ],
    ),
    ("kmem_magazine", &[("mag_next", Kind::Pointer), ("mag_round", Kind::Longs(1))]),
    ("kmem_maglist", &[("ml_list", Kind::Pointer), ("ml_total", Kind::Signed(8))]),
    ("kmem_magtype", &[("mt_magsize", Kind::Signed(4)), ("mt_align", Kind::Signed(4))]),
    (
        "kmem_cpu_cache",
        &[
            ("cc_loaded", Kind::Pointer),
            ("cc_ploaded", Kind::Pointer),
            ("cc_flags", Kind::Signed(4)),
            ("cc_rounds", Kind::Signed(2)),
            ("cc_prounds", Kind::Signed(2)),
            ("cc_magsize", Kind::Signed(2)),
            ("cc_dump_rounds", Kind::Signed(2)),
            ("cc_dump_prounds", Kind::Signed(2)),
        ],
    ),
    (
        "kmem_cache",
        &[
            ("cache_name", Kind::Text(32)),
            ("cache_bufsize", Kind::Int(8)),
            ("cache_flags", Kind::Signed(4)),
            ("cache_link", Kind::Inner("list_node")),
            ("cache_chunksize", Kind::Int(8)),
            ("cache_slabsize", Kind::Int(8)),
            ("cache_bufctl", Kind::Int(8)),
            ("cache_buftag", Kind::Int(8)),
            ("cache_verify", Kind::Int(8)),
            ("cache_hash_shift", Kind::Int(8)),
            ("cache_hash_mask", Kind::Int(8)),
            ("cache_complete_slabs", Kind::Inner("list")),
            ("cache_partial_slabs", Kind::Inner("avl_tree")),
            ("cache_hash_table", Kind::Pointer),
            ("cache_magtype", Kind::Pointer),
            ("cache_full", Kind::Inner("kmem_maglist")),
            ("cache_cpu", Kind::Many("kmem_cpu_cache", 2)),
        ],
    ),
];

/// Where things lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// Buffers of `kmem_alloc_64`, which has all checks: allocated with 40 bytes asked for; freed; freed and then
    /// written to; allocated and written past its end; in a magazine.
    pub checked: [u64; 5],
    /// Buffers of `demo_cache`, which has none: allocated; freed, with a pointer in it that leads nowhere.
    pub plain: [u64; 2],
    /// Buffers of `tree_cache`, one of each slab: of a whole one, and of the three in its tree.
    pub tree: [u64; 4],
    /// The only slab of `taskq_cache`, all of it in use.
    pub whole: u64,
    /// The cache with all checks.
    pub cache: u64,
}

/// A cache of these sizes, empty.
fn cache(k: &mut Image, name: &str, size: u64, chunk: u64, slab: u64, flags: u64) -> u64 {
    let values = [
        ("cache_bufsize", size),
        ("cache_chunksize", chunk),
        ("cache_slabsize", slab),
        ("cache_bufctl", chunk - 8),
        ("cache_buftag", size),
        ("cache_verify", size),
        ("cache_flags", flags),
        ("cache_hash_shift", 6),
        ("cache_hash_mask", 63),
    ];
    let at = k.make("kmem_cache", &values);
    k.write(at + k.layout().offset("kmem_cache", "cache_name"), name.as_bytes());
    let head = at + k.layout().offset("kmem_cache", "cache_complete_slabs") + k.layout().offset("list", "list_head");
    k.set(head, "list_node", &[("list_next", head), ("list_prev", head)]);
    let (table, kind) = (k.put(&[0; 512]), k.make("kmem_magtype", &[("mt_magsize", 3)]));
    k.set(at, "kmem_cache", &[("cache_hash_table", table), ("cache_magtype", kind)]);
    at
}

/// Links a node into a ring in front of its head.
fn link(k: &mut Image, head: u64, node: u64) {
    let last = k.read(head + k.layout().offset("list_node", "list_prev"));
    k.set(node, "list_node", &[("list_next", head), ("list_prev", last)]);
    k.set(last, "list_node", &[("list_next", node)]);
    k.set(head, "list_node", &[("list_prev", node)]);
}

fn complete(k: &mut Image, cache: u64, slab: u64) {
    let head = cache + k.layout().offset("kmem_cache", "cache_complete_slabs") + k.layout().offset("list", "list_head");
    let node = slab + k.layout().offset("kmem_slab", "slab_link");
    link(k, head, node);
}

/// The root of a cache's tree and its children.
fn tree(k: &mut Image, cache: u64, slabs: &[u64]) {
    let node = |k: &Image, slab: u64| slab + k.layout().offset("kmem_slab", "slab_link");
    let root = node(k, slabs[0]);
    let tree = cache + k.layout().offset("kmem_cache", "cache_partial_slabs");
    k.set(tree, "avl_tree", &[("avl_root", root), ("avl_numnodes", slabs.len() as u64)]);
    // Balanced, of no parent; then of a parent, as its left or right child.
    k.set(root, "avl_node", &[("avl_pcb", 1)]);
    for (n, slab) in slabs[1..].iter().enumerate() {
        let child = node(k, *slab);
        let at = root + k.layout().offset("avl_node", "avl_child") + n as u64 * 8;
        k.long(at, child);
        k.set(child, "avl_node", &[("avl_pcb", root | (n as u64) << 2 | 1)]);
    }
}

/// A slab whose structure lies in its last bytes, with the buffers at `free` in its list.
fn raw(k: &mut Image, cache: u64, chunk: u64, free: &dyn Fn(u64) -> bool) -> u64 {
    let (base, size) = (k.pages(1), k.layout().of("kmem_slab").size);
    let chunks = (PAGE - size) / chunk;
    let mut head = 0;
    for n in (0..chunks).filter(|n| free(*n)) {
        let control = base + n * chunk + chunk - 8;
        k.long(control + k.layout().offset("kmem_bufctl", "bc_next"), head);
        head = control;
    }
    let used = (0..chunks).filter(|n| !free(*n)).count() as u64;
    let at = base + PAGE - size;
    let values = [
        ("slab_cache", cache),
        ("slab_base", base),
        ("slab_head", head),
        ("slab_refcnt", used),
        ("slab_chunks", chunks),
    ];
    k.set(at, "kmem_slab", &values);
    if head == 0 {
        complete(k, cache, at)
    } else {
        tree(k, cache, &[at])
    }
    base
}

/// The cache with all checks: every buffer has a tag and a control structure that says who had it last.
fn checked(k: &mut Image, heap: &mut Heap, thread: u64) {
    let chunk = 64 + k.layout().of("kmem_buftag").size;
    heap.cache = cache(k, "kmem_alloc_64", 64, chunk, PAGE, CHECKED);
    let (base, chunks) = (k.pages(1), PAGE / chunk);
    let slab = k.make("kmem_slab", &[("slab_cache", heap.cache), ("slab_base", base), ("slab_chunks", chunks)]);
    // Those with numbers 0, 3 and 4 are out of the slab; the last of them is in a magazine.
    let (mut head, mut used) = (0, 0);
    for n in 0..chunks {
        let buffer = base + n * chunk;
        let (out, free) = (matches!(n, 0 | 3 | 4), !matches!(n, 0 | 3));
        let values = [
            ("bc_addr", buffer),
            ("bc_slab", slab),
            ("bc_cache", heap.cache),
            ("bc_timestamp", TAKEN),
            ("bc_thread", thread),
            ("bc_depth", 2),
        ];
        let control = k.make("kmem_bufctl_audit", &values);
        let stack = control + k.layout().offset("kmem_bufctl_audit", "bc_stack");
        let calls = [k.at("ioctl") + 0x20, k.at("main") + 0x20];
        calls.iter().zip(0..).for_each(|(pc, n)| k.long(stack + n * 8, *pc));
        if out {
            let slot =
                k.read(heap.cache + k.layout().offset("kmem_cache", "cache_hash_table")) + (buffer >> 6 & 63) * 8;
            let next = k.read(slot);
            k.set(control, "kmem_bufctl_audit", &[("bc_next", next)]);
            k.long(slot, control);
            used += 1;
        } else {
            k.set(control, "kmem_bufctl_audit", &[("bc_next", head)]);
            head = control;
        }
        for word in 0..8 {
            k.long(buffer + word * 8, if free { FREED } else { UNSET });
        }
        let state = control ^ TAGS[usize::from(free)];
        k.set(buffer + 64, "kmem_buftag", &[("bt_redzone", PAST), ("bt_bufctl", control), ("bt_bxstat", state)]);
        if let Some(place) = heap.checked.get_mut(n as usize) {
            *place = buffer;
        }
    }
    k.set(slab, "kmem_slab", &[("slab_head", head), ("slab_refcnt", used)]);
    tree(k, heap.cache, &[slab]);
    let redzone = 64 + k.layout().offset("kmem_buftag", "bt_redzone");
    // 40 bytes were asked for (KMEM_SIZE_ENCODE), and their end is marked.
    k.write(heap.checked[0] + redzone + 4, &(251_u32 * 40 + 1).to_le_bytes());
    k.write(heap.checked[0] + 40, &[0xbb]);
    k.long(heap.checked[2] + 0x10, 0x4141_4141);
    k.long(heap.checked[3] + redzone, 0x4242_4242_4242_4242);
    // CPU 1 set its numbers aside when it began to write the dump.
    let magazine = k.make("kmem_magazine", &[]);
    k.long(magazine + k.layout().offset("kmem_magazine", "mag_round"), heap.checked[4]);
    let cpu = heap.cache + k.layout().offset("kmem_cache", "cache_cpu") + k.layout().of("kmem_cpu_cache").size;
    let values = [("cc_loaded", magazine), ("cc_rounds", 0xffff), ("cc_prounds", 0xffff), ("cc_dump_rounds", 1)];
    k.set(cpu, "kmem_cpu_cache", &values);
}

/// Makes the allocator. `thread` is the one that had all buffers of the checked cache last.
pub(super) fn heap(k: &mut Image, thread: u64) -> Heap {
    let mut heap = Heap::default();
    let count = k.variable("max_ncpus", 4);
    k.write(count, &2_u32.to_le_bytes());
    let panic = k.variable("panic_hrtime", 8);
    k.long(panic, PANIC);
    k.variable("kmem_panic_info", 64);
    checked(k, &mut heap, thread);
    let plain = cache(k, "demo_cache", 112, 112, PAGE, 0);
    let base = raw(k, plain, 112, &|n| !matches!(n, 0 | 2));
    heap.plain = [base, base + 112];
    k.long(base + 112 + WILD.0, WILD.1);
    let taskqs = cache(k, "taskq_cache", 256, 256, PAGE, 0);
    heap.whole = raw(k, taskqs, 256, &|_| false);
    let trees = cache(k, "tree_cache", 1024, 1024, 2 * PAGE, HASH);
    let mut slabs = Vec::new();
    for n in 0..4 {
        let base = k.pages(2);
        heap.tree[n] = base + 1024 * n as u64;
        let values = [("slab_cache", trees), ("slab_base", base), ("slab_chunks", 8), ("slab_refcnt", 8)];
        let slab = k.make("kmem_slab", &values);
        if n > 0 {
            let free = k.make("kmem_bufctl", &[("bc_addr", base + 7 * 1024), ("bc_slab", slab)]);
            k.set(slab, "kmem_slab", &[("slab_head", free), ("slab_refcnt", 7)]);
            slabs.push(slab);
        } else {
            complete(k, trees, slab);
        }
    }
    tree(k, trees, &slabs);
    let size = k.layout().of("list").size;
    let list = k.variable("kmem_caches", size);
    let head = list + k.layout().offset("list", "list_head");
    k.set(head, "list_node", &[("list_next", head), ("list_prev", head)]);
    for cache in [heap.cache, plain, taskqs, trees] {
        let node = cache + k.layout().offset("kmem_cache", "cache_link");
        link(k, head, node);
    }
    heap
}

/// Notes that the allocator found an error of this kind (`KMERR_*`) with a buffer before it panicked. An address that is
/// in no buffer (`KMERR_BADADDR`) is of no cache.
pub fn report(k: &mut Image, kind: u32, buffer: u64, real: u64, cache: u64) {
    let at = k.at("kmem_panic_info");
    k.long(at, PANIC);
    k.write(at + 8, &kind.to_le_bytes());
    for (n, value) in [buffer, real, cache, if kind == 3 { 0 } else { cache }].into_iter().enumerate() {
        k.long(at + 16 + n as u64 * 8, value);
    }
}
