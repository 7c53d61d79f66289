//! Random access to the bytes of a dump, whatever lies between them and the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that can be read anywhere, from many threads.
pub trait ReadAt: Send + Sync {
    /// Reads what is there at `offset`; fewer bytes than asked for only at the end (or at a hole of a flattened file).
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Bytes from the start to the end.
    fn size(&self) -> u64;

    /// How many bytes there really are: less than [`ReadAt::size`] where holes cost nothing, so that a few bytes cannot ask
    /// for gigabytes of zeros.
    fn stored(&self) -> u64 {
        self.size()
    }
}

/// A file.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::io::Seek as _;
        let mut file = File::open(path)?;
        // The length of a block device is where its end is.
        let size = file.seek(io::SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl ReadAt for FileSource {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(evidence::ToU64::to_u64(done))) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let tail = usize::try_from(offset).ok().and_then(|o| self.get(o..)).unwrap_or_default();
        let n = tail.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), tail.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn size(&self) -> u64 {
        evidence::ToU64::to_u64(self.len())
    }
}

/// What may be allocated whatever the source holds: headers and tables of a small dump lie partly in holes.
const ALWAYS: u64 = 1 << 20;

/// Exactly `length` bytes at `offset`, or `None` when the source ends before (or fails).
pub(crate) fn exact(source: &dyn ReadAt, offset: u64, length: usize) -> Option<Vec<u8>> {
    // Nothing is allocated for a length that the source cannot have.
    let length_u64 = evidence::ToU64::to_u64(length);
    let end = offset.checked_add(length_u64)?;
    if end > source.size() || length_u64 > source.stored().max(ALWAYS) {
        return None;
    }
    let mut bytes = vec![0; length];
    (source.read_at(offset, &mut bytes).ok()? == length).then_some(bytes)
}

/// What there is of `length` bytes at `offset`.
pub(crate) fn prefix(source: &dyn ReadAt, offset: u64, length: usize) -> Result<Vec<u8>, evidence::Absent> {
    use evidence::{Absent, ToU64 as _, ToUsize as _};
    let there = source.size().saturating_sub(offset).min(length.to_u64());
    let mut bytes = vec![0; there.to_usize()];
    let got = source.read_at(offset, &mut bytes).map_err(|_| Absent::Corrupt)?;
    bytes.truncate(got);
    if bytes.is_empty() { Err(Absent::Truncated) } else { Ok(bytes) }
}
