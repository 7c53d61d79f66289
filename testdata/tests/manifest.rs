//! `MANIFEST.tsv` lists what is committed: nothing more, nothing less, and with the right checksums.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use testdata::fixtures::workspace;
use testdata::victims;

fn rows() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(workspace().join("testdata/MANIFEST.tsv")).unwrap();
    let mut lines = text.lines().filter(|l| !l.starts_with('#'));
    assert_eq!(lines.next(), Some("path\tkind\torigin\tlicence\tsha256\tshows"));
    lines
        .map(|l| {
            let fields: Vec<String> = l.split('\t').map(str::to_string).collect();
            assert_eq!(fields.len(), 6, "{l}");
            assert!(fields.iter().all(|f| !f.is_empty()), "an empty field in: {l}");
            fields
        })
        .collect()
}

fn files_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.insert(entry.path().strip_prefix(workspace()).unwrap().to_str().unwrap().to_string());
        }
    }
}

#[test]
fn every_row_is_a_file_with_its_checksum() {
    for row in rows() {
        let path = workspace().join(&row[0]);
        assert!(path.is_file(), "{} is listed and not there", row[0]);
        if row[4] != "-" {
            let output = Command::new("sha256sum").arg(&path).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.split_whitespace().next(), Some(row[4].as_str()), "sha256 of {}", row[0]);
        }
    }
}

#[test]
fn every_file_that_is_no_code_of_ours_is_a_row() {
    let listed: BTreeSet<String> = rows().into_iter().map(|r| r[0].clone()).collect();
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(workspace().join("testdata")).unwrap().flatten() {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() && name != "src" && name != "tests" && name != "examples" {
            files_below(&entry.path(), &mut there);
        }
    }
    let missing: Vec<_> = there.difference(&listed).collect();
    assert!(missing.is_empty(), "not in testdata/MANIFEST.tsv: {missing:?}");
}

#[test]
fn every_victim_is_a_row() {
    let rows = rows();
    for victim in victims::all() {
        let row = rows.iter().find(|r| r[0] == format!("testdata/victims/{}", victim.source));
        let row = row.unwrap_or_else(|| panic!("{} has no row", victim.source));
        assert_eq!(row[1], format!("victim:{}", victim.name));
        assert_eq!(row[5], victim.shows);
    }
}
