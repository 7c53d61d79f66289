//! The message buffer.
//!
//! Source: `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`. A ring of bytes with counters of what was written; a minidump
//! also carries the bytes by themselves, right behind its header.

use super::context::FreeBsd;
use evidence::{Addr, ToUsize};
use snapshot_format::schema::LogRecord;

/// `MSG_MAGIC`.
const MAGIC: u32 = 0x06_3062;
/// Largest buffer: administrators set some megabytes.
const LIMIT_BUFFER: u32 = 256 << 20;
/// Most lines kept.
const LIMIT_LINES: usize = 1 << 20;
/// Levels of syslog, 0 to 7.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The lines of the log, oldest first.
pub(super) fn read(kernel: &FreeBsd<'_>, notes: &Notes) -> Vec<LogRecord> {
    if let Some(text) = &notes.text {
        return lines(text);
    }
    let bytes = from_memory(kernel).or_else(|| {
        // Without its counters the ring can be put in order only when it never came round.
        let raw = notes.raw.as_deref()?;
        let end = raw.iter().rposition(|b| *b != 0)?.checked_add(1)?;
        if end == raw.len() {
            kernel
                .doubt("log", "the message buffer is full and its counters are not known: it may begin in the middle");
        }
        Some(raw.get(..end)?.to_vec())
    });
    let mut bytes = bytes.unwrap_or_default();
    bytes.retain(|b| *b != 0);
    lines(&String::from_utf8_lossy(&bytes))
}

/// What a dump carries of the log besides memory.
#[derive(Default)]
pub(super) struct Notes {
    /// A minidump's copy of the ring.
    pub raw: Option<Vec<u8>>,
    /// A text dump's.
    pub text: Option<String>,
}

fn from_memory(kernel: &FreeBsd<'_>) -> Option<Vec<u8>> {
    let at = kernel.pointer("msgbufp")?;
    let word = u64::from(kernel.fields.pointer);
    // struct msgbuf: the bytes' address, magic, size, write and read counters, each of 32 bits.
    let place = |name: &str, n: u64| {
        let known = kernel.offset("msgbuf", name);
        at.wrapping_add(known.unwrap_or_else(|| word.wrapping_add(n.wrapping_mul(4))))
    };
    let magic = kernel.half(place("msg_magic", 0))?;
    if magic != MAGIC {
        kernel
            .doubt("log", format!("the message buffer at {at} has the magic number {magic:#x} instead of {MAGIC:#x}"));
        return None;
    }
    let size = kernel.half(place("msg_size", 1)).filter(|n| (1..=LIMIT_BUFFER).contains(n))?;
    let written = kernel.half(place("msg_wseq", 2))?;
    let start = kernel.pointer_at(at.wrapping_add(kernel.offset("msgbuf", "msg_ptr").unwrap_or(0)))?;
    let mut bytes = vec![0; size.to_usize()];
    kernel.memory().read_exact(start, &mut bytes).ok()?;
    let position = written.checked_rem(size)?.to_usize();
    bytes.rotate_left(position);
    Some(bytes)
}

/// Splits text into records: `<n>` at the start of a line is facility and level, `[seconds]` or
/// `[seconds.microseconds]` after it a time stamp (`kern.msgbuf_show_timestamp`).
fn lines(text: &str) -> Vec<LogRecord> {
    let record = |line: &str| {
        let mut record = LogRecord { time_ns: None, level: None, text: line.trim_end().to_owned() };
        if let Some((number, rest)) = line.strip_prefix('<').and_then(|l| l.split_once('>'))
            && let Ok(priority) = number.parse::<u16>()
        {
            record.level = LEVELS.get(usize::from(priority & 7)).map(|l| (*l).to_owned());
            record.text = rest.trim_end().to_owned();
        }
        if let Some((stamp, rest)) = record.text.strip_prefix('[').and_then(|l| l.split_once("] "))
            && let Some(time) = time(stamp)
        {
            record.time_ns = Some(time);
            record.text = rest.to_owned();
        }
        record
    };
    text.lines().filter(|l| !l.trim().is_empty()).take(LIMIT_LINES).map(record).collect()
}

fn time(stamp: &str) -> Option<u64> {
    let (seconds, micros) = stamp.split_once('.').unwrap_or((stamp, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= 12 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(micros) || (micros != "0" && micros.len() != 6) {
        return None;
    }
    let micros: u64 = micros.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1000)?)
}

/// A fatal trap as `trap_fatal` of `sys/amd64/amd64/trap.c` prints it, or `data_abort` of `sys/arm64/arm64/trap.c`, the
/// last one of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trap {
    pub number: Option<u64>,
    pub address: Option<Addr>,
    pub write: Option<bool>,
    pub fetch: bool,
}

/// How arm64's report begins, maybe behind what was printed before on the same line.
const ABORT: &str = "Fatal data abort:";

/// Finds the last fatal trap.
pub(super) fn trap(log: &[LogRecord]) -> Option<Trap> {
    let start = log.iter().rposition(|r| r.text.starts_with("Fatal trap ") || r.text.ends_with(ABORT))?;
    let first = &log.get(start)?.text;
    if first.ends_with(ABORT) {
        return abort(log.get(start..)?);
    }
    let number =
        first.strip_prefix("Fatal trap ").and_then(|r| r.split(':').next()).and_then(|n| n.trim().parse().ok());
    let mut trap = Trap { number, ..Trap::default() };
    /// How many lines the report has at most.
    const REPORT: usize = 24;
    for record in log.get(start..)?.iter().take(REPORT) {
        let Some((name, value)) = record.text.split_once('=') else { continue };
        let value = value.trim();
        match name.trim() {
            "fault virtual address" => {
                trap.address = value.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok()).map(Addr);
            }
            "fault code" => {
                trap.fetch = value.contains("instruction");
                trap.write = [("write", true), ("read", false)].iter().find(|(w, _)| value.contains(w)).map(|w| w.1);
            }
            _ => {}
        }
    }
    Some(trap)
}

/// arm64's: thirty registers, then `far: ADDRESS` and `esr: SYNDROME`, since 14 with names of functions behind them.
fn abort(report: &[LogRecord]) -> Option<Trap> {
    /// How many lines the report has at most.
    const REPORT: usize = 48;
    let value = |name: &str| {
        let rest = report.iter().take(REPORT).find_map(|r| r.text.trim_start().strip_prefix(name))?;
        let word = rest.split_whitespace().next()?;
        u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
    };
    let syndrome = value("esr:")?;
    // EC: 0x20 and 0x21 are instruction aborts; ISS bit 6: WnR (Arm ARM, ESR_EL1).
    let class = syndrome >> 26 & 0x3f;
    let fetch = matches!(class, 0x20 | 0x21);
    let write = (!fetch).then_some(syndrome & 0x40 != 0);
    Some(Trap { number: Some(class), address: value("far:").map(Addr), write, fetch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_of_arm64() {
        let log = lines(
            "Starting devd.Fatal data abort:\n  x0:                0\n  x1: ffff00011063daa0 (crypto_dev + b3f34ec0)\n\
             \x20 sp: ffff0000b550e560\nspsr:         a00002c5\n far:               28\n esr: 0x0000000096000046\n\
             panic: vm_fault failed: ffff000000778000\n",
        );
        let expected = Trap { number: Some(0x25), address: Some(Addr(0x28)), write: Some(true), fetch: false };
        assert_eq!(trap(&log), Some(expected));
        let jump = lines("Fatal data abort:\n far:                0\n esr:         86000004\n");
        let expected = Trap { number: Some(0x21), address: Some(Addr(0)), write: None, fetch: true };
        assert_eq!(trap(&jump), Some(expected));
        assert_eq!(trap(&jump[..2]), None);
    }

    #[test]
    fn levels_and_times() {
        let log = lines("plain\n<118>Setting hostname: db1.\n<2>[12] twelve\n[3.000250] quarter\n\n[a] b\n<x>y\n");
        let of = |n: usize| (log[n].time_ns, log[n].level.as_deref(), log[n].text.as_str());
        assert_eq!(of(0), (None, None, "plain"));
        assert_eq!(of(1), (None, Some("info"), "Setting hostname: db1."));
        assert_eq!(of(2), (Some(12_000_000_000), Some("crit"), "twelve"));
        assert_eq!(of(3), (Some(3_000_250_000), None, "quarter"));
        assert_eq!(of(4), (None, None, "[a] b"));
        assert_eq!(of(5), (None, None, "<x>y"));
    }

    #[test]
    fn the_last_trap_counts() {
        let log = lines(
            "Fatal trap 9: general protection fault while in kernel mode\ncpuid = 1\nagain\n\
             Fatal trap 12: page fault while in kernel mode\ncpuid = 3; apic id = 03\n\
             fault virtual address\t= 0x28\nfault code\t\t= supervisor write data, page not present\n\
             instruction pointer\t= 0x20:0xffffffff80c0a1b2\n",
        );
        let expected = Trap { number: Some(12), address: Some(Addr(0x28)), write: Some(true), fetch: false };
        assert_eq!(trap(&log), Some(expected));
        assert_eq!(trap(&log[1..3]), None);
    }
}
