//! One entry of the cache: a page of header, then the contents.
//!
//! The header, little-endian: magic (8 bytes), version (4), CRC-32 of everything in it that follows (4), size of the
//! contents (8), their CRC-32 (4), the subject's shape (4) and size (8), the time of the entry's own last change
//! (seconds 8, nanoseconds 4), the identity of the machine's run in which it was verified (36, Linux's `boot_id`), the
//! length of its name (4), its name (build-id and what it holds).

use super::Subject;
use crate::map::FileBytes;
use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{ToU64, ToUsize};
use std::fs::{File, FileTimes};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 8] = b"PFKEPT\r\n";
const VERSION: u32 = 1;
const HEADER: usize = 4096;
const BOOT_ID: usize = 36;

/// Largest piece written and checked at a time; pages of a mapping are let go after each.
const PIECE: usize = 1 << 20;

/// How much is believed without looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// All contents are checked.
    Nothing,
    /// Contents that were checked, or written, since the machine was started and not changed since, are good.
    SinceBoot,
}

/// The contents of an entry, mapped.
#[derive(Debug)]
pub(crate) struct Kept(FileBytes);

impl Deref for Kept {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

struct Fields {
    size: u64,
    sum: u32,
    changed: SystemTime,
    boot: [u8; BOOT_ID],
}

impl Kept {
    /// Opens an entry; `None` unless it is complete, of this version, and about `subject`.
    pub(super) fn open(path: &Path, subject: &Subject, what: &str, trust: Trust) -> Option<Self> {
        // Writable for the mark that it was verified; on a read-only cache it is verified each time.
        let file = File::options().read(true).write(true).open(path).or_else(|_| File::open(path)).ok()?;
        let meta = file.metadata().ok().filter(|m| m.is_file() && m.len() >= HEADER.to_u64())?;
        let kept = Self(FileBytes::map(&file).ok()?);
        let mut fields = Fields::parse(kept.0.get(..HEADER)?, subject, what)?;
        if kept.len().to_u64() != fields.size {
            return None;
        }
        let boot = boot_id();
        let known = boot.is_some_and(|b| b == fields.boot) && meta.modified().ok() == Some(fields.changed);
        if trust == Trust::Nothing || !known {
            if kept.sum() != fields.sum {
                return None;
            }
            if let Some(boot) = boot.filter(|_| !known) {
                fields.boot = boot;
                // Next time it is checked again, if this fails.
                let _ = fields.seal(&file, subject, what);
            }
        }
        // What was used last goes last. The time of change stays: it says that nobody wrote.
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        Some(kept)
    }

    fn sum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for piece in self.chunks(PIECE) {
            hasher.update(piece);
            self.0.release(piece);
        }
        hasher.finalize()
    }

    /// Lets go of the memory behind `part` if it is one of this entry; it comes back from the file.
    pub(crate) fn release(&self, part: &[u8]) {
        self.0.release(part);
    }
}

impl Fields {
    fn parse(header: &[u8], subject: &Subject, what: &str) -> Option<Self> {
        let word = |at| u32_at(header, at, Endian::Little);
        let long = |at| u64_at(header, at, Endian::Little);
        let name = name(subject, what);
        let good = header.get(..8)? == MAGIC
            && word(8)? == VERSION
            && word(12)? == crc32fast::hash(header.get(16..)?)
            && word(28)? == subject.shape
            && long(32)? == subject.size
            && word(88)?.to_usize() == name.len()
            && header.get(92..)?.starts_with(name.as_bytes());
        let changed = UNIX_EPOCH.checked_add(Duration::new(long(40)?, word(48)?.min(999_999_999)))?;
        good.then_some(Self { size: long(16)?, sum: word(24)?, changed, boot: header.get(52..88)?.try_into().ok()? })
    }

    fn bytes(&self, subject: &Subject, what: &str) -> Vec<u8> {
        let since = self.changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = name(subject, what);
        let mut rest = Vec::with_capacity(HEADER);
        rest.extend(self.size.to_le_bytes());
        rest.extend(self.sum.to_le_bytes());
        rest.extend(subject.shape.to_le_bytes());
        rest.extend(subject.size.to_le_bytes());
        rest.extend(since.as_secs().to_le_bytes());
        rest.extend(since.subsec_nanos().to_le_bytes());
        rest.extend(self.boot);
        rest.extend(u32::try_from(name.len()).unwrap_or(0).to_le_bytes());
        rest.extend(name.as_bytes());
        rest.resize(HEADER.saturating_sub(16), 0);
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(crc32fast::hash(&rest).to_le_bytes());
        header.extend(rest);
        header
    }

    /// Writes the header, and sets the time of change that it states.
    fn seal(&mut self, mut file: &File, subject: &Subject, what: &str) -> io::Result<()> {
        self.changed = SystemTime::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.bytes(subject, what))?;
        file.set_times(FileTimes::new().set_modified(self.changed).set_accessed(self.changed))
    }
}

fn name(subject: &Subject, what: &str) -> String {
    format!("{}/{what}", subject.build_id)
}

/// Counts and sums what passes.
struct Summed<W> {
    inner: W,
    sum: crc32fast::Hasher,
    count: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..n).unwrap_or(bytes));
        self.count = self.count.saturating_add(n.to_u64());
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes header and contents to an empty file.
pub(super) fn write(
    mut file: &File,
    subject: &Subject,
    what: &str,
    size: u64,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // Zeros until everything else is there: no header is good that says nothing.
    file.write_all(&[0; HEADER])?;
    let mut out = Summed { inner: BufWriter::with_capacity(PIECE, file), sum: crc32fast::Hasher::new(), count: 0 };
    contents(&mut out)?;
    out.flush()?;
    if out.count != size {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes instead of the {size} that were promised", out.count),
        ));
    }
    let boot = boot_id().unwrap_or([0; BOOT_ID]);
    let mut fields = Fields { size, sum: out.sum.finalize(), changed: UNIX_EPOCH, boot };
    fields.seal(file, subject, what)
}

/// The identity of this run of the machine; `None` where the kernel gives none.
fn boot_id() -> Option<[u8; BOOT_ID]> {
    std::fs::read("/proc/sys/kernel/random/boot_id").ok()?.get(..BOOT_ID)?.try_into().ok()
}
