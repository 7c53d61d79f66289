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
