//! Who waits for whom: mutexes and reader-writer locks of sleeping threads, and circles of them.
//!
//! A thread that waits for a lock names it in `t_wchan` and says by `t_sobj_ops` what it is. Owners stand in the lock's
//! own word: sys/mutex_impl.h (`MUTEX_THREAD`), sys/rwlock_impl.h (`RW_WRITE_LOCKED`, `RW_OWNER`).

use super::Illumos;
use evidence::{Addr, Attribute};
use snapshot_format::schema::Task;
use std::collections::{BTreeMap, HashMap};

/// `TS_SLEEP`.
const SLEEPING: &str = "sleeping";
/// The bits of a lock's word that are no pointer.
const BITS: u64 = 7;
/// `RW_WRITE_LOCKED`, and what one reader adds.
const WRITE_LOCKED: u64 = 4;
const READER: u64 = 8;
/// Locks that are listed.
const LIMIT_LOCKS: usize = 1024;

/// A lock that someone waits for.
struct Lock {
    kind: &'static str,
    owner: Option<u64>,
    readers: u64,
    waiters: Vec<u64>,
}

/// One attribute per lock that is waited for, and one per circle. Ids are those of threads.
pub(super) fn read(illumos: &Illumos<'_>, tasks: &[Task]) -> Vec<Attribute> {
    let ids: HashMap<u64, u64> = tasks.iter().filter_map(|t| Some((t.address?, t.id))).collect();
    let mut locks: BTreeMap<Addr, Lock> = BTreeMap::new();
    for task in tasks.iter().filter(|t| t.state.as_deref() == Some(SLEEPING)) {
        let Some(thread) = task.address.map(Addr) else { continue };
        let Some(at) = illumos.pointer(thread, "_kthread", "t_wchan") else { continue };
        let ops = illumos.pointer(thread, "_kthread", "t_sobj_ops").and_then(|ops| illumos.symbols.name(ops));
        let kind = match ops.as_deref() {
            Some("mutex_sobj_ops") => "mutex",
            Some("rw_sobj_ops") => "rwlock",
            _ => continue,
        };
        if !locks.contains_key(&at) && locks.len() < LIMIT_LOCKS {
            let Ok(word) = illumos.fields.pointer_at(at) else { continue };
            let written = kind == "mutex" || word.0 & WRITE_LOCKED != 0;
            let owner = ids.get(&(word.0 & !BITS)).copied().filter(|_| written);
            let readers = if written { 0 } else { word.0.checked_div(READER).unwrap_or(0) };
            locks.insert(at, Lock { kind, owner, readers, waiters: Vec::new() });
        }
        if let Some(lock) = locks.get_mut(&at) {
            lock.waiters.push(task.id);
        }
    }
    let attribute = |key: &str, value: String| Attribute { key: key.into(), thread: None, value: value.into() };
    let mut list: Vec<Attribute> =
        locks.iter().map(|(at, l)| attribute("kernel.lock", describe(illumos, *at, l))).collect();
    let waits: BTreeMap<u64, u64> =
        locks.values().flat_map(|l| l.waiters.iter().filter_map(|w| Some((*w, l.owner?)))).collect();
    list.extend(super::super::circles::attributes(&waits));
    list
}

fn describe(illumos: &Illumos<'_>, at: Addr, lock: &Lock) -> String {
    let name = illumos.symbols.name(at).map_or_else(String::new, |n| format!(" ({n})"));
    let held = match (lock.owner, lock.readers) {
        (Some(owner), _) => format!("held by thread {owner}"),
        (None, readers @ 1..) => format!("held by {readers} readers"),
        (None, 0) => "held by no known thread".to_owned(),
    };
    let waiters: Vec<String> = lock.waiters.iter().map(u64::to_string).collect();
    format!("{} {at}{name}: {held}; waited for by {}", lock.kind, waiters.join(", "))
}
