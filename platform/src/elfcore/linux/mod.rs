//! Cores of Linux programs, written by the kernel (`fs/binfmt_elf.c`) or by gdb (`gcore`, gdb/linux-tdep.c).

mod files;
mod process;
mod threads;

use super::memory::Outside;
use super::notes::NoteRef;
use super::{Parts, Reading, attribute, keep_notes, os};
use crate::linux_abi;
use evidence::{Identity, Origin, Os};

/// Who wrote the core. Only the kernel knows which thread died, and only it lists every mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The kernel: the first note is the `NT_PRSTATUS` of the thread that died.
    Kernel,
    /// gdb or a program like it: the process's facts come before its threads, and the first thread is the selected one.
    Debugger,
}

/// `NT_PRPSINFO`.
const NT_PRPSINFO: u32 = 3;
/// `NT_FILE`: the letters `FILE`.
const NT_FILE: u32 = 0x4649_4c45;
/// gdb's own note type, the target description (gdb/gcore.c; owner `GDB`).
const NT_GDB_TDESC: u32 = 0xff00_0000;

/// The notes whose contents are told in another form, or are only of use to gdb; they are not handed on.
const DECODED: [u32; 5] =
    [linux_abi::NT_PRSTATUS, linux_abi::NT_PRFPREG, linux_abi::NT_X86_XSTATE, threads::NT_PRXFPREG, NT_GDB_TDESC];

fn is_core(note: &NoteRef, kind: u32) -> bool {
    note.kind == kind && &*note.owner == "CORE"
}

/// Reads the notes.
pub(super) fn read(parts: &Parts<'_>) -> Reading {
    let arch = os::arch(parts.headers.machine);
    let mut reading = Reading::new(Identity::new(Origin::UserCore, Os::Linux, arch));
    let first = |kind| parts.index.iter().position(|n| is_core(n, kind));
    let by = match (first(linux_abi::NT_PRSTATUS), first(NT_PRPSINFO)) {
        (Some(status), Some(info)) if info < status => By::Debugger,
        _ if parts.index.iter().any(|n| n.kind == NT_GDB_TDESC && &*n.owner == "GDB") => By::Debugger,
        _ => By::Kernel,
    };
    reading.outside = match by {
        By::Kernel => Outside::Unmapped,
        By::Debugger => Outside::Unlisted,
    };
    let owners = threads::read(parts, arch, by, &mut reading);
    let info = parts.index.iter().find(|n| is_core(n, NT_PRPSINFO));
    let info = info.and_then(|n| process::info(&n.body(parts.source, parts.doubts), parts.headers));
    let auxv = process::Auxv::read(parts);
    if let Some(list) = parts.index.iter().find(|n| is_core(n, NT_FILE)) {
        reading.files = files::read(&list.body(parts.source, parts.doubts), parts.headers, list.at, parts.doubts);
    }
    files::name_special(&mut reading.files, &auxv, parts);
    process::identify(&mut reading, info.as_ref(), &auxv, parts);
    let writer = match by {
        By::Kernel => "kernel",
        By::Debugger => "debugger",
    };
    reading.attributes.push(attribute("core.writer", None, writer));
    let kept = parts.index.iter().zip(owners).filter(|(n, _)| !DECODED.contains(&n.kind));
    keep_notes(parts, kept, &mut reading);
    reading
}
