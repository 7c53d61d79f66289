//! Files looked at by themselves, without a target that mapped them.

use crate::elf::ElfFile;
use crate::{Error, Locator, Module, Modules};
use std::path::Path;

impl Modules {
    /// One image at the addresses that its file states (slide 0), with the debug file and the dwz alternate given.
    ///
    /// For tools that ask about a file rather than a program. Files that are not given are looked for.
    ///
    /// # Errors
    /// A file cannot be opened or is not an ELF file.
    pub fn of_file(
        path: &Path,
        debug: Option<&Path>,
        supplementary: Option<&Path>,
        locator: &Locator,
    ) -> Result<Self, Error> {
        let main = ElfFile::open(path)?;
        let open = |path: Option<&Path>| path.map(ElfFile::open).transpose();
        Ok(Self { list: vec![Module::of_file(main, open(debug)?, open(supplementary)?, locator)], ..Self::default() })
    }
}
