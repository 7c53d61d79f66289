//! Finds the images: by mappings, auxiliary vector, the loader's list, and what the source names.

use super::Module;
use super::in_memory::{InMemory, LIMIT_SPAN, NoImage};
use super::link_map::{self, Auxv};
use super::report::{Outcome, Verified};
use super::verify::{Evidence, fits_layout, verify};
use crate::ctf::ImageTypes;
use crate::dwarf::SplitFiles;
use crate::elf::ElfFile;
use crate::locate::Wanted;
use crate::symbols::SymbolTable;
use crate::{BuildId, Locator};
use evidence::bytes::Endian;
use evidence::{Addr, Doubt, Doubts, Mapping, Memory, Target, ToUsize};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Most images of one target. The largest desktop programs load about a thousand.
const LIMIT_IMAGES: usize = 65_536;
/// Largest vDSO that is copied out of memory: real ones are two to five pages.
const LIMIT_VDSO: u64 = 1 << 20;

/// Most bytes copied of one image whose file is missing: the text of all but the largest programs.
const LIMIT_COPY: u64 = 64 << 20;
/// Most bytes copied of all of them.
const LIMIT_COPIES: u64 = 256 << 20;

/// An image that was found, before its file was.
struct Found {
    base: Addr,
    size: u64,
    path: Option<Arc<str>>,
    image: Option<InMemory>,
    build_id: Option<BuildId>,
    slide: Option<u64>,
    /// Index of its first mapping.
    mapping: Option<usize>,
    vdso: bool,
    executable: bool,
}

impl Found {
    fn of_memory(image: InMemory) -> Self {
        Self {
            base: image.base,
            size: image.span_size(),
            path: None,
            build_id: image.build_id.clone(),
            slide: Some(image.slide),
            image: Some(image),
            mapping: None,
            vdso: false,
            executable: false,
        }
    }
}

struct Finder<'t> {
    target: &'t dyn Target,
    memory: &'t dyn Memory,
    locator: Arc<Locator>,
    doubts: &'t Doubts,
    found: Vec<Found>,
    /// Bytes copied of images without file.
    copied: Cell<u64>,
}

pub(super) fn outline(target: &dyn Target, memory: &dyn Memory, locator: &Locator, doubts: &Doubts) -> Vec<Module> {
    let mut locator = locator.clone();
    if locator.root.is_none() {
        locator.root.clone_from(&target.identity().root);
    }
    let mut finder =
        Finder { target, memory, locator: Arc::new(locator), doubts, found: Vec::new(), copied: Cell::new(0) };
    let identity = target.identity();
    let auxv = Auxv::read(target.notes(), identity.arch.pointer_size(), Endian::from_big(identity.big_endian));
    finder.find_mapped();
    finder.find_in_auxv(&auxv);
    finder.take_hints();
    finder.guess_executable();
    finder.follow_link_map();
    let Finder { found, .. } = &mut finder;
    let found = std::mem::take(found);
    let mut modules: Vec<Module> = found.into_iter().filter_map(|f| finder.open(f)).collect();
    let (wide, endian) = (identity.arch.pointer_size() == 8, Endian::from_big(identity.big_endian));
    for carried in target.image_symbols() {
        let Some(module) = modules.iter_mut().find(|m| m.base == carried.base) else { continue };
        if module.stated.is_none() && !carried.symbols.is_empty() {
            module.stated = Some(SymbolTable::carried(carried, wide, endian, module));
        }
        if module.types.is_none() && !carried.types.is_empty() {
            let read = ImageTypes::carried(carried, identity.arch, endian);
            let trouble = match &read {
                Ok(types) => types.unmatched().map(str::to_owned),
                Err(e) => Some(e.to_string()),
            };
            if let Some(why) = trouble {
                doubts.push(Doubt::at("types", carried.base, format!("{}: {why}", module.path)));
            }
            module.types = read.ok();
        }
    }
    modules
}

impl Finder<'_> {
    fn covering(&self, at: Addr) -> Option<usize> {
        self.found.iter().position(|f| at.offset_from(f.base).is_some_and(|skip| skip < f.size))
    }

    fn add(&mut self, found: Found) {
        if self.found.len() < LIMIT_IMAGES {
            self.found.push(found);
        } else {
            self.doubts.push(Doubt::at(
                "images",
                found.base,
                format!("more than {LIMIT_IMAGES} images: the rest is left out"),
            ));
        }
    }

    fn mapping_index(&self, at: Addr) -> Option<usize> {
        let mappings = self.target.mappings();
        let index = mappings.partition_point(|m| m.range.start <= at).checked_sub(1)?;
        mappings.get(index).filter(|m| m.range.contains(&at)).map(|_| index)
    }

    fn mapping(&self, found: &Found) -> Option<&Mapping> {
        self.target.mappings().get(found.mapping?)
    }

    /// File-backed mappings that begin at offset 0 and whose program headers fit what is mapped after them. A file
    /// that is mapped as data begins the same way; its segments are not where its headers say.
    fn find_mapped(&mut self) {
        let mappings = self.target.mappings();
        let mut end = Addr(0);
        for (index, mapping) in mappings.iter().enumerate() {
            let Some(path) = &mapping.path else { continue };
            let vdso = &**path == "[vdso]";
            if mapping.range.start < end || (!vdso && (mapping.file_offset != 0 || path.starts_with('['))) {
                continue;
            }
            let mut found = match InMemory::read(self.memory, mapping.range.start) {
                Ok(image) => {
                    let fits = fits_layout(&image.headers, image.slide, None, mappings);
                    if !image.fits(self.target.identity().arch) || (fits == Some(false) && !vdso) {
                        continue;
                    }
                    Found::of_memory(image)
                }
                Err(NoImage::Other) => continue,
                Err(NoImage::Absent(_)) => match self.without_header(index) {
                    Some(found) => found,
                    None => continue,
                },
            };
            found.path = Some(Arc::clone(path));
            found.mapping = Some(index);
            found.vdso = vdso;
            end = found.base.saturating_add(found.size);
            self.add(found);
        }
    }

    /// An image whose first page is not in the source: mappings of one file that follow each other, one of them with
    /// code.
    fn without_header(&self, index: usize) -> Option<Found> {
        let mappings = self.target.mappings();
        let first = mappings.get(index)?;
        let mut end = first.range.end;
        let mut code = first.protection.is_none_or(|p| p.execute);
        let mut offset = first.file_offset;
        for m in mappings.get(index.checked_add(1)?..)? {
            if m.path != first.path || m.file_id != first.file_id || m.file_offset < offset {
                break;
            }
            if m.range.start.offset_from(first.range.start).is_none_or(|span| span > LIMIT_SPAN) {
                break;
            }
            code |= m.protection.is_none_or(|p| p.execute);
            (end, offset) = (m.range.end, m.file_offset);
        }
        code.then(|| Found {
            base: first.range.start,
            size: end.offset_from(first.range.start).unwrap_or(0),
            path: first.path.clone(),
            image: None,
            build_id: None,
            slide: None,
            mapping: Some(index),
            vdso: false,
            executable: false,
        })
    }

    fn find_in_auxv(&mut self, auxv: &Auxv) {
        if let Some(at) = auxv.program_headers {
            let known = self.covering(at).or_else(|| auxv.entry.and_then(|e| self.covering(e))).or_else(|| {
                // The table lies behind the ELF header in the image's first page.
                let image = InMemory::read(self.memory, Addr(at.0 & !0xfff)).ok()?;
                (image.base.wrapping_add(image.headers.table_offset) == at).then(|| {
                    self.add(Found::of_memory(image));
                    self.found.len().saturating_sub(1)
                })
            });
            if let Some(f) = known.and_then(|k| self.found.get_mut(k)) {
                f.executable = true;
                if f.path.is_none() {
                    f.path = self.target.identity().executable.as_deref().map(Into::into);
                }
            }
        }
        for (at, name) in [(auxv.loader, None), (auxv.vdso, Some("[vdso]"))] {
            let Some(at) = at else { continue };
            if self.covering(at).is_some() {
                continue;
            }
            match InMemory::read(self.memory, at) {
                Ok(image) => {
                    let mut found = Found::of_memory(image);
                    found.path = name.map(Into::into);
                    found.vdso = name.is_some();
                    found.mapping = self.mapping_index(at);
                    self.add(found);
                }
                Err(NoImage::Absent(why)) => {
                    let what = name.unwrap_or("the dynamic loader");
                    self.doubts.push(Doubt::at("images", at, format!("{what} cannot be read: {why}")));
                }
                Err(NoImage::Other) => {
                    let what = name.unwrap_or("the dynamic loader");
                    self.doubts.push(Doubt::at(
                        "images",
                        at,
                        format!("the auxiliary vector says that {what} is here; there is no ELF header"),
                    ));
                }
            }
        }
    }

    /// Which image is the program, where no auxiliary vector says it: the one with the executable's path, else the one with
    /// the command's name, else the only one that is no shared library by its name.
    fn guess_executable(&mut self) {
        if self.found.iter().any(|f| f.executable) {
            return;
        }
        let identity = self.target.identity();
        let by_path = |f: &&mut Found| f.path.is_some() && f.path.as_deref() == identity.executable.as_deref();
        let name = |f: &Found| f.path.as_deref().map(|p| p.rsplit('/').next().unwrap_or(p).to_owned());
        let command = identity.command.as_deref().filter(|c| !c.is_empty());
        // Systems cut the command off at 15 to 19 characters.
        let by_command =
            |f: &Found| name(f).zip(command).is_some_and(|(n, c)| n == c || (c.len() >= 15 && n.starts_with(c)));
        if let Some(found) = self.found.iter_mut().find(by_path) {
            found.executable = true;
            return;
        }
        if let Some(found) = self.found.iter_mut().find(|f| by_command(f)) {
            found.executable = true;
            return;
        }
        let program = |f: &Found| !f.vdso && name(f).is_some_and(|n| !n.contains(".so"));
        if self.found.iter().filter(|f| program(f)).count() == 1
            && let Some(found) = self.found.iter_mut().find(|f| program(f))
        {
            found.executable = true;
        }
    }

    fn take_hints(&mut self) {
        for hint in self.target.images() {
            let known = self.covering(hint.base).or_else(|| {
                let mut found = InMemory::read(self.memory, hint.base).ok().map(Found::of_memory);
                if found.is_none() {
                    let size = hint.size.filter(|s| *s > 0)?;
                    found = Some(Found {
                        base: hint.base,
                        size,
                        path: None,
                        image: None,
                        build_id: None,
                        slide: hint.slide.map(i64::cast_unsigned),
                        mapping: self.mapping_index(hint.base),
                        vdso: false,
                        executable: false,
                    });
                }
                self.add(found?);
                self.found.len().checked_sub(1)
            });
            let Some(found) = known.and_then(|k| self.found.get_mut(k)) else { continue };
            if found.path.is_none() {
                found.path.clone_from(&hint.path);
            }
            let stated = hint.build_id.as_deref().and_then(BuildId::new);
            match (&found.build_id, stated) {
                (None, stated) => found.build_id = stated,
                (Some(known), Some(stated)) if *known != stated => self.doubts.push(Doubt::at(
                    "build-id",
                    hint.base,
                    format!(
                        "memory says build-id {known}, the source's list of images says {stated}: memory is believed"
                    ),
                )),
                _ => {}
            }
        }
    }

    fn follow_link_map(&mut self) {
        let Some(program) = self.found.iter().find(|f| f.executable).and_then(|f| f.image.clone()) else { return };
        for entry in link_map::walk(&program, self.memory, self.doubts) {
            let known = self.found.iter().position(|f| entry.lies_in(f.base, f.size));
            let known = known.or_else(|| {
                // An image whose mappings carry no path; its first segment nearly always starts at SVMA 0.
                let image = InMemory::read(self.memory, Addr(entry.slide)).ok()?;
                entry.lies_in(image.base, image.span_size()).then(|| {
                    self.add(Found::of_memory(image));
                    self.found.len().saturating_sub(1)
                })
            });
            let Some(found) = known.and_then(|k| self.found.get_mut(k)) else { continue };
            if found.path.is_none() && !entry.path.is_empty() {
                found.path = Some(entry.path.into());
            }
            if found.slide.is_none() {
                found.slide = Some(entry.slide);
            }
        }
    }

    fn open(&self, found: Found) -> Option<Module> {
        if found.vdso {
            return self.open_vdso(found);
        }
        let mapping = self.mapping(&found);
        let known = Evidence {
            image: found.image.as_ref(),
            build_id: found.build_id.as_ref(),
            base: found.base,
            path: mapping.and_then(|m| m.path.as_deref()),
            mappings: self.target.mappings(),
        };
        let wanted = Wanted {
            path: found.path.as_deref().unwrap_or_default(),
            build_id: found.build_id.as_ref(),
            open: mapping.map_or(&[], |m| m.open.as_slice()),
            executable: found.executable,
        };
        let mut searched = Vec::new();
        let mut used = None;
        for place in self.locator.image_places(&wanted) {
            let outcome = match ElfFile::open(&place) {
                Err(crate::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Outcome::Missing
                }
                Err(e) => Outcome::Unusable(e.to_string()),
                Ok(file) => match verify(&file, &known) {
                    Ok(verified) => {
                        used = Some((file, verified));
                        Outcome::Used
                    }
                    Err(outcome) => outcome,
                },
            };
            searched.push((place, outcome));
            if used.is_some() {
                break;
            }
        }
        if used.is_none()
            && let Some(id) = &found.build_id
        {
            let file = self.locator.download_image(id, &mut searched, self.doubts);
            used = file.map(|f| (f, Verified::BuildId));
        }
        let problem = used.is_none().then(|| self.say_missing(&found, &searched));
        if used.is_none() {
            used = self.out_of_memory(&found).map(|f| (f, Verified::Memory));
        }
        let (main, verified) = used.map_or((None, Verified::Not), |(f, v)| (Some(f), v));
        let slide = found.slide.or_else(|| {
            let headers = super::in_memory::head_of_file(main.as_ref()?.bytes())?;
            super::in_memory::slide_of(&headers, found.base)
        });
        let slide = slide.unwrap_or(found.base.0);
        Some(self.module(found, main, verified, slide, searched, problem))
    }

    /// What memory holds of an image without a file still has its exported names and its call frame information.
    fn out_of_memory(&self, found: &Found) -> Option<ElfFile> {
        let image = found.image.as_ref()?;
        let name = format!("[{} in memory]", found.path.as_deref().unwrap_or("image"));
        let limit = LIMIT_COPY.min(LIMIT_COPIES.saturating_sub(self.copied.get()));
        let file =
            ElfFile::from_memory(&name, &image.headers, image.slide, found.build_id.clone(), self.memory, limit)?;
        self.copied.set(self.copied.get().saturating_add(file.size()));
        Some(file)
    }

    fn say_missing(&self, found: &Found, searched: &[(PathBuf, Outcome)]) -> String {
        let name = found.path.as_deref().unwrap_or("an unnamed image");
        let mismatch = searched.iter().find(|(_, o)| matches!(o, Outcome::Mismatch { .. }));
        let text = match mismatch {
            Some((path, outcome)) => format!("{name}: {} is {outcome}; it is not used", path.display()),
            None => format!("{name}: the file was not found"),
        };
        let key = if mismatch.is_some() { "build-id" } else { "images" };
        self.doubts.push(Doubt::at(key, found.base, text.as_str()));
        text
    }

    /// The kernel's code in the process has no file: its bytes are those in memory.
    fn open_vdso(&self, found: Found) -> Option<Module> {
        let mapped = self.mapping(&found).and_then(|m| m.range.end.offset_from(found.base)).unwrap_or(found.size);
        let mut bytes = vec![0; mapped.max(found.size).min(LIMIT_VDSO).to_usize()];
        let (got, _) = self.memory.read(found.base, &mut bytes);
        bytes.truncate(got);
        let (base, slide) = (found.base, found.slide.unwrap_or(found.base.0));
        let main = match ElfFile::from_bytes("[vdso]", bytes) {
            Ok(file) => Some(file),
            Err(e) => {
                self.doubts.push(Doubt::at("images", base, format!("the vDSO cannot be used: {e}")));
                None
            }
        };
        let verified = if main.is_some() { Verified::Memory } else { Verified::Not };
        Some(self.module(found, main, verified, slide, Vec::new(), None))
    }

    fn module(
        &self,
        found: Found,
        main: Option<ElfFile>,
        verified: Verified,
        slide: u64,
        searched: Vec<(PathBuf, Outcome)>,
        problem: Option<String>,
    ) -> Module {
        Module {
            path: found.path.unwrap_or_else(|| format!("[image at {}]", found.base).into()),
            base: found.base,
            size: found.size,
            slide,
            build_id: found.build_id.or_else(|| main.as_ref()?.build_id().cloned()),
            main,
            verified,
            searched,
            problem,
            stated: None,
            types: None,
            file_types: OnceLock::new(),
            store: None,
            sym: OnceLock::new(),
            native: None,
            apple: false,
            orc: None,
            sections: Vec::new(),
            locator: Arc::clone(&self.locator),
            separate: OnceLock::new(),
            supplementary: OnceLock::new(),
            mini: OnceLock::new(),
            late: Doubts::new(),
            split: SplitFiles::new(&self.locator),
        }
    }
}
