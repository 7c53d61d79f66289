//! The files behind the mappings: where they may be opened, and keeping them within reach.
//!
//! Linux names no images itself: mappings, the auxiliary vector and the dynamic linker's list do. What a live process has
//! to add is the way to the very files, also when they were replaced, unlinked, or lie in another mount namespace.

use evidence::Mapping;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many files are held open. Programs map some hundred libraries at most, and the usual limit of open files is
/// 1024.
const LIMIT_HELD: usize = 384;

/// Files held open so that they can be read after the process has gone.
#[derive(Debug, Default)]
pub(super) struct HeldFiles {
    /// Opened with `O_PATH`: nothing is read, no device is woken; `/proc/self/fd/N` opens the file itself.
    files: Vec<File>,
}

impl HeldFiles {
    /// Says for each mapping where its file may be opened, best first: under its own path if that is the very file;
    /// through the kernel's link to the mapped file; below the process's root; and through a descriptor of ours.
    ///
    /// `tid` is a thread that has an address space.
    pub(super) fn take(tid: i32, mappings: &mut [Mapping]) -> Self {
        let mut held = Self::default();
        let mut known: HashMap<(u64, u64), Option<PathBuf>> = HashMap::new();
        let code: Vec<(u64, u64)> =
            mappings.iter().filter(|m| m.protection.is_some_and(|p| p.execute)).filter_map(|m| m.file_id).collect();
        for mapping in mappings {
            let (Some(id), Some(path)) = (mapping.file_id, mapping.path.as_deref().filter(|p| p.starts_with('/')))
            else {
                continue;
            };
            let link =
                PathBuf::from(format!("/proc/{tid}/map_files/{:x}-{:x}", mapping.range.start.0, mapping.range.end.0));
            let below_root = PathBuf::from(format!("/proc/{tid}/root{path}"));
            let is_it = |place: &Path| std::fs::metadata(place).is_ok_and(|m| (m.dev(), m.ino()) == id);
            let direct = known.entry(id).or_insert_with(|| {
                // A file that another one has replaced keeps its path, but not its inode.
                (!mapping.deleted && is_it(Path::new(path))).then(|| PathBuf::from(path))
            });
            mapping.open.extend(direct.clone());
            mapping.open.push(link.clone());
            if !mapping.deleted {
                mapping.open.push(below_root.clone());
            }
            if code.contains(&id) {
                mapping.open.extend(held.hold(id, [link, below_root]));
            }
        }
        held
    }

    fn hold(&mut self, id: (u64, u64), places: [PathBuf; 2]) -> Option<PathBuf> {
        let through = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let is_it = |file: &File, linked: bool| {
            file.metadata().is_ok_and(|m| {
                let kind = m.file_type();
                let special = kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket();
                // The kernel's link leads to the mapped file whatever its device number says (btrfs, overlayfs).
                !special && m.is_file() && (m.ino() == id.1) && (linked || m.dev() == id.0)
            })
        };
        if let Some(file) = self.files.iter().find(|f| is_it(f, false)) {
            return Some(through(file));
        }
        if self.files.len() >= LIMIT_HELD {
            return None;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC);
        let file = places
            .iter()
            .zip([true, false])
            .find_map(|(place, linked)| options.open(place).ok().filter(|file| is_it(file, linked)))?;
        let path = through(&file);
        self.files.push(file);
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::linux::mappings;

    #[test]
    fn our_own_files_are_found() {
        let tid = i32::try_from(std::process::id()).unwrap();
        let (mut maps, _) = mappings::parse(&std::fs::read("/proc/self/maps").unwrap());
        let _held = HeldFiles::take(tid, &mut maps);
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let ours = maps.iter().find(|m| m.path.as_deref() == exe.to_str()).unwrap();
        assert_eq!(ours.open[0], exe);
        let inode = std::fs::metadata(&exe).unwrap().ino();
        let held = ours.open.iter().find(|p| p.starts_with("/proc/self/fd")).unwrap();
        assert_eq!(std::fs::metadata(held).unwrap().ino(), inode);
        assert!(maps.iter().filter(|m| m.file_id.is_none()).all(|m| m.open.is_empty()));
    }
}
