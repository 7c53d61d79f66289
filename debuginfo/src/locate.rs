//! Where files are looked for: the only part of this crate that chooses paths.

use std::path::PathBuf;

/// Where files are looked for.
#[derive(Clone, Debug, Default)]
pub struct Locator {
    /// `--exe`: the executable, used instead of the path that the source names (its build-id must still match).
    pub executable: Option<PathBuf>,
    /// `--sysroot`: prefix for all paths that the source names.
    pub sysroot: Option<PathBuf>,
    /// `--symbols`: directories with debug files.
    pub symbols: Vec<PathBuf>,
    /// Servers to ask by build-id; empty without `--debuginfod`.
    pub debuginfod: Vec<String>,
    /// The target's own root directory (`/proc/PID/root`).
    pub root: Option<PathBuf>,
}
