//! Work queues: what is pending, and what workers are at.
//!
//! Source: `kernel/workqueue.c`, `kernel/workqueue_internal.h`, `include/linux/workqueue.h` of Linux 4.19 to 6.x. The
//! list of all work queues leads to their pools, whose lists hold the pending work; work that a queue's limit holds back
//! is in the queue's own list.

use super::{State, attribute};
use evidence::{Addr, Attribute};
use std::collections::BTreeMap;

/// Longest name of a work queue: `WQ_NAME_LEN` is 24, 32 since 6.10.
const LIMIT_NAME: usize = 64;
/// A work item's word: whether it names the queue it is pending on (`WORK_STRUCT_PWQ`), and the bits that are none of
/// the pointer, without and with debug objects.
const HAS_QUEUE: u64 = 1 << 2;
const FLAGS: [u64; 2] = [0xff, 0x1ff];

struct Queues {
    /// The name of the work queue that a `pool_workqueue` is of.
    names: BTreeMap<Addr, String>,
    /// The `pool_workqueue`s of each pool.
    pools: BTreeMap<Addr, Vec<Addr>>,
}

fn queues(state: &State<'_, '_>) -> Option<Queues> {
    let linux = state.linux;
    let (list, own) = (state.place("workqueue_struct", "list")?, state.place("workqueue_struct", "pwqs")?);
    let node = state.place("pool_workqueue", "pwqs_node")?;
    let mut found = Queues { names: BTreeMap::new(), pools: BTreeMap::new() };
    let all = state.ring(linux.symbol("workqueues")?, list);
    let mut broken = all.broken;
    for queue in all.elements {
        let name = linux.fields.place("workqueue_struct", "name").ok();
        let name = name.and_then(|m| linux.text(queue.wrapping_add(m.offset), LIMIT_NAME)).unwrap_or_default();
        let pools = state.ring(queue.wrapping_add(own), node);
        broken = broken.or(pools.broken);
        for pool_queue in pools.elements {
            // A head that was overwritten may lead into another queue's list: that one's name stays.
            found.names.entry(pool_queue).or_insert_with(|| name.clone());
            if let Some(pool) = state.pointer(pool_queue, "pool_workqueue", "pool") {
                found.pools.entry(pool).or_default().push(pool_queue);
            }
        }
    }
    if let Some(why) = broken {
        state.lacks("work", format!("a list of work queues is broken: {why}"));
    }
    Some(found)
}

impl Queues {
    /// ` of events`: the queue that a pending item names.
    fn of(&self, state: &State<'_, '_>, work: Addr) -> String {
        let data = state.first(work, "work_struct", &["data.counter", "data"]).filter(|d| d & HAS_QUEUE != 0);
        let named = |data: u64| FLAGS.iter().find_map(|flags| self.names.get(&Addr(data & !flags)));
        data.and_then(named).map_or_else(String::new, |name| format!(" of {name}"))
    }
}

/// One attribute per pending item and per worker that is at one.
pub(super) fn read(state: &State<'_, '_>) -> Vec<Attribute> {
    let mut found = Vec::new();
    let (Some(queues), Some(entry)) = (queues(state), state.place("work_struct", "entry")) else { return found };
    let function = |work: Addr| {
        let at = state.pointer(work, "work_struct", "func");
        at.map_or_else(
            || "a function that is not known".to_owned(),
            |at| state.name(at).unwrap_or_else(|| at.to_string()),
        )
    };
    let mut pending = |head: Addr, place: &str, word: &str| {
        let ring = state.ring(head, entry);
        if let Some(why) = ring.broken {
            state.lacks("work", format!("the list of work at {head} is broken: {why}"));
        }
        for work in ring.elements.into_iter().take(super::LIMIT_ROWS.saturating_add(1)) {
            let text = format!("{word} {place}: {}{}, work {work}", function(work), queues.of(state, work));
            found.push(attribute("work", None, text));
        }
    };
    let held = state.first_place("pool_workqueue", &["inactive_works", "delayed_works"]);
    for (pool, own) in &queues.pools {
        let place = place(state, *pool);
        if let Some(list) = state.place("worker_pool", "worklist") {
            pending(pool.wrapping_add(list), &place, "pending");
        }
        for queue in own {
            if let Some(held) = held {
                pending(queue.wrapping_add(held), &place, "held back");
            }
        }
    }
    let mut running = Vec::new();
    for pool in queues.pools.keys() {
        let lists = (state.place("worker_pool", "workers"), state.place("worker", "node"));
        let (Some(list), Some(node)) = lists else { continue };
        let ring = state.ring(pool.wrapping_add(list), node);
        if let Some(why) = ring.broken {
            state.lacks("work", format!("the list of workers of the pool at {pool} is broken: {why}"));
        }
        for worker in ring.elements {
            let Some(work) = state.pointer(worker, "worker", "current_work") else { continue };
            let at = state.pointer(worker, "worker", "current_func");
            let name = at.map_or_else(|| function(work), |at| state.name(at).unwrap_or_else(|| at.to_string()));
            let queue = state.pointer(worker, "worker", "current_pwq").and_then(|q| queues.names.get(&q));
            let queue = queue.map_or_else(String::new, |name| format!(" of {name}"));
            let task = state.pointer(worker, "worker", "task").and_then(|t| state.task(t));
            let who = task.map_or_else(|| "a worker".to_owned(), |t| state.label(t));
            let text = format!("running {}: {name}{queue}, work {work}, by {who}", place(state, *pool));
            running.push(attribute("work", task, text));
        }
    }
    running.append(&mut found);
    state.cut("work", &mut running);
    running
}

/// `in pool 3 (CPU 1)`.
fn place(state: &State<'_, '_>, pool: Addr) -> String {
    let number = state.value(pool, "worker_pool", "id").map_or_else(|| pool.to_string(), |n| n.to_string());
    match state.value(pool, "worker_pool", "cpu").map(u64::cast_signed) {
        Some(cpu) if cpu >= 0 => format!("in pool {number} (CPU {cpu})"),
        _ => format!("in pool {number} (any CPU)"),
    }
}
