//! `STACK CFI` records out of rows of call frame information.

use super::super::cfi::UNDEFINED;
use crate::Slice;
use crate::cfi::{Cfa, Cfi, Row, Rule};
use evidence::{Arch, Register, register_name};
use std::io::{self, Write};

/// (register, expression) for a row, `.cfa` and `.ra` first.
type Rules = Vec<(String, String)>;

/// Writes all rows; gives the numbers of records, and of rows that cannot be expressed.
pub(super) fn write(table: &Cfi<'_>, arch: Arch, base: u64, out: &mut dyn Write) -> io::Result<(u64, u64)> {
    let mut rows: Vec<(u64, u64, u64, Option<Rules>)> = Vec::new();
    table.each_row(&mut |row| rows.push((row.function.0, row.range.start.0, row.range.end.0, rules(&row, arch))));
    rows.retain(|(_, start, end, _)| start < end);
    rows.sort_by_key(|(function, start, ..)| (*function, *start));
    let inexpressible = rows.iter().filter(|(.., rules)| rules.is_none()).count();
    let mut records = 0_u64;
    let same = |a: &(u64, u64, u64, Option<Rules>), b: &(u64, u64, u64, Option<Rules>)| {
        a.0 == b.0 && a.2 == b.1 && a.3.is_some() == b.3.is_some()
    };
    for group in rows.chunk_by(same) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let mut before: Option<&Rules> = None;
        for (_, start, _, rules) in group {
            let Some(rules) = rules else { continue };
            let address = start.wrapping_sub(base);
            let text = match before {
                None => format!("STACK CFI INIT {address:x} {:x}{}", last.2.saturating_sub(first.1), all(rules)),
                Some(before) => match changes(before, rules) {
                    text if text.is_empty() => continue,
                    text => format!("STACK CFI {address:x}{text}"),
                },
            };
            writeln!(out, "{text}")?;
            records = records.saturating_add(1);
            before = Some(rules);
        }
    }
    Ok((records, evidence::ToU64::to_u64(inexpressible)))
}

fn all(rules: &Rules) -> String {
    rules.iter().map(|(register, rule)| format!(" {register}: {rule}")).collect()
}

/// What differs. A register that has no rule any more has its own value again.
fn changes(before: &Rules, now: &Rules) -> String {
    let new = now.iter().filter(|rule| !before.contains(rule));
    let mut text: String = new.map(|(register, rule)| format!(" {register}: {rule}")).collect();
    for (register, _) in before {
        if !now.iter().any(|(r, _)| r == register) {
            text.push_str(&format!(" {register}: {register}"));
        }
    }
    text
}

/// A register as symbol files name it.
fn name(arch: Arch, register: Register) -> Option<String> {
    let name = register_name(arch, register)?;
    Some(if matches!(arch, Arch::X86 | Arch::X86_64) { format!("${name}") } else { name.to_owned() })
}

/// The rules of a row; `None` when its frame address or return address cannot be expressed.
fn rules(row: &Row<'_>, arch: Arch) -> Option<Rules> {
    let cfa = match &row.cfa {
        Cfa::Offset(base, offset) => format!("{} {offset} +", name(arch, *base)?),
        Cfa::Expression(code) => translate(*code, row.encoding, arch, None)?,
    };
    let mut rules = vec![(".cfa".to_owned(), cfa)];
    let expression = |rule: &Rule<'_>, own: String| {
        Some(match rule {
            Rule::Undefined => UNDEFINED.to_owned(),
            Rule::SameValue => own,
            Rule::Offset(n) => format!(".cfa {n} + ^"),
            Rule::ValOffset(n) => format!(".cfa {n} +"),
            Rule::Register(other) => name(arch, *other)?,
            Rule::Expression(code) => format!("{} ^", translate(*code, row.encoding, arch, Some(".cfa"))?),
            Rule::ValExpression(code) => translate(*code, row.encoding, arch, Some(".cfa"))?,
            Rule::Constant(n) => n.to_string(),
        })
    };
    let own = name(arch, row.return_address)?;
    let ra = match row.rule(row.return_address) {
        Some(rule) => expression(rule, own)?,
        // A leaf that left the link register alone; elsewhere there is no return address without a rule.
        None if matches!(arch, Arch::Aarch64 | Arch::Arm) => own,
        None => return None,
    };
    rules.push((".ra".to_owned(), ra));
    for (register, rule) in row.rules.iter().filter(|(r, _)| *r != row.return_address) {
        let Some(own) = name(arch, *register) else { continue };
        // What cannot be expressed is not known: that is said, since no rule would mean that it is preserved.
        let text = expression(rule, own.clone()).unwrap_or_else(|| UNDEFINED.to_owned());
        rules.push((own, text));
    }
    Some(rules)
}

/// A value on the stack of an expression.
enum Term {
    Number(u64),
    /// Any value.
    Any(String),
    /// A value between 0 and the mask.
    Masked(String, u64),
}

impl Term {
    fn text(self) -> String {
        match self {
            // As signed: offsets are mostly small negative numbers.
            Self::Number(n) => n.cast_signed().to_string(),
            Self::Any(text) | Self::Masked(text, _) => text,
        }
    }
}

/// A DWARF expression in postfix words; `None` when there is none. Masks and comparisons are those of procedure linkage
/// tables (`(rip & 15) >= 11`), which division can say.
fn translate(code: Slice<'_>, encoding: gimli::Encoding, arch: Arch, first: Option<&str>) -> Option<String> {
    use gimli::Operation as Op;
    let mut stack: Vec<Term> = first.map(|f| Term::Any(f.to_owned())).into_iter().collect();
    let mut operations = gimli::Expression(code).operations(encoding);
    while let Some(operation) = operations.next().ok()? {
        let term = match operation {
            Op::RegisterOffset { register, offset, base_type } if base_type.0 == 0 => {
                Term::Any(format!("{} {offset} +", name(arch, Register(register.0))?))
            }
            Op::UnsignedConstant { value } => Term::Number(value),
            Op::SignedConstant { value } => Term::Number(value.cast_unsigned()),
            Op::PlusConstant { value } => Term::Any(format!("{} {value} +", stack.pop()?.text())),
            Op::Deref { size, space: false, .. } if size == encoding.address_size => {
                Term::Any(format!("{} ^", stack.pop()?.text()))
            }
            Op::Nop => continue,
            Op::Plus | Op::Minus | Op::Mul | Op::And | Op::Ge | Op::Shl => {
                let (second, first) = (stack.pop()?, stack.pop()?);
                match (operation, first, second) {
                    (Op::Plus, a, b) => Term::Any(format!("{} {} +", a.text(), b.text())),
                    (Op::Minus, a, b) => Term::Any(format!("{} {} -", a.text(), b.text())),
                    (Op::Mul, a, b) => Term::Any(format!("{} {} *", a.text(), b.text())),
                    (Op::And, a, Term::Number(mask)) if mask.checked_add(1)?.is_power_of_two() => {
                        Term::Masked(format!("{} {} %", a.text(), mask.checked_add(1)?), mask)
                    }
                    (Op::Ge, Term::Masked(text, mask), Term::Number(n)) if mask.checked_div(n)? <= 1 => {
                        Term::Masked(format!("{text} {n} /"), 1)
                    }
                    (Op::Shl, a, Term::Number(n)) => {
                        let factor = 1_u64.checked_shl(u32::try_from(n).ok()?)?;
                        Term::Any(format!("{} {factor} *", a.text()))
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        stack.push(term);
    }
    match (stack.pop(), first.is_some()) {
        (Some(last), true) if stack.len() <= 1 => Some(last.text()),
        (Some(last), false) if stack.is_empty() => Some(last.text()),
        _ => None,
    }
}
