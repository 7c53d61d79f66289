//! `info.N`: what savecore wrote beside a dump.
//!
//! Source: `sbin/savecore/savecore.c` (`printheader`): lines of `  Name: value`; the version string goes on over lines
//! that are indented further. It is read for what the dump itself does not hold any more once it is off its device.

use std::path::{Path, PathBuf};

/// Largest file that is read: a real one has less than 2 KiB.
const LIMIT_FILE: u64 = 1 << 20;

/// The lines of an `info.N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Names and values as they stand there; lines that go on are joined with line breaks.
    pub lines: Vec<(String, String)>,
}

impl Info {
    /// Parses the text; lines that are none of its kind are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let indent = line.len().saturating_sub(line.trim_start().len());
            let continues = indent > 2 || line.starts_with('\t');
            match line.trim().split_once(": ").or_else(|| line.trim().strip_suffix(':').map(|n| (n, ""))) {
                Some((name, value)) if !continues && !name.is_empty() => {
                    lines.push((name.to_owned(), value.trim().to_owned()));
                }
                _ => {
                    if let (Some((_, value)), true) = (lines.last_mut(), continues) {
                        value.push('\n');
                        value.push_str(line.trim());
                    }
                }
            }
        }
        Self { lines }
    }

    /// The value of a line.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// The one beside a dump named `vmcore.N`, `vmcore.N.zst`, `vmcore_encrypted.N`, `textdump.tar.N` or `vmcore.last`.
    #[must_use]
    pub fn beside(dump: &Path) -> Option<(PathBuf, Self)> {
        let path = beside(dump, "info")?;
        let small = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= LIMIT_FILE);
        let bytes = small.then(|| std::fs::read(&path).ok()).flatten()?;
        Some((path, Self::parse(&String::from_utf8_lossy(&bytes))))
    }
}

/// The file `kind.N` beside `vmcore.N`.
pub(super) fn beside(dump: &Path, kind: &str) -> Option<PathBuf> {
    let name = dump.file_name()?.to_str()?;
    let rest = ["vmcore_encrypted.", "textdump.tar.", "vmcore."].iter().find_map(|p| name.strip_prefix(p))?;
    let number = rest.split('.').next().filter(|n| n.bytes().all(|b| b.is_ascii_digit()) || *n == "last")?;
    let path = dump.with_file_name(format!("{kind}.{number}"));
    (!number.is_empty() && path.is_file()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_go_on() {
        let text = "Dump header from device: /dev/ada0p3\n  Architecture: amd64\n  Architecture Version: 2\n  \
                    Hostname: db1\n  Magic: FreeBSD Kernel Dump\n  Version String: FreeBSD 14.1-RELEASE #0\n    \
                    root@builder:/usr/obj\n  Panic String: page fault: again\n  Dump Parity: 71262151\n  Bounds: 3\n  \
                    Dump Status: good\n";
        let info = Info::parse(text);
        assert_eq!(info.get("Dump header from device"), Some("/dev/ada0p3"));
        assert_eq!(info.get("Version String"), Some("FreeBSD 14.1-RELEASE #0\nroot@builder:/usr/obj"));
        assert_eq!(info.get("Panic String"), Some("page fault: again"));
        assert_eq!(info.get("Dump Status"), Some("good"));
        assert_eq!(info.get("Nothing"), None);
    }
}
