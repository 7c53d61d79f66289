//! The images of a target: which file lies where, verified by build-id.

mod apple;
mod backed;
mod code;
mod in_memory;
mod link_map;
mod minidump;
mod native;
mod outline;
mod report;
mod stated;
mod verify;

use crate::ctf::ImageTypes;
use crate::dwarf::SplitFiles;
use crate::elf::ElfFile;
use crate::kernel::Orc;
use crate::locate::{Separate, Store, StoreKey, Supplementary};
use crate::symbols::SymbolTable;
use crate::{BuildId, Cache, Locator, SymFile};
pub use backed::Backed;
pub use code::CodeAt;
use code::CodeMap;
use evidence::{Addr, Doubt, Doubts, Memory, Origin, Svma, Target};
pub use native::Native;
pub use report::{FileReport, Outcome, SymbolKind, Verified};
pub use stated::Image;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// An image as it lies in the target.
#[derive(Debug)]
pub struct Module {
    /// The path as the target names it, or `[vdso]`.
    pub path: Arc<str>,
    /// Lowest mapped address.
    pub base: Addr,
    /// Bytes from `base` to the end of its last mapping.
    pub size: u64,
    /// Runtime address minus SVMA, modulo 2^64.
    pub slide: u64,
    /// The build-id found in the target's memory (or in a verified file when memory has none).
    pub build_id: Option<BuildId>,
    main: Option<ElfFile>,
    verified: Verified,
    searched: Vec<(PathBuf, Outcome)>,
    problem: Option<String>,
    /// Symbols that no file holds.
    stated: Option<SymbolTable>,
    /// Types that the source carries for it, and those of its file.
    types: Option<ImageTypes>,
    file_types: OnceLock<Option<ImageTypes>>,
    /// What symbol stores know it by, where the source says it.
    store: Option<StoreKey>,
    sym: OnceLock<Store>,
    /// What is known of an image of Windows.
    native: Option<Native>,
    /// An image of macOS or iOS.
    apple: bool,
    /// The unwind table of a Linux kernel or of one of its modules.
    orc: Option<Orc>,
    /// Where the sections of a relocatable file lie, as the image's own addresses.
    sections: Vec<(Box<str>, u64)>,
    locator: Arc<Locator>,
    separate: OnceLock<Separate>,
    supplementary: OnceLock<Supplementary>,
    mini: OnceLock<Option<ElfFile>>,
    late: Doubts,
    /// Split files (.dwo, .dwp), opened as they are needed.
    pub(crate) split: SplitFiles,
}

impl Module {
    /// A file by itself, at the addresses that it states, with the debug files given instead of looked for.
    pub(crate) fn of_file(
        main: ElfFile,
        debug: Option<ElfFile>,
        supplementary: Option<ElfFile>,
        locator: &Locator,
    ) -> Self {
        let span = main.span();
        Self {
            path: main.path().to_string_lossy().into(),
            base: Addr(span.start),
            size: span.end.saturating_sub(span.start),
            slide: 0,
            build_id: main.build_id().cloned(),
            searched: vec![(main.path().to_owned(), Outcome::Used)],
            verified: Verified::Given,
            problem: None,
            stated: None,
            types: None,
            file_types: OnceLock::new(),
            store: None,
            sym: OnceLock::new(),
            native: None,
            apple: main.macho().is_some(),
            orc: None,
            sections: Vec::new(),
            locator: Arc::new(locator.clone()),
            separate: debug.map(|file| Separate { file: Some(file), ..Separate::default() }.into()).unwrap_or_default(),
            supplementary: supplementary
                .map(|file| Supplementary { file: Some(file), ..Supplementary::default() }.into())
                .unwrap_or_default(),
            mini: OnceLock::new(),
            late: Doubts::new(),
            split: SplitFiles::new(locator),
            main: Some(main),
        }
    }

    /// Where what is found out about its files is kept.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.locator.index.as_ref()
    }

    /// The addresses it spans.
    #[must_use]
    pub const fn range(&self) -> Range<Addr> {
        self.base..self.base.saturating_add(self.size)
    }

    /// The image's own address for a runtime address.
    #[must_use]
    pub const fn to_svma(&self, at: Addr) -> Svma {
        Svma(at.0.wrapping_sub(self.slide))
    }

    /// The runtime address of an image's own address.
    #[must_use]
    pub const fn to_addr(&self, at: Svma) -> Addr {
        Addr(at.0.wrapping_add(self.slide))
    }

    /// The address relative to [`Module::base`]: what symbol files state.
    #[must_use]
    pub const fn to_relative(&self, at: Svma) -> u64 {
        self.to_addr(at).0.wrapping_sub(self.base.0)
    }

    /// The image file itself (or its copy out of memory, for a vDSO).
    #[must_use]
    pub const fn main(&self) -> Option<&ElfFile> {
        self.main.as_ref()
    }

    /// Symbols that no file holds: read out of memory, or stated by the source.
    #[must_use]
    pub const fn stated_symbols(&self) -> Option<&SymbolTable> {
        self.stated.as_ref()
    }

    /// Types as CTF: that the source carries for it (cores of illumos), or else those in its file.
    #[must_use]
    pub fn types(&self) -> Option<&ImageTypes> {
        let of_file = || {
            let read = ImageTypes::of_file(self.main()?)?;
            let trouble = match &read {
                Ok(types) => types.unmatched().map(str::to_owned),
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = trouble {
                self.late.push(Doubt::at("types", self.base, format!("{}: {why}", self.path)));
            }
            read.ok()
        };
        self.types.as_ref().or_else(|| self.file_types.get_or_init(of_file).as_ref())
    }

    /// The unwind table of a Linux kernel or of one of its modules.
    #[must_use]
    pub const fn orc(&self) -> Option<&Orc> {
        self.orc.as_ref()
    }

    /// How sure it is that [`Module::main`] is what ran.
    #[must_use]
    pub const fn verified(&self) -> Verified {
        self.verified
    }

    /// The file that holds the DWARF: the image itself, or a separate debug file, which is looked for on first use.
    #[must_use]
    pub fn debug(&self) -> Option<&ElfFile> {
        self.separate().file.as_ref().or_else(|| self.main())
    }

    /// dwz's alternate file, looked for on first use.
    #[must_use]
    pub fn supplementary(&self) -> Option<&ElfFile> {
        self.supplementary_search().file.as_ref()
    }

    /// The file inside of `.gnu_debugdata`, decompressed on first use.
    #[must_use]
    pub fn mini_debug_info(&self) -> Option<&ElfFile> {
        let open = || match self.main()?.mini_debug_info() {
            Ok(file) => file,
            Err(e) => {
                self.late.push(Doubt::new("mini-debug-info", e.to_string()));
                None
            }
        };
        self.mini.get_or_init(open).as_ref()
    }

    /// Its Breakpad symbol file, looked for on first use, and only where there is no DWARF.
    #[must_use]
    pub fn sym_file(&self) -> Option<&SymFile> {
        self.store_search().file.as_ref()
    }

    fn store_search(&self) -> &Store {
        self.sym.get_or_init(|| {
            let has_dwarf = self.debug().is_some_and(|f| f.section(".debug_info").is_some_and(|s| !s.is_nobits()));
            let of_build_id = || StoreKey::of_build_id(&self.path, self.build_id.as_ref()?);
            match self.store.clone().or_else(of_build_id) {
                Some(key) if !has_dwarf => Store::find(&self.locator, &key, &self.late),
                _ => Store::default(),
            }
        })
    }

    fn separate(&self) -> &Separate {
        self.separate.get_or_init(|| {
            // A module of Linux has the name of its file without the ending, FreeBSD's with it.
            let named = self.sections.is_empty() || self.path.ends_with(".ko");
            let file_name = if named { self.path.to_string() } else { format!("{}.ko", self.path) };
            let (id, main) = (self.build_id.as_ref(), self.main());
            if self.is_windows() {
                return Separate::default();
            }
            if self.apple {
                return Separate::find_bundle(&self.locator, &file_name, id, main, &self.late);
            }
            let mut found = Separate::find(&self.locator, &file_name, id, main, &self.late);
            if let Some(file) = found.file.take_if(|f| f.is_relocatable()) {
                match file.placed(&self.sections) {
                    Ok(placed) => found.file = Some(placed),
                    Err(e) => self.late.push(Doubt::new("relocation", format!("{e}; the file is not used"))),
                }
            }
            found
        })
    }

    fn supplementary_search(&self) -> &Supplementary {
        self.supplementary.get_or_init(|| {
            let debug = self.debug();
            debug.map(|file| Supplementary::find(&self.locator, file, &self.late)).unwrap_or_default()
        })
    }

    /// What failed when files were looked for after the outline was made.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut all = self.late.sorted();
        all.extend(self.sym.get().and_then(|s| s.file.as_ref()).map_or_else(Vec::new, SymFile::doubts));
        all
    }

    /// The Debian package that would bring its debug information, by dpkg's lists of installed files; `None` on other
    /// systems and for files of no package. Reads all lists: ask only when a person wants to know.
    #[must_use]
    pub fn debug_package(&self) -> Option<String> {
        crate::locate::debug_package(&self.path)
    }

    /// What was looked for where, and what came of it. Opens the debug files if nobody did yet.
    #[must_use]
    pub fn report(&self) -> FileReport {
        let mut report = FileReport {
            main: self.main.as_ref().filter(|_| self.verified != Verified::Memory).map(|f| f.path().to_owned()),
            verified: self.verified,
            searched: self.searched.clone(),
            problem: self.problem.clone(),
            ..FileReport::default()
        };
        let separate = self.separate();
        report.debug = separate.file.as_ref().map(|f| f.path().to_owned());
        report.searched.extend(separate.searched.iter().cloned());
        let supplementary = self.supplementary_search();
        report.supplementary = supplementary.file.as_ref().map(|f| f.path().to_owned());
        report.searched.extend(supplementary.searched.iter().cloned());
        let store = self.store_search();
        report.debug = store.file.as_ref().map(|f| f.path().to_owned()).or(report.debug);
        report.searched.extend(store.searched.iter().cloned());
        self.report_native(&mut report);
        crate::locate::judge(self, separate, supplementary, &mut report);
        report
    }
}

/// All images of a target, by address.
#[derive(Debug, Default)]
pub struct Modules {
    pub(crate) list: Vec<Module>,
    pub(crate) code: CodeMap,
}

impl Modules {
    /// All of them, sorted by base address.
    #[must_use]
    pub fn list(&self) -> &[Module] {
        &self.list
    }

    /// The image that covers `at`, with its index in [`Modules::list`].
    #[must_use]
    pub fn find(&self, at: Addr) -> Option<(usize, &Module)> {
        let index = self.list.partition_point(|m| m.base <= at).checked_sub(1)?;
        let module = self.list.get(index)?;
        (at.offset_from(module.base)? < module.size).then_some((index, module))
    }

    /// Whether a program counter can point at `at`.
    #[must_use]
    pub fn code_at(&self, at: Addr) -> CodeAt {
        match self.code.at(at) {
            CodeAt::Unknown => self.find(at).map_or(CodeAt::Unknown, |(_, m)| code::by_segments(m, at)),
            known => known,
        }
    }

    /// Finds the images of `target`, opens their files through `locator`, and verifies them against `memory`.
    #[must_use]
    pub fn outline(target: &dyn Target, memory: &dyn Memory, locator: &Locator, doubts: &Doubts) -> Self {
        if target.identity().origin == Origin::Minidump {
            return minidump::outline(target, memory, locator, doubts);
        }
        let mut list = outline::outline(target, memory, locator, doubts);
        list.sort_by_key(|m| (m.base, m.size));
        Self { list, code: CodeMap::new(target.mappings()) }
    }
}
