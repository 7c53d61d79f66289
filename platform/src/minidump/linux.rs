//! The text streams of Linux writers: what `/proc` said when the dump was written.
//!
//! Streams 0x47670003 and following of Breakpad's minidump_format.h; 0x4767000b is lldb's.

use super::reader::Reader;
use super::{LINUX_AUXV, LINUX_MAPS};
use evidence::{Attribute, Identity, Note};
use std::sync::Arc;

/// Bytes of one text that are kept; `/proc/cpuinfo` of a machine with a thousand processors has two megabytes.
const LIMIT_TEXT: usize = 4 << 20;

/// (stream, key, whether it is a list of NUL-terminated strings).
const TEXTS: [(u32, &str, bool); 7] = [
    (0x4767_0003, "host.cpuinfo", false),
    (0x4767_0004, "proc.status", false),
    (0x4767_0005, "host.lsb_release", false),
    (0x4767_0006, "proc.command_line", true),
    (0x4767_0007, "proc.environment", true),
    (0x4767_000b, "proc.stat", false),
    (0x4d7a_0003, "proc.limits", false),
];

/// Reads the texts into attributes, and what they say of the process into its identity.
pub(super) fn read(reader: &Reader<'_>, identity: &mut Identity, attributes: &mut Vec<Attribute>) {
    for (kind, key, list) in TEXTS {
        let Some(raw) = reader.all(kind).find(|b| !b.is_empty()) else { continue };
        if raw.len() > LIMIT_TEXT {
            reader.doubt(format!("{key} has {} bytes; the first {LIMIT_TEXT} are kept", raw.len()));
        }
        let raw = raw.get(..LIMIT_TEXT.min(raw.len())).unwrap_or_default();
        let text = if list { lines(raw) } else { String::from_utf8_lossy(raw).trim_end_matches('\0').to_owned() };
        about(key, &text, identity);
        attributes.push(Attribute { key: key.into(), thread: None, value: text.into() });
    }
    // The kernel's text is kept as well: mappings carry most of it, not all.
    if let Some(raw) = reader.all(LINUX_MAPS).find(|b| !b.is_empty() && b.len() <= LIMIT_TEXT) {
        let value = String::from_utf8_lossy(&raw).into_owned().into();
        attributes.push(Attribute { key: "proc.maps".into(), thread: None, value });
    }
}

/// NUL-terminated strings as lines.
fn lines(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    text.trim_end_matches('\0').replace('\0', "\n")
}

fn about(key: &str, text: &str, identity: &mut Identity) {
    match key {
        "proc.status" => {
            let value = |name: &str| {
                let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
                Some(line.trim().to_owned()).filter(|v| !v.is_empty())
            };
            // The text may describe a thread: `Tgid` is the process.
            identity.pid = identity.pid.or_else(|| value("Tgid")?.parse().ok());
            identity.parent_pid = value("PPid").and_then(|v| v.parse().ok());
            identity.command = value("Name").map(Into::into);
        }
        "proc.command_line" if !text.is_empty() => {
            identity.arguments = Some(text.replace('\n', " ").into());
        }
        _ => {}
    }
}

/// The auxiliary vector, as the note that a core has for it.
pub(super) fn auxv(reader: &Reader<'_>) -> Option<Note> {
    let raw = reader.all(LINUX_AUXV).find(|b| !b.is_empty())?;
    Some(Note {
        owner: "CORE".into(),
        kind: crate::linux_abi::NT_AUXV,
        thread: None,
        body: Arc::from(raw.get(..raw.len().min(LIMIT_TEXT)).unwrap_or_default()),
    })
}
