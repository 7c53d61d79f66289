//! The images of a minidump: places and identities come from its list of modules, files and symbols are looked for by
//! those identities.
//!
//! A module may have its own file and a Breakpad symbol file; then the file's own debug information counts first.

use super::in_memory::{InMemory, LIMIT_SPAN, head_of_file, slide_of};
use super::{Image, Modules, Native, Outcome, Verified, apple};
use crate::elf::ElfFile;
use crate::locate::{StoreKey, Wanted, breakpad_id};
use crate::pe::PeFile;
use crate::{BuildId, Locator};
use evidence::{Doubt, Doubts, Identity, ImageHint, Mapping, Memory, ModuleId, Os, Target};

/// Most images of one dump.
const LIMIT_IMAGES: usize = 65_536;
/// Most bytes copied of images that the dump itself holds in full, all together.
const LIMIT_COPIES: u64 = 256 << 20;

/// The modules of a minidump, with their files where there are any.
pub(super) fn outline(target: &dyn Target, memory: &dyn Memory, locator: &Locator, doubts: &Doubts) -> Modules {
    let mut finder =
        Finder { memory, locator, doubts, identity: target.identity(), mappings: target.mappings(), copied: 0 };
    let hints = target.images();
    if hints.len() > LIMIT_IMAGES {
        doubts.push(Doubt::new("images", format!("more than {LIMIT_IMAGES} images: the rest is left out")));
    }
    let mut ids: Vec<&ModuleId> = target.module_ids().iter().collect();
    ids.sort_by_key(|id| id.base);
    let mut images: Vec<Image> = Vec::with_capacity(hints.len().min(LIMIT_IMAGES));
    for (number, hint) in hints.iter().enumerate().take(LIMIT_IMAGES) {
        let id = ids.binary_search_by_key(&hint.base, |id| id.base).ok().and_then(|at| ids.get(at)).copied();
        images.push(finder.image(hint, id, number == 0));
    }
    Modules::of_images(images, target.mappings(), locator)
}

struct Finder<'f> {
    memory: &'f dyn Memory,
    locator: &'f Locator,
    doubts: &'f Doubts,
    identity: &'f Identity,
    mappings: &'f [Mapping],
    copied: u64,
}

impl Finder<'_> {
    fn image(&mut self, hint: &ImageHint, id: Option<&ModuleId>, first: bool) -> Image {
        let path = hint.path.as_deref().unwrap_or("");
        let name = if path.is_empty() { format!("[image at {}]", hint.base) } else { path.to_owned() };
        // lldb puts the vDSO's address behind its name.
        let name = if name.starts_with("[vdso]") { "[vdso]".to_owned() } else { name };
        let size = self.size(hint);
        // Without a file, offsets into the module are its own addresses.
        let mut image = Image { slide: hint.base.0, ..Image::at(&name, hint.base, size) };
        image.build_id = hint.build_id.as_deref().and_then(BuildId::new);
        let guid = id.and_then(|id| id.debug_id.as_deref());
        if self.has_elf_images() {
            self.find_elf(&mut image, guid, first);
        } else if matches!(self.identity.os, Os::MacOs | Os::Ios) {
            let left = LIMIT_COPIES.saturating_sub(self.copied);
            let copied = apple::find(&mut image, guid, first, self.locator, self.memory, left);
            self.copied = self.copied.saturating_add(copied);
        } else if image.build_id.is_none() {
            image.build_id = guid.and_then(guid_and_age);
        }
        if let Some((file, _)) = image.file.as_ref().filter(|(file, _)| file.macho().is_none()) {
            let end = file.span().end.wrapping_add(image.slide);
            image.size = image.size.max(end.saturating_sub(image.base.0));
        }
        if self.identity.os == Os::Windows {
            let copy = PeFile::from_memory(&format!("[{name} in memory]"), hint.base, self.memory);
            image.native = Some(Native::windows(self.identity.arch, id.and_then(|id| id.code_id.as_deref()), copy));
        }
        image.store = id.and_then(|id| StoreKey::new(id.debug_file.as_deref()?, id.debug_id.as_deref()?));
        if image.file.is_none() && image.problem.is_none() {
            let wanted = image.store.as_ref().map(|k| format!(" (debug id {}, {})", k.id(), k.name()));
            image.problem = Some(format!("its file was not found{}", wanted.unwrap_or_default()));
        }
        image
    }

    /// The size that is stated, or what is mapped of the same file behind the base: lldb up to 19 states the size of the
    /// first segment or less.
    fn size(&self, hint: &ImageHint) -> u64 {
        let stated = hint.size.unwrap_or(0);
        let first = self.mappings.partition_point(|m| m.range.end <= hint.base);
        let mut end = hint.base.saturating_add(stated);
        // A size that covers its first mapping was meant.
        if self.mappings.get(first).is_none_or(|m| m.range.end <= end) {
            return stated;
        }
        for mapping in self.mappings.get(first..).unwrap_or_default() {
            let same = mapping.path.is_some() && mapping.path == hint.path;
            if !same && mapping.path.is_some() {
                break;
            }
            if same {
                end = end.max(mapping.range.end);
            }
        }
        end.offset_from(hint.base).filter(|size| *size <= LIMIT_SPAN).unwrap_or(stated)
    }

    const fn has_elf_images(&self) -> bool {
        matches!(self.identity.os, Os::Linux | Os::Android | Os::FreeBsd | Os::Illumos | Os::Other)
    }

    /// The ELF file by its build-id, or by what a debug id keeps of it; else the copy that a full dump holds.
    fn find_elf(&mut self, image: &mut Image, guid: Option<&str>, first: bool) {
        let in_memory = InMemory::read(self.memory, image.base).ok().filter(|m| m.fits(self.identity.arch));
        if image.build_id.is_none() {
            image.build_id = in_memory.as_ref().and_then(|m| m.build_id.clone());
        }
        let path = image.path.clone();
        let wanted = Wanted { path: &path, build_id: image.build_id.as_ref(), open: &[], executable: first };
        for place in self.locator.image_places(&wanted) {
            let outcome = match ElfFile::open(&place) {
                Err(crate::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Outcome::Missing
                }
                Err(e) => Outcome::Unusable(e.to_string()),
                Ok(file) => match belongs(&file, image.build_id.as_ref(), guid) {
                    Ok(()) => {
                        image.file = Some((file, Verified::BuildId));
                        Outcome::Used
                    }
                    Err(outcome) => outcome,
                },
            };
            image.searched.push((place, outcome));
            if image.file.is_some() {
                break;
            }
        }
        if image.file.is_none()
            && let Some(id) = &image.build_id
        {
            let file = self.locator.download_image(id, &mut image.searched, self.doubts);
            image.file = file.map(|f| (f, Verified::BuildId));
        }
        if let Some((file, _)) = &image.file {
            match head_of_file(file.bytes()).and_then(|headers| slide_of(&headers, image.base)) {
                Some(slide) => image.slide = slide,
                None => {
                    self.doubts.push(Doubt::at(
                        "images",
                        image.base,
                        format!("{path}: its segments cannot lie at this address: the file is not used"),
                    ));
                    image.file = None;
                }
            }
        }
        if let (None, Some(found)) = (&image.file, in_memory) {
            let left = LIMIT_COPIES.saturating_sub(self.copied);
            let name = format!("[{path} in memory]");
            let copy =
                ElfFile::from_memory(&name, &found.headers, found.slide, image.build_id.clone(), self.memory, left);
            if let Some(copy) = copy {
                self.copied = self.copied.saturating_add(copy.size());
                image.slide = found.slide;
                image.file = Some((copy, Verified::Memory));
            }
        }
    }
}

/// Whether a file is the one that ran: by its whole build-id, or by the 16 bytes of it that a debug id keeps.
fn belongs(file: &ElfFile, build_id: Option<&BuildId>, guid: Option<&str>) -> Result<(), Outcome> {
    let found = file.build_id();
    let say = || found.map_or_else(|| "a file without build-id".to_owned(), |id| format!("build-id {id}"));
    if let Some(expected) = build_id {
        return if found == Some(expected) {
            Ok(())
        } else {
            Err(Outcome::Mismatch { expected: Some(expected.clone()), found: say() })
        };
    }
    let Some(guid) = guid else {
        return Err(Outcome::Mismatch {
            expected: None,
            found: "the dump says nothing that a file could be checked by".into(),
        });
    };
    if found.is_some_and(|id| breakpad_id(id.bytes()).eq_ignore_ascii_case(guid)) {
        return Ok(());
    }
    Err(Outcome::Mismatch { expected: None, found: format!("{}; expected debug id {guid}", say()) })
}

/// GUID and age of a debug id as 20 bytes, in the order of the text.
fn guid_and_age(id: &str) -> Option<BuildId> {
    let (guid, age) = id.split_at_checked(32)?;
    let mut bytes = Vec::with_capacity(20);
    for pair in guid.as_bytes().chunks_exact(2) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    bytes.extend(u32::from_str_radix(age, 16).ok()?.to_be_bytes());
    BuildId::new(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let bytes = guid_and_age("5A9832E5287241C1838ED98914E9B7FF1").unwrap();
        assert_eq!(bytes.to_string(), "5a9832e5287241c1838ed98914e9b7ff00000001");
        assert_eq!(guid_and_age("5A98"), None);
    }
}
