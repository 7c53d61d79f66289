//! Loadable modules: the kernel linker's files.
//!
//! `linker_files` is a list of `struct linker_file`; the kernel states where its members lie (`kld_off_*`), all but the
//! size, which types say. The first file is the kernel itself. Functions have their names from the kernel's own table of
//! the module, which is in the dump, and lines from the module's file.

mod file;
mod symbols;

use super::context::FreeBsd;
use super::image::NAME;
use debuginfo::Locator;
use debuginfo::images::{Image, Outcome};
use evidence::Addr;
use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use symbols::Kept;

/// Most modules: all that the base system has are 800.
const LIMIT_MODULES: usize = 1 << 14;
/// Longest path: `MAXPATHLEN`.
const LIMIT_PATH: usize = 1024;
/// Largest module: more than all of a kernel.
const LIMIT_SIZE: u64 = 1 << 30;

/// Most bytes of symbols and names of all modules: those of all that the base system has are some 20 MiB.
const LIMIT_TABLES: u64 = 256 << 20;

/// The modules, without the kernel.
pub(super) fn images(kernel: &FreeBsd<'_>, locator: &Locator) -> Vec<Image> {
    let mut images = Vec::new();
    let (Some(head), Some(link)) = (kernel.symbol("linker_files"), kernel.offset("linker_file", "link")) else {
        return images;
    };
    let mut seen = HashSet::new();
    let left = Cell::new(LIMIT_TABLES);
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
            images.push(image(kernel, at, &path, (address, size), locator, &left));
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

fn image(
    kernel: &FreeBsd<'_>,
    at: Addr,
    path: &str,
    module: (Addr, Option<u64>),
    locator: &Locator,
    left: &Cell<u64>,
) -> Image {
    let (base, size) = module;
    let kept = Kept::read(kernel, at, base, size, left);
    let mut image = Image::at(path, base, size.unwrap_or(0));
    let module = file::Module { base, size, kept: kept.as_ref() };
    for place in places(path, locator) {
        let outcome = file::take(kernel, &module, &place, &mut image);
        let used = outcome == Outcome::Used;
        image.searched.push((place, outcome));
        if used {
            break;
        }
    }
    image.symbols = kept.as_ref().and_then(|k| k.stated(image.slide));
    // Without types nothing says how large it is: at least as far as its functions go.
    if image.size == 0
        && let Some(end) = kept.as_ref().and_then(Kept::end)
    {
        image.size = end.saturating_sub(base.0);
    }
    image
}
