//! CPUs that spin for a lock.
//!
//! A queued spinlock (`include/asm-generic/qspinlock_types.h`) is one word: whether it is taken, whether one CPU is
//! next, and which CPU is the last of those that queue. Who took it is written down in debugging kernels only
//! (`CONFIG_DEBUG_SPINLOCK`). Which lock a CPU spins for, its registers say: one of them points to such a word.

use super::State;
use super::locks::Lock;
use super::suspects::Suspects;
use evidence::{Addr, Register};
use std::collections::{BTreeMap, HashSet};

/// Functions in which a CPU waits for a queued spinlock.
const WAITING: [&str; 4] = [
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
    "pv_queued_spin_lock_slowpath",
];
/// What may hold the lock's address, with DWARF's numbers: the first argument, and what calls preserve.
const HOLDS: [(&str, Register); 7] = [
    ("rdi", Register(5)),
    ("rbx", Register(3)),
    ("rbp", Register(6)),
    ("r12", Register(12)),
    ("r13", Register(13)),
    ("r14", Register(14)),
    ("r15", Register(15)),
];
/// `_Q_TAIL_CPU_OFFSET` of kernels for less than 16,384 CPUs.
const TAIL_CPU: u32 = 18;
/// `_Q_LOCKED_MASK`, `_Q_PENDING_MASK`.
const LOCKED: u32 = 0xff;
const PENDING: u32 = 0xff00;
/// `_Q_PENDING_VAL`.
const PENDING_ONE: u32 = 0x100;

/// The locks that CPUs spin for. A CPU that the watchdog interrupted is at something else by the time of the dump, but
/// the log has its registers.
pub(super) fn read(state: &State<'_, '_>, reports: &[Suspects]) -> BTreeMap<Addr, Lock> {
    let waits = |name: &str| WAITING.contains(&name);
    // The last that a CPU's watchdog said of it.
    let logged = |cpu: &super::Cpu| {
        let last = reports.iter().rev().find(|r| r.cpu == Some(cpu.number))?;
        (!last.oops && last.function.as_deref().is_some_and(waits)).then_some(last)
    };
    let spins = |cpu: &&super::Cpu| {
        let pc = cpu.registers.as_ref().and_then(evidence::Registers::pc);
        let name = pc.and_then(|pc| state.symbol(pc)).map(|(name, ..)| name);
        logged(cpu).is_some() || name.is_some_and(|n| waits(&n))
    };
    let spinning: Vec<_> = state.cpus.iter().filter(spins).collect();
    let numbers: HashSet<u32> = spinning.iter().map(|c| c.number).collect();
    // A word that a lock with these waiters may have.
    let fits = |word: u32, cpu: u32| {
        let (locked, pending) = (word & LOCKED, word & PENDING);
        let tail = word >> TAIL_CPU;
        // The tail counts CPUs from 1.
        let last = tail.checked_sub(1);
        let queued = last.is_some_and(|last| numbers.contains(&last));
        let own = last == Some(cpu) || pending != 0 || queued;
        locked <= 3 && (pending == 0 || pending == PENDING_ONE) && own && (last.is_none() || queued)
    };
    let mut locks: BTreeMap<Addr, Lock> = BTreeMap::new();
    for cpu in &spinning {
        let printed = logged(cpu);
        let value = |(name, number): &(&str, Register)| match printed {
            Some(report) => report.registers.iter().find(|(n, _)| n == name).map(|(_, v)| *v),
            None => cpu.registers.as_ref()?.get(*number),
        };
        let values: Vec<Option<u64>> = HOLDS.iter().map(value).collect();
        let likely = |v: &u64| v >> 63 == 1 && v & 3 == 0;
        let word = |at: u64| state.linux.half(Addr(at));
        let mut candidates = values.iter().flatten().copied().filter(likely);
        let queued = candidates.find(|at| word(*at).is_some_and(|word| fits(word, cpu.number)));
        // In guests CPUs do not queue (`virt_spin_lock`), and the word is but taken: the argument and its copy say it.
        let lock = queued.or_else(|| {
            let (argument, kept) = values.split_first()?;
            let at = argument.filter(likely)?;
            (kept.contains(argument) && word(at) == Some(1)).then_some(at)
        });
        let (Some(at), Some(thread)) = (lock.map(Addr), cpu.thread) else { continue };
        let owner = || {
            let raw = at.wrapping_sub(state.place("raw_spinlock", "raw_lock").unwrap_or(0));
            Some(state.task(state.pointer(raw, "raw_spinlock", "owner")?)?.id)
        };
        let new = || Lock { kind: "spinlock", owner: owner(), readers: None, waiters: Vec::new() };
        locks.entry(at).or_insert_with(new).waiters.push(thread.0);
    }
    locks
}
