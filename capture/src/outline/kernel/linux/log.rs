//! The kernel's log as `dmesg` shows it, out of the lockless ring buffer (Linux 5.10 and later).
//!
//! Source: `kernel/printk/printk_ringbuffer.h`: descriptors with a state in their top two bits, identified by numbers
//! that wrap; text blocks that begin with the number of their descriptor.

use super::context::Linux;
use evidence::{Addr, ToUsize};
use snapshot_format::schema::LogRecord;

/// Most descriptors: `CONFIG_LOG_BUF_SHIFT` and `log_buf_len=` allow 2^31 bytes of text at 32 bytes each.
const LIMIT_BITS: u32 = 26;
/// Most bytes of text kept.
const LIMIT_TEXT: usize = 256 << 20;
/// Longest single record: `text_len` has 16 bits.
const LIMIT_RECORD: u64 = 1 << 16;
/// The bits of a descriptor's identity.
const ID: u64 = (1 << 62) - 1;
/// `desc_committed`, `desc_finalized`.
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
/// `NO_LPOS`/`EMPTY_LINE_LPOS`: a record with an empty line.
const EMPTY_LINE: u64 = 3;

/// Names of the levels of `include/linux/kern_levels.h`.
pub(super) const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Where things lie in the ring.
struct Layout {
    descriptors: Addr,
    descriptor_size: u64,
    state: u64,
    begin: u64,
    next: u64,
    infos: Addr,
    info_size: u64,
    time: u64,
    length: u64,
    data: Addr,
    size_bits: u32,
    count_bits: u32,
    tail: u64,
    head: u64,
}

/// Reads the log, oldest line first: lockless ring or the older buffer, whichever the kernel has.
pub(super) fn read(linux: &Linux<'_>) -> Vec<LogRecord> {
    let records = match (linux.symbol("prb"), linux.symbol("log_buf")) {
        (Some(_), _) => ring(linux),
        (None, Some(_)) => super::old_log::read(linux),
        (None, None) => Err("the kernel has neither prb nor log_buf".into()),
    };
    records.unwrap_or_else(|why| {
        linux.doubt("kernel-log", format!("the log cannot be read: {why}"));
        Vec::new()
    })
}

fn layout(linux: &Linux<'_>) -> Result<Layout, String> {
    let place =
        |of: &str, member: &str| linux.offset(of, member).ok_or_else(|| format!("nothing describes {of}.{member}"));
    let size = |of: &str| linux.size(of).ok_or_else(|| format!("nothing describes {of}"));
    let word = |at: Addr| linux.word(at).ok_or_else(|| format!("the bytes at {at} are missing"));
    let half = |at: Addr| linux.half(at).ok_or_else(|| format!("the bytes at {at} are missing"));
    let ring = linux.pointer("prb").ok_or("the pointer prb cannot be read")?;
    let descriptors = ring.wrapping_add(place("printk_ringbuffer", "desc_ring")?);
    let text = ring.wrapping_add(place("printk_ringbuffer", "text_data_ring")?);
    let block = place("prb_desc", "text_blk_lpos")?;
    let layout = Layout {
        descriptors: Addr(word(descriptors.wrapping_add(place("prb_desc_ring", "descs")?))?),
        descriptor_size: size("prb_desc")?,
        state: place("prb_desc", "state_var")?,
        begin: block.wrapping_add(place("prb_data_blk_lpos", "begin")?),
        next: block.wrapping_add(place("prb_data_blk_lpos", "next")?),
        infos: Addr(word(descriptors.wrapping_add(place("prb_desc_ring", "infos")?))?),
        info_size: size("printk_info")?,
        time: place("printk_info", "ts_nsec")?,
        length: place("printk_info", "text_len")?,
        data: Addr(word(text.wrapping_add(place("prb_data_ring", "data")?))?),
        size_bits: half(text.wrapping_add(place("prb_data_ring", "size_bits")?))?,
        count_bits: half(descriptors.wrapping_add(place("prb_desc_ring", "count_bits")?))?,
        tail: word(descriptors.wrapping_add(place("prb_desc_ring", "tail_id")?))? & ID,
        head: word(descriptors.wrapping_add(place("prb_desc_ring", "head_id")?))? & ID,
    };
    if layout.count_bits > LIMIT_BITS || layout.size_bits >= 32 {
        return Err(format!("2^{} records of 2^{} bytes of text in all", layout.count_bits, layout.size_bits));
    }
    Ok(layout)
}

fn ring(linux: &Linux<'_>) -> Result<Vec<LogRecord>, String> {
    let layout = layout(linux)?;
    let count = 1_u64.wrapping_shl(layout.count_bits);
    let level = linux.fields.layouts.member("printk_info", "level");
    let (mut records, mut kept, mut lost) = (Vec::new(), 0_usize, 0_usize);
    let mut id = layout.tail;
    for _ in 0..count {
        let index = id & count.wrapping_sub(1);
        let info = layout.infos.wrapping_add(index.wrapping_mul(layout.info_size));
        match text(linux, &layout, index, id) {
            Ok(Some(text)) => {
                let time_ns = linux.word(info.wrapping_add(layout.time));
                let number = level.as_ref().and_then(|m| linux.fields.integer_at(info, m).ok());
                kept = kept.saturating_add(text.len());
                push_lines(&text, time_ns, number, &mut records);
            }
            Ok(None) => {}
            Err(()) => lost = lost.saturating_add(1),
        }
        if id == layout.head || kept > LIMIT_TEXT {
            break;
        }
        id = id.wrapping_add(1) & ID;
    }
    if lost > 0 {
        linux.doubt("kernel-log", format!("{lost} records of the log could not be read"));
    }
    Ok(records)
}

/// One record's text; `None` for one that was never finished or holds nothing.
fn text(linux: &Linux<'_>, layout: &Layout, index: u64, id: u64) -> Result<Option<Vec<u8>>, ()> {
    let descriptor = layout.descriptors.wrapping_add(index.wrapping_mul(layout.descriptor_size));
    let word = |offset: u64| linux.word(descriptor.wrapping_add(offset)).ok_or(());
    let state = word(layout.state)?;
    if !matches!(state >> 62, COMMITTED | FINALIZED) || state & ID != id {
        return Ok(None);
    }
    let (begin, next) = (word(layout.begin)?, word(layout.next)?);
    if begin & 1 != 0 {
        // A record without text: lost for want of space, or an empty line.
        return Ok((begin == EMPTY_LINE).then(Vec::new));
    }
    let info = layout.infos.wrapping_add(index.wrapping_mul(layout.info_size));
    let length = linux.half(info.wrapping_add(layout.length)).ok_or(())? & 0xffff;
    let size = 1_u64.wrapping_shl(layout.size_bits);
    let within = size.wrapping_sub(1);
    // A block that would not fit before the end starts again at the beginning.
    let wrapped = begin >> layout.size_bits != next >> layout.size_bits && next & within != 0;
    let start = if wrapped { 0 } else { begin & within };
    let word_size = u64::from(linux.fields.pointer);
    let block = layout.data.wrapping_add(start);
    if linux.fields.pointer_at(block).map_err(|_| ())?.0 & ID != id {
        return Err(());
    }
    let end = if wrapped { next & within } else { next.wrapping_sub(begin).wrapping_add(start) };
    let most = end.saturating_sub(start).saturating_sub(word_size).min(LIMIT_RECORD);
    let length = u64::from(length).min(most);
    linux.bytes(block.wrapping_add(word_size), length.to_usize()).map(Some).ok_or(())
}

/// Adds a record, one row for each of its lines, as `dmesg` prints them.
pub(super) fn push_lines(text: &[u8], time_ns: Option<u64>, level: Option<u64>, rows: &mut Vec<LogRecord>) {
    let level = level.and_then(|n| LEVELS.get(n.to_usize())).map(|l| (*l).to_owned());
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|b| *b == b'\n') {
        rows.push(LogRecord { time_ns, level: level.clone(), text: String::from_utf8_lossy(line).into_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, with};
    use super::*;
    use evidence::testing::FakeMemory;

    const RING: u64 = 0xffff_ffff_8200_0000;
    const DESCRIPTORS: u64 = 0xffff_8880_0000_0000;
    const INFOS: u64 = 0xffff_8880_0001_0000;
    const TEXT: u64 = 0xffff_8880_0002_0000;
    /// Records; bytes of text.
    const COUNT: u64 = 8;
    const SIZE: u64 = 128;

    /// (identity, state, begin, next, length of the text)
    type Record = (u64, u64, u64, u64, u16);

    fn check(records: &[Record], tail: u64, head: u64, blocks: &[(u64, u64, &str)]) -> (Vec<String>, usize) {
        let (mut descriptors, mut infos, mut text) = (vec![0; 24 * 8], vec![0; 32 * 8], vec![b'.'; 128]);
        for (id, state, begin, next, length) in records {
            let slot = usize::try_from(id % COUNT).unwrap();
            let words = [state << 62 | id, *begin, *next].map(u64::to_le_bytes).concat();
            descriptors[slot * 24..slot * 24 + 24].copy_from_slice(&words);
            infos[slot * 32 + 8..slot * 32 + 16].copy_from_slice(&(id & 0xff).to_le_bytes());
            infos[slot * 32 + 16..slot * 32 + 18].copy_from_slice(&length.to_le_bytes());
        }
        for (at, id, said) in blocks {
            let at = usize::try_from(*at).unwrap();
            text[at..at + 8].copy_from_slice(&id.to_le_bytes());
            text[at + 8..at + 8 + said.len()].copy_from_slice(said.as_bytes());
        }
        // prb; the ring: count_bits, descs, infos, head, tail, size_bits, data.
        let words = [RING + 8, COUNT.ilog2().into(), DESCRIPTORS, INFOS, head, tail, SIZE.ilog2().into(), TEXT];
        let memory = FakeMemory::new()
            .with(Addr(RING), words.map(u64::to_le_bytes).concat())
            .with(Addr(DESCRIPTORS), descriptors)
            .with(Addr(INFOS), infos)
            .with(Addr(TEXT), text);
        let offsets = [
            ("printk_ringbuffer.desc_ring", 0),
            ("printk_ringbuffer.text_data_ring", 40),
            ("prb_desc_ring.count_bits", 0),
            ("prb_desc_ring.descs", 8),
            ("prb_desc_ring.infos", 16),
            ("prb_desc_ring.head_id", 24),
            ("prb_desc_ring.tail_id", 32),
            ("prb_data_ring.size_bits", 0),
            ("prb_data_ring.data", 8),
            ("prb_desc.state_var", 0),
            ("prb_desc.text_blk_lpos", 8),
            ("prb_data_blk_lpos.begin", 0),
            ("prb_data_blk_lpos.next", 8),
            ("printk_info.ts_nsec", 8),
            ("printk_info.text_len", 16),
        ];
        let info = lines(&[("prb", RING)], &offsets, &[("prb_desc", 24), ("printk_info", 32)]);
        let (rows, doubts) = with(&info, memory, read);
        (rows.into_iter().map(|r| format!("{} {}", r.time_ns.unwrap(), r.text)).collect(), doubts.len())
    }

    /// Identities wrap, a block that would not fit starts again at the beginning, the last record is not finalized yet,
    /// one was never finished, one is an empty line, one was lost for want of space.
    #[test]
    fn records_of_every_kind() {
        let last = (1 << 62) - 1;
        let records = [
            (last - 1, 2, 64, 96, 5),
            (last, 2, 96, 128 + 24, 20),
            (0, 2, EMPTY_LINE, EMPTY_LINE, 0),
            (1, 2, 1, 1, 0),
            (2, 0, 152, 184, 0),
            (3, 1, 160, 184, 4),
        ];
        // The second block does not fit: 128 bytes in, it lies at the start.
        let blocks = [(64, last - 1, "first"), (0, last, "wrapped\nsecond line"), (32, 3, "open")];
        let (rows, doubts) = check(&records, last - 1, 3, &blocks);
        assert_eq!(rows, ["254 first", "255 wrapped", "255 second l", "0 ", "3 open"]);
        assert_eq!(doubts, 0);
    }

    #[test]
    fn damaged_rings_end() {
        let (rows, doubts) = check(&[(5, 2, 0, 64, 9)], 5, 1 << 40, &[(0, 77, "not its own")]);
        assert_eq!((rows.len(), doubts), (0, 1));
        let (rows, _) = check(&[(5, 2, 0, u64::MAX, u16::MAX)], 5, 5, &[(0, 5, "long")]);
        assert!(rows.len() <= 1);
    }
}
