//! What a person and a program see of two inputs that are the same everywhere: the snapshot of format version 1 that is
//! kept for ever, and a core built from nothing. `INSTA_UPDATE=always` writes the outputs anew: read them then.

mod common;

use common::postfault;
use std::path::Path;

/// Runs in `folder`, so that no path of this machine is in the output.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = postfault().args(arguments).current_dir(folder).output().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The document with a line for each field, by name, without the program's version.
fn lines_of_json(text: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    serde_json::to_string_pretty(&document).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn a_snapshot_of_version_1() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshot-format/tests/golden");
    let name = "version-1.snapshot";
    insta::assert_snapshot!("version_1_summary", said(&folder, &["show", name]));
    insta::assert_snapshot!("version_1_findings", said(&folder, &["show", name, "findings"]));
    insta::assert_snapshot!("version_1_modules", said(&folder, &["show", name, "modules"]));
    insta::assert_snapshot!("version_1_locals", said(&folder, &["bt", name, "--locals"]));
    insta::assert_snapshot!("version_1_json", lines_of_json(&said(&folder, &["show", name, "--json"])));
}

#[test]
fn a_core_built_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    testdata::elfcore::linux::small().write(&folder.path().join("core")).unwrap();
    insta::assert_snapshot!("core_summary", said(folder.path(), &["show", "core"]));
    insta::assert_snapshot!("core_threads", said(folder.path(), &["bt", "core"]));
    insta::assert_snapshot!("core_findings", said(folder.path(), &["show", "core", "findings"]));
    insta::assert_snapshot!("core_mappings", said(folder.path(), &["show", "core", "mappings"]));
    insta::assert_snapshot!("core_json", lines_of_json(&said(folder.path(), &["bt", "core", "--json"])));
}
