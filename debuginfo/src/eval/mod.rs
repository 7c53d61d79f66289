//! DWARF expressions: from a location attribute to a [`Place`] whose bytes can be read.
//!
//! Input: an expression, the unit it stands in, and a [`Frame`] that answers what only a stopped program knows. Output:
//! where a value lies, piece by piece, or why it cannot be known ([`Missing`]). It knows nothing of types beyond the
//! base types that expressions themselves name.

mod location;
mod missing;
mod place;

use crate::Slice;
use crate::dwarf::{Dwarf, Scope, Unit};
use evidence::{Addr, Memory, Register, ToU64, ToUsize};
use gimli::{DieReference, EvaluationResult, Expression, Location, Value, ValueType};
use std::sync::Arc;

pub use location::{find, live};
pub use missing::Missing;
pub use place::{Piece, Place, Source};

/// Most operations of one expression. Compilers write some dozens; loops exist in theory only.
pub const LIMIT_OPERATIONS: u32 = 10_000;

/// Deepest nesting of expressions that need others: a frame base, then entry values of one caller after another.
pub const LIMIT_NESTING: usize = 24;

/// Most pieces of one value. An object of four cache lines in byte pieces has 256.
pub const LIMIT_PIECES: usize = 4096;

/// What an entry value is asked for.
#[derive(Clone, Copy, Debug)]
pub enum EntryOf<'m> {
    /// The value that a location (a register, as a rule) had on entry to the function.
    Expression(Expression<Slice<'m>>),
    /// The value passed for a parameter, by its DIE in the callee.
    Parameter(Scope),
}

/// What an expression asks of the frame it is evaluated in. `depth` counts nested expressions.
pub trait Frame<'m> {
    /// The target's memory.
    fn memory(&self) -> &dyn Memory;
    /// A general register.
    fn register(&self, register: Register) -> Option<u64>;
    /// A vector register.
    fn vector(&self, register: Register) -> Option<&[u8]>;
    /// Runtime address minus SVMA of the frame's module.
    fn slide(&self) -> u64;
    /// The canonical frame address.
    ///
    /// # Errors
    /// It is not known.
    fn cfa(&self) -> Result<u64, Missing>;
    /// The value of the function's `DW_AT_frame_base`.
    ///
    /// # Errors
    /// There is none, or what it needs is missing.
    fn frame_base(&self, depth: usize) -> Result<u64, Missing>;
    /// What something was on entry to the function, as its caller's call site tells.
    ///
    /// # Errors
    /// The caller does not tell.
    fn entry_value(&self, of: EntryOf<'m>, depth: usize) -> Result<u64, Missing>;
    /// The address of thread-local storage at `offset` of the frame's module.
    ///
    /// # Errors
    /// It cannot be found.
    fn tls(&self, offset: u64) -> Result<u64, Missing>;
}

/// The unit an expression stands in, and the frame it is evaluated in.
#[derive(Clone, Copy)]
pub struct Context<'c, 'm> {
    /// The module's DWARF.
    pub dwarf: &'c Dwarf<'m>,
    /// The unit.
    pub unit: &'c Unit<'m>,
    /// The frame.
    pub frame: &'c dyn Frame<'m>,
}

fn damaged(e: gimli::Error) -> Missing {
    Missing::DebugInfo(format!("expression: {e}"))
}

impl<'m> Context<'_, 'm> {
    /// Evaluates `expression`, with `initial` on the stack if given (member locations).
    ///
    /// # Errors
    /// Why the place cannot be known. A place of which only parts are unknown is no error.
    pub fn evaluate(
        &self,
        expression: Expression<Slice<'m>>,
        initial: Option<u64>,
        depth: usize,
    ) -> Result<Place, Missing> {
        if expression.0.is_empty() {
            return Err(Missing::OptimisedOut);
        }
        let result = self.run(expression, initial, depth)?;
        if result.is_empty() {
            return Err(Missing::OptimisedOut);
        }
        if result.len() > LIMIT_PIECES {
            return Err(Missing::Limit("pieces of one value"));
        }
        let mut pieces = Vec::with_capacity(result.len());
        for piece in &result {
            let source = self.source(&piece.location);
            if let ([_], Location::Address { address }) = (result.as_slice(), &piece.location)
                && piece.size_in_bits.is_none()
            {
                return Ok(Place::Memory(*address));
            }
            if let ([_], Source::Missing(why), None) = (result.as_slice(), &source, piece.size_in_bits) {
                return Err(why.clone());
            }
            pieces.push(Piece {
                bits: piece.size_in_bits.unwrap_or(u64::MAX),
                skip: piece.bit_offset.unwrap_or(0),
                source,
            });
        }
        Ok(Place::Pieces { list: Arc::from(pieces), start: 0 })
    }

    /// Evaluates an expression that stands for a number or an address.
    ///
    /// # Errors
    /// As [`Context::evaluate`].
    pub fn number(
        &self,
        expression: Expression<Slice<'m>>,
        initial: Option<u64>,
        depth: usize,
    ) -> Result<u64, Missing> {
        match self.evaluate(expression, initial, depth)? {
            Place::Memory(address) => Ok(address),
            place @ Place::Pieces { .. } => {
                let size = u64::from(self.unit.unit.header.address_size());
                place.read_bits(self.frame.memory(), 0, size.saturating_mul(8)).and_then(|v| {
                    u64::try_from(v).map_err(|_| Missing::DebugInfo("expression: a number of more than 64 bits".into()))
                })
            }
        }
    }

    fn source(&self, location: &Location<Slice<'m>>) -> Source {
        match location {
            Location::Empty => Source::Missing(Missing::OptimisedOut),
            Location::Address { address } => Source::Memory(*address),
            Location::Register { register } => match self.register_bytes(Register(register.0)) {
                Some(bytes) => Source::Bytes(bytes),
                None => Source::Missing(Missing::Register(Register(register.0))),
            },
            Location::Value { value } => Source::Bytes(value_bytes(*value)),
            Location::Bytes { value } => Source::Bytes(Arc::from(value.slice())),
            Location::ImplicitPointer { value, byte_offset } => {
                let at = gimli::AttributeValue::DebugInfoRef(*value);
                match self.dwarf.follow(self.unit.id, at) {
                    Some(at) => Source::ImplicitPointer { at, offset: *byte_offset },
                    None => Source::Missing(Missing::DebugInfo("an implicit pointer to no DIE".into())),
                }
            }
        }
    }

    fn register_bytes(&self, register: Register) -> Option<Arc<[u8]>> {
        match self.frame.register(register) {
            Some(value) => Some(Arc::from(value.to_le_bytes())),
            None => self.frame.vector(register).map(Arc::from),
        }
    }

    fn run(
        &self,
        expression: Expression<Slice<'m>>,
        initial: Option<u64>,
        depth: usize,
    ) -> Result<Vec<gimli::Piece<Slice<'m>>>, Missing> {
        if depth > LIMIT_NESTING {
            return Err(Missing::Limit("nested expressions"));
        }
        let depth = depth.saturating_add(1);
        let frame = self.frame;
        let narrow = self.unit.unit.encoding();
        let encoding = widened(&expression, narrow);
        let mask = if narrow.address_size == 4 { u64::from(u32::MAX) } else { u64::MAX };
        let mut evaluation = expression.evaluation(encoding);
        evaluation.set_max_iterations(LIMIT_OPERATIONS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
            evaluation.set_object_address(initial);
        }
        let mut state = evaluation.evaluate().map_err(damaged)?;
        // Every request is one operation, so gimli's limit bounds this loop too; calls of other DIEs' expressions are
        // operations as well, but the number of their bytes is not bounded by it.
        for _ in 0..LIMIT_OPERATIONS {
            state = match state {
                EvaluationResult::Complete => return Ok(evaluation.result()),
                EvaluationResult::RequiresMemory { address, size, space, base_type } => {
                    if space.is_some() {
                        return Err(Missing::DebugInfo("expression: an address space other than 0".into()));
                    }
                    let mut raw = [0; 16];
                    let Some(raw) = raw.get_mut(..usize::from(size)) else {
                        return Err(Missing::DebugInfo(format!("expression: a read of {size} bytes")));
                    };
                    frame.memory().read_exact(Addr(address & mask), raw).map_err(Missing::Memory)?;
                    evaluation.resume_with_memory(self.typed(base_type, raw)?)
                }
                EvaluationResult::RequiresRegister { register, base_type } => {
                    let register = Register(register.0);
                    let bytes = self.register_bytes(register).ok_or(Missing::Register(register))?;
                    evaluation.resume_with_register(self.typed(base_type, &bytes)?)
                }
                EvaluationResult::RequiresFrameBase => evaluation.resume_with_frame_base(frame.frame_base(depth)?),
                EvaluationResult::RequiresTls(offset) => evaluation.resume_with_tls(frame.tls(offset)?),
                EvaluationResult::RequiresCallFrameCfa => evaluation.resume_with_call_frame_cfa(frame.cfa()?),
                EvaluationResult::RequiresAtLocation(reference) => {
                    evaluation.resume_with_at_location(self.other_location(reference)?)
                }
                EvaluationResult::RequiresEntryValue(inner) => {
                    let value = frame.entry_value(EntryOf::Expression(inner), depth)?;
                    evaluation.resume_with_entry_value(Value::Generic(value))
                }
                EvaluationResult::RequiresParameterRef(die) => {
                    let parameter = Scope { unit: self.unit.id, die };
                    evaluation.resume_with_parameter_ref(frame.entry_value(EntryOf::Parameter(parameter), depth)?)
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(frame.slide()))
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let address = self.unit.reader().address(index).map_err(damaged)?;
                    let slide = if relocate { frame.slide() } else { 0 };
                    evaluation.resume_with_indexed_address(address.wrapping_add(slide))
                }
                EvaluationResult::RequiresBaseType(die) => evaluation.resume_with_base_type(self.value_type(die)?),
                EvaluationResult::RequiresWasmLocal { .. }
                | EvaluationResult::RequiresWasmGlobal { .. }
                | EvaluationResult::RequiresWasmStack { .. } => {
                    return Err(Missing::DebugInfo("expression: a WebAssembly location".into()));
                }
            }
            .map_err(damaged)?;
        }
        Err(Missing::Limit("operations of one expression"))
    }

    /// The location expression of another DIE (`DW_OP_call2` and its kin).
    fn other_location(&self, reference: DieReference) -> Result<Slice<'m>, Missing> {
        let at = match reference {
            DieReference::UnitRef(die) => Some(Scope { unit: self.unit.id, die }),
            DieReference::DebugInfoRef(offset) => {
                self.dwarf.follow(self.unit.id, gimli::AttributeValue::DebugInfoRef(offset))
            }
        };
        let expression = at.and_then(|at| {
            let unit = self.dwarf.unit(at.unit)?;
            let entry = unit.unit.entry(at.die).ok()?;
            entry.attr_value(gimli::DW_AT_location)?.exprloc_value()
        });
        expression.map(|e| e.0).ok_or_else(|| Missing::DebugInfo("expression: a call of a DIE without location".into()))
    }

    fn value_type(&self, die: gimli::UnitOffset) -> Result<ValueType, Missing> {
        if die.0 == 0 {
            return Ok(ValueType::Generic);
        }
        let entry = self.unit.unit.entry(die).map_err(damaged)?;
        ValueType::from_entry(&entry)
            .map_err(damaged)?
            .ok_or_else(|| Missing::DebugInfo("expression: an operand of a type that is no number".into()))
    }

    /// The first bytes of `raw` as a value of the base type at `die` (0: the generic type).
    fn typed(&self, die: gimli::UnitOffset, raw: &[u8]) -> Result<Value, Missing> {
        let value_type = self.value_type(die)?;
        let size = value_type.bit_size(u64::MAX).div_ceil(8).to_usize();
        let mut wide = [0; 16];
        let n = raw.len().min(wide.len());
        if let (Some(to), Some(from)) = (wide.get_mut(..n), raw.get(..n)) {
            to.copy_from_slice(from);
        }
        // A read of fewer bytes than the generic type has is zero-extended; a register that is too short is no value.
        if value_type != ValueType::Generic && size > raw.len() {
            return Err(Missing::DebugInfo(format!("expression: {size} bytes wanted of {}", raw.len())));
        }
        if value_type == ValueType::Generic {
            let value = evidence::bytes::u64_at(&wide, 0, evidence::bytes::Endian::Little).unwrap_or(0);
            return Ok(Value::Generic(value));
        }
        let endian = gimli::RunTimeEndian::Little;
        let bytes = wide.get(..size).unwrap_or(&wide);
        Value::parse(value_type, gimli::EndianSlice::new(bytes, endian)).map_err(damaged)
    }
}

/// The encoding to evaluate with. Compilers for 32-bit machines write `DW_OP_deref_type 8` for a `double` in memory (seen
/// with gcc 12 -m32 -O2), which the evaluator takes for a mistake, because no address has 8 bytes. Where no operation
/// depends on how large an address is, it may be 8 bytes large.
fn widened(expression: &Expression<Slice<'_>>, encoding: gimli::Encoding) -> gimli::Encoding {
    let mut operations = expression.operations(encoding);
    let mut wide = false;
    while let Ok(Some(operation)) = operations.next() {
        match operation {
            gimli::Operation::Deref { size, base_type, .. } if size > encoding.address_size && base_type.0 != 0 => {
                wide = true;
            }
            gimli::Operation::Deref { size, base_type, .. } if size == encoding.address_size && base_type.0 == 0 => {
                return encoding;
            }
            gimli::Operation::Address { .. } | gimli::Operation::ImplicitPointer { .. } => return encoding,
            _ => {}
        }
    }
    if wide { gimli::Encoding { address_size: 8, ..encoding } } else { encoding }
}

fn value_bytes(value: Value) -> Arc<[u8]> {
    match value {
        Value::Generic(v) | Value::U64(v) => Arc::from(v.to_le_bytes()),
        Value::I8(v) => Arc::from(v.to_le_bytes()),
        Value::U8(v) => Arc::from(v.to_le_bytes()),
        Value::I16(v) => Arc::from(v.to_le_bytes()),
        Value::U16(v) => Arc::from(v.to_le_bytes()),
        Value::I32(v) => Arc::from(v.to_le_bytes()),
        Value::U32(v) => Arc::from(v.to_le_bytes()),
        Value::I64(v) => Arc::from(v.to_le_bytes()),
        Value::F32(v) => Arc::from(v.to_le_bytes()),
        Value::F64(v) => Arc::from(v.to_le_bytes()),
    }
}

/// The place of a constant that the debug information itself holds.
#[must_use]
pub fn constant_place(bytes: &[u8]) -> Place {
    let whole =
        Piece { bits: bytes.len().to_u64().saturating_mul(8), skip: 0, source: Source::Bytes(Arc::from(bytes)) };
    Place::Pieces { list: Arc::from([whole]), start: 0 }
}
