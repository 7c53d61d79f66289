//! Every thread of the kernel: of programs, of the kernel itself, interrupt threads.
//!
//! Sources: sys/thread.h (`_kthread`), sys/proc.h, sys/cpuvar.h of illumos-gate; uts/intel/ml/swtch.s for what a
//! switched-out thread left behind.

use super::Illumos;
use evidence::{Addr, Arch, Context, Register, Registers, Thread, ThreadId, ThreadState};
use snapshot_format::schema;
use std::collections::{HashMap, HashSet};

/// `TS_*`.
const SLEEP: u64 = 1;
const RUN: u64 = 2;
const ONPROC: u64 = 4;
const ZOMBIE: u64 = 8;
const STOPPED: u64 = 0x10;
const WAIT: u64 = 0x20;

/// A process.
struct Process {
    pid: u64,
    parent: Option<u64>,
    name: Option<String>,
}

/// All threads, and the rows of the table of tasks.
pub(super) fn all(illumos: &Illumos<'_>) -> (Vec<Thread>, Vec<schema::Task>) {
    let processes = processes(illumos);
    let cpus = cpus(illumos);
    let first = illumos.variable("allthreads").map(Addr);
    let list = first.map_or_else(Vec::new, |at| illumos.list(at, "_kthread", "t_next", "kernel-threads"));
    if list.is_empty() {
        illumos.doubt("kernel-threads", "no thread was found: `allthreads` is no symbol, or leads nowhere");
    }
    let panicking = illumos.variable("panic_thread");
    let mut used = HashSet::new();
    let mut threads = Vec::new();
    let mut tasks = Vec::new();
    for at in list {
        // t_did is unique in a sound kernel; where it is not, the address is.
        let id = illumos.number(at, "_kthread", "t_did").filter(|id| *id != 0).unwrap_or(at.0);
        let id = if used.insert(id) { id } else { at.0 };
        let process = illumos.pointer(at, "_kthread", "t_procp").and_then(|p| Some((p, processes.get(&p)?)));
        let state = illumos.number(at, "_kthread", "t_state").unwrap_or(u64::MAX);
        let running = cpus.iter().find(|(_, thread)| *thread == at).map(|(number, _)| *number);
        let own = illumos.pointed(at, "_kthread", "t_name");
        let start = illumos.pointer(at, "_kthread", "t_startpc").and_then(|pc| illumos.symbols.name(pc));
        let lwp = illumos.pointer(at, "_kthread", "t_lwp").is_some();
        let name = own.or(if lwp { None } else { start }).or_else(|| process.as_ref()?.1.name.clone());
        let word = word(state);
        let registers = if panicking == Some(at.0) { None } else { registers(illumos, at, state) };
        let context = match running {
            Some(number) => Context::Cpu(number),
            None => Context::Task,
        };
        let mut thread = Thread::new(ThreadId(id), context, registers.unwrap_or_else(|| Registers::new(Arch::X86_64)));
        thread.process = process.as_ref().map(|(_, p)| p.pid);
        thread.cpu = running;
        thread.name = name.as_deref().map(Into::into);
        let channel = illumos.pointer(at, "_kthread", "t_wchan").filter(|_| state == SLEEP);
        thread.state = Some(ThreadState {
            word: word.into(),
            system_call: None,
            wait_channel: channel.map(|c| illumos.symbols.name(c).unwrap_or_else(|| format!("{c}")).into()),
        });
        let top = illumos.pointer(at, "_kthread", "t_stk");
        let base = illumos.pointer(at, "_kthread", "t_stkbase");
        thread.stack = base.zip(top).filter(|(b, t)| b < t).map(|(b, t)| b..t.saturating_add(256));
        tasks.push(schema::Task {
            id,
            pid: thread.process,
            parent_pid: process.as_ref().and_then(|(_, p)| p.parent),
            address: Some(at.0),
            name,
            state: Some(word.to_owned()),
            cpu: running.map(u64::from),
            resident: None,
            stack: None,
        });
        threads.push(thread);
    }
    (threads, tasks)
}

const fn word(state: u64) -> &'static str {
    match state {
        0 => "free",
        SLEEP => "sleeping",
        RUN => "runnable",
        ONPROC => "running",
        ZOMBIE => "zombie",
        STOPPED => "stopped",
        WAIT => "waiting",
        _ => "unknown",
    }
}

fn processes(illumos: &Illumos<'_>) -> HashMap<Addr, Process> {
    let first = illumos.variable("practive").map(Addr);
    let mut list = first.map_or_else(Vec::new, |at| illumos.list(at, "proc", "p_next", "kernel-processes"));
    // The kernel's own process ends the list, unless the list is cut.
    if let Some(p0) = illumos.symbols.find("p0").map(Addr).filter(|p| !list.contains(p)) {
        list.push(p0);
    }
    let pid = |at: Addr| illumos.pointer(at, "proc", "p_pidp").and_then(|p| illumos.number(p, "pid", "pid_id"));
    let process = |at: Addr| {
        let name = illumos.fields.text(at, "proc", "p_user.u_comm").ok().filter(|n| !n.is_empty());
        let parent = illumos.number(at, "proc", "p_ppid").or_else(|| pid(illumos.pointer(at, "proc", "p_parent")?));
        Some((at, Process { pid: pid(at)?, parent, name }))
    };
    list.into_iter().filter_map(process).collect()
}

/// CPU numbers and what runs on them. When the kernel panicked, `panic_cpu` is a copy of one of them from that moment.
fn cpus(illumos: &Illumos<'_>) -> Vec<(u32, Addr)> {
    let first = illumos.variable("cpu_list").map(Addr).filter(|a| a.0 != 0);
    let list = first.map_or_else(Vec::new, |at| illumos.list(at, "cpu", "cpu_next", "kernel-cpus"));
    let id = |at: Addr| illumos.number(at, "cpu", "cpu_id").and_then(|n| u32::try_from(n).ok());
    let copy = illumos
        .symbols
        .find("panic_cpu")
        .map(Addr)
        .filter(|_| illumos.variable("panicstr").is_some_and(|p| p != 0))
        .and_then(|at| Some((id(at)?, illumos.pointer(at, "cpu", "cpu_thread")?)));
    let mut cpus: Vec<(u32, Addr)> = Vec::new();
    for at in list {
        let Some(number) = id(at) else { continue };
        let thread = copy.filter(|(n, _)| *n == number).map(|(_, t)| t);
        let thread = thread.or_else(|| illumos.pointer(at, "cpu", "cpu_thread"));
        cpus.extend(thread.map(|t| (number, t)));
    }
    cpus
}

/// Where a thread's stack begins. A switched-out thread pushed its frame pointer last, at `t_sp`; one that stood on
/// another CPU during the panic was stopped in `panic_idle`, which saves its registers as `setjmp` does. Of others
/// nothing is known.
fn registers(illumos: &Illumos<'_>, at: Addr, state: u64) -> Option<Registers> {
    let member = illumos.fields.layouts.member("_kthread", "t_pcb")?;
    let label = |n: u64| illumos.fields.pointer_at(at.wrapping_add(member.offset).wrapping_add(n.checked_mul(8)?)).ok();
    let (pc, sp, fp) = (label(0)?, label(1)?, label(2)?);
    let mut registers = Registers::new(Arch::X86_64);
    if state == ONPROC {
        if illumos.symbols.function(pc) != Some("panic_idle") {
            let why = format!("the thread at {at} ran on a CPU that saved no registers: its stack is not known");
            illumos.doubt("kernel-threads", why);
            return None;
        }
        let saved = [(16, pc), (7, sp), (6, fp)];
        saved.into_iter().for_each(|(number, value)| registers.set(Register(number), value.0));
        return Some(registers);
    }
    if state == ZOMBIE || state == 0 || sp.0 == 0 {
        return None;
    }
    let (caller, back) = (illumos.fields.pointer_at(sp).ok()?, illumos.fields.pointer_at(sp.checked_add(8)?).ok()?);
    let above = sp.checked_add(16)?;
    for (number, value) in [(16, back), (7, above), (6, caller)] {
        registers.set(Register(number), value.0);
    }
    // rbx and r12 to r15 as the thread saved them in its label.
    for (number, place) in [(3, 3), (12, 4), (13, 5), (14, 6), (15, 7)] {
        if let Some(value) = label(place) {
            registers.set(Register(number), value.0);
        }
    }
    Some(registers)
}
