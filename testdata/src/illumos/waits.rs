//! What the threads of the kernel that is made here sleep on: turnstiles, a semaphore, a condition variable.

use super::heap::Heap;
use super::kernel::Image;
use super::layouts::{Kind, Members};

/// Chains of the table of turnstiles: half of them for locks of programs (os/turnstile.c).
const CHAINS: u64 = 256;

pub(super) const STRUCTURES: [(&str, Members); 6] = [
    ("sleepq", &[("sq_first", Kind::Pointer)]),
    (
        "turnstile",
        &[
            ("ts_next", Kind::Pointer),
            ("ts_free", Kind::Pointer),
            ("ts_sobj", Kind::Pointer),
            ("ts_waiters", Kind::Signed(4)),
            ("ts_epri", Kind::Signed(2)),
            ("ts_inheritor", Kind::Pointer),
            ("ts_prioinv", Kind::Pointer),
            ("ts_sleepq", Kind::Many("sleepq", 2)),
        ],
    ),
    ("turnstile_chain", &[("tc_first", Kind::Pointer), ("tc_lock", Kind::Int(1))]),
    ("_sobj_ops", &[("sobj_type", Kind::Int(4)), ("sobj_owner", Kind::Pointer)]),
    ("sema_impl", &[("s_slpq", Kind::Pointer), ("s_count", Kind::Int(4))]),
    ("_condvar_impl", &[("cv_waiters", Kind::Int(2))]),
];

/// The first two threads wait for each other: one for a mutex, one to write what is held for writing; a third would read
/// that. Another waits for a semaphore, and two for a condition variable that lies in a buffer.
pub(super) fn waits(k: &mut Image, threads: &[u64], heap: &Heap) {
    let table = k.layout().of("turnstile_chain").size;
    let turnstiles = k.variable("turnstile_table", table * CHAINS);
    let mutex = k.variable("system_taskq", 64);
    let lock = k.variable("pool_lock", 8);
    k.long(mutex, threads[1] | 1);
    k.long(lock, threads[0] | 5);
    // What is no lock keeps no owner; the operations of semaphores have no symbol here.
    for (ops, kind) in [("mutex_sobj_ops", 1), ("rw_sobj_ops", 2), ("cv_sobj_ops", 3)] {
        let size = k.layout().of("_sobj_ops").size;
        let at = k.variable(ops, size);
        k.set(at, "_sobj_ops", &[("sobj_type", kind)]);
    }
    for (object, ops, queues) in [
        (mutex, "mutex_sobj_ops", [vec![threads[0]], vec![]]),
        (lock, "rw_sobj_ops", [vec![threads[1]], vec![threads[5]]]),
    ] {
        let chain = turnstiles + (CHAINS / 2 + ((object >> 2).wrapping_add(object >> 9) & (CHAINS / 2 - 1))) * table;
        let first = k.read(chain + k.layout().offset("turnstile_chain", "tc_first"));
        let count = queues.iter().map(Vec::len).sum::<usize>() as u64;
        let turnstile = k.make("turnstile", &[("ts_next", first), ("ts_sobj", object), ("ts_waiters", count)]);
        k.set(chain, "turnstile_chain", &[("tc_first", turnstile)]);
        let ops = k.at(ops);
        for (n, queue) in queues.iter().enumerate() {
            let at = k.layout().offset("turnstile", "ts_sleepq") + n as u64 * k.layout().of("sleepq").size;
            k.set(turnstile + at, "sleepq", &[("sq_first", queue.first().copied().unwrap_or(0))]);
            for (place, thread) in queue.iter().enumerate() {
                let next = queue.get(place + 1).copied().unwrap_or(0);
                let values = [("t_wchan", object), ("t_sobj_ops", ops), ("t_ts", turnstile), ("t_link", next)];
                k.set(*thread, "_kthread", &values);
            }
        }
    }
    let size = k.layout().of("sema_impl").size;
    let semaphore = k.variable("disk_sema", size);
    k.set(semaphore, "sema_impl", &[("s_slpq", threads[6])]);
    let ops = k.make("_sobj_ops", &[("sobj_type", 4)]);
    k.set(threads[6], "_kthread", &[("t_wchan", semaphore), ("t_sobj_ops", ops)]);
    let condition = heap.whole + 0x28;
    k.write(condition + k.layout().offset("_condvar_impl", "cv_waiters"), &2_u16.to_le_bytes());
    let ops = k.at("cv_sobj_ops");
    for thread in &threads[7..9] {
        k.set(*thread, "_kthread", &[("t_wchan", condition), ("t_sobj_ops", ops)]);
    }
}
