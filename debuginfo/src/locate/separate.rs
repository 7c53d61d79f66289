//! Separate debug files: by build-id, by name, by `.gnu_debuglink`.

use super::{Locator, below, debuginfod};
use crate::BuildId;
use crate::elf::ElfFile;
use crate::images::Outcome;
use evidence::{Doubt, Doubts, bytes};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The search for a module's separate debug file.
#[derive(Debug, Default)]
pub(crate) struct Separate {
    pub file: Option<ElfFile>,
    pub searched: Vec<(PathBuf, Outcome)>,
}

/// `.gnu_debuglink`: a file name, and the CRC-32 of that file's contents (gdb manual 18.3).
struct DebugLink<'f> {
    name: &'f OsStr,
    crc: u32,
}

fn debug_link(file: &ElfFile) -> Option<DebugLink<'_>> {
    let data = file.section_data(".gnu_debuglink").ok()??;
    let end = data.iter().position(|b| *b == 0)?;
    let name = OsStr::from_bytes(data.get(..end)?);
    let endian = bytes::Endian::from_big(file.endian() == gimli::RunTimeEndian::Big);
    let crc = bytes::u32_at(data, end.checked_add(1)?.checked_next_multiple_of(4)?, endian)?;
    // A name with a slash would leave the directories that are searched.
    (!name.is_empty() && !name.as_bytes().contains(&b'/')).then_some(DebugLink { name, crc })
}

/// What makes a candidate the right file.
struct Wanted<'w> {
    build_id: Option<&'w BuildId>,
    crc: Option<u32>,
}

impl Wanted<'_> {
    /// Both build-ids known: they decide. Otherwise the checksum in the image decides, and without one nothing can.
    fn judge(&self, file: &ElfFile) -> Outcome {
        let mismatch = |found: String| Outcome::Mismatch { expected: self.build_id.cloned(), found };
        match (self.build_id, file.build_id()) {
            (Some(expected), Some(found)) if expected != found => return mismatch(format!("build-id {found}")),
            (Some(_), Some(_)) => {}
            _ => match self.crc {
                Some(expected) => {
                    let found = crc32fast::hash(file.bytes());
                    if expected != found {
                        return mismatch(format!("CRC {found:08x} where .gnu_debuglink says {expected:08x}"));
                    }
                }
                None => return mismatch("neither a build-id nor a .gnu_debuglink to compare".into()),
            },
        }
        let useful = file.section(".debug_info").is_some_and(|s| !s.is_nobits()) || crate::symbols::has_symbols(file);
        if useful { Outcome::Used } else { Outcome::Stripped }
    }
}

impl Separate {
    pub(crate) fn find(
        locator: &Locator,
        path: &str,
        build_id: Option<&BuildId>,
        main: Option<&ElfFile>,
        doubts: &Doubts,
    ) -> Self {
        let mut search = Self::default();
        if main.is_some_and(|f| f.section(".debug_info").is_some()) || path.starts_with('[') {
            return search;
        }
        let link = main.and_then(debug_link);
        let wanted = Wanted { build_id, crc: link.as_ref().map(|l| l.crc) };
        let mut stripped = None;
        for place in places(locator, Path::new(path), build_id, main, link.as_ref().map(|l| l.name)) {
            if search.searched.iter().any(|(known, _)| *known == place) {
                continue;
            }
            let (outcome, file) = match ElfFile::open(&place) {
                Err(crate::Error::Io { source, .. })
                    if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
                {
                    (Outcome::Missing, None)
                }
                Err(e) => (Outcome::Unusable(e.to_string()), None),
                Ok(file) => (wanted.judge(&file), Some(file)),
            };
            search.searched.push((place, outcome.clone()));
            match (outcome, file) {
                (Outcome::Used, Some(file)) if file.section(".debug_info").is_some() => {
                    search.file = Some(file);
                    return search;
                }
                // Symbols only: better than nothing, when nothing better follows.
                (Outcome::Used, file) => stripped = stripped.or(file),
                (outcome @ Outcome::Mismatch { .. }, Some(file)) => {
                    let why = format!("{}: {} is {outcome}; it is not used", path, file.path().display());
                    doubts.push(Doubt::new("build-id", why));
                }
                _ => {}
            }
        }
        if let Some(id) = build_id {
            search.file = debuginfod::fetch(locator, id, debuginfod::Artefact::DebugInfo, &mut search.searched, doubts);
        }
        search.file = search.file.or(stripped);
        search
    }
}

/// Where a separate debug file may be, best first.
fn places(
    locator: &Locator,
    path: &Path,
    build_id: Option<&BuildId>,
    main: Option<&ElfFile>,
    link: Option<&OsStr>,
) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let under = |root: &Path| below(root, locator.system());
    let mut systems: Vec<PathBuf> = [&locator.sysroot, &locator.root].into_iter().flatten().map(|r| under(r)).collect();
    systems.push(locator.system().to_owned());
    for dir in locator.symbols.iter().chain(&systems) {
        if let Some(id) = build_id {
            places.push(dir.join(".build-id").join(id.debug_path()));
        }
    }
    for dir in &locator.symbols {
        let Some(name) = path.file_name() else { continue };
        let mut debug = name.to_owned();
        debug.push(".debug");
        for place in [below(dir, path), dir.join(name)] {
            places.push(place.with_file_name(&debug));
            places.extend(link.map(|l| place.with_file_name(l)));
            places.push(place);
        }
    }
    if let Some(link) = link {
        // The folder of the image as the target names it, and the folder it was really opened from.
        folders.extend(path.parent().filter(|p| p.is_absolute()).map(Path::to_owned));
        let real = main.and_then(|f| f.path().canonicalize().ok());
        folders.extend(real.and_then(|p| p.parent().map(Path::to_owned)));
        for folder in &folders {
            places.push(folder.join(link));
            places.push(folder.join(".debug").join(link));
            places.extend(systems.iter().map(|s| below(s, folder).join(link)));
        }
    }
    places
}
