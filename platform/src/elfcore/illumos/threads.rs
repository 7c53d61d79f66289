//! LWPs: `lwpstatus_t` with registers, `lwpsinfo_t` with the state, and names. Zombies have an `lwpsinfo_t` only.

use super::kind;
use crate::elfcore::notes::NoteRef;
use crate::elfcore::{LIMIT_THREADS, Parts, Reading};
use crate::linux_abi::xstate::fxsave_vectors;
use evidence::bytes::{Endian, c_str_at, i32_at, slice_at, u8_at, u16_at, u32_at, u64_at};
use evidence::{
    Access, Addr, Arch, Context, Doubt, Event, Register, Registers, Signal, Thread, ThreadId, ThreadState, X87,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The longest body of these notes: `lwpstatus_t` has 1296 bytes.
const LIMIT_STATUS: usize = 16 << 10;

/// DWARF numbers in the order of amd64's `gregset_t` (sys/regset.h); trapno and err have none.
const AMD64: [Option<u16>; 28] = [
    Some(15),
    Some(14),
    Some(13),
    Some(12),
    Some(11),
    Some(10),
    Some(9),
    Some(8),
    Some(5),
    Some(4),
    Some(6),
    Some(3),
    Some(1),
    Some(2),
    Some(0),
    None,
    None,
    Some(16),
    Some(51),
    Some(49),
    Some(7),
    Some(52),
    Some(54),
    Some(55),
    Some(50),
    Some(53),
    Some(58),
    Some(59),
];
/// The same for i386: gs fs es ds edi esi ebp (esp) ebx edx ecx eax trapno err eip cs efl uesp ss. The kernel's own esp
/// is not the program's, which is uesp.
const I386: [Option<u16>; 19] = [
    Some(45),
    Some(44),
    Some(40),
    Some(43),
    Some(7),
    Some(6),
    Some(5),
    None,
    Some(3),
    Some(2),
    Some(1),
    Some(0),
    None,
    None,
    Some(8),
    Some(41),
    Some(9),
    Some(4),
    Some(42),
];

/// Where the fields of `lwpstatus_t` lie.
struct Layout {
    wide: bool,
    pending: usize,
    held: usize,
    registers: usize,
    floating: usize,
    size: usize,
}

const WIDE: Layout = Layout { wide: true, pending: 272, held: 288, registers: 544, floating: 768, size: 1296 };
const NARROW: Layout = Layout { wide: false, pending: 144, held: 160, registers: 344, floating: 420, size: 800 };

/// Reads all LWPs and the event, and gives the notes their threads.
pub(super) fn read(parts: &Parts<'_>, arch: Arch, notes: &mut [(&NoteRef, Option<ThreadId>)], reading: &mut Reading) {
    let layout = if parts.headers.wide { WIDE } else { NARROW };
    let known = parts.headers.endian == Endian::Little && matches!(arch, Arch::X86_64 | Arch::X86);
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut current = None;
    for (note, owner) in notes.iter_mut() {
        let id = match note.kind {
            kind::LWPSTATUS | kind::LWPSINFO => u32_at(&note.prefix(parts.source, 8), 4, parts.headers.endian),
            _ => None,
        };
        if let Some(id) = id {
            current = Some(ThreadId(u64::from(id)));
        }
        *owner = current.filter(|_| note.kind != kind::UPANIC);
        let Some(id) = current else { continue };
        if !matches!(note.kind, kind::LWPSTATUS | kind::LWPSINFO | kind::LWPNAME) {
            continue;
        }
        let body = note.prefix(parts.source, LIMIT_STATUS);
        if note.kind == kind::LWPNAME {
            // prlwpname_t: a 64-bit id, then 32 bytes.
            let named = u64_at(&body, 0, parts.headers.endian).unwrap_or(id.0);
            let name = slice_at(&body, 8, 32).and_then(|b| c_str_at(b, 0)).filter(|n| !n.is_empty());
            if let Some(t) = places.get(&named).and_then(|p| reading.threads.get_mut(*p)) {
                t.name = name.map(String::into_boxed_str);
            }
            continue;
        }
        if !places.contains_key(&id.0) && reading.threads.len() >= LIMIT_THREADS {
            parts.doubts.push(Doubt::new("threads", format!("only the first {LIMIT_THREADS} threads are kept")));
            continue;
        }
        let threads = &mut reading.threads;
        let place = *places.entry(id.0).or_insert_with(|| {
            threads.push(Thread::new(id, Context::Lwp, Registers::new(arch)));
            threads.len().saturating_sub(1)
        });
        let Some(thread) = reading.threads.get_mut(place) else { continue };
        match note.kind {
            kind::LWPSTATUS if known && body.len() >= layout.size => status(thread, arch, &layout, &body),
            kind::LWPSTATUS => {
                let why = format!("the registers of LWP {} have an unknown layout ({} bytes)", id.0, body.len());
                parts.doubts.push(Doubt::new("registers", why));
            }
            _ => info(thread, parts.headers.wide, &body),
        }
    }
    for t in reading.threads.iter().filter(|t| t.registers.known() == 0) {
        let state = t.state.as_ref().map_or("unknown", |s| &s.word);
        let why = format!("LWP {} has no registers in the core (its state is {state})", t.id.0);
        parts.doubts.push(Doubt::new("registers", why));
    }
    if known {
        reading.event = event(parts, arch, &layout, notes);
    }
}

fn registers(arch: Arch, layout: &Layout, body: &[u8]) -> Registers {
    let mut out = Registers::new(arch);
    let (order, size): (&[Option<u16>], usize) = if layout.wide { (&AMD64, 8) } else { (&I386, 4) };
    let raw = body.get(layout.registers..).unwrap_or_default();
    for (slot, raw) in order.iter().zip(raw.chunks_exact(size)) {
        let value =
            if layout.wide { u64_at(raw, 0, Endian::Little) } else { u32_at(raw, 0, Endian::Little).map(u64::from) };
        if let (Some(number), Some(value)) = (slot, value) {
            out.set(Register(*number), value);
        }
    }
    out
}

fn status(thread: &mut Thread, arch: Arch, layout: &Layout, body: &[u8]) {
    thread.registers = registers(arch, layout, body);
    if layout.wide {
        // fpregset_t of amd64 begins with an FXSAVE area.
        let area = slice_at(body, layout.floating, 512);
        thread.registers.vectors = area.and_then(|a| fxsave_vectors(arch, a));
        thread.registers.x87 = area.and_then(X87::from_fxsave).map(Arc::new);
        // pr_syscall: the call the LWP is in, 0 for none.
        let call = u16_at(body, 368, Endian::Little).filter(|n| *n != 0).map(u64::from);
        if let Some(call) = call {
            thread
                .state
                .get_or_insert_with(|| ThreadState { word: "in-system-call".into(), ..ThreadState::default() })
                .system_call = Some(call);
        }
    }
    thread.signal = signal(layout, body);
    // sigset_t has four 32-bit words, signal 1 in bit 0 of the first.
    thread.signal_pending = u64_at(body, layout.pending, Endian::Little);
    thread.signal_mask = u64_at(body, layout.held, Endian::Little);
}

/// `lwpsinfo_t`: flag, lwpid, addr, wchan, then stype, state and sname as characters.
pub(crate) fn info(thread: &mut Thread, wide: bool, body: &[u8]) {
    let word = match u8_at(body, if wide { 26 } else { 18 }) {
        Some(b'S') => "sleeping",
        Some(b'R') => "runnable",
        Some(b'O') => "running",
        Some(b'Z') => "zombie",
        Some(b'T') => "stopped",
        Some(b'W') => "waiting",
        Some(b'I') => "idle",
        _ => return,
    };
    let call = thread.state.as_ref().and_then(|s| s.system_call);
    thread.state = Some(ThreadState { word: word.into(), system_call: call, wait_channel: None });
}

/// Signals that carry a fault address: SIGILL, SIGTRAP, SIGEMT, SIGFPE, SIGBUS, SIGSEGV (sys/signal.h).
const FAULTS: [i32; 6] = [4, 5, 7, 8, 10, 11];
/// `SI_NOINFO`: nothing is known.
const SI_NOINFO: i32 = 32767;

/// The current signal and what its `siginfo_t` says: signo, code, errno (not Linux's order), and a union at 16 in 64-bit
/// programs, at 12 in others. Codes of 0 and below are sent by processes.
fn signal(layout: &Layout, body: &[u8]) -> Option<Signal> {
    let e = Endian::Little;
    let current = i32::from(u16_at(body, 12, e)?);
    let info = slice_at(body, 16, 128)?;
    let (signo, code, errno) = (i32_at(info, 0, e)?, i32_at(info, 4, e)?, i32_at(info, 8, e)?);
    if current == 0 && signo == 0 {
        return None;
    }
    if signo == 0 || (current != 0 && signo != current) {
        let number = if current != 0 { current } else { signo };
        return Some(Signal { number, code: None, errno: None, address: None, sender_pid: None, sender_uid: None });
    }
    let union = if layout.wide { 16_usize } else { 12 };
    let fault = code > 0 && code != SI_NOINFO && FAULTS.contains(&signo);
    let address = if layout.wide { u64_at(info, union, e) } else { u32_at(info, union, e).map(u64::from) };
    let sender = |at: usize| u32_at(info, at, e).map(u64::from).filter(|_| code <= 0);
    Some(Signal {
        number: signo,
        code: Some(code),
        errno: Some(errno),
        address: address.filter(|_| fault).map(Addr),
        sender_pid: sender(union),
        sender_uid: sender(union.saturating_add(4)),
    })
}

/// Signals that end a program with a core by default (signal.h(3HEAD)).
const FATAL: [i32; 11] = [3, 4, 5, 6, 7, 8, 10, 11, 12, 30, 31];
/// The processor's trap number of a page fault.
const PAGE_FAULT: u64 = 14;

/// The representative LWP in `pstatus_t` is the one the signal hit; a core of gcore has no signal there.
fn event(parts: &Parts<'_>, arch: Arch, layout: &Layout, notes: &[(&NoteRef, Option<ThreadId>)]) -> Option<Event> {
    let (note, _) = notes.iter().find(|(n, _)| n.kind == kind::PSTATUS)?;
    event_of(&note.prefix(parts.source, LIMIT_STATUS), arch, layout)
}

/// The same, of the `pstatus_t` and `lwpstatus_t` that a 64-bit observer of /proc reads.
pub(crate) fn live_event(status: &[u8], arch: Arch) -> Option<Event> {
    event_of(status, arch, &WIDE)
}

/// An LWP's registers, signals and system call, out of the `lwpstatus_t` that a 64-bit observer of /proc reads.
pub(crate) fn live_status(thread: &mut Thread, arch: Arch, body: &[u8]) {
    status(thread, arch, &WIDE, body);
}

/// Bytes of an `lwpstatus_t`, as a 64-bit observer of /proc reads it.
pub(crate) const LIVE_STATUS: usize = WIDE.size;

fn event_of(body: &[u8], arch: Arch, layout: &Layout) -> Option<Event> {
    let lwp = body.get(if layout.wide { 384 } else { 336 }..)?;
    let signal = signal(layout, lwp).filter(|s| FATAL.contains(&s.number))?;
    let id = ThreadId(u64::from(u32_at(lwp, 4, Endian::Little)?));
    let word = |index: usize| {
        let size = if layout.wide { 8_usize } else { 4 };
        let at = layout.registers.checked_add(index.checked_mul(size)?)?;
        if layout.wide { u64_at(lwp, at, Endian::Little) } else { u32_at(lwp, at, Endian::Little).map(u64::from) }
    };
    let (trap, error) = if layout.wide { (word(15), word(16)) } else { (word(12), word(13)) };
    // The error code of an x86 page fault: bit 1 write, bit 4 instruction fetch. Only a fault has one.
    let fault = signal.address.is_some() && trap == Some(PAGE_FAULT) && matches!(arch, Arch::X86_64 | Arch::X86);
    let access = error.filter(|_| fault).map(|e| match (e & 16 != 0, e & 2 != 0) {
        (true, _) => Access::Execute,
        (false, true) => Access::Write,
        (false, false) => Access::Read,
    });
    Some(Event {
        thread: Some(id),
        signal: Some(signal),
        access,
        trap_number: trap.filter(|_| signal.address.is_some()),
        error_code: error.filter(|_| fault),
        ..Event::default()
    })
}
