//! The kernel's messages: out of its queues, or as the dump device holds them.
//!
//! Sources: sys/log.h and sys/strlog.h (`log_ctl_t`), sys/stream.h (`msgb`, `queue`).

use super::Illumos;
use evidence::bytes::{Endian, c_str_at, slice_at, u32_at};
use evidence::{Addr, Attribute, Target, ToUsize};
use snapshot_format::schema::LogRecord;
use std::collections::BTreeMap;

const LE: Endian = Endian::Little;
/// Messages that are kept: the kernel itself keeps some thousands.
const LIMIT_MESSAGES: usize = 1 << 16;
/// Bytes of `log_ctl_t`, and where time, sequence number and priority lie.
const CONTROL: usize = 24;
const TIME: usize = 12;
const SEQUENCE: usize = 16;
const PRIORITY: usize = 20;
/// Bytes of one message.
const LIMIT_TEXT: u64 = 64 << 10;
/// Error reports that are named.
const LIMIT_REPORTS: usize = 256;
/// syslog's words for the lowest three bits of a priority.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

fn record(control: &[u8], text: &str) -> Option<(u32, LogRecord)> {
    let seconds = u32_at(control, TIME, LE)?;
    let priority = u32_at(control, PRIORITY, LE)?.to_usize();
    let record = LogRecord {
        time_ns: u64::from(seconds).checked_mul(1_000_000_000).filter(|t| *t > 0),
        level: (priority != 0).then(|| LEVELS.get(priority & 7)).flatten().map(|l| (*l).to_owned()),
        text: text.trim_end_matches(['\n', '\0']).to_owned(),
    };
    Some((u32_at(control, SEQUENCE, LE)?, record))
}

/// The messages in memory, in their order: those that were logged, and those that were still to be.
pub(super) fn read(illumos: &Illumos<'_>) -> Vec<LogRecord> {
    let mut found: BTreeMap<(u32, Addr), LogRecord> = BTreeMap::new();
    for name in ["log_recentq", "log_consq"] {
        let Some(queue) = illumos.variable(name).filter(|q| *q != 0).map(Addr) else { continue };
        let Some(first) = illumos.pointer(queue, "queue", "q_first") else { continue };
        for block in illumos.list(first, "msgb", "b_next", "kernel-log").into_iter().take(LIMIT_MESSAGES) {
            let message = message(illumos, block);
            found.extend(message.map(|(sequence, record)| ((sequence, block), record)));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.into_iter().filter(|((n, _), r)| seen.insert((*n, r.text.clone()))).map(|(_, r)| r).collect()
}

fn message(illumos: &Illumos<'_>, block: Addr) -> Option<(u32, LogRecord)> {
    let mut control = [0; CONTROL];
    illumos.given.memory.read_exact(illumos.pointer(block, "msgb", "b_rptr")?, &mut control).ok()?;
    let body = illumos.pointer(block, "msgb", "b_cont")?;
    let (start, end) = (illumos.pointer(body, "msgb", "b_rptr")?, illumos.pointer(body, "msgb", "b_wptr")?);
    let length = end.offset_from(start).filter(|l| *l <= LIMIT_TEXT)?;
    let mut text = vec![0; length.to_usize()];
    illumos.given.memory.read_exact(start, &mut text).ok()?;
    record(&control, &c_str_at(&text, 0)?)
}

/// The messages that the kernel wrote to its dump device.
pub(super) fn of_device(target: &dyn Target) -> Vec<LogRecord> {
    let notes = target.notes().iter().filter(|n| &*n.owner == "illumos.message");
    notes
        .filter_map(|n| record(slice_at(&n.body, 0, CONTROL)?, &c_str_at(&n.body, CONTROL)?))
        .map(|(_, record)| record)
        .collect()
}

/// The classes of the error reports on the device.
pub(super) fn reports(target: &dyn Target) -> Vec<Attribute> {
    let notes = target.notes().iter().filter(|n| &*n.owner == "illumos.ereport").take(LIMIT_REPORTS);
    notes
        .filter_map(|n| class(&n.body))
        .map(|class| Attribute { key: "fm.ereport".into(), thread: None, value: class.into() })
        .collect()
}

/// The string that follows the name `class` in a packed nvlist, in either of its encodings: class names are words
/// joined by dots that begin with `ereport`.
fn class(body: &[u8]) -> Option<String> {
    let needle = b"ereport.";
    let at = body.windows(needle.len()).position(|w| w == needle)?;
    let text: String = body
        .get(at..)?
        .iter()
        .map(|b| char::from(*b))
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .take(256)
        .collect();
    Some(text)
}
