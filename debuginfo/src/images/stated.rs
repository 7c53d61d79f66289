//! Images that the source knows by itself: a kernel and its modules, the modules of a minidump.

use super::code::CodeMap;
use super::{Module, Modules, Native, Outcome, Verified};
use crate::dwarf::SplitFiles;
use crate::elf::ElfFile;
use crate::kernel::Orc;
use crate::locate::StoreKey;
use crate::symbols::SymbolTable;
use crate::{BuildId, Locator};
use evidence::{Addr, Doubts, Mapping};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// An image with a known place.
#[derive(Debug)]
pub struct Image {
    /// Its name: `vmlinux`, `kernel`, a module's name, a path.
    pub path: Arc<str>,
    /// Lowest address.
    pub base: Addr,
    /// Bytes from `base` to its end.
    pub size: u64,
    /// Runtime address minus the image's own address, modulo 2^64.
    pub slide: u64,
    /// Its build-id, when the source says it.
    pub build_id: Option<BuildId>,
    /// Its file, which the caller has verified, and how.
    pub file: Option<(ElfFile, Verified)>,
    /// Where its file was looked for.
    pub searched: Vec<(PathBuf, Outcome)>,
    /// What is wrong with it, in words.
    pub problem: Option<String>,
    /// Symbols that no file holds.
    pub symbols: Option<SymbolTable>,
    /// What symbol stores know it by, when the source says it; otherwise its build-id decides.
    pub store: Option<StoreKey>,
    /// What is known of an image of Windows.
    pub native: Option<Native>,
    /// An image of macOS or iOS.
    pub apple: bool,
    /// A Linux kernel's or module's unwind table.
    pub orc: Option<Orc>,
    /// Where the sections of its relocatable file lie (a kernel module's), by name, as the image's own addresses.
    pub sections: Vec<(Box<str>, u64)>,
}

impl Image {
    /// An image of which nothing but its place is known; its own addresses are the runtime ones.
    #[must_use]
    pub fn at(path: &str, base: Addr, size: u64) -> Self {
        Self {
            path: path.into(),
            base,
            size,
            slide: 0,
            build_id: None,
            file: None,
            searched: Vec::new(),
            problem: None,
            symbols: None,
            store: None,
            native: None,
            apple: false,
            orc: None,
            sections: Vec::new(),
        }
    }

    fn into_module(self, locator: &Arc<Locator>) -> Module {
        let (main, verified) = self.file.map_or((None, Verified::Not), |(f, v)| (Some(f), v));
        Module {
            build_id: self.build_id.or_else(|| main.as_ref()?.build_id().cloned()),
            path: self.path,
            base: self.base,
            size: self.size,
            slide: self.slide,
            main,
            verified,
            searched: self.searched,
            problem: self.problem,
            stated: self.symbols,
            types: None,
            file_types: OnceLock::new(),
            store: self.store,
            sym: OnceLock::new(),
            native: self.native,
            apple: self.apple,
            orc: self.orc,
            sections: self.sections,
            locator: Arc::clone(locator),
            separate: OnceLock::new(),
            supplementary: OnceLock::new(),
            mini: OnceLock::new(),
            late: Doubts::new(),
            split: SplitFiles::new(locator),
        }
    }
}

impl Modules {
    /// Images with known places. `mappings` say what may be executed; without them the images' files do.
    #[must_use]
    pub fn of_images(images: Vec<Image>, mappings: &[Mapping], locator: &Locator) -> Self {
        let locator = Arc::new(locator.clone());
        let mut list: Vec<Module> = images.into_iter().map(|i| i.into_module(&locator)).collect();
        list.sort_by_key(|m| (m.base, m.size));
        Self { list, code: CodeMap::new(mappings) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DebugInfo;
    use crate::images::SymbolKind;
    use crate::symbols::Stated;
    use evidence::Svma;

    #[test]
    fn names_come_from_the_stated_table() {
        let mut table = SymbolTable::new(SymbolKind::Kallsyms, 0x1000..0x3000);
        let mut add = |name, start, size| table.push(&Stated { name, start, size, function: true, global: true });
        add("second", 0x1800, None);
        add("first", 0x1000, None);
        add("alias", 0x1800, None);
        add("sized", 0x2000, Some(0x10));
        let image = Image {
            slide: 0xffff_0000_0000_0000,
            symbols: Some(table.finish()),
            ..Image::at("kernel", Addr(0xffff_0000_0000_1000), 0x2000)
        };
        let modules = Modules::of_images(vec![image], &[], &Locator::default());
        let doubts = Doubts::new();
        let info = DebugInfo::new(&modules, &doubts);
        let name = |at: u64| {
            let (index, module) = modules.find(Addr(at))?;
            let frames = info.resolve(index, module.to_svma(Addr(at)));
            frames.last()?.function.as_deref().map(str::to_owned)
        };
        assert_eq!(name(0xffff_0000_0000_17ff).as_deref(), Some("first"));
        assert_eq!(name(0xffff_0000_0000_1800).as_deref(), Some("second"));
        assert_eq!(name(0xffff_0000_0000_1fff).as_deref(), Some("second"));
        assert_eq!(name(0xffff_0000_0000_2008).as_deref(), Some("sized"));
        assert_eq!(name(0xffff_0000_0000_2010), None);
        assert_eq!(name(0xffff_0000_0000_0fff), None);
        assert_eq!(info.symbols(0).and_then(|s| s.by_name("alias")).map(|s| s.start), Some(Svma(0x1800)));
        assert_eq!(modules.list().first().map(|m| m.report().kind), Some(SymbolKind::Kallsyms));
    }
}
