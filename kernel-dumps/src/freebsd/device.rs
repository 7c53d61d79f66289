//! A dump that is still on its device, or in an image of it.
//!
//! Source: `sys/kern/kern_shutdown.c` (`dump_start`, `dump_finish`) and savecore. The dump lies at the end of the
//! device: a record, the encrypted key if there is one, the dump, the same record again in the last sector. The first
//! 64 KiB are never used. What savecore has taken off once says "Cleared Kernel Dump".

use super::header::{DumpHeader, Magic, SIZE};
use crate::source::{ReadAt, exact};
use evidence::Doubt;

/// Sizes of sectors that are tried for the last record.
const SECTORS: [u64; 5] = [512, 4096, 1024, 2048, 8192];
/// Largest encrypted key: RSA keys of 16384 bits make 2 KiB of it.
const LIMIT_KEY: u32 = 1 << 20;

/// Where the first record may be without a last one: an image of the dump alone, and a device whose dump takes all of
/// the room that dumps may have.
const STARTS: [u64; 2] = [0, 64 << 10];

/// Where the parts of a dump lie.
pub(super) struct Found {
    pub header: DumpHeader,
    /// Where the encrypted key starts.
    pub key_at: u64,
    /// Where the dump starts.
    pub start: u64,
    /// Bytes of the dump on the device; with compression it may be less.
    pub size: u64,
    pub doubts: Vec<Doubt>,
}

fn record_at(source: &dyn ReadAt, at: u64) -> Option<DumpHeader> {
    DumpHeader::parse(&exact(source, at, SIZE)?)
}

/// Whether a source looks like a dump device: there is a record in the last sector, or at the start of a dump.
pub(super) fn is_device(source: &dyn ReadAt) -> bool {
    last_record(source).is_some() || first_record(source).is_some()
}

fn first_record(source: &dyn ReadAt) -> Option<(u64, DumpHeader)> {
    STARTS.into_iter().find_map(|at| Some((at, record_at(source, at)?)))
}

fn last_record(source: &dyn ReadAt) -> Option<(u64, DumpHeader)> {
    SECTORS.into_iter().find_map(|sector| {
        let at = source.size().checked_sub(sector)?;
        let header = record_at(source, at)?;
        // A record of 512 bytes in a larger sector is found at its own sector size only.
        (header.sector() == sector || header.block_size == 0).then_some((at, header))
    })
}

/// Finds the dump; `None` when there is no record that says where it is.
pub(super) fn find(source: &dyn ReadAt) -> Option<Found> {
    let mut doubts = Vec::new();
    let mut doubt = |why: String| doubts.push(Doubt::new("dump-header", why));
    let (header, first) = match last_record(source) {
        Some((last, header)) => {
            let before = header.sector().checked_add(u64::from(header.key_size))?.checked_add(header.extent)?;
            let Some(first) = last.checked_sub(before) else {
                doubt(format!(
                    "the last record at {last:#x} speaks of {:#x} bytes before it; the dump is not used",
                    before
                ));
                return Some(Found { header, key_at: 0, start: 0, size: 0, doubts });
            };
            match record_at(source, first) {
                Some(other) if other.raw == header.raw => {}
                // The magic string is all that savecore changes.
                Some(other) if other.raw.get(20..508) == header.raw.get(20..508) => {}
                Some(_) => doubt(format!("the records at {first:#x} and {last:#x} differ: the last one counts")),
                None => doubt(format!("there is no record at {first:#x}, where the last one says the dump starts")),
            }
            (header, first)
        }
        None => {
            let (at, header) = first_record(source)?;
            doubt("there is no record in the last sector: the end of the device is missing".into());
            (header, at)
        }
    };
    if !header.parity_ok {
        doubt("the record's parity is wrong".into());
    }
    if header.magic == Magic::Cleared {
        doubt("the dump was taken off this device before; what lies here may have been written over since".into());
    }
    let key_size = if header.key_size > LIMIT_KEY {
        doubt(format!("a key of {:#x} bytes is more than the limit of {LIMIT_KEY:#x}", header.key_size));
        0
    } else {
        header.key_size
    };
    let key_at = first.saturating_add(header.sector());
    let start = key_at.saturating_add(u64::from(key_size));
    let size = if header.length == 0 { header.extent } else { header.length.min(header.extent) };
    let there = source.size().saturating_sub(start);
    if there < size {
        doubt(format!("the dump has {size:#x} bytes, and {there:#x} of them are here"));
    }
    Some(Found { header, key_at, start, size: size.min(there), doubts })
}

/// The encrypted key of a dump.
pub(super) fn key(source: &dyn ReadAt, found: &Found) -> Option<Vec<u8>> {
    let size = found.start.checked_sub(found.key_at)?;
    if size == 0 || size > u64::from(LIMIT_KEY) {
        return None;
    }
    exact(source, found.key_at, usize::try_from(size).ok()?)
}
