//! Initial RAM file systems: cpio archives of the "newc" kind, uncompressed.
//!
//! Source: Documentation/driver-api/early-userspace/buffer-format.rst. Every entry is a header of text, its name, its
//! bytes, each padded to four; the archive ends with an entry of a fixed name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modes of what is put in.
const FOLDER: u32 = 0o04_0755;
const PROGRAM: u32 = 0o10_0755;

/// An archive under construction.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    inode: usize,
    folders: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// One with the folders that an init needs.
    pub fn new() -> Self {
        let mut made = Self::default();
        for folder in ["bin", "dev", "lib", "lib64", "modules", "proc", "sys", "tmp"] {
            made.folder(Path::new(folder));
        }
        made
    }

    fn folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || !self.folders.insert(path.to_owned()) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entry(&path.to_string_lossy(), FOLDER, &[]);
    }

    /// A file that may be executed.
    pub fn file(&mut self, path: &str, body: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some(parent) = Path::new(path).parent() {
            self.folder(parent);
        }
        self.entry(path, PROGRAM, body);
    }

    /// The file of this machine at `from`.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<(), String> {
        let body = std::fs::read(from).map_err(|e| format!("{}: {e}", from.display()))?;
        self.file(to, &body);
        Ok(())
    }

    /// A program of this machine and the libraries it needs.
    pub fn program(&mut self, from: &Path) -> Result<(), String> {
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.copy(from, &format!("bin/{name}"))?;
        self.libraries(from)
    }

    /// The libraries that a program needs: the loader where it is expected, the others in `/lib`.
    pub fn libraries(&mut self, from: &Path) -> Result<(), String> {
        let output = Command::new("ldd").arg(from).output().map_err(|e| format!("ldd: {e}"))?;
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
            let file = Path::new(word).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let to = if word.starts_with("/lib64/") { word.to_owned() } else { format!("lib/{file}") };
            if self.folders.insert(PathBuf::from(&to)) {
                self.copy(Path::new(word), &to)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, body: &[u8]) {
        self.inode += 1;
        let header = [self.inode, mode as usize, 0, 0, 1, 0, body.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(header.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(body);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Initramfs;

    #[test]
    fn the_archive_is_one() {
        let mut made = Initramfs::new();
        made.file("init", b"#!/bin/sh\n");
        made.file("a/b/c", b"xyz");
        let bytes = made.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        let at = |name: &[u8]| bytes.windows(name.len()).position(|w| w == name).unwrap();
        assert!(at(b"a\0") < at(b"a/b\0") && at(b"a/b\0") < at(b"a/b/c\0") && at(b"a/b/c\0") < at(b"TRAILER!!!\0"));
        let size = at(b"a/b/c\0") - 110 + 6 + 6 * 8;
        assert_eq!(&bytes[size..size + 8], b"00000003");
    }
}
