//! Files of images that are not ELF: where they are looked for, and how they are recognised.

use super::Module;
use crate::Error;
use crate::locate::StoreKey;
use crate::locate::native::{Found, Search, places};
use crate::pdb::PdbFile;
use crate::pe::{PeFile, View};
use evidence::{Addr, Arch, Memory, Svma};
use std::path::Path;
use std::sync::OnceLock;

/// What is known of an image of Windows.
#[derive(Debug)]
pub struct Native {
    arch: Arch,
    /// Time stamp and size, as symbol stores write them.
    code_id: Option<Box<str>>,
    /// The copy in the target's memory.
    in_memory: Option<PeFile>,
    local: OnceLock<Found<PeFile>>,
    remote: OnceLock<Found<PeFile>>,
    pdb: OnceLock<Found<PdbFile>>,
}

impl Native {
    /// An image of Windows.
    #[must_use]
    pub fn windows(arch: Arch, code_id: Option<&str>, in_memory: Option<PeFile>) -> Self {
        // Parts of paths: nothing but digits.
        let honest = |id: &&str| !id.is_empty() && id.len() <= 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        Self {
            arch,
            code_id: code_id.filter(honest).map(Into::into),
            in_memory: in_memory.filter(|f| f.arch() == arch),
            local: OnceLock::new(),
            remote: OnceLock::new(),
            pdb: OnceLock::new(),
        }
    }
}

/// A database that answers questions about addresses of its image.
fn open_pdb(path: &Path) -> Result<PdbFile, Error> {
    let file = PdbFile::open(path)?;
    if file.is_rearranged() {
        return Err(Error::Format {
            path: path.to_owned(),
            offset: 0,
            expected: "the database of an image as it was linked",
            found: "one of an image that was rearranged afterwards (OMAP), which is not read".into(),
        });
    }
    Ok(file)
}

/// The last part of a path of Windows or Unix, if it can be the name of a file.
fn file_name(path: &str) -> Option<&str> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let honest = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(|c: char| c.is_control());
    honest.then_some(name)
}

/// Whether an image file is the one that ran: by time stamp and size, and by the program database that it names.
fn judge(file: &PeFile, arch: Arch, code_id: Option<&str>, debug_id: Option<&str>) -> Result<(), String> {
    if file.arch() != arch {
        return Err("an image for another machine".into());
    }
    let found = file.code_id();
    if let Some(expected) = code_id.filter(|id| !id.eq_ignore_ascii_case(&found)) {
        return Err(format!("code id {found} where {expected} is wanted"));
    }
    match (file.debug_id(), debug_id) {
        (Some(found), Some(expected)) if !found.eq_ignore_ascii_case(expected) => {
            Err(format!("debug id {found} where {expected} is wanted"))
        }
        (Some(_), Some(_)) => Ok(()),
        _ if code_id.is_some_and(|id| !id.starts_with("00000000")) => Ok(()),
        _ => Err("nothing in it or in the source says that it is the one that ran".into()),
    }
}

impl Module {
    /// What symbol stores know it by, where the source says it.
    #[must_use]
    pub const fn store_key(&self) -> Option<&StoreKey> {
        self.store.as_ref()
    }

    /// Whether it is an image of Windows.
    #[must_use]
    pub const fn is_windows(&self) -> bool {
        self.native.is_some()
    }

    /// Whether it is an image of macOS or iOS.
    #[must_use]
    pub const fn is_apple(&self) -> bool {
        self.apple
    }

    /// Looks for the image, either in folders or at servers.
    fn search_pe(&self, native: &Native, servers: bool) -> Found<PeFile> {
        let debug = self.store.as_ref();
        let mut all = Vec::new();
        let name = file_name(&self.path);
        if let (Some(name), Some(id)) = (name, native.code_id.as_deref()) {
            all.extend(places(name, id, name));
        }
        if let (Some(key), Some(name), false) = (debug, name, servers) {
            all.extend(places(key.name(), key.id(), name));
        }
        let search = Search {
            what: "pe",
            places: all,
            names: name.map(str::to_owned).into_iter().collect(),
            open: &PeFile::open,
            judge: &|file: &PeFile| judge(file, native.arch, native.code_id.as_deref(), debug.map(|key| key.id())),
            doubts: &self.late,
        };
        if servers { search.servers(&self.locator) } else { search.folders(&self.locator) }
    }

    fn local_pe<'s>(&'s self, native: &'s Native) -> Option<&'s PeFile> {
        let found = native.local.get_or_init(|| self.search_pe(native, false));
        found.file.as_ref()
    }

    /// The PE image: its file, or what the target's memory holds of it. Looked for on first use.
    #[must_use]
    pub fn pe(&self) -> Option<&PeFile> {
        let native = self.native.as_ref()?;
        self.local_pe(native)
            .or(native.in_memory.as_ref())
            .or_else(|| native.remote.get_or_init(|| self.search_pe(native, true)).file.as_ref())
    }

    /// As [`Module::pe`], without asking servers: for questions about any address.
    pub(crate) fn near_pe(&self) -> Option<&PeFile> {
        let native = self.native.as_ref()?;
        self.local_pe(native).or(native.in_memory.as_ref())
    }

    /// The PE image with the target's memory for what its file does not hold.
    #[must_use]
    pub fn pe_view<'v>(&'v self, memory: &'v dyn Memory) -> Option<View<'v>> {
        Some(View { file: self.pe()?, memory, base: self.base })
    }

    /// The program database, looked for on first use.
    #[must_use]
    pub fn pdb(&self) -> Option<&PdbFile> {
        self.search_pdb()?.file.as_ref()
    }

    fn search_pdb(&self) -> Option<&Found<PdbFile>> {
        let native = self.native.as_ref()?;
        let key = self.store.as_ref()?;
        Some(native.pdb.get_or_init(|| {
            let search = Search {
                what: "pdb",
                places: places(key.name(), key.id(), key.name()),
                names: vec![key.name().to_owned()],
                open: &open_pdb,
                judge: &|file: &PdbFile| {
                    let found = file.id();
                    if found.eq_ignore_ascii_case(key.id()) {
                        return Ok(());
                    }
                    Err(format!("debug id {found} where {} is wanted", key.id()))
                },
                doubts: &self.late,
            };
            let mut found = search.folders(&self.locator);
            // A symbol file is as good, and need not be fetched.
            if found.file.is_none() && self.sym_file().is_none() {
                let asked = search.servers(&self.locator);
                found.file = asked.file;
                found.searched.extend(asked.searched);
            }
            found
        }))
    }

    /// The bytes of code that the image's file has at an address.
    #[must_use]
    pub fn code_in_file(&self, at: Svma) -> Option<&[u8]> {
        if let Some(main) = self.main() {
            return main.bytes_at(at);
        }
        let rva = u32::try_from(self.to_relative(at)).ok()?;
        self.near_pe().filter(|f| !f.is_in_memory())?.bytes_at(rva)
    }

    /// Whether an address is code by the image's own headers; `None` when they are not known.
    pub(super) fn is_native_code(&self, at: Addr) -> Option<bool> {
        let inside = at.offset_from(self.base)?;
        self.near_pe().and_then(|pe| pe.is_code(inside)).or_else(|| self.near_pdb()?.is_code(inside))
    }

    /// The program database, if it is here already or no server need be asked for it.
    fn near_pdb(&self) -> Option<&PdbFile> {
        match self.native.as_ref()?.pdb.get() {
            Some(found) => found.file.as_ref(),
            None if self.locator.symbol_servers.is_empty() => self.pdb(),
            None => None,
        }
    }

    /// Adds what was looked for to a report.
    pub(super) fn report_native(&self, report: &mut super::FileReport) {
        let Some(native) = &self.native else { return };
        let pe = self.pe();
        report.main = pe.filter(|f| !f.is_in_memory()).map(|f| f.path().to_owned());
        report.verified = match pe {
            Some(file) if file.is_in_memory() => super::Verified::Memory,
            Some(_) => super::Verified::BuildId,
            None => super::Verified::Not,
        };
        for found in [native.local.get(), native.remote.get()].into_iter().flatten() {
            report.searched.extend(found.searched.iter().cloned());
        }
        if let Some(found) = self.search_pdb() {
            report.searched.extend(found.searched.iter().cloned());
            report.debug = found.file.as_ref().map(|f| f.path().to_owned()).or(report.debug.take());
        }
    }
}
