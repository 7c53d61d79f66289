//! One row: the rules that hold for a range of addresses.

use super::register;
use crate::Slice;
use evidence::{Register, Svma};
use gimli::{BaseAddresses, CfaRule, FrameDescriptionEntry, RegisterRule, UnwindContext, UnwindSection};
use std::ops::Range;

/// How the canonical frame address is computed.
#[derive(Clone, Debug)]
pub enum Cfa<'m> {
    /// A register plus an offset.
    Offset(Register, i64),
    /// The value of a DWARF expression.
    Expression(Slice<'m>),
}

/// How a register of the caller is recovered (DWARF 5, section 6.4.1).
#[derive(Clone, Debug)]
pub enum Rule<'m> {
    /// It cannot be recovered.
    Undefined,
    /// It still has its value.
    SameValue,
    /// It was saved at CFA + n.
    Offset(i64),
    /// It is CFA + n.
    ValOffset(i64),
    /// It is in another register.
    Register(Register),
    /// It was saved at the address that the expression gives; the CFA is on its stack.
    Expression(Slice<'m>),
    /// It is what the expression gives; the CFA is on its stack.
    ValExpression(Slice<'m>),
    /// It is this number (AArch64's RA_SIGN_STATE).
    Constant(u64),
}

/// The rules for a range of addresses.
#[derive(Clone, Debug)]
pub struct Row<'m> {
    /// The addresses it holds for.
    pub range: Range<Svma>,
    /// The first address of the function (of its FDE).
    pub function: Svma,
    /// How to compute the CFA.
    pub cfa: Cfa<'m>,
    /// Rules by register; a register without a rule follows the ABI.
    pub rules: Box<[(Register, Rule<'m>)]>,
    /// The column of the return address.
    pub return_address: Register,
    /// The function is a signal trampoline: the caller was interrupted, not calling.
    pub signal_frame: bool,
    /// For evaluating its expressions.
    pub encoding: gimli::Encoding,
}

impl<'m> Row<'m> {
    /// The rule of a register, if there is one.
    #[must_use]
    pub fn rule(&self, register: Register) -> Option<&Rule<'m>> {
        self.rules.iter().find(|(r, _)| *r == register).map(|(_, rule)| rule)
    }
}

/// Runs the FDE's program up to `at`.
pub(super) fn row<'m, S: UnwindSection<Slice<'m>>>(
    section: &S,
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Slice<'m>>,
    at: Svma,
) -> gimli::Result<Row<'m>> {
    let mut context = UnwindContext::new();
    let found = fde.unwind_info_for_address(section, bases, &mut context, at.0)?;
    convert(section, fde, found)
}

/// All rows of an FDE, in order. What was read before damage is kept.
pub(super) fn all<'m, S: UnwindSection<Slice<'m>>>(
    section: &S,
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Slice<'m>>,
    with: &mut dyn FnMut(Row<'m>),
) {
    let mut context = UnwindContext::new();
    let Ok(mut table) = fde.rows(section, bases, &mut context) else { return };
    while let Ok(Some(found)) = table.next_row() {
        if let Ok(row) = convert(section, fde, found) {
            with(row);
        }
    }
}

fn convert<'m, S: UnwindSection<Slice<'m>>>(
    section: &S,
    fde: &FrameDescriptionEntry<Slice<'m>>,
    found: &gimli::UnwindTableRow<usize>,
) -> gimli::Result<Row<'m>> {
    let cfa = match found.cfa() {
        CfaRule::RegisterAndOffset { register: base, offset } => Cfa::Offset(register(*base), *offset),
        CfaRule::Expression(e) => Cfa::Expression(e.get(section)?.0),
    };
    let mut rules = Vec::new();
    for (number, rule) in found.registers() {
        let rule = match rule {
            RegisterRule::SameValue => Rule::SameValue,
            RegisterRule::Offset(n) => Rule::Offset(*n),
            RegisterRule::ValOffset(n) => Rule::ValOffset(*n),
            RegisterRule::Register(other) => Rule::Register(register(*other)),
            RegisterRule::Expression(e) => Rule::Expression(e.get(section)?.0),
            RegisterRule::ValExpression(e) => Rule::ValExpression(e.get(section)?.0),
            RegisterRule::Constant(n) => Rule::Constant(*n),
            _ => Rule::Undefined,
        };
        rules.push((register(*number), rule));
    }
    Ok(Row {
        range: Svma(found.start_address())..Svma(found.end_address()),
        function: Svma(fde.initial_address()),
        cfa,
        rules: rules.into(),
        return_address: register(fde.cie().return_address_register()),
        signal_frame: fde.is_signal_trampoline(),
        encoding: fde.cie().encoding(),
    })
}
