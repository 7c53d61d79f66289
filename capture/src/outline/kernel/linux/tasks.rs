//! Every task of the kernel: who it is, what it was doing, where its stack lies.
//!
//! Walked by the list of all processes that begins at `init_task`, and each process's list of threads. Names of members
//! are those of Linux 4.19 to 6.x, newest first.

use super::context::Linux;
use debuginfo::layout::Member;
use evidence::Addr;
use std::collections::HashSet;
use std::ops::Range;

/// Most tasks: `PID_MAX_LIMIT` is 2^22.
const LIMIT_TASKS: usize = 4 << 20;
/// Threads of the idle tasks of all CPUs but the first are numbered from here: they all have the pid 0.
const IDLE: u64 = 1 << 32;

/// `TASK_*` and `EXIT_*` of `include/linux/sched.h`; the same since 4.14.
const INTERRUPTIBLE: u64 = 1;
const UNINTERRUPTIBLE: u64 = 2;
const STOPPED: u64 = 4;
const TRACED: u64 = 8;
const DEAD: u64 = 0x10;
const ZOMBIE: u64 = 0x20;
const PARKED: u64 = 0x40;
const NO_LOAD: u64 = 0x400;
const LOCK_WAIT: u64 = 0x1000;
const FROZEN: u64 = 0x8000;

/// A task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Its `task_struct`.
    pub address: Addr,
    /// The number of its thread: the pid, and for idle tasks of further CPUs a number above all pids.
    pub id: u64,
    pub tgid: Option<u64>,
    pub parent: Option<u64>,
    pub name: Option<String>,
    pub state: Option<&'static str>,
    pub cpu: Option<u32>,
    /// Whether it was running on that CPU.
    pub running: bool,
    /// Resident bytes.
    pub resident: Option<u64>,
    pub stack: Option<Range<Addr>>,
}

/// Where the members of `task_struct` lie.
pub(super) struct Places {
    tasks: Option<u64>,
    node: Option<u64>,
    heads: Option<u64>,
    group: Option<u64>,
    pid: Option<Member>,
    tgid: Option<Member>,
    state: Option<Member>,
    exit_state: Option<Member>,
    cpu: Option<Member>,
    on_cpu: Option<Member>,
    stack: Option<Member>,
    stack_size: Option<u64>,
    parent: Option<Member>,
    signal: Option<Member>,
    memory: Option<Member>,
    resident: Vec<Counter>,
    /// The CPUs that have parts of counters.
    cpus: Vec<u32>,
    /// In a kernel for one processor, whose tasks do not say that they run: the one that does.
    only: Option<Option<Addr>>,
}

/// A counter of pages.
struct Counter {
    count: Member,
    /// The pointer to the parts that each CPU counts for itself.
    parts: Option<Member>,
}

impl Places {
    pub(super) fn of(linux: &Linux<'_>) -> Self {
        let first = |paths: &[&str]| linux.fields.first_place("task_struct", paths).ok();
        let offset = |of: &str, path: &str| linux.fields.layouts.member(of, path).map(|m| m.offset);
        Self {
            tasks: offset("task_struct", "tasks"),
            node: offset("task_struct", "thread_node"),
            heads: offset("signal_struct", "thread_head"),
            group: offset("task_struct", "thread_group"),
            pid: first(&["pid"]),
            tgid: first(&["tgid"]),
            state: first(&["__state", "state"]),
            exit_state: first(&["exit_state"]),
            cpu: first(&["thread_info.cpu", "cpu"]),
            on_cpu: first(&["on_cpu"]),
            stack: first(&["stack"]),
            stack_size: stack_size(linux),
            parent: first(&["real_parent"]),
            signal: first(&["signal"]),
            memory: first(&["mm"]),
            resident: resident_places(linux).unwrap_or_default(),
            cpus: linux.possible(),
            only: linux.is_for_one_cpu().then(|| linux.fields.pointer(linux.symbol("runqueues")?, "rq", "curr").ok()),
        }
    }

    /// One task.
    pub(super) fn task(&self, linux: &Linux<'_>, address: Addr) -> Option<Task> {
        let value = |at: Addr, member: &Option<Member>| linux.fields.integer_at(at, member.as_ref()?).ok();
        let pid = value(address, &self.pid)?;
        let stack = value(address, &self.stack).filter(|at| *at != 0).zip(self.stack_size);
        let parent = value(address, &self.parent).filter(|at| *at != 0);
        Some(Task {
            address,
            id: pid,
            tgid: value(address, &self.tgid),
            parent: parent.and_then(|at| value(Addr(at), &self.tgid)),
            name: linux.fields.text(address, "task_struct", "comm").ok(),
            state: value(address, &self.state).map(|s| word(s, value(address, &self.exit_state).unwrap_or(0))),
            cpu: value(address, &self.cpu).and_then(|n| u32::try_from(n).ok()).or(self.only.map(|_| 0)),
            running: value(address, &self.on_cpu).is_some_and(|n| n != 0) || self.only == Some(Some(address)),
            resident: value(address, &self.memory).filter(|at| *at != 0).and_then(|at| self.resident(linux, Addr(at))),
            stack: stack.map(|(start, size)| Addr(start)..Addr(start).saturating_add(size)),
        })
    }

    /// The resident bytes of an address space; `None` where a part of them cannot be read.
    fn resident(&self, linux: &Linux<'_>, mm: Addr) -> Option<u64> {
        let mut pages = 0_u64;
        for counter in &self.resident {
            let mut count = linux.fields.integer_at(mm, &counter.count).ok()?.cast_signed();
            let parts = counter.parts.as_ref().map(|parts| linux.fields.integer_at(mm, parts).ok());
            // An address space that was never counted has no parts.
            if let Some(parts) = parts.map_or(Some(None), |at| at.map(Some))?.filter(|at| *at != 0) {
                for cpu in &self.cpus {
                    let part = linux.half(Addr(parts).wrapping_add(linux.cpu_offset(*cpu)?))?;
                    count = count.saturating_add(i64::from(part.cast_signed()));
                }
            }
            // As the kernel reports it: what moved from one CPU to another may make a count negative for a while.
            pages = pages.checked_add(count.max(0).cast_unsigned())?;
        }
        if self.resident.is_empty() { None } else { pages.checked_mul(linux.info.page_size()) }
    }

    /// The threads of a process, its leader among them.
    fn threads(&self, linux: &Linux<'_>, leader: Addr) -> Vec<Addr> {
        let signal = self.signal.as_ref().and_then(|m| linux.fields.integer_at(leader, m).ok()).filter(|at| *at != 0);
        let ring = match (signal, self.heads, self.node, self.group) {
            (Some(signal), Some(heads), Some(node), _) => linux.ring(Addr(signal).wrapping_add(heads), node),
            // Before there was a list in the signal structure, threads were linked to their leader.
            (_, _, _, Some(group)) => linux.ring(leader.wrapping_add(group), group),
            _ => return vec![leader],
        };
        if let Some(why) = ring.broken {
            linux.doubt("tasks", format!("the threads of the process at {leader} are not all known: {why}"));
        }
        let mut threads = ring.elements;
        if !threads.contains(&leader) {
            threads.insert(0, leader);
        }
        threads
    }

    /// All tasks but the idle ones, by pid.
    pub(super) fn all(&self, linux: &Linux<'_>) -> Vec<Task> {
        let (mut found, broken) = self.listed(linux);
        if let Some(why) = broken {
            // What the list lost, the table of pids may still know.
            let known: HashSet<Addr> = found.iter().copied().collect();
            let more = super::pids::all(linux);
            let added: Vec<Addr> = more.into_iter().filter(|at| !known.contains(at)).collect();
            if added.is_empty() {
                linux.doubt("tasks", format!("{why}; tasks are missing"));
            } else {
                linux.doubt("tasks", format!("{why}; {} tasks were found by the table of pids instead", added.len()));
            }
            found.extend(added);
        }
        let mut seen: HashSet<Addr> = linux.symbol("init_task").into_iter().collect();
        let mut numbers = HashSet::new();
        let mut tasks = Vec::new();
        for address in found {
            if !seen.insert(address) {
                continue;
            }
            match self.task(linux, address) {
                _ if tasks.len() >= LIMIT_TASKS => {
                    linux.doubt("tasks", format!("more than {LIMIT_TASKS} tasks; the rest is left out"));
                    break;
                }
                Some(task) if task.id < IDLE && numbers.insert(task.id) => tasks.push(task),
                Some(task) => {
                    linux.doubt("tasks", format!("the task at {address} has the pid {} of another", task.id));
                }
                None => linux.doubt("tasks", format!("the task at {address} cannot be read")),
            }
        }
        tasks.sort_by_key(|t| t.id);
        tasks
    }

    /// The tasks by the list of processes, and why it is not all of them.
    fn listed(&self, linux: &Linux<'_>) -> (Vec<Addr>, Option<String>) {
        let (Some(init), Some(link)) = (linux.symbol("init_task"), self.tasks) else {
            let why = "neither the kernel's memory nor its file says where the list of processes is";
            return (Vec::new(), Some(why.into()));
        };
        let ring = linux.ring(init.wrapping_add(link), link);
        let threads = ring.elements.into_iter().flat_map(|leader| self.threads(linux, leader)).collect();
        (threads, ring.broken.map(|why| format!("the list of processes is broken: {why}")))
    }

    /// The idle task of a CPU.
    pub(super) fn idle(&self, linux: &Linux<'_>, cpu: u32, address: Addr) -> Option<Task> {
        let task = self.task(linux, address)?;
        let id = if cpu == 0 { 0 } else { IDLE.saturating_add(u64::from(cpu)) };
        Some(Task { id, cpu: task.cpu.or(Some(cpu)), ..task })
    }
}

/// The state in a word, as `ps` reports it (`task_state_index` in `include/linux/sched.h`).
fn word(state: u64, exit: u64) -> &'static str {
    let reported = (state | exit) & (INTERRUPTIBLE | UNINTERRUPTIBLE | STOPPED | TRACED | DEAD | ZOMBIE | PARKED);
    if state == UNINTERRUPTIBLE | NO_LOAD && exit == 0 {
        return "idle";
    }
    if state & (LOCK_WAIT | FROZEN) != 0 && exit == 0 {
        return "disk-sleep";
    }
    match reported {
        0 => "running",
        n if n >= PARKED => "parked",
        n if n >= ZOMBIE => "zombie",
        n if n >= DEAD => "dead",
        n if n >= TRACED => "traced",
        n if n >= STOPPED => "stopped",
        n if n >= UNINTERRUPTIBLE => "disk-sleep",
        _ => "sleeping",
    }
}

/// Bytes of a task's stack: those of the first task's, which the linker script lays out (`INIT_TASK_DATA`, its symbols
/// renamed in 6.10), as BTF has no `union thread_union` when no code uses it.
fn stack_size(linux: &Linux<'_>) -> Option<u64> {
    let between = |from: &str, to: &str| linux.symbol(to)?.offset_from(linux.symbol(from)?);
    let described = linux.fields.layouts.size_of("thread_union");
    let size = described.or_else(|| between("__start_init_stack", "__end_init_stack"));
    size.or_else(|| between("__start_init_task", "__end_init_task")).filter(|n| n.is_power_of_two())
}

/// The counters of resident pages: file, anonymous and shared ones. Each is an `atomic_long_t` up to 6.1 and a `struct
/// percpu_counter` since 6.2, to which each CPU adds what it has counted only now and then; in a kernel for one
/// processor that is one number.
fn resident_places(linux: &Linux<'_>) -> Option<Vec<Counter>> {
    let place = |name: &&str| {
        let number = linux.fields.layouts.enumerator(name)?;
        let member = |path: String| linux.fields.layouts.member("mm_struct", &path);
        if let Some(count) = member(format!("rss_stat[{number}].count")) {
            return Some(Counter { count, parts: member(format!("rss_stat[{number}].counters")) });
        }
        Some(Counter { count: member(format!("rss_stat.count[{number}].counter"))?, parts: None })
    };
    ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SHMEMPAGES"].iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outline::kernel::linux::testing::{Structures, lines, with_structures};
    use evidence::testing::FakeMemory;

    const TASK: u64 = 0xffff_8880_0100_0000;
    const MM: u64 = TASK + 0x1000;
    const OFFSETS: u64 = 0xffff_ffff_8200_0000;
    const MASK: u64 = OFFSETS + 0x100;
    const QUEUE: u64 = OFFSETS + 0x200;
    const NUMBER: u64 = OFFSETS + 0x300;
    const AREA: u64 = 0xffff_8880_0200_0000;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn structures(many: bool) -> Structures {
        let mut s = Structures::default();
        s.integer("task_struct", "pid", 0, 4).integer("task_struct", "tgid", 4, 4).pointer("task_struct", "mm", 8);
        if many {
            s.integer("task_struct", "thread_info.cpu", 16, 4).integer("task_struct", "on_cpu", 20, 4);
        }
        s.pointer("rq", "curr", 8);
        let counters = [
            ("MM_FILEPAGES", 0, "rss_stat[0].count", "rss_stat[0].counters"),
            ("MM_ANONPAGES", 1, "rss_stat[1].count", "rss_stat[1].counters"),
            ("MM_SHMEMPAGES", 2, "rss_stat[2].count", "rss_stat[2].counters"),
        ];
        for (name, number, count, parts) in counters {
            s.enumerator(name, number).integer("mm_struct", count, number.cast_unsigned() * 16, 8);
            if many {
                s.pointer("mm_struct", parts, number.cast_unsigned() * 16 + 8);
            }
        }
        s
    }

    fn task(many: bool, memory: FakeMemory) -> Task {
        let mut symbols = vec![("runqueues", if many { 0x40 } else { QUEUE })];
        if many {
            symbols.extend([("__per_cpu_offset", OFFSETS), ("__cpu_possible_mask", MASK), ("nr_cpu_ids", NUMBER)]);
        }
        let structures = structures(many);
        let (found, _) = with_structures(&lines(&symbols, &[], &[]), &structures, memory, |linux| {
            Places::of(linux).task(linux, Addr(TASK)).unwrap()
        });
        found
    }

    /// CPUs 0 and 2 of four are there; each counts for itself, from the place that the pointers of the counters say.
    #[test]
    fn what_cpus_counted_for_themselves_is_added() {
        let memory = |cpus: u64| {
            FakeMemory::new()
                .with(Addr(TASK), words(&[7 | 7 << 32, MM, 2 | 1 << 32]))
                .with(Addr(MM), words(&[100, 0x10, 5, 0x18, 0, 0x20]))
                .with(Addr(OFFSETS), words(&[AREA, 0, AREA + 0x1000, 0]))
                .with(Addr(MASK), words(&[cpus]))
                .with(Addr(NUMBER), words(&[4]))
                .with(Addr(AREA + 0x10), words(&[7, u64::from((-20_i32).cast_unsigned()), 1]))
                .with(Addr(AREA + 0x1010), words(&[u64::from((-3_i32).cast_unsigned()), 0, 2]))
        };
        let found = task(true, memory(0b101));
        // 100 + 7 - 3 pages of files; 5 - 20 others, which is none; 0 + 1 + 2 shared ones.
        assert_eq!(found.resident, Some((104 + 3) * 4096));
        assert_eq!((found.cpu, found.running), (Some(2), true));
        // Of one CPU nothing can be read: a sum without its part would be wrong.
        assert_eq!(task(true, memory(0b111)).resident, None);
    }

    #[test]
    fn one_processor_needs_no_number() {
        let memory = |current: u64| {
            FakeMemory::new()
                .with(Addr(TASK), words(&[7 | 7 << 32, MM, 0]))
                .with(Addr(MM), words(&[100, 0, 5, 0, 1, 0]))
                .with(Addr(QUEUE), words(&[0, current]))
        };
        let found = task(false, memory(TASK));
        assert_eq!((found.cpu, found.running, found.resident), (Some(0), true, Some(106 * 4096)));
        let other = task(false, memory(TASK + 0x8000));
        assert_eq!((other.cpu, other.running), (Some(0), false));
    }

    #[test]
    fn states() {
        assert_eq!(word(0, 0), "running");
        assert_eq!(word(1, 0), "sleeping");
        assert_eq!(word(2, 0), "disk-sleep");
        assert_eq!(word(0x402, 0), "idle");
        assert_eq!(word(0x80, 0x20), "zombie");
        assert_eq!(word(0x80, 0x10), "dead");
        assert_eq!(word(0x100 | 8, 0), "traced");
        assert_eq!(word(0x100 | 4, 0), "stopped");
        assert_eq!(word(0x40, 0), "parked");
    }
}
