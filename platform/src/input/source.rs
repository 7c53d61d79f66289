//! Bytes at offsets of an opened file.

use evidence::{ToU64, ToUsize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that can be read at any offset by many threads at once. Cloning shares it.
///
/// It is read by `pread`, never mapped: a file that someone shortens under a map kills the reader with SIGBUS, a read
/// only ends early.
#[derive(Clone, Debug)]
pub struct Source {
    file: Arc<File>,
    len: u64,
    path: PathBuf,
}

impl Source {
    /// `file` holds `len` bytes; `path` is what messages call it.
    #[must_use]
    pub fn new(file: File, len: u64, path: impl Into<PathBuf>) -> Self {
        Self { file: Arc::new(file), len, path: path.into() }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What messages call it: the path that was opened, `-` for a stream.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, for readers that want to look at it in their own way.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads the longest prefix of `into` that there is at `offset`. A file that has become shorter since it was
    /// opened, or a bad disk block, ends the prefix.
    #[must_use]
    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let there = self.len.saturating_sub(offset).min(into.len().to_u64()).to_usize();
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..there).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done.to_u64())) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        done
    }

    /// At most `limit` bytes at `offset`, fewer where the file ends.
    #[must_use]
    pub fn bytes(&self, offset: u64, limit: usize) -> Vec<u8> {
        let there = self.len.saturating_sub(offset).min(limit.to_u64()).to_usize();
        let mut out = vec![0; there];
        let got = self.read(offset, &mut out);
        out.truncate(got);
        out
    }
}
