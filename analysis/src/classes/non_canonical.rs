//! `non-canonical`: a pointer that no x86-64 processor can translate, reported without its address.

use super::wild::looks_like;
use crate::case::{Case, is_canonical};
use crate::instruction::Access;
use crate::variables::explain;
use crate::verdict::{Security, Verdict};
use crate::view::Arch;
use crate::words::{access_phrase, hex, report_phrase, with_instruction};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| f.protection && !f.fetch)?;
    if case.view.arch != Arch::X86_64 {
        return None;
    }
    let Some(operand) = &fault.operand else { return without_operand(case) };
    let address = operand.address.filter(|a| !is_canonical(Arch::X86_64, *a))?;
    let pointer = operand.base.as_ref().and_then(|b| b.value);
    let (head, grounds) = explain(case, pointer);
    let sentence = head.unwrap_or_else(|| format!("{}, which is not canonical", access_phrase(fault)));
    let level = if fault.access == Access::Write { Security::High } else { Security::Medium };
    let reason = match fault.access {
        Access::Write => "a write through a pointer that was overwritten or never set",
        _ => "a pointer that was overwritten or never set",
    };
    Some(
        Verdict::new(case, "non-canonical", 0.97)
            .text(with_instruction(case, fault, &sentence))
            .because_if(report_phrase(case))
            .because(format!(
                "{} has bits 47 to 63 neither all clear nor all set: the processor refuses it without an address",
                hex(address)
            ))
            .because_if(grounds)
            .because_if(pointer.and_then(|p| looks_like(case, p)))
            .security(level, reason),
    )
}

/// The instruction is not known: then the registers may still show the likely pointer.
fn without_operand(case: &Case<'_>) -> Option<Verdict> {
    if case.instruction.is_some() {
        return None;
    }
    let wild: Vec<String> = case
        .view
        .general_registers()
        .filter(|(_, v)| !is_canonical(Arch::X86_64, *v))
        .take(4)
        .map(|(n, v)| format!("{n} = {}", hex(v)))
        .collect();
    let seen = (!wild.is_empty()).then(|| format!("registers that hold no canonical address: {}", wild.join(", ")));
    let confidence = if wild.is_empty() { 0.4 } else { 0.6 };
    Some(
        Verdict::new(case, "non-canonical", confidence)
            .text("a general protection fault, most often a pointer that is not canonical; the instruction's bytes were not kept")
            .because_if(report_phrase(case))
            .because_if(seen)
            .but("misaligned vector accesses and privileged instructions are reported alike")
            .security(Security::Medium, "the access and its address are unknown"),
    )
}
