//! The event of a process that has none: a thread that sits in the handler of its own fault.
//!
//! The kernel leaves the siginfo beside the context that a handler interrupted. Linux, x86-64
//! (arch/x86/include/asm/sigframe.h, `struct rt_sigframe`; include/uapi/asm-generic/ucontext.h; asm/sigcontext.h): when
//! the handler has returned to the trampoline, the stack pointer is at the ucontext, and the siginfo follows it.

use crate::assemble;
use crate::resolve::Resolved;
use crate::walk::Walked;
use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{Addr, Arch, Doubt, Doubts, Event, Memory, Os, Signal, Target};
use snapshot_format::Snapshot;
use snapshot_format::schema::Attribute;

/// Offsets from the ucontext on x86-64: uc_flags, uc_link and uc_stack take 40 bytes, then come 23 registers of
/// `struct sigcontext` (rsp and rip the 16th and 17th; err, trapno, oldmask, cr2 the last four).
const SP: usize = 40 + 15 * 8;
const PC: usize = 40 + 16 * 8;
const ERROR: usize = 40 + 19 * 8;
const TRAP: usize = 40 + 20 * 8;
const FAULT_ADDRESS: usize = 40 + 22 * 8;
/// `sizeof(struct ucontext)` in the kernel: 40, a sigcontext of 256, a signal mask of 8.
const SIGINFO: usize = 304;
/// `si_signo`, `si_errno`, `si_code`, padding, then `si_addr`.
const SIZE: usize = SIGINFO + 24;

/// Frames of one stack among which trampolines are looked for: a handler that reports or waits is not deep.
const LIMIT_DEPTH: usize = 256;

const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGSEGV: u32 = 11;

/// x86's page fault, the exception that loads cr2.
const PAGE_FAULT: u64 = 14;
/// `SI_KERNEL`, which a general protection fault has; codes of senders are zero or negative.
const SI_KERNEL: u32 = 0x80;
/// Highest `si_code` of a fault (asm-generic/siginfo.h: 15 for SIGFPE).
const LIMIT_CODE: u32 = 16;

/// A fault that a handler was called for.
pub(crate) struct Handled {
    /// Index of the thread among the walked ones.
    pub(crate) thread: usize,
    /// Index of the interrupted physical frame.
    frame: usize,
    event: Event,
}

/// The fault that a thread is handling; when several threads handle one each, none is the event.
pub(crate) fn find(
    target: &dyn Target,
    walked: &[Walked<'_>],
    memory: &dyn Memory,
    doubts: &Doubts,
) -> Option<Handled> {
    let identity = target.identity();
    if (identity.os, identity.arch) != (Os::Linux, Arch::X86_64) {
        return None;
    }
    let mut found = walked.iter().enumerate().filter_map(|(thread, w)| {
        let (frame, event) = on_stack(w, memory)?;
        Some(Handled { thread, frame, event })
    });
    let only = found.next()?;
    if found.next().is_some() {
        doubts.push(Doubt::new(
            "event",
            "several threads are in handlers of faults; none of them was taken for the event",
        ));
        return None;
    }
    Some(only)
}

/// The innermost fault of one stack.
fn on_stack(w: &Walked<'_>, memory: &dyn Memory) -> Option<(usize, Event)> {
    let pairs = w.stack.frames.windows(2).enumerate().take(LIMIT_DEPTH);
    pairs.into_iter().find_map(|(index, pair)| {
        let [trampoline, interrupted] = pair else { return None };
        if !trampoline.signal_frame {
            return None;
        }
        let at = trampoline.registers.sp()?;
        let mut bytes = [0; SIZE];
        memory.read_exact(at, &mut bytes).ok()?;
        let signal = fault(&bytes, interrupted.pc, interrupted.registers.sp()?)?;
        let word = |offset| u64_at(&bytes, offset, Endian::Little);
        let event = Event {
            thread: Some(w.thread.id),
            signal: Some(signal),
            trap_number: word(TRAP),
            error_code: word(ERROR),
            ..Event::default()
        };
        Some((index.checked_add(1)?, event))
    })
}

/// The fault that a signal frame reports, when its parts agree with each other and with the frame it interrupted.
fn fault(bytes: &[u8; SIZE], pc: Addr, sp: Addr) -> Option<Signal> {
    let word = |offset| u64_at(bytes, offset, Endian::Little);
    let half = |index: usize| u32_at(bytes, SIGINFO.checked_add(index.checked_mul(4)?)?, Endian::Little);
    if (word(PC)?, word(SP)?) != (pc.0, sp.0) {
        return None;
    }
    let (number, errno, code) = (half(0)?, half(1)?, half(2)?);
    let address = word(SIGINFO.checked_add(16)?)?;
    // Sent signals interrupt anything; those of faults have a positive code and an exception of the processor.
    if !(1..LIMIT_CODE).contains(&code) && code != SI_KERNEL {
        return None;
    }
    let page_fault = word(TRAP)? == PAGE_FAULT;
    let agrees = match number {
        SIGSEGV | SIGBUS => !page_fault || word(FAULT_ADDRESS)? == address,
        // The address is that of the instruction.
        SIGILL | SIGFPE => !page_fault && (address == pc.0 || code == SI_KERNEL),
        SIGTRAP => !page_fault,
        _ => false,
    };
    agrees.then_some(Signal {
        number: i32::try_from(number).ok()?,
        code: i32::try_from(code).ok(),
        errno: i32::try_from(errno).ok(),
        address: Some(Addr(address)).filter(|_| code != SI_KERNEL),
        sender_pid: None,
        sender_uid: None,
    })
}

impl Handled {
    /// Writes the event, and where it comes from: `event.origin` is `signal-frame`, `event.frame` the row of the frame
    /// that the signal interrupted among those of its thread.
    pub(crate) fn assemble(self, walked: &[Walked<'_>], resolved: &Resolved, snapshot: &mut Snapshot) {
        let Some(w) = walked.get(self.thread) else { return };
        let row = assemble::row_of(w, self.frame, resolved);
        snapshot.event = Some(assemble::event(&self.event));
        let mut attribute = |key: &str, value: String| {
            snapshot.attributes.push(Attribute { key: key.to_owned(), thread: Some(w.thread.id.0), value });
        };
        attribute("event.origin", "signal-frame".to_owned());
        attribute("event.frame", row.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u32, code: u32, address: u64, trap: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(PC, &0x40_1000_u64.to_le_bytes());
        put(SP, &0x7ffd_0000_u64.to_le_bytes());
        put(TRAP, &trap.to_le_bytes());
        put(FAULT_ADDRESS, &0x20_u64.to_le_bytes());
        put(SIGINFO, &number.to_le_bytes());
        put(SIGINFO + 8, &code.to_le_bytes());
        put(SIGINFO + 16, &address.to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_fault_whose_parts_agree_is_an_event() {
        let (pc, sp) = (Addr(0x40_1000), Addr(0x7ffd_0000));
        let read = |bytes: [u8; SIZE]| fault(&bytes, pc, sp).map(|s| (s.number, s.code, s.address.map(|a| a.0)));
        assert_eq!(read(frame(SIGSEGV, 1, 0x20, PAGE_FAULT)), Some((11, Some(1), Some(0x20))));
        assert_eq!(read(frame(SIGSEGV, SI_KERNEL, 0, 13)), Some((11, Some(0x80), None)));
        assert_eq!(read(frame(SIGFPE, 1, 0x40_1000, 0)), Some((8, Some(1), Some(0x40_1000))));
        // The page fault was about another address, or the signal was sent, or is none of the processor's.
        assert_eq!(read(frame(SIGSEGV, 1, 0x28, PAGE_FAULT)), None);
        assert_eq!(read(frame(SIGSEGV, 0, 0x20, PAGE_FAULT)), None);
        assert_eq!(read(frame(SIGSEGV, 0xffff_fffa, 0x20, PAGE_FAULT)), None);
        assert_eq!(read(frame(SIGFPE, 1, 0x20, 0)), None);
        assert_eq!(read(frame(10, 1, 0x20, PAGE_FAULT)), None);
        // The frame below is not the one that was interrupted.
        let bytes = frame(SIGSEGV, 1, 0x20, PAGE_FAULT);
        assert!(fault(&bytes, Addr(0x40_1001), sp).is_none() && fault(&bytes, pc, Addr(0x7ffd_0008)).is_none());
    }
}
