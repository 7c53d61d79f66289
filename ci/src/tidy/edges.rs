//! Who may use whom: the table of ARCHITECTURE.md against the manifests.

use std::collections::BTreeMap;
use std::path::Path;

/// The crates of this workspace that each crate may depend on, outside of tests.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("evidence", &[]),
    ("snapshot-format", &[]),
    ("platform", &["evidence"]),
    ("kernel-dumps", &["evidence"]),
    ("debuginfo", &["evidence"]),
    ("unwind", &["evidence", "debuginfo"]),
    ("analysis", &["snapshot-format"]),
    ("capture", &["evidence", "debuginfo", "unwind", "snapshot-format"]),
    ("cli", &["evidence", "platform", "kernel-dumps", "debuginfo", "unwind", "capture", "analysis", "snapshot-format"]),
    ("testdata", &[]),
    ("ci", &["testdata"]),
];

pub fn check(root: &Path, violations: &mut Vec<String>) {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    for (name, may_use) in &allowed {
        let path = root.join(name).join("Cargo.toml");
        let Ok(manifest) = std::fs::read_to_string(&path) else {
            violations.push(format!("{name}/Cargo.toml is missing"));
            continue;
        };
        for dependency in dependencies(&manifest) {
            if allowed.contains_key(dependency.as_str()) && !may_use.contains(&dependency.as_str()) {
                violations.push(format!("{name} may not use {dependency} (see the table in ARCHITECTURE.md)"));
            }
        }
    }
    let Ok(workspace) = std::fs::read_to_string(root.join("Cargo.toml")) else {
        violations.push("Cargo.toml is missing".to_owned());
        return;
    };
    for member in members(&workspace) {
        if !allowed.contains_key(member.as_str()) {
            violations.push(format!("crate {member} is in no row of the table of who may use whom"));
        }
    }
}

/// Names under `[dependencies]`, `[build-dependencies]` and their target-specific forms; not `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            names.push(name.trim().split('.').next().unwrap_or_default().to_owned());
        }
    }
    names
}

fn members(workspace: &str) -> Vec<String> {
    let list = workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(l, _)| l);
    list.split(',').map(|m| m.trim().trim_matches('"').to_owned()).filter(|m| !m.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_dependencies_count() {
        let manifest = "[dependencies]\nevidence.workspace = true\n[dev-dependencies]\nplatform.workspace = true\n\
                        [target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n";
        assert_eq!(dependencies(manifest), ["evidence", "libc"]);
    }

    #[test]
    fn the_table_has_no_circle() {
        let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
        fn reaches(allowed: &BTreeMap<&str, &[&str]>, from: &str, to: &str, depth: usize) -> bool {
            depth < 20 && allowed[from].iter().any(|d| *d == to || reaches(allowed, d, to, depth + 1))
        }
        for name in allowed.keys() {
            assert!(!reaches(&allowed, name, name, 0), "{name}");
        }
    }
}
