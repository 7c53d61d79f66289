//! Running Linux processes, stopped through `ptrace`, read through `process_vm_readv` and described by `/proc`.
//!
//! [`attach`] reads what may be read while the process runs, stops every thread, records registers and mappings, and
//! returns a [`Stop`]. Memory is read while the stop lasts; [`Stop::release`] ends it. The process runs on as if
//! nothing had been, whether the stop ends by a release, a drop, an error, or the death of this program:
//!
//! - A thread that waits in a system call waits on. Linux takes up nearly all waits by itself; those that would return
//!   `EINTR` are repaired where they have no time limit, and named in a doubt where they have one.
//! - A signal that was about to be delivered is delivered, and nothing takes it from the thread meanwhile.
//! - A process that was stopped by a signal (SIGSTOP, SIGTSTP) stays stopped.
//!
//! The guard may be sent to other threads, unlike a tracer of most other programs: a thread of its own does the
//! tracing, see `attach.rs`.

mod attach;
mod facts;
mod files;
mod fork;
mod images;
mod mappings;
mod memory;
mod parse;
mod ptrace;
mod refusal;
mod registers;
mod target;
mod threads;

use crate::{Error, Refusal, linux_abi};
use attach::Tracer;
use evidence::{Arch, Doubt, Event, Gaps, Identity, Mapping, Note, Origin, Os, Signal, Target, Thread, ToU64};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
pub use target::LiveTarget;

/// `maps` has some 100 bytes per mapping; more than what is kept of it is not read.
const LIMIT_MAPS: u64 = 64 << 20;

/// What to record, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for a thread that runs, or waits for a CPU. The others stand still meanwhile. A thread that did
    /// not stop is recorded without registers, with a doubt.
    pub stop_wait: Duration,
    /// How long to wait for a thread that waits in the kernel and cannot be interrupted: for a child of `vfork`, a disk, a
    /// network file system. Its program counter and stack pointer are recorded all the same.
    pub uninterruptible_wait: Duration,
    /// The process is let go after this time, measured from the first request to stop, even if nobody released it;
    /// memory then reads as released. Threads not recorded by then stay without registers.
    pub stop_budget: Option<Duration>,
    /// Copy the process while it stands still, let it run on at once, and read the copy: see `fork/mod.rs`. There is no
    /// budget then.
    pub fork: bool,
    /// List open descriptors.
    pub open_files: bool,
    /// Sum up resident memory by kind (`smaps`), which makes the kernel look at every page of the process once.
    pub resident: bool,
    /// Find out beforehand which files are mapped: the stop is shorter by the opening of files, and the whole takes longer
    /// by one more reading of the mappings.
    pub prepare: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stop_wait: Duration::from_secs(5),
            uninterruptible_wait: Duration::from_millis(100),
            stop_budget: None,
            fork: false,
            open_files: true,
            resident: true,
            prepare: true,
        }
    }
}

/// A stopped process. Dropping it lets the process go.
#[derive(Debug)]
pub struct Stop {
    tracer: Tracer,
    target: Arc<LiveTarget>,
}

/// A process that runs again.
#[derive(Debug)]
pub struct Released {
    /// From the first request to stop to the last detach, in microseconds.
    pub stopped_for_us: u64,
    /// The budget ended the stop, before the release did.
    pub out_of_time: bool,
    /// What was recorded.
    pub target: Arc<LiveTarget>,
}

impl Stop {
    /// The stopped process.
    #[must_use]
    pub fn target(&self) -> &(dyn Target + Sync) {
        &*self.target
    }

    /// The stopped process, for those who go on with it after the release: a cache over its memory keeps what it has read.
    #[must_use]
    pub fn shared(&self) -> Arc<LiveTarget> {
        Arc::clone(&self.target)
    }

    /// Lets the process run on. When this returns, every thread that was stopped runs.
    #[must_use = "it says how long the process stood still"]
    pub fn release(mut self) -> Released {
        let ended = self.tracer.release();
        Released {
            stopped_for_us: u64::try_from(ended.stopped_for.as_micros()).unwrap_or(u64::MAX),
            out_of_time: ended.out_of_time,
            target: Arc::clone(&self.target),
        }
    }

    /// Lets the process run on, and gives what was recorded.
    #[must_use]
    pub fn into_target(self) -> Arc<LiveTarget> {
        self.release().target
    }
}

/// Stops a process and records its threads.
///
/// # Errors
/// [`Error::Attach`] with the [`Refusal`]: there is no such process, it is one that nobody can attach to, or this
/// program may not.
pub fn attach(pid: u64, options: &Options) -> Result<Stop, Error> {
    let number = i32::try_from(pid).map_err(|_| Error::Attach { pid, why: Refusal::NoSuchProcess })?;
    attach_to(number, options).map_err(|why| Error::Attach { pid, why })
}

fn attach_to(pid: i32, options: &Options) -> Result<Stop, Refusal> {
    refusal::beforehand(pid)?;
    let before = threads::all_before(pid).map_err(|error| refusal::explain(pid, error))?;
    let tid = threads::with_address_space(pid);
    let mut facts = facts::gather(pid, tid, options);
    let mut held = images::HeldFiles::default();
    let mut prepared = None;
    if (options.prepare || options.fork)
        && let Ok((maps, _)) = files::read(format!("/proc/{tid}/maps"), LIMIT_MAPS)
    {
        let mut mappings = mappings::parse(&maps).0;
        held.describe(tid, &mut mappings);
        if options.fork {
            prepared = Some(fork::Prepared::find(pid, tid, &mappings)?);
        }
    }
    let host = |name: &str| {
        let text = files::text(format!("/proc/sys/kernel/{name}")).ok()?;
        Some(Box::<str>::from(text.trim_end())).filter(|t| !t.is_empty())
    };
    let (host, release) = (host("hostname"), host("osrelease"));

    let gate = Arc::<memory::Gate>::default();
    let tracer = Tracer::start(pid, options, Arc::clone(&gate))?;
    let taken_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    let tid = threads::with_address_space(pid);
    // While the tracing thread asks for registers, this one reads what must belong to the same moment.
    let (maps, more) = files::read(format!("/proc/{tid}/maps"), LIMIT_MAPS)
        .map_err(|source| Refusal::System { doing: format!("reading the mappings of process {pid}").into(), source })?;
    let (mut mappings, problems) = mappings::parse(&maps);
    let mem = File::open(format!("/proc/{tid}/mem")).ok();
    let auxv = facts::auxv(tid);
    held.describe(tid, &mut mappings);
    let attach::Record { outcomes, doubts, pool } = tracer.recorded()?;
    let copy = match prepared {
        Some(prepared) if auxv == facts.auxv => Some(tracer.fork(prepared.job(&outcomes, &mappings)?)?),
        Some(_) => {
            let reason = "it began to run another program right before it was stopped; try again".into();
            return Err(Refusal::NoFork { reason });
        }
        None => None,
    };

    if auxv != facts.auxv {
        facts = facts::gather(pid, tid, options);
        facts.doubts.push(Doubt::new("exec", "the process began to run another program right before it was stopped"));
    }
    let arch = architecture(&facts.auxv, &outcomes);
    let assembled = threads::assemble(pid, arch, before, outcomes, &pool);
    let identity = Identity {
        pid: u64::try_from(pid).ok(),
        parent_pid: facts.parent,
        command: facts.command,
        arguments: facts.arguments,
        executable: facts.executable,
        host,
        release,
        taken_at_ns: taken_at.and_then(|t| u64::try_from(t.as_nanos()).ok()),
        root: facts.root,
        ..Identity::new(Origin::LiveProcess, Os::Linux, arch)
    };
    let mut notes = vec![threads::note("CORE", linux_abi::NT_AUXV, facts.auxv)];
    notes.extend(host_layout());
    notes.extend(assembled.notes);
    let mut attributes = facts.attributes;
    attributes.extend(assembled.attributes);
    let mut all_doubts = facts.doubts;
    all_doubts.extend(problems.into_iter().map(|p| Doubt::new("mappings", p)));
    if more {
        all_doubts.push(Doubt::new("mappings", format!("maps is longer than the {LIMIT_MAPS} bytes that were read")));
    }
    all_doubts.extend(doubts);
    all_doubts.extend(assembled.doubts);
    let mut threads = assembled.threads;
    stack_of_leader(&mut threads, &mappings);
    let status = attributes.iter().find(|a| &*a.key == "proc.status").map(|a| &*a.value).unwrap_or_default();
    let memory = match copy {
        Some(copy) => {
            let (smaps, more) = files::read(format!("/proc/{copy}/smaps"), facts::LIMIT_SMAPS).map_err(|source| {
                Refusal::System { doing: format!("reading the mappings of the copy of process {pid}").into(), source }
            })?;
            if more {
                let why = "what smaps does not tell for lack of room is absent";
                all_doubts.push(Doubt::new("fork", why));
            }
            let mut lacking = fork::Lacking::of(&mappings, &String::from_utf8_lossy(&smaps));
            all_doubts.append(&mut lacking.doubts);
            let mem = File::open(format!("/proc/{copy}/mem")).ok();
            memory::LiveMemory::of_copy(copy, mem, &mappings, gate, |m| lacking.has(m))
        }
        None => memory::LiveMemory::new(tid, mem, &mappings, gate),
    };
    let target = LiveTarget {
        identity,
        memory,
        event: event(&threads, status),
        threads,
        mappings,
        notes,
        attributes,
        open_files: facts.open_files,
        gaps: Gaps { truncated_at: None, filtered_bytes: 0, doubts: all_doubts },
        _held: held,
    };
    Ok(Stop { tracer, target: Arc::new(target) })
}

/// The program's architecture: the auxiliary vector knows its class, whatever mode its threads are in.
fn architecture(auxv: &[u8], outcomes: &[(i32, attach::Outcome)]) -> Arch {
    match (registers::HOST, parse::auxv_is_64_bit(auxv)) {
        (host, Some(true)) => host,
        (Arch::X86_64, Some(false)) => Arch::X86,
        (Arch::Aarch64, Some(false)) => Arch::Arm,
        (host, _) => outcomes
            .iter()
            .find_map(|(_, o)| if let attach::Outcome::Recorded(r, _) = o { Some(r.registers.arch) } else { None })
            .unwrap_or(host),
    }
}

/// Linux marks one stack: that of the first thread.
fn stack_of_leader(threads: &mut [Thread], mappings: &[Mapping]) {
    let Some(stack) = mappings.iter().find(|m| m.path.as_deref() == Some("[stack]")) else { return };
    for thread in threads {
        if thread.registers.sp().is_some_and(|sp| stack.range.contains(&sp)) {
            thread.stack = Some(stack.range.clone());
        }
    }
}

/// A thread that was caught right before a signal that is about to kill the process.
fn event(threads: &[Thread], status: &str) -> Option<Event> {
    let caught = parse::signals(status, "SigCgt")?;
    let deadly = |signal: &Signal| {
        [libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS]
            .contains(&signal.number)
            && u32::try_from(signal.number)
                .ok()
                .and_then(|n| 1_u64.checked_shl(n.checked_sub(1)?))
                .is_some_and(|bit| caught & bit == 0)
    };
    let thread = threads.iter().find(|t| t.signal.as_ref().is_some_and(deadly))?;
    Some(Event { thread: Some(thread.id), signal: thread.signal, ..Event::default() })
}

/// Where this processor puts vector registers in the notes of the threads.
#[cfg(target_arch = "x86_64")]
fn host_layout() -> Option<Note> {
    let body = linux_abi::xstate::Layout::host_note();
    (body.len().to_u64() > 0).then(|| threads::note("LINUX", linux_abi::NT_X86_XSAVE_LAYOUT, body))
}

#[cfg(not(target_arch = "x86_64"))]
fn host_layout() -> Option<Note> {
    None
}
