//! Stopping and letting go.
//!
//! `PT_ATTACH` stops all of a process at once; its first stop is by the SIGSTOP of the attach itself, which the detach
//! takes away again. A process that was stopped before stays stopped.

use super::abi::{EBUSY, EPERM, ESRCH, SIGSTOP};
use super::system::System;
use crate::{Error, Refusal};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at whether it has stopped.
const PAUSE: Duration = Duration::from_micros(200);

/// Why the system refused, in words that help.
pub(super) fn refusal(pid: u64, doing: &'static str, source: io::Error) -> Error {
    let forbidden = |reason: &str| Refusal::Forbidden { reason: reason.into() };
    let why = match source.raw_os_error() {
        Some(ESRCH) => Refusal::NoSuchProcess,
        Some(EBUSY) => forbidden("another program traces it (truss, gdb, lldb); end or detach that one first"),
        Some(EPERM) => forbidden(
            "permission denied: run as the same user or as root; security.bsd.unprivileged_proc_debug=0, a jail or a \
             securelevel may forbid it, too",
        ),
        _ => Refusal::System { doing: doing.into(), source },
    };
    Error::Attach { pid, why }
}

struct State {
    system: Box<dyn System>,
    /// The signal to let it go with.
    signal: i32,
    released: Option<(Instant, bool)>,
}

/// A stopped process.
pub(super) struct Held {
    state: Mutex<State>,
    ended: Condvar,
    pid: i32,
    since: Instant,
}

/// `WIFSTOPPED` and `WSTOPSIG`.
const fn stop_signal(status: i32) -> Option<i32> {
    if status & 0xff == 0x7f { Some(status >> 8 & 0xff) } else { None }
}

impl Held {
    /// Attaches and waits at most `wait` for the stop.
    pub(super) fn stop(
        number: u64,
        mut system: Box<dyn System>,
        was_stopped: bool,
        wait: Duration,
    ) -> Result<Arc<Self>, Error> {
        let gone = || Error::Attach { pid: number, why: Refusal::NoSuchProcess };
        let pid = i32::try_from(number).map_err(|_| gone())?;
        let since = Instant::now();
        system.attach(pid).map_err(|e| refusal(number, "attach to it", e))?;
        let signal = loop {
            match system.wait(pid) {
                Ok(Some(status)) => match stop_signal(status) {
                    Some(signal) => break signal,
                    // It ended between the attach and its stop.
                    None => return Err(gone()),
                },
                Ok(None) if since.elapsed() < wait => std::thread::sleep(PAUSE),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    // Not stopped, and so not to be detached from in the usual way; it is tried all the same.
                    let _ = system.detach(pid, 0);
                    let source = outcome.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
                    return Err(refusal(number, "wait for it to stop", source));
                }
            }
        };
        // A signal that came before the stop is delivered when it goes on; the attach's own is not.
        let signal = match (signal, was_stopped) {
            (SIGSTOP, false) => 0,
            (SIGSTOP, true) => SIGSTOP,
            (other, _) => other,
        };
        let state = State { system, signal, released: None };
        Ok(Arc::new(Self { state: Mutex::new(state), ended: Condvar::new(), pid, since }))
    }

    /// Lets the process go, once.
    pub(super) fn release(&self, out_of_time: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.released.is_none() {
            let signal = state.signal;
            // The one error is that it is gone.
            let _ = state.system.detach(self.pid, signal);
            state.released = Some((Instant::now(), out_of_time));
        }
        drop(state);
        self.ended.notify_all();
    }

    /// Lets the process go after `budget`, from another thread: the system's tracers are processes, not threads.
    pub(super) fn watch(self: &Arc<Self>, budget: Duration) {
        let held = Arc::downgrade(self);
        let since = self.since;
        std::thread::spawn(move || {
            let Some(held) = held.upgrade() else { return };
            let mut state = held.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.released.is_none() {
                let Some(left) = budget.checked_sub(since.elapsed()).filter(|l| !l.is_zero()) else { break };
                state = held.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let over = state.released.is_none();
            drop(state);
            if over {
                held.release(true);
            }
        });
    }

    /// How long it stood still, microseconds, and whether the budget ended that.
    pub(super) fn cost(&self) -> (u64, bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, out_of_time) = state.released.unwrap_or_else(|| (Instant::now(), false));
        (u64::try_from(end.saturating_duration_since(self.since).as_micros()).unwrap_or(u64::MAX), out_of_time)
    }

    /// Asks the system while the process stands; `None` when it runs again.
    pub(super) fn with<R>(&self, then: impl FnOnce(&dyn System, i32) -> R) -> Option<R> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.released.is_none().then(|| then(&*state.system, self.pid))
    }

    /// Lets the system write a core of the process into a file, of at most `limit` bytes.
    pub(super) fn dump(&self, into: &std::fs::File, limit: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.released.is_some() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let result = state.system.core_dump(self.pid, into, limit);
        // ptrace(2): a thread may have run to write it, and stopped again; that stop is taken in any case.
        let _ = state.system.wait(self.pid);
        result
    }
}
