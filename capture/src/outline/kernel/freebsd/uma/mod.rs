//! The items of the kernel's allocator (UMA) that the registers of a trap point to: zone, place, free or not, contents.
//!
//! Source: `sys/vm/uma_int.h` and `uma_core.c` of FreeBSD 12 to 15. A page belongs to a slab when its `struct vm_page`
//! says so and the slab's keg is in the kernel's list of kegs. An item is free when its slab's bits say so, or when it
//! waits in a bucket of one of the keg's zones: a CPU's, or a memory domain's. Where a bucket cannot be read, an item
//! that is in none is not known to be free.

mod buckets;
mod page;
pub(super) mod suspects;

use super::context::FreeBsd;
use buckets::Place;
use evidence::{Addr, Attribute, ToUsize};
use page::PageMap;
use std::collections::{BTreeMap, HashSet};
use suspects::Suspects;

/// Most kegs: a kernel with everything loaded has some hundred.
const LIMIT_KEGS: usize = 1 << 14;
/// Most zones of one keg: a handful, of network buffers.
const LIMIT_ZONES: usize = 256;
/// Most bytes of an item that are looked at.
const LIMIT_CONTENTS: u64 = 64 << 10;
/// Longest name of a zone.
const LIMIT_NAME: usize = 128;
/// Most items of a slab: `uk_ipers` has 16 bits.
const LIMIT_ITEMS: u64 = 1 << 16;
/// `UMA_ZFLAG_OFFPAGE` of 13 and later. It only says which of two places to try first.
const OFFPAGE: u64 = 0x0020_0000;
/// `UMA_ZONE_SMR` of 13 and later, `UMA_ZONE_NOFREE`.
const SMR: u64 = 0x0004_0000;
/// `uma_junk` (`sys/vm/uma_dbg.c`): what freed items are filled with where the kernel checks itself.
const JUNK: [u8; 4] = 0xdead_c0de_u32.to_le_bytes();

/// The allocator.
pub(super) struct Uma<'m, 'k> {
    kernel: &'m FreeBsd<'k>,
    kegs: HashSet<Addr>,
    pages: PageMap<'m, 'k>,
}

/// A slab: items of one size in a row.
struct Slab {
    at: Addr,
    keg: Addr,
    /// Where its first item starts.
    data: Addr,
    /// Bytes from one item to the next, and how many items there are.
    each: u64,
    count: u64,
}

impl Slab {
    /// The number of the item that an address lies in.
    fn index(&self, at: Addr) -> Option<u64> {
        let index = at.offset_from(self.data)?.checked_div(self.each)?;
        (index < self.count).then_some(index)
    }

    fn start(&self, index: u64) -> Addr {
        self.data.wrapping_add(index.wrapping_mul(self.each))
    }
}

/// The elements of a `LIST`, `TAILQ` or `STAILQ` from its head on, and whether it came to its end.
fn list(kernel: &FreeBsd<'_>, head: Addr, link: u64, limit: usize) -> (Vec<Addr>, bool) {
    let (mut elements, mut seen, mut from) = (Vec::new(), HashSet::new(), head);
    loop {
        match kernel.fields.pointer_at(from) {
            Ok(Addr(0)) => return (elements, true),
            Ok(next) if elements.len() < limit && seen.insert(next) => {
                elements.push(next);
                from = next.wrapping_add(link);
            }
            _ => return (elements, false),
        }
    }
}

impl<'m, 'k> Uma<'m, 'k> {
    /// The allocator, where types describe it.
    fn of(kernel: &'m FreeBsd<'k>) -> Option<Self> {
        let link = kernel.offset("uma_keg", "uk_link")?;
        let (kegs, whole) = list(kernel, kernel.symbol("uma_kegs")?, link, LIMIT_KEGS);
        if !whole {
            kernel.doubt("uma", format!("the list of kegs breaks off after {}", kegs.len()));
        }
        Some(Self { kernel, kegs: kegs.into_iter().collect(), pages: PageMap::of(kernel)? })
    }

    fn slab(&self, at: Addr) -> Option<Slab> {
        let kernel = self.kernel;
        let slab = self.pages.slab(at)?;
        let keg = self.keg(at, slab)?;
        let value = |name: &str| kernel.value(keg, "uma_keg", name);
        let (each, count) = (value("uk_rsize")?, value("uk_ipers")?);
        if each == 0 || count == 0 || count > LIMIT_ITEMS {
            return None;
        }
        let inside = || Some(Addr(slab.0.wrapping_sub(value("uk_pgoff")?)));
        let beside = || {
            let outer = slab.0.wrapping_sub(kernel.offset("uma_hash_slab", "uhs_slab")?);
            kernel.value(Addr(outer), "uma_hash_slab", "uhs_data").map(Addr)
        };
        // Up to 12 every slab says where its items are.
        let stated = kernel.value(slab, "uma_slab", "us_data").map(Addr);
        let first = if value("uk_flags").is_some_and(|f| f & OFFPAGE != 0) { beside() } else { inside() };
        let places = match stated {
            Some(data) => vec![data],
            None => [first, inside(), beside()].into_iter().flatten().collect(),
        };
        places
            .into_iter()
            .map(|data| Slab { at: slab, keg, data, each, count })
            .find(|s| s.index(at).is_some() && s.data.0.is_multiple_of(4))
    }

    /// The keg of a slab: since 13 that of the zone that the page names, before that the slab's own.
    fn keg(&self, at: Addr, slab: Addr) -> Option<Addr> {
        let of_zone = || self.kernel.value(self.pages.zone(at)?, "uma_zone", "uz_keg");
        let keg = self.kernel.value(slab, "uma_slab", "us_keg").or_else(of_zone).map(Addr)?;
        self.kegs.contains(&keg).then_some(keg)
    }

    /// Whether the slab itself says that an item is free.
    fn bit(&self, slab: &Slab, index: u64) -> Option<bool> {
        let word = u64::from(self.kernel.fields.pointer);
        let bits = word.checked_mul(8)?;
        let first = slab.at.wrapping_add(self.kernel.offset("uma_slab", "us_free")?);
        let at = first.wrapping_add(index.checked_div(bits)?.checked_mul(word)?);
        let value = self.kernel.fields.pointer_at(at).ok()?.0;
        Some(value.checked_shr(u32::try_from(index.checked_rem(bits)?).ok()?)? & 1 == 1)
    }

    fn zones(&self, keg: Addr) -> (Vec<Addr>, bool) {
        let kernel = self.kernel;
        let head = kernel.offset("uma_keg", "uk_zones").zip(kernel.offset("uma_zone", "uz_link"));
        head.map_or((Vec::new(), false), |(head, link)| list(kernel, keg.wrapping_add(head), link, LIMIT_ZONES))
    }

    fn name(&self, slab: &Slab, zones: &[Addr]) -> String {
        let kernel = self.kernel;
        let text = |at: u64| kernel.text(Addr(at), LIMIT_NAME);
        let of_keg = || kernel.value(slab.keg, "uma_keg", "uk_name").and_then(text);
        let of_zone = zones.first().and_then(|z| kernel.value(*z, "uma_zone", "uz_name")).and_then(text);
        of_zone.or_else(of_keg).unwrap_or_else(|| format!("of the keg at {}", slab.keg))
    }

    fn describe(&self, slab: &Slab, index: u64, named: &[(String, u64)], suspects: &Suspects) -> String {
        let kernel = self.kernel;
        let (zones, all) = self.zones(slab.keg);
        let (waiting, mut missing) = buckets::read(kernel, &zones, slab);
        if !all {
            missing = missing.or_else(|| Some("the zones of the keg cannot be read".into()));
        }
        let state = |index: u64| State {
            places: waiting.get(&index).map_or(&[][..], Vec::as_slice),
            bit: self.bit(slab, index),
            complete: missing.is_none(),
        };
        let start = slab.start(index);
        let size = kernel.value(slab.keg, "uma_keg", "uk_size").filter(|n| *n > 0 && *n <= slab.each);
        let size = size.unwrap_or(slab.each);
        let own = state(index);
        let name = self.name(slab, &zones);
        let mut text = format!("object {start} of zone {name} ({size} bytes): {}", own.word());
        for (register, inside) in named {
            text.push_str(&format!("; {register} is +{inside:#x}"));
        }
        let mut bytes = vec![0; size.min(LIMIT_CONTENTS).to_usize()];
        let (got, _) = kernel.memory().read(start, &mut bytes);
        bytes.truncate(got);
        let word = usize::from(kernel.fields.pointer);
        for (what, value) in suspects.wild() {
            let raw = value.to_le_bytes();
            let holds = bytes.chunks_exact(word).position(|w| raw.get(..word) == Some(w));
            if let Some(at) = holds.map(|n| n.saturating_mul(word)) {
                text.push_str(&format!("; {what} ({value:#x}) is what it holds at +{at:#x}"));
            }
        }
        let junk = bytes.chunks_exact(4).filter(|w| **w == JUNK).count();
        match bytes.split_first() {
            Some((b, rest)) if rest.iter().all(|x| x == b) => text.push_str(&format!("; all its bytes are {b:#04x}")),
            Some(_) if junk > 0 && junk.saturating_mul(8) >= bytes.len() => {
                text.push_str("; filled with 0xdeadc0de, as freed items are");
            }
            _ => {}
        }
        if let Some(twice) = own.twice() {
            text.push_str(&format!("; it was freed twice: {twice}"));
        } else if let Some(place) = own.places.first() {
            text.push_str(&format!("; it waits in {place}"));
        }
        if kernel.value(slab.keg, "uma_keg", "uk_flags").is_some_and(|f| f & SMR != 0)
            && kernel.offset("uma_zone", "uz_smr").is_some()
        {
            text.push_str("; what the zone frees may still be read for a while (SMR)");
        }
        if let Some(before) = index.checked_sub(1) {
            text.push_str(&format!("; the object before it: {}", state(before).word()));
        }
        let behind = index.saturating_add(1);
        if behind < slab.count {
            text.push_str(&format!("; the one behind it: {}", state(behind).word()));
        }
        text.push_str(&format!("; item {index} of {} in the slab at {}", slab.count, slab.at));
        if let Some(why) = missing {
            text.push_str(&format!("; {why}"));
        }
        text
    }
}

/// What is known of an item.
struct State<'p> {
    /// The buckets that it waits in.
    places: &'p [Place],
    /// What the slab's bits say.
    bit: Option<bool>,
    /// Whether all buckets could be read.
    complete: bool,
}

impl State<'_> {
    fn word(&self) -> &'static str {
        match self.bit {
            Some(true) => "free",
            _ if !self.places.is_empty() => "free",
            Some(false) if self.complete => "allocated",
            _ => "not known to be free",
        }
    }

    /// Where it is free, when that is more than one place.
    fn twice(&self) -> Option<String> {
        let slab = (self.bit == Some(true)).then(|| "the slab".to_owned());
        let all: Vec<String> = self.places.iter().map(ToString::to_string).chain(slab).collect();
        (all.len() > 1).then(|| all.join(" and "))
    }
}

/// An item with what points to it, and how far into it.
struct Found {
    slab: Slab,
    index: u64,
    named: Vec<(String, u64)>,
}

/// One attribute per item that is pointed to, in the order of what points.
pub(super) fn read(kernel: &FreeBsd<'_>, suspects: &Suspects) -> Vec<Attribute> {
    let pointers = suspects.pointers();
    if pointers.is_empty() {
        return Vec::new();
    }
    let Some(uma) = Uma::of(kernel) else { return Vec::new() };
    let mut found: Vec<Found> = Vec::new();
    for (what, at) in pointers {
        let Some(slab) = uma.slab(at) else { continue };
        let Some(index) = slab.index(at) else { continue };
        let named = (what.to_owned(), at.offset_from(slab.start(index)).unwrap_or(0));
        match found.iter_mut().find(|f| f.slab.at == slab.at && f.index == index) {
            Some(known) => known.named.push(named),
            None => found.push(Found { slab, index, named: vec![named] }),
        }
    }
    let text = |f: &Found| uma.describe(&f.slab, f.index, &f.named, suspects);
    let attribute = |f: &Found| Attribute { key: "kernel.slab".into(), thread: None, value: text(f).into() };
    found.iter().map(attribute).collect()
}

/// By item: where it waits.
type Waiting = BTreeMap<u64, Vec<Place>>;
