//! The files behind the mappings: where they may be opened, and keeping them within reach.
//!
//! Linux names no images itself: mappings, the auxiliary vector and the dynamic linker's list do. What a live process has
//! to add is the way to the very files, also when they were replaced, unlinked, or lie in another mount namespace.

use evidence::Mapping;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// How many files are held open. Programs map some hundred libraries at most, and the usual limit of open files is
/// 1024.
const LIMIT_HELD: usize = 384;

/// Files held open so that they can be read after the process has gone.
#[derive(Debug, Default)]
pub(super) struct HeldFiles {
    /// Opened with `O_PATH`: nothing is read, no device is woken; `/proc/self/fd/N` opens the file itself.
    files: Vec<File>,
    /// By (device, inode): where a file that holds code may be opened, besides the places that depend on the mapping.
    known: HashMap<(u64, u64), Places>,
}

#[derive(Clone, Debug, Default)]
struct Places {
    /// Its own path, if that leads to the very file.
    direct: Option<PathBuf>,
    /// A descriptor of ours.
    held: Option<PathBuf>,
}

impl HeldFiles {
    /// Says for each mapping where its file may be opened, best first: under its own path if that is the very file;
    /// through the kernel's link to the mapped file; below the process's root; and through a descriptor of ours, which
    /// outlives the process. The first and the last only for files that code is mapped from: the others are data, which
    /// is read from memory.
    ///
    /// Called once while the process still runs, so that a stop finds everything known but what is new.
    /// `tid` is a thread that has an address space.
    pub(super) fn describe(&mut self, tid: i32, mappings: &mut [Mapping]) {
        for mapping in mappings.iter().filter(|m| m.protection.is_some_and(|p| p.execute)) {
            if let (Some(id), Some(path)) = (mapping.file_id, path_of(mapping))
                && !self.known.contains_key(&id)
            {
                // A file that another one has replaced keeps its path, but not its inode.
                let is_it = std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == id);
                let direct = (!mapping.deleted && is_it).then(|| PathBuf::from(path));
                let held = self.hold(id, [link(tid, mapping), below_root(tid, path)]);
                self.known.insert(id, Places { direct, held });
            }
        }
        for mapping in mappings {
            let (Some(id), Some(path)) = (mapping.file_id, path_of(mapping)) else { continue };
            let places = self.known.get(&id).cloned().unwrap_or_default();
            let below_root = (!mapping.deleted).then(|| below_root(tid, path));
            let link = Some(link(tid, mapping));
            mapping.open = [places.direct, link, below_root, places.held].into_iter().flatten().collect();
        }
    }

    fn hold(&mut self, id: (u64, u64), places: [PathBuf; 2]) -> Option<PathBuf> {
        if self.files.len() >= LIMIT_HELD {
            return None;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC);
        let file = places.iter().zip([true, false]).find_map(|(place, linked)| {
            // The kernel's link leads to the mapped file whatever its device number says (btrfs, overlayfs).
            let is_it = |file: &File| {
                file.metadata().is_ok_and(|m| m.is_file() && m.ino() == id.1 && (linked || m.dev() == id.0))
            };
            options.open(place).ok().filter(is_it)
        })?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        self.files.push(file);
        Some(path)
    }
}

fn path_of(mapping: &Mapping) -> Option<&str> {
    mapping.path.as_deref().filter(|p| p.starts_with('/'))
}

fn link(tid: i32, mapping: &Mapping) -> PathBuf {
    PathBuf::from(format!("/proc/{tid}/map_files/{:x}-{:x}", mapping.range.start.0, mapping.range.end.0))
}

fn below_root(tid: i32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{tid}/root{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::linux::mappings;

    #[test]
    fn our_own_files_are_found() {
        let tid = i32::try_from(std::process::id()).unwrap();
        let (mut maps, _) = mappings::parse(&std::fs::read("/proc/self/maps").unwrap());
        let mut held = HeldFiles::default();
        held.describe(tid, &mut maps);
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let ours = maps.iter().find(|m| m.path.as_deref() == exe.to_str()).unwrap();
        assert_eq!(ours.open[0], exe);
        let inode = std::fs::metadata(&exe).unwrap().ino();
        let through_us = ours.open.iter().find(|p| p.starts_with("/proc/self/fd")).unwrap();
        assert_eq!(std::fs::metadata(through_us).unwrap().ino(), inode);
        assert!(maps.iter().filter(|m| m.file_id.is_none()).all(|m| m.open.is_empty()));
    }
}
