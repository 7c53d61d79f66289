//! What a slow way found out about a file, kept on disk for the next run.
//!
//! An entry belongs to one file (build-id, size, and the shape of its section table) and is one file itself: a page of
//! header (`entry`), then the contents. Entries are written beside their place and renamed, so that any number of
//! processes may read and write at once. An entry that is not exactly what it should be is treated as if it were not
//! there. When all entries together are too large, those unused for longest go. Nothing here ever fails an operation:
//! everything works without a cache.

mod entry;
mod frames;

use crate::BuildId;
pub(crate) use entry::Kept;
use evidence::ToU64;
pub(crate) use frames::{Frames, can_keep};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Bytes that all entries may take together: the unpacked sections of the largest programs known (2.6 GB), and some.
pub const LIMIT_CACHE: u64 = 4 << 30;

/// Entries looked at when room is made. A folder with more was not filled by us.
const LIMIT_ENTRIES: usize = 1 << 16;

/// Sections smaller than this are unpacked in less time than it takes to find them in the cache.
const SMALLEST: u64 = 1 << 20;

/// Longest name of what an entry holds; names of sections are the longest of them.
const LIMIT_NAME: usize = 64;

/// Parts older than this were left behind by a process that was killed.
const PART_IS_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of entries. The same folder may be used by any number of processes.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where the entries are.
    pub folder: PathBuf,
    /// Bytes that all entries may take together.
    pub limit: u64,
    /// Sections of fewer bytes, and scans of files with a smaller `.debug_info`, are not kept.
    pub smallest: u64,
}

/// The file that an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) build_id: BuildId,
    pub(crate) size: u64,
    /// CRC-32 of names, places and sizes of the sections: one build-id may be that of several files.
    pub(crate) shape: u32,
}

impl Cache {
    /// A cache in a folder below `folder`, which is made when there is something to write.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join("index"), limit: LIMIT_CACHE, smallest: SMALLEST }
    }

    /// The user's cache folder: `$POSTFAULT_CACHE`, `$XDG_CACHE_HOME/postfault` or `~/.cache/postfault`.
    #[must_use]
    pub fn users_folder() -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        variable("POSTFAULT_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|d| d.join("postfault")))
            .or_else(|| variable("HOME").map(|d| d.join(".cache/postfault")))
    }

    /// The entry `what` of `subject`, with all of its contents verified.
    pub(crate) fn load(&self, subject: &Subject, what: &str) -> Option<Kept> {
        Kept::open(&self.path(subject, what)?, subject, what, entry::Trust::Nothing)
    }

    /// As [`Cache::load`], for large contents: they are only verified when the file was touched since they were
    /// written, or the machine was started anew.
    pub(crate) fn load_large(&self, subject: &Subject, what: &str) -> Option<Kept> {
        Kept::open(&self.path(subject, what)?, subject, what, entry::Trust::SinceBoot)
    }

    /// Writes the entry `what` of `subject`, of `size` bytes that `write` gives, and opens it.
    ///
    /// # Errors
    /// It could not be written, or `write` failed or gave another number of bytes.
    pub(crate) fn fill(
        &self,
        subject: &Subject,
        what: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Kept> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(subject, what).ok_or(io::ErrorKind::InvalidInput)?;
        if size > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Processes in different name spaces may have the same number: the clock makes the difference.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = self.folder.join(format!(".{}-{now}-{number}.part", std::process::id()));
        let written = (|| {
            let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&part)?;
            entry::write(&file, subject, what, size, write)?;
            std::fs::rename(&part, &path)
        })();
        if let Err(why) = written {
            // Nothing is left behind; that it cannot be removed changes nothing for us.
            let _ = std::fs::remove_file(&part);
            return Err(why);
        }
        let kept = Kept::open(&path, subject, what, entry::Trust::SinceBoot);
        self.make_room();
        kept.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The place of an entry; `None` for a name that is not fit to be one of a file.
    fn path(&self, subject: &Subject, what: &str) -> Option<PathBuf> {
        let fit = what.len() <= LIMIT_NAME && what.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        fit.then(|| self.folder.join(format!("{}-{:x}-{what}", subject.build_id, subject.size)))
    }

    /// Removes what was unused for longest until the rest fits, and the parts of processes that were killed.
    fn make_room(&self) {
        let Ok(list) = std::fs::read_dir(&self.folder) else { return };
        let mut entries = Vec::new();
        let mut total = 0_u64;
        for found in list.flatten().take(LIMIT_ENTRIES) {
            let Some(meta) = found.metadata().ok().filter(std::fs::Metadata::is_file) else { continue };
            let used = meta.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
            if found.file_name().as_encoded_bytes().starts_with(b".") {
                let age = meta.modified().ok().and_then(|m| m.elapsed().ok()).unwrap_or_default();
                if age > PART_IS_STALE {
                    let _ = std::fs::remove_file(found.path());
                }
                continue;
            }
            total = total.saturating_add(meta.len());
            entries.push((used, meta.len(), found.path()));
        }
        entries.sort_unstable();
        for (_, size, path) in entries {
            if total <= self.limit {
                break;
            }
            // Who has it mapped keeps it; another process may have been faster.
            let _ = std::fs::remove_file(path);
            total = total.saturating_sub(size);
        }
    }
}

/// Numbers as an entry's contents: 8 bytes each, little-endian.
pub(crate) fn numbers_to_bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// The reverse of [`numbers_to_bytes`]; `None` when there is half a number.
pub(crate) fn bytes_to_numbers(bytes: &[u8]) -> Option<impl Iterator<Item = u64> + '_> {
    let (whole, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| whole.iter().map(|b| u64::from_le_bytes(*b)))
}

impl Cache {
    /// Keeps numbers; what goes wrong costs the next run time, and nothing else.
    pub(crate) fn keep_numbers(&self, subject: &Subject, what: &str, numbers: &[u64]) {
        let bytes = numbers_to_bytes(numbers);
        let _ = self.fill(subject, what, bytes.len().to_u64(), |out| out.write_all(&bytes));
    }
}

#[cfg(test)]
mod tests;
