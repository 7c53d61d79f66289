//! Where files are looked for: the only part of this crate that chooses paths.

mod alternate;
mod bundle;
mod debuginfod;
mod judge;
pub(crate) mod native;
mod separate;
mod store;

use crate::elf::ElfFile;
use crate::images::Outcome;
use crate::{BuildId, Cache};
pub(crate) use alternate::Supplementary;
pub use bundle::Bundles;
use evidence::Doubts;
pub(crate) use judge::{debug_package, judge};
pub(crate) use separate::Separate;
use std::path::{Path, PathBuf};
pub(crate) use store::Store;
pub use store::{StoreKey, breakpad_id};

/// Where files are looked for.
#[derive(Clone, Debug, Default)]
pub struct Locator {
    /// `--exe`: the executable, used instead of the path that the source names (its build-id must still match).
    pub executable: Option<PathBuf>,
    /// `--kernel`: the kernel's file (vmlinux, FreeBSD's kernel, illumos's unix); it must still match the dump.
    pub kernel: Option<PathBuf>,
    /// `--sysroot`: prefix for all paths that the source names.
    pub sysroot: Option<PathBuf>,
    /// `--symbols`: directories with debug files.
    pub symbols: Vec<PathBuf>,
    /// Servers to ask by build-id; empty without `--debuginfod`.
    pub debuginfod: Vec<String>,
    /// `--symbol-server`: servers with a symbol store of Breakpad files.
    pub symbol_servers: Vec<String>,
    /// Where downloads are kept; `None`: `$POSTFAULT_CACHE`, `$XDG_CACHE_HOME/postfault` or `~/.cache/postfault`.
    pub cache: Option<PathBuf>,
    /// Where what a slow way found out about a debug file is kept for the next run; `None`: nowhere.
    pub index: Option<Cache>,
    /// Where the system keeps debug files; `None`: `/usr/lib/debug`.
    pub system: Option<PathBuf>,
    /// The target's own root directory (`/proc/PID/root`).
    pub root: Option<PathBuf>,
    /// The dSYM bundles of each folder of `symbols`, each folder listed once.
    pub bundles: Bundles,
}

/// An image whose file is wanted.
pub(crate) struct Wanted<'w> {
    pub path: &'w str,
    pub build_id: Option<&'w BuildId>,
    /// Where the very file may be opened.
    pub open: &'w [PathBuf],
    /// Whether it is the main program.
    pub executable: bool,
}

/// `path` below `root`.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl Locator {
    /// Where the system keeps debug files.
    pub(crate) fn system(&self) -> &Path {
        self.system.as_deref().unwrap_or(Path::new("/usr/lib/debug"))
    }

    /// Asks the servers for an image file.
    pub(crate) fn download_image(
        &self,
        id: &BuildId,
        searched: &mut Vec<(PathBuf, Outcome)>,
        doubts: &Doubts,
    ) -> Option<ElfFile> {
        debuginfod::fetch(self, id, debuginfod::Artefact::Executable, searched, doubts)
    }

    /// Where the file of an image may be, best first, each place once.
    pub(crate) fn image_places(&self, wanted: &Wanted<'_>) -> Vec<PathBuf> {
        let mut places = Vec::new();
        if wanted.executable {
            places.extend(self.executable.clone());
        }
        places.extend(wanted.open.iter().cloned());
        let path = Path::new(wanted.path);
        if path.is_absolute() {
            for root in [self.sysroot.as_deref(), self.root.as_deref()].into_iter().flatten() {
                places.push(below(root, path));
            }
            places.push(path.to_owned());
        }
        for dir in &self.symbols {
            if let Some(id) = wanted.build_id {
                let link = dir.join(".build-id").join(id.debug_path());
                places.push(link.with_extension(""));
            }
            if let Some(name) = path.file_name() {
                places.push(below(dir, path));
                places.push(dir.join(name));
            }
        }
        let mut seen = std::collections::HashSet::new();
        places.retain(|p| seen.insert(p.clone()));
        places
    }
}
