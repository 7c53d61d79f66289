//! What only a dump device holds besides the dump: the kernel's last messages, its error reports, a summary.
//!
//! They lie before the last 64 KiB, each at a fixed distance (uts/common/os/dumpsubr.c, sys/dumphdr.h, sys/log.h,
//! sys/errorq.h); savecore drops them when it copies a dump.

use super::dumphdr::DUMP_OFFSET;
use crate::source::{ReadAt, exact};
use evidence::bytes::{Endian, c_str_at, u32_at};
use evidence::{Addr, Doubt, Note, ToU64, ToUsize};
use std::sync::Arc;

const LE: Endian = Endian::Little;
/// Bytes of the areas: `DUMP_LOGSIZE`, `DUMP_ERPTSIZE`, `DUMP_SUMMARYSIZE`.
const MESSAGES: u64 = 2 << 20;
const REPORTS: u64 = 3_932_160;
const SUMMARY: u64 = 65_536;
/// `LOG_MAGIC`, `ERPT_MAGIC` and `SUMMARY_MAGIC`. The first two are also the kinds of the notes made here.
const LOG_MAGIC: u32 = 0xf00d_4109;
const REPORT_MAGIC: u32 = 0xf00d_4edd;
const SUMMARY_MAGIC: u32 = 0xdead_0d8a;
/// Bytes of `log_dump_t` and of the `log_ctl_t` that follows it.
const LOG_HEADER: usize = 16;
const LOG_CONTROL: usize = 24;
/// Bytes of `erpt_dump_t`.
const REPORT_HEADER: usize = 48;
/// One message: the log's own buffer for a message has 4 KiB.
const LIMIT_MESSAGE: usize = 64 << 10;
/// One report.
const LIMIT_REPORT: usize = 1 << 20;

/// How much of an area is read at once: they are mostly empty.
const STEP: usize = 64 << 10;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// Owner `illumos.message`: a `log_ctl_t` and the text; owner `illumos.ereport`: a packed nvlist.
    pub notes: Vec<Note>,
    /// The stack of the panicking thread as text.
    pub summary: Option<String>,
}

/// Reads the areas of a device.
pub(super) fn read(source: &dyn ReadAt, doubts: &mut Vec<Doubt>) -> Found {
    let mut found = Found::default();
    let end = source.size().saturating_sub(DUMP_OFFSET) & !(DUMP_OFFSET.saturating_sub(1));
    let Some(messages) = end.checked_sub(MESSAGES) else { return found };
    read_messages(source, messages, &mut found.notes, doubts);
    let Some(reports) = messages.checked_sub(REPORTS) else { return found };
    read_reports(source, reports, &mut found.notes);
    let summary = reports.checked_sub(SUMMARY).and_then(|at| exact(source, at, 2056));
    // A magic, the text's checksum, and 2048 bytes of text.
    found.summary = summary
        .filter(|b| u32_at(b, 0, LE) == Some(SUMMARY_MAGIC))
        .and_then(|b| c_str_at(b.get(8..)?, 0))
        .map(|t| t.trim().to_owned())
        .filter(|t| !t.is_empty());
    found
}

fn note(owner: &str, kind: u32, body: &[u8]) -> Note {
    Note { owner: owner.into(), kind, thread: None, body: Arc::from(body) }
}

/// illumos's `checksum32`: bytes added to a word that rotates right.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |sum, b| sum.rotate_right(1).wrapping_add(u32::from(*b)))
}

/// An area of the device, read as far as there is something in it.
struct Area<'s> {
    source: &'s dyn ReadAt,
    start: u64,
    length: u64,
    read: Vec<u8>,
}

impl Area<'_> {
    fn slice(&mut self, at: usize, length: usize) -> Option<&[u8]> {
        let end = at.checked_add(length)?;
        let here = self.read.len();
        if let Some(missing) = end.checked_sub(here).filter(|m| *m > 0) {
            let room = self.length.to_usize().checked_sub(here).filter(|room| missing <= *room)?;
            let from = self.start.checked_add(here.to_u64())?;
            self.read.extend(exact(self.source, from, missing.next_multiple_of(STEP).min(room))?);
        }
        self.read.get(at..end)
    }
}

fn read_messages(source: &dyn ReadAt, start: u64, notes: &mut Vec<Note>, doubts: &mut Vec<Doubt>) {
    let mut area = Area { source, start, length: MESSAGES, read: Vec::new() };
    let mut at = 0_usize;
    let mut damaged = 0_usize;
    while let Some(head) = area.slice(at, LOG_HEADER) {
        let [magic, length, control_sum, text_sum] = [0, 4, 8, 12].map(|n| u32_at(head, n, LE).unwrap_or(0));
        let length = length.to_usize();
        if magic != LOG_MAGIC || length > LIMIT_MESSAGE {
            break;
        }
        let whole = length.saturating_add(LOG_CONTROL);
        let Some(body) = area.slice(at.saturating_add(LOG_HEADER), whole) else { break };
        let (control, text) = body.split_at_checked(LOG_CONTROL).unwrap_or_default();
        damaged = damaged.saturating_add(usize::from(checksum(control) != control_sum || checksum(text) != text_sum));
        notes.push(note("illumos.message", LOG_MAGIC, body));
        at = at.saturating_add(LOG_HEADER).saturating_add(whole);
    }
    if damaged > 0 {
        let why = format!("{damaged} of {} messages on the device have another checksum than they state", notes.len());
        doubts.push(Doubt::at("dump-messages", Addr(start), why));
    }
}

fn read_reports(source: &dyn ReadAt, start: u64, notes: &mut Vec<Note>) {
    let mut area = Area { source, start, length: REPORTS, read: Vec::new() };
    let mut at = 0_usize;
    while let Some(head) = area.slice(at, REPORT_HEADER) {
        let length = u32_at(head, 8, LE).unwrap_or(0).to_usize();
        if u32_at(head, 0, LE) != Some(REPORT_MAGIC) || length > LIMIT_REPORT {
            break;
        }
        let Some(body) = area.slice(at.saturating_add(REPORT_HEADER), length) else { break };
        notes.push(note("illumos.ereport", REPORT_MAGIC, body));
        at = at.saturating_add(REPORT_HEADER).saturating_add(length);
    }
}
