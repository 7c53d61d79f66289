//! What the allocator itself found wrong before it panicked (`kmem_panic_info`).
//!
//! Source: os/kmem.c of illumos-gate (`kmem_error`, `KMERR_*`). The variable's type has no name, so that no description
//! is found by it; its members have been the same since there have been these numbers. It is believed when it names a
//! cache that is in the list of caches.

use super::Kmem;
use crate::outline::kernel::illumos::Illumos;
use evidence::Addr;
use evidence::bytes::{Endian, u32_at, u64_at};

/// Bytes of the variable.
const SIZE: usize = 64;
/// The kinds of errors by number.
const KINDS: [&str; 9] = [
    "a buffer was modified after it was freed",
    "a buffer was written past its end",
    "a buffer was freed twice",
    "an address was freed that is no buffer",
    "the tag of a buffer was overwritten",
    "the control structure of a buffer was overwritten",
    "a buffer was freed to another cache than its own",
    "a buffer was freed with another size than it was allocated with",
    "an address inside of a buffer was freed",
];

/// What was reported.
pub(super) struct Reported {
    pub kind: usize,
    /// What was handed to the allocator, and the buffer that it belongs to.
    pub buffer: Addr,
    pub real: Addr,
    pub cache: Addr,
    pub real_cache: Addr,
}

/// Reads the variable; `None` when nothing was reported.
pub(super) fn read(illumos: &Illumos<'_>) -> Option<Reported> {
    let mut raw = [0; SIZE];
    illumos.given.memory.read_exact(Addr(illumos.symbols.find("kmem_panic_info")?), &mut raw).ok()?;
    let word = |at: usize| u64_at(&raw, at, Endian::Little);
    let kind = usize::try_from(u32_at(&raw, 8, Endian::Little)?).ok()?;
    let [buffer, real, cache, real_cache] = [16, 24, 32, 40].map(word);
    // The time of the report is set by every one of them.
    (word(0)? != 0 && kind < KINDS.len()).then_some(Reported {
        kind,
        buffer: Addr(buffer?),
        real: Addr(real?),
        cache: Addr(cache?),
        real_cache: Addr(real_cache?),
    })
}

impl Kmem<'_, '_> {
    /// The sentence about a report: `a buffer was freed twice: object 0x... of cache kmem_alloc_64`.
    pub(super) fn reported(&self, error: &Reported) -> Option<String> {
        let cache = |at: Addr| self.caches.list.iter().find(|c| c.at == at);
        let Some(own) = cache(error.cache) else {
            let why = format!("the allocator's report names a cache at {} that is none", error.cache);
            self.illumos.doubt("kernel-memory", why);
            return None;
        };
        let real = cache(error.real_cache);
        let kind = KINDS.get(error.kind)?;
        let Some(real) = real else {
            return Some(format!("{kind}: {}, freed to cache {}", error.buffer, own.name));
        };
        let mut text = format!("{kind}: object {} of cache {}", error.real, real.name);
        if error.buffer != error.real {
            text.push_str(&format!("; {} was handed over", error.buffer));
        }
        if real.at != own.at {
            text.push_str(&format!("; it was freed to cache {}", own.name));
        }
        if let Some((at, word)) = self.change(real, error.real).filter(|_| error.kind == 0) {
            text.push_str(&format!("; +{at:#x} holds {word:#x}"));
        }
        Some(text)
    }
}
