//! The second layer: tables of each module, built when they are first asked for.

use crate::cache::{Frames, can_keep};
use crate::cfi::Cfi;
use crate::dwarf::{Dwarf, Names, Scope, SourceFrame, names};
use crate::images::CodeAt;
use crate::parallel::parallel;
use crate::symbols::Symbols;
use crate::{Error, Module, Modules, SymFile};
use evidence::{Doubt, Doubts, Svma};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Everything known about the code and data of a target's images.
pub struct DebugInfo<'m> {
    modules: &'m Modules,
    doubts: &'m Doubts,
    slots: Vec<Slot<'m>>,
    locations: bool,
}

#[derive(Default)]
struct Slot<'m> {
    dwarf: OnceLock<Option<Dwarf<'m>>>,
    cfi: OnceLock<Cfi<'m>>,
    symbols: OnceLock<Symbols<'m>>,
    frames: OnceLock<Option<Frames<'m>>>,
}

impl<'m> DebugInfo<'m> {
    /// Nothing is read until it is asked for.
    #[must_use]
    pub fn new(modules: &'m Modules, doubts: &'m Doubts) -> Self {
        Self { modules, doubts, slots: modules.list().iter().map(|_| Slot::default()).collect(), locations: true }
    }

    /// Leaves out the lists of where variables are, which only they need: where they are compressed, that is much work.
    #[must_use]
    pub fn without_locations(self) -> Self {
        Self { locations: false, ..self }
    }

    /// The images it is about.
    #[must_use]
    pub const fn modules(&self) -> &'m Modules {
        self.modules
    }

    /// The image at an index of [`Modules::list`].
    #[must_use]
    pub fn module(&self, index: usize) -> Option<&'m Module> {
        self.modules.list().get(index)
    }

    /// The DWARF of a module.
    pub fn dwarf(&self, index: usize) -> Option<&Dwarf<'m>> {
        let module = self.modules.list().get(index)?;
        self.slots
            .get(index)?
            .dwarf
            .get_or_init(|| self.note(module, Dwarf::load(module, self.doubts, self.locations)).flatten())
            .as_ref()
    }

    /// The call frame information of a module.
    pub fn cfi(&self, index: usize) -> Option<&Cfi<'m>> {
        let module = self.modules.list().get(index)?;
        Some(self.slots.get(index)?.cfi.get_or_init(|| Cfi::new(module)))
    }

    /// The ELF symbols of a module.
    pub fn symbols(&self, index: usize) -> Option<&Symbols<'m>> {
        let module = self.modules.list().get(index)?;
        Some(self.slots.get(index)?.symbols.get_or_init(|| Symbols::load(module)))
    }

    /// The Breakpad symbol file of a module, where it has no DWARF.
    #[must_use]
    pub fn sym_file(&self, index: usize) -> Option<&'m SymFile> {
        self.module(index)?.sym_file()
    }

    /// Where doubts go.
    #[must_use]
    pub const fn doubts(&self) -> &'m Doubts {
        self.doubts
    }

    /// What a pc means: inlined calls innermost first, the physical function last; empty when nothing is known.
    ///
    /// `at` is a look-up address: for return addresses the byte before.
    #[must_use]
    pub fn resolve(&self, index: usize, at: Svma) -> Vec<SourceFrame> {
        self.complete(index, at, self.dwarf(index).map_or_else(Vec::new, |dwarf| dwarf.resolve(at)))
    }

    /// The physical function that a pc lies in, without its lines: where it starts, and its DIE if it has one.
    #[must_use]
    pub fn function_at(&self, index: usize, at: Svma) -> Option<(Option<Scope>, Svma)> {
        if let Some((scope, start)) = self.dwarf(index).and_then(|dwarf| dwarf.function_at(at)) {
            return Some((Some(scope), start));
        }
        let function = self.resolve(index, at).pop()?;
        Some((function.scope, function.function_start?))
    }

    /// The name of the physical function that a pc lies in, and where it starts.
    #[must_use]
    pub fn function_name_at(&self, index: usize, at: Svma) -> Option<(Arc<str>, Svma)> {
        let dwarf = self.dwarf(index);
        if let Some((dwarf, (scope, start))) = dwarf.and_then(|dwarf| Some((dwarf, dwarf.function_at(at)?)))
            && let Some(name) = names::of(dwarf, scope).function
        {
            return Some((name, start));
        }
        let function = self.resolve(index, at).pop()?;
        Some((function.function?, function.function_start?))
    }

    /// As [`DebugInfo::resolve`]; names of functions that were met before come from `known`.
    pub(crate) fn resolve_with(&self, index: usize, at: Svma, known: &mut HashMap<Scope, Names>) -> Vec<SourceFrame> {
        let frames = self.dwarf(index).map_or_else(Vec::new, |dwarf| dwarf.resolve_with(at, known));
        self.complete(index, at, frames)
    }

    /// Adds what other sources know to what the DWARF says.
    fn complete(&self, index: usize, at: Svma, mut frames: Vec<SourceFrame>) -> Vec<SourceFrame> {
        if frames.is_empty()
            && let Some((module, file)) = self.module(index).and_then(|m| Some((m, m.pdb()?)))
            && let Ok(rva) = u32::try_from(module.to_relative(at))
        {
            // Symbols without size are all that is left where a database has no functions.
            let bias = at.0.wrapping_sub(u64::from(rva));
            let mut found = file.resolve(rva);
            for frame in &mut found {
                frame.function_start = frame.function_start.map(|start| Svma(start.0.wrapping_add(bias)));
            }
            frames = found;
        }
        let sym_file = if frames.is_empty() { self.sym_file(index) } else { None };
        if let Some((file, at, bias)) = sym_file.zip(self.module(index)).map(|(file, module)| {
            let relative = module.to_relative(at);
            (file, relative, at.0.wrapping_sub(relative))
        }) {
            let function = file.function_at(at).is_some();
            // A symbol of which only the start is known reaches no further than code does.
            let place = self.module(index).map(|m| m.to_addr(Svma(at.wrapping_add(bias))));
            if !function && place.is_some_and(|at| self.modules.code_at(at) == CodeAt::NotExecutable) {
                return frames;
            }
            // The exact symbol of an image is better than one of which only the start is known.
            if function || self.symbols(index).and_then(|s| s.at(Svma(at.wrapping_add(bias)))).is_none() {
                return file.resolve(at, bias);
            }
        }
        // A unit compiled from assembly has lines and no function; a stripped image has neither.
        if frames.last().is_none_or(|outermost| outermost.function.is_none())
            && let Some(symbol) = self.symbols(index).and_then(|s| s.at(at))
        {
            let mut frame = frames.pop().unwrap_or_default();
            frame.function = Some(symbol.demangled().into());
            frame.linkage_name = Some(symbol.name.as_ref().into());
            frame.function_start = Some(symbol.start);
            frames.push(frame);
        }
        frames
    }

    /// [`DebugInfo::resolve`] for many addresses (module index, look-up address), in the order given.
    ///
    /// Addresses of one unit are resolved together, different units at the same time on all processors.
    #[must_use]
    pub fn resolve_batch(&self, addresses: &[(usize, Svma)]) -> Vec<Vec<SourceFrame>> {
        type Key = (usize, Option<usize>);
        let mut all = vec![Vec::new(); addresses.len()];
        let mut order: Vec<(Key, Svma, usize)> = Vec::with_capacity(addresses.len());
        for (at, ((module, svma), slot)) in addresses.iter().zip(&mut all).enumerate() {
            if let Some(known) = self.frames(*module).and_then(|frames| frames.get(*svma)) {
                slot.clone_from(known);
                continue;
            }
            let unit = self.dwarf(*module).and_then(|d| d.likely_unit(*svma));
            order.push(((*module, unit), *svma, at));
        }
        order.sort_unstable();
        let doubts = self.doubts.sorted().len();
        let groups: Vec<_> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let done = parallel(&groups, |group| {
            let mut frames: Vec<(usize, Vec<SourceFrame>)> = Vec::with_capacity(group.len());
            let mut last: Option<(Svma, Vec<SourceFrame>)> = None;
            for ((module, _), svma, at) in *group {
                let known = last.take().filter(|(before, _)| before == svma).map(|(_, frames)| frames);
                let found = known.unwrap_or_else(|| self.resolve(*module, *svma));
                frames.push((*at, found.clone()));
                last = Some((*svma, found));
            }
            if let Some(((module, Some(unit)), ..)) = group.first()
                && let Some(dwarf) = self.dwarf(*module)
            {
                dwarf.release_unit_at(*unit);
            }
            frames
        });
        for dwarf in self.slots.iter().filter_map(|slot| slot.dwarf.get()?.as_ref()) {
            dwarf.keep_grown();
            dwarf.release();
        }
        for (at, frames) in done.into_iter().flatten() {
            if let Some(slot) = all.get_mut(at) {
                *slot = frames;
            }
        }
        // What was found in damaged units is found again next time, and said again.
        if self.doubts.sorted().len() == doubts {
            let found = order.iter().filter_map(|((module, _), svma, at)| Some((*module, *svma, all.get(*at)?)));
            self.keep(found);
        }
        all
    }

    fn frames(&self, index: usize) -> Option<&Frames<'m>> {
        let module = self.modules.list().get(index)?;
        self.slots.get(index)?.frames.get_or_init(|| Frames::load(module)).as_ref()
    }

    /// Keeps what addresses (module index, address, frames) mean for the next run.
    fn keep<'f>(&self, found: impl Iterator<Item = (usize, Svma, &'f Vec<SourceFrame>)>) {
        let mut by_module: HashMap<usize, HashMap<u64, Vec<SourceFrame>>> = HashMap::new();
        for (module, svma, frames) in found {
            // The part of a unit in a split file is not told by the debug file's identity.
            let whole = |f: &SourceFrame| {
                f.scope.is_none_or(|scope| {
                    let unit = self.dwarf(module).and_then(|d| d.unit(scope.unit));
                    unit.is_some_and(|u| u.skeleton.is_none())
                })
            };
            if frames.iter().all(|f| can_keep(f) && whole(f)) {
                by_module.entry(module).or_default().insert(svma.0, frames.clone());
            }
        }
        for (module, found) in by_module {
            if let Some(frames) = self.frames(module) {
                frames.keep(&found);
            }
        }
    }

    fn note<T>(&self, module: &Module, result: Result<T, Error>) -> Option<T> {
        result.map_err(|e| self.doubts.push(Doubt::new("debug-info", format!("{}: {e}", module.path)))).ok()
    }
}
