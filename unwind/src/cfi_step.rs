//! One step outwards by call frame information.

use crate::abi;
use crate::expression::evaluate;
use crate::walk::Walker;
use debuginfo::cfi::{Cfa, Row, Rule};
use evidence::{Addr, Register, Registers};

/// What the rules give.
pub(crate) struct Caller {
    pub registers: Registers,
    pub cfa: Addr,
    /// `None`: the rules say that this is the outermost function.
    pub return_address: Option<Addr>,
}

/// The canonical frame address of a frame.
pub(crate) fn cfa(row: &Row<'_>, registers: &Registers, walker: &Walker<'_, '_>) -> Result<Addr, String> {
    let value = match &row.cfa {
        Cfa::Offset(base, offset) => {
            let base = registers.get(*base).ok_or_else(|| {
                let name = evidence::register_name(registers.arch, *base).unwrap_or("?");
                format!("the CFA is relative to {name}, which is not known")
            })?;
            base.wrapping_add(offset.cast_unsigned())
        }
        Cfa::Expression(code) => evaluate(*code, row.encoding, None, registers, walker.memory, walker.endian)?,
    };
    Ok(Addr(abi::wrap(registers.arch, value)))
}

/// Applies a row's rules.
pub(crate) fn step(row: &Row<'_>, registers: &Registers, walker: &Walker<'_, '_>) -> Result<Caller, String> {
    let arch = registers.arch;
    let cfa = cfa(row, registers, walker)?;
    let mut outer = Registers::new(arch);
    for (register, value) in registers.iter() {
        if abi::is_preserved(arch, register) || (row.signal_frame && abi::is_thread_state(arch, register)) {
            outer.set(register, value);
        }
    }
    outer.set(Registers::sp_register(arch), cfa.0);
    for (register, rule) in &row.rules {
        match apply(rule, *register, row, cfa, registers, walker) {
            Ok(Some(value)) => outer.set(*register, abi::wrap(arch, value)),
            Ok(None) => outer.forget(*register),
            // The return address is needed; any other register is just not known.
            Err(why) if *register == row.return_address => return Err(why),
            Err(_) => outer.forget(*register),
        }
    }
    let return_address = match row.rule(row.return_address) {
        Some(Rule::Undefined) => None,
        Some(_) => outer.get(row.return_address),
        // A leaf that left the link register alone.
        None if abi::link_register(arch) == Some(row.return_address) => registers.get(row.return_address),
        None => return Err("its call frame information has no rule for the return address".into()),
    };
    let mut return_address = return_address.map(Addr);
    if let (Some(at), Some(Rule::Constant(1))) = (&mut return_address, row.rule(abi::RA_SIGN_STATE)) {
        *at = abi::strip_signature(arch, *at, walker.address_mask);
    }
    // A known rule that gives no value is a failure, not the end.
    if return_address.is_none() && !matches!(row.rule(row.return_address), Some(Rule::Undefined)) {
        return Err("its return address cannot be recovered".into());
    }
    if arch == evidence::Arch::Aarch64 {
        outer.forget(abi::RA_SIGN_STATE);
        if let (Some(link), Some(at)) = (abi::link_register(arch), return_address)
            && !row.signal_frame
        {
            outer.set(link, at.0);
        }
    }
    if let Some(at) = return_address {
        outer.set(Registers::pc_register(arch), at.0);
    }
    Ok(Caller { registers: outer, cfa, return_address })
}

fn apply(
    rule: &Rule<'_>,
    register: Register,
    row: &Row<'_>,
    cfa: Addr,
    registers: &Registers,
    walker: &Walker<'_, '_>,
) -> Result<Option<u64>, String> {
    let read = |at: Addr| {
        let at = Addr(abi::wrap(registers.arch, at.0));
        walker.read_pointer(at).map_err(|e| format!("the saved register at {at}: {}", e.why))
    };
    let run = |code| evaluate(code, row.encoding, Some(cfa.0), registers, walker.memory, walker.endian);
    Ok(match rule {
        Rule::Undefined => None,
        Rule::SameValue => registers.get(register),
        Rule::Offset(n) => Some(read(cfa.wrapping_add(n.cast_unsigned()))?),
        Rule::ValOffset(n) => Some(cfa.0.wrapping_add(n.cast_unsigned())),
        Rule::Register(other) => registers.get(*other),
        Rule::Expression(code) => Some(read(Addr(run(*code)?))?),
        Rule::ValExpression(code) => Some(run(*code)?),
        Rule::Constant(n) => Some(*n),
    })
}
