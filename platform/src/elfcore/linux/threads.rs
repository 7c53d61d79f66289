//! Threads out of notes: each `NT_PRSTATUS` begins one, and the notes after it are about it.

use super::super::notes::RawNote;
use crate::linux_abi::{
    NT_ARM_SYSTEM_CALL, NT_ARM_TLS, NT_PRFPREG, NT_PRSTATUS, NT_SIGINFO, NT_X86_XSAVE_LAYOUT, NT_X86_XSTATE, registers,
    siginfo, xstate,
};
use evidence::bytes::{Endian, i32_at, u16_at, u32_at, u64_at};
use evidence::{Arch, Context, Doubt, Register, Signal, Thread, ThreadId, ThreadState};
use std::collections::HashSet;

/// Most threads read. Linux's own limit is 2^22 process numbers.
const LIMIT_THREADS: usize = 1 << 22;
/// AArch64's thread pointer among [`Registers`](evidence::Registers).
const TPIDR: Register = Register(36);

/// Where the fields of `struct elf_prstatus` lie (`include/linux/elfcore.h`), by the size of a long.
struct Layout {
    pending: usize,
    mask: usize,
    long: usize,
    pid: usize,
    registers: usize,
    size: usize,
}

const LAYOUT_64: Layout = Layout { pending: 16, mask: 24, long: 8, pid: 32, registers: 112, size: 0 };
const LAYOUT_32: Layout = Layout { pending: 16, mask: 20, long: 4, pid: 24, registers: 72, size: 0 };

fn layout(arch: Arch) -> Layout {
    match arch {
        Arch::X86_64 => Layout { size: registers::X86_64_SIZE, ..LAYOUT_64 },
        Arch::X86 => Layout { size: registers::X86_SIZE, ..LAYOUT_32 },
        Arch::Arm => Layout { size: registers::ARM_SIZE, ..LAYOUT_32 },
        Arch::Aarch64 | Arch::Other => Layout { size: registers::AARCH64_SIZE, ..LAYOUT_64 },
    }
}

/// The threads, and for each note the thread that it is about.
pub(super) fn read(notes: &[RawNote], arch: Arch, doubts: &mut Vec<Doubt>) -> (Vec<Thread>, Vec<Option<ThreadId>>) {
    let xsave = notes
        .iter()
        .find(|n| n.kind == NT_X86_XSAVE_LAYOUT && &*n.owner == "LINUX")
        .map(|n| xstate::Layout::from_note(&n.body));
    let mut threads: Vec<Thread> = Vec::new();
    let mut seen = HashSet::new();
    let mut owners = Vec::with_capacity(notes.len());
    for note in notes {
        if &*note.owner == "CORE" && note.kind == NT_PRSTATUS {
            if threads.len() >= LIMIT_THREADS {
                doubts.push(Doubt::new("threads", format!("more than {LIMIT_THREADS} threads; the rest was not read")));
                break;
            }
            match status(&note.body, arch) {
                Some(thread) => {
                    if !seen.insert(thread.id) {
                        doubts.push(Doubt::new("threads", format!("two threads have the number {}", thread.id.0)));
                    }
                    threads.push(thread);
                }
                None => doubts.push(Doubt::new(
                    "threads",
                    format!("an NT_PRSTATUS note of {} bytes is too short for this machine", note.body.len()),
                )),
            }
            owners.push(threads.last().map(|t| t.id));
            continue;
        }
        let Some(thread) = threads.last_mut() else {
            owners.push(None);
            continue;
        };
        let about_thread = more(thread, note, arch, xsave);
        owners.push(about_thread.then_some(thread.id));
    }
    owners.resize(notes.len(), None);
    (threads, owners)
}

fn status(body: &[u8], arch: Arch) -> Option<Thread> {
    let le = Endian::Little;
    let layout = layout(arch);
    let area = body.get(layout.registers..layout.registers.checked_add(layout.size)?)?;
    let machine = if arch == Arch::Arm {
        Arch::Aarch64
    } else if arch == Arch::X86 {
        Arch::X86_64
    } else {
        arch
    };
    let general = registers::general(machine, area)?;
    let id = ThreadId(u64::from(u32_at(body, layout.pid, le)?));
    let mut thread = Thread::new(id, Context::Lwp, general.registers);
    let long = |at: usize| match layout.long {
        4 => u32_at(body, at, le).map(u64::from),
        _ => u64_at(body, at, le),
    };
    thread.signal_pending = long(layout.pending);
    thread.signal_mask = long(layout.mask);
    let number = i32::from(u16_at(body, 12, le)?);
    if number != 0 {
        thread.signal =
            Some(Signal { number, code: None, errno: None, address: None, sender_pid: None, sender_uid: None });
    }
    let in_call = general.result.is_some_and(registers::in_progress);
    if let Some(call) = general.entered_by.filter(|_| in_call) {
        thread.state = Some(ThreadState { system_call: Some(call), ..ThreadState::default() });
    }
    Some(thread)
}

/// Takes in a note that follows a thread's `NT_PRSTATUS`; says whether it is about the thread.
fn more(thread: &mut Thread, note: &RawNote, arch: Arch, xsave: Option<xstate::Layout>) -> bool {
    let arch = if arch == Arch::Other { Arch::Other } else { thread.registers.arch };
    match (&*note.owner, note.kind) {
        ("CORE", NT_SIGINFO) => {
            // The kernel writes one, for the signal that killed the process; gdb writes one for each thread.
            if let Some(signal) = siginfo::decode(&note.body, arch.pointer_size()) {
                if thread.signal.is_none_or(|s| s.number == signal.number) {
                    thread.signal = Some(signal);
                }
            } else if let Some(0) = i32_at(&note.body, 0, Endian::Little) {
                thread.signal = None;
            }
            true
        }
        ("CORE", NT_PRFPREG) => {
            let vectors = match arch {
                Arch::Aarch64 => registers::aarch64_vectors(&note.body),
                Arch::X86_64 => xstate::fxsave_vectors(arch, &note.body),
                _ => None,
            };
            if thread.registers.vectors.is_none() {
                thread.registers.vectors = vectors;
            }
            true
        }
        ("LINUX", NT_X86_XSTATE) => {
            let layout = xsave.unwrap_or_else(|| xstate::Layout::guess(note.body.len()));
            if let Some(vectors) = xstate::vectors(arch, &note.body, layout) {
                thread.registers.vectors = Some(vectors);
            }
            true
        }
        ("LINUX", NT_ARM_TLS) => {
            if let Some(base) = u64_at(&note.body, 0, Endian::Little) {
                thread.registers.set(TPIDR, base);
            }
            true
        }
        ("LINUX", NT_ARM_SYSTEM_CALL) => {
            if let Some(call) = i32_at(&note.body, 0, Endian::Little).and_then(|n| u64::try_from(n).ok()) {
                thread.state = Some(ThreadState { system_call: Some(call), ..ThreadState::default() });
            }
            true
        }
        // NT_386_TLS and everything else of the processor.
        ("LINUX", kind) => kind != NT_X86_XSAVE_LAYOUT,
        _ => false,
    }
}
