//! Builds the tree of one variable, within the frame's budget.

use super::frame::{NoFrame, Physical};
use super::scalar::Sort;
use super::scope::Found;
use super::{Collector, LIMIT_NODES, Variable};
use debuginfo::dwarf::Scope;
use debuginfo::eval::{self, Context, Frame, Missing, Place};
use debuginfo::types::{Count, Kind, Position, Type, TypeId, Types, die};
use evidence::{Arch, Memory, ToUsize};
use gimli::AttributeValue;
use snapshot_format::schema::{Value, VariableKind};

/// Largest object read at once: nothing larger is shown as one value.
pub const LIMIT_OBJECT: u64 = 16 << 20;

/// How deep a part lies in its variable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// Members, elements and pointees around it.
    pub(super) depth: usize,
    /// Pointers followed to get there.
    pub(super) pointers: usize,
}

impl Level {
    pub(super) const fn part(self) -> Self {
        Self { depth: self.depth.saturating_add(1), pointers: self.pointers }
    }

    pub(super) const fn pointee(self) -> Self {
        Self { depth: self.depth.saturating_add(1), pointers: self.pointers.saturating_add(1) }
    }
}

/// An object in memory whose parts are being shown.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) address: u64,
    pub(super) ty: TypeId,
    /// How a C program would name it.
    pub(super) expression: String,
}

/// Builds variables of one frame (or of none).
pub(super) struct Builder<'b, 'i, 'm> {
    pub(super) collector: &'b Collector<'i, 'm>,
    pub(super) frame: Option<&'b Physical<'b, 'i, 'm>>,
    module: usize,
    bytes: u64,
    nodes: usize,
    pub(super) open: Vec<Open>,
    /// The expression of the part being built.
    pub(super) expression: String,
}

impl<'b, 'i, 'm> Builder<'b, 'i, 'm> {
    pub(super) fn new(
        collector: &'b Collector<'i, 'm>,
        frame: Option<&'b Physical<'b, 'i, 'm>>,
        module: usize,
    ) -> Self {
        Self {
            collector,
            frame,
            module,
            bytes: collector.options.frame_bytes,
            nodes: LIMIT_NODES,
            open: Vec::new(),
            expression: String::new(),
        }
    }

    pub(super) fn types(&self) -> &'b Types<'i, 'm> {
        &self.collector.types
    }

    pub(super) fn memory(&self) -> &'i dyn Memory {
        self.collector.memory
    }

    pub(super) fn options(&self) -> &'b crate::values::Options {
        &self.collector.options
    }

    pub(super) fn arch(&self) -> Arch {
        let module = self.collector.types.info().module(self.module);
        let main = module.and_then(|m| m.main()).map(|f| f.arch());
        main.or_else(|| Some(module?.types()?.arch())).unwrap_or(Arch::Other)
    }

    /// Bytes of an address of the program.
    pub(super) fn address_size(&self) -> u8 {
        let module = self.collector.types.info().module(self.module);
        let main = module.and_then(|m| m.main()).map(|f| f.address_size());
        main.or_else(|| Some(module?.types()?.arch().pointer_size())).unwrap_or(8)
    }

    /// Takes `bytes` from the frame's budget.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), Missing> {
        if bytes > LIMIT_OBJECT {
            return Err(Missing::DebugInfo(format!("one value of {bytes} bytes")));
        }
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Missing::Limit("bytes of one frame"))?;
        Ok(())
    }

    /// Whether another part may be added.
    pub(super) const fn exhausted(&self) -> bool {
        self.nodes == 0 || self.bytes == 0
    }

    /// The variable at a DIE.
    pub(super) fn variable_of(&mut self, found: &Found) -> Variable {
        let Some(dwarf) = self.collector.dwarf(self.module) else { return Variable::default() };
        let name = die::name(dwarf, found.at).map_or_else(String::new, |n| n.to_string());
        let line = die::inherited(dwarf, found.at, gimli::DW_AT_decl_line)
            .and_then(|(_, v)| die::constant(&v))
            .and_then(|v| u64::try_from(v).ok());
        let mut variable = Variable { kind: found.kind, line, ..Variable::default() };
        self.expression.clone_from(&name);
        variable.name = name;
        let ty = die::type_of(dwarf, found.at).map(|at| TypeId { module: self.module, at });
        variable.type_name = self.types().name(ty).to_string();
        if ty.is_none() {
            absent(&mut variable, &Missing::DebugInfo("the variable has no type".into()));
            return variable;
        }
        match self.place_of(found.at, ty) {
            Ok(place) => self.fill(&mut variable, ty, &place, None, Level::default()),
            Err(why) => absent(&mut variable, &why),
        }
        variable
    }

    /// A variable of which the type and the place are known without a DIE.
    pub(super) fn stated(&mut self, name: &str, kind: VariableKind, ty: Option<TypeId>, place: &Place) -> Variable {
        let mut variable = Variable { kind, name: name.to_owned(), ..Variable::default() };
        name.clone_into(&mut self.expression);
        self.fill(&mut variable, ty, place, None, Level::default());
        variable
    }

    /// Where the variable at a DIE lies.
    pub(super) fn place_of(&self, at: Scope, ty: Option<TypeId>) -> Result<Place, Missing> {
        let nothing = || Missing::DebugInfo("the variable's DIE cannot be read".into());
        let dwarf = self.collector.dwarf(self.module).ok_or_else(nothing)?;
        if let Some((from, value)) = die::inherited(dwarf, at, gimli::DW_AT_location) {
            let unit = dwarf.unit(from.unit).ok_or_else(nothing)?;
            let none = NoFrame { collector: self.collector, module: self.module };
            let frame: &dyn Frame<'m> = match self.frame {
                Some(frame) => frame,
                None => &none,
            };
            let expression = eval::find(unit, value, self.frame.map(Physical::pc))?;
            return Context { dwarf, unit, frame }.evaluate(expression, None, 0);
        }
        let Some((from, value)) = die::inherited(dwarf, at, gimli::DW_AT_const_value) else {
            return Err(Missing::OptimisedOut);
        };
        let size = self.types().size(ty).unwrap_or(16).min(16).to_usize();
        let bytes = match &value {
            AttributeValue::Block(block) => block.slice().to_vec(),
            AttributeValue::Exprloc(block) => block.0.slice().to_vec(),
            other => match die::constant(other) {
                Some(number) => number.to_le_bytes().get(..size).unwrap_or_default().to_vec(),
                None => {
                    let unit = dwarf.unit(from.unit).ok_or_else(nothing)?;
                    let text = unit.reader().attr_string(value).map_err(|e| Missing::DebugInfo(e.to_string()))?;
                    let mut bytes = text.slice().to_vec();
                    bytes.push(0);
                    bytes
                }
            },
        };
        Ok(eval::constant_place(&bytes))
    }

    /// A part of what is being built; `step` is how a C program would get to it.
    pub(super) fn part(
        &mut self,
        name: impl Into<String>,
        step: &str,
        ty: Option<TypeId>,
        place: &Place,
        bits: Option<(u64, u64)>,
        level: Level,
    ) -> Variable {
        let mut variable = Variable { name: name.into(), kind: VariableKind::Member, ..Variable::default() };
        let length = self.expression.len();
        if step == "*" {
            self.expression = format!("(*{})", self.expression);
            self.fill(&mut variable, ty, place, bits, level);
            let inner = self.expression.get(2..self.expression.len().saturating_sub(1)).map(str::to_owned);
            self.expression = inner.unwrap_or_default();
        } else {
            self.expression.push_str(step);
            self.fill(&mut variable, ty, place, bits, level);
        }
        self.expression.truncate(length);
        variable
    }

    /// Reads the value of type `ty` at `place` into `into`; `bits` is (start, count) of a bit field.
    pub(super) fn fill(
        &mut self,
        into: &mut Variable,
        ty: Option<TypeId>,
        place: &Place,
        bits: Option<(u64, u64)>,
        level: Level,
    ) {
        into.type_name = self.types().name(ty).to_string();
        into.address = if bits.is_some() { None } else { place.address() };
        self.nodes = self.nodes.saturating_sub(1);
        if let Err(why) = self.value(into, ty, place, bits, level) {
            into.truncated |= matches!(why, Missing::Limit(_));
            absent(into, &why);
        }
    }

    fn value(
        &mut self,
        into: &mut Variable,
        id: Option<TypeId>,
        place: &Place,
        bits: Option<(u64, u64)>,
        level: Level,
    ) -> Result<(), Missing> {
        let types = self.types();
        let Some(ty) = types.resolved(id) else {
            return Err(Missing::DebugInfo("a value of type void".into()));
        };
        if self.exhausted() {
            return Err(Missing::Limit("parts of one frame"));
        }
        match &ty.kind {
            Kind::Base { encoding } => {
                let sort = Sort::of(ty, *encoding, &self.typedefs(id));
                self.base(into, ty, sort, place, bits)
            }
            Kind::Enumeration(e) => self.enumeration(into, ty, e, place, bits),
            Kind::Pointer { target, sort } => self.pointer(into, ty, *target, *sort, place, level),
            Kind::MemberPointer { target, class } => self.member_pointer(into, *target, *class, place),
            Kind::Array { element, dimensions, .. } => self.array(into, *element, dimensions, place, level),
            Kind::Structure(_) if ty.declaration => {
                into.absent = Some("incomplete-type".into());
                into.why = Some(format!("`{}` is declared and nowhere defined", into.type_name));
                Ok(())
            }
            Kind::Structure(s) => self.structure(into, ty, s, place, level),
            Kind::Unspecified => {
                let size = ty.size.unwrap_or(8).min(8);
                self.spend(size)?;
                let raw = place.read_bits(self.memory(), 0, size.saturating_mul(8))?;
                into.value = Value::Pointer(u64::try_from(raw).unwrap_or(u64::MAX));
                Ok(())
            }
            Kind::Function { .. } => {
                into.value = match into.address {
                    Some(address) => Value::Text(self.code_pointer(address)),
                    None => Value::None,
                };
                Ok(())
            }
            Kind::Unknown(why) => Err(Missing::DebugInfo(format!("type: {why}"))),
            Kind::Typedef { .. } | Kind::Qualified { .. } => {
                Err(Missing::DebugInfo("type: names of names without end".into()))
            }
        }
    }

    /// How many elements a dimension has, here and now.
    pub(super) fn count(&self, ty: Option<TypeId>, count: Count) -> Result<Option<u64>, Missing> {
        let (at, is_count, lower) = match count {
            Count::Known(n) => return Ok(Some(n)),
            Count::Unknown => return Ok(None),
            Count::Dynamic { at, is_count, lower } => (at, is_count, lower),
        };
        let name = if is_count { gimli::DW_AT_count } else { gimli::DW_AT_upper_bound };
        let nothing = || Missing::DebugInfo("the array's bound cannot be read".into());
        let module = ty.map_or(self.module, |t| t.module);
        let dwarf = self.collector.dwarf(module).ok_or_else(nothing)?;
        let unit = dwarf.unit(at.unit).ok_or_else(nothing)?;
        let entry = unit.unit.entry(at.die).map_err(|e| Missing::DebugInfo(e.to_string()))?;
        let value = entry.attr_value(name).ok_or_else(nothing)?;
        let bound = if let Some(variable) = dwarf.follow(at.unit, value) {
            let ty = die::type_of(dwarf, variable).map(|at| TypeId { module, at });
            let size = self.types().size(ty).unwrap_or(8).min(8);
            let place = self.place_of(variable, ty)?;
            let raw = place.read_bits(self.memory(), 0, size.saturating_mul(8))?;
            super::scalar::sign_extended(raw, size.saturating_mul(8))
        } else {
            let frame = self.frame.ok_or(Missing::OptimisedOut)?;
            let expression = eval::find(unit, value, Some(frame.pc()))?;
            let number = Context { dwarf, unit, frame }.number(expression, None, 0)?;
            i128::from(number.cast_signed())
        };
        let count = if is_count { bound } else { bound.saturating_sub(i128::from(lower)).saturating_add(1) };
        Ok(Some(u64::try_from(count.max(0)).unwrap_or(u64::MAX)))
    }

    /// Size in bytes, also where it is only known at run time.
    pub(super) fn size(&self, ty: Option<TypeId>) -> Result<u64, Missing> {
        if let Some(size) = self.types().size(ty) {
            return Ok(size);
        }
        let unknown = || Missing::DebugInfo("a type without size".into());
        let Some(Type { kind: Kind::Array { element, dimensions, .. }, .. }) = self.types().resolved(ty) else {
            return Err(unknown());
        };
        let mut size = self.types().size(*element).ok_or_else(unknown)?;
        for dimension in dimensions {
            let count = self.count(ty, dimension.count)?.ok_or_else(unknown)?;
            size = size.checked_mul(count).ok_or_else(unknown)?;
        }
        Ok(size)
    }

    /// Where a member lies in the object at `place`.
    pub(super) fn member_place(
        &self,
        place: &Place,
        member: &debuginfo::types::Member,
        module: usize,
    ) -> Result<(Place, Option<(u64, u64)>), Missing> {
        match member.position {
            Position::Byte(offset) => Ok((place.at(offset), None)),
            Position::Bits { start, size } => {
                // As bytes as far as possible, so that large structures keep small bit numbers.
                let bytes = start / 8;
                Ok((place.at(bytes), Some((start % 8, size))))
            }
            Position::Expression => {
                let nothing = || Missing::DebugInfo("the member's location cannot be read".into());
                let address = place.address().ok_or(Missing::OptimisedOut)?;
                let dwarf = self.collector.dwarf(module).ok_or_else(nothing)?;
                let unit = dwarf.unit(member.at.unit).ok_or_else(nothing)?;
                let entry = unit.unit.entry(member.at.die).map_err(|e| Missing::DebugInfo(e.to_string()))?;
                let value = entry.attr_value(gimli::DW_AT_data_member_location).ok_or_else(nothing)?;
                let none = NoFrame { collector: self.collector, module };
                let frame: &dyn Frame<'m> = match self.frame {
                    Some(frame) if module == self.module => frame,
                    _ => &none,
                };
                let expression = eval::find(unit, value, self.frame.map(Physical::pc))?;
                let at = Context { dwarf, unit, frame }.number(expression, Some(address), 0)?;
                Ok((Place::Memory(at), None))
            }
            Position::None => Err(Missing::DebugInfo("the member has no place".into())),
        }
    }
}

/// Marks a value as absent for a reason.
pub(super) fn absent(into: &mut Variable, why: &Missing) {
    into.value = Value::None;
    into.absent = Some(why.word().into());
    into.why = Some(why.to_string());
}
