//! What threads sleep on: mutexes and reader-writer locks with their owners, circles of them, semaphores, condition
//! variables.
//!
//! A sleeping thread names what it sleeps on in `t_wchan` and says by `t_sobj_ops` what that is (sys/sobject.h). Mutexes
//! and reader-writer locks keep their waiters in turnstiles; owners stand in the lock's own word: sys/mutex_impl.h
//! (`MUTEX_THREAD`), sys/rwlock_impl.h (`RW_WRITE_LOCKED`, `RW_OWNER`). Semaphores (sys/sema_impl.h) and condition
//! variables (sys/condvar_impl.h) have no owners. Locks of programs are left out: their addresses are the programs'.

use super::kmem::Kmem;
use super::{Illumos, turnstiles};
use evidence::{Addr, Attribute};
use snapshot_format::schema::Task;
use std::collections::{BTreeMap, HashMap, HashSet};

/// `TS_SLEEP`.
const SLEEPING: &str = "sleeping";
/// The bits of a lock's word that are no pointer.
const BITS: u64 = 7;
/// `RW_WRITE_LOCKED`, and what one reader adds.
const WRITE_LOCKED: u64 = 4;
const READER: u64 = 8;
/// `CV_MAX_WAITERS` (os/condvar.c): a condition variable counts no further.
const COUNTED: u64 = 16;
/// Objects that are listed.
const LIMIT_OBJECTS: usize = 2048;

/// What threads can sleep on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mutex,
    Rwlock,
    Semaphore,
    Condition,
}

impl Kind {
    /// By the name of its operations, or by `sobj_type` (sys/sobject.h) where they have no name.
    fn of(illumos: &Illumos<'_>, thread: Addr) -> Option<Self> {
        let ops = illumos.pointer(thread, "_kthread", "t_sobj_ops")?;
        match illumos.symbols.name(ops).as_deref() {
            Some("mutex_sobj_ops") => return Some(Self::Mutex),
            Some("rw_sobj_ops") => return Some(Self::Rwlock),
            Some("sema_sobj_ops") => return Some(Self::Semaphore),
            Some("cv_sobj_ops") => return Some(Self::Condition),
            Some(_) => return None,
            None => {}
        }
        match illumos.number(ops, "_sobj_ops", "sobj_type")? {
            1 => Some(Self::Mutex),
            2 => Some(Self::Rwlock),
            3 => Some(Self::Condition),
            4 => Some(Self::Semaphore),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Rwlock => "rwlock",
            Self::Semaphore => "semaphore",
            Self::Condition => "condition variable",
        }
    }

    /// Whether its waiters are in a turnstile.
    const fn turns(self) -> bool {
        matches!(self, Self::Mutex | Self::Rwlock)
    }
}

/// Something that is slept on.
struct Object {
    kind: Kind,
    owner: Option<u64>,
    readers: u64,
    /// Ids of threads, and how many of the first ones want it for themselves.
    waiters: Vec<u64>,
    writers: Option<usize>,
}

/// All that is slept on.
pub(super) struct Locks {
    objects: BTreeMap<Addr, Object>,
}

/// Reads who sleeps on what.
pub(super) fn read(illumos: &Illumos<'_>, tasks: &[Task]) -> Locks {
    let ids: HashMap<Addr, u64> = tasks.iter().filter_map(|t| Some((Addr(t.address?), t.id))).collect();
    let mut objects: BTreeMap<Addr, Object> = BTreeMap::new();
    let mut queued: HashSet<u64> = HashSet::new();
    let turnstiles = turnstiles::read(illumos);
    for turnstile in turnstiles.iter().flatten().take(LIMIT_OBJECTS) {
        let threads = || turnstile.writers.iter().chain(&turnstile.readers);
        let Some(kind) = threads().next().and_then(|t| Kind::of(illumos, *t)).filter(|k| k.turns()) else { continue };
        let Some(mut object) = held(illumos, turnstile.object, kind, &ids) else { continue };
        object.waiters = threads().filter_map(|t| ids.get(t)).copied().collect();
        object.writers = Some(turnstile.writers.iter().filter(|t| ids.contains_key(t)).count());
        queued.extend(&object.waiters);
        objects.insert(turnstile.object, object);
    }
    let mut astray = 0_usize;
    for task in tasks.iter().filter(|t| t.state.as_deref() == Some(SLEEPING) && !queued.contains(&t.id)) {
        let Some(thread) = task.address.map(Addr) else { continue };
        let Some(at) = illumos.pointer(thread, "_kthread", "t_wchan") else { continue };
        let Some(kind) = Kind::of(illumos, thread) else { continue };
        if kind.turns() && turnstiles.is_some() {
            astray = astray.saturating_add(1);
        }
        if !objects.contains_key(&at) && objects.len() < LIMIT_OBJECTS {
            objects.extend(held(illumos, at, kind, &ids).map(|object| (at, object)));
        }
        if let Some(object) = objects.get_mut(&at).filter(|o| o.kind == kind) {
            object.waiters.push(task.id);
            // Whether it wants the lock for itself, only a turnstile says.
            object.writers = None;
        }
    }
    if astray > 0 {
        illumos
            .doubt("kernel-locks", format!("{astray} threads say that they wait for a lock, and are in no turnstile"));
    }
    if objects.len() >= LIMIT_OBJECTS {
        illumos.doubt("kernel-locks", format!("more than {LIMIT_OBJECTS} locks: the rest is left out"));
    }
    Locks { objects }
}

/// Who holds an object; `None` where a lock's word cannot be read.
fn held(illumos: &Illumos<'_>, at: Addr, kind: Kind, ids: &HashMap<Addr, u64>) -> Option<Object> {
    let mut object = Object { kind, owner: None, readers: 0, waiters: Vec::new(), writers: None };
    if kind.turns() {
        let word = illumos.fields.pointer_at(at).ok()?.0;
        let written = kind == Kind::Mutex || word & WRITE_LOCKED != 0;
        object.owner = ids.get(&Addr(word & !BITS)).copied().filter(|_| written);
        object.readers = if written { 0 } else { word.checked_div(READER).unwrap_or(0) };
    }
    Some(object)
}

impl Locks {
    /// The addresses that no symbol names.
    pub(super) fn unnamed(&self, illumos: &Illumos<'_>) -> Vec<Addr> {
        self.objects.keys().filter(|at| illumos.symbols.name(**at).is_none()).copied().collect()
    }

    /// One attribute per object that is slept on, and one per circle. Ids are those of threads.
    pub(super) fn attributes(&self, illumos: &Illumos<'_>, kmem: Option<&Kmem<'_, '_>>) -> Vec<Attribute> {
        let attribute = |key: &str, value: String| Attribute { key: key.into(), thread: None, value: value.into() };
        let key = |object: &Object| if object.kind == Kind::Condition { "kernel.wait" } else { "kernel.lock" };
        let rows = self.objects.iter().map(|(at, o)| attribute(key(o), describe(illumos, kmem, *at, o)));
        let mut list: Vec<Attribute> = rows.collect();
        let waits = self.objects.values().flat_map(|o| o.waiters.iter().filter_map(|w| Some((*w, o.owner?))));
        list.extend(super::super::circles::attributes(&waits.collect()));
        list
    }
}

fn describe(illumos: &Illumos<'_>, kmem: Option<&Kmem<'_, '_>>, at: Addr, object: &Object) -> String {
    let name = illumos.symbols.name(at).or_else(|| kmem?.place(at));
    let name = name.map_or_else(String::new, |n| format!(" ({n})"));
    let held = match (object.owner, object.readers) {
        _ if object.kind == Kind::Condition => String::new(),
        (Some(owner), _) => format!("held by thread {owner}; "),
        (None, readers @ 1..) => format!("held by {readers} readers; "),
        (None, 0) => "held by no known thread; ".to_owned(),
    };
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("{} {at}{name}: {held}waited for by {}", object.kind.word(), list(&object.waiters));
    let writers = object.writers.and_then(|n| object.waiters.get(..n)).filter(|_| object.kind == Kind::Rwlock);
    if let Some(writers) = writers.filter(|w| !w.is_empty()) {
        text.push_str(&format!("; to write: {}", list(writers)));
    }
    let counted = match object.kind {
        Kind::Condition => illumos.number(at, "_condvar_impl", "cv_waiters"),
        _ => None,
    };
    let met = u64::try_from(object.waiters.len()).ok();
    if let Some(counted) = counted.filter(|n| *n < COUNTED && Some(*n) != met) {
        text.push_str(&format!("; it counts {counted} waiters"));
    }
    text
}
