//! The outputs of `docs/guide.md` are those of the program. `POSTFAULT_BLESS=1` writes them anew: read them then.

mod common;

use common::postfault;
use std::fmt::Write as _;
use std::path::Path;

/// Replaces what differs between two runs.
fn normalise(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "").replace("\u{1b}", "");
    let mut out = String::new();
    for line in text.lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            words.push(word_sign(word));
        }
        // Sizes of compressed data depend on the addresses in it.
        if let Some(unit) = words.iter().position(|w| w == "kB" || w == "MB").filter(|at| *at > 0) {
            words.splice(unit - 1..=unit, ["SIZE".to_owned()]);
        }
        if let Some(ratio) = words.iter_mut().find(|w| w.starts_with("(1/")) {
            *ratio = "(1/N".to_owned();
        }
        let mut line = words.join(" ");
        // Where a long line is cut depends on the numbers in it.
        if let Some(brace) = line.find('{').filter(|_| line.ends_with('…')) {
            line.replace_range(brace.., "{…");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn word_sign(word: &str) -> String {
    let bare = word.trim_matches(['(', ')', ',', ';', ':', '{', '}', '<', '>', '@', '.', '"', '`', '[', ']', '…']);
    let sign = if let Some(hex) = bare.strip_prefix("0x") {
        // Small numbers are offsets and mean the same in each run.
        if hex.len() > 6 { Some("ADDR".to_owned()) } else { None }
    } else if is_number(bare) {
        Some("N".to_owned())
    } else if bare.len() >= 16 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        Some("HEX".to_owned())
    } else if bare.starts_with('/') && bare.contains("/victims/") {
        let (path, rest) = bare.split_once(':').map_or((bare, ""), |(p, r)| (p, r));
        let name = path.rsplit('/').next().unwrap_or_default();
        let colon = if rest.is_empty() { "" } else { ":" };
        Some(format!("DIR/{name}{colon}{rest}"))
    } else if bare.contains("/.build-id/") {
        Some("DEBUGFILE".to_owned())
    } else if bare.contains("-gnu/") || bare.contains("sysdeps") || bare.contains("/csu/") {
        Some("LIBC".to_owned())
    } else {
        None
    };
    sign.map_or_else(|| word.to_owned(), |s| word.replacen(bare, &s, 1))
}

/// A whole number of three digits or more, signed or not, with or without thousands marks.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit() || b == b',') && !digits.starts_with(',')
}

#[test]
fn the_guide_shows_what_the_program_prints() {
    let Some(core) = common::core("null_method", "gcc-O0") else { return };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&core, folder.path().join("core")).unwrap();
    let mut made = String::new();
    let mut parts = text.split("```console\n");
    made.push_str(parts.next().unwrap());
    let mut commands = 0;
    for part in parts {
        let (block, rest) = part.split_once("```").unwrap();
        let command = block.lines().next().unwrap();
        let words: Vec<&str> = command.strip_prefix("$ postfault ").unwrap().split(' ').collect();
        let output = postfault().args(&words).current_dir(folder.path()).output().unwrap();
        assert!(output.status.code().is_some_and(|c| c < 2), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let shown = normalise(&String::from_utf8_lossy(&output.stdout), folder.path());
        let _ = write!(made, "```console\n{command}\n{shown}```{rest}");
        commands += 1;
    }
    assert!(commands >= 7, "{commands} commands");
    if std::env::var_os("POSTFAULT_BLESS").is_some() {
        std::fs::write(&page, made).unwrap();
    } else {
        assert!(made == text, "docs/guide.md is out of date; what the program prints now:\n{made}");
    }
}
