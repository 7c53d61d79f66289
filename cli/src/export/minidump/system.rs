//! The streams about the system and the process: system information, times, mappings, texts of `/proc`, annotations.

use super::buffer::Buffer;
use snapshot_format::Snapshot;
use snapshot_format::schema::{Event, Mapping};
use std::fmt::Write as _;

const SYSTEM_INFO: u32 = 7;
const MISC_INFO: u32 = 15;
const MEMORY_INFO_LIST: u32 = 16;
const LINUX_PROC_STATUS: u32 = 0x4767_0004;
const LINUX_CMD_LINE: u32 = 0x4767_0006;
const LINUX_AUXV: u32 = 0x4767_0008;
const LINUX_MAPS: u32 = 0x4767_0009;
const CRASHPAD_INFO: u32 = 0x4350_0001;
/// The note of a core that holds the auxiliary vector (elf.h `NT_AUXV`).
const NT_AUXV: u64 = 6;

/// Linux's signals by number, from 1.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The number of an event's signal in Linux's numbering.
pub fn signal(snapshot: &Snapshot, event: &Event) -> Option<u32> {
    let own = u32::try_from(event.signal?).ok()?;
    if !matches!(snapshot.identity.os.as_str(), "freebsd" | "illumos") {
        return Some(own);
    }
    let name = event.signal_name.as_deref()?;
    let index = SIGNALS.iter().position(|s| *s == name)?;
    u32::try_from(index + 1).ok()
}

pub fn write(snapshot: &Snapshot, dump: &mut Buffer) {
    let identity = &snapshot.identity;
    let (processor, platform) = (
        match identity.arch.as_str() {
            "x86" => 0_u16,
            "arm" => 5,
            "x86_64" => 9,
            "aarch64" => 12,
            _ => 0xffff,
        },
        match identity.os.as_str() {
            "windows" => 2_u32,
            "macos" => 0x8101,
            "ios" => 0x8102,
            "android" => 0x8203,
            _ => 0x8201,
        },
    );
    let name = match identity.os.as_str() {
        "linux" | "android" => "Linux",
        "freebsd" => "FreeBSD",
        "illumos" => "illumos",
        other => other,
    };
    let release = identity.release.as_deref().unwrap_or_default();
    let service_pack =
        dump.utf16(if release.starts_with(name) { release.to_owned() } else { format!("{name} {release}") }.trim());
    let mut version = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let version = [version.next(), version.next(), version.next()].map(|n| n.unwrap_or(0));
    dump.stream(SYSTEM_INFO, |d| {
        d.u16(processor);
        d.u16(0); // level
        d.u16(0); // revision
        d.bytes(&[0, 0]); // processors, product type
        version.iter().for_each(|n| d.u32(*n));
        d.u32(platform);
        d.u32(service_pack);
        d.u16(0);
        d.u16(0);
        d.bytes(&[0; 24]); // what CPUID says
    });
    if let Some(pid) = identity.pid.and_then(|p| u32::try_from(p).ok()) {
        dump.stream(MISC_INFO, |d| {
            d.u32(24);
            d.u32(1); // MINIDUMP_MISC1_PROCESS_ID
            d.u32(pid);
            d.bytes(&[0; 12]); // times
        });
    }
    let text = |key: &str| {
        let found = snapshot.attributes.iter().find(|a| a.key == key && a.thread.is_none());
        found.map(|a| a.value.as_str())
    };
    if let Some(status) = text("proc.status") {
        dump.stream(LINUX_PROC_STATUS, |d| d.bytes(status.as_bytes()));
    } else if let Some(pid) = identity.pid {
        // lldb takes the process id from here.
        let command = identity.command.as_deref().unwrap_or_default();
        dump.stream(LINUX_PROC_STATUS, |d| {
            d.bytes(format!("Name:\t{command}\nTgid:\t{pid}\nPid:\t{pid}\n").as_bytes())
        });
    }
    if let Some(line) = &identity.arguments {
        dump.stream(LINUX_CMD_LINE, |d| d.bytes(format!("{line}\0").as_bytes()));
    }
    if let Some(auxv) = snapshot.notes.iter().find(|n| n.owner == "CORE" && n.kind == NT_AUXV) {
        dump.stream(LINUX_AUXV, |d| d.bytes(&auxv.body));
    }
    mappings(&snapshot.mappings, dump);
    annotations(snapshot, dump);
}

/// The mappings, in the kernel's text (with the blank before the path that is there without a path, too) and as
/// `MINIDUMP_MEMORY_INFO`. Those of unknown protection are in neither.
fn mappings(mappings: &[Mapping], dump: &mut Buffer) {
    let known: Vec<&Mapping> =
        mappings.iter().filter(|m| m.start < m.end && !m.protection.get(..3).unwrap_or("?").contains('?')).collect();
    if known.is_empty() {
        return;
    }
    let mut text = String::new();
    for m in &known {
        let protection = m.protection.replace('?', "p");
        let deleted = if m.deleted { " (deleted)" } else { "" };
        let path = m.path.as_deref().unwrap_or_default().replace('\n', "\\012");
        // Writing to a string cannot fail. Neither device nor inode are known.
        let _ =
            writeln!(text, "{:08x}-{:08x} {protection} {:08x} 00:00 0 {path}{deleted}", m.start, m.end, m.file_offset);
    }
    dump.stream(LINUX_MAPS, |d| d.bytes(text.as_bytes()));
    dump.stream(MEMORY_INFO_LIST, |d| {
        d.u32(16);
        d.u32(48);
        d.u64(known.len() as u64);
        for m in &known {
            // PAGE_NOACCESS, READONLY, READWRITE, EXECUTE, EXECUTE_READ, EXECUTE_READWRITE.
            let protection: u32 = match m.protection.get(..3).unwrap_or("---") {
                "---" => 0x01,
                "r--" => 0x02,
                "rw-" | "-w-" => 0x04,
                "--x" => 0x10,
                "r-x" => 0x20,
                _ => 0x40,
            };
            d.u64(m.start);
            d.u64(m.start);
            d.u32(protection);
            d.u32(0);
            d.u64(m.end - m.start);
            d.u32(0x1000); // MEM_COMMIT
            d.u32(protection);
            d.u32(if m.path.as_deref().is_some_and(|p| p.starts_with('/')) { 0x4_0000 } else { 0x2_0000 });
            d.u32(0);
        }
    });
}

/// The textual facts as Crashpad's simple annotations, and what the readers of such annotations like to know.
fn annotations(snapshot: &Snapshot, dump: &mut Buffer) {
    let identity = &snapshot.identity;
    let mut pairs: Vec<(&str, &str)> = vec![("postfault.os", &identity.os), ("postfault.origin", &identity.origin)];
    if let Some(fingerprint) = &snapshot.fingerprint {
        pairs.push(("postfault.fingerprint", &fingerprint.value));
    }
    if let Some(message) = snapshot.event.as_ref().and_then(|e| e.message.as_deref()) {
        pairs.push(("abort_message", message));
    }
    if let Some(finding) = snapshot.findings.first() {
        pairs.push(("postfault.finding", &finding.class));
    }
    let attributes = snapshot.attributes.iter().filter(|a| a.thread.is_none());
    pairs.extend(attributes.map(|a| (a.key.as_str(), a.value.as_str())));
    let places: Vec<(u32, u32)> = pairs.iter().map(|(key, value)| (dump.utf8(key), dump.utf8(value))).collect();
    let mut dictionary = (places.len() as u32).to_le_bytes().to_vec();
    for (key, value) in places {
        dictionary.extend_from_slice(&key.to_le_bytes());
        dictionary.extend_from_slice(&value.to_le_bytes());
    }
    let dictionary = dump.blob(&dictionary);
    dump.stream(CRASHPAD_INFO, |d| {
        d.u32(1); // version
        d.bytes(&[0; 32]); // identifiers of report and client
        d.place(dictionary);
        d.place((0, 0)); // annotations of modules
    });
}
