//! What the kernel was at: locks and who waits for them, run queues, pending work and timers, RCU, and the objects that
//! the registers of an oops point to.
//!
//! Each part gives attributes: `kernel.lock`, `kernel.deadlock`, `kernel.run_queue`, `kernel.work`, `kernel.timer`,
//! `kernel.rcu`, `kernel.slab`. What nothing describes is left out; a structure that contradicts itself is a doubt.

mod freelist;
mod locks;
mod queues;
mod rcu;
mod slab;
mod spinlocks;
mod suspects;
#[cfg(test)]
mod tests;
mod timers;
mod tree;
mod work;

use super::context::Linux;
use super::cpus::Cpu;
use super::list::Ring;
use super::tasks::Task;
use debuginfo::images::Image;
use evidence::{Addr, Attribute, Thread};
use snapshot_format::schema::LogRecord;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

/// Most rows of one kind: pending work and timers of large machines are many, and a reader wants some.
const LIMIT_ROWS: usize = 2048;

/// Most links that are followed in all: damaged lists may all lead into one long one.
const LIMIT_LINKS: usize = 8 << 20;

/// What the parts work with.
pub(super) struct State<'s, 'k> {
    linux: &'s Linux<'k>,
    images: &'s [Image],
    tasks: &'s [Task],
    cpus: &'s [Cpu],
    threads: &'s [Thread],
    by_address: HashMap<Addr, &'s Task>,
    by_id: HashMap<u64, &'s Task>,
    /// Links that may still be followed.
    left: Cell<usize>,
    /// What could not be read of each part: the first reason, and how many there are.
    missing: RefCell<BTreeMap<&'static str, (String, usize)>>,
    /// All CPUs that may have been running some time.
    numbers: Vec<u32>,
}

impl<'s, 'k> State<'s, 'k> {
    pub(super) fn new(
        linux: &'s Linux<'k>,
        images: &'s [Image],
        tasks: &'s [Task],
        cpus: &'s [Cpu],
        threads: &'s [Thread],
    ) -> Self {
        let by_address = tasks.iter().map(|t| (t.address, t)).collect();
        let by_id = tasks.iter().map(|t| (t.id, t)).collect();
        let left = Cell::new(LIMIT_LINKS);
        Self {
            linux,
            images,
            tasks,
            cpus,
            threads,
            by_address,
            by_id,
            left,
            missing: RefCell::default(),
            numbers: linux.possible(),
        }
    }

    /// All attributes.
    pub(super) fn read(&self, log: &[LogRecord]) -> Vec<Attribute> {
        let reports = suspects::of_log(log);
        let mut found = locks::read(self, &reports);
        if let Some(last) = reports.last().filter(|r| r.oops) {
            found.extend(slab::read(self, last));
        }
        found.extend(queues::read(self));
        found.extend(rcu::read(self));
        found.extend(work::read(self));
        found.extend(timers::read(self));
        for (what, (why, more)) in self.missing.take() {
            let more = if more > 1 { format!("; {} more of that kind", more.saturating_sub(1)) } else { String::new() };
            self.linux.doubt(what, format!("{why}{more}"));
        }
        found
    }

    /// Notes what could not be read. A dump that lacks pages lacks thousands of lists: one doubt speaks for all.
    fn lacks(&self, what: &'static str, why: impl Into<String>) {
        let mut missing = self.missing.borrow_mut();
        let entry = missing.entry(what).or_insert_with(|| (why.into(), 0));
        entry.1 = entry.1.saturating_add(1);
    }

    /// The value of a member.
    fn value(&self, at: Addr, of: &str, path: &str) -> Option<u64> {
        self.linux.fields.integer(at, of, path).ok()
    }

    /// The value of the first of several members that is described.
    fn first(&self, at: Addr, of: &str, paths: &[&str]) -> Option<u64> {
        let member = self.linux.fields.first_place(of, paths).ok()?;
        self.linux.fields.integer_at(at, &member).ok()
    }

    /// A pointer that is not null.
    fn pointer(&self, at: Addr, of: &str, path: &str) -> Option<Addr> {
        self.value(at, of, path).map(Addr).filter(|a| a.0 != 0)
    }

    /// The distance of a member from the start of its structure.
    fn place(&self, of: &str, path: &str) -> Option<u64> {
        self.linux.fields.layouts.member(of, path).map(|m| m.offset)
    }

    /// `place` of several members, whichever is described.
    fn first_place(&self, of: &str, paths: &[&str]) -> Option<u64> {
        paths.iter().find_map(|path| self.place(of, path))
    }

    fn task(&self, at: Addr) -> Option<&'s Task> {
        self.by_address.get(&at).copied()
    }

    /// Takes one link from those that may still be followed.
    fn spend(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The elements of a list, within what may still be followed.
    fn ring(&self, head: Addr, link: u64) -> Ring {
        let ring = self.linux.ring_within(head, link, self.left.get());
        self.left.set(self.left.get().saturating_sub(ring.elements.len().saturating_add(1)));
        ring
    }

    /// What a CPU ran, and its idle task.
    fn on_cpu(&self, number: u32) -> (Option<Addr>, Option<Addr>) {
        let known = self.cpus.iter().find(|c| c.number == number);
        let queue = self.linux.per_cpu("runqueues", number);
        let in_queue = |member: &str| self.pointer(queue?, "rq", member);
        let (current, idle) = (known.and_then(|c| c.current), known.and_then(|c| c.idle));
        (current.or_else(|| in_queue("curr")), idle.or_else(|| in_queue("idle")))
    }

    /// `thread 117 (sh)`.
    fn label(&self, task: &Task) -> String {
        match &task.name {
            Some(name) => format!("thread {} ({name})", task.id),
            None => format!("thread {}", task.id),
        }
    }

    /// The function or variable at an address: `lkf_mutex [demo]`, `rcu_state+0x40`.
    fn name(&self, at: Addr) -> Option<String> {
        let (name, inside, module) = self.symbol(at)?;
        let inside = if inside == 0 { String::new() } else { format!("+{inside:#x}") };
        let module = module.map_or_else(String::new, |m| format!(" [{m}]"));
        Some(format!("{name}{inside}{module}"))
    }

    /// Name, distance from its start, and the module that it is of.
    fn symbol(&self, at: Addr) -> Option<(String, u64, Option<&'s str>)> {
        for image in self.images {
            let Some(inside) = at.offset_from(image.base).filter(|o| *o < image.size) else { continue };
            let (name, start) = image.symbols.as_ref()?.covering(at.0.wrapping_sub(image.slide))?;
            let start = start.wrapping_add(image.slide).wrapping_sub(image.base.0);
            return Some((name, inside.checked_sub(start)?, Some(&image.path)));
        }
        if let Some(kallsyms) = self.linux.kallsyms {
            let symbol = kallsyms.at(at.0)?;
            return Some((symbol.name.to_owned(), at.0.checked_sub(symbol.address)?, None));
        }
        let svma = evidence::Svma(at.0.wrapping_sub(self.linux.slide));
        let symbols = self.linux.file.symbols(0)?;
        let symbol = symbols.at(svma).or_else(|| symbols.object_at(svma))?;
        Some((symbol.name.into_owned(), svma.0.checked_sub(symbol.start.0)?, None))
    }

    /// Says that there are more rows than are listed.
    fn cut(&self, what: &'static str, rows: &mut Vec<Attribute>) {
        if rows.len() > LIMIT_ROWS {
            rows.truncate(LIMIT_ROWS);
            self.linux.doubt(what, format!("more than {LIMIT_ROWS}; the rest is left out"));
        }
    }
}

/// An attribute under `kernel.`.
fn attribute(key: &str, task: Option<&Task>, value: String) -> Attribute {
    let thread = task.map(|t| evidence::ThreadId(t.id));
    Attribute { key: format!("kernel.{key}").into(), thread, value: value.into() }
}
