//! Every process and thread: who it is, what it was doing, and its registers.
//!
//! `allproc` leads to processes by `p_list`, each to its threads by `p_threads` and `td_plist`; zombies are on no list
//! since 13 but in the hash table of process ids.

use super::context::FreeBsd;
use super::pcb;
use evidence::{Addr, Context, Registers, Thread, ThreadId, ThreadState};
use snapshot_format::schema;
use std::collections::HashSet;

/// Most processes and threads each: `PID_MAX` is 99999, thread ids reach 2^31 on machines that nobody has.
const LIMIT_PROCESSES: usize = 1 << 20;
const LIMIT_THREADS: usize = 4 << 20;
/// Most buckets of the hash table of process ids.
const LIMIT_BUCKETS: u64 = 1 << 24;
/// `MAXCOMLEN` and a NUL.
const NAME: usize = 20;
/// Longest name of what a thread waits for.
const LIMIT_WAIT: usize = 64;
/// `NOCPU`: the thread does not run. One byte before 11.
const NO_CPU: [u64; 3] = [u64::MAX, 0xffff_ffff, 0xff];
/// Most pages of a kernel stack: `KSTACK_MAX_PAGES` is 32.
const LIMIT_STACK_PAGES: u64 = 1024;

/// A process.
#[derive(Clone, Debug)]
struct Process {
    address: Addr,
    pid: u64,
    parent: Option<u64>,
    name: Option<String>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub threads: Vec<Thread>,
    pub tasks: Vec<schema::Task>,
    /// The thread that wrote the dump.
    pub crashed: Option<ThreadId>,
}

/// All processes and threads; the one that wrote the dump first.
pub(super) fn all(kernel: &FreeBsd<'_>) -> Found {
    let mut found = Found::default();
    let Some(head) = kernel.symbol("allproc") else {
        kernel.doubt(
            "threads",
            "the kernel's symbols are not known: no process or thread is; name its file with --kernel",
        );
        return found;
    };
    if kernel.offset("proc", "p_list").is_none() || kernel.offset("thread", "td_tid").is_none() {
        kernel.doubt(
            "threads",
            "neither the kernel's constants (proc_off_*, since 10.3) nor types say where its processes keep their threads",
        );
        return found;
    }
    let dumped = kernel.int("dumptid").filter(|tid| *tid != 0).map(u64::from);
    let mut processes = HashSet::new();
    let mut ids = HashSet::new();
    for address in list(kernel, "allproc", head, "proc", "p_list", LIMIT_PROCESSES) {
        let Some(process) = process(kernel, address) else {
            kernel.doubt("threads", format!("the process at {address} cannot be read"));
            continue;
        };
        processes.insert(address);
        let Some(threads) = kernel.offset("proc", "p_threads") else { continue };
        let threads = list(kernel, "p_threads", address.wrapping_add(threads), "thread", "td_plist", LIMIT_THREADS);
        for at in threads {
            let room = found.threads.len() < LIMIT_THREADS;
            match thread(kernel, &process, at, dumped) {
                Some(t) if room && ids.insert(t.id) => {
                    found.tasks.push(task(&process, at, &t));
                    found.threads.push(t);
                }
                Some(t) => kernel.doubt("threads", format!("the thread at {at} has the id {} of another", t.id.0)),
                None => kernel.doubt("threads", format!("the thread at {at} cannot be read")),
            }
        }
    }
    found.crashed = dumped.map(ThreadId).filter(|id| ids.contains(id));
    if let (Some(tid), None) = (dumped, found.crashed) {
        kernel.doubt("threads", format!("the thread that wrote the dump, {tid}, is on no list"));
    }
    found.threads.sort_by_key(|t| Some(t.id) != found.crashed);
    found.tasks.sort_by_key(|t| Some(ThreadId(t.id)) != found.crashed);
    found.tasks.extend(zombies(kernel, &processes));
    found
}

/// The elements of a `LIST` or `TAILQ`: the head's first word leads to the first, each link's first word to the next.
fn list(kernel: &FreeBsd<'_>, name: &str, head: Addr, of: &str, link: &str, limit: usize) -> Vec<Addr> {
    let Some(link) = kernel.offset(of, link) else { return Vec::new() };
    let mut elements = Vec::new();
    let mut seen = HashSet::new();
    let mut from = head;
    loop {
        let next = match kernel.fields.pointer_at(from) {
            Ok(next) => next,
            Err(e) => {
                kernel.doubt("threads", format!("the list {name} breaks off after {} elements: {e}", elements.len()));
                break;
            }
        };
        if next.0 == 0 {
            break;
        }
        if !seen.insert(next) || elements.len() >= limit {
            kernel.doubt("threads", format!("the list {name} runs in a circle at {next}"));
            break;
        }
        elements.push(next);
        from = next.wrapping_add(link);
    }
    elements
}

fn process(kernel: &FreeBsd<'_>, address: Addr) -> Option<Process> {
    let comm = kernel.offset("proc", "p_comm");
    let parent = kernel.value(address, "proc", "p_pptr").filter(|at| *at != 0);
    Some(Process {
        address,
        pid: kernel.value(address, "proc", "p_pid")? & 0xffff_ffff,
        parent: parent.and_then(|at| kernel.value(Addr(at), "proc", "p_pid")).map(|pid| pid & 0xffff_ffff),
        name: comm.and_then(|o| kernel.text(address.wrapping_add(o), NAME)),
    })
}

fn thread(kernel: &FreeBsd<'_>, process: &Process, at: Addr, dumped: Option<u64>) -> Option<Thread> {
    let id = kernel.value(at, "thread", "td_tid")? & 0xffff_ffff;
    let cpu = kernel.value(at, "thread", "td_oncpu").filter(|n| !NO_CPU.contains(n));
    let cpu = cpu.and_then(|n| u32::try_from(n).ok());
    let crashed = dumped == Some(id);
    let saved = if crashed { kernel.symbol("dumppcb") } else { None };
    let stopped = || cpu.and_then(|n| pcb::stopped(kernel, n));
    let own = || kernel.value(at, "thread", "td_pcb").filter(|p| *p != 0).map(Addr);
    let place = saved.or_else(stopped).or_else(own);
    let registers = place.and_then(|p| pcb::registers(kernel, p));
    if registers.is_none() {
        kernel.doubt("threads", format!("thread {id} ({}): its registers cannot be read", process.pid));
    }
    // What a processor left when it was stopped, and what never ran, is all zeros: no registers.
    let registers = registers.filter(|r| r.pc().is_some_and(|pc| pc.0 != 0));
    let context = cpu.map_or(Context::Task, Context::Cpu);
    let mut thread = Thread::new(ThreadId(id), context, registers.unwrap_or_else(|| Registers::new(kernel.arch)));
    thread.process = Some(process.pid);
    thread.cpu = cpu;
    thread.name = name(kernel, process, at).map(Into::into);
    thread.state = state(kernel, at, cpu);
    thread.stack = stack(kernel, at);
    Some(thread)
}

/// `comm`, or `comm/name` for threads that have a name of their own, as ps and kgdb write it.
fn name(kernel: &FreeBsd<'_>, process: &Process, at: Addr) -> Option<String> {
    let own = kernel.offset("thread", "td_name").and_then(|o| kernel.text(at.wrapping_add(o), NAME));
    match (&process.name, own) {
        (Some(comm), Some(own)) if *comm != own => Some(format!("{comm}/{own}")),
        (Some(comm), _) => Some(comm.clone()),
        (None, own) => own,
    }
}

/// What a thread was doing, in a word: `enum { TDS_* }` and the inhibitors (`TDI_*`) of `sys/sys/proc.h`.
fn state(kernel: &FreeBsd<'_>, at: Addr, cpu: Option<u32>) -> Option<ThreadState> {
    let value = |member| kernel.value(at, "thread", member);
    let is =
        |state: u64, name: &str| kernel.fields.layouts.enumerator(name).is_some_and(|v| v.cast_unsigned() == state);
    let word = match value("td_state") {
        Some(state) if is(state, "TDS_RUNNING") => Some("running"),
        Some(state) if is(state, "TDS_RUNQ") || is(state, "TDS_CAN_RUN") => Some("runnable"),
        Some(state) if is(state, "TDS_INACTIVE") => Some("inactive"),
        Some(state) if is(state, "TDS_INHIBITED") => Some(match value("td_inhibitors") {
            // TDI_SUSPENDED, TDI_SLEEPING, TDI_LOCK, TDI_IWAIT.
            Some(bits) if bits & 1 != 0 => "stopped",
            Some(bits) if bits & 8 != 0 => "lock",
            Some(bits) if bits & 0x10 != 0 => "interrupt-wait",
            Some(bits) if bits & 2 != 0 => "sleeping",
            _ => "inhibited",
        }),
        _ => cpu.map(|_| "running"),
    };
    let text = |p: Option<u64>| p.filter(|p| *p != 0).and_then(|p| kernel.text(Addr(p), LIMIT_WAIT));
    // A thread that waits for a lock has the lock's name, which ps(1) marks in this way.
    let lock = || text(value("td_lockname").filter(|_| word == Some("lock"))).map(|name| format!("*{name}"));
    let wait = text(value("td_wmesg")).or_else(lock);
    if word.is_none() && wait.is_none() {
        return None;
    }
    Some(ThreadState { word: word.unwrap_or_default().into(), system_call: None, wait_channel: wait.map(Into::into) })
}

fn stack(kernel: &FreeBsd<'_>, at: Addr) -> Option<std::ops::Range<Addr>> {
    let start = kernel.value(at, "thread", "td_kstack").filter(|s| *s != 0)?;
    let pages = kernel.value(at, "thread", "td_kstack_pages").filter(|n| (1..=LIMIT_STACK_PAGES).contains(n))?;
    Some(Addr(start)..Addr(start).checked_add(pages.checked_mul(4096)?)?)
}

fn task(process: &Process, at: Addr, thread: &Thread) -> schema::Task {
    let state = thread.state.as_ref().map(|s| match &s.wait_channel {
        Some(wait) if s.word.is_empty() => format!("({wait})"),
        Some(wait) => format!("{} ({wait})", s.word),
        None => s.word.to_string(),
    });
    schema::Task {
        id: thread.id.0,
        pid: Some(process.pid),
        parent_pid: process.parent,
        address: Some(at.0),
        name: thread.name.as_deref().map(str::to_owned),
        state,
        cpu: thread.cpu.map(u64::from),
        resident: None,
        stack: None,
    }
}

/// Processes that have ended and whose parents have not noticed: they have no threads any more.
fn zombies(kernel: &FreeBsd<'_>, known: &HashSet<Addr>) -> Vec<schema::Task> {
    let mut tasks = Vec::new();
    let listed =
        kernel.symbol("zombproc").map(|head| list(kernel, "zombproc", head, "proc", "p_list", LIMIT_PROCESSES));
    let hashed = || {
        let table = kernel.pointer("pidhashtbl")?;
        let mask = kernel.pointer("pidhash").map_or(0, |m| m.0);
        kernel.offset("proc", "p_hash")?;
        let word = u64::from(kernel.fields.pointer);
        let buckets = mask.saturating_add(1).min(LIMIT_BUCKETS);
        let bucket = |n: u64| {
            let head = table.wrapping_add(n.wrapping_mul(word));
            list(kernel, "pidhashtbl", head, "proc", "p_hash", LIMIT_PROCESSES)
        };
        // One bucket that cannot be read says that the table is not in the dump.
        kernel.fields.pointer_at(table).ok()?;
        Some((0..buckets).flat_map(bucket).take(LIMIT_PROCESSES).collect::<Vec<_>>())
    };
    for address in listed.or_else(hashed).unwrap_or_default() {
        if known.contains(&address) {
            continue;
        }
        let Some(process) = process(kernel, address) else { continue };
        tasks.push(schema::Task {
            // No thread has it: thread ids begin above all process ids.
            id: process.pid,
            pid: Some(process.pid),
            parent_pid: process.parent,
            address: Some(process.address.0),
            name: process.name,
            state: Some("zombie".into()),
            cpu: None,
            resident: None,
            stack: None,
        });
    }
    tasks.sort_by_key(|t| t.id);
    tasks
}
