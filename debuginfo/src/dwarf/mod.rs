//! DWARF of one module: units, lines, inlined calls.

mod source;

use crate::elf::ElfFile;
use crate::{Error, Module, Slice};
use gimli::SectionId;
use std::sync::Arc;

pub use source::{Scope, SourceFrame};

/// The DWARF of one module, read in place.
#[derive(Debug)]
pub struct Dwarf<'m> {
    /// gimli's view of all sections, with the supplementary (dwz) file attached.
    pub sections: Arc<gimli::Dwarf<Slice<'m>>>,
    /// The file they are in.
    pub file: &'m ElfFile,
}

impl<'m> Dwarf<'m> {
    /// Loads the sections of `module`'s debug file; `None` when it has no `.debug_info`.
    ///
    /// # Errors
    /// A section is damaged.
    pub fn load(module: &'m Module) -> Result<Option<Self>, Error> {
        let Some(file) = module.debug() else { return Ok(None) };
        if file.section(".debug_info").is_none() {
            return Ok(None);
        }
        let mut sections = load_sections(file)?;
        if let Some(alternate) = module.supplementary() {
            sections.set_sup(load_sections(alternate)?);
        }
        Ok(Some(Self { sections: Arc::new(sections), file }))
    }
}

fn load_sections(file: &ElfFile) -> Result<gimli::Dwarf<Slice<'_>>, Error> {
    gimli::Dwarf::load(|id: SectionId| {
        let data = file.section_data(id.name())?.unwrap_or_default();
        Ok(gimli::EndianSlice::new(data, file.endian()))
    })
}
