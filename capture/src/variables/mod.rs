//! Values of variables: for each source frame its parameters and locals as trees, and chosen globals.
//!
//! Input: the frames of a thread with the registers that were recovered, what they mean in source terms, a memory, and
//! debug information. Output: [`Variable`] trees in which every leaf is right, or absent with its reason. Everything
//! here is by `&self` and may be used from many threads; types are read once for all of them.
//!
//! Names of parts: a member has its own name, a base class `<Base>`, an unnamed structure or union `<anonymous>`, an
//! element `[3]`, an entry of a map `["key"]`, a pointee `*`. Texts follow gdb: `97 'a'` for a character,
//! `0x4010 "abc"` for a pointer to one, `0x401136 <main>` for a pointer to a function, `(READ | WRITE)` for flags.

mod aggregate;
mod build;
mod compact;
mod containers;
mod entry_value;
mod float;
mod frame;
mod memo;
mod object;
mod pointer;
mod scalar;
mod scope;
mod text;
mod tls;

use crate::values::Options;
use debuginfo::DebugInfo;
use debuginfo::dwarf::Scope;
use debuginfo::dwarf::SourceFrame;
use debuginfo::types::Types;
use evidence::{Addr, Memory, Svma};
use gimli::UnitOffset;
use memo::Memo;
use snapshot_format::schema::{Value, VariableKind};
use std::sync::{Arc, OnceLock};
pub(crate) use tls::thread_local_block;

/// Most variables of one frame. Generated code has functions with some thousands.
pub const LIMIT_VARIABLES: usize = 10_000;

/// Most nodes of all trees of one frame: what a person could still scroll through.
pub const LIMIT_NODES: usize = 20_000;

/// A variable or a part of one, with its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variable {
    /// Its name; see the module for the names of parts.
    pub name: String,
    /// Its type as gdb spells it.
    pub type_name: String,
    /// Where it comes from.
    pub kind: VariableKind,
    /// Its value; `None` for aggregates and for what is absent.
    pub value: Value,
    /// Address of its first byte, when it lies in memory.
    pub address: Option<u64>,
    /// Why there is no value: a word of [`debuginfo::eval::Missing::word`], `incomplete-type` or `cycle`.
    pub absent: Option<String>,
    /// The reason in full, for a person.
    pub why: Option<String>,
    /// A limit cut its children or its text short.
    pub truncated: bool,
    /// Line of its declaration.
    pub line: Option<u64>,
    /// Its parts.
    pub children: Vec<Variable>,
}

/// One source frame of a thread.
#[derive(Clone, Copy)]
pub struct FrameContext<'f> {
    /// The physical frames of the thread, innermost first.
    pub frames: &'f [unwind::Frame],
    /// Which of them.
    pub index: usize,
    /// What its pc means: inlined calls innermost first, the physical function last.
    pub sources: &'f [SourceFrame],
    /// Which of them.
    pub source: usize,
    /// The module its pc lies in.
    pub module: usize,
}

/// Collects variables of many frames.
pub struct Collector<'i, 'm> {
    types: Types<'i, 'm>,
    memory: &'i dyn Memory,
    options: Options,
    module_ids: OnceLock<tls::ModuleIds>,
    functions: Memo<u64, Option<Function>>,
    scopes: Memo<(usize, Scope, Svma), Arc<[scope::Found]>>,
    call_sites: Memo<(usize, Scope, Svma), Result<Option<UnitOffset>, gimli::Error>>,
}

/// A function's name, and how far into it an address is.
type Function = (Arc<str>, u64);

impl<'i, 'm> Collector<'i, 'm> {
    /// Nothing is read until it is asked for.
    #[must_use]
    pub fn new(info: &'i DebugInfo<'m>, memory: &'i dyn Memory, options: Options) -> Self {
        Self {
            types: Types::new(info),
            memory,
            options,
            module_ids: OnceLock::new(),
            functions: Memo::default(),
            scopes: Memo::default(),
            call_sites: Memo::default(),
        }
    }

    /// The parameters, then the locals of `at`: those of the innermost block first.
    #[must_use]
    pub fn frame(&self, at: &FrameContext<'_>) -> Vec<Variable> {
        let Some(scope) = at.sources.get(at.source).and_then(|s| s.scope) else { return Vec::new() };
        let function = at.sources.last().and_then(|s| s.scope);
        let Some(frame) = frame::Physical::new(self, at.frames, at.index, at.module, function) else {
            return Vec::new();
        };
        let mut builder = build::Builder::new(self, Some(&frame), at.module);
        let pc = frame.pc();
        let found = self.scopes.get((at.module, scope, pc), || scope::variables(self, at.module, scope, pc).into());
        found.iter().map(|found| builder.variable_of(found)).collect()
    }

    /// Global and static variables by name (qualified or not), from all modules, without thread-local ones.
    #[must_use]
    pub fn globals(&self, names: &[String]) -> Vec<Variable> {
        self.named(names, VariableKind::Global, |module, found| {
            build::Builder::new(self, None, module).variable_of(found)
        })
    }

    /// Thread-local variables by name, as the thread with these frames has them.
    #[must_use]
    pub fn thread_locals(&self, names: &[String], frames: &[unwind::Frame]) -> Vec<Variable> {
        self.named(names, VariableKind::Tls, |module, found| {
            let frame = frame::Physical::new(self, frames, 0, module, None);
            build::Builder::new(self, frame.as_ref(), module).variable_of(found)
        })
    }

    fn named(
        &self,
        names: &[String],
        kind: VariableKind,
        show: impl Fn(usize, &scope::Found) -> Variable,
    ) -> Vec<Variable> {
        let mut all = Vec::new();
        for name in names {
            for module in 0..self.types.info().modules().list().len() {
                for at in self.types.globals(module, name, LIMIT_VARIABLES) {
                    let tls = self.dwarf(module).is_some_and(|dwarf| scope::is_thread_local(dwarf, at));
                    if tls == (kind == VariableKind::Tls) {
                        let mut variable = show(module, &scope::Found { at, kind });
                        variable.name.clone_from(name);
                        all.push(variable);
                    }
                }
                if kind == VariableKind::Global && self.dwarf(module).is_none() {
                    all.extend(compact::objects(self, module, name));
                }
            }
        }
        all
    }

    /// The arguments of a function, by where they were saved when it was entered: as many as its prototype has, if that
    /// leaves no doubt which is which. The function is given by its module and where it starts.
    #[must_use]
    pub(crate) fn arguments(&self, function: (usize, Svma), saved: &[(Addr, u64)]) -> Vec<Variable> {
        compact::arguments(self, function, saved)
    }

    fn dwarf(&self, module: usize) -> Option<&'i debuginfo::dwarf::Dwarf<'m>> {
        self.types.info().dwarf(module)
    }

    fn module_ids(&self) -> &tls::ModuleIds {
        self.module_ids.get_or_init(|| tls::ModuleIds::read(self))
    }

    /// The function whose code is at `address`, and how far into it.
    fn function_at(&self, address: u64) -> Option<Function> {
        // Tables of functions are pointed at from everywhere.
        self.functions.get(address, || {
            let info = self.types.info();
            let (index, module) = info.modules().find(Addr(address))?;
            let at = module.to_svma(Addr(address));
            let (name, start) = info.function_name_at(index, at)?;
            Some((name, at.offset_from(start)?))
        })
    }
}
