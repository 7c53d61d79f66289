//! What the allocator's checks left behind: the tag after a buffer, the patterns in it, the record of its last owner.
//!
//! Source: sys/kmem_impl.h (`KMF_*`, `KMEM_*_PATTERN`, `kmem_buftag`, `kmem_bufctl_audit`), os/kmem.c. They are there only
//! where the cache's flags say so (`kmem_flags` of the system, /etc/system).

use super::caches::{Cache, HASH, Slab};
use super::free::Free;
use super::{Kmem, offset};
use evidence::bytes::{Endian, u8_at, u32_at, u64_at};
use evidence::{Addr, ToU64, ToUsize};

const LE: Endian = Endian::Little;
/// `KMF_AUDIT`, `KMF_DEADBEEF`, `KMF_REDZONE`, `KMF_LITE`.
const AUDIT: u64 = 1;
const DEADBEEF: u64 = 2;
const REDZONE: u64 = 4;
const LITE: u64 = 0x100;
/// `KMEM_FREE_PATTERN`, `KMEM_UNINITIALIZED_PATTERN`, `KMEM_REDZONE_PATTERN`, `KMEM_REDZONE_BYTE`.
pub(super) const FREED: u64 = 0xdead_beef_dead_beef;
pub(super) const UNSET: u64 = 0xbadd_cafe_badd_cafe;
const PAST: u64 = 0xfeed_face_feed_face;
const PAST_BYTE: u8 = 0xbb;
/// `KMEM_BUFTAG_ALLOC`, `KMEM_BUFTAG_FREE`.
const TAG_ALLOCATED: u64 = 0xa110_c8ed;
const TAG_FREE: u64 = 0xf4ee_f4ee;
/// `KMEM_STACK_DEPTH`.
const DEPTH: u64 = 15;
/// Links of one chain of the table of control structures.
const LIMIT_CHAIN: usize = 1 << 12;
/// Nanoseconds of a second, and of a millisecond.
const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// A buffer's tag (`kmem_buftag`).
struct Tag {
    redzone: u64,
    control: Addr,
    state: u64,
}

impl Kmem<'_, '_> {
    fn tag(&self, cache: &Cache, buffer: Addr) -> Option<Tag> {
        let at = buffer.checked_add(cache.to_tag).filter(|_| cache.flags & (DEADBEEF | REDZONE) != 0)?;
        let value = |path: &str| self.illumos.number(at, "kmem_buftag", path);
        let control = value("bt_bufctl")?;
        Some(Tag { redzone: value("bt_redzone")?, control: Addr(control), state: control ^ value("bt_bxstat")? })
    }

    /// Whether the word behind a buffer is as the allocator left it; `None` where there is none.
    pub(super) fn redzone(&self, cache: &Cache, buffer: Addr) -> Option<bool> {
        let tag = self.tag(cache, buffer)?;
        Some(tag.redzone == PAST || self.asked(cache, buffer, tag.redzone).is_some())
    }

    /// The size that `kmem_alloc` was asked for: it is kept in the upper half of the word, and a byte marks the end.
    fn asked(&self, cache: &Cache, buffer: Addr, word: u64) -> Option<u64> {
        let (low, coded) = (word & 0xffff_ffff, word >> 32);
        // KMEM_SIZE_VALID and KMEM_SIZE_DECODE.
        let size =
            coded.checked_div(251).filter(|n| *n > 0 && coded.checked_rem(251) == Some(1) && *n <= cache.to_tag)?;
        let mut end = [0];
        self.illumos.given.memory.read_exact(buffer.checked_add(size)?, &mut end).ok()?;
        let mut expected = PAST.to_le_bytes();
        if let Some(byte) = size.checked_sub(cache.to_tag).and_then(|n| expected.get_mut(n.to_usize())) {
            *byte = PAST_BYTE;
        }
        (end == [PAST_BYTE] && low == u64::from(u32_at(&expected, 0, LE)?)).then_some(size)
    }

    /// What the tag and the contents say.
    pub(super) fn tags(&self, cache: &Cache, buffer: Addr, bytes: &[u8], free: &Free) -> Vec<String> {
        let mut parts = Vec::new();
        if let Some(tag) = self.tag(cache, buffer) {
            parts.push(match tag.state {
                TAG_ALLOCATED => "its tag says allocated".to_owned(),
                TAG_FREE => "its tag says free".to_owned(),
                _ => "its tag is overwritten".to_owned(),
            });
            if tag.redzone != PAST {
                parts.push(match self.asked(cache, buffer, tag.redzone) {
                    Some(size) => format!("{size} bytes of it were asked for"),
                    None => format!("it was written past its end (+{:#x} holds {:#x})", cache.to_tag, tag.redzone),
                });
            }
        }
        parts.extend(filled(cache, bytes, free.has(buffer)));
        parts
    }

    /// Who allocated or freed a buffer last.
    pub(super) fn audit(&self, cache: &Cache, slab: &Slab, buffer: Addr, free: &Free) -> Option<String> {
        let of = "kmem_bufctl_audit";
        let value = |at: Addr, path: &str| self.illumos.number(at, of, path);
        if cache.flags & AUDIT == 0 {
            return None;
        }
        let tagged = self.tag(cache, buffer).map(|t| t.control);
        let own = |at: &Addr| {
            let names = [("bc_addr", buffer), ("bc_slab", slab.at), ("bc_cache", cache.at)];
            names.iter().all(|(path, is)| value(*at, path) == Some(is.0))
        };
        let candidates = [free.control(buffer), tagged, self.hashed(cache, buffer)];
        let Some(at) = candidates.into_iter().flatten().find(own) else {
            return Some("the record of its last owner is damaged, or not to be found".into());
        };
        let depth = value(at, "bc_depth").filter(|n| *n <= DEPTH)?;
        let stack = self.illumos.fields.layouts.member(of, "bc_stack")?.offset;
        let name = |n: u64| {
            let pc = self.illumos.fields.pointer_at(at.wrapping_add(stack).wrapping_add(n.wrapping_mul(8))).ok()?;
            Some(self.illumos.symbols.name(pc).unwrap_or_else(|| pc.to_string()))
        };
        let calls: Vec<String> = (0..depth).map_while(name).collect();
        let verb = match free.word(buffer) {
            "free" => "freed",
            "allocated" => "allocated",
            _ => "last taken or given back",
        };
        let mut text = format!("{verb} by {}", self.thread(Addr(value(at, "bc_thread")?)));
        let panic = self.illumos.variable("panic_hrtime").filter(|t| *t != 0);
        if let Some(ago) = panic.zip(value(at, "bc_timestamp")).and_then(|(p, t)| p.checked_sub(t)) {
            let (seconds, rest) = (ago.checked_div(SECOND)?, ago.checked_rem(SECOND)?.checked_div(MILLISECOND)?);
            text.push_str(&format!(" {seconds}.{rest:03} s before the panic"));
        }
        if !calls.is_empty() {
            text.push_str(&format!(" in {}", calls.join(" < ")));
        }
        Some(text)
    }

    /// The control structure of an allocated buffer of a cache with a hash.
    fn hashed(&self, cache: &Cache, buffer: Addr) -> Option<Addr> {
        if cache.flags & HASH == 0 {
            return None;
        }
        let value = |path: &str| self.illumos.number(cache.at, "kmem_cache", path);
        let shift = u32::try_from(value("cache_hash_shift")?).ok()?;
        let slot = buffer.0.checked_shr(shift)? & value("cache_hash_mask")?;
        let table = Addr(value("cache_hash_table")?);
        let mut at = self.caches.word(table.wrapping_add(slot.wrapping_mul(8))).map(Addr)?;
        for _ in 0..LIMIT_CHAIN {
            if at.0 == 0 || self.illumos.number(at, "kmem_bufctl", "bc_addr")? == buffer.0 {
                break;
            }
            at = Addr(self.illumos.number(at, "kmem_bufctl", "bc_next")?);
        }
        Some(at).filter(|a| a.0 != 0)
    }
}

/// What the patterns in a buffer say.
fn filled(cache: &Cache, bytes: &[u8], free: bool) -> Option<String> {
    let first = |pattern: u64| {
        let words = bytes.chunks_exact(8).enumerate();
        words.take_while(|(_, w)| *w == pattern.to_le_bytes()).count().saturating_mul(8)
    };
    let checked = if cache.flags & LITE != 0 { 8 } else { cache.verify.to_usize().min(bytes.len()) & !7 };
    let (freed, unset) = (first(FREED), first(UNSET));
    if free && cache.flags & DEADBEEF != 0 && checked > 0 && checked <= bytes.len() {
        return Some(match u64_at(bytes, freed, LE).filter(|_| freed < checked) {
            None => "filled with the pattern of freed memory".to_owned(),
            Some(word) => format!("it was written to after it was freed (+{freed:#x} holds {word:#x})"),
        });
    }
    match u8_at(bytes, 0).filter(|b| bytes.iter().all(|x| x == b)) {
        Some(byte) => Some(format!("all its bytes are {byte:#04x}")),
        None if freed >= 8 => Some(format!("its first {freed} bytes hold the pattern of freed memory")),
        None if unset >= 8 => Some(format!("its first {unset} bytes hold the pattern of memory that was never set")),
        None => None,
    }
}

/// Where the first word lies that is not as it was filled, if what is reported is a change of a freed buffer.
pub(super) fn changed(bytes: &[u8], verify: u64) -> Option<(u64, u64)> {
    let words = bytes.get(..verify.to_usize())?.chunks_exact(8).enumerate();
    let (n, word) = words.map(|(n, w)| (n, u64_at(w, 0, LE))).find(|(_, w)| *w != Some(FREED))?;
    Some((n.to_u64().checked_mul(8)?, word?))
}

impl Kmem<'_, '_> {
    /// The word that a freed buffer lost, as the allocator reports it.
    pub(super) fn change(&self, cache: &Cache, buffer: Addr) -> Option<(u64, u64)> {
        let end = buffer.checked_add(cache.verify)?;
        let mut bytes = vec![0; offset(end, buffer)?];
        self.illumos.given.memory.read_exact(buffer, &mut bytes).ok()?;
        changed(&bytes, cache.verify)
    }
}
