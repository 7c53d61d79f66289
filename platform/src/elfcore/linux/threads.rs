//! The threads: `NT_PRSTATUS` begins one, the notes behind it up to the next one belong to it.

use super::{By, Parts, is_core};
use crate::elfcore::notes::NoteRef;
use crate::elfcore::vectors;
use crate::elfcore::{LIMIT_THREADS, Reading};
use crate::linux_abi::registers::{aarch64_status, aarch64_vectors, general, in_progress};
use crate::linux_abi::{self, siginfo, xstate};
use evidence::bytes::{Endian, i32_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{Arch, Context, Doubt, Event, Register, Registers, Signal, Thread, ThreadId, ThreadState, X87};
use std::sync::Arc;

/// `NT_386_TLS`: the GDT entries that thread-local storage is addressed by.
const NT_386_TLS: u32 = 0x200;
/// `NT_PRXFPREG`: the FXSAVE area of i386.
pub(super) const NT_PRXFPREG: u32 = 0x46e6_2b7f;
/// The largest body of a register note: with AMX, an XSAVE area has 11,008 bytes.
const LIMIT_REGISTERS: usize = 64 << 10;

/// What `struct elf_prstatus` says (`include/linux/elfcore.h`, `include/uapi/linux/elfcore.h`).
struct Status {
    signal: Signal,
    current: i32,
    pending: u64,
    held: u64,
    tid: u64,
    registers: Option<(Registers, Option<u64>)>,
}

/// Reads all threads and the event; gives each note of the index the thread it stands behind.
pub(super) fn read(parts: &Parts<'_>, arch: Arch, by: By, reading: &mut Reading) -> Vec<Option<ThreadId>> {
    let layout = parts.index.iter().find(|n| n.kind == linux_abi::NT_X86_XSAVE_LAYOUT && &*n.owner == "LINUX");
    let layout = layout.map(|n| xstate::Layout::from_note(&n.prefix(parts.source, LIMIT_REGISTERS)));
    let mut owners: Vec<Option<ThreadId>> = Vec::with_capacity(parts.index.len());
    let starts: Vec<usize> =
        (0..).zip(parts.index).filter(|(_, n)| is_core(n, linux_abi::NT_PRSTATUS)).map(|(i, _)| i).collect();
    if starts.len() > LIMIT_THREADS {
        let why = format!("the core has {} threads; the first {LIMIT_THREADS} are kept", starts.len());
        parts.doubts.push(Doubt::new("threads", why));
    }
    if starts.is_empty() {
        parts.doubts.push(Doubt::new("threads", "the core has no notes of threads: there are no registers"));
    }
    owners.resize(starts.first().copied().unwrap_or(parts.index.len()), None);
    let ends = starts.iter().skip(1).copied().chain([parts.index.len()]);
    for (n, (start, end)) in starts.iter().copied().zip(ends).enumerate() {
        let notes = parts.index.get(start..end).unwrap_or_default();
        if n >= LIMIT_THREADS {
            owners.resize(end, None);
            continue;
        }
        let Some((status_note, others)) = notes.split_first() else { continue };
        let body = status_note.prefix(parts.source, LIMIT_REGISTERS);
        let Some(status) = status(parts, arch, &body) else {
            let why = format!("the state of thread {n} at file offset {:#x} is cut or unknown", status_note.at);
            parts.doubts.push(Doubt::new("threads", why));
            owners.resize(end, None);
            continue;
        };
        let id = ThreadId(status.tid);
        owners.resize(end, Some(id));
        let thread = thread(parts, arch, layout, &status, others);
        if n == 0 {
            reading.event = event(parts, by, &status, &thread);
        }
        reading.threads.push(thread);
    }
    if by == By::Debugger {
        process_wide(parts.index, &mut owners);
    }
    owners
}

/// gdb writes the facts of the process behind its last thread.
fn process_wide(index: &[NoteRef], owners: &mut [Option<ThreadId>]) {
    for (note, owner) in index.iter().zip(owners) {
        if matches!(note.kind, linux_abi::NT_AUXV | super::NT_FILE | super::NT_PRPSINFO) {
            *owner = None;
        }
    }
}

fn status(parts: &Parts<'_>, arch: Arch, body: &[u8]) -> Option<Status> {
    let (wide, e) = (parts.headers.wide, parts.headers.endian);
    // Signal sets and times are `long`s: 8 bytes in 64-bit programs, else 4.
    let set = |at| if wide { u64_at(body, at, e) } else { u32_at(body, at, e).map(u64::from) };
    let (pid_at, regs_at, held_at) = if wide { (32_usize, 112_usize, 24_usize) } else { (24, 72, 20) };
    // Behind the registers: `pr_fpvalid` and padding.
    let size = match (arch, wide) {
        (Arch::X86_64, _) => linux_abi::registers::X86_64_SIZE,
        (Arch::X86, false) => linux_abi::registers::X86_SIZE,
        (Arch::Aarch64, true) => linux_abi::registers::AARCH64_SIZE,
        (Arch::Arm, false) => linux_abi::registers::ARM_SIZE,
        _ => 0,
    };
    let raw = if e == Endian::Little { slice_at(body, regs_at, size).filter(|r| !r.is_empty()) } else { None };
    let registers = raw.and_then(|r| general(arch, r)).map(|g| {
        let call = g.entered_by.filter(|_| g.result.is_some_and(in_progress));
        (g.registers, call)
    });
    Some(Status {
        signal: Signal {
            number: i32_at(body, 0, e)?,
            code: Some(i32_at(body, 4, e)?),
            errno: Some(i32_at(body, 8, e)?),
            address: None,
            sender_pid: None,
            sender_uid: None,
        },
        current: i32::from(u16_at(body, 12, e)?),
        pending: set(16)?,
        held: set(held_at)?,
        tid: u32_at(body, pid_at, e).map(u64::from)?,
        registers,
    })
}

fn thread(
    parts: &Parts<'_>,
    arch: Arch,
    layout: Option<xstate::Layout>,
    status: &Status,
    others: &[NoteRef],
) -> Thread {
    let id = ThreadId(status.tid);
    let mut system_call = None;
    let registers = match &status.registers {
        Some((registers, call)) => {
            system_call = *call;
            registers.clone()
        }
        None => {
            let why = format!("the registers of thread {} are cut, or of an architecture not known here", id.0);
            parts.doubts.push(Doubt::new("registers", why));
            Registers::new(arch)
        }
    };
    let mut thread = Thread::new(id, Context::Lwp, registers);
    thread.signal_mask = Some(status.held);
    thread.signal_pending = Some(status.pending);
    let little = parts.headers.endian == Endian::Little;
    let mut legacy = (None, None);
    for note in others.iter().filter(|_| little) {
        let body = || note.prefix(parts.source, LIMIT_REGISTERS);
        match (&*note.owner, note.kind) {
            ("CORE", linux_abi::NT_SIGINFO) => {
                thread.signal = siginfo::decode(&body(), if parts.headers.wide { 8 } else { 4 });
            }
            ("CORE", linux_abi::NT_PRFPREG) if arch == Arch::Aarch64 => {
                let state = body();
                thread.registers.vectors = aarch64_vectors(&state);
                aarch64_status(&mut thread.registers, &state);
            }
            ("CORE", linux_abi::NT_PRFPREG) if arch == Arch::X86_64 => {
                legacy = (xstate::fxsave_vectors(arch, &body()), X87::from_fxsave(&body()));
            }
            ("LINUX", NT_PRXFPREG) => legacy = (xstate::fxsave_vectors(arch, &body()), X87::from_fxsave(&body())),
            ("LINUX", linux_abi::NT_X86_XSTATE) => {
                let area = body();
                if vectors::plausible(&area) {
                    let layout = layout.unwrap_or_else(|| xstate::Layout::guess(area.len()));
                    thread.registers.vectors = xstate::vectors(arch, &area, layout);
                    thread.registers.x87 = xstate::x87(&area).map(Arc::new);
                } else {
                    let why = format!(
                        "the XSAVE area of thread {} at file offset {:#x} contradicts itself; AVX registers are absent",
                        id.0, note.at
                    );
                    parts.doubts.push(Doubt::new("registers", why));
                }
            }
            ("LINUX", linux_abi::NT_ARM_TLS) if arch == Arch::Aarch64 => {
                if let Some(base) = u64_at(&body(), 0, Endian::Little) {
                    thread.registers.set(Register(36), base);
                }
            }
            ("LINUX", linux_abi::NT_ARM_SYSTEM_CALL) => {
                let result = thread.registers.get(Register(0)).map(u64::cast_signed);
                let number = i32_at(&body(), 0, Endian::Little).and_then(|n| u64::try_from(n).ok());
                system_call = number.filter(|_| result.is_some_and(in_progress));
            }
            ("LINUX", NT_386_TLS) if arch == Arch::X86 => set_gs_base(&mut thread.registers, &body()),
            _ => {}
        }
    }
    if thread.registers.vectors.is_none() {
        thread.registers.vectors = legacy.0;
    }
    if thread.registers.x87.is_none() {
        thread.registers.x87 = legacy.1.map(Arc::new);
    }
    if system_call.is_some() {
        thread.state = Some(ThreadState { word: "in-system-call".into(), system_call, wait_channel: None });
    }
    thread
}

/// The base of i386's gs: the entry that the selector names, out of `struct user_desc` (entry number, base, limit, flags;
/// `arch/x86/include/uapi/asm/ldt.h`).
fn set_gs_base(registers: &mut Registers, body: &[u8]) {
    let Some(selector) = registers.get(Register(45)) else { return };
    for entry in body.chunks_exact(16) {
        let word = |at| u32_at(entry, at, Endian::Little).map(u64::from);
        if let (Some(number), Some(base)) = (word(0), word(4))
            && number != 0
            && number == (selector & 0xffff) >> 3
        {
            registers.set(Register(58), base);
        }
    }
}

/// Signals that end a program with a core by default (signal(7)).
const FATAL: [i32; 9] = [3, 4, 6, 7, 8, 11, 24, 25, 31];

/// Why the process stopped. A core of the kernel always has a signal that killed it. gdb also writes cores of healthy
/// processes that it stopped itself: only a signal that kills is an event there, and the trap of a breakpoint is not.
fn event(parts: &Parts<'_>, by: By, status: &Status, thread: &Thread) -> Option<Event> {
    let stated = if status.current != 0 { status.current } else { status.signal.number };
    let signal = match thread.signal {
        Some(info) if by == By::Debugger => Some(info).filter(|s| s.number == stated),
        Some(info) => {
            if stated != 0 && info.number != stated {
                let why = format!(
                    "thread {} was stopped by signal {stated} by its state, and by {} by its siginfo, which is used",
                    thread.id.0, info.number
                );
                parts.doubts.push(Doubt::new("event", why));
            }
            Some(info)
        }
        None => None,
    };
    let plain = || Signal {
        number: stated,
        // `elf_siginfo` is filled with the number only (`fill_prstatus`), so its code says nothing.
        code: status.signal.code.filter(|c| *c != 0 && status.signal.number == stated),
        errno: None,
        ..status.signal
    };
    let signal = signal.or_else(|| (stated != 0).then(plain))?;
    if by == By::Debugger && !FATAL.contains(&signal.number) {
        return None;
    }
    Some(Event { thread: Some(thread.id), signal: Some(signal), ..Event::default() })
}
