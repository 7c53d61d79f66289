//! Making a stopped thread fork, and keeping its copy still.

use super::frames::{self, Chain, Gadgets, WORDS, Words, word};
use super::refuse;
use crate::Refusal;
use crate::linux_abi;
use crate::live::linux::attach::Outcome;
use crate::live::linux::ptrace::{self, Change, Pause, Tid};
use crate::live::linux::{files, parse};
use evidence::{Addr, Mapping, ToU64};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Most bytes of code searched: the C library is looked at first and has both pieces in its first megabyte.
const LIMIT_CODE: usize = 64 << 20;
/// Bytes of code read at once, and how much of them overlaps with the next piece.
const PIECE: usize = 1 << 20;
const OVERLAP: usize = 16;

/// What the psABI lets a function use below its stack pointer.
const RED_ZONE: u64 = 128;
/// What must be free below the chain, for the frame of a signal that arrives when the tracer has died.
const FREE_BELOW: u64 = 16 << 10;

/// Threads that are tried, at most.
const LIMIT_TRIES: usize = 8;

/// How long a fork may take: the kernel copies the page tables, some ten milliseconds per resident gigabyte.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user mode selector of 64-bit code (`__USER_CS`).
const CODE_64: u64 = 0x33;

/// What was found while the process still ran.
#[derive(Debug)]
pub(in super::super) struct Prepared {
    pid: Tid,
    gadgets: Gadgets,
}

impl Prepared {
    /// Looks whether the process may be made to fork, and for the code that it takes. `tid` has an address space.
    pub(in super::super) fn find(pid: Tid, tid: Tid, mappings: &[Mapping]) -> Result<Self, Refusal> {
        let status = files::text(format!("/proc/{tid}/status")).unwrap_or_default();
        if parse::value(&status, "HugetlbPages").is_some_and(|v| !v.starts_with("0 ")) {
            return refuse("it uses huge pages of hugetlbfs, which a fork could take from it; capture without --fork");
        }
        if parse::value(&status, "x86_Thread_features").is_some_and(|v| v.contains("shstk")) {
            return refuse("its stacks are guarded by the processor (shadow stacks); capture without --fork");
        }
        if parse::value(&status, "NSpid").is_some_and(|v| v.split_ascii_whitespace().last() == Some("1")) {
            return refuse("it is the init of its pid namespace and would adopt the copy; capture without --fork");
        }
        let Ok(memory) = File::open(format!("/proc/{tid}/mem")) else {
            return refuse("its memory cannot be opened");
        };
        let (mut call, mut restore) = (None, None);
        let code = |m: &&Mapping| m.protection.is_some_and(|p| p.execute && p.read) && m.path.is_some();
        let mut all: Vec<&Mapping> = mappings.iter().filter(code).collect();
        let library = |m: &Mapping| {
            let name = m.path.as_deref().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
            name.starts_with("libc.") || name.starts_with("libc-") || name.starts_with("ld-musl")
        };
        all.sort_by_key(|m| !library(m));
        let mut left = LIMIT_CODE;
        let mut bytes = vec![0; PIECE];
        for mapping in all {
            let mut at = mapping.range.start;
            while at < mapping.range.end && left > 0 && (call.is_none() || restore.is_none()) {
                let here = usize::try_from(mapping.range.end.offset_from(at).unwrap_or(0)).unwrap_or(PIECE).min(PIECE);
                let Ok(got) = memory.read_at(bytes.get_mut(..here).unwrap_or_default(), at.0) else { break };
                frames::search(at.0, bytes.get(..got).unwrap_or_default(), &mut call, &mut restore);
                left = left.saturating_sub(got);
                if got < here || got <= OVERLAP {
                    break;
                }
                at = at.saturating_add(if got < PIECE { got } else { got.saturating_sub(OVERLAP) }.to_u64());
            }
        }
        match (call, restore) {
            (Some(call), Some(restore)) => Ok(Self { pid, gadgets: Gadgets { call, restore } }),
            _ => refuse("its code has no system call that returns, or no trampoline of signals, that could be used"),
        }
    }

    /// The threads that may be made to fork, the best first.
    pub(in super::super) fn job(self, outcomes: &[(Tid, Outcome)], mappings: &[Mapping]) -> Result<Job, Refusal> {
        let mut threads: Vec<(Tid, Option<u64>, Addr)> = Vec::new();
        for (tid, outcome) in outcomes {
            let Outcome::Recorded(recorded, Change::Stopped { group: None }) = outcome else { continue };
            let registers = &recorded.registers;
            let (Some(sp), Some(pointer)) = (registers.sp(), registers.thread_pointer()) else { continue };
            if !is_stack(sp, pointer, mappings) {
                continue;
            }
            threads.push((*tid, recorded.system_call, sp));
            // Threads in calls cannot be inside of a sequence that must not be interrupted.
            if threads.iter().filter(|t| t.1.is_some()).count() >= LIMIT_TRIES {
                break;
            }
        }
        threads.sort_by_key(|(_, call, _)| call.is_none());
        threads.truncate(LIMIT_TRIES);
        let seccomp = |tid: Tid| {
            let status = files::text(format!("/proc/{}/task/{tid}/status", self.pid)).unwrap_or_default();
            parse::number(&status, "Seccomp").unwrap_or(0) != 0
        };
        let found = threads.len();
        threads.retain(|(tid, ..)| !seccomp(*tid));
        if threads.is_empty() {
            return refuse(if found > 0 {
                "a filter of system calls (seccomp) is in force, which might kill it for the fork; capture without --fork"
            } else {
                "no thread is stopped on a stack that is known to be one; capture without --fork"
            });
        }
        Ok(Job {
            pid: self.pid,
            gadgets: self.gadgets,
            threads: threads.into_iter().map(|(t, _, sp)| (t, sp)).collect(),
        })
    }
}

/// Whether the place below `sp` is certainly the unused part of a stack: of the main thread's, which the kernel marks, or
/// of one that ends with the thread's control block and begins behind pages that nobody may touch.
fn is_stack(sp: Addr, pointer: Addr, mappings: &[Mapping]) -> bool {
    let index = mappings.partition_point(|m| m.range.end <= sp);
    let Some(stack) = mappings.get(index).filter(|m| m.range.contains(&sp)) else { return false };
    let guard = index.checked_sub(1).and_then(|i| mappings.get(i));
    let guarded = guard.is_some_and(|g| {
        g.range.end == stack.range.start && g.protection.is_some_and(|p| !p.read && !p.write && !p.execute)
    });
    let marked = stack.path.as_deref() == Some("[stack]");
    let room = sp.offset_from(stack.range.start).unwrap_or(0);
    stack.protection.is_some_and(|p| p.read && p.write)
        && stack.shared == Some(false)
        && (marked || (guarded && stack.range.contains(&pointer) && pointer > sp))
        && room > FREE_BELOW.saturating_mul(2)
}

/// Which threads to try.
#[derive(Debug)]
pub(in super::super) struct Job {
    pid: Tid,
    gadgets: Gadgets,
    threads: Vec<(Tid, Addr)>,
}

/// Why it did not work.
enum Failure {
    /// This thread will not do; nothing has been changed.
    Unfit(&'static str),
    /// Nothing was copied, and the thread is as it was.
    Refused(String),
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Refused(format!("{doing}: {error}"))
}

impl Job {
    /// Makes one of the threads fork. To be called by the tracing thread while all threads are stopped.
    pub(in super::super) fn run(&self) -> Result<Copy, Refusal> {
        let mut last = "no thread could be used";
        // Those whose wait only the kernel can take up again come last: see `frames::taken_up`.
        for timed in [false, true] {
            for (tid, sp) in &self.threads {
                match self.fork(*tid, *sp, timed) {
                    Ok(copy) => return Ok(copy),
                    Err(Failure::Unfit(why)) => last = why,
                    Err(Failure::Refused(why)) => return refuse(why),
                }
            }
        }
        refuse(last)
    }

    /// Threads that may stand otherwise than before.
    pub(in super::super) fn tried(&self) -> impl Iterator<Item = Tid> {
        self.threads.iter().map(|(tid, _)| *tid)
    }

    fn fork(&self, tid: Tid, sp: Addr, timed: bool) -> Result<Copy, Failure> {
        let mut raw = [0_u8; WORDS * 8];
        let size = ptrace::register_set(tid, linux_abi::NT_PRSTATUS, &mut raw).map_err(system("reading registers"))?;
        let mut regs: Words = [0; WORDS];
        for (to, from) in regs.iter_mut().zip(raw.chunks_exact(8)) {
            *to = evidence::bytes::u64_at(from, 0, evidence::bytes::Endian::Little).unwrap_or(0);
        }
        if size != raw.len() || regs[word::CS] != CODE_64 {
            return Err(Failure::Unfit("no thread runs 64-bit code; --fork is for 64-bit programs"));
        }
        if regs[word::RSP] != sp.0 || frames::timed(&regs) != timed {
            return Err(Failure::Unfit("no thread is at a place where it could be made to fork"));
        }
        let mask = ptrace::signal_mask(tid).map_err(system("reading the mask of signals"))?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{tid}/mem"))
            .map_err(system("opening its memory"))?;
        if !frames::in_call(&regs) && in_sequence(tid, &memory) {
            return Err(Failure::Unfit("every thread is inside of a restartable sequence (rseq); try again"));
        }
        let mut vectors = vec![0; 16 << 10];
        let size = ptrace::register_set(tid, linux_abi::NT_X86_XSTATE, &mut vectors)
            .map_err(system("reading vector registers"))?;
        vectors.truncate(size);
        let below = sp.0.saturating_sub(RED_ZONE) & !63;
        let chain = frames::chain(below, &regs, mask, &vectors, self.gadgets)
            .ok_or(Failure::Unfit("the vector registers of this processor are not known"))?;
        let mut before = vec![0; chain.bytes.len()];
        memory.read_exact_at(&mut before, chain.at).map_err(system("reading its stack"))?;
        memory.write_all_at(&chain.bytes, chain.at).map_err(system("writing below its stack"))?;
        let mut thread = Thread { tid, raw, mask, chain, before, memory };
        let made = thread.run();
        let restored = thread.restore();
        let mut copy = made?;
        copy.repair(&thread);
        restored.map_err(system("restoring its registers"))?;
        // It is an orphan now. A process that adopts orphans, and is its grandparent, would get it.
        let status = files::text(format!("/proc/{}/status", copy.tid)).unwrap_or_default();
        if parse::number(&status, "PPid") == u64::try_from(self.pid).ok() {
            return Err(Failure::Refused(
                "the process adopts orphans (PR_SET_CHILD_SUBREAPER) and would notice the copy; capture without --fork"
                    .to_owned(),
            ));
        }
        Ok(copy)
    }
}

/// Whether a running thread is inside of a restartable sequence, from which the kernel has to throw it out.
fn in_sequence(tid: Tid, memory: &File) -> bool {
    /// `rseq_cs` in `struct rseq` (`include/uapi/linux/rseq.h`).
    const SEQUENCE: u64 = 8;
    match ptrace::rseq(tid) {
        Ok(0) => false,
        Ok(at) => {
            let mut word = [0; 8];
            memory.read_exact_at(&mut word, at.wrapping_add(SEQUENCE)).is_err() || word != [0; 8]
        }
        // A kernel before 5.13 cannot say.
        Err(_) => true,
    }
}

/// A thread on its way through the chain.
struct Thread {
    tid: Tid,
    raw: [u8; WORDS * 8],
    mask: u64,
    chain: Chain,
    before: Vec<u8>,
    memory: File,
}

fn bytes_of(words: &Words) -> [u8; WORDS * 8] {
    let mut raw = [0; WORDS * 8];
    for (to, from) in raw.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    raw
}

impl Thread {
    fn load(&self, words: &Words) -> io::Result<()> {
        ptrace::set_register_set(self.tid, linux_abi::NT_PRSTATUS, &mut bytes_of(words))
    }

    /// What the last system call returned.
    fn result(&self) -> io::Result<i64> {
        let mut raw = [0_u8; WORDS * 8];
        ptrace::register_set(self.tid, linux_abi::NT_PRSTATUS, &mut raw)?;
        let offset = word::RAX.saturating_mul(8);
        Ok(evidence::bytes::u64_at(&raw, offset, evidence::bytes::Endian::Little).unwrap_or(0).cast_signed())
    }

    fn run(&mut self) -> Result<Copy, Failure> {
        // Registers first: from then on the thread can do without a tracer, and the chain restores the mask as well.
        self.load(&self.chain.fork).map_err(system("setting registers"))?;
        ptrace::set_signal_mask(self.tid, u64::MAX).map_err(system("blocking signals"))?;
        ptrace::follow(self.tid, false).map_err(system("following the fork"))?;
        let child = self.enter().map_err(system("making it fork"))??;
        let copy = copy_of(child);
        // The thread comes back from its call, but not to its program.
        ptrace::interrupt(self.tid).map_err(system("stopping it again"))?;
        ptrace::go(self.tid, false).map_err(system("ending the call"))?;
        match ptrace::pause(self.tid, PATIENCE).map_err(system("waiting for the end of the call"))? {
            Pause::Trapped => {}
            other => {
                return Err(Failure::Refused(format!("the thread stopped otherwise than it was asked to: {other:?}")));
            }
        }
        self.reap(child).map_err(system("making it reap the child"))?;
        copy.map_err(system("making the copy"))
    }

    /// The child has ended: nobody may find it.
    fn reap(&self, child: Tid) -> io::Result<()> {
        let mut reap = self.chain.reap;
        reap[word::RDI] = u64::try_from(child).unwrap_or(0);
        self.load(&reap)?;
        ptrace::go(self.tid, true)?;
        match ptrace::pause(self.tid, PATIENCE)? {
            Pause::Call => {}
            other => return Err(io::Error::other(format!("the thread stopped otherwise: {other:?}"))),
        }
        ptrace::interrupt(self.tid)?;
        ptrace::go(self.tid, false)?;
        match ptrace::pause(self.tid, PATIENCE)? {
            Pause::Trapped => {}
            other => return Err(io::Error::other(format!("the thread stopped otherwise: {other:?}"))),
        }
        let result = self.result()?;
        if result == i64::from(child) { Ok(()) } else { Err(io::Error::other(format!("wait4 returned {result}"))) }
    }

    /// Goes through the call that forks; gives the child.
    fn enter(&self) -> io::Result<Result<Tid, Failure>> {
        let mut calls = 0;
        loop {
            ptrace::go(self.tid, true)?;
            match ptrace::pause(self.tid, PATIENCE)? {
                Pause::Call if calls == 0 => calls = 1,
                Pause::Cloned => return ptrace::event_message(self.tid).map(Ok),
                Pause::Call => {
                    let errno = i32::try_from(self.result()?.wrapping_neg()).unwrap_or(0);
                    // Registers are restored where the kernel takes up interrupted calls; that is not here.
                    ptrace::interrupt(self.tid)?;
                    ptrace::go(self.tid, false)?;
                    ptrace::pause(self.tid, PATIENCE)?;
                    let error = io::Error::from_raw_os_error(errno);
                    return Ok(Err(Failure::Refused(format!(
                        "the system refuses to fork it: {error} (limits of memory or of processes); capture without --fork"
                    ))));
                }
                _ => {
                    let why = "the thread received a signal before it forked; try again";
                    return Ok(Err(Failure::Refused(why.to_owned())));
                }
            }
        }
    }

    /// The mask first: until the registers are there, the chain would restore both.
    fn restore(&mut self) -> io::Result<()> {
        ptrace::set_signal_mask(self.tid, self.mask)?;
        ptrace::set_register_set(self.tid, linux_abi::NT_PRSTATUS, &mut self.raw)?;
        self.memory.write_all_at(&self.before, self.chain.at)?;
        ptrace::follow_not(self.tid)
    }
}

/// The child forks the copy, and ends.
fn copy_of(child: Tid) -> io::Result<Copy> {
    let made = second(child);
    // It has done what it was there for; it runs to its end, or is killed on the way.
    let _ = ptrace::kill(child);
    ptrace::bury(child)?;
    made
}

fn second(child: Tid) -> io::Result<Copy> {
    match ptrace::pause(child, PATIENCE)? {
        Pause::Trapped => {}
        other => return Err(io::Error::other(format!("the child did not stop: {other:?}"))),
    }
    ptrace::follow(child, true)?;
    ptrace::go(child, false)?;
    match ptrace::pause(child, PATIENCE)? {
        Pause::Cloned => {}
        other => return Err(io::Error::other(format!("the child did not fork: {other:?}"))),
    }
    let copy = Copy { tid: ptrace::event_message(child)? };
    match ptrace::pause(copy.tid, PATIENCE)? {
        Pause::Trapped => Ok(copy),
        other => Err(io::Error::other(format!("the copy did not stop: {other:?}"))),
    }
}

/// The copy. Dropping it kills it; the tracing thread has to do that.
#[derive(Debug)]
pub(in super::super) struct Copy {
    tid: Tid,
}

impl Copy {
    /// Its process.
    pub(in super::super) fn tid(&self) -> Tid {
        self.tid
    }

    /// Takes the chain off its stack.
    fn repair(&mut self, thread: &Thread) {
        if let Ok(memory) = File::options().write(true).open(format!("/proc/{}/mem", self.tid)) {
            let _ = memory.write_all_at(&thread.before, thread.chain.at);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if ptrace::kill(self.tid).is_ok() {
            let _ = ptrace::bury(self.tid);
        }
    }
}
