//! `alignment`: an instruction that demands an aligned address got another one.

use crate::case::{Case, misaligned};
use crate::verdict::{Security, Verdict};
use crate::words::{hex, report_phrase, with_instruction};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| !f.fetch)?;
    let signalled = case.code == Some("BUS_ADRALN");
    let operand = fault.operand.as_ref().filter(|o| misaligned(o));
    if signalled {
        let address = fault.address.or_else(|| fault.operand.as_ref()?.address);
        let place = address.map_or_else(
            || "an address that is not aligned".to_owned(),
            |a| format!("{}, which is not aligned", hex(a)),
        );
        return Some(
            Verdict::new(case, "alignment", 0.95)
                .text(with_instruction(case, fault, &format!("the processor refused an access to {place}")))
                .because_if(report_phrase(case))
                .security(Security::Low, "the access was refused, not misdirected"),
        );
    }
    // On x86 the refusal arrives as a general protection fault.
    let operand = operand.filter(|_| fault.protection)?;
    let address = operand.address?;
    let sentence =
        format!("{} is not a multiple of {}, which the instruction demands", hex(address), operand.alignment);
    let stack =
        operand.stack.then(|| "the operand is on the stack: a caller entered with the stack pointer misaligned".into());
    Some(
        Verdict::new(case, "alignment", 0.95)
            .text(with_instruction(case, fault, &sentence))
            .because_if(report_phrase(case))
            .because("the processor gave no address (general protection), and the address is canonical")
            .because_if(stack)
            .security(Security::Low, "the access was refused, not misdirected"),
    )
}
