//! Breakpad symbol files in symbol stores: `NAME/ID/STEM.sym` below a directory or a server.
//!
//! Layout: Breakpad's `SimpleSymbolSupplier`; Mozilla's Tecken serves the same paths. Microsoft's SSQP ("Simple Symbol
//! Query Protocol") has them in lower case. Servers are asked only when the user named them; an answer is used, and
//! kept in the cache, only if its `MODULE` record has the identifier that was asked for.

use super::{Locator, debuginfod};
use crate::images::Outcome;
use crate::{BuildId, Error, SymFile};
use evidence::{Doubt, Doubts};
use std::path::{Path, PathBuf};

/// Longest identifier: 32 digits and an age of 32 bits; some writers append more.
const LIMIT_ID: usize = 64;
/// Longest file name that any of our file systems takes.
const LIMIT_NAME: usize = 255;
/// Most servers asked.
const LIMIT_SERVERS: usize = 16;

/// What symbol stores know a module by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreKey {
    name: String,
    id: String,
}

impl StoreKey {
    /// From the debug file's name (of a path only the last part counts, on Unix and Windows) and the debug identifier:
    /// GUID and age in hexadecimal. `None` when they cannot be names of files.
    #[must_use]
    pub fn new(name: &str, id: &str) -> Option<Self> {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let honest = !matches!(name, "" | "." | "..")
            && name.len() <= LIMIT_NAME
            && !name.contains(|c: char| c.is_control())
            && !id.is_empty()
            && id.len() <= LIMIT_ID
            && id.bytes().all(|b| b.is_ascii_hexdigit());
        honest.then(|| Self { name: name.to_owned(), id: id.to_ascii_uppercase() })
    }

    /// From an ELF build-id: its first 16 bytes (zeros where it is shorter), read as a GUID, and age 0.
    #[must_use]
    pub fn of_build_id(name: &str, build_id: &BuildId) -> Option<Self> {
        Self::new(name, &breakpad_id(build_id.bytes()))
    }

    /// The debug file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identifier, in upper case.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The symbol file's name: that of a program database without its ending, any other whole.
    fn file_name(&self) -> String {
        let name = self.name.as_str();
        let cut = name.len().saturating_sub(4);
        let is_pdb = name.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case(".pdb"));
        let stem = if is_pdb { name.get(..cut).unwrap_or(name) } else { name };
        format!("{stem}.sym")
    }

    fn is_of(&self, file: &SymFile) -> bool {
        file.id().eq_ignore_ascii_case(&self.id)
    }
}

/// The identifier of an ELF file as Breakpad writes it: the first fields of a GUID are numbers, in little-endian order.
#[must_use]
pub fn breakpad_id(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut id: String = ORDER.iter().map(|n| format!("{:02X}", bytes.get(*n).copied().unwrap_or(0))).collect();
    id.push('0');
    id
}

/// The search for a module's symbol file.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) file: Option<SymFile>,
    pub(crate) searched: Vec<(PathBuf, Outcome)>,
}

impl Store {
    pub(crate) fn find(locator: &Locator, key: &StoreKey, doubts: &Doubts) -> Self {
        let mut search = Self::default();
        for place in places(locator, key) {
            if search.searched.iter().any(|(known, _)| *known == place) {
                continue;
            }
            if search.try_file(&place, key, doubts) {
                return search;
            }
        }
        search.ask_servers(locator, key, doubts);
        search
    }

    /// Whether the file at `place` is the one that is wanted; then it is used.
    fn try_file(&mut self, place: &Path, key: &StoreKey, doubts: &Doubts) -> bool {
        let outcome = match SymFile::open(place) {
            Ok(file) if key.is_of(&file) => {
                self.searched.push((place.to_owned(), Outcome::Used));
                self.file = Some(file);
                return true;
            }
            Ok(file) => {
                let found = format!("identifier {} where {} is wanted", file.id(), key.id);
                doubts.push(Doubt::new("sym-file", format!("{}: {found}; it is not used", place.display())));
                Outcome::Mismatch { expected: None, found }
            }
            Err(Error::Io { source, .. })
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Outcome::Missing
            }
            Err(e) => {
                doubts.push(Doubt::new("sym-file", e.to_string()));
                Outcome::Unusable(e.to_string())
            }
        };
        self.searched.push((place.to_owned(), outcome));
        false
    }

    fn ask_servers(&mut self, locator: &Locator, key: &StoreKey, doubts: &Doubts) {
        if locator.symbol_servers.is_empty() {
            return;
        }
        let Some(cache) = locator.cache.clone().or_else(crate::Cache::users_folder) else { return };
        let folder = cache.join("symbols").join(&key.name).join(&key.id);
        let kept = folder.join(key.file_name());
        if kept.exists() && self.try_file(&kept, key, doubts) {
            return;
        }
        let path = [key.name.as_str(), &key.id, &key.file_name()].map(percent_encoded).join("/");
        for server in locator.symbol_servers.iter().take(LIMIT_SERVERS) {
            let mut paths = vec![path.clone()];
            paths.extend(Some(path.to_ascii_lowercase()).filter(|lower| *lower != path));
            for path in paths {
                let url = format!("{}/{path}", server.trim_end_matches('/'));
                let outcome = match debuginfod::download(&url, &folder, &kept) {
                    Ok(true) if self.try_file(&kept, key, doubts) => Outcome::Used,
                    Ok(true) => {
                        // It must not be taken for the right one at the next time; that it cannot be removed only
                        // means that it is looked at again.
                        let _ = std::fs::remove_file(&kept);
                        Outcome::Mismatch { expected: None, found: "no symbol file of this identifier".into() }
                    }
                    Ok(false) => Outcome::Missing,
                    Err(why) => {
                        doubts.push(Doubt::new("symbol-server", format!("{url}: {why}")));
                        Outcome::Unusable(why)
                    }
                };
                let found = outcome == Outcome::Used;
                self.searched.push((url.into(), outcome));
                if found {
                    return;
                }
            }
        }
    }
}

/// Where the symbol file may be below the directories of `--symbols`, best first.
fn places(locator: &Locator, key: &StoreKey) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let file = key.file_name();
    for dir in &locator.symbols {
        let folder = dir.join(&key.name).join(&key.id);
        places.push(folder.join(&file));
        places.push(folder.join(format!("{file}.gz")));
        let lower = [&key.name, &key.id, &file].map(|part| part.to_ascii_lowercase());
        places.push(lower.iter().fold(dir.clone(), |path, part| path.join(part)));
        places.push(dir.join(&file));
    }
    places
}

/// One part of a URL's path (RFC 3986, 2.3): what is not unreserved is written as `%XX`.
pub(super) fn percent_encoded(part: &str) -> String {
    part.bytes().fold(String::new(), |mut text, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(b)),
            _ => text.push_str(&format!("%{b:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_build_ids_and_names() {
        let id = |bytes: &[u8]| BuildId::new(bytes).expect("a build-id");
        let key = StoreKey::of_build_id("/bin/linux_inline", &id(&[0x10, 0xfa, 0xa6, 0xbb, 0xaa, 0xb8, 0x3d, 0xb3]));
        let key = key.expect("a key");
        assert_eq!((key.name(), key.id()), ("linux_inline", "BBA6FA10B8AAB33D00000000000000000"));
        assert_eq!(key.file_name(), "linux_inline.sym");
        let key = StoreKey::new(r"c:\build\Test_App.PDB", "5a9832e5287241c1838ed98914e9b7ff1").expect("a key");
        assert_eq!((key.name(), key.file_name().as_str()), ("Test_App.PDB", "Test_App.sym"));
        assert_eq!(key.id(), "5A9832E5287241C1838ED98914E9B7FF1");
        for (name, id) in [("..", "0"), ("a/..", "0"), ("", "0"), ("a\0", "0"), ("a", ""), ("a", "../x")] {
            assert_eq!(StoreKey::new(name, id), None, "{name:?} {id:?}");
        }
        assert_eq!(percent_encoded("a b+c.so"), "a%20b%2Bc.so");
    }
}
