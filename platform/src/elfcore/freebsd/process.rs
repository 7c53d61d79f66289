//! The process: `NT_PRPSINFO` and the `NT_PROCSTAT_*` notes, whose structures are those of sysctl(3) (sys/sys/user.h).

use super::{facts, kind};
use crate::elfcore::headers::LIMIT_SEGMENTS;
use crate::elfcore::mappings::FileRange;
use crate::elfcore::{Parts, Reading, attribute};
use evidence::bytes::{c_str_at, i32_at, slice_at, u32_at, u64_at};
use evidence::{Addr, Doubt, OpenFile, Protection, ToU64, ToUsize};
use std::sync::Arc;

/// How many open files are listed; `kern.maxfilesperproc` is below a million on large machines.
const LIMIT_FILES: usize = 1 << 20;
/// The longest path.
const LIMIT_PATH: usize = 4096;
/// `AT_EXECPATH` (sys/sys/elf_common.h).
const AT_EXECPATH: u64 = 15;
/// `KF_FD_TYPE_TEXT`: the descriptor number under which the executable is listed.
const KF_FD_TYPE_TEXT: i32 = -5;

/// Fills identity, attributes, open files and the list of mappings.
pub(super) fn read(parts: &Parts<'_>, reading: &mut Reading) {
    let e = parts.headers.endian;
    let wide = parts.headers.wide;
    let body = |kind| {
        let note = parts.index.iter().find(|n| n.kind == kind && &*n.owner == "FreeBSD");
        note.map(|n| n.body(parts.source, parts.doubts))
    };
    let text = |b: &[u8], at, len| slice_at(b, at, len).and_then(|b| c_str_at(b, 0)).filter(|t| !t.is_empty());
    if let Some(b) = body(kind::PRPSINFO) {
        // Version, size, fname[17], psargs[81], and the pid in version "1a".
        let (name, pid) = if wide { (16_usize, 116) } else { (8, 108) };
        reading.identity.command = text(&b, name, 17).map(String::into_boxed_str);
        reading.identity.arguments = text(&b, name.saturating_add(17), 81).map(|a| Box::from(a.trim_end()));
        reading.identity.pid = u32_at(&b, pid, e).map(u64::from).filter(|p| *p != 0);
    }
    if let Some(b) = body(kind::PROCSTAT_PROC) {
        // kinfo_proc (sys/sys/user.h): two ints and eight pointers, ki_pid, ki_ppid; 1088 bytes, 768 with 32 bits.
        let number = |at| u32_at(&b, at, e).map(u64::from);
        let place = match (wide, number(0)) {
            (true, Some(1088)) => Some((4 + 72, 4 + 76)),
            (false, Some(768)) => Some((4 + 40, 4 + 44)),
            _ => None,
        };
        if let Some((pid, parent)) = place {
            reading.identity.pid = number(pid).or(reading.identity.pid);
            reading.identity.parent_pid = number(parent);
        }
    }
    if let Some(date) = body(kind::PROCSTAT_OSREL).and_then(|b| u32_at(&b, 4, e)) {
        // The release the program was built for, not the kernel's.
        reading.attributes.push(attribute("process.osrel", None, date.to_string()));
    }
    let first = parts.index.iter().find(|n| n.kind == kind::PRSTATUS && &*n.owner == "FreeBSD");
    let date_at = if wide { 32 } else { 16 };
    if let Some(date) = first.and_then(|n| u32_at(&n.prefix(parts.source, 64), date_at, e)).filter(|d| *d != 0) {
        // pr_osreldate of the kernel, such as 1300130: 13.0, then a count of changes of the interface.
        let major = date.checked_div(100_000).unwrap_or(0);
        let minor = date.checked_div(1000).and_then(|n| n.checked_rem(100)).unwrap_or(0);
        reading.identity.release = Some(format!("{major}.{minor}").into());
        reading.attributes.push(attribute("kernel.osreldate", None, date.to_string()));
    }
    let text_file = files(parts, &body(kind::PROCSTAT_FILES).unwrap_or_default(), reading);
    if let Some(b) = body(kind::PROCSTAT_VMMAP) {
        reading.files = mappings(parts, &b);
    } else {
        parts.doubts.push(Doubt::new("note", "the core lists no mappings: what has no segment may have been mapped"));
        reading.outside = crate::elfcore::memory::Outside::Unlisted;
    }
    let auxv = body(kind::PROCSTAT_AUXV).unwrap_or_default();
    let entries = auxv.get(4..).unwrap_or_default().chunks_exact(if wide { 16 } else { 8 }).filter_map(|raw| {
        if wide {
            Some((u64_at(raw, 0, e)?, u64_at(raw, 8, e)?))
        } else {
            Some((u64::from(u32_at(raw, 0, e)?), u64::from(u32_at(raw, 4, e)?)))
        }
    });
    let at = entries.take_while(|(k, _)| *k != 0).find(|(k, _)| *k == AT_EXECPATH).map(|(_, v)| v);
    let memory: &dyn evidence::Memory = parts.memory;
    let path = at.and_then(|at| memory.read_c_string(Addr(at), LIMIT_PATH).ok()).filter(|p| p.starts_with('/'));
    reading.identity.executable = text_file.or(path.map(String::into_boxed_str));
    facts::read(parts, &body, reading);
}

/// The structures of a note: each begins with its own size, and the last one may be cut. A size of nothing ends them.
fn structures<'b>(body: &'b [u8], parts: &Parts<'_>, limit: usize) -> Vec<&'b [u8]> {
    let mut out = Vec::new();
    let mut rest = body.get(4..).unwrap_or_default();
    while out.len() < limit {
        let Some(size) = u32_at(rest, 0, parts.headers.endian).filter(|s| *s >= 16) else { break };
        let Some((one, behind)) = rest.split_at_checked(size.to_usize()) else {
            let why = format!("a list of structures is cut: {} of {size} bytes are there", rest.len());
            parts.doubts.push(Doubt::new("note", why));
            break;
        };
        out.push(one);
        rest = behind;
    }
    out
}

/// `struct kinfo_file`: size, type, fd, references, flags, padding, offset at 24, ..., path at 368 (since FreeBSD 12,
/// the same on all architectures). Returns the executable's path.
fn files(parts: &Parts<'_>, body: &[u8], reading: &mut Reading) -> Option<Box<str>> {
    let e = parts.headers.endian;
    let mut executable = None;
    for file in structures(body, parts, LIMIT_FILES) {
        let path = file.get(368..).and_then(|b| c_str_at(b, 0)).filter(|p| !p.is_empty());
        let Some(fd) = i32_at(file, 8, e) else { continue };
        if fd == KF_FD_TYPE_TEXT {
            executable = path.clone().map(String::into_boxed_str);
        }
        let Ok(descriptor) = u64::try_from(fd) else { continue };
        // KF_TYPE_*.
        let kind = match i32_at(file, 4, e) {
            Some(1) => "vnode",
            Some(2) => "socket",
            Some(3) => "pipe",
            Some(4) => "fifo",
            Some(5) => "kqueue",
            Some(8) => "shm",
            Some(9) => "sem",
            Some(10) => "pts",
            Some(11) => "procdesc",
            _ => "other",
        };
        reading.open_files.push(OpenFile {
            descriptor,
            target: path.unwrap_or_else(|| format!("{kind}:")).into(),
            flags: None,
            position: u64_at(file, 24, e).filter(|_| kind == "vnode"),
        });
    }
    executable
}

/// `struct kinfo_vmentry`: size, type, start, end, offset at 24, ..., protection at 56, path at 136 (since FreeBSD 12,
/// the same on all architectures). It lists every mapping, also those without a segment.
fn mappings(parts: &Parts<'_>, body: &[u8]) -> Vec<FileRange> {
    let e = parts.headers.endian;
    let mut out: Vec<FileRange> = Vec::new();
    for entry in structures(body, parts, LIMIT_SEGMENTS.to_usize()) {
        let (Some(start), Some(end), Some(offset)) = (u64_at(entry, 8, e), u64_at(entry, 16, e), u64_at(entry, 24, e))
        else {
            continue;
        };
        if start >= end {
            continue;
        }
        let path = entry.get(136..).and_then(|b| c_str_at(b, 0)).filter(|p| !p.is_empty());
        let flags = u32_at(entry, 56, e).unwrap_or(0);
        out.push(FileRange {
            range: Addr(start)..Addr(end),
            offset: if path.is_some() { offset } else { 0 },
            path: path.map(Arc::from),
            deleted: false,
            // KVME_PROT_READ 1, WRITE 2, EXEC 4.
            protection: Some(Protection { read: flags & 1 != 0, write: flags & 2 != 0, execute: flags & 4 != 0 }),
        });
    }
    if out.len().to_u64() >= LIMIT_SEGMENTS {
        parts.doubts.push(Doubt::new("note", format!("the first {LIMIT_SEGMENTS} mappings are used")));
    }
    out
}
