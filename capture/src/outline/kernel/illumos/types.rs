//! The way to the kernel's types: from the symbol `modules` over built-in offsets to containers of CTF.
//!
//! The offsets of `struct modctl` and `struct module` (sys/modctl.h, sys/kobj.h) are needed before any type can be read.
//! Those of recent releases are tried first; where they lead to no container, every pointer of the structures is tried.
//! Only what has the magic number and version of CTF, and parses, is believed.

use super::super::Given;
use super::symbols::Table;
use debuginfo::ctf::Ctf;
use debuginfo::layout::{Layouts, Member};
use evidence::bytes::{Endian, u64_at};
use evidence::{Addr, Doubt, ToUsize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Modules of one kernel.
const LIMIT_MODULES: usize = 4096;
/// Bytes of one container: genunix's has 2 MB.
const LIMIT_CONTAINER: u64 = 64 << 20;
/// Bytes of a `modctl` and of a `module` that are searched for pointers.
const MODCTL: usize = 512;
const MODULE: usize = 1024;
/// `mod_mp`, `ctfdata` and `ctfsize` (which follows it) since 2010.
const MP: usize = 24;
const CTF: usize = 272;
/// CTF's magic number and version 2, as they lie in memory.
const MAGIC: [u8; 3] = [0xf1, 0xcf, 2];

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// The containers, the one that the others build on first.
    pub layouts: Vec<Box<dyn Layouts>>,
    /// Every `modctl`.
    pub modules: Vec<Addr>,
}

/// A container that is shared.
struct Shared(Arc<Ctf>);

impl Layouts for Shared {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        self.0.member(of, path)
    }
    fn size_of(&self, name: &str) -> Option<u64> {
        self.0.size_of(name)
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.0.enumerator(name)
    }
    fn source(&self) -> &'static str {
        "CTF"
    }
}

/// Finds all modules and their types.
pub(super) fn find(given: Given<'_>, table: &Table) -> Found {
    let doubt = |why: String| given.doubts.push(Doubt::new("kernel-types", why));
    let Some(head) = table.find("modules").map(Addr) else {
        doubt("there is no symbol `modules`: the kernel's modules cannot be found".into());
        return Found::default();
    };
    let modules = ring(given, head, &doubt);
    let places = [(MP, CTF)].into_iter().chain(candidates(given, &modules));
    let mut tried = HashSet::new();
    for place in places {
        if tried.insert(place) {
            let containers = containers(given, &modules, place, &doubt);
            if !containers.is_empty() {
                return Found { layouts: layer(containers, &doubt), modules };
            }
        }
    }
    Found { layouts: Vec::new(), modules }
}

/// `mod_next` is the first member, `mod_prev` the second, as long as there has been illumos; a ring that does not say the
/// same in both directions is followed as far as it does.
fn ring(given: Given<'_>, head: Addr, doubt: &dyn Fn(String)) -> Vec<Addr> {
    let mut list = Vec::new();
    let mut at = head;
    let word = |at: Addr| given.memory.read_u64(at, Endian::Little).map(Addr);
    while list.len() < LIMIT_MODULES {
        list.push(at);
        let Ok(next) = word(at) else {
            doubt(format!("the list of modules ends early: the module at {at} cannot be read"));
            break;
        };
        if next == head {
            break;
        }
        if word(next.saturating_add(8)).ok() != Some(at) || list.contains(&next) {
            doubt(format!("the list of modules is damaged: {next} behind {at} does not lead back"));
            break;
        }
        at = next;
    }
    list
}

/// Offsets of the pointers that lead to a container in some module.
fn candidates(given: Given<'_>, modules: &[Addr]) -> Vec<(usize, usize)> {
    let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
    for modctl in modules.iter().take(8) {
        for (mp, module) in pointers(given, *modctl, MODCTL).into_iter().skip(2) {
            for (ctf, data) in pointers(given, module, MODULE) {
                let mut magic = [0; 3];
                if given.memory.read_exact(data, &mut magic).is_ok() && magic == MAGIC {
                    let count = counts.entry((mp, ctf)).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
    }
    let mut list: Vec<_> = counts.into_iter().collect();
    list.sort_by_key(|(place, count)| (std::cmp::Reverse(*count), *place));
    list.into_iter().map(|(place, _)| place).take(16).collect()
}

/// Words that look like addresses of the kernel, and where they stand.
fn pointers(given: Given<'_>, at: Addr, length: usize) -> Vec<(usize, Addr)> {
    let mut bytes = vec![0; length];
    let (got, _) = given.memory.read(at, &mut bytes);
    let words = bytes.get(..got).unwrap_or_default().chunks_exact(8).enumerate();
    words
        .filter_map(|(n, w)| Some((n.checked_mul(8)?, u64_at(w, 0, Endian::Little)?)))
        .filter(|(_, value)| *value >> 47 == 0x1_ffff && value & 3 == 0)
        .map(|(n, value)| (n, Addr(value)))
        .collect()
}

fn containers(given: Given<'_>, modules: &[Addr], place: (usize, usize), doubt: &dyn Fn(String)) -> Vec<Ctf> {
    let word = |at: Addr, offset: usize| {
        given.memory.read_u64(at.saturating_add(evidence::ToU64::to_u64(offset)), Endian::Little).ok()
    };
    let mut list = Vec::new();
    for modctl in modules {
        let Some(module) = word(*modctl, place.0).filter(|m| *m != 0).map(Addr) else { continue };
        let (Some(data), Some(size)) = (word(module, place.1), word(module, place.1.saturating_add(8))) else {
            continue;
        };
        if data == 0 || !(36..=LIMIT_CONTAINER).contains(&size) {
            continue;
        }
        let mut bytes = vec![0; size.to_usize()];
        if given.memory.read_exact(Addr(data), &mut bytes).is_err() || !bytes.starts_with(&MAGIC) {
            continue;
        }
        match Ctf::parse(&bytes, 8) {
            Ok(ctf) => {
                // Kept only where it must be read once more.
                let bytes = if ctf.has_external_names() { bytes } else { Vec::new() };
                list.push((module, bytes, ctf));
            }
            Err(e) => doubt(format!("the types of the module at {modctl} cannot be read: {e}")),
        }
    }
    with_strings(given, list, doubt)
}

/// Names of types may lie in the strings of the module's symbol table: containers with such names are read once more,
/// with those strings.
fn with_strings(given: Given<'_>, list: Vec<(Addr, Vec<u8>, Ctf)>, doubt: &dyn Fn(String)) -> Vec<Ctf> {
    let known = |member: &str, usual: u64| {
        list.iter().find_map(|(.., c)| c.member("module", member)).map_or(usual, |m| m.offset)
    };
    let places =
        [("strhdr", 88), ("symsize", 104), ("symspace", 112), ("strings", 176)].map(|(m, usual)| known(m, usual));
    let mut missing = 0_usize;
    let mut done = Vec::new();
    for (module, bytes, ctf) in list {
        if bytes.is_empty() {
            done.push(ctf);
            continue;
        }
        let read = strings(given, module, places).and_then(|s| Ctf::parse_with_strings(&bytes, 8, &s).ok());
        if read.is_none() {
            missing = missing.saturating_add(1);
        }
        done.push(read.unwrap_or(ctf));
    }
    if missing > 0 {
        doubt(format!("types of {missing} modules have names in their symbol tables' strings, which cannot be read"));
    }
    done
}

/// The strings of a module's symbol table (`sh_size` of `Elf64_Shdr` stands at 32), which lie in the space of its
/// symbols and begin with a zero.
fn strings(given: Given<'_>, module: Addr, [header, length, space, strings]: [u64; 4]) -> Option<Vec<u8>> {
    let word = |at: Addr| given.memory.read_u64(at, Endian::Little).ok();
    let (space, length) = (Addr(word(module.wrapping_add(space))?), word(module.wrapping_add(length))?);
    let start = Addr(word(module.wrapping_add(strings))?);
    let left = length.checked_sub(start.offset_from(space)?)?;
    let size = word(Addr(word(module.wrapping_add(header))?).wrapping_add(32)).filter(|n| *n <= left).unwrap_or(left);
    let mut bytes = vec![0; Some(size).filter(|n| (1..=LIMIT_CONTAINER).contains(n))?.to_usize()];
    given.memory.read_exact(start, &mut bytes).ok()?;
    (bytes.first() == Some(&0)).then_some(bytes)
}

/// Containers that stand alone first; the others get the largest of them as their parent (genunix).
fn layer(containers: Vec<Ctf>, doubt: &dyn Fn(String)) -> Vec<Box<dyn Layouts>> {
    let (children, mut alone): (Vec<Ctf>, Vec<Ctf>) = containers.into_iter().partition(|c| c.parent_name().is_some());
    alone.sort_by_key(|c| std::cmp::Reverse(c.len()));
    let alone: Vec<Arc<Ctf>> = alone.into_iter().map(Arc::new).collect();
    let mut layouts: Vec<Box<dyn Layouts>> =
        alone.iter().map(|c| -> Box<dyn Layouts> { Box::new(Shared(c.clone())) }).collect();
    let Some(parent) = alone.first() else {
        if !children.is_empty() {
            doubt("the types of genunix, which those of all modules build on, are missing".into());
        }
        return layouts;
    };
    layouts.extend(children.into_iter().map(|c| -> Box<dyn Layouts> { Box::new(c.with_parent(parent.clone())) }));
    layouts
}
