//! Whether a file is the one that ran.

use super::in_memory::{InMemory, first_page};
use super::report::{Outcome, Verified};
use crate::BuildId;
use crate::elf::{ElfFile, Headers};
use evidence::{Addr, Mapping};

/// What is known of the image that a file is wanted for.
pub(super) struct Evidence<'e> {
    pub image: Option<&'e InMemory>,
    /// The build-id in memory, or the one the source states.
    pub build_id: Option<&'e BuildId>,
    pub base: Addr,
    pub path: Option<&'e str>,
    pub mappings: &'e [Mapping],
}

/// Compares a candidate with what is known.
pub(super) fn verify(file: &ElfFile, known: &Evidence<'_>) -> Result<Verified, Outcome> {
    if let Some(expected) = known.build_id {
        return match file.build_id() {
            Some(found) if found == expected => Ok(Verified::BuildId),
            Some(found) => {
                Err(Outcome::Mismatch { expected: Some(expected.clone()), found: format!("build-id {found}") })
            }
            None => {
                Err(Outcome::Mismatch { expected: Some(expected.clone()), found: "a file without build-id".into() })
            }
        };
    }
    let mismatch = |found: &str| Err(Outcome::Mismatch { expected: None, found: found.into() });
    if let Some(image) = known.image {
        return if file.program_headers() == image.headers.programs.as_slice() {
            Ok(Verified::ProgramHeaders)
        } else {
            mismatch("its program headers are not those in memory")
        };
    }
    let Some(headers) = super::in_memory::head_of_file(file.bytes()) else {
        return mismatch("its program headers cannot be read");
    };
    let Some(slide) = super::in_memory::slide_of(&headers, known.base) else {
        return mismatch("its segments cannot lie at this address");
    };
    if fits_layout(&headers, slide, known.path, known.mappings) == Some(true) {
        Ok(Verified::Layout)
    } else {
        mismatch("its segments are not where the mappings are")
    }
}

/// Whether every loadable segment with file contents lies where a mapping of the same file part is. `None` when the
/// source states no mappings.
pub(super) fn fits_layout(headers: &Headers, slide: u64, path: Option<&str>, mappings: &[Mapping]) -> Option<bool> {
    if mappings.is_empty() {
        return None;
    }
    let mut any = false;
    for load in headers.loads().filter(|p| p.file_size > 0) {
        let (offset, at) = first_page(load, slide);
        let index = mappings.partition_point(|m| m.range.start <= at).checked_sub(1);
        let Some(mapping) = index.and_then(|i| mappings.get(i)).filter(|m| m.range.contains(&at)) else {
            return Some(false);
        };
        let inside = at.offset_from(mapping.range.start).unwrap_or(0);
        let file_backed = mapping.path.as_deref().is_some_and(|p| !p.starts_with('['));
        if file_backed {
            if mapping.file_offset.wrapping_add(inside) != offset {
                return Some(false);
            }
            if path.is_some() && mapping.path.as_deref() != path {
                return Some(false);
            }
        }
        any = true;
    }
    Some(any)
}
