//! illumos kernels: with nothing but the dump.
//!
//! The dump carries the kernel's symbols (ksyms, one flat table over all modules) but no types. Those lie in the kernel's
//! memory: every module's `struct module` points to its CTF. The way there begins with built-in offsets, which are
//! believed only where they lead to containers of types; from then on structures are read by name.

mod kmem;
mod locks;
mod log;
mod modules;
mod panic;
mod symbols;
mod threads;
mod turnstiles;
mod types;

use super::{Given, Kernel};
use debuginfo::Modules;
use debuginfo::layout::{Fields, Layered};
use evidence::bytes::Endian;
use evidence::{Addr, Attribute, Doubt};
use symbols::Table;

/// Elements of one list: more than the threads of the largest machine.
const LIMIT_ELEMENTS: usize = 1 << 20;

/// What the parts of the outline read.
struct Illumos<'i> {
    given: Given<'i>,
    symbols: &'i Table,
    fields: Fields<'i>,
}

impl Illumos<'_> {
    fn doubt(&self, what: &'static str, why: impl Into<Box<str>>) {
        self.given.doubts.push(Doubt::new(what, why));
    }

    /// The pointer or long that a global variable holds.
    fn variable(&self, name: &str) -> Option<u64> {
        self.fields.pointer_at(Addr(self.symbols.find(name)?)).ok().map(|a| a.0)
    }

    fn number(&self, at: Addr, of: &str, path: &str) -> Option<u64> {
        self.fields.integer(at, of, path).ok()
    }

    fn pointer(&self, at: Addr, of: &str, path: &str) -> Option<Addr> {
        self.number(at, of, path).map(Addr).filter(|a| a.0 != 0)
    }

    /// The text a member points to.
    fn pointed(&self, at: Addr, of: &str, path: &str) -> Option<String> {
        self.fields.text_at(self.pointer(at, of, path)?, 256).ok().filter(|t| !t.is_empty())
    }

    /// Follows `link` from `first` until it comes round, or to a null pointer. A list that is broken says so.
    fn list(&self, first: Addr, of: &str, link: &str, what: &'static str) -> Vec<Addr> {
        let mut found: Vec<Addr> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut at = first;
        while at.0 != 0 && found.len() < LIMIT_ELEMENTS {
            if !seen.insert(at) {
                if at != first {
                    self.doubt(what, format!("the list of {of} leads back to {at}, not to its start"));
                }
                break;
            }
            found.push(at);
            match self.fields.integer(at, of, link) {
                Ok(next) => at = Addr(next),
                Err(why) => {
                    self.doubt(what, format!("the list of {of} ends early: {link} at {at}: {why}"));
                    break;
                }
            }
        }
        found
    }
}

/// What an illumos kernel's memory says of it.
pub(super) fn outline(given: Given<'_>) -> Option<Kernel> {
    let mut kernel = Kernel::recorded(given);
    kernel.log = log::of_device(given.target);
    kernel.attributes.extend(log::reports(given.target));
    let table = symbols::read(given);
    if table.is_empty() {
        panic::header_message(given, &kernel);
        return Some(kernel);
    }
    let found = types::find(given, &table);
    let layouts = Layered(found.layouts);
    let fields = Fields { layouts: &layouts, memory: given.memory, endian: Endian::Little, pointer: 8 };
    let illumos = Illumos { given, symbols: &table, fields };
    let images = modules::images(&illumos, &found.modules);
    kernel.modules = Modules::of_images(images, &[], given.locator);
    if layouts.0.is_empty() {
        illumos.doubt(
            "kernel-types",
            "no module's types (CTF) were found in the dump: threads, processes and messages are not known",
        );
        panic::header_message(given, &kernel);
        return Some(kernel);
    }
    let (threads, tasks) = threads::all(&illumos);
    kernel.tasks = tasks;
    kernel.threads = threads;
    panic::complete(&illumos, &mut kernel);
    let locks = locks::read(&illumos, &kernel.tasks);
    let kmem = kmem::Kmem::read(&illumos, &kernel, &locks.unnamed(&illumos));
    kernel.attributes.extend(locks.attributes(&illumos, kmem.as_ref()));
    kernel.attributes.extend(kmem.iter().flat_map(kmem::Kmem::attributes));
    let own = log::read(&illumos);
    if !own.is_empty() {
        kernel.log = own;
    }
    let mut fact = |key: &str, value: Option<String>| {
        let value = value.filter(|v| !v.is_empty());
        kernel.attributes.extend(value.map(|v| Attribute { key: key.into(), thread: None, value: v.into() }));
    };
    let text = |name: &str, length| table.find(name).and_then(|at| fields.text_at(Addr(at), length).ok());
    fact("kernel.image_uuid", text("dump_osimage_uuid", 37));
    fact("kernel.types", Some(format!("CTF of {} modules", layouts.0.len())));
    Some(kernel)
}
