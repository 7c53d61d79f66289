//! Turnstiles: the queues of threads that wait for a mutex or a reader-writer lock.
//!
//! Source: sys/turnstile.h, sys/sleepq.h and os/turnstile.c of illumos-gate. A lock that somebody waits for has one
//! turnstile, in the chain of `turnstile_table` that its address chooses; in it are a queue of those that want the lock
//! for themselves, and one of those that would share it.

use super::Illumos;
use evidence::Addr;
use std::collections::HashSet;

/// Chains of the table: 256, if the symbol does not say how large it is.
const CHAINS: u64 = 256;
const LIMIT_CHAINS: u64 = 1 << 16;
/// Turnstiles and waiters in all: each thread brings one turnstile.
const LIMIT_LINKS: usize = 1 << 20;

/// A lock that is waited for, and by whom.
pub(super) struct Turnstile {
    /// The lock.
    pub object: Addr,
    /// Threads that want it for themselves, and threads that would share it, each in the order of their turn.
    pub writers: Vec<Addr>,
    pub readers: Vec<Addr>,
}

/// All turnstiles in use; `None` where nothing describes them.
pub(super) fn read(illumos: &Illumos<'_>) -> Option<Vec<Turnstile>> {
    let layouts = illumos.fields.layouts;
    let (table, size) = illumos.symbols.extent("turnstile_table")?;
    let entry = layouts.size_of("turnstile_chain").filter(|n| *n >= 8)?;
    let first = layouts.member("turnstile_chain", "tc_first")?.offset;
    layouts.member("turnstile", "ts_sobj")?;
    let chains = if size == 0 { CHAINS } else { size.checked_div(entry)? };
    let (mut found, mut left) = (Vec::new(), LIMIT_LINKS);
    let mut seen = HashSet::new();
    for n in 0..chains.min(LIMIT_CHAINS) {
        let head = Addr(table).wrapping_add(n.wrapping_mul(entry)).wrapping_add(first);
        let mut at = illumos.fields.pointer_at(head).ok();
        while let Some(turnstile) = at.filter(|a| a.0 != 0) {
            if left == 0 || !seen.insert(turnstile) {
                illumos.doubt("kernel-locks", format!("chain {n} of the turnstiles leads back to {turnstile}"));
                break;
            }
            found.extend(one(illumos, turnstile, &mut left));
            at = illumos.number(turnstile, "turnstile", "ts_next").map(Addr);
        }
        if at.is_none() {
            illumos.doubt("kernel-locks", format!("chain {n} of the turnstiles cannot be read to its end"));
        }
    }
    Some(found)
}

fn one(illumos: &Illumos<'_>, at: Addr, left: &mut usize) -> Option<Turnstile> {
    let object = illumos.pointer(at, "turnstile", "ts_sobj")?;
    let mut queue = |path: &str| {
        let mut list: Vec<Addr> = Vec::new();
        let mut next = illumos.number(at, "turnstile", path);
        while let Some(thread) = next.filter(|t| *t != 0).map(Addr) {
            // A thread waits for one lock at a time, and says which.
            let own = illumos.pointer(thread, "_kthread", "t_wchan") == Some(object);
            if !own || *left == 0 || list.contains(&thread) {
                let why =
                    format!("the thread at {thread} is in the queue of the lock at {object}, and does not wait for it");
                illumos.doubt("kernel-locks", why);
                break;
            }
            *left = left.saturating_sub(1);
            list.push(thread);
            next = illumos.number(thread, "_kthread", "t_link");
        }
        list
    };
    // TS_WRITER_Q, TS_READER_Q.
    let (writers, readers) = (queue("ts_sleepq[0].sq_first"), queue("ts_sleepq[1].sq_first"));
    let counted = illumos.number(at, "turnstile", "ts_waiters");
    let met = writers.len().saturating_add(readers.len());
    if counted != u64::try_from(met).ok() {
        let counted = counted.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        let why = format!("the turnstile of the lock at {object} counts {counted} waiters, and queues {met}");
        illumos.doubt("kernel-locks", why);
    }
    Some(Turnstile { object, writers, readers })
}
