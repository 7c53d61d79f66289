//! The log of kernels up to 5.9: records one behind the other in one buffer.
//!
//! Source: `struct printk_log` in `kernel/printk/printk.c` of Linux 3.5 to 5.9. A record of length 0 says that the next
//! one lies at the start of the buffer.

use super::context::Linux;
use super::log::push_lines;
use evidence::ToUsize;
use snapshot_format::schema::LogRecord;

/// Largest buffer that is read: 2^25 bytes is the most that `CONFIG_LOG_BUF_SHIFT` allows, and `log_buf_len=` is rarely
/// more.
const LIMIT_BUFFER: u32 = 256 << 20;

/// The lines, oldest first.
pub(super) fn read(linux: &Linux<'_>) -> Result<Vec<LogRecord>, String> {
    let place = |member: &str| {
        let found = linux.offset("printk_log", member).or_else(|| linux.offset("log", member));
        found.ok_or_else(|| format!("nothing describes printk_log.{member}"))
    };
    let int = |name: &str| linux.int(name).ok_or_else(|| format!("{name} cannot be read"));
    let (time, length, text_length) = (place("ts_nsec")?, place("len")?, place("text_len")?);
    let header = linux.size("printk_log").or_else(|| linux.size("log")).ok_or("nothing describes printk_log")?;
    let level = linux.fields.layouts.member("printk_log", "level");
    let buffer = linux.pointer("log_buf").ok_or("the pointer log_buf cannot be read")?;
    let size = int("log_buf_len")?.min(LIMIT_BUFFER);
    let (mut at, next) = (int("log_first_idx")?, int("log_next_idx")?);
    let mut rows = Vec::new();
    let (mut passed, mut wrapped) = (0_u32, false);
    while at != next && at < size && passed <= size {
        let record = buffer.wrapping_add(u64::from(at));
        let half = |offset: u64| linux.half(record.wrapping_add(offset)).map(|v| v & 0xffff);
        let Some(step) = half(length) else {
            linux.doubt("kernel-log", format!("the log is cut off: the record at {record} cannot be read"));
            break;
        };
        if step == 0 {
            if wrapped {
                break;
            }
            (at, wrapped) = (0, true);
            continue;
        }
        let most = u64::from(step).saturating_sub(header);
        let count = half(text_length).map_or(0, u64::from).min(most);
        match linux.bytes(record.wrapping_add(header), count.to_usize()) {
            Some(text) => {
                let number = level.as_ref().and_then(|m| linux.fields.integer_at(record, m).ok());
                push_lines(&text, linux.word(record.wrapping_add(time)), number, &mut rows);
            }
            None => linux.doubt("kernel-log", format!("the text of the record at {record} cannot be read")),
        }
        at = at.saturating_add(step);
        passed = passed.saturating_add(step);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, with};
    use evidence::Addr;
    use evidence::testing::FakeMemory;
    use snapshot_format::schema::LogRecord;

    const VARIABLES: u64 = 0xffff_ffff_8200_0000;
    const BUFFER: u64 = 0xffff_8880_0000_0000;

    /// A record: time, length, length of the text, no dictionary, then the text, padded to four bytes.
    fn record(time: u64, text: &str) -> Vec<u8> {
        let length = (16 + text.len()).next_multiple_of(4);
        let mut bytes = time.to_le_bytes().to_vec();
        for n in [length, text.len(), 0, 0] {
            bytes.extend(u16::try_from(n).unwrap().to_le_bytes());
        }
        bytes.extend(text.bytes());
        bytes.resize(length, 0);
        bytes
    }

    fn read(buffer: Vec<u8>, first: u32, next: u32) -> (Vec<LogRecord>, usize) {
        let mut variables = BUFFER.to_le_bytes().to_vec();
        for n in [u32::try_from(buffer.len()).unwrap(), first, next] {
            variables.extend(n.to_le_bytes());
        }
        let at = |n: u64| VARIABLES + n;
        let symbols = [("log_buf", at(0)), ("log_buf_len", at(8)), ("log_first_idx", at(12)), ("log_next_idx", at(16))];
        let offsets = [("printk_log.ts_nsec", 0), ("printk_log.len", 8), ("printk_log.text_len", 10)];
        let memory = FakeMemory::new().with(Addr(VARIABLES), variables).with(Addr(BUFFER), buffer);
        let (rows, doubts) = with(&lines(&symbols, &offsets, &[("printk_log", 16)]), memory, super::super::log::read);
        (rows, doubts.len())
    }

    #[test]
    fn records_in_a_buffer_that_wrapped() {
        let (first, second, third) = (record(3, "third"), record(1, "first\nline two"), record(2, "second"));
        let at = first.len() + 8;
        let mut buffer = first.clone();
        buffer.resize(at, 0xff);
        buffer.extend(&second);
        buffer.extend(&third);
        // A record of length 0: the next one lies at the start.
        buffer.extend([0; 16]);
        let (at, next) = (u32::try_from(at).unwrap(), u32::try_from(first.len()).unwrap());
        let (rows, doubts) = read(buffer, at, next);
        let said: Vec<_> = rows.iter().map(|r| (r.time_ns, r.text.as_str())).collect();
        assert_eq!(said, [(Some(1), "first"), (Some(1), "line two"), (Some(2), "second"), (Some(3), "third")]);
        assert_eq!(doubts, 0);
    }

    #[test]
    fn damaged_buffers_end() {
        assert_eq!(read(vec![0; 64], 0, 32).0.len(), 0);
        let (rows, doubts) = read(vec![0xff; 64], 0, 32);
        assert_eq!((rows.len(), doubts), (0, 1));
        let circle = record(1, "again").repeat(3);
        assert_eq!(read(circle, 0, 7).0.len(), 3);
        assert_eq!(read(record(1, "x"), 1 << 20, 0).0.len(), 0);
    }
}
