//! DWARF expressions in call frame information: they see registers, memory and the CFA, nothing else.

use debuginfo::Slice;
use evidence::bytes::Endian;
use evidence::{Addr, Memory, Register, Registers};
use gimli::{Encoding, Evaluation, EvaluationResult, Location, Value};

/// Most operations of one expression. The longest seen (glibc's signal trampolines, OpenSSL's assembler) have about
/// twenty; a loop that needs thousands is an attack.
const LIMIT_OPERATIONS: u32 = 10_000;
/// Most times one expression may ask for a register or for memory.
const LIMIT_QUESTIONS: u32 = 1_000;

/// Evaluates `code`; `initial` (the CFA) is pushed first where the rule says so.
pub(crate) fn evaluate(
    code: Slice<'_>,
    encoding: Encoding,
    initial: Option<u64>,
    registers: &Registers,
    memory: &dyn Memory,
    endian: Endian,
) -> Result<u64, String> {
    let mut evaluation = Evaluation::new(code, encoding);
    evaluation.set_max_iterations(LIMIT_OPERATIONS);
    if let Some(value) = initial {
        evaluation.set_initial_value(value);
    }
    let say = |e: gimli::Error| format!("DWARF expression: {e}");
    let mut result = evaluation.evaluate().map_err(say)?;
    for _ in 0..LIMIT_QUESTIONS {
        result = match result {
            EvaluationResult::Complete => {
                let pieces = evaluation.result();
                return match pieces.first().map(|p| &p.location) {
                    Some(Location::Address { address }) => Ok(*address),
                    Some(Location::Value { value }) => value.to_u64(u64::MAX).map_err(say),
                    _ => Err("DWARF expression: its result is no address".into()),
                };
            }
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let mut raw = [0; 8];
                let part = raw.get_mut(..usize::from(size)).ok_or("DWARF expression: reads more than 8 bytes")?;
                memory.read_exact(Addr(address), part).map_err(|e| format!("DWARF expression: {e}"))?;
                let value = match endian {
                    Endian::Little => u64::from_le_bytes(raw),
                    Endian::Big => u64::from_be_bytes(raw)
                        .checked_shr(u32::from(8_u8.saturating_sub(size)).saturating_mul(8))
                        .unwrap_or(0),
                };
                evaluation.resume_with_memory(Value::Generic(value)).map_err(say)?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers
                    .get(Register(register.0))
                    .ok_or_else(|| format!("DWARF expression: register {} is not known", register.0))?;
                evaluation.resume_with_register(Value::Generic(value)).map_err(say)?
            }
            EvaluationResult::RequiresCallFrameCfa if initial.is_some() => {
                evaluation.resume_with_call_frame_cfa(initial.unwrap_or(0)).map_err(say)?
            }
            other => return Err(format!("DWARF expression: asks for what an unwinder has not: {other:?}")),
        };
    }
    Err(format!("DWARF expression: more than {LIMIT_QUESTIONS} reads"))
}
