//! A small kernel made by hand, whose structures lie at places of their own.

use super::super::testing::{Structures, lines, with_structures};
use super::super::{cpus, tasks::Task};
use super::{State, suspects::Suspects};
use debuginfo::images::{Image, SymbolKind};
use debuginfo::symbols::{Stated, SymbolTable};
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Context, Doubt, Register, Registers, Thread, ThreadId};
use snapshot_format::schema::LogRecord;
use std::collections::BTreeMap;

/// The module that has all functions and variables.
const DEMO: u64 = 0xffff_ffff_c000_0000;
const STACK: u64 = 0xffff_c900_0000_0000;
const TASK: u64 = 0xffff_8880_0100_0000;
/// The direct map of the made machine, and its array of pages.
const DIRECT: u64 = 0xffff_8880_0000_0000;
const PAGES: u64 = 0xffff_ea00_0000_0000;

/// Functions and variables by name, at these distances from the module.
const SYMBOLS: [(&str, u64, bool); 10] = [
    ("schedule", 0x1000, true),
    ("__mutex_lock.constprop.0", 0x2000, true),
    ("rwsem_down_write_slowpath", 0x3000, true),
    ("native_queued_spin_lock_slowpath", 0x4000, true),
    ("demo_work", 0x5000, true),
    ("demo_timer", 0x6000, true),
    ("demo_tick", 0x7000, true),
    ("demo_mutex", 0x1_0000, false),
    ("demo_rwsem", 0x1_0100, false),
    ("demo_spinlock", 0x1_0200, false),
];

#[derive(Clone, Default)]
struct Made {
    words: BTreeMap<u64, u64>,
    symbols: Vec<(&'static str, u64)>,
    tasks: Vec<Task>,
    threads: Vec<Thread>,
}

impl Made {
    fn put(&mut self, at: u64, values: &[u64]) {
        for (n, value) in (0..).zip(values) {
            self.words.insert(at + n * 8, *value);
        }
    }

    /// A ring of links at these addresses.
    fn ring(&mut self, links: &[u64]) {
        for (n, at) in links.iter().enumerate() {
            let (next, previous) = (links[(n + 1) % links.len()], links[(n + links.len() - 1) % links.len()]);
            self.put(*at, &[next, previous]);
        }
    }

    /// A task with a stack of 4 KiB, and its `task_struct`.
    fn task(&mut self, id: u64, running: bool) -> u64 {
        let address = TASK + id * 0x1000;
        let stack = Addr(STACK + id * 0x1_0000)..Addr(STACK + id * 0x1_0000 + 0x1000);
        let mut registers = Registers::new(Arch::X86_64);
        registers.set(Registers::sp_register(Arch::X86_64), stack.end.0 - 0x400);
        registers.set(Register(16), DEMO + 0x1010);
        let context = if running { Context::Cpu(0) } else { Context::Task };
        self.threads.push(Thread::new(ThreadId(id), context, registers));
        self.tasks.push(Task {
            address: Addr(address),
            id,
            tgid: Some(id),
            parent: None,
            name: Some(format!("t{id}")),
            state: Some(if running { "running" } else { "disk-sleep" }),
            cpu: Some(0),
            running,
            resident: None,
            stack: Some(stack.clone()),
        });
        for at in (stack.start.0..stack.end.0).step_by(8) {
            self.words.insert(at, 0x1234);
        }
        address
    }

    /// A waiter of a task in a function's frame; gives where its link lies. `struct mutex_waiter` and `rwsem_waiter`
    /// are alike here: the task at 8, the list at 16.
    fn waiter(&mut self, id: u64, function: u64) -> u64 {
        let sp = STACK + id * 0x1_0000 + 0x1000 - 0x400;
        self.put(sp + 0x20, &[DEMO + function + 0x33]);
        self.put(sp + 0x100, &[0, TASK + id * 0x1000]);
        sp + 0x110
    }

    fn memory(&self) -> FakeMemory {
        let mut pages: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (at, value) in &self.words {
            let page = pages.entry(at & !0xfff).or_insert_with(|| vec![0; 0x1000]);
            let inside = usize::try_from(at & 0xfff).unwrap();
            page[inside..inside + 8].copy_from_slice(&value.to_le_bytes());
        }
        pages.into_iter().fold(FakeMemory::new(), |memory, (at, bytes)| memory.with(Addr(at), bytes))
    }

    fn read<R>(&self, then: impl FnOnce(&State<'_, '_>) -> R) -> (R, Vec<Doubt>) {
        let mut symbols = SymbolTable::new(SymbolKind::Kallsyms, 0..0x1_0000);
        for (name, start, function) in SYMBOLS {
            symbols.push(&Stated { name, start, size: Some(0x100), function, global: true });
        }
        let image = Image { slide: DEMO, symbols: Some(symbols.finish()), ..Image::at("demo", Addr(DEMO), 0x2_0000) };
        let structures = structures();
        with_structures(&lines(&self.symbols, &[], &[]), &structures, self.memory(), |linux| {
            let mut cpus = cpus::all(linux, &self.tasks);
            for cpu in &mut cpus {
                cpu.thread = self.tasks.iter().find(|t| Some(t.address) == cpu.current).map(|t| ThreadId(t.id));
                cpu.registers = self.threads.iter().find(|t| Some(t.id) == cpu.thread).map(|t| t.registers.clone());
            }
            then(&State::new(linux, &[image], &self.tasks, &cpus, &self.threads))
        })
    }

    /// The values of the attributes of one kind.
    fn rows(&self, kind: &str) -> Vec<String> {
        let (rows, doubts) = self.read(|state| state.read(&[]));
        assert_eq!(doubts, [], "{kind}");
        let key = format!("kernel.{kind}");
        rows.into_iter().filter(|a| *a.key == *key).map(|a| a.value.into()).collect()
    }
}

fn structures() -> Structures {
    let mut s = Structures::default();
    s.integer("task_struct", "on_rq", 0x10, 4).integer("task_struct", "prio", 0x14, 4);
    s.place("list_head", "next", 0).place("list_head", "prev", 8);
    s.integer("mutex", "owner.counter", 8, 8).place("mutex", "wait_list", 24);
    s.integer("rw_semaphore", "count.counter", 0, 8).integer("rw_semaphore", "owner.counter", 24, 8);
    s.place("rw_semaphore", "wait_list", 40);
    for waiter in ["mutex_waiter", "rwsem_waiter"] {
        s.place(waiter, "task", 8).place(waiter, "list", 16);
    }
    s.pointer("rq", "curr", 8).pointer("rq", "idle", 16).integer("rq", "nr_running", 24, 4);
    s.size("page", 64).integer("page", "compound_head", 8, 8).integer("page", "flags", 0, 8);
    s.enumerator("PG_slab", 9);
    s.pointer("slab", "slab_cache", 16).pointer("slab", "freelist", 24).integer("slab", "objects", 32, 2);
    s.pointer("kmem_cache", "cpu_slab", 0).integer("kmem_cache", "size", 8, 4);
    s.integer("kmem_cache", "object_size", 12, 4).integer("kmem_cache", "offset", 16, 4);
    s.integer("kmem_cache", "flags", 24, 4).integer("kmem_cache", "random", 32, 8);
    s.pointer("kmem_cache", "name", 40).place("kmem_cache", "list", 48).integer("kmem_cache", "red_left_pad", 20, 4);
    s.pointer("kmem_cache_cpu", "freelist", 0).pointer("kmem_cache_cpu", "slab", 8);
    s.place("workqueue_struct", "list", 0).place("workqueue_struct", "pwqs", 16).array(
        "workqueue_struct",
        "name",
        32,
        24,
        1,
    );
    s.pointer("pool_workqueue", "pool", 0).place("pool_workqueue", "pwqs_node", 8);
    s.place("pool_workqueue", "inactive_works", 24).place("worker_pool", "worklist", 0);
    s.place("worker_pool", "workers", 16).integer("worker_pool", "id", 32, 4).integer("worker_pool", "cpu", 36, 4);
    s.integer("work_struct", "data.counter", 0, 8).place("work_struct", "entry", 8).pointer("work_struct", "func", 24);
    s.place("worker", "node", 0).pointer("worker", "current_work", 16).pointer("worker", "current_func", 24);
    s.pointer("worker", "current_pwq", 32).pointer("worker", "task", 40);
    s.size("timer_base", 0x40).integer("timer_base", "clk", 0, 8).pointer("timer_base", "running_timer", 8);
    s.array("timer_base", "vectors", 16, 4, 8).place("hlist_node", "next", 0).place("timer_list", "entry", 8);
    s.integer("timer_list", "expires", 24, 8).pointer("timer_list", "function", 32);
    s.array("hrtimer_cpu_base", "clock_base", 0, 2, 16).place("hrtimer_clock_base", "active.head.rb_node", 8);
    s.place("hrtimer", "node.node", 8).integer("hrtimer", "node.expires", 32, 8).pointer("hrtimer", "function", 40);
    s.place("rb_node", "rb_left", 0).place("rb_node", "rb_right", 8);
    s.integer("rcu_state", "gp_seq", 0, 8).pointer("rcu_state", "name", 8).place("rcu_state", "node", 32);
    s.integer("rcu_state", "gp_start", 16, 8).size("rcu_node", 64).integer("rcu_node", "qsmask", 0, 8);
    s.integer("rcu_node", "level", 8, 1).integer("rcu_node", "grplo", 12, 4).place("rcu_node", "blkd_tasks", 16);
    s.pointer("rcu_node", "gp_tasks", 32).place("task_struct", "rcu_node_entry", 0x20);
    s
}

/// Tasks 1 and 2 hold a lock each and wait for the other's; 3 waits behind 1.
fn locked() -> Made {
    let mut made = Made::default();
    let (one, two) = (made.task(1, false), made.task(2, false));
    made.task(3, false);
    let (mutex, rwsem) = (DEMO + 0x1_0000, DEMO + 0x1_0100);
    made.put(mutex, &[0, two | 1]);
    made.put(rwsem, &[1 | 2, 0, 0, one]);
    let waiters = [made.waiter(1, 0x2000), made.waiter(3, 0x2000)];
    made.ring(&[mutex + 24, waiters[0], waiters[1]]);
    let waiter = made.waiter(2, 0x3000);
    made.ring(&[rwsem + 40, waiter]);
    made
}

#[test]
fn locks_owners_and_circles() {
    let made = locked();
    let expected = [
        "mutex 0xffffffffc0010000 (demo_mutex [demo]): held by thread 2; waited for by 1, 3",
        "rwsem 0xffffffffc0010100 (demo_rwsem [demo]): held by thread 1; waited for by 2",
    ];
    assert_eq!(made.rows("lock"), expected);
    assert_eq!(made.rows("deadlock"), ["threads 1, 2 wait for each other"]);
}

#[test]
fn readers_and_locks_that_are_none() {
    let mut made = locked();
    made.put(DEMO + 0x1_0100, &[0x300 | 2]);
    assert_eq!(
        made.rows("lock")[1],
        "rwsem 0xffffffffc0010100 (demo_rwsem [demo]): held by 3 readers; waited for by 2"
    );
    assert!(made.rows("deadlock").is_empty());
    // An owner that is no task, and a stack that names no lock's function.
    made.put(DEMO + 0x1_0008, &[0x4141_4141_4141_4141]);
    let sp = STACK + 2 * 0x1_0000 + 0x1000 - 0x400;
    made.put(sp + 0x20, &[0]);
    assert!(made.rows("lock").is_empty());
}

#[test]
fn a_spinlock_that_a_cpu_queues_for() {
    let mut made = Made::default();
    made.task(5, true);
    // Taken, and CPU 0 is the last of those who queue.
    made.put(DEMO + 0x1_0200, &[1 | 1 << 18]);
    let registers = &mut made.threads[0].registers;
    registers.set(Register(16), DEMO + 0x4020);
    registers.set(Register(5), DEMO + 0x1_0200);
    let expected = "spinlock 0xffffffffc0010200 (demo_spinlock [demo]): held by no known thread; waited for by 5";
    assert_eq!(made.rows("lock"), [expected]);
    made.put(DEMO + 0x1_0200, &[1 | 7 << 18]);
    assert!(made.rows("lock").is_empty(), "the word names a CPU that does not wait");
    // A guest's word is but taken; its argument alone is no proof.
    made.put(DEMO + 0x1_0200, &[1]);
    assert!(made.rows("lock").is_empty());
    made.threads[0].registers.set(Register(3), DEMO + 0x1_0200);
    assert_eq!(made.rows("lock"), [expected]);
}

#[test]
fn the_log_knows_where_a_cpu_spun() {
    let mut made = Made::default();
    made.task(5, true);
    made.put(DEMO + 0x1_0200, &[1]);
    let log = [
        "watchdog: BUG: soft lockup - CPU#0 stuck for 5s! [t5:5]",
        "CPU: 0 PID: 5 Comm: t5 Not tainted 6.1.0-demo #1",
        "RIP: 0010:native_queued_spin_lock_slowpath+0x30/0x2a0",
        "RAX: 0000000000000001 RBX: ffffffffc0010200 RCX: 0000000000000002",
        "RDX: 0000000000000001 RSI: 0000000000000001 RDI: ffffffffc0010200",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 5s! [t6:6]",
        "CPU: 1 PID: 6 Comm: t6 Not tainted 6.1.0-demo #1",
        "RIP: 0010:demo_work+0x30/0x2a0",
        "RDX: 0000000000000001 RSI: 0000000000000001 RDI: ffffffffc0010200",
    ];
    let log: Vec<_> = log.iter().map(|l| LogRecord { text: (*l).to_owned(), ..LogRecord::default() }).collect();
    let (rows, _) = made.read(|state| state.read(&log));
    let expected = "spinlock 0xffffffffc0010200 (demo_spinlock [demo]): held by no known thread; waited for by 5";
    assert_eq!(rows.iter().map(|a| (&*a.key, &*a.value)).collect::<Vec<_>>(), [("kernel.lock", expected)]);
}

/// A slab of four objects of 64 bytes behind a guard of 64, with hardened lists: object 1 is on the slab's own list,
/// object 3 on that of CPU 0.
fn slab() -> Made {
    let mut made = Made::default();
    let (cache, name, page) = (DIRECT + 0x5000, DIRECT + 0x5800, PAGES + 0x20 * 64);
    let (head, base) = (DIRECT + 0x6000, DIRECT + 0x2_0000);
    made.symbols = vec![("slab_caches", head), ("page_offset_base", head + 0x20), ("vmemmap_base", head + 0x28)];
    made.put(head + 0x20, &[DIRECT, PAGES]);
    made.ring(&[head, cache + 48]);
    let random = 0x1122_3344_5566_7788;
    let per_cpu = DIRECT + 0x7000;
    made.put(cache, &[per_cpu, 64 | 48 << 32, 8 | 64 << 32, 0x800, random, name]);
    made.put(name, &[u64::from_le_bytes(*b"demo\0\0\0\0")]);
    let object = |n: u64| base + 64 + n * 64;
    made.put(page, &[1 << 9, 0, cache, object(1), 4]);
    let end = |at: u64| random ^ (at + 8).swap_bytes();
    for n in 0..4 {
        made.put(object(n), &[n, 0x10, 0x20, 0x30, 0x40, 0x50]);
    }
    for n in [1, 3] {
        made.put(object(n) + 8, &[end(object(n))]);
    }
    made.put(per_cpu, &[object(3), page]);
    made
}

fn objects(made: &Made, registers: &[(&str, u64)], ip: u64) -> Vec<String> {
    let registers = registers.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let suspects = Suspects { registers, ip: Some(ip), ..Suspects::default() };
    let (rows, doubts) = made.read(|state| super::slab::read(state, &suspects));
    assert_eq!(doubts, []);
    rows.into_iter().map(|a| a.value.into()).collect()
}

#[test]
fn objects_free_and_not() {
    let made = slab();
    let object = |n: u64| DIRECT + 0x2_0000 + 64 + n * 64;
    let registers =
        [("rdi", object(3)), ("rax", object(3) + 0x18), ("rbx", object(2)), ("rcx", DIRECT + 0x5000), ("rdx", 5)];
    assert_eq!(
        objects(&made, &registers, 0x0001_0000_0000_0030),
        [
            "object 0xffff888000020100 of cache demo (48 bytes): free; rdi is +0x0; rax is +0x18; the cache poisons free \
             objects; the object before it: allocated",
            "object 0xffff8880000200c0 of cache demo (48 bytes): allocated; rbx is +0x0; the cache poisons free objects; \
             the object before it: free; the one behind it: free",
        ]
    );
}

#[test]
fn what_an_object_holds() {
    let mut made = slab();
    let object = DIRECT + 0x2_0000 + 64 + 64;
    made.put(object + 0x20, &[0x4141_4141_4141_4141]);
    let row = objects(&made, &[("rdi", object)], 0x4141_4141_4141_4141).remove(0);
    assert!(row.contains(": free; rdi is +0x0; rip (0x4141414141414141) is what it holds at +0x20;"), "{row}");
    // A list that leads out of the slab: what it held before is lost, and nothing else is called allocated.
    made.put(object + 8, &[0x4141_4141_4141_4141]);
    let row = objects(&made, &[("rdi", object)], 0).remove(0);
    assert!(row.contains(": not known to be free;") && row.contains("where no object starts"), "{row}");
    // A page that is no slab's.
    made.put(PAGES + 0x20 * 64, &[0]);
    assert!(objects(&made, &[("rdi", object)], 0).is_empty());
}

/// A kernel with a queue, work, timers and a grace period.
fn busy() -> Made {
    let mut made = Made::default();
    let (one, two) = (made.task(1, true), made.task(2, false));
    made.put(one + 0x10, &[1 | 120 << 32]);
    made.put(two + 0x10, &[1 | 50 << 32]);
    let at = DIRECT + 0x1_0000;
    made.symbols = vec![
        ("runqueues", at),
        ("workqueues", at + 0x100),
        ("timer_bases", at + 0x400),
        ("hrtimer_bases", at + 0x500),
        ("rcu_state", at + 0x800),
        ("rcu_num_lvls", at + 0x900),
        ("rcu_num_nodes", at + 0x908),
        ("jiffies", at + 0x910),
        ("tick_nsec", at + 0x918),
    ];
    made.put(at, &[0, one, 0, 2]);
    let (queue, pwq, pool, worker) = (at + 0x1100, at + 0x1200, at + 0x1300, at + 0x1400);
    let (pending, held, current) = (at + 0x1500, at + 0x1540, at + 0x1580);
    made.ring(&[at + 0x100, queue]);
    made.ring(&[queue + 16, pwq + 8]);
    made.put(queue + 32, &[u64::from_le_bytes(*b"demo_wq\0")]);
    made.put(pwq, &[pool]);
    made.ring(&[pwq + 24, held + 8]);
    made.ring(&[pool, pending + 8]);
    made.ring(&[pool + 16, worker]);
    made.put(pool + 32, &[7]);
    made.put(worker + 16, &[current, DEMO + 0x5000, pwq, two]);
    for work in [pending, held, current] {
        made.put(work, &[pwq | 5]);
        made.put(work + 24, &[DEMO + 0x5000]);
    }
    let (timer, first, second) = (at + 0x1600, at + 0x1700, at + 0x1800);
    made.put(at + 0x400, &[100, 0, 0, timer + 8]);
    made.put(timer + 24, &[150, DEMO + 0x6000]);
    made.put(at + 0x508, &[first + 8]);
    made.put(first + 8, &[second + 8, 0, 0, 900, DEMO + 0x7000]);
    made.put(second + 8, &[0, 0, 0, 800, DEMO + 0x7000]);
    made.put(at + 0x800, &[4 * 11 + 1, at + 0x880, 60]);
    made.put(at + 0x880, &[u64::from_le_bytes(*b"rcu_demo")]);
    made.put(at + 0x820, &[1, 0]);
    made.ring(&[at + 0x830, two + 0x20]);
    made.put(at + 0x840, &[two + 0x20]);
    made.put(at + 0x900, &[1, 1, 110, 4_000_000]);
    made
}

#[test]
fn queues_work_timers_and_rcu() {
    let made = busy();
    assert_eq!(made.rows("run_queue"), ["CPU 0 runs thread 1 (t1); waiting: thread 2 (t2) real-time"]);
    let work = made.rows("work");
    assert_eq!(
        work,
        [
            "running in pool 7 (CPU 0): demo_work [demo] of demo_wq, work 0xffff888000011580, by thread 2 (t2)",
            "pending in pool 7 (CPU 0): demo_work [demo] of demo_wq, work 0xffff888000011500",
            "held back in pool 7 (CPU 0): demo_work [demo] of demo_wq, work 0xffff888000011540",
        ]
    );
    assert_eq!(
        made.rows("timer"),
        [
            "CPU 0: demo_timer [demo] in 40 ticks, timer 0xffff888000011600",
            "CPU 0: demo_tick [demo] at 800 ns of its clock, timer 0xffff888000011800",
            "CPU 0: demo_tick [demo] at 900 ns of its clock, timer 0xffff888000011700",
        ]
    );
    assert_eq!(
        made.rows("rcu"),
        [
            "rcu_demo: grace period 11 for 0.200 s waits for CPU 0, which runs thread 1 (t1)",
            "rcu_demo: grace period 11 for 0.200 s waits for thread 2 (t2), which was preempted inside of a read-side \
             critical section",
        ]
    );
}

/// A dump without the pages of timers and work says so once for each.
#[test]
fn what_is_missing_is_said_once() {
    let mut made = busy();
    made.words.retain(|at, _| *at < DIRECT + 0x1_1000 || *at >= DIRECT + 0x1_2000);
    let (rows, doubts) = made.read(|state| state.read(&[]));
    assert!(rows.iter().any(|a| &*a.key == "kernel.rcu"));
    let what: Vec<&str> = doubts.iter().map(|d| d.what).collect();
    assert_eq!(what, ["timers", "work"], "{doubts:?}");
    assert!(doubts.iter().any(|d| d.why.contains("; 1 more of that kind")), "{doubts:?}");
}

/// Bits and whole words of all structures are damaged: whatever is said, it comes to an end.
#[test]
fn damage_of_every_structure() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut differ = 0;
    for base in [locked(), slab(), busy()] {
        let kept: Vec<u64> = base.words.iter().filter(|(_, v)| **v != 0x1234).map(|(at, _)| *at).collect();
        let values: Vec<u64> = base.words.values().copied().filter(|v| v >> 63 == 1).collect();
        let suspects = Suspects {
            registers: vec![("rdi".into(), DIRECT + 0x2_0000 + 64), ("rsi".into(), DIRECT + 0x2_00ff)],
            ip: Some(0x4141_4141_4141_4141),
            address: Some(0x4141_4141_4141_4149),
            ..Suspects::default()
        };
        let read = |made: &Made| {
            made.read(|state| {
                let mut rows = state.read(&[]);
                rows.extend(super::slab::read(state, &suspects));
                rows
            })
            .0
        };
        let right = read(&base);
        for _ in 0..700 {
            let mut made = base.clone();
            for _ in 0..=random() % 3 {
                let at = kept[usize::try_from(random() % kept.len() as u64).unwrap()];
                let pick = values[usize::try_from(random() % values.len() as u64).unwrap()];
                let old = made.words[&at];
                let new = match random() % 4 {
                    0 => old ^ 1 << (random() % 64),
                    1 => pick,
                    2 => at,
                    _ => random(),
                };
                made.words.insert(at, new);
            }
            differ += usize::from(read(&made) != right);
        }
    }
    assert!(differ > 500, "only {differ} of the damages were seen at all");
}
