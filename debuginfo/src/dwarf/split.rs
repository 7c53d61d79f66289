//! Split DWARF: the files next to the debug file that hold most of its units.

use crate::Locator;
use crate::elf::ElfFile;
use std::path::{Path, PathBuf};

/// Most split files opened for one module. A program has one per object file; the largest known have some 40,000, in
/// one package.
pub const LIMIT_SPLIT_FILES: usize = 1 << 16;

/// The split files of one module, opened when first needed.
#[derive(Debug, Default)]
pub struct SplitFiles {
    /// Where else to look, and what to put before absolute paths.
    locator: Locator,
    opened: elsa::sync::FrozenVec<Box<ElfFile>>,
}

impl SplitFiles {
    /// Files are looked for where `locator` says, besides where the skeletons say.
    #[must_use]
    pub fn new(locator: &Locator) -> Self {
        Self { locator: locator.clone(), opened: elsa::sync::FrozenVec::new() }
    }

    fn open(&self, path: &Path) -> Option<&ElfFile> {
        if self.opened.len() >= LIMIT_SPLIT_FILES || !path.is_file() {
            return None;
        }
        Some(self.opened.push_get(Box::new(ElfFile::open(path).ok()?)))
    }

    /// The package of a program or debug file: `FILE.dwp`, there or in a `--symbols` directory.
    pub(crate) fn package(&self, file: &Path) -> Option<&ElfFile> {
        let mut name = file.file_name()?.to_owned();
        name.push(".dwp");
        let beside = file.with_file_name(&name);
        std::iter::once(beside).chain(self.locator.symbols.iter().map(|d| d.join(&name))).find_map(|p| self.open(&p))
    }

    /// Every file that may be the one a skeleton names, best first; the caller checks which is.
    pub(crate) fn candidates(&self, directory: &Path, name: &Path, file: &Path) -> Vec<PathBuf> {
        let full = directory.join(name);
        let below = |root: &PathBuf| full.strip_prefix("/").ok().map(|rest| root.join(rest));
        let mut paths: Vec<PathBuf> = Vec::new();
        paths.extend(self.locator.sysroot.iter().filter_map(below));
        paths.extend(self.locator.root.iter().filter_map(below));
        if self.locator.sysroot.is_none() {
            paths.push(full.clone());
        }
        let base = name.file_name();
        if let Some(folder) = file.parent() {
            paths.push(folder.join(name));
            paths.extend(base.map(|b| folder.join(b)));
        }
        for folder in &self.locator.symbols {
            paths.extend(below(folder));
            paths.push(folder.join(name));
            paths.extend(base.map(|b| folder.join(b)));
        }
        paths
    }

    pub(crate) fn open_candidate(&self, path: &Path) -> Option<&ElfFile> {
        if let Some(known) = self.opened.iter().find(|f| f.path() == path) {
            return Some(known);
        }
        self.open(path)
    }
}
