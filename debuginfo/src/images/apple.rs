//! Images of macOS and iOS in a minidump: their files by UUID, or what the dump holds of them.

use super::{Image, Outcome, Verified};
use crate::elf::ElfFile;
use crate::locate::{Separate, Wanted};
use crate::{BuildId, Locator};
use evidence::{Addr, Doubts, Memory};

/// The UUID in a debug id: GUID in the order of the text, then the age, which is 0.
fn uuid(debug_id: &str) -> Option<BuildId> {
    let mut bytes = Vec::with_capacity(16);
    for pair in debug_id.as_bytes().get(..32)?.chunks_exact(2) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    BuildId::new(&bytes).filter(|_| bytes.iter().any(|b| *b != 0))
}

/// Finds the file of an image, its place, and where there is no file, the copy in the dump; gives the size of the copy,
/// which is not larger than `limit`.
pub(super) fn find(
    image: &mut Image,
    debug_id: Option<&str>,
    first: bool,
    locator: &Locator,
    memory: &dyn Memory,
    limit: u64,
) -> u64 {
    image.apple = true;
    image.build_id = image.build_id.take().or_else(|| uuid(debug_id?));
    if let Some(id) = image.build_id.clone() {
        find_file(image, &id, first, locator);
    }
    if let Some(address) = image.file.as_ref().and_then(|(file, _)| file.macho()?.header_address()) {
        image.slide = slide(image.base, address);
        return 0;
    }
    // The debug information of an image without file says where it was linked to as well; its search is repeated when
    // it is wanted, and its doubts are told then.
    let bundle = Separate::find_bundle(locator, &image.path, image.build_id.as_ref(), None, &Doubts::new());
    let linked = bundle.file.as_ref().and_then(|file| file.macho()?.header_address());
    if let Some(address) = linked {
        image.slide = slide(image.base, address);
    }
    let name = format!("[{} in memory]", image.path);
    let Some(copy) = ElfFile::macho_from_memory(&name, image.base, memory, limit) else { return 0 };
    let address = copy.macho().and_then(|m| m.header_address());
    let same = match (&image.build_id, copy.build_id()) {
        (Some(stated), Some(found)) => stated == found,
        _ => true,
    };
    // Images of the shared cache are moved: then their own debug information speaks of other addresses.
    if !same || linked.is_some_and(|linked| Some(linked) != address) {
        return 0;
    }
    let Some(address) = address else { return 0 };
    image.slide = slide(image.base, address);
    let size = copy.size();
    image.file = Some((copy, Verified::Memory));
    size
}

const fn slide(base: Addr, linked: u64) -> u64 {
    base.0.wrapping_sub(linked)
}

fn find_file(image: &mut Image, id: &BuildId, first: bool, locator: &Locator) {
    let path = image.path.clone();
    let wanted = Wanted { path: &path, build_id: Some(id), open: &[], executable: first };
    for place in locator.image_places(&wanted) {
        let outcome = match ElfFile::open_build(&place, Some(id)) {
            Err(crate::Error::Io { source, .. })
                if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Outcome::Missing
            }
            Err(e) => Outcome::Unusable(e.to_string()),
            Ok(file) if file.build_id() != Some(id) => Outcome::Mismatch {
                expected: Some(id.clone()),
                found: file
                    .build_id()
                    .map_or_else(|| "a file without UUID".to_owned(), |found| format!("UUID {found}")),
            },
            Ok(file) if file.macho().and_then(|m| m.header_address()).is_none() => {
                Outcome::Unusable("it has no __TEXT segment".into())
            }
            Ok(file) => {
                image.file = Some((file, Verified::BuildId));
                Outcome::Used
            }
        };
        image.searched.push((place, outcome));
        if image.file.is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let id = uuid("5A9832E5287241C1838ED98914E9B7FF0").unwrap();
        assert_eq!(id.to_string(), "5a9832e5287241c1838ed98914e9b7ff");
        assert_eq!((uuid("5A98"), uuid("000000000000000000000000000000000")), (None, None));
    }
}
