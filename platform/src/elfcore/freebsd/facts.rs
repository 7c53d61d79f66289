//! Facts of the process that are no threads, files or mappings: groups, umask, limits, `ps_strings`, kqueues.

use super::kind;
use crate::elfcore::{Parts, Reading, attribute};
use evidence::bytes::{c_str_at, i32_at, u16_at, u32_at, u64_at};
use evidence::{Addr, Doubt, Memory, ToUsize};

/// How many strings of a vector are read; `kern.argmax` of 512 KiB has room for that many of 7 bytes.
const LIMIT_STRINGS: u32 = 1 << 16;
/// Bytes of a vector's strings together: twice the largest `kern.argmax` that is usual.
const LIMIT_TEXT: usize = 1 << 20;
/// How many groups are listed; `kern.ngroups` is 1023 by default and may be set in loader.conf.
const LIMIT_GROUPS: usize = 1 << 16;
/// `RLIM_INFINITY` (sys/sys/resource.h).
const RLIM_INFINITY: u64 = i64::MAX.unsigned_abs();
/// The limits in the order of their numbers, under the names of the system's header.
const LIMITS: [&str; 16] = [
    "cpu", "fsize", "data", "stack", "core", "rss", "memlock", "nproc", "nofile", "sbsize", "vmem", "npts", "swap",
    "kqueues", "umtx", "pipebuf",
];

/// Adds what these notes say to the attributes; the strings say more than `NT_PRPSINFO` of the arguments.
pub(super) fn read(parts: &Parts<'_>, body: &dyn Fn(u32) -> Option<Vec<u8>>, reading: &mut Reading) {
    let e = parts.headers.endian;
    // Every body begins with the size of one structure; another size than the expected is another form.
    let list = |kind: u32, size: u32, name: &str| {
        let raw = body(kind)?;
        if u32_at(&raw, 0, e) != Some(size) {
            let found = u32_at(&raw, 0, e).map_or("nothing".to_owned(), |n| n.to_string());
            let why = format!("the {name} have structures of {found} bytes, not {size}: they are left out");
            parts.doubts.push(Doubt::new("note", why));
            return None;
        }
        raw.get(4..).map(<[u8]>::to_vec)
    };
    let mut fact = |key: &str, value: String| reading.attributes.push(attribute(key, None, value));
    if let Some(raw) = list(kind::PROCSTAT_GROUPS, 4, "groups") {
        let ids: Vec<String> = raw.chunks_exact(4).filter_map(|g| u32_at(g, 0, e)).map(|g| g.to_string()).collect();
        if ids.len() > LIMIT_GROUPS {
            parts.doubts.push(Doubt::new("note", format!("the first {LIMIT_GROUPS} groups are listed")));
        }
        fact("process.groups", ids.get(..LIMIT_GROUPS).unwrap_or(&ids).join(" "));
    }
    if let Some(mask) = list(kind::PROCSTAT_UMASK, 2, "umask").and_then(|raw| u16_at(&raw, 0, e)) {
        fact("process.umask", format!("{mask:04o}"));
    }
    if let Some(raw) = body(kind::PROCSTAT_RLIMIT) {
        // One structure: all limits, pairs of signed 64-bit numbers, current and highest.
        let pairs = raw.get(4..).unwrap_or_default().chunks_exact(16);
        if u32_at(&raw, 0, e).map(ToUsize::to_usize) == raw.len().checked_sub(4) && pairs.len() > 0 {
            fact("process.limits", limits(pairs.filter_map(|p| Some((u64_at(p, 0, e)?, u64_at(p, 8, e)?)))));
        } else {
            parts.doubts.push(Doubt::new("note", "the limits of the process are cut: they are left out"));
        }
    }
    let pointer = if parts.headers.wide { 8 } else { 4 };
    if let Some(raw) = list(kind::PROCSTAT_PSSTRINGS, pointer, "places of the strings") {
        let at = if parts.headers.wide { u64_at(&raw, 0, e) } else { u32_at(&raw, 0, e).map(u64::from) };
        if let Some(at) = at.filter(|at| *at != 0) {
            reading.attributes.push(attribute("process.ps_strings", None, format!("{at:#x}")));
            strings(parts, Addr(at), reading);
        }
    }
    if let Some(raw) = body(kind::PROCSTAT_KQUEUES) {
        kqueues(parts, &raw, reading);
    }
}

/// A line for each: name, current, highest.
fn limits(pairs: impl Iterator<Item = (u64, u64)>) -> String {
    let word = |n: u64| if n == RLIM_INFINITY { "unlimited".to_owned() } else { n.to_string() };
    let lines = pairs.enumerate().map(|(n, (now, most))| {
        let name = LIMITS.get(n).map_or_else(|| format!("limit{n}"), |n| (*n).to_owned());
        format!("{name} {} {}", word(now), word(most))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `struct ps_strings` (sys/sys/exec.h) in the program's memory: argv and its count, envp and its count.
fn strings(parts: &Parts<'_>, at: Addr, reading: &mut Reading) {
    let (argv, environ) = if parts.headers.wide { (0, 16) } else { (0, 8) };
    if let Some(arguments) = vector(parts, at.wrapping_add(argv)).filter(|a| !a.is_empty()) {
        reading.identity.arguments = Some(arguments.join(" ").into());
    }
    if let Some(environment) = vector(parts, at.wrapping_add(environ)).filter(|v| !v.is_empty()) {
        reading.attributes.push(attribute("process.environment", None, environment.join("\n")));
    }
}

/// The strings of one vector, all of them or none.
fn vector(parts: &Parts<'_>, at: Addr) -> Option<Vec<String>> {
    let e = parts.headers.endian;
    let word: usize = if parts.headers.wide { 8 } else { 4 };
    let number = |at: Addr| {
        let mut raw = [0_u8; 8];
        let raw = raw.get_mut(..word)?;
        (parts.memory.read(at, raw) == (word, None)).then_some(())?;
        if parts.headers.wide { u64_at(raw, 0, e) } else { u32_at(raw, 0, e).map(u64::from) }
    };
    let step = u64::try_from(word).ok()?;
    let list = Addr(number(at)?);
    let mut raw = [0_u8; 4];
    (parts.memory.read(at.wrapping_add(step), &mut raw) == (4, None)).then_some(())?;
    let count = u32_at(&raw, 0, e)?;
    if count > LIMIT_STRINGS {
        let why = format!("ps_strings speaks of {count} strings, more than the {LIMIT_STRINGS} that are read");
        parts.doubts.push(Doubt::new("arguments", why));
        return None;
    }
    let mut left = LIMIT_TEXT;
    let mut out = Vec::new();
    for n in 0..u64::from(count) {
        let text = Addr(number(list.wrapping_add(n.wrapping_mul(step)))?);
        // A program may put a null pointer over a string of its own.
        if text.0 == 0 {
            continue;
        }
        let memory: &dyn Memory = parts.memory;
        let text = memory.read_c_string(text, left).ok()?;
        left = left.checked_sub(text.len())?;
        out.push(text);
    }
    Some(out)
}

/// How many events are listed.
const LIMIT_KNOTES: usize = 4096;
/// `EVFILT_*` from -1 downwards (sys/sys/event.h).
const FILTERS: [&str; 15] = [
    "read", "write", "aio", "vnode", "proc", "signal", "timer", "procdesc", "fs", "lio", "user", "sendfile", "empty",
    "jail", "jaildesc",
];
/// `KNOTE_STATUS_*` (sys/sys/user.h).
const STATUS: [&str; 5] = ["active", "queued", "disabled", "detached", "kqueue"];
/// `KNOTE_EXTDATA_VNODE`: the path is there.
const EXTDATA_VNODE: i32 = 1;

/// `struct kinfo_knote` (sys/sys/user.h, FreeBSD 15): the kqueue's descriptor, a `struct kevent`, status, what a file
/// is called. A line for each.
fn kqueues(parts: &Parts<'_>, raw: &[u8], reading: &mut Reading) {
    let e = parts.headers.endian;
    let wide = parts.headers.wide;
    // Size; kevent's ident, its filter, flags and filter flags, data; status; path.
    let (size, ident, filter, data, status, path): (usize, _, usize, _, usize, _) =
        if wide { (1160, 8, 16, 24, 72, 136) } else { (1144, 4, 8, 16, 60, 120) };
    let found = u32_at(raw, 0, e).map_or(0, ToUsize::to_usize);
    if found != size {
        let why = format!("the events of kqueues have structures of {found} bytes, not {size}: they are left out");
        parts.doubts.push(Doubt::new("note", why));
        return;
    }
    let all = raw.get(4..).unwrap_or_default().chunks_exact(size);
    if all.len() > LIMIT_KNOTES {
        let why = format!("the first {LIMIT_KNOTES} of {} events of kqueues are listed", all.len());
        parts.doubts.push(Doubt::new("note", why));
    }
    if !all.remainder().is_empty() {
        parts.doubts.push(Doubt::new("note", "the list of events of kqueues is cut"));
    }
    let line = |one: &[u8]| {
        let queue = i32_at(one, 0, e)?;
        let ident = if wide { u64_at(one, ident, e)? } else { u64::from(u32_at(one, ident, e)?) };
        let number = u16_at(one, filter, e)?.cast_signed();
        let name = usize::try_from(number.checked_add(1)?.checked_neg()?).ok().and_then(|n| FILTERS.get(n));
        let name = name.map_or_else(|| number.to_string(), |n| (*n).to_owned());
        let flags = u16_at(one, filter.checked_add(2)?, e)?;
        let special = u32_at(one, filter.checked_add(4)?, e)?;
        let data = u64_at(one, data, e)?.cast_signed();
        let bits = u32_at(one, status, e)?;
        let words = STATUS
            .iter()
            .enumerate()
            .filter(|(n, _)| bits.checked_shr(u32::try_from(*n).unwrap_or(32)).unwrap_or(0) & 1 != 0);
        let mut words: Vec<&str> = words.map(|(_, w)| *w).collect();
        if words.is_empty() {
            words.push("-");
        }
        let kind = i32_at(one, status.checked_add(4)?, e)?;
        let path = one.get(path..).and_then(|b| c_str_at(b, 0)).filter(|p| kind == EXTDATA_VNODE && !p.is_empty());
        let path = path.map(|p| format!(" {p}")).unwrap_or_default();
        Some(format!("{queue} {name} {ident} {flags:#x} {special:#x} {data} {}{path}", words.join(",")))
    };
    let lines: Vec<String> = all.take(LIMIT_KNOTES).filter_map(line).collect();
    if !lines.is_empty() {
        reading.attributes.push(attribute("process.kqueues", None, lines.join("\n")));
    }
}
