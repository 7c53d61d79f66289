//! Threads: `NT_PRSTATUS` begins one, the notes behind it up to the process's (`NT_PROCSTAT_*`) belong to it.

use super::kind;
use crate::elfcore::notes::NoteRef;
use crate::elfcore::{LIMIT_THREADS, Parts, Reading, vectors};
use crate::linux_abi::registers::aarch64_vectors;
use crate::linux_abi::xstate;
use evidence::bytes::{Endian, c_str_at, i32_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{Addr, Arch, Context, Doubt, Event, Register, Registers, Signal, Thread, ThreadId, X87};
use std::sync::Arc;

/// The largest body of a thread's note: an XSAVE area with AMX has 11,008 bytes.
const LIMIT_REGISTERS: usize = 64 << 10;

/// amd64's `struct reg` (sys/x86/include/reg.h): offset, size and DWARF number.
const AMD64: [(usize, u8, u16); 24] = [
    (0, 8, 15),
    (8, 8, 14),
    (16, 8, 13),
    (24, 8, 12),
    (32, 8, 11),
    (40, 8, 10),
    (48, 8, 9),
    (56, 8, 8),
    (64, 8, 5),
    (72, 8, 4),
    (80, 8, 6),
    (88, 8, 3),
    (96, 8, 1),
    (104, 8, 2),
    (112, 8, 0),
    (124, 2, 54),
    (126, 2, 55),
    (132, 2, 50),
    (134, 2, 53),
    (136, 8, 16),
    (144, 8, 51),
    (152, 8, 49),
    (160, 8, 7),
    (168, 8, 52),
];
/// i386's: fs es ds edi esi ebp isp ebx edx ecx eax trapno err eip cs eflags esp ss gs, 4 bytes each.
const I386: [(usize, u8, u16); 16] = [
    (0, 4, 44),
    (4, 4, 40),
    (8, 4, 43),
    (12, 4, 7),
    (16, 4, 6),
    (20, 4, 5),
    (28, 4, 3),
    (32, 4, 2),
    (36, 4, 1),
    (40, 4, 0),
    (52, 4, 8),
    (56, 4, 41),
    (60, 4, 9),
    (64, 4, 4),
    (68, 4, 42),
    (72, 4, 45),
];

/// Reads all threads and the event; gives each note of the index the thread it stands behind.
pub(super) fn read(parts: &Parts<'_>, arch: Arch, reading: &mut Reading) -> Vec<Option<ThreadId>> {
    let mut owners = Vec::with_capacity(parts.index.len());
    let mut current: Option<ThreadId> = None;
    let mut keeping = false;
    let little = parts.headers.endian == Endian::Little;
    for note in parts.index {
        if &*note.owner != "FreeBSD" {
            owners.push(None);
            continue;
        }
        match note.kind {
            kind::PRSTATUS => {
                let body = note.prefix(parts.source, LIMIT_REGISTERS);
                keeping = reading.threads.len() < LIMIT_THREADS;
                match status(parts, arch, &body) {
                    Some(thread) if keeping => {
                        current = Some(thread.id);
                        if thread.registers.known() == 0 {
                            let why = format!("the registers of thread {} have an unknown layout", thread.id.0);
                            parts.doubts.push(Doubt::new("registers", why));
                        }
                        reading.threads.push(thread);
                    }
                    found => {
                        current = found.map(|t| t.id);
                        keeping = false;
                        let why = format!(
                            "the thread at file offset {:#x} is left out: cut, or one of more than {LIMIT_THREADS}",
                            note.at
                        );
                        parts.doubts.push(Doubt::new("threads", why));
                    }
                }
            }
            // The process's notes follow the last thread's.
            kind::PROCSTAT_PROC..=kind::PROCSTAT_AUXV | kind::PROCSTAT_KQUEUES | kind::PRPSINFO => current = None,
            _ => {
                if let (true, true, Some(_), Some(thread)) = (little, keeping, current, reading.threads.last_mut()) {
                    more(parts, arch, note, thread);
                }
            }
        }
        owners.push(current);
    }
    if reading.threads.is_empty() {
        parts.doubts.push(Doubt::new("threads", "the core has no notes of threads: there are no registers"));
    }
    reading.event = event(reading.threads.first());
    owners
}

/// `prstatus_t` (sys/sys/procfs.h): version, three sizes, osreldate, cursig, pid (the LWP's), the registers.
fn status(parts: &Parts<'_>, arch: Arch, body: &[u8]) -> Option<Thread> {
    let e = parts.headers.endian;
    let (signal_at, pid_at, registers_at) = if parts.headers.wide { (36, 40, 48_usize) } else { (20, 24, 28) };
    let id = ThreadId(u64::from(u32_at(body, pid_at, e)?));
    let raw = body.get(registers_at..).unwrap_or_default();
    let mut thread = Thread::new(id, Context::Lwp, Registers::new(arch));
    let fields: &[(usize, u8, u16)] = match arch {
        _ if e == Endian::Big => &[],
        Arch::X86_64 if raw.len() >= 176 => &AMD64,
        Arch::X86 if raw.len() >= 76 => &I386,
        _ => &[],
    };
    for (at, size, number) in fields {
        let value = match size {
            2 => u16_at(raw, *at, e).map(u64::from),
            4 => u32_at(raw, *at, e).map(u64::from),
            _ => u64_at(raw, *at, e),
        };
        thread.registers.set(Register(*number), value?);
    }
    if arch == Arch::Aarch64 && e == Endian::Little && raw.len() >= 272 {
        // x0 to x29, lr, sp, elr, and spsr of 32 bits.
        for (number, word) in (0_u16..33).zip(raw.chunks_exact(8)) {
            thread.registers.set(Register(number), u64_at(word, 0, e)?);
        }
        thread.registers.set(Register(33), u64::from(u32_at(raw, 264, e)?));
    }
    let number = i32_at(body, signal_at, e)?;
    thread.signal = (number != 0).then_some(plain(number));
    Some(thread)
}

const fn plain(number: i32) -> Signal {
    Signal { number, code: None, errno: None, address: None, sender_pid: None, sender_uid: None }
}

fn more(parts: &Parts<'_>, arch: Arch, note: &NoteRef, thread: &mut Thread) {
    let body = note.prefix(parts.source, LIMIT_REGISTERS);
    let e = Endian::Little;
    match note.kind {
        kind::THRMISC => {
            let name = slice_at(&body, 0, 20).and_then(|b| c_str_at(b, 0)).filter(|n| !n.is_empty());
            thread.name = name.map(String::into_boxed_str);
        }
        kind::PTLWPINFO => lwp_info(parts, &body, thread),
        kind::FPREGSET if arch == Arch::Aarch64 => thread.registers.vectors = aarch64_vectors(&body),
        // An XSAVE area behind it says more.
        kind::FPREGSET if arch == Arch::X86_64 => {
            thread.registers.vectors = xstate::fxsave_vectors(arch, &body);
            thread.registers.x87 = X87::from_fxsave(&body).map(Arc::new);
        }
        kind::X86_XSTATE if matches!(arch, Arch::X86_64 | Arch::X86) => {
            if vectors::plausible(&body) {
                let layout = xstate::Layout::guess(body.len());
                thread.registers.vectors = xstate::vectors(arch, &body, layout).or(thread.registers.vectors.take());
                thread.registers.x87 = thread.registers.x87.take().or_else(|| xstate::x87(&body).map(Arc::new));
            } else {
                let why = format!("the XSAVE area of thread {} contradicts itself", thread.id.0);
                parts.doubts.push(Doubt::new("registers", why));
            }
        }
        kind::X86_SEGBASES if arch == Arch::X86_64 => {
            for (number, at) in [(58, 0), (59, 8)] {
                if let Some(base) = u64_at(&body, at, e) {
                    thread.registers.set(Register(number), base);
                }
            }
        }
        kind::X86_SEGBASES if arch == Arch::X86 => {
            if let Some(base) = u32_at(&body, 4, e) {
                thread.registers.set(Register(58), u64::from(base));
            }
        }
        kind::ARM_TLS if arch == Arch::Aarch64 => {
            if let Some(base) = u64_at(&body, 0, e) {
                thread.registers.set(Register(36), base);
            }
        }
        _ => {}
    }
}

/// `PL_FLAG_SI`: the siginfo is valid (sys/sys/ptrace.h).
const PL_FLAG_SI: u32 = 0x20;
/// Signals that carry a fault address: SIGILL, SIGTRAP, SIGFPE, SIGBUS, SIGSEGV (sys/sys/signal.h).
const FAULTS: [i32; 5] = [4, 5, 8, 10, 11];
/// Codes from here on say who sent a signal: `SI_USER`, `SI_QUEUE`, ...
const SI_USER: i32 = 0x10001;
const SI_QUEUE: i32 = 0x10002;
const SI_LWP: i32 = 0x10007;

/// `struct ptrace_lwpinfo` behind its size: lwpid, event, flags, sigmask, siglist, siginfo (aligned to a pointer), name.
fn lwp_info(parts: &Parts<'_>, body: &[u8], thread: &mut Thread) {
    let e = Endian::Little;
    let info = body.get(4..).unwrap_or_default();
    if u32_at(info, 0, e).map(u64::from) != Some(thread.id.0) {
        return;
    }
    // sigset_t has 128 bits, signal 1 in bit 0.
    thread.signal_mask = u64_at(info, 12, e);
    thread.signal_pending = u64_at(info, 28, e);
    let (at, wide) = if parts.headers.wide { (48_usize, true) } else { (44, false) };
    let Some(raw) = info.get(at..) else { return };
    // siginfo_t: signo, errno, code (not Linux's order), pid, uid, status, addr.
    let number = |at| i32_at(raw, at, e);
    let (Some(flags), Some(signo), Some(errno), Some(code)) = (u32_at(info, 8, e), number(0), number(4), number(8))
    else {
        return;
    };
    if flags & PL_FLAG_SI == 0 || signo == 0 || thread.signal.is_some_and(|s| s.number != signo) {
        return;
    }
    let sent = matches!(code, SI_USER | SI_QUEUE | SI_LWP);
    let fault = code > 0 && code < SI_USER && FAULTS.contains(&signo);
    let address = if wide { u64_at(raw, 24, e) } else { u32_at(raw, 24, e).map(u64::from) };
    let sender = |at| u32_at(raw, at, e).map(u64::from).filter(|_| sent);
    thread.signal = Some(Signal {
        number: signo,
        code: Some(code),
        errno: Some(errno),
        address: address.filter(|_| fault).map(Addr),
        sender_pid: sender(12),
        sender_uid: sender(16),
    });
}

/// Signals that end a program with a core by default (sigaction(2)).
const FATAL: [i32; 9] = [3, 4, 5, 6, 7, 8, 10, 11, 12];

/// The first thread is the one that died. gcore stops the program itself: no signal that kills, no event.
fn event(first: Option<&Thread>) -> Option<Event> {
    let first = first?;
    let signal = first.signal.filter(|s| FATAL.contains(&s.number))?;
    Some(Event { thread: Some(first.id), signal: Some(signal), ..Event::default() })
}
