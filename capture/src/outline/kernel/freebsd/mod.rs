//! FreeBSD kernels: by the symbols of their file and the constants that they keep for debuggers, better with types.
//!
//! A dump holds no symbols: without the kernel's file there are its record, `info.N` and the message buffer only. With
//! it, processes, threads and modules are walked; DWARF (`kernel.debug`) or CTF (`.SUNW_ctf`) add states, wait channels
//! and stacks.

mod context;
mod image;
mod log;
mod modules;
mod offsets;
mod pcb;
mod threads;
mod uma;

use super::{Given, Kernel};
use context::{Described, FreeBsd};
use debuginfo::ctf::Ctf;
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Verified};
use debuginfo::layout::{Fields, Layouts as _};
use debuginfo::{DebugInfo, Modules};
use evidence::bytes::Endian;
use evidence::{Access, Addr, Attribute, Doubt, Doubts, Event};
use std::sync::OnceLock;

/// Longest panic message kept.
const LIMIT_PANIC: usize = 1024;
/// Owners of notes of text dumps and of the message buffer that a minidump carries.
const TEXT: &str = "FreeBSD text dump: ";
const MESSAGES: &str = "FreeBSD message buffer";

/// What a FreeBSD kernel's memory says of it.
pub(super) fn outline(given: Given<'_>) -> Option<Kernel> {
    let mut kernel = Kernel::recorded(given);
    let search = image::search(given.locator, given.memory, given.target, given.doubts);
    if search.file.is_none() {
        given.doubts.push(Doubt::new(
            "kernel-image",
            "the kernel's file was not found: threads and functions have no names; name it with --kernel",
        ));
    }
    let open = || search.file.as_ref().and_then(|path| ElfFile::open(path).ok());
    let ctf = open().and_then(|file| match Ctf::of_file(&file)? {
        Ok(ctf) => Some(ctf),
        Err(e) => {
            given.doubts.push(Doubt::new("ctf", format!("the kernel's types cannot be used: {e}")));
            None
        }
    });
    // The tables of the kernel's file, for all that is looked up on the way.
    let whole = open().map(|f| Image { file: Some((f, Verified::Given)), ..Image::at(image::NAME, Addr(0), u64::MAX) });
    let of_file = Modules::of_images(whole.into_iter().collect(), &[], given.locator);
    let passing = Doubts::new();
    let tables = DebugInfo::new(&of_file, &passing);
    let arch = given.target.identity().arch;
    let stated = offsets::Stated::read(&tables, given.memory, arch.pointer_size());
    let described = Described { info: &tables, ctf: ctf.as_ref(), dwarf: OnceLock::new(), stated: &stated };
    if search.file.is_some() && stated.is_empty() && described.member("thread", "td_tid").is_none() {
        given
            .doubts
            .push(Doubt::new("kernel-file", "the kernel's constants for debuggers (proc_off_*) were not found"));
    }
    let freebsd = FreeBsd {
        target: given.target,
        fields: Fields {
            layouts: &described,
            memory: given.memory,
            endian: Endian::Little,
            pointer: arch.pointer_size(),
        },
        doubts: given.doubts,
        file: &tables,
        arch,
    };
    fill(&mut kernel, &freebsd);
    let mut images = modules::images(&freebsd, given.locator);
    images.extend(search.file.as_ref().and_then(|path| image::trampoline(&freebsd, path)));
    images.extend(image::image(search));
    kernel.modules = Modules::of_images(images, &[], given.locator);
    let found = items(&kernel, &freebsd);
    kernel.attributes.extend(found);
    Some(kernel)
}

/// Most frames that are walked for what the trap interrupted: the panic's own code is some ten functions deep.
const LIMIT_FRAMES: usize = 64;

/// The items of the allocator that the panic was about.
fn items(kernel: &Kernel, freebsd: &FreeBsd<'_>) -> Vec<Attribute> {
    let Some(event) = kernel.event.as_ref().filter(|e| e.message.is_some()) else { return Vec::new() };
    let passing = Doubts::new();
    let info = DebugInfo::new(&kernel.modules, &passing);
    let died = kernel.threads.iter().find(|t| Some(t.id) == event.thread);
    let stack = died.map(|t| {
        let limits = unwind::Limits { frames: LIMIT_FRAMES, ..unwind::Limits::default() };
        unwind::unwind_freebsd_kernel(&t.registers, true, freebsd.memory(), &info, &limits)
    });
    let frames = stack.map_or_else(Vec::new, |s| s.frames);
    let trapped = frames.windows(2).find_map(|pair| match pair {
        [outer, inner] if outer.signal_frame => Some(&inner.registers),
        _ => None,
    });
    let code = |at| kernel.modules.find(at).is_some();
    uma::read(freebsd, &uma::suspects::Suspects::new(freebsd.arch, trapped, Some(event), code))
}

fn fill(kernel: &mut Kernel, freebsd: &FreeBsd<'_>) {
    let member = |name: &str| {
        let notes = freebsd.target.notes().iter();
        let body = notes.filter(|n| n.owner.strip_prefix(TEXT) == Some(name)).map(|n| n.body.clone()).next();
        body.map(|b| String::from_utf8_lossy(&b).into_owned())
    };
    let raw = freebsd.target.notes().iter().find(|n| &*n.owner == MESSAGES).map(|n| n.body.to_vec());
    kernel.log = log::read(freebsd, &log::Notes { raw, text: member("msgbuf.txt") });
    if freebsd.file.symbols(0).is_some() {
        let found = threads::all(freebsd);
        kernel.threads = found.threads;
        kernel.tasks = found.tasks;
        let mut event = kernel.event.take().unwrap_or_default();
        event.thread = found.crashed;
        kernel.event = Some(event);
    }
    cause(kernel, freebsd, member("panic.txt"));
    facts(kernel, freebsd, member("version.txt"));
    for name in ["ddb.txt", "config.txt"] {
        if let Some(text) = member(name) {
            kernel.attributes.push(Attribute {
                key: format!("textdump.{}", name.trim_end_matches(".txt")).into(),
                thread: None,
                value: text.into(),
            });
        }
    }
}

/// Why it died: the record's panic string, else the kernel's own, and the trap that its log reports.
fn cause(kernel: &mut Kernel, freebsd: &FreeBsd<'_>, text: Option<String>) {
    let own = freebsd.pointer("panicstr").and_then(|at| freebsd.text(at, LIMIT_PANIC));
    let mut event = kernel.event.take().unwrap_or_default();
    // The record keeps 174 characters; the kernel's own string is whole.
    let recorded = event.message.take().map(String::from);
    let longer = |a: &String, b: &String| b.len() > a.len() && b.starts_with(a.as_str());
    let message = match (recorded, own.or(text).map(|t| t.trim_end().to_owned())) {
        (Some(recorded), Some(own)) if longer(&recorded, &own) => Some(own),
        (recorded, own) => recorded.or(own),
    };
    event.message = message.map(Into::into);
    let died = event.message.is_some();
    if let Some(trap) = log::trap(&kernel.log).filter(|_| died) {
        event.trap_number = trap.number;
        event.access = match (trap.fetch, trap.write) {
            (true, _) => Some(Access::Execute),
            (false, Some(true)) => Some(Access::Write),
            (false, Some(false)) => Some(Access::Read),
            (false, None) => None,
        };
        event.address = trap.address;
    }
    kernel.event = Some(event).filter(|e: &Event| e.thread.is_some() || e.message.is_some());
}

fn facts(kernel: &mut Kernel, freebsd: &FreeBsd<'_>, text: Option<String>) {
    let string = |name: &str| freebsd.text(freebsd.symbol(name)?, LIMIT_PANIC);
    let mut add = |key: &str, value: Option<String>| {
        let Some(value) = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()) else { return };
        if !kernel.attributes.iter().any(|a| &*a.key == key) {
            kernel.attributes.push(Attribute { key: key.into(), thread: None, value: value.into() });
        }
    };
    add("kernel.version", string("version").or(text));
    add("kernel.release", string("osrelease"));
    add("kernel.system", string("ostype"));
    add("kernel.osreldate", freebsd.version().map(|v| v.to_string()));
    add("kernel.cpus", freebsd.int("mp_ncpus").filter(|n| (1..=8192).contains(n)).map(|n| n.to_string()));
    add("kernel.hz", freebsd.int("hz").filter(|n| (1..=100_000).contains(n)).map(|n| n.to_string()));
    let jail = freebsd.symbol("prison0").zip(freebsd.offset("prison", "pr_hostname"));
    let host = jail.and_then(|(at, offset)| freebsd.text(at.wrapping_add(offset), 256));
    add("kernel.host", host);
    let fact = |key: &str| kernel.attributes.iter().find(|a| &*a.key == key).map(|a| a.value.clone());
    let by_version = || fact("kernel.version").and_then(|v| Some(v.split_whitespace().nth(1)?.into()));
    let (release, host) = (fact("kernel.release").or_else(by_version), fact("kernel.host"));
    kernel.identity.release = release.or_else(|| kernel.identity.release.take());
    kernel.identity.host = kernel.identity.host.take().or(host);
}
