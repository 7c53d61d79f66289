//! Rules about source files: size, module documentation, unsafe code, words.

use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const LIMIT_LINES: usize = 600;

/// Files that may hold unsafe code besides the crate `platform`.
const UNSAFE_MODULES: [&str; 1] = ["debuginfo/src/map.rs"];

pub fn check(root: &Path, violations: &mut Vec<String>) {
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    if files.len() < 20 {
        violations.push(format!("only {} source files were found below {}", files.len(), root.display()));
    }
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => check_file(&name, &text, violations),
            Err(e) => violations.push(format!("{name}: {e}")),
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "victims" {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn check_file(name: &str, text: &str, violations: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LIMIT_LINES {
        violations.push(format!("{name}: {lines} lines, more than {LIMIT_LINES}: split it"));
    }
    if !text.trim_start().starts_with("//!") && !text.trim_start().starts_with("#![no_main]") {
        violations.push(format!("{name}: does not begin with `//!` saying what it is for"));
    }
    let may_be_unsafe = name.starts_with("platform/") || UNSAFE_MODULES.contains(&name);
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        // Spelled in two parts so that this file does not accuse itself.
        for (word, why) in [
            (concat!("todo", "!("), "unfinished code"),
            (concat!("unimplemented", "!("), "unfinished code"),
            (concat!("#[ig", "nore"), "a test that is never run"),
        ] {
            if code.contains(word) {
                violations.push(format!("{name}:{number}: {word}: {why}"));
            }
        }
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK")] {
            if line.contains(word) {
                violations.push(format!("{name}:{number}: a note to oneself ({word}) belongs in the issue list"));
            }
        }
        if !may_be_unsafe && (code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " impl"))) {
            violations.push(format!("{name}:{number}: unsafe code outside of platform and the mapping module"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(name: &str, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        check_file(name, text, &mut all);
        all
    }

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(violations("a/src/lib.rs", "//! Fine.\n"), Vec::<String>::new());
        assert_eq!(violations("a/src/lib.rs", "fn main() {}\n").len(), 1);
        assert_eq!(violations("a/src/lib.rs", concat!("//! x\nfn f() { todo", "!() }\n")).len(), 1);
        assert_eq!(violations("a/src/lib.rs", concat!("//! x\nfn f() { unsafe", " { g() } }\n")).len(), 1);
        assert_eq!(
            violations("platform/src/lib.rs", concat!("//! x\nfn f() { unsafe", " { g() } }\n")),
            Vec::<String>::new()
        );
        assert_eq!(violations("a/src/lib.rs", &format!("//! x\n{}", "\n".repeat(700))).len(), 1);
    }
}
