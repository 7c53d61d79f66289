//! Where the fixtures are, and how a test says that it had to do without.
//!
//! Fixtures are big files made elsewhere (kernel dumps, cores of other systems). They are not part of the repository:
//! `POSTFAULT_FIXTURES` names their folder, the default is `../shared/fixtures` beside the workspace. A test that
//! finds none says so on stderr and passes; with `POSTFAULT_REQUIRE_FIXTURES=1` it fails instead.

use std::path::{Path, PathBuf};

/// The root of the workspace this crate was compiled in.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Whether the environment variable `name` is set to something other than nothing or `0`.
#[must_use]
pub fn required(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0")
}

/// The folder of fixtures, or `None` after saying on stderr what will be skipped.
///
/// # Panics
/// When there is no such folder and `POSTFAULT_REQUIRE_FIXTURES=1`.
#[must_use]
pub fn fixtures() -> Option<PathBuf> {
    let dir = match std::env::var_os("POSTFAULT_FIXTURES") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => workspace().join("../shared/fixtures"),
    };
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(
        !required("POSTFAULT_REQUIRE_FIXTURES"),
        "no fixtures in {} and POSTFAULT_REQUIRE_FIXTURES is set; set POSTFAULT_FIXTURES to their folder",
        dir.display()
    );
    eprintln!("skipped: no fixtures in {} (set POSTFAULT_FIXTURES)", dir.display());
    None
}

/// One file of the fixtures by its path inside their folder, as [`fixtures`].
///
/// # Panics
/// As [`fixtures`], also when the folder is there and the file is not.
#[must_use]
pub fn fixture(path: &str) -> Option<PathBuf> {
    let file = fixtures()?.join(path);
    if file.exists() {
        return Some(file);
    }
    assert!(
        !required("POSTFAULT_REQUIRE_FIXTURES"),
        "the fixture {} is missing and POSTFAULT_REQUIRE_FIXTURES is set",
        file.display()
    );
    eprintln!("skipped: no fixture {}", file.display());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_holds_this_crate() {
        assert!(workspace().join("testdata/Cargo.toml").is_file());
    }

    #[test]
    fn a_missing_fixture_is_none() {
        if !required("POSTFAULT_REQUIRE_FIXTURES") {
            assert_eq!(fixture("no/such/file"), None);
        }
    }
}
