//! `inconsistent`: what was recorded contradicts itself, so some of it is not what the processor saw.

use crate::case::{Case, Sender};
use crate::instruction::{Access, Kind};
use crate::verdict::{Security, Verdict};
use crate::view::{Place, allows};
use crate::words::{access_phrase, hex, place_phrase, report_phrase};

pub(super) fn add(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    if matches!(case.sender, Sender::Itself | Sender::Other(_)) {
        return None;
    }
    let verdict = match decided {
        None => {
            nothing_wrong(case).or_else(|| not_that_instruction(case)).or_else(|| unexplained_address(case, None))?
        }
        Some(decided) => unexplained_address(case, Some(decided))?,
    };
    Some(
        verdict.severity("warning").because_if(report_phrase(case)).security(Security::None, "no cause is established"),
    )
}

/// A memory fault where the mappings allow the very access.
fn nothing_wrong(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|_| case.signal_is(&["SIGSEGV"]))?;
    if fault.protection {
        let text = case.instruction.as_ref()?.text.clone();
        return Some(
            Verdict::new(case, "inconsistent", 0.4)
                .text(format!("the processor refused `{text}`, but nothing about its operands is refusable"))
                .but("a signal whose frame could not be put on the stack is reported alike"),
        );
    }
    let Place::Mapped(mapping) = fault.place else { return None };
    let letter = match fault.access {
        Access::Read => b'r',
        Access::Write => b'w',
        Access::Execute => b'x',
        Access::Unknown => return None,
    };
    if allows(mapping, letter) != Some(true) || case.code == Some("SEGV_PKUERR") {
        return None;
    }
    Some(
        Verdict::new(case, "inconsistent", 0.6)
            .text(format!(
                "{} failed, although it lies {} and is allowed",
                access_phrase(fault),
                place_phrase(fault.place)
            ))
            .because("another thread may have mapped it since the fault")
            .but("a failing processor or memory would look the same"),
    )
}

/// The instruction at the program counter cannot raise the exception.
fn not_that_instruction(case: &Case<'_>) -> Option<Verdict> {
    let instruction = case.instruction.as_ref()?;
    let wrong = match case.signal.as_deref()? {
        "SIGFPE" => case.code == Some("FPE_INTDIV"),
        "SIGILL" => !matches!(instruction.kind, Kind::Invalid | Kind::Trap | Kind::Privileged),
        _ => false,
    };
    wrong.then(|| {
        Verdict::new(case, "inconsistent", 0.5)
            .text(format!(
                "the instruction at the program counter, `{}`, cannot have failed this way",
                instruction.text
            ))
            .because("the code may have changed since, or the program counter is not where the exception happened")
            .but("a failing processor or memory would look the same")
    })
}

/// Whatever the verdict is, the instruction does not touch the reported address.
fn unexplained_address(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    let memory = ["null-deref", "near-null-deref", "wild-pointer", "write-readonly", "bus-error"];
    let fault = case.fault.as_ref().filter(|f| f.reported && f.operand.is_none() && !f.fetch)?;
    let instruction = case.instruction.as_ref().filter(|_| decided.is_none_or(|d| memory.contains(&d.class())))?;
    // Operands whose size the instruction leaves open may reach any address.
    let firm = instruction.operands.iter().all(|o| o.address.is_some() && o.size > 0);
    if !firm || instruction.kind == Kind::Invalid {
        return None;
    }
    let address = fault.address.map_or_else(String::new, hex);
    Some(
        Verdict::new(case, "inconsistent", 0.3)
            .text(format!("`{}` does not touch the reported address {address}", instruction.text))
            .because("the addresses of its operands, computed from the registers, are others"),
    )
}
