//! Who waits for which sleeping lock, and who holds it.
//!
//! A task that sleeps for a mutex, a reader-writer semaphore or a semaphore has a waiter on its stack that names the
//! task and is linked into the lock's list. So the stacks of tasks that do not run are searched for waiters, whose list
//! leads to the lock; what kind of lock it is, the functions on the stack below the waiter say. Source of the words:
//! `kernel/locking/{mutex,rwsem,semaphore}.c` and their headers, Linux 4.19 to 6.x.

use super::suspects::Suspects;
use super::{State, attribute, spinlocks};
use crate::outline::kernel::circles;
use debuginfo::layout::Shape;
use evidence::bytes::u64_at;
use evidence::{Addr, Attribute, Context, Thread, ToU64, ToUsize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Most bytes of a stack that are searched: stacks have 16 KiB, 32 with KASAN.
const LIMIT_STACK: u64 = 128 << 10;
/// Locks that are listed.
const LIMIT_LOCKS: usize = 1024;
/// The bits of an owner's word that are no pointer.
const BITS: u64 = 7;
/// `RWSEM_WRITER_LOCKED`, and where the number of readers begins (since 5.3).
const WRITER_LOCKED: u64 = 1;
const READERS: u32 = 8;
/// `RWSEM_FLAG_READFAIL` (since 5.3).
const READ_FAIL: u64 = 1 << 63;
/// `RWSEM_READER_OWNED`.
const READER_OWNED: u64 = 1;

/// A kind of sleeping lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mutex,
    Rwsem,
    Semaphore,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Mutex, Self::Rwsem, Self::Semaphore];

    const fn word(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Rwsem => "rwsem",
            Self::Semaphore => "semaphore",
        }
    }

    /// The lock's structure, and the waiter's.
    const fn structures(self) -> (&'static str, &'static str) {
        match self {
            Self::Mutex => ("mutex", "mutex_waiter"),
            Self::Rwsem => ("rw_semaphore", "rwsem_waiter"),
            Self::Semaphore => ("semaphore", "semaphore_waiter"),
        }
    }

    /// The kind that a function waits for.
    fn of(function: &str) -> Option<Self> {
        let begins = |words: &[&str]| words.iter().any(|w| function.starts_with(w));
        if begins(&["__mutex_lock", "mutex_lock", "__ww_mutex_lock", "ww_mutex_lock"]) {
            return Some(Self::Mutex);
        }
        if begins(&["rwsem_down_", "call_rwsem_down_", "down_read", "down_write", "__down_read", "__down_write"]) {
            return Some(Self::Rwsem);
        }
        let semaphore = matches!(function.split('.').next(), Some("down" | "__down"));
        let more = ["__down_common", "___down_common", "__down_interruptible", "__down_killable", "__down_timeout"];
        (semaphore || begins(&more)).then_some(Self::Semaphore)
    }
}

/// A lock that someone waits for.
pub(super) struct Lock {
    pub kind: &'static str,
    pub owner: Option<u64>,
    /// How many hold it as readers; `Some(0)` where the number is not known.
    pub readers: Option<u64>,
    pub waiters: Vec<u64>,
}

struct Search<'l, 's, 'k> {
    state: &'l State<'s, 'k>,
    /// The stacks of all tasks by their ends.
    stacks: BTreeMap<Addr, Range<Addr>>,
    locks: BTreeMap<Addr, Lock>,
    seen: BTreeSet<Addr>,
}

impl Search<'_, '_, '_> {
    fn on_stack(&self, at: Addr) -> bool {
        self.stacks.range(at.saturating_add(1)..).next().is_some_and(|(_, range)| range.contains(&at))
    }

    /// Looks for the waiter of a task that does not run.
    fn thread(&mut self, thread: &Thread) {
        let Some(task) = self.state.by_id.get(&thread.id.0) else { return };
        let (Some(sp), Some(stack)) = (thread.registers.sp(), &task.stack) else { return };
        let Some(length) = stack.end.offset_from(sp).filter(|n| stack.contains(&sp) && *n <= LIMIT_STACK) else {
            return;
        };
        let Some(bytes) = self.state.linux.bytes(sp, length.to_usize()) else { return };
        let word = |at: usize| u64_at(&bytes, at, self.state.linux.endian());
        let mut kind = thread.registers.pc().and_then(|pc| self.kind_at(pc));
        for at in (0..bytes.len()).step_by(8) {
            let Some(value) = word(at) else { break };
            if kind.is_none() {
                kind = self.kind_at(Addr(value));
            }
            let Some(kind) = kind.filter(|_| value == task.address.0) else { continue };
            let place = sp.wrapping_add(at.to_u64());
            if self.waiter(kind, place, task.id) {
                return;
            }
        }
    }

    fn kind_at(&self, at: Addr) -> Option<Kind> {
        // A return address is behind its call, which may be the last of its function.
        if at.0 >> 63 == 0 {
            return None;
        }
        let (name, ..) = self.state.symbol(at.wrapping_sub(1))?;
        Kind::of(&name)
    }

    /// Takes the word at `place`, which names its own task, as the one of a waiter; says whether it was one.
    fn waiter(&mut self, kind: Kind, place: Addr, task: u64) -> bool {
        let (of, waiter) = kind.structures();
        let places = [(of, "wait_list"), (waiter, "task"), (waiter, "list")].map(|(s, m)| self.state.place(s, m));
        let [Some(wait_list), Some(to_task), Some(to_list)] = places else { return false };
        let link = place.wrapping_sub(to_task).wrapping_add(to_list);
        if self.seen.contains(&link) {
            return true;
        }
        let ring = self.state.ring(link, 0);
        if ring.broken.is_some() {
            return false;
        }
        // All but the lock's own head lie on the stacks of those who wait.
        let mut heads = ring.elements.iter().filter(|at| !self.on_stack(**at));
        let (Some(head), None) = (heads.next(), heads.next()) else { return false };
        let lock = head.wrapping_sub(wait_list);
        let Some((owner, readers)) = self.holder(kind, lock) else { return false };
        let in_order = self.state.ring(*head, 0).elements;
        let waits = |link: &Addr| {
            let at = link.wrapping_sub(to_list).wrapping_add(to_task);
            Some(self.state.task(Addr(self.state.linux.word(at)?))?.id)
        };
        let waiters: Vec<u64> = in_order.iter().filter_map(waits).collect();
        if waiters.len() != in_order.len() || !waiters.contains(&task) {
            return false;
        }
        self.seen.extend(in_order);
        if self.locks.len() < LIMIT_LOCKS {
            self.locks.insert(lock, Lock { kind: kind.word(), owner, readers, waiters });
        } else {
            self.state.lacks("locks", format!("more than {LIMIT_LOCKS} locks; the rest is left out"));
        }
        true
    }

    /// Who holds the lock: one task, or readers. `None` when its words cannot be those of such a lock.
    fn holder(&self, kind: Kind, lock: Addr) -> Option<(Option<u64>, Option<u64>)> {
        let state = self.state;
        let (of, _) = kind.structures();
        let task = |word: u64| match word & !BITS {
            0 => Some(None),
            at => Some(Some(state.task(Addr(at))?.id)),
        };
        if kind == Kind::Semaphore {
            // Waiters are there only while the count is 0; nothing says who took it.
            return (state.first(lock, of, &["count"])? == 0).then_some((None, None));
        }
        let member = state.linux.fields.first_place(of, &["owner.counter", "owner"]).ok()?;
        let owner = state.linux.fields.integer_at(lock, &member).ok()?;
        if kind == Kind::Mutex {
            return Some((task(owner)?, None));
        }
        let count = state.first(lock, of, &["count.counter", "count"])?;
        if member.shape == Shape::Pointer {
            // Before 5.3 only the owner's word tells readers from a writer, and their number is mixed with the waiters'.
            return if owner & READER_OWNED != 0 { Some((None, Some(0))) } else { Some((task(owner)?, None)) };
        }
        if count & WRITER_LOCKED != 0 {
            return Some((task(owner)?, None));
        }
        let readers = (count & !READ_FAIL) >> READERS;
        Some((None, (readers > 0).then_some(readers)))
    }
}

/// One attribute per lock that is waited for, and one per circle.
pub(super) fn read(state: &State<'_, '_>, reports: &[Suspects]) -> Vec<Attribute> {
    let stacks = state.tasks.iter().filter_map(|t| t.stack.clone()).map(|s| (s.end, s)).collect();
    let mut search = Search { state, stacks, locks: BTreeMap::new(), seen: BTreeSet::new() };
    if Kind::ALL.iter().any(|kind| state.place(kind.structures().1, "task").is_some()) {
        for thread in state.threads.iter().filter(|t| t.context == Context::Task) {
            search.thread(thread);
        }
    }
    let mut locks = search.locks;
    locks.extend(spinlocks::read(state, reports));
    let mut list: Vec<Attribute> =
        locks.iter().map(|(at, lock)| attribute("lock", None, describe(state, *at, lock))).collect();
    let waits = locks.values().flat_map(|l| l.waiters.iter().filter_map(|w| Some((*w, l.owner?))));
    list.extend(circles::attributes(&waits.collect()));
    list
}

fn describe(state: &State<'_, '_>, at: Addr, lock: &Lock) -> String {
    let name = state.name(at).map_or_else(String::new, |n| format!(" ({n})"));
    let held = match (lock.owner, lock.readers) {
        (Some(owner), _) => format!("held by thread {owner}"),
        (None, Some(0)) => "held by readers".to_owned(),
        (None, Some(readers)) => format!("held by {readers} readers"),
        (None, None) => "held by no known thread".to_owned(),
    };
    let waiters: Vec<String> = lock.waiters.iter().map(u64::to_string).collect();
    format!("{} {at}{name}: {held}; waited for by {}", lock.kind, waiters.join(", "))
}
