//! dSYM bundles: `NAME.dSYM/Contents/Resources/DWARF/NAME`, recognised by UUID.
//!
//! Layout: dsymutil(1). A bundle's own name may be that of an application or framework (`Name.app.dSYM`), so all bundles
//! of a folder are looked into.

use super::separate::Separate;
use super::{Locator, below};
use crate::BuildId;
use crate::elf::ElfFile;
use crate::images::Outcome;
use evidence::{Doubt, Doubts};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Most entries of a folder that are looked at for bundles.
const LIMIT_ENTRIES: usize = 16_384;

/// The bundles of folders, listed when they are first asked for: a dump has hundreds of images.
#[derive(Clone, Debug, Default)]
pub struct Bundles(Arc<Mutex<HashMap<PathBuf, Arc<[PathBuf]>>>>);

impl Bundles {
    fn of(&self, folder: &Path) -> Arc<[PathBuf]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = known.get(folder) {
            return Arc::clone(list);
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().take(LIMIT_ENTRIES).flatten();
        let mut list: Vec<PathBuf> =
            entries.map(|e| e.path()).filter(|p| p.extension() == Some(OsStr::new("dSYM"))).collect();
        list.sort();
        let list: Arc<[PathBuf]> = list.into();
        known.insert(folder.to_owned(), Arc::clone(&list));
        list
    }
}

impl Separate {
    /// Looks for the debug information of an image of macOS.
    pub(crate) fn find_bundle(
        locator: &Locator,
        path: &str,
        id: Option<&BuildId>,
        main: Option<&ElfFile>,
        doubts: &Doubts,
    ) -> Self {
        let mut search = Self::default();
        let Some(id) = id.filter(|_| main.is_none_or(|f| f.section(".debug_info").is_none())) else { return search };
        let linked = main.and_then(|f| f.macho()?.header_address());
        for place in places(locator, Path::new(path), main.map(ElfFile::path)) {
            if search.searched.iter().any(|(known, _)| *known == place) {
                continue;
            }
            let outcome = match ElfFile::open_build(&place, Some(id)) {
                Err(crate::Error::Io { source, .. })
                    if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
                {
                    Outcome::Missing
                }
                Err(e) => Outcome::Unusable(e.to_string()),
                Ok(file) => match judge(&file, id, linked) {
                    Outcome::Used => {
                        search.file = Some(file);
                        Outcome::Used
                    }
                    other => other,
                },
            };
            if let Outcome::Mismatch { found, .. } = &outcome {
                let why = format!("{path}: {} has {found}, {id} is wanted; it is not used", place.display());
                doubts.push(Doubt::new("build-id", why));
            }
            search.searched.push((place, outcome));
            if search.file.is_some() {
                break;
            }
        }
        search
    }
}

fn judge(file: &ElfFile, id: &BuildId, linked: Option<u64>) -> Outcome {
    let mismatch = |found: String| Outcome::Mismatch { expected: Some(id.clone()), found };
    match (file.build_id(), file.macho().and_then(|m| m.header_address())) {
        (Some(found), _) if found != id => mismatch(format!("UUID {found}")),
        (None, _) => mismatch("no UUID".into()),
        (_, None) => Outcome::Unusable("it has no __TEXT segment".into()),
        (_, address) if linked.is_some() && address != linked => mismatch("its UUID, but another address".into()),
        _ if file.section(".debug_info").is_some() || crate::symbols::has_symbols(file) => Outcome::Used,
        _ => Outcome::Stripped,
    }
}

/// Where the file inside of a bundle may be, best first.
fn places(locator: &Locator, path: &Path, main: Option<&Path>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let Some(name) = path.file_name() else { return places };
    let inside = |bundle: &Path| bundle.join("Contents/Resources/DWARF").join(name);
    let beside = |image: &Path| {
        let mut bundle = image.as_os_str().to_owned();
        bundle.push(".dSYM");
        inside(Path::new(&bundle))
    };
    places.extend(main.filter(|p| p.is_absolute()).map(beside));
    for dir in &locator.symbols {
        if dir.extension() == Some(OsStr::new("dSYM")) {
            places.push(inside(dir));
        }
        places.push(beside(&dir.join(name)));
        places.push(beside(&below(dir, path)));
        let bundles = locator.bundles.of(dir);
        places.extend(bundles.iter().map(|bundle| inside(bundle)).filter(|place| place.exists()));
    }
    for root in [locator.sysroot.as_deref(), locator.root.as_deref()].into_iter().flatten() {
        places.push(beside(&below(root, path)));
    }
    if path.is_absolute() {
        places.push(beside(path));
    }
    places
}
