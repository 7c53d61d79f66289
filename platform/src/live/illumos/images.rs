//! The executable: what `path/a.out` links to, and where the object itself can be opened.

use super::files::Proc;
use std::path::PathBuf;

/// The executable's path as the system names it.
pub(super) fn executable(proc: &dyn Proc) -> Option<String> {
    proc.link("a.out").map(|p| p.display().to_string())
}

/// The executable itself, also when its file was unlinked.
pub(super) fn object(proc: &dyn Proc) -> PathBuf {
    proc.place("object/a.out")
}
