//! Separate debug files: by build-id, by name, by `.gnu_debuglink`, and dwz's alternate files.

use super::{Locator, below};
use crate::BuildId;
use crate::elf::ElfFile;
use crate::images::Outcome;
use evidence::Doubts;
use std::path::{Path, PathBuf};

/// The search for a module's separate debug file.
#[derive(Debug, Default)]
pub(crate) struct Separate {
    pub file: Option<ElfFile>,
    pub searched: Vec<(PathBuf, Outcome)>,
}

/// The search for dwz's alternate file.
#[derive(Debug, Default)]
pub(crate) struct Supplementary {
    pub file: Option<ElfFile>,
    pub searched: Vec<(PathBuf, Outcome)>,
}

const SYSTEM: &str = "/usr/lib/debug";

impl Separate {
    pub(crate) fn find(
        locator: &Locator,
        path: &str,
        build_id: Option<&BuildId>,
        main: Option<&ElfFile>,
        _doubts: &Doubts,
    ) -> Self {
        let mut search = Self::default();
        if main.is_some_and(|f| f.section(".debug_info").is_some()) {
            return search;
        }
        let Some(id) = build_id else { return search };
        let mut places = Vec::new();
        let path = Path::new(path);
        for dir in locator.symbols.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM)]) {
            places.push(dir.join(".build-id").join(id.debug_path()));
            if let Some(name) = path.file_name() {
                let mut debug = name.to_owned();
                debug.push(".debug");
                for place in [below(dir, path), dir.join(name)] {
                    places.push(place.with_file_name(&debug));
                    places.push(place);
                }
            }
        }
        for place in places {
            let outcome = match ElfFile::open(&place) {
                Err(crate::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Outcome::Missing
                }
                Err(e) => Outcome::Unusable(e.to_string()),
                Ok(file) if file.build_id() != Some(id) => Outcome::Mismatch {
                    expected: Some(id.clone()),
                    found: file.build_id().map_or("no build-id".into(), |f| format!("build-id {f}")),
                },
                Ok(file) if file.section(".debug_info").is_none() => Outcome::Stripped,
                Ok(file) => {
                    search.file = Some(file);
                    Outcome::Used
                }
            };
            search.searched.push((place, outcome));
            if search.file.is_some() {
                break;
            }
        }
        search
    }
}

impl Supplementary {
    pub(crate) fn find(_locator: &Locator, _file: &ElfFile, _doubts: &Doubts) -> Self {
        Self::default()
    }
}
