//! Bounded reads of `/proc`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// For files of a few lines: none that the kernel writes is longer than a page or two, except `environ` and `cmdline`,
/// which the kernel bounds to a quarter of the stack limit, typically 2 MiB.
pub(super) const LIMIT_TEXT: u64 = 4 << 20;

const CAPACITY: usize = 16_384;

/// Reads a file, but not more than `limit` bytes; says whether there would have been more.
pub(super) fn read(path: impl AsRef<Path>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    // Large enough for nearly every file of `/proc` to come in one read.
    let mut bytes = Vec::with_capacity(CAPACITY);
    let mut file = File::open(path)?;
    file.by_ref().take(limit).read_to_end(&mut bytes)?;
    let more = evidence::ToU64::to_u64(bytes.len()) >= limit && file.read(&mut [0])? > 0;
    Ok((bytes, more))
}

/// Reads a short file as text, invalid UTF-8 replaced.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    read(path, LIMIT_TEXT).map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
}

/// The target of a symbolic link as text.
pub(super) fn link(path: impl AsRef<Path>) -> io::Result<String> {
    std::fs::read_link(path).map(|p| p.to_string_lossy().into_owned())
}
