//! Files looked at by themselves, without a target that mapped them.

use crate::dwarf::SplitFiles;
use crate::elf::ElfFile;
use crate::{Error, Locator, Module, Modules};
use evidence::Addr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

impl Modules {
    /// One image at the addresses that its file states (slide 0), with the debug file and the dwz alternate given.
    ///
    /// For tools that ask about a file rather than a program. Nothing is searched for but split files.
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
        let span = main.span();
        let open = |path: Option<&Path>| path.map(ElfFile::open).transpose();
        Ok(Self {
            list: vec![Module {
                path: Arc::from(path.to_string_lossy()),
                base: Addr(span.start),
                size: span.end.saturating_sub(span.start),
                slide: 0,
                build_id: main.build_id().cloned(),
                debug: OnceLock::from(open(debug)?),
                supplementary: OnceLock::from(open(supplementary)?),
                main: OnceLock::from(Some(main)),
                split: SplitFiles::new(locator),
            }],
        })
    }
}
