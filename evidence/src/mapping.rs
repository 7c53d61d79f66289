//! Mapped ranges and the images that the source itself names.

use crate::Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the fields say it")]
pub struct Protection {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

/// One mapped range of the target's address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The addresses it covers.
    pub range: Range<Addr>,
    /// What the mapping allows; `None` when the source does not say (NT_FILE alone, for instance).
    pub protection: Option<Protection>,
    /// Shared with other processes (`MAP_SHARED`), when known.
    pub shared: Option<bool>,
    /// Where in the file the range starts, in bytes; 0 for anonymous memory.
    pub file_offset: u64,
    /// The file's path, or the kernel's name in brackets (`[stack]`, `[heap]`, `[vdso]`), without a ` (deleted)` suffix.
    pub path: Option<Arc<str>>,
    /// The file was unlinked or replaced while mapped.
    pub deleted: bool,
    /// (device, inode) of the file, to tell a replaced file from the mapped one.
    pub file_id: Option<(u64, u64)>,
    /// Where the very file may be opened by the reader, best first (`/proc/PID/map_files/..`, `/proc/PID/root/..`).
    pub open: Vec<PathBuf>,
}

/// An image the source itself names; the debuginfo crate verifies it against memory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageHint {
    /// Where the image's first byte was mapped.
    pub base: Addr,
    /// How many bytes from `base` belong to it, when known.
    pub size: Option<u64>,
    /// The path the source gives.
    pub path: Option<Arc<str>>,
    /// The build-id (or debug id) the source gives.
    pub build_id: Option<Box<[u8]>>,
    /// Runtime address minus SVMA, when the source states it.
    pub slide: Option<i64>,
}

/// How symbol stores file an image that the source names, besides its build-id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModuleId {
    /// Where the image's first byte was mapped: the key to its [`ImageHint`].
    pub base: Addr,
    /// The name of the file that holds its debug information, as the linker wrote it: a path or a name.
    pub debug_file: Option<Arc<str>>,
    /// The identity of that file as Breakpad writes it: a GUID and an age in hexadecimal, without dashes.
    pub debug_id: Option<Box<str>>,
    /// The identity of the image itself: time stamp and size for PE, the build-id for ELF, the UUID for Mach-O.
    pub code_id: Option<Box<str>>,
    /// Its version, `major.minor.build.revision`.
    pub version: Option<Box<str>>,
}
