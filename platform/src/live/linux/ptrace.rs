//! The `ptrace` and wait calls, one safe function each. Everything must come from the thread that seized the tracee.
//!
//! Waits always leave the stop in place (`WNOWAIT`). A wait that takes the stop clears the tracee's exit code, and with
//! it the signal that the tracee is about to receive: if the tracer then died, the signal would be lost
//! (`kernel/signal.c`, `ptrace_signal`; `kernel/exit.c`, `wait_task_stopped`).

use nix::unistd::Pid;
use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// A thread's number in the reader's pid namespace.
pub(super) type Tid = i32;

/// Bytes of a `siginfo_t`.
pub(super) const SIGINFO_SIZE: usize = 128;

/// How many queued signals of one thread are asked for. A thread's queue is bounded by `RLIMIT_SIGPENDING`, which may
/// be tens of thousands; only the set of signal numbers is kept, of which there are 64.
const LIMIT_QUEUED: usize = 256;

/// `PTRACE_EVENT_STOP`, which the C library's headers give as 128.
const EVENT_STOP: c_int = 128;

/// What a wait found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It stopped because it was asked to, or as a part of a stop of its whole group (SIGSTOP and its relatives).
    Stopped {
        /// The signal of the group's stop.
        group: Option<c_int>,
    },
    /// It stopped before this signal was delivered; the signal must be passed on when it is let go.
    Signalled(c_int),
    /// It has ended.
    Ended,
}

fn request(number: c_long, tid: Tid, address: usize, data: *mut c_void) -> io::Result<()> {
    // SAFETY: every caller passes, in `data`, what the request's documentation (ptrace(2)) asks for: a pointer to
    // writable memory of the right size that outlives the call, or a plain number as a pointer without provenance.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, number, c_long::from(tid), address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Begins tracing without stopping. When the tracing thread ends, however it ends, the kernel lets the tracee go.
pub(super) fn seize(tid: Tid) -> io::Result<()> {
    Ok(nix::sys::ptrace::seize(Pid::from_raw(tid), nix::sys::ptrace::Options::empty())?)
}

/// Asks a seized thread to stop.
pub(super) fn interrupt(tid: Tid) -> io::Result<()> {
    Ok(nix::sys::ptrace::interrupt(Pid::from_raw(tid))?)
}

/// Lets a stopped thread go, with a signal (0 for none) as if it had never been stopped before its delivery.
///
/// The kept library's wrapper knows no real-time signals, so the call is made here.
pub(super) fn detach(tid: Tid, signal: c_int) -> io::Result<()> {
    let signal = usize::try_from(signal).unwrap_or(0);
    request(c_long::from(libc::PTRACE_DETACH), tid, 0, ptr::without_provenance_mut(signal))
}

/// Reads a register set (a note type such as `NT_PRSTATUS`) and says how many bytes it has.
pub(super) fn register_set(tid: Tid, kind: u32, into: &mut [u8]) -> io::Result<usize> {
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let kind = usize::try_from(kind).unwrap_or(usize::MAX);
    request(c_long::from(libc::PTRACE_GETREGSET), tid, kind, ptr::from_mut(&mut vector).cast())?;
    Ok(vector.iov_len)
}

/// Writes a register set.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_register_set(tid: Tid, kind: u32, from: &mut [u8]) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: from.as_mut_ptr().cast(), iov_len: from.len() };
    let kind = usize::try_from(kind).unwrap_or(usize::MAX);
    request(c_long::from(libc::PTRACE_SETREGSET), tid, kind, ptr::from_mut(&mut vector).cast())
}

/// Reads a word of the tracee's `struct user` at this offset in bytes.
#[cfg(target_arch = "x86_64")]
pub(super) fn peek_user(tid: Tid, offset: usize) -> io::Result<u64> {
    let mut word = 0_u64;
    request(c_long::from(libc::PTRACE_PEEKUSER), tid, offset, ptr::from_mut(&mut word).cast())?;
    Ok(word)
}

/// The `siginfo_t` of the signal that a stopped thread is about to receive.
pub(super) fn signal_info(tid: Tid) -> io::Result<[u8; SIGINFO_SIZE]> {
    let mut info = [0_u8; SIGINFO_SIZE];
    request(c_long::from(libc::PTRACE_GETSIGINFO), tid, 0, info.as_mut_ptr().cast())?;
    Ok(info)
}

/// The blocked signals of a stopped thread, bit n-1 for signal n.
pub(super) fn signal_mask(tid: Tid) -> io::Result<u64> {
    let mut mask = 0_u64;
    request(c_long::from(libc::PTRACE_GETSIGMASK), tid, size_of::<u64>(), ptr::from_mut(&mut mask).cast())?;
    Ok(mask)
}

/// The signals queued for a stopped thread itself, bit n-1 for signal n.
pub(super) fn signals_pending(tid: Tid) -> io::Result<u64> {
    const AT_ONCE: usize = 8;
    let mut pending = 0_u64;
    let mut seen = 0;
    while seen < LIMIT_QUEUED {
        let mut buffer = [0_u8; SIGINFO_SIZE * AT_ONCE];
        let mut arguments = libc::ptrace_peeksiginfo_args {
            off: u64::try_from(seen).unwrap_or(u64::MAX),
            flags: 0,
            nr: i32::try_from(AT_ONCE).unwrap_or(1),
        };
        // SAFETY: the kernel reads `arguments` and writes at most `nr` records of 128 bytes into `buffer`; both live
        // until the call returns.
        let got = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                c_long::from(libc::PTRACE_PEEKSIGINFO),
                c_long::from(tid),
                ptr::from_mut(&mut arguments),
                buffer.as_mut_ptr(),
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        let got = usize::try_from(got).unwrap_or(0);
        for info in buffer.chunks_exact(SIGINFO_SIZE).take(got) {
            let number = evidence::bytes::u32_at(info, 0, evidence::bytes::Endian::Little).unwrap_or(0);
            pending |= number.checked_sub(1).and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0);
        }
        if got < AT_ONCE {
            break;
        }
        seen = seen.saturating_add(got);
    }
    Ok(pending)
}

/// Looks whether a tracee has stopped or ended, without waiting and without taking the answer away.
pub(super) fn look(tid: Tid) -> io::Result<Option<Change>> {
    Ok(look_raw(tid)?.map(|(code, status)| {
        if code == libc::CLD_TRAPPED || code == libc::CLD_STOPPED { of_stop(status) } else { Change::Ended }
    }))
}

/// The same, as the kernel says it: code and status.
fn look_raw(tid: Tid) -> io::Result<Option<(c_int, c_int)>> {
    let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let id = libc::id_t::try_from(tid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is writable memory of the size of a `siginfo_t`.
    let result = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are initialised (to zero, or by the kernel), and `siginfo_t` consists of numbers.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid the record is zero, or that of a SIGCHLD, which has these members.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some((info.si_code, status)))
}

/// How a thread that was made to run came to a halt.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It was asked to stop, or was just born.
    Trapped,
    /// It has a child now.
    Cloned,
    /// It enters or leaves a system call.
    Call,
    /// Before this signal is delivered, or as a part of its group's stop.
    Other(c_int),
    /// It has ended.
    Ended,
}

/// Waits until a thread that runs has come to a halt.
#[cfg(target_arch = "x86_64")]
pub(super) fn pause(tid: Tid, patience: std::time::Duration) -> io::Result<Pause> {
    let begun = std::time::Instant::now();
    let mut rounds = 0_u32;
    loop {
        if let Some(pause) = halted(tid)? {
            return Ok(pause);
        }
        rounds = rounds.saturating_add(1);
        if begun.elapsed() > patience {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        if rounds < 64 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn halted(tid: Tid) -> io::Result<Option<Pause>> {
    const CALL: c_int = libc::SIGTRAP | 0x80;
    let Some((code, status)) = look_raw(tid)? else { return Ok(None) };
    if code != libc::CLD_TRAPPED && code != libc::CLD_STOPPED {
        return Ok(Some(Pause::Ended));
    }
    let (signal, event) = (status & 0xff, (status >> 8_i32) & 0xff);
    Ok(Some(match (event, signal) {
        (EVENT_STOP, libc::SIGTRAP) => Pause::Trapped,
        (libc::PTRACE_EVENT_CLONE, libc::SIGTRAP) => Pause::Cloned,
        (0, CALL) => Pause::Call,
        _ => Pause::Other(signal),
    }))
}

/// Makes the kernel trace children of a stopped thread, and tell system calls from signals. `bound` kills it when its
/// tracer ends.
#[cfg(target_arch = "x86_64")]
pub(super) fn follow(tid: Tid, bound: bool) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESYSGOOD;
    set_options(tid, if bound { options | libc::PTRACE_O_EXITKILL } else { options })
}

/// Ends what [`follow`] began.
#[cfg(target_arch = "x86_64")]
pub(super) fn follow_not(tid: Tid) -> io::Result<()> {
    set_options(tid, 0)
}

#[cfg(target_arch = "x86_64")]
fn set_options(tid: Tid, options: c_int) -> io::Result<()> {
    let options = usize::try_from(options).unwrap_or(0);
    request(c_long::from(libc::PTRACE_SETOPTIONS), tid, 0, ptr::without_provenance_mut(options))
}

/// Lets a stopped thread run; to its next system call only, if asked for.
#[cfg(target_arch = "x86_64")]
pub(super) fn go(tid: Tid, to_call: bool) -> io::Result<()> {
    let number = if to_call { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
    request(c_long::from(number), tid, 0, ptr::null_mut())
}

/// The number of the child that a halt is about.
#[cfg(target_arch = "x86_64")]
pub(super) fn event_message(tid: Tid) -> io::Result<Tid> {
    let mut message = 0_u64;
    request(c_long::from(libc::PTRACE_GETEVENTMSG), tid, 0, ptr::from_mut(&mut message).cast())?;
    Tid::try_from(message).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Sets the blocked signals of a stopped thread.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_signal_mask(tid: Tid, mut mask: u64) -> io::Result<()> {
    request(c_long::from(libc::PTRACE_SETSIGMASK), tid, size_of::<u64>(), ptr::from_mut(&mut mask).cast())
}

/// Where a stopped thread has registered its `struct rseq`; 0 if nowhere.
#[cfg(target_arch = "x86_64")]
pub(super) fn rseq(tid: Tid) -> io::Result<u64> {
    /// `PTRACE_GET_RSEQ_CONFIGURATION`, which the C library's headers lack.
    const GET: c_long = 0x420f;
    // `struct ptrace_rseq_configuration`: pointer, size, signature, flags, padding.
    let mut answer = [0_u64; 3];
    request(GET, tid, size_of_val(&answer), answer.as_mut_ptr().cast())?;
    Ok(answer[0])
}

/// Kills a process of ours.
#[cfg(target_arch = "x86_64")]
pub(super) fn kill(tid: Tid) -> io::Result<()> {
    Ok(nix::sys::signal::kill(Pid::from_raw(tid), nix::sys::signal::Signal::SIGKILL)?)
}

/// Waits for the end of a process that was killed, as its tracer.
#[cfg(target_arch = "x86_64")]
pub(super) fn bury(tid: Tid) -> io::Result<()> {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    loop {
        match waitpid(Pid::from_raw(tid), Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(()),
            // A halt on its way to the end.
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A stop's status: the signal below, the `ptrace` event in the second byte.
fn of_stop(status: c_int) -> Change {
    let (signal, event) = (status & 0x7f, (status >> 8_i32) & 0xff);
    match event {
        EVENT_STOP if signal == libc::SIGTRAP => Change::Stopped { group: None },
        EVENT_STOP => Change::Stopped { group: Some(signal) },
        // No option that would report other events is ever set.
        _ => Change::Signalled(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        assert_eq!(of_stop(libc::SIGTRAP | (EVENT_STOP << 8)), Change::Stopped { group: None });
        assert_eq!(of_stop(libc::SIGTTIN | (EVENT_STOP << 8)), Change::Stopped { group: Some(libc::SIGTTIN) });
        assert_eq!(of_stop(libc::SIGTRAP), Change::Signalled(libc::SIGTRAP));
        assert_eq!(of_stop(64), Change::Signalled(64));
    }

    #[test]
    fn what_is_not_traced_is_an_error() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(look(own).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(signal_mask(own).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
