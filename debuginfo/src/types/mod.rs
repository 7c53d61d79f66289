//! Types of variables: read from DWARF, or from CTF, when they are first asked for, shared by all threads.
//!
//! Input: type DIEs, or types of a container of CTF ([`Part::Ctf`]), by [`TypeId`]. Output: [`Type`] nodes, their spelling, and for declarations the definition that
//! belongs to them. It reads no memory of the target and shows no value. Types may be cyclic, and damaged ones may be
//! cyclic where they must not be: whoever follows references counts the steps.

mod canonical;
pub mod die;
mod model;
mod name;
mod read;
mod scopes;
mod unit_index;

use crate::dwarf::{Part, Scope, Unit, UnitId};
use crate::{DebugInfo, Module};
use elsa::sync::FrozenMap;
use std::sync::Arc;
use unit_index::UnitIndex;

pub use canonical::canonical;
pub use model::{
    Count, Dimension, Enumeration, Kind, Language, Member, PointerSort, Position, Qualifier, Role, Structure,
    TemplateParameter, Type, TypeId, Variant, VariantPart,
};
pub(crate) use read::is_flags;
pub use read::{LIMIT_DIMENSIONS, LIMIT_MEMBERS};
pub use scopes::{LIMIT_SCOPE_DEPTH, LIMIT_SCOPES};

/// Longest chain of typedefs and qualifiers followed. Real ones have fewer than twenty links.
pub const LIMIT_ALIASES: usize = 64;

/// Most bytes of units searched for the definitions of types that are only declared where they are used, per module.
/// It bounds the time: some 100 MB/s are searched. Beyond it such types stay incomplete.
pub const LIMIT_SEARCH: usize = 64 << 20;

/// Most parts of a type whose alignments are compared.
pub const LIMIT_ALIGNMENT_PARTS: usize = 1 << 16;

/// Most units looked at to find out a module's language. dwz puts its partial units first, some hundreds of them.
pub const LIMIT_UNITS_FOR_LANGUAGE: usize = 4096;

/// A cache of types; cheap to make, best made once per capture.
pub struct Types<'i, 'm> {
    info: &'i DebugInfo<'m>,
    types: FrozenMap<TypeId, Box<Type>>,
    units: FrozenMap<(usize, UnitId), Box<UnitIndex>>,
    spelled: FrozenMap<TypeId, Arc<str>>,
    definitions: FrozenMap<TypeId, Box<Option<TypeId>>>,
    languages: FrozenMap<usize, Box<Language>>,
}

impl<'i, 'm> Types<'i, 'm> {
    /// An empty cache.
    #[must_use]
    pub fn new(info: &'i DebugInfo<'m>) -> Self {
        Self {
            info,
            types: FrozenMap::new(),
            units: FrozenMap::new(),
            spelled: FrozenMap::new(),
            definitions: FrozenMap::new(),
            languages: FrozenMap::new(),
        }
    }

    /// The debug information it reads.
    #[must_use]
    pub const fn info(&self) -> &'i DebugInfo<'m> {
        self.info
    }

    pub(crate) fn index(&self, module: usize, unit: &Unit<'m>) -> &UnitIndex {
        let key = (module, unit.id);
        if let Some(index) = self.units.get(&key) {
            return index;
        }
        let index = self.units.insert(key, Box::new(UnitIndex::of(unit)));
        if let Some(dwarf) = self.info.dwarf(module) {
            dwarf.release_names();
        }
        index
    }

    /// Complete types and variables of a unit called `name` (unqualified), in file order.
    pub(crate) fn named(&self, module: usize, unit: &Unit<'m>, name: &str) -> &[unit_index::Definition] {
        self.whole(module, unit).named(unit, name)
    }

    /// All complete enumerations of a unit at namespace and class level.
    pub(crate) fn enumerations(&self, module: usize, unit: &Unit<'m>) -> &[gimli::UnitOffset] {
        self.whole(module, unit).enumerations(unit)
    }

    /// The index of a unit after the pass over all its DIEs, which touches much of the file.
    fn whole(&self, module: usize, unit: &Unit<'m>) -> &UnitIndex {
        let index = self.index(module, unit);
        if index.read_whole(unit)
            && let Some(dwarf) = self.info.dwarf(module)
        {
            dwarf.release_names();
        }
        index
    }

    /// The type at `id`, as its DIE has it; [`Kind::Unknown`] when it cannot be read.
    pub fn get(&self, id: TypeId) -> &Type {
        if let Some(ty) = self.types.get(&id) {
            return ty;
        }
        self.types.insert(id, Box::new(self.read(id)))
    }

    fn read(&self, id: TypeId) -> Type {
        let unknown = |why: &str| Type::unknown(id, why);
        if id.at.unit.part == Part::Ctf {
            let types = self.info.modules().list().get(id.module).and_then(Module::types);
            return types.map_or_else(|| unknown("its module has no CTF"), |types| types.ctf().type_of(id));
        }
        let Some(dwarf) = self.info.dwarf(id.module) else { return unknown("its module has no DWARF") };
        let Some(unit) = dwarf.unit(id.at.unit) else { return unknown("its unit cannot be read") };
        // A stub for a type that is defined in a type unit.
        let entry = unit.unit.entry(id.at.die).ok();
        if let Some(signature) = entry.as_ref().and_then(|e| e.attr_value(gimli::DW_AT_signature)) {
            return match dwarf.follow(unit.id, signature).filter(|at| at.unit != unit.id) {
                Some(at) if !self.is_stub(dwarf, at) => self.get(TypeId { module: id.module, at }).clone(),
                _ => unknown("its type unit is missing"),
            };
        }
        let language = self.language(id.module, unit);
        let named = unit.unit.entry(id.at.die).ok().and_then(|entry| {
            let (at, name) = read::named_at(dwarf, unit, &entry)?;
            let scoped = !matches!(
                entry.tag(),
                gimli::DW_TAG_base_type | gimli::DW_TAG_pointer_type | gimli::DW_TAG_unspecified_type
            );
            Some((at, name, scoped))
        });
        let name = named.map(|(at, name, scoped)| {
            let respell = language == Language::Cpp || (language == Language::C && !scoped);
            let name = if respell { Arc::from(canonical(&name)) } else { name };
            if scoped { self.qualify(id.module, at, &name, language) } else { name }
        });
        let prefix =
            name.as_deref().and_then(|n| n.rfind("::").and_then(|at| n.get(..at)).filter(|_| !n.contains('<')));
        let class = unit.unit.entry(id.at.die).is_ok_and(|e| die::flag(&e, gimli::DW_AT_enum_class));
        let qualified = |enumerator: &str| -> Arc<str> {
            match (language, class, &name, prefix) {
                (Language::Cpp | Language::Rust, true, Some(name), _) => Arc::from(format!("{name}::{enumerator}")),
                (Language::Rust, false, Some(name), _) => Arc::from(format!("{name}::{enumerator}")),
                (Language::Cpp, false, _, Some(prefix)) => Arc::from(format!("{prefix}::{enumerator}")),
                (Language::Cpp, false, None, None) => self.qualify(id.module, id.at, enumerator, language),
                _ => Arc::from(enumerator),
            }
        };
        read::Reader { dwarf, unit, module: id.module, language }.read(id, name.clone(), &qualified)
    }

    /// The language of a unit; for a partial unit that dwz made, which has none, that of the module's first unit that
    /// has one.
    fn language(&self, module: usize, unit: &Unit<'m>) -> Language {
        if unit.language.is_some() {
            return Language::of(unit.language);
        }
        if let Some(known) = self.languages.get(&module) {
            return *known;
        }
        let first = self
            .info
            .dwarf(module)
            .and_then(|dwarf| dwarf.unit_ids().take(LIMIT_UNITS_FOR_LANGUAGE).find_map(|id| dwarf.unit(id)?.language));
        *self.languages.insert(module, Box::new(Language::of(first)))
    }

    fn is_stub(&self, dwarf: &crate::dwarf::Dwarf<'m>, at: Scope) -> bool {
        let entry = dwarf.unit(at.unit).and_then(|u| u.unit.entry(at.die).ok());
        entry.is_none_or(|e| e.has_attr(gimli::DW_AT_signature))
    }

    /// `name` with the namespaces and classes around the DIE at `at`.
    fn qualify(&self, module: usize, at: Scope, name: &str, language: Language) -> Arc<str> {
        let unit = self.info.dwarf(module).and_then(|d| d.unit(at.unit));
        let (Some(unit), true) = (unit, language != Language::C) else { return Arc::from(name) };
        let prefix = self.index(module, unit).prefix(unit, at.die, language);
        if prefix.is_empty() {
            return Arc::from(name);
        }
        let prefix = if language == Language::Cpp { canonical(&prefix) } else { prefix };
        Arc::from(format!("{prefix}::{name}"))
    }

    /// The spelling of a type, as gdb has it; `None` is `void`.
    pub fn name(&self, id: Option<TypeId>) -> Arc<str> {
        let Some(known) = id else { return Arc::from("void") };
        if let Some(name) = self.spelled.get(&known) {
            return Arc::from(name);
        }
        let language = self.get(known).language;
        let spelled: Arc<str> = Arc::from(self.spell(id, language));
        self.spelled.insert(known, Arc::clone(&spelled));
        spelled
    }

    /// The type behind typedefs and qualifiers, with declarations replaced by their definitions; `None` for `void`.
    pub fn resolved(&self, id: Option<TypeId>) -> Option<&Type> {
        let mut here = id?;
        for _ in 0..LIMIT_ALIASES {
            let ty = self.get(here);
            match ty.kind {
                Kind::Typedef { target } | Kind::Qualified { target, .. } => here = target?,
                _ if ty.declaration => return Some(self.definition(ty)),
                _ => return Some(ty),
            }
        }
        Some(self.get(here))
    }

    /// Size in bytes, where the type alone says it.
    pub fn size(&self, id: Option<TypeId>) -> Option<u64> {
        let ty = self.resolved(id)?;
        if ty.size.is_some() {
            return ty.size;
        }
        match &ty.kind {
            Kind::Array { element, dimensions, .. } => {
                let mut size = self.size_below(*element, 1)?;
                for dimension in dimensions {
                    let Count::Known(n) = dimension.count else { return None };
                    size = size.checked_mul(n)?;
                }
                Some(size)
            }
            Kind::Enumeration(e) => self.size_below(e.underlying, 1),
            _ => None,
        }
    }

    fn size_below(&self, id: Option<TypeId>, depth: usize) -> Option<u64> {
        if depth > LIMIT_DIMENSIONS {
            return None;
        }
        let ty = self.resolved(id)?;
        match (&ty.kind, ty.size) {
            (_, Some(size)) => Some(size),
            (Kind::Array { element, dimensions, .. }, None) => {
                let mut size = self.size_below(*element, depth.saturating_add(1))?;
                for dimension in dimensions {
                    let Count::Known(n) = dimension.count else { return None };
                    size = size.checked_mul(n)?;
                }
                Some(size)
            }
            (Kind::Enumeration(e), None) => self.size_below(e.underlying, depth.saturating_add(1)),
            _ => None,
        }
    }

    /// Alignment in bytes by the rules of the System V ABIs: explicit, or that of the most demanding part.
    pub fn alignment(&self, id: Option<TypeId>) -> Option<u64> {
        let mut left = LIMIT_ALIGNMENT_PARTS;
        self.alignment_below(id, 0, &mut left)
    }

    fn alignment_below(&self, id: Option<TypeId>, depth: usize, left: &mut usize) -> Option<u64> {
        *left = left.checked_sub(1)?;
        if depth > LIMIT_DIMENSIONS {
            return None;
        }
        let ty = self.resolved(id)?;
        if ty.alignment.is_some() {
            return ty.alignment;
        }
        let deeper = depth.saturating_add(1);
        match &ty.kind {
            Kind::Array { element, .. } => self.alignment_below(*element, deeper, left),
            Kind::Structure(s) => {
                let mut most = 1;
                for member in s.members.iter().filter(|m| m.role != Role::Static) {
                    most = self.alignment_below(member.ty, deeper, left)?.max(most);
                }
                Some(most)
            }
            Kind::Unknown(_) | Kind::Function { .. } => None,
            Kind::MemberPointer { .. } => Some(8),
            _ => ty.size.filter(|s| s.is_power_of_two()),
        }
    }

    /// The definition of a declared type: in its unit, then in the other units of its module; the
    /// declaration itself when there is none, or more than one that differ in size.
    fn definition(&self, declared: &Type) -> &Type {
        let found = match self.definitions.get(&declared.id) {
            Some(found) => *found,
            None => *self.definitions.insert(declared.id, Box::new(self.find_definition(declared))),
        };
        found.map_or_else(|| self.get(declared.id), |id| self.get(id))
    }

    fn find_definition(&self, declared: &Type) -> Option<TypeId> {
        let module = declared.id.module;
        if declared.id.at.unit.part == Part::Ctf {
            return self.info.modules().list().get(module)?.types()?.ctf().definition_of(declared.id);
        }
        let dwarf = self.info.dwarf(module)?;
        let unit = dwarf.unit(declared.id.at.unit)?;
        let entry = unit.unit.entry(declared.id.at.die).ok()?;
        let (_, own) = read::named_at(dwarf, unit, &entry)?;
        if let Some(found) = self.definition_in(module, unit, declared, &own) {
            return Some(found);
        }
        let mut searched = 0_usize;
        let mut found: Option<TypeId> = None;
        for other in dwarf.unit_ids() {
            if other == unit.id {
                continue;
            }
            let Some(other) = dwarf.unit(other) else { continue };
            searched = searched.saturating_add(other.unit.header.length_including_self());
            if searched > LIMIT_SEARCH {
                break;
            }
            let Some(here) = self.definition_in(module, other, declared, &own) else { continue };
            match found {
                None => found = Some(here),
                Some(first) if self.get(first).size != self.get(here).size => return None,
                Some(_) => {}
            }
            // C++ promises that all definitions are the same.
            if declared.language == Language::Cpp {
                break;
            }
        }
        found
    }

    fn definition_in(&self, module: usize, unit: &Unit<'m>, declared: &Type, own: &str) -> Option<TypeId> {
        let sort = |ty: &Type| match &ty.kind {
            Kind::Structure(s) if s.union => Some(1),
            Kind::Structure(_) => Some(0),
            Kind::Enumeration(_) => Some(2),
            _ => None,
        };
        self.named(module, unit, own)
            .iter()
            .filter(|d| !matches!(d.tag, gimli::DW_TAG_variable | gimli::DW_TAG_typedef))
            .find_map(|d| {
                let id = TypeId { module, at: Scope { unit: unit.id, die: d.die } };
                let ty = self.get(id);
                (ty.name == declared.name && sort(ty) == sort(declared)).then_some(id)
            })
    }

    /// Global and static variables with this name, qualified or not, as DIEs: at most `most`.
    pub fn globals(&self, module: usize, name: &str, most: usize) -> Vec<Scope> {
        let Some(dwarf) = self.info.dwarf(module) else { return Vec::new() };
        let own = name.rsplit("::").next().unwrap_or(name);
        let mut found = Vec::new();
        let mut searched = 0_usize;
        for id in dwarf.unit_ids() {
            let Some(unit) = dwarf.unit(id) else { continue };
            searched = searched.saturating_add(unit.unit.header.length_including_self());
            if searched > LIMIT_SEARCH || found.len() >= most {
                break;
            }
            let index = self.index(module, unit);
            for definition in self.named(module, unit, own).iter().filter(|d| d.tag == gimli::DW_TAG_variable) {
                let prefix = index.prefix(unit, definition.die, self.language(module, unit));
                if name == own || format!("{prefix}::{own}") == name {
                    found.push(Scope { unit: id, die: definition.die });
                }
            }
        }
        found.truncate(most);
        found
    }
}
