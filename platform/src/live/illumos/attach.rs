//! Stopping and letting go, by control messages (proc(5)).
//!
//! Run-on-last-close is set before anything is stopped: whatever ends this program, the process runs on.

use super::files::Proc;
use crate::{Error, Refusal};
use evidence::bytes::{Endian, u32_at};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Control codes and the flag (sys/procfs.h).
const PCDSTOP: i64 = 2;
const PCTWSTOP: i64 = 4;
const PCRUN: i64 = 5;
const PCSET: i64 = 15;
const PR_RLC: i64 = 0x20_0000;
/// `PR_STOPPED`, and `PR_ISTOP`: stopped on an event of interest, at someone's request.
pub(super) const PR_STOPPED: u32 = 1;
pub(super) const PR_ISTOP: u32 = 2;
/// `EPERM`, `ENOENT`, `ESRCH`, `EACCES`, `EBUSY`, `EOVERFLOW` of illumos (sys/errno.h).
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
pub(super) const EOVERFLOW: i32 = 79;

fn message(words: &[i64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Why the system refused, in words that help.
pub(super) fn refusal(pid: u64, doing: &'static str, source: io::Error) -> Error {
    let forbidden = |reason: &str| Refusal::Forbidden { reason: reason.into() };
    let why = match source.raw_os_error() {
        Some(ENOENT | ESRCH) => Refusal::NoSuchProcess,
        Some(EBUSY) => forbidden("another program controls it (truss, mdb, pstack); end that one first"),
        Some(EPERM | EACCES) => {
            forbidden("permission denied: run as the same user, or with the privilege proc_owner (and in its zone)")
        }
        Some(EOVERFLOW) => forbidden("it is a 64-bit process, which a 32-bit program cannot look at"),
        _ => Refusal::System { doing: doing.into(), source },
    };
    Error::Attach { pid, why }
}

struct State {
    proc: Box<dyn Proc>,
    /// It was stopped here, and not by someone else before.
    ours: bool,
    released: Option<(Instant, bool)>,
}

/// A stopped process. Dropping it lets the process go.
pub(super) struct Held {
    state: Mutex<State>,
    ended: Condvar,
    since: Instant,
}

impl Held {
    /// Takes control and asks all LWPs to stop, waiting at most `wait`.
    pub(super) fn stop(pid: u64, mut proc: Box<dyn Proc>, wait: Duration) -> Result<(Arc<Self>, bool), Error> {
        proc.take().map_err(|e| refusal(pid, "open its control file", e))?;
        let since = Instant::now();
        let control = |proc: &dyn Proc, words: &[i64]| {
            proc.control(&message(words)).map_err(|e| refusal(pid, "write to its control file", e))
        };
        let before = proc.read("status").map_err(|e| refusal(pid, "read its status", e))?;
        let flags = u32_at(&before, 0, Endian::Little).unwrap_or(0);
        let ours = flags & PR_ISTOP == 0;
        control(&*proc, &[PCSET, PR_RLC])?;
        let mut stopped = !ours;
        if ours {
            control(&*proc, &[PCDSTOP])?;
            let milliseconds = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).max(1);
            // A wait that was too long ends without an error on some releases and with EAGAIN on others: the status
            // tells in either case.
            let waited = proc.control(&message(&[PCTWSTOP, milliseconds]));
            if let Err(e) = waited.as_ref()
                && matches!(e.raw_os_error(), Some(ENOENT | ESRCH))
            {
                return Err(refusal(pid, "wait for it to stop", io::Error::from_raw_os_error(ENOENT)));
            }
            let after = proc.read("status").map_err(|e| refusal(pid, "read its status", e))?;
            stopped = u32_at(&after, 0, Endian::Little).is_some_and(|f| f & PR_STOPPED != 0);
        }
        let state = State { proc, ours, released: None };
        Ok((Arc::new(Self { state: Mutex::new(state), ended: Condvar::new(), since }), stopped))
    }

    /// Lets the process go, once.
    pub(super) fn release(&self, out_of_time: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.released.is_none() {
            if state.ours {
                // Closing the control file does the same, should this fail.
                let _ = state.proc.control(&message(&[PCRUN, 0]));
            }
            state.proc.let_go();
            state.released = Some((Instant::now(), out_of_time));
        }
        drop(state);
        self.ended.notify_all();
    }

    /// Lets the process go after `budget`, from another thread.
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

    /// Does something with the process while it stands; `None` when it runs again.
    pub(super) fn with<R>(&self, then: impl FnOnce(&dyn Proc) -> R) -> Option<R> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.released.is_none().then(|| then(&*state.proc))
    }
}
