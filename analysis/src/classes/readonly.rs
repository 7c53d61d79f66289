//! `write-readonly`: a store into memory that may only be read.

use crate::case::Case;
use crate::instruction::Access;
use crate::variables::explain;
use crate::verdict::{Security, Verdict};
use crate::view::{Place, allows};
use crate::words::{access_phrase, operand_agrees, place_phrase, report_phrase, with_instruction};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| !f.fetch && !f.protection)?;
    if case.code == Some("SEGV_PKUERR") || fault.unmapped == Some(true) {
        return None;
    }
    let Place::Mapped(mapping) = fault.place else { return None };
    if allows(mapping, b'w') != Some(false) || allows(mapping, b'r') != Some(true) {
        return None;
    }
    let verdict = match fault.access {
        Access::Write => Verdict::new(case, "write-readonly", 0.97),
        // Reading is allowed there, so what was refused was not a read.
        Access::Unknown if fault.unmapped == Some(false) && case.instruction.is_none() => {
            Verdict::new(case, "write-readonly", 0.85)
        }
        Access::Unknown | Access::Read | Access::Execute => return None,
    };
    let pointer = fault.operand.as_ref().and_then(|o| o.base.as_ref()).and_then(|b| b.value);
    let (_, grounds) = explain(case, pointer);
    let place = place_phrase(fault.place);
    let code = allows(mapping, b'x') == Some(true);
    let what = if code { "the program's code" } else { "constants, string literals or relocated data" };
    let module = mapping.path.as_deref().is_some_and(|p| !p.starts_with('['));
    let known = case.view.snapshot.modules.iter().any(|m| Some(m.path.as_str()) == mapping.path.as_deref());
    Some(
        verdict
            .text(with_instruction(case, fault, &format!("{}, {place}, which may only be read", access_phrase(fault))))
            .because_if(report_phrase(case))
            .because_if(operand_agrees(fault))
            .because_if(grounds)
            .because_if((module && known).then(|| format!("it is an image's read-only part, which holds {what}")))
            .security(Security::Medium, "a write went to a mapped place that was not meant; the protection stopped it"),
    )
}
