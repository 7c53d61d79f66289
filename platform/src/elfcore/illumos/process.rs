//! The process: `psinfo_t`, `pstatus_t`, `utsname`, the zone, open files, and a panic message of its own.

use super::{credentials, kind};
use crate::elfcore::mappings::FileRange;
use crate::elfcore::notes::NoteRef;
use crate::elfcore::{Parts, Reading, attribute};
use evidence::bytes::{c_str_at, slice_at, u32_at, u64_at};
use evidence::{Addr, Event, OpenFile, ThreadId};
use std::sync::Arc;

/// How many open files are listed: the hard limit of descriptors is 65,536 by default.
const LIMIT_FILES: usize = 65_536;
/// `AT_SUN_EXECNAME` (sys/auxv.h): where the path of the executable stands.
const AT_SUN_EXECNAME: u64 = 2014;
/// The longest path.
const LIMIT_PATH: usize = 4096;
/// What a core may hold, by the bits of `core_content_t` (sys/corectl.h).
const CONTENTS: [&str; 13] =
    ["stack", "heap", "shfile", "shanon", "text", "data", "rodata", "anon", "shm", "ism", "dism", "ctf", "symtab"];
/// Bytes of the largest of these notes: `UPANIC` has 1032, `utsname` 1285.
const LIMIT_BODY: usize = 16 << 10;

/// Fills identity, attributes, open files and names.
pub(super) fn read(parts: &Parts<'_>, notes: &[(&NoteRef, Option<ThreadId>)], reading: &mut Reading) {
    let (wide, e) = (parts.headers.wide, parts.headers.endian);
    let body = |kind| notes.iter().find(|(n, _)| n.kind == kind).map(|(n, _)| n.prefix(parts.source, LIMIT_BODY));
    let number = |b: &[u8], at| u32_at(b, at, e).map(u64::from);
    let text = |b: &[u8], at, len| slice_at(b, at, len).and_then(|b| c_str_at(b, 0)).filter(|t| !t.is_empty());
    if let Some(b) = body(kind::PSINFO) {
        // psinfo_t: ints up to pr_egid, then pointers and sizes, then the names.
        let name_at = if wide { 136_usize } else { 88 };
        let identity = &mut reading.identity;
        identity.pid = number(&b, 8);
        identity.parent_pid = number(&b, 12);
        identity.command = text(&b, name_at, 16).map(String::into_boxed_str);
        identity.arguments = text(&b, name_at.saturating_add(16), 80).map(|a| Box::from(a.trim_end()));
        let ids = [("process.uid", 24_usize), ("process.euid", 28), ("process.gid", 32), ("process.egid", 36)];
        for (key, at) in ids {
            reading.attributes.extend(number(&b, at).map(|n| attribute(key, None, n.to_string())));
        }
    }
    if let Some(b) = body(kind::PSTATUS) {
        reading.identity.pid = reading.identity.pid.or(number(&b, 8));
        reading.identity.parent_pid = reading.identity.parent_pid.or(number(&b, 12));
        let word = |n: usize| {
            let at = n.checked_mul(if wide { 8 } else { 4 })?.checked_add(48)?;
            if wide { u64_at(&b, at, e) } else { number(&b, at) }
        };
        // pr_brkbase, pr_brksize, pr_stkbase, pr_stksize.
        for (name, base, size) in [("[heap]", word(0), word(1)), ("[stack]", word(2), word(3))] {
            if let (Some(base), Some(size @ 1..)) = (base, size) {
                name_segments(parts, reading, base, base.saturating_add(size), name);
            }
        }
    }
    if let Some(b) = body(kind::UTSNAME) {
        // Five strings of 257 bytes: system, node, release, version, machine.
        reading.identity.host = text(&b, 257, 257).map(String::into_boxed_str);
        let release: Vec<String> = [text(&b, 514, 257), text(&b, 771, 257)].into_iter().flatten().collect();
        reading.identity.release = Some(release.join(" ")).filter(|r| !r.is_empty()).map(String::into_boxed_str);
    }
    for (note, facts) in credentials::NOTES {
        let facts = body(*note).map(|b| facts(&b, e)).unwrap_or_default();
        reading.attributes.extend(facts.into_iter().map(|(key, value)| attribute(key, None, value)));
    }
    for (key, note) in [("process.zone", kind::ZONENAME), ("process.platform", kind::PLATFORM)] {
        let value = body(note).and_then(|b| c_str_at(&b, 0)).filter(|t| !t.is_empty());
        reading.attributes.extend(value.map(|v| attribute(key, None, v)));
    }
    // What coreadm had the kernel write; the rest is left out.
    if let Some(content) = body(kind::CONTENT).and_then(|b| u64_at(&b, 0, e)) {
        let named = CONTENTS
            .iter()
            .enumerate()
            .filter(|(n, _)| u32::try_from(*n).is_ok_and(|n| content.checked_shr(n).unwrap_or(0) & 1 != 0))
            .map(|(_, name)| *name);
        reading.attributes.push(attribute("core.content", None, named.collect::<Vec<_>>().join(" ")));
    }
    if let Some(b) = body(kind::UPANIC)
        // prupanic_t: version, flags (bit 0: the message is valid), the message.
        && number(&b, 4).is_some_and(|f| f & 1 != 0)
        && let Some(message) = text(&b, 8, 1024)
    {
        reading.event.get_or_insert_with(Event::default).message = Some(message.into());
    }
    executable(parts, body(kind::AUXV), reading);
    let files = notes.iter().filter(|(n, _)| n.kind == kind::FDINFO).take(LIMIT_FILES);
    for (note, _) in files {
        let b = note.prefix(parts.source, LIMIT_BODY);
        // prfdinfo_core_t: fd, mode, ids, devices, then inode, offset, size, flags, and the path at 64.
        let Some(fd) = number(&b, 0) else { continue };
        reading.open_files.push(OpenFile {
            descriptor: fd,
            target: text(&b, 64, 1024).unwrap_or_default().into(),
            flags: number(&b, 56),
            position: u64_at(&b, 40, e),
        });
    }
}

/// Names the segments in a range that the process status gives.
fn name_segments(parts: &Parts<'_>, reading: &mut Reading, start: u64, end: u64, name: &str) {
    let loads = parts.headers.segments.iter().filter(|s| s.kind == crate::elfcore::headers::PT_LOAD && s.memsz > 0);
    for s in loads {
        let stop = s.vaddr.saturating_add(s.memsz);
        let (from, to) = (s.vaddr.max(start), stop.min(end));
        if from < to {
            let range = Addr(from)..Addr(to);
            let path = Some(Arc::from(name));
            reading.files.push(FileRange { range, offset: 0, path, deleted: false, protection: None });
        }
    }
}

fn executable(parts: &Parts<'_>, auxv: Option<Vec<u8>>, reading: &mut Reading) {
    let (wide, e) = (parts.headers.wide, parts.headers.endian);
    let auxv = auxv.unwrap_or_default();
    let entry = |raw: &[u8]| {
        if wide {
            Some((u64_at(raw, 0, e)?, u64_at(raw, 8, e)?))
        } else {
            Some((u64::from(u32_at(raw, 0, e)?), u64::from(u32_at(raw, 4, e)?)))
        }
    };
    let entries = auxv.chunks_exact(if wide { 16 } else { 8 }).filter_map(entry);
    let at = entries.take_while(|(k, _)| *k != 0).find(|(k, _)| *k == AT_SUN_EXECNAME).map(|(_, v)| v);
    let memory: &dyn evidence::Memory = parts.memory;
    let path = at.and_then(|at| memory.read_c_string(Addr(at), LIMIT_PATH).ok()).filter(|p| !p.is_empty());
    reading.identity.executable = path.map(String::into_boxed_str);
}
