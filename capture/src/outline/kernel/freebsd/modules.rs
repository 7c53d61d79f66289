//! Loadable modules: the kernel linker's files.
//!
//! `linker_files` is a list of `struct linker_file`; the kernel states where its members lie (`kld_off_*`), all but the
//! size, which types say. The first file is the kernel itself.

use super::context::FreeBsd;
use super::image::NAME;
use debuginfo::Locator;
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Outcome, Verified};
use evidence::Addr;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Most modules: all that the base system has are 800.
const LIMIT_MODULES: usize = 1 << 14;
/// Longest path: `MAXPATHLEN`.
const LIMIT_PATH: usize = 1024;
/// Largest module: more than all of a kernel.
const LIMIT_SIZE: u64 = 1 << 30;

/// The modules, without the kernel.
pub(super) fn images(kernel: &FreeBsd<'_>, locator: &Locator) -> Vec<Image> {
    let mut images = Vec::new();
    let (Some(head), Some(link)) = (kernel.symbol("linker_files"), kernel.offset("linker_file", "link")) else {
        return images;
    };
    let mut seen = HashSet::new();
    let mut next = kernel.pointer_at(head);
    while let Some(at) = next {
        if !seen.insert(at) || images.len() >= LIMIT_MODULES {
            kernel.doubt("modules", format!("the list of modules runs in a circle at {at}"));
            break;
        }
        let text = |member: &str| {
            let pointer = kernel.pointer_at(at.wrapping_add(kernel.offset("linker_file", member)?))?;
            kernel.text(pointer, LIMIT_PATH)
        };
        let name = text("filename");
        let path = text("pathname").or_else(|| name.clone());
        let address = kernel.offset("linker_file", "address").and_then(|o| kernel.pointer_at(at.wrapping_add(o)));
        if let (Some(path), Some(address)) = (path, address)
            && name.as_deref() != Some(NAME)
        {
            let size = kernel.value(at, "linker_file", "size").filter(|n| *n <= LIMIT_SIZE);
            images.push(image(&path, address, size, locator));
        }
        next = match kernel.fields.pointer_at(at.wrapping_add(link)) {
            Ok(next) => Some(next).filter(|n| n.0 != 0),
            Err(e) => {
                kernel.doubt("modules", format!("the list of modules breaks off after {}: {e}", images.len()));
                None
            }
        };
    }
    images
}

/// Where a module's file may be. Paths come from the dump: none leads out of the directories that the user named.
fn places(path: &str, locator: &Locator) -> Vec<PathBuf> {
    let path = Path::new(path);
    let plain = !path.components().any(|c| c == std::path::Component::ParentDir);
    let relative = path.strip_prefix("/").unwrap_or(path);
    let mut places = Vec::new();
    for dir in &locator.symbols {
        places.extend(path.file_name().map(|name| dir.join(name)));
        places.push(dir.join(relative));
    }
    places.extend(locator.sysroot.iter().map(|root| root.join(relative)));
    // The kernel's own directory holds its modules.
    if let (Some(dir), Some(name)) = (locator.kernel.as_deref().and_then(Path::parent), path.file_name()) {
        places.push(dir.join(name));
    }
    places.retain(|_| plain);
    places
}

fn image(path: &str, address: Addr, size: Option<u64>, locator: &Locator) -> Image {
    let mut image = Image::at(path, address, size.unwrap_or(0));
    for place in places(path, locator) {
        let outcome = match ElfFile::open(&place) {
            Err(_) if !place.exists() => Outcome::Missing,
            Err(e) => Outcome::Unusable(e.to_string()),
            // Modules of amd64 are relocatable objects: their addresses are made when they are loaded.
            Ok(file) if file.span().is_empty() => {
                Outcome::Unusable("a relocatable object, whose addresses only the kernel's linker knew".into())
            }
            Ok(file) => {
                let span = file.span();
                let own = span.end.saturating_sub(span.start & !0xfff);
                if size.is_none_or(|s| own <= s.next_multiple_of(4096)) {
                    image.size = size.unwrap_or(own);
                    image.slide = address.0.wrapping_sub(span.start & !0xfff);
                    image.file = Some((file, Verified::Given));
                    Outcome::Used
                } else {
                    Outcome::Mismatch { expected: None, found: format!("a module of {own:#x} bytes") }
                }
            }
        };
        image.searched.push((place, outcome.clone()));
        if outcome == Outcome::Used {
            break;
        }
    }
    image
}
