//! The buffers of the kernel's allocator that a panic is about: cache, place, free or not, tag, contents, last owner.
//!
//! Source: sys/kmem_impl.h and os/kmem.c of illumos-gate. An address lies in a buffer when a slab that is linked into
//! its cache says so. A buffer is free when its slab's list holds it, or a magazine: one of a CPU, or a full one of the
//! depot. Where one of them cannot be read to its end, it is not known.

mod caches;
mod free;
mod report;
mod suspects;
mod tags;

use super::super::Kernel;
use super::Illumos;
use caches::{Cache, Caches, Slab};
use evidence::{Addr, Attribute, ToU64, ToUsize};
use report::Reported;
use std::collections::{BTreeSet, HashMap};
use suspects::Suspect;

/// Bytes of a buffer that are looked at: buffers of caches have 128 KiB at most.
const LIMIT_CONTENTS: u64 = 128 << 10;

/// A buffer, with what points to it: the name of each pointer, and how far behind the buffer's start it points.
struct Buffer {
    slab: Slab,
    index: u64,
    pointers: Vec<(String, u64)>,
}

/// The allocator, as far as it was looked at.
pub(super) struct Kmem<'k, 'i> {
    illumos: &'k Illumos<'i>,
    caches: Caches<'k, 'i>,
    /// The ids and names of threads by address.
    threads: HashMap<Addr, (u64, Option<String>)>,
    suspects: Vec<Suspect>,
    /// The values that were followed and led nowhere.
    wild: Vec<(String, u64)>,
    error: Option<Reported>,
}

impl<'k, 'i> Kmem<'k, 'i> {
    /// Looks up what the panic is about, and `more` addresses. `None` where there is nothing to look up, or where
    /// nothing describes the allocator.
    pub(super) fn read(illumos: &'k Illumos<'i>, kernel: &Kernel, more: &[Addr]) -> Option<Self> {
        let error = report::read(illumos);
        let (suspects, wild) = suspects::of(kernel, error.as_ref());
        let addresses: BTreeSet<Addr> = suspects.iter().map(|s| s.at).chain(more.iter().copied()).collect();
        if addresses.is_empty() {
            return None;
        }
        let Some(caches) = Caches::read(illumos, &addresses) else {
            let why =
                "nothing describes the allocator's caches, or their list cannot be read: buffers are not looked up";
            illumos.doubt("kernel-memory", why);
            return None;
        };
        let threads = kernel.tasks.iter().filter_map(|t| Some((Addr(t.address?), (t.id, t.name.clone())))).collect();
        Some(Self { illumos, caches, threads, suspects, wild, error })
    }

    /// `+0x28 of object 0x... of cache taskq_cache`, for one of the addresses that were looked up.
    pub(super) fn place(&self, at: Addr) -> Option<String> {
        let slab = self.caches.slab_of(at)?;
        let cache = self.caches.list.get(slab.cache)?;
        let (index, inside) = slab.index(cache, at)?;
        Some(format!("+{inside:#x} of object {} of cache {}", slab.start(cache, index)?, cache.name))
    }

    /// One attribute for what the allocator itself reported, and one per buffer that the panic points to.
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let reported = self.error.iter().filter_map(|e| self.reported(e)).map(|text| attribute("kmem_error", text));
        let mut list: Vec<Attribute> = reported.collect();
        let buffers = self.buffers();
        list.extend(buffers.iter().filter_map(|b| self.describe(b)).map(|text| attribute("slab", text)));
        self.caches.state_doubts();
        list
    }

    /// The buffers that the suspects lie in, each once, in the order of the suspects.
    fn buffers(&self) -> Vec<Buffer> {
        let mut found: Vec<Buffer> = Vec::new();
        for suspect in &self.suspects {
            let slab = self.caches.slab_of(suspect.at);
            let Some((slab, cache)) = slab.and_then(|s| Some((s, self.caches.list.get(s.cache)?))) else { continue };
            let Some((index, inside)) = slab.index(cache, suspect.at) else { continue };
            let pointer = (suspect.name.clone(), inside);
            match found.iter_mut().find(|b| b.slab.at == slab.at && b.index == index) {
                Some(known) => known.pointers.push(pointer),
                None => found.push(Buffer { slab, index, pointers: vec![pointer] }),
            }
        }
        found
    }

    /// `thread 12 (listener)`.
    fn thread(&self, at: Addr) -> String {
        match self.threads.get(&at) {
            Some((id, Some(name))) => format!("thread {id} ({name})"),
            Some((id, None)) => format!("thread {id}"),
            None => format!("a thread that is gone ({at})"),
        }
    }

    fn cache(&self, buffer: &Buffer) -> Option<&Cache> {
        self.caches.list.get(buffer.slab.cache)
    }

    /// The sentence about a buffer.
    fn describe(&self, buffer: &Buffer) -> Option<String> {
        let cache = self.cache(buffer)?;
        let free = self.caches.free(&buffer.slab);
        let start = buffer.slab.start(cache, buffer.index)?;
        let mut text = format!("object {start} of cache {} ({} bytes): {}", cache.name, cache.size, free.word(start));
        for (name, inside) in &buffer.pointers {
            text.push_str(&format!("; {name} is +{inside:#x}"));
        }
        let length = cache.size.min(cache.chunk).min(LIMIT_CONTENTS);
        let mut bytes = vec![0; length.to_usize()];
        let (got, _) = self.illumos.given.memory.read(start, &mut bytes);
        bytes.truncate(got);
        for (what, value) in &self.wild {
            let mut words = bytes.chunks_exact(8).enumerate();
            if let Some((n, _)) = words.find(|(_, w)| *w == value.to_le_bytes()) {
                text.push_str(&format!("; {what} ({value:#x}) is what it holds at +{:#x}", n.saturating_mul(8)));
            }
        }
        for part in self.tags(cache, start, &bytes, &free) {
            text.push_str(&format!("; {part}"));
        }
        if let Some(part) = self.audit(cache, &buffer.slab, start, &free) {
            text.push_str(&format!("; {part}"));
        }
        let mut beside = |which: &str, index: Option<u64>| {
            let neighbour = index.filter(|n| *n < buffer.slab.chunks).and_then(|n| buffer.slab.start(cache, n));
            if let Some(at) = neighbour {
                let past = if self.redzone(cache, at) == Some(false) { ", and was written past its end" } else { "" };
                text.push_str(&format!("; the object {which} it: {}{past}", free.word(at)));
            }
        };
        beside("before", buffer.index.checked_sub(1));
        beside("behind", buffer.index.checked_add(1));
        if let Some(why) = free.broken {
            text.push_str(&format!("; {why}"));
        }
        Some(text)
    }
}

fn attribute(key: &str, value: String) -> Attribute {
    Attribute { key: format!("kernel.{key}").into(), thread: None, value: value.into() }
}

/// Bytes between two addresses as an offset into a slice.
fn offset(at: Addr, from: Addr) -> Option<usize> {
    at.offset_from(from).map(ToUsize::to_usize).filter(|n| n.to_u64() <= LIMIT_CONTENTS)
}
