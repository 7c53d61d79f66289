//! dwz's alternate file: what several debug files share, named by `.gnu_debugaltlink` (dwz manual, option `-m`).

use super::{Locator, below, debuginfod};
use crate::BuildId;
use crate::elf::ElfFile;
use crate::images::Outcome;
use evidence::{Doubt, Doubts};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The search for dwz's alternate file.
#[derive(Debug, Default)]
pub(crate) struct Supplementary {
    pub file: Option<ElfFile>,
    pub searched: Vec<(PathBuf, Outcome)>,
    /// The file names one, whether or not it was found.
    pub wanted: bool,
}

impl Supplementary {
    pub(crate) fn find(locator: &Locator, file: &ElfFile, doubts: &Doubts) -> Self {
        let mut search = Self::default();
        let Ok(Some(data)) = file.section_data(".gnu_debugaltlink") else { return search };
        search.wanted = true;
        // The path, a NUL, and the build-id to the end of the section.
        let split = data.iter().position(|b| *b == 0).and_then(|end| data.split_at_checked(end));
        let id = split.and_then(|(_, id)| BuildId::new(id.get(1..)?));
        let (Some((path, _)), Some(id)) = (split, id) else {
            let why = format!("{}: .gnu_debugaltlink holds no path and build-id", file.path().display());
            doubts.push(Doubt::new("debug-info", why));
            return search;
        };
        for place in places(locator, Path::new(OsStr::from_bytes(path)), &id, file) {
            if search.searched.iter().any(|(known, _)| *known == place) {
                continue;
            }
            let outcome = match ElfFile::open(&place) {
                Err(crate::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Outcome::Missing
                }
                Err(e) => Outcome::Unusable(e.to_string()),
                Ok(found) if found.build_id() == Some(&id) => {
                    search.file = Some(found);
                    Outcome::Used
                }
                Ok(found) => Outcome::Mismatch {
                    expected: Some(id.clone()),
                    found: found.build_id().map_or("no build-id".into(), |f| format!("build-id {f}")),
                },
            };
            search.searched.push((place, outcome));
            if search.file.is_some() {
                return search;
            }
        }
        search.file = debuginfod::fetch(locator, &id, debuginfod::Artefact::DebugInfo, &mut search.searched, doubts);
        if search.file.is_none() {
            let why = format!(
                "{}: the alternate file {} (build-id {id}) was not found: names and types that it shares are missing",
                file.path().display(),
                String::from_utf8_lossy(path)
            );
            doubts.push(Doubt::new("debug-info", why));
        }
        search
    }
}

fn places(locator: &Locator, path: &Path, id: &BuildId, file: &ElfFile) -> Vec<PathBuf> {
    let mut places = Vec::new();
    // Relative to the debug file itself, which is often opened through a symbolic link below `.build-id`.
    let real = file.path().canonicalize().unwrap_or_else(|_| file.path().to_owned());
    for folder in [real.parent(), file.path().parent()].into_iter().flatten() {
        if path.is_relative() {
            places.push(folder.join(path));
        }
        places.extend(path.file_name().map(|n| folder.join(n)));
    }
    for root in [locator.sysroot.as_deref(), locator.root.as_deref()].into_iter().flatten() {
        if path.is_absolute() {
            places.push(below(root, path));
        }
    }
    if path.is_absolute() {
        places.push(path.to_owned());
    }
    for dir in locator.symbols.iter().map(PathBuf::as_path).chain([locator.system()]) {
        places.push(dir.join(".build-id").join(id.debug_path()));
        if let Some(name) = path.file_name() {
            places.push(dir.join(".dwz").join(name));
            places.push(dir.join(name));
        }
    }
    places
}
