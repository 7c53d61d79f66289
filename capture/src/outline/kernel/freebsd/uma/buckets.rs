//! Items that were freed and wait to be allocated again: the buckets of CPUs and of memory domains.
//!
//! Source: `sys/vm/uma_int.h`. Up to 12 a CPU's cache has pointers to buckets, which count their items; since 13 it has a
//! `struct uma_cache_bucket` each, which counts in their place. The domains' lists lie behind the last CPU's cache since
//! 13, before that elsewhere.

use super::super::context::FreeBsd;
use super::{Slab, Waiting, list};
use evidence::{Addr, ToUsize};
use std::fmt;

/// Most CPUs: `MAXCPU` is 1024.
const LIMIT_CPUS: u32 = 4096;
/// Most memory domains: `MAXMEMDOM` is below 255.
const LIMIT_DOMAINS: u32 = 256;
/// Most buckets of one domain.
const LIMIT_BUCKETS: usize = 1 << 16;
/// Most items of a bucket: the number has 15 bits.
const LIMIT_COUNT: u64 = 1 << 15;
/// Most items of all buckets that are looked at.
const LIMIT_ITEMS: u64 = 16 << 20;

/// Where a freed item waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The cache of a CPU.
    Cpu(u32),
    /// The full buckets of a memory domain.
    Domain(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(number) => write!(f, "the cache of CPU {number}"),
            Self::Domain(0) => f.write_str("a bucket of its zone"),
            Self::Domain(number) => write!(f, "a bucket of memory domain {number}"),
        }
    }
}

struct Reader<'m, 'k> {
    kernel: &'m FreeBsd<'k>,
    slab: &'m Slab,
    found: Waiting,
    missing: Option<String>,
    left: u64,
}

/// The items of a slab that wait in buckets of `zones`, and what could not be read.
pub(super) fn read(kernel: &FreeBsd<'_>, zones: &[Addr], slab: &Slab) -> (Waiting, Option<String>) {
    let mut reader = Reader { kernel, slab, found: Waiting::new(), missing: None, left: LIMIT_ITEMS };
    for zone in zones {
        reader.zone(*zone);
    }
    (reader.found, reader.missing)
}

impl Reader<'_, '_> {
    fn lacks(&mut self, what: impl FnOnce() -> String) {
        self.missing.get_or_insert_with(what);
    }

    fn zone(&mut self, zone: Addr) {
        let kernel = self.kernel;
        let last = kernel.int("mp_maxid").filter(|n| *n < LIMIT_CPUS);
        let known = last.zip(kernel.offset("uma_zone", "uz_cpu")).zip(kernel.layouts_size("uma_cache"));
        let Some(((last, caches), each)) = known else {
            self.lacks(|| "nothing says how many CPUs have caches".into());
            return;
        };
        let cache = |n: u32| zone.wrapping_add(caches).wrapping_add(each.wrapping_mul(u64::from(n)));
        for cpu in 0..=last {
            for name in ["uc_freebucket", "uc_allocbucket", "uc_crossbucket"] {
                self.of_cpu(cache(cpu), name, cpu);
            }
        }
        let behind = cache(last.saturating_add(1));
        self.domains(zone, behind);
    }

    /// A bucket of a CPU's cache, where its version has it.
    fn of_cpu(&mut self, cache: Addr, name: &str, cpu: u32) {
        let kernel = self.kernel;
        let (inner, count) = (format!("{name}.ucb_bucket"), format!("{name}.ucb_cnt"));
        let counted = kernel.offset("uma_cache", &inner).is_some();
        if !counted && kernel.offset("uma_cache", name).is_none() {
            return;
        }
        let bucket = kernel.value(cache, "uma_cache", if counted { &inner } else { name });
        let count = counted.then(|| kernel.value(cache, "uma_cache", &count));
        match (bucket, count) {
            (Some(0), _) => {}
            (Some(bucket), None) => self.bucket(Addr(bucket), None, Place::Cpu(cpu)),
            (Some(bucket), Some(Some(count))) => self.bucket(Addr(bucket), Some(count), Place::Cpu(cpu)),
            _ => self.lacks(|| format!("the cache of CPU {cpu} at {cache} cannot be read")),
        }
    }

    fn domains(&mut self, zone: Addr, behind: Addr) {
        let kernel = self.kernel;
        let own = kernel.offset("uma_zone", "uz_domain").is_some();
        let first = if own { kernel.value(zone, "uma_zone", "uz_domain").map(Addr) } else { Some(behind) };
        let described = kernel.layouts_size("uma_zone_domain").zip(kernel.offset("uma_zone_domain", "uzd_buckets"));
        let Some(((first, (each, head)), link)) =
            first.filter(|a| a.0 != 0).zip(described).zip(kernel.offset("uma_bucket", "ub_link"))
        else {
            self.lacks(|| "the full buckets of the zone are not described".into());
            return;
        };
        for domain in 0..kernel.int("vm_ndomains").unwrap_or(1).clamp(1, LIMIT_DOMAINS) {
            let at = first.wrapping_add(each.wrapping_mul(u64::from(domain)));
            let (buckets, whole) = list(kernel, at.wrapping_add(head), link, LIMIT_BUCKETS);
            if !whole {
                self.lacks(|| format!("the buckets of the zone at {zone} cannot be read to their end"));
            }
            let cross = kernel.value(at, "uma_zone_domain", "uzd_cross").filter(|p| *p != 0).map(Addr);
            for bucket in buckets.into_iter().chain(cross) {
                self.bucket(bucket, None, Place::Domain(domain));
            }
        }
    }

    fn bucket(&mut self, bucket: Addr, count: Option<u64>, place: Place) {
        let kernel = self.kernel;
        let count = count.or_else(|| kernel.value(bucket, "uma_bucket", "ub_cnt"));
        let items = kernel.offset("uma_bucket", "ub_bucket").map(|o| bucket.wrapping_add(o));
        let Some((count, items)) = count.filter(|n| *n <= LIMIT_COUNT).zip(items) else {
            self.lacks(|| format!("the bucket at {bucket} cannot be read"));
            return;
        };
        let Some(left) = self.left.checked_sub(count) else {
            self.lacks(|| format!("more than {LIMIT_ITEMS} items wait in buckets"));
            return;
        };
        self.left = left;
        let word = u64::from(kernel.fields.pointer);
        let mut raw = vec![0; count.saturating_mul(word).to_usize()];
        if kernel.memory().read_exact(items, &mut raw).is_err() {
            self.lacks(|| format!("the bucket at {bucket} cannot be read"));
            return;
        }
        for item in raw.chunks_exact(word.to_usize()) {
            let at = item.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            if let Some(index) = self.slab.index(Addr(at)).filter(|i| self.slab.start(*i) == Addr(at)) {
                self.found.entry(index).or_default().push(place);
            }
        }
    }
}
