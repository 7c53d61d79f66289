//! Files of Windows and Apple in symbol stores: `NAME/ID/NAME` below a directory or a server, or beside each other.
//!
//! Layout: Microsoft's SSQP ("Simple Symbol Query Protocol"): a program database is filed under GUID and age, an image
//! under time stamp and size. Servers are asked only when the user named them; a file is used, and kept in the cache,
//! only if it says that it is the one that was asked for.

use super::store::percent_encoded;
use super::{Locator, debuginfod};
use crate::Error;
use crate::images::Outcome;
use evidence::{Doubt, Doubts};
use std::path::{Path, PathBuf};

/// Most servers asked.
const LIMIT_SERVERS: usize = 16;

/// What came of a search.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub file: Option<T>,
    pub searched: Vec<(PathBuf, Outcome)>,
}

/// A file that is wanted, and how it is recognised.
pub(crate) struct Search<'s, T> {
    /// Key of doubts.
    pub what: &'static str,
    /// Its places in a store, best first: the parts of a path.
    pub places: Vec<Vec<String>>,
    /// Names by which it may lie in a folder of `--symbols` itself.
    pub names: Vec<String>,
    pub open: &'s dyn Fn(&Path) -> Result<T, Error>,
    /// Why it is not the one.
    pub judge: &'s dyn Fn(&T) -> Result<(), String>,
    pub doubts: &'s Doubts,
}

/// The places of a file in a store: as the identity is written, and with everything in lower case.
pub(crate) fn places(name: &str, id: &str, file: &str) -> Vec<Vec<String>> {
    let exact: Vec<String> = [name, id, file].map(str::to_owned).into();
    let upper = vec![name.to_owned(), id.to_ascii_uppercase(), file.to_owned()];
    let lower = exact.iter().map(|part| part.to_ascii_lowercase()).collect();
    let mut all = vec![exact];
    for other in [upper, lower] {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

impl<T> Search<'_, T> {
    /// Looks below the directories of `--symbols`.
    pub(crate) fn folders(&self, locator: &Locator) -> Found<T> {
        let mut found = Found { file: None, searched: Vec::new() };
        for dir in &locator.symbols {
            let stores = self.places.iter().map(|parts| parts.iter().fold(dir.clone(), |path, part| path.join(part)));
            for place in stores.chain(self.names.iter().map(|name| dir.join(name))) {
                if found.searched.iter().any(|(known, _)| *known == place) {
                    continue;
                }
                if self.try_file(&place, &mut found) {
                    return found;
                }
            }
        }
        found
    }

    /// Asks the servers of `--symbol-server`, or what is kept of their answers.
    pub(crate) fn servers(&self, locator: &Locator) -> Found<T> {
        let mut found = Found { file: None, searched: Vec::new() };
        let cache = locator.cache.clone().or_else(crate::Cache::users_folder);
        let (Some(cache), Some(first)) = (cache, self.places.first()) else { return found };
        if locator.symbol_servers.is_empty() {
            return found;
        }
        let kept = first.iter().fold(cache.join("symbols"), |path, part| path.join(part));
        let Some(folder) = kept.parent() else { return found };
        if kept.exists() && self.try_file(&kept, &mut found) {
            return found;
        }
        for server in locator.symbol_servers.iter().take(LIMIT_SERVERS) {
            for place in &self.places {
                let path: Vec<String> = place.iter().map(|part| percent_encoded(part)).collect();
                let url = format!("{}/{}", server.trim_end_matches('/'), path.join("/"));
                let outcome = match debuginfod::download(&url, folder, &kept) {
                    Ok(true) if self.try_file(&kept, &mut found) => Outcome::Used,
                    Ok(true) => {
                        // It must not be taken for the right one at the next time; that it cannot be removed only
                        // means that it is looked at again.
                        let _ = std::fs::remove_file(&kept);
                        Outcome::Mismatch { expected: None, found: "no file of this identity".into() }
                    }
                    Ok(false) => Outcome::Missing,
                    Err(why) => {
                        self.doubts.push(Doubt::new("symbol-server", format!("{url}: {why}")));
                        Outcome::Unusable(why)
                    }
                };
                let used = outcome == Outcome::Used;
                found.searched.push((url.into(), outcome));
                if used {
                    return found;
                }
            }
        }
        found
    }

    /// Whether the file at `place` is the one that is wanted; then it is used.
    fn try_file(&self, place: &Path, found: &mut Found<T>) -> bool {
        let outcome = match (self.open)(place) {
            Ok(file) => match (self.judge)(&file) {
                Ok(()) => {
                    found.searched.push((place.to_owned(), Outcome::Used));
                    found.file = Some(file);
                    return true;
                }
                Err(why) => {
                    self.doubts.push(Doubt::new(self.what, format!("{}: {why}; it is not used", place.display())));
                    Outcome::Mismatch { expected: None, found: why }
                }
            },
            Err(Error::Io { source, .. })
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                match packed(place) {
                    Some(packed) => {
                        let why = "a compressed cabinet, which is not read: expand it".to_owned();
                        self.doubts.push(Doubt::new(self.what, format!("{}: {why}", packed.display())));
                        found.searched.push((packed, Outcome::Unusable(why)));
                        return false;
                    }
                    None => Outcome::Missing,
                }
            }
            Err(e) => {
                self.doubts.push(Doubt::new(self.what, e.to_string()));
                Outcome::Unusable(e.to_string())
            }
        };
        found.searched.push((place.to_owned(), outcome));
        false
    }
}

/// The compressed form of a file, if it is there: stores replace the last letter of the name by an underscore.
fn packed(place: &Path) -> Option<PathBuf> {
    let name = place.file_name()?.to_str()?;
    let (last, _) = name.char_indices().last()?;
    let packed = place.with_file_name(format!("{}_", name.get(..last)?));
    packed.is_file().then_some(packed)
}
