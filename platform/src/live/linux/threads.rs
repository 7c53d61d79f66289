//! Threads: what `/proc` said right before the stop, joined with what the tracer recorded in it.

use super::attach::Outcome;
use super::ptrace::{Change, Tid};
use super::registers::{HOST, Pool, decode_vectors};
use super::{files, parse};
use evidence::{Arch, Attribute, Context, Doubt, Note, Register, Registers, Thread, ThreadId, ThreadState};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// How many threads are recorded. Each takes up to 6 KiB with vector registers and its kernel stack, so this bounds a
/// capture to 400 MB; Linux itself allows 4 million in a whole system, and no real program comes near.
pub(super) const LIMIT_THREADS: usize = 65_536;

/// A kernel stack as text: 64 frames at most, each of a line.
const LIMIT_KERNEL_STACK: u64 = 16_384;

/// The threads of a process in ascending order, and whether these are all.
pub(super) fn list(pid: Tid) -> io::Result<(Vec<Tid>, bool)> {
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // The directory of a process that ends while it is read answers ESRCH.
        let Some(tid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        if tids.len() >= LIMIT_THREADS {
            return Ok((tids, false));
        }
        tids.push(tid);
    }
    tids.sort_unstable();
    Ok((tids, true))
}

/// The letter of a thread's state, or `None` when it is gone.
pub(super) fn state(pid: Tid, tid: Tid) -> Option<char> {
    let (stat, _) = files::read(format!("/proc/{pid}/task/{tid}/stat"), files::LIMIT_TEXT).ok()?;
    parse::stat(&stat).map(|s| s.state)
}

/// The first thread that still has its address space. A leader that has ended while others run has given it up, and
/// `/proc/PID/maps` and its relatives are empty then; those of any other thread are not.
pub(super) fn with_address_space(pid: Tid) -> Tid {
    let alive = |tid: &Tid| state(pid, *tid).is_some_and(|s| !matches!(s, 'Z' | 'X' | 'x'));
    if alive(&pid) {
        return pid;
    }
    list(pid).ok().and_then(|(tids, _)| tids.into_iter().find(alive)).unwrap_or(pid)
}

/// What `/proc` says of a thread that runs: in a stop, all threads are merely stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pub stat: parse::Stat,
    wait_channel: Option<Box<str>>,
    kernel_stack: Option<Box<str>>,
}

/// Looks at one thread.
pub(super) fn before(pid: Tid, tid: Tid, kernel_stacks: &mut bool) -> Option<Before> {
    let folder = format!("/proc/{pid}/task/{tid}");
    let (stat, _) = files::read(format!("{folder}/stat"), files::LIMIT_TEXT).ok()?;
    let stat = parse::stat(&stat)?;
    let waits = !matches!(stat.state, 'R' | 'Z' | 'X' | 'x');
    let wait_channel = files::text(format!("{folder}/wchan")).ok().filter(|w| waits && !w.is_empty() && w != "0");
    let mut kernel_stack = None;
    if *kernel_stacks && waits {
        match files::read(format!("{folder}/stack"), LIMIT_KERNEL_STACK) {
            Ok((bytes, _)) if !bytes.is_empty() => {
                kernel_stack = Some(String::from_utf8_lossy(&bytes).trim_end().into());
            }
            Ok(_) => {}
            // Not root, or a kernel without the file: the same for all others.
            Err(error) => *kernel_stacks = error.raw_os_error() == Some(libc::ESRCH),
        }
    }
    Some(Before { stat, wait_channel: wait_channel.map(Into::into), kernel_stack })
}

/// All threads, as they are before the stop.
pub(super) fn all_before(pid: Tid) -> io::Result<BTreeMap<Tid, Before>> {
    let mut kernel_stacks = true;
    let (tids, _) = list(pid)?;
    Ok(tids.into_iter().filter_map(|tid| Some((tid, before(pid, tid, &mut kernel_stacks)?))).collect())
}

/// Threads and the facts about them.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    pub threads: Vec<Thread>,
    pub notes: Vec<Note>,
    pub attributes: Vec<Attribute>,
    pub doubts: Vec<Doubt>,
}

/// Joins what was seen before the stop with what was recorded in it. `arch` is the program's, for threads whose
/// registers are unknown.
pub(super) fn assemble(
    pid: Tid,
    arch: Arch,
    mut before: BTreeMap<Tid, Before>,
    outcomes: Vec<(Tid, Outcome)>,
    pool: &Pool,
) -> Assembled {
    let mut out = Assembled::default();
    for (tid, outcome) in outcomes {
        // A thread that was created after the look before the stop: all that can be seen is our own stop.
        let (seen, new) = match before.remove(&tid) {
            Some(seen) => (seen, false),
            None => (self::before(pid, tid, &mut false).unwrap_or_default(), true),
        };
        let id = ThreadId(u64::try_from(tid).unwrap_or(0));
        let mut thread = Thread::new(id, Context::Lwp, Registers::new(arch));
        thread.cpu = seen.stat.cpu;
        thread.name = (!seen.stat.name.is_empty()).then(|| seen.stat.name.as_str().into());
        let mut state = ThreadState {
            word: seen.stat.word().into(),
            system_call: None,
            wait_channel: if new { None } else { seen.wait_channel },
        };
        match outcome {
            Outcome::Recorded(recorded, change) => {
                state.system_call = recorded.system_call;
                if recorded.system_call.is_none() && matches!(&*state.word, "sleeping" | "disk-sleep") {
                    // It had left its wait before it was stopped.
                    (state.word, state.wait_channel) = ("running".into(), None);
                }
                if let Change::Stopped { group: Some(_) } = change {
                    state.word = "stopped".into();
                }
                thread.registers = recorded.registers;
                thread.signal_mask = recorded.signal_mask;
                thread.signal_pending = recorded.signal_pending;
                thread.debug_registers = recorded.debug_registers.map(Vec::from);
                if let Some((kind, range)) = recorded.vectors {
                    let body: Arc<[u8]> = Arc::from(pool.get(&range));
                    decode_vectors(&mut thread.registers, &body);
                    let owner = if HOST == Arch::X86_64 { "LINUX" } else { "CORE" };
                    out.notes.push(Note { owner: owner.into(), kind, thread: Some(id), body });
                }
                if let Some((signal, body)) = recorded.signal {
                    thread.signal = Some(signal);
                    let kind = crate::linux_abi::NT_SIGINFO;
                    out.notes.push(Note { owner: "CORE".into(), kind, thread: Some(id), body });
                }
                out.doubts.extend(recorded.doubts);
            }
            other => without_registers(pid, tid, &other, &mut thread, &mut state, &mut out.doubts),
        }
        if let Some(stack) = seen.kernel_stack.filter(|_| &*state.word != "running") {
            out.attributes.push(Attribute { key: "thread.kernel_stack".into(), thread: Some(id), value: stack });
        }
        thread.state = Some(state);
        out.threads.push(thread);
    }
    out
}

/// A thread that the tracer could not ask: what `/proc` knows of it, and why it is not more.
fn without_registers(
    pid: Tid,
    tid: Tid,
    outcome: &Outcome,
    thread: &mut Thread,
    state: &mut ThreadState,
    doubts: &mut Vec<Doubt>,
) {
    let folder = format!("/proc/{pid}/task/{tid}");
    if let Ok(status) = files::text(format!("{folder}/status")) {
        thread.signal_mask = parse::signals(&status, "SigBlk");
        thread.signal_pending = parse::signals(&status, "SigPnd");
    }
    let why = match outcome {
        Outcome::DeadLeader => {
            state.word = "zombie".into();
            format!("thread {tid}, the process's first, has ended while others run: it has no registers")
        }
        Outcome::Unstoppable(letter) => {
            let blocked = files::text(format!("{folder}/syscall")).ok().and_then(|t| parse::blocked(&t));
            let waits = state.wait_channel.as_deref().unwrap_or("the kernel");
            let known = blocked.is_some();
            let why = format!(
                "thread {tid} (state {letter}) could not be stopped while it waits in {waits}, for instance for a child of \
                 vfork, a disk or a network file system; {}",
                if known {
                    "only its program counter, stack pointer and system call arguments are known"
                } else {
                    "nothing is known of its registers"
                }
            );
            if let Some(blocked) = blocked {
                state.system_call = blocked.system_call;
                thread.registers = registers_of_blocked(thread.registers.arch, &blocked);
            }
            why
        }
        Outcome::Refused(error) => format!("thread {tid} could not be attached to and ran on: {error}"),
        Outcome::OutOfTime => {
            format!("thread {tid}: the time budget for the stop was used up before its registers were read")
        }
        Outcome::Recorded(..) => return,
    };
    doubts.push(Doubt::new("thread", why));
}

/// The registers that `/proc/PID/task/TID/syscall` gives away.
fn registers_of_blocked(arch: Arch, blocked: &parse::Blocked) -> Registers {
    let mut registers = Registers::new(arch);
    registers.set(Registers::pc_register(arch), blocked.program_counter);
    registers.set(Registers::sp_register(arch), blocked.stack_pointer);
    // The registers that carry the arguments keep their values in a call.
    let carriers: &[u16] = match arch {
        Arch::X86_64 => &[5, 4, 1, 10, 8, 9],
        Arch::X86 => &[3, 1, 2, 6, 7, 5],
        Arch::Aarch64 => &[0, 1, 2, 3, 4, 5],
        Arch::Arm | Arch::Other => &[],
    };
    for (number, value) in carriers.iter().zip(blocked.arguments.unwrap_or_default()) {
        if blocked.arguments.is_some() {
            registers.set(Register(*number), value);
        }
    }
    registers
}

/// An attribute of the whole process.
pub(super) fn attribute(key: &str, value: impl Into<Box<str>>) -> Attribute {
    Attribute { key: key.into(), thread: None, value: value.into() }
}

/// A note of the whole process.
pub(super) fn note(owner: &str, kind: u32, body: Vec<u8>) -> Note {
    Note { owner: owner.into(), kind, thread: None, body: Arc::from(body) }
}
