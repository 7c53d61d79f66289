//! Stopping every thread of a process, and letting all of them go.
//!
//! A thread of its own does all of the tracing, because the kernel ties a tracee to the thread that seized it. That
//! also is the safety net: when the tracing thread ends, for whatever reason, the kernel lets go of everything that it
//! still holds. Group stops stay, waits go on, and signals that were about to be delivered are delivered. So a tracee
//! that could not be stopped, and could therefore not be detached, is freed by the end of the thread; and SIGKILL of the
//! whole program does for all tracees what a release does.

use super::fork;
use super::memory::Gate;
use super::ptrace::{self, Change, Tid};
use super::registers::{Pool, Recorded, record};
use super::{Options, refusal, threads};
use crate::Refusal;
use evidence::Doubt;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the list of threads is read again because it had new ones. Every pass stops all threads it sees, so a
/// pass with new ones means that running threads had created them; a program that outruns this many is attacking.
const LIMIT_PASSES: usize = 64;

/// After this long without an answer a thread's state is looked at.
const PATIENCE: Duration = Duration::from_millis(10);

/// How a thread stands.
#[derive(Debug)]
pub(super) enum Held {
    /// Seized, asked to stop, not stopped yet.
    Asked,
    /// Stopped.
    Stopped(Change),
    /// It did not stop within the time it was given; how the kernel describes its state.
    Unstoppable(char),
    /// The leader has ended and the others have not.
    DeadLeader,
    /// It could not be seized.
    Refused(io::Error),
    /// It ended meanwhile.
    Gone,
}

/// One thread as it was recorded.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large variant; a box each would be allocated in the stop"
)]
pub(super) enum Outcome {
    Recorded(Recorded, Change),
    Unstoppable(char),
    DeadLeader,
    Refused(io::Error),
    /// The budget for the stop was used up before it was this thread's turn.
    OutOfTime,
}

/// What was recorded in a stop.
#[derive(Debug)]
pub(super) struct Record {
    /// In the order of the threads' numbers.
    pub outcomes: Vec<(Tid, Outcome)>,
    pub doubts: Vec<Doubt>,
    /// The raw vector registers that the outcomes point into.
    pub pool: Pool,
}

/// What the tracing thread has to say, in this order.
enum Message {
    Refused(Refusal),
    /// Everything that can be stopped is.
    Stopped,
    Recorded(Record),
    /// The process runs on, and a copy of it stands still.
    Forked(Tid),
}

/// What the tracing thread is asked for; the end of the channel asks for the release.
type Command = fork::Job;

/// How a stop ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// From the first request to stop to the last detach.
    pub stopped_for: Duration,
    /// The budget ended it, not a release.
    pub out_of_time: bool,
}

/// The tracing thread, seen from outside.
#[derive(Debug)]
pub(super) struct Tracer {
    messages: Receiver<Message>,
    release: Option<Sender<Command>>,
    thread: Option<JoinHandle<Ended>>,
}

impl Tracer {
    /// Starts stopping the process, and returns once everything that can be stopped is. `gate` is closed right before
    /// the process runs on.
    pub(super) fn start(pid: Tid, options: &Options, gate: Arc<Gate>) -> Result<Self, Refusal> {
        let (send, messages) = channel();
        let (release, released) = channel();
        let options = options.clone();
        let thread = std::thread::Builder::new()
            .name("tracer".into())
            .spawn(move || trace(pid, &options, &gate, &send, &released))
            .map_err(|source| Refusal::System { doing: "starting a thread".into(), source })?;
        let tracer = Self { messages, release: Some(release), thread: Some(thread) };
        match tracer.messages.recv() {
            Ok(Message::Stopped) => Ok(tracer),
            Ok(Message::Refused(why)) => Err(why),
            Ok(Message::Recorded(_) | Message::Forked(_)) | Err(_) => Err(ended_early()),
        }
    }

    /// What was recorded of each thread.
    pub(super) fn recorded(&self) -> Result<Record, Refusal> {
        match self.messages.recv() {
            Ok(Message::Recorded(record)) => Ok(record),
            Ok(Message::Refused(why)) => Err(why),
            Ok(Message::Stopped | Message::Forked(_)) | Err(_) => Err(ended_early()),
        }
    }

    /// Copies the process and lets it go; gives the copy's number. The copy stands still until the release.
    pub(super) fn fork(&self, job: fork::Job) -> Result<Tid, Refusal> {
        if let Some(commands) = &self.release {
            let _ = commands.send(job);
        }
        match self.messages.recv() {
            Ok(Message::Forked(copy)) => Ok(copy),
            Ok(Message::Refused(why)) => Err(why),
            Ok(Message::Stopped | Message::Recorded(_)) | Err(_) => Err(ended_early()),
        }
    }

    /// Lets the process go.
    pub(super) fn release(&mut self) -> Ended {
        self.release = None;
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.release();
    }
}

fn ended_early() -> Refusal {
    Refusal::System { doing: "tracing".into(), source: io::Error::other("the tracing thread ended early") }
}

/// The tracing thread.
fn trace(pid: Tid, options: &Options, gate: &Gate, messages: &Sender<Message>, release: &Receiver<Command>) -> Ended {
    let mut tracees = Tracees {
        pid,
        held: BTreeMap::new(),
        first: None,
        doubts: Vec::new(),
        pool: Pool::default(),
        outcomes: Vec::new(),
    };
    if let Err(why) = tracees.stop_all(options) {
        gate.close();
        tracees.let_go();
        let _ = messages.send(Message::Refused(why));
        return Ended::default();
    }
    let _ = messages.send(Message::Stopped);
    let until = options.stop_budget.and_then(|budget| tracees.first?.checked_add(budget));
    let outcomes = tracees.record_all(until);
    let _ = messages.send(Message::Recorded(Record {
        outcomes,
        doubts: std::mem::take(&mut tracees.doubts),
        pool: std::mem::take(&mut tracees.pool),
    }));
    // A release is the end of the other end of this channel: so it also is one when its owner panics.
    let asked = match until {
        Some(until) => release.recv_timeout(until.saturating_duration_since(Instant::now())),
        None => release.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    let out_of_time = matches!(asked, Err(RecvTimeoutError::Timeout));
    let Ok(job) = asked else {
        gate.close();
        return Ended { stopped_for: tracees.let_go(), out_of_time };
    };
    let made = job.run();
    for tid in job.tried() {
        // A signal may have come on the way: it is still to be delivered.
        if let Ok(Some(change @ (Change::Stopped { .. } | Change::Signalled(_)))) = ptrace::look(tid) {
            tracees.held.insert(tid, Held::Stopped(change));
        }
    }
    let ended = Ended { stopped_for: tracees.let_go(), out_of_time };
    match made {
        Ok(copy) => {
            let _ = messages.send(Message::Forked(copy.tid()));
            let _ = release.recv();
            gate.close();
        }
        Err(why) => {
            gate.close();
            let _ = messages.send(Message::Refused(why));
        }
    }
    ended
}

/// The threads of one process, from the tracing thread's point of view.
struct Tracees {
    pid: Tid,
    held: BTreeMap<Tid, Held>,
    first: Option<Instant>,
    doubts: Vec<Doubt>,
    /// Where vector registers go, and room for the outcomes: made before anything stands still.
    pool: Pool,
    outcomes: Vec<(Tid, Outcome)>,
}

impl Tracees {
    /// Seizes all, then asks all to stop, then waits for all; until no thread is left that was not seen.
    fn stop_all(&mut self, options: &Options) -> Result<(), Refusal> {
        for pass in 0..LIMIT_PASSES {
            let mut new = self.seize_new()?;
            if self.first.is_none() {
                // Nothing stands still yet: the cheapest time to catch what was created meanwhile.
                for _ in 0..4 {
                    let more = self.seize_new()?;
                    if more.is_empty() {
                        break;
                    }
                    new.extend(more);
                }
            }
            if new.is_empty() && pass > 0 {
                return self.nothing_held();
            }
            if self.first.is_none() {
                let count = self.held.len();
                self.pool = Pool::for_threads(count);
                self.outcomes = Vec::with_capacity(count.saturating_add(count / 8));
            }
            self.first.get_or_insert_with(Instant::now);
            for tid in new {
                if ptrace::interrupt(tid).is_err() {
                    // It has ended, or (the leader) is ending; the wait finds out which.
                    self.held.insert(tid, Held::Asked);
                }
            }
            self.wait_for_all(options);
        }
        self.doubts.push(Doubt::new(
            "threads",
            format!(
                "the process created threads faster than they could be stopped: after {LIMIT_PASSES} passes there were \
                 new ones still; those run on, and what they change meanwhile may contradict what was recorded"
            ),
        ));
        self.nothing_held()
    }

    /// An attach that holds no thread at all has no result.
    fn nothing_held(&self) -> Result<(), Refusal> {
        let any = self.held.values().any(|h| matches!(h, Held::Stopped(_) | Held::Unstoppable(_)));
        if any { Ok(()) } else { Err(refusal::nothing_left(self.pid)) }
    }

    /// Seizes threads that were not seen before; they run on until they are asked to stop.
    fn seize_new(&mut self) -> Result<Vec<Tid>, Refusal> {
        let (listed, complete) = threads::list(self.pid).map_err(|error| refusal::explain(self.pid, error))?;
        if !complete {
            self.doubts.push(Doubt::new(
                "threads",
                format!("the process has more than {} threads; the others are left out and run on", listed.len()),
            ));
        }
        let mut seized = Vec::new();
        for tid in listed {
            // A number may come back: a thread that went may have been followed by another one.
            if self.held.get(&tid).is_some_and(|h| !matches!(h, Held::Gone)) {
                continue;
            }
            let held = match ptrace::seize(tid) {
                Ok(()) => {
                    seized.push(tid);
                    Held::Asked
                }
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
                Err(error) => match threads::state(self.pid, tid) {
                    None | Some('X' | 'x') => continue,
                    Some('Z') if tid == self.pid => Held::DeadLeader,
                    Some('Z') => continue,
                    // The first refusal is about the process: nothing has been stopped yet.
                    Some(_) if self.first.is_none() && !self.held.values().any(|h| matches!(h, Held::Asked)) => {
                        return Err(refusal::explain(self.pid, error));
                    }
                    Some(_) => Held::Refused(error),
                },
            };
            self.held.insert(tid, held);
        }
        Ok(seized)
    }

    /// Waits until each thread has stopped, ended, or shown that it will not.
    fn wait_for_all(&mut self, options: &Options) {
        let asked = Instant::now();
        let mut rounds = 0_u32;
        loop {
            let waited = asked.elapsed();
            let mut left = 0_usize;
            for (tid, held) in self.held.iter_mut().filter(|(_, h)| matches!(h, Held::Asked)) {
                match ptrace::look(*tid) {
                    Ok(Some(Change::Ended)) | Err(_) => *held = after_end(self.pid, *tid),
                    Ok(Some(change)) => *held = Held::Stopped(change),
                    Ok(None) if waited >= PATIENCE => match threads::state(self.pid, *tid) {
                        None | Some('X' | 'x') => *held = Held::Gone,
                        Some('Z') => *held = after_end(self.pid, *tid),
                        // Uninterruptible: waiting for a vfork child, for a disk, for a frozen control group.
                        Some(state @ ('D' | 'I')) if waited >= options.uninterruptible_wait => {
                            *held = Held::Unstoppable(state);
                        }
                        Some(state) if waited >= options.stop_wait => *held = Held::Unstoppable(state),
                        Some(_) => left = left.saturating_add(1),
                    },
                    Ok(None) => left = left.saturating_add(1),
                }
            }
            if left == 0 {
                return;
            }
            // A stop takes microseconds on an idle CPU; on a busy one the tracees need ours.
            rounds = rounds.saturating_add(1);
            if rounds < 16 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(if waited < PATIENCE {
                    Duration::from_micros(50)
                } else {
                    Duration::from_millis(1)
                });
            }
        }
    }

    fn record_all(&mut self, until: Option<Instant>) -> Vec<(Tid, Outcome)> {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        for (tid, held) in &mut self.held {
            outcomes.push((
                *tid,
                match held {
                    Held::Stopped(_) if until.is_some_and(|u| Instant::now() >= u) => Outcome::OutOfTime,
                    Held::Stopped(change) => Outcome::Recorded(record(*tid, *change, &mut self.pool), *change),
                    Held::Unstoppable(state) => Outcome::Unstoppable(*state),
                    Held::DeadLeader => Outcome::DeadLeader,
                    Held::Refused(error) => Outcome::Refused(io::Error::new(error.kind(), error.to_string())),
                    Held::Asked | Held::Gone => continue,
                },
            ));
        }
        outcomes
    }

    /// Lets every thread go, each with the signal that it was about to receive.
    fn let_go(&mut self) -> Duration {
        for (tid, held) in std::mem::take(&mut self.held) {
            let signal = match held {
                Held::Stopped(Change::Signalled(signal)) => signal,
                Held::Stopped(_) => 0,
                // It may have stopped after all, also for a signal.
                Held::Asked | Held::Unstoppable(_) => match ptrace::look(tid) {
                    Ok(Some(Change::Signalled(signal))) => signal,
                    _ => 0,
                },
                Held::DeadLeader | Held::Refused(_) | Held::Gone => continue,
            };
            // A failure means that it was killed meanwhile, or never stopped. The end of this thread frees it.
            let _ = ptrace::detach(tid, signal);
        }
        self.first.map(|f| f.elapsed()).unwrap_or_default()
    }
}

/// What an ended tracee is: the leader of a process stays in the list while others run.
fn after_end(pid: Tid, tid: Tid) -> Held {
    if tid == pid && threads::state(pid, tid) == Some('Z') { Held::DeadLeader } else { Held::Gone }
}
