//! `bus-error`: the mapping is there, but no memory stands behind it.

use crate::case::Case;
use crate::verdict::{Security, Verdict};
use crate::view::basename;
use crate::words::{hex, place_phrase, report_phrase, with_instruction};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| !f.protection)?;
    if !case.signal_is(&["SIGBUS"]) {
        return None;
    }
    let code = case.code?;
    let place = fault.address.map_or_else(|| "an unknown address".to_owned(), hex);
    if matches!(code, "BUS_MCEERR_AR" | "BUS_MCEERR_AO") {
        return Some(
            Verdict::new(case, "bus-error", 0.98)
                .text(format!("the memory behind {place} has failed: the processor reported an uncorrectable error"))
                .because_if(report_phrase(case))
                .security(Security::None, "a hardware failure"),
        );
    }
    if code == "BUS_OOMERR" {
        return Some(
            Verdict::new(case, "bus-error", 0.95)
                .text(format!("no memory or swap was left to back {place}"))
                .because_if(report_phrase(case))
                .security(Security::None, "a shortage of memory"),
        );
    }
    if !matches!(code, "BUS_ADRERR" | "BUS_OBJERR") {
        return None;
    }
    let mapping = fault.address.and_then(|a| case.view.mapping(a));
    let file = mapping.and_then(|m| m.path.as_deref()).filter(|p| !p.starts_with('['));
    let verdict = Verdict::new(case, "bus-error", if file.is_some() { 0.95 } else { 0.8 })
        .because_if(report_phrase(case))
        .because(format!("the address lies {}", place_phrase(fault.place)))
        .security(Security::Low, "the access was refused, not misdirected");
    Some(match (file, mapping) {
        (Some(path), Some(m)) => {
            let inside = fault.address.map_or(0, |a| a.wrapping_sub(m.start)).wrapping_add(m.file_offset);
            let name = basename(path);
            let sentence = format!(
                "{place} is mapped from {name}, offset {inside:#x}, where the file has no bytes: it is shorter than its mapping"
            );
            verdict
                .text(with_instruction(case, fault, &sentence))
                .because_if(m.deleted.then(|| format!("{name} was unlinked or replaced")))
                .but("an input/output error while reading the file, or a full file system behind it, look the same")
        }
        _ => verdict
            .text(with_instruction(case, fault, &format!("nothing could be put behind {place}, although it is mapped")))
            .but("huge pages that ran out, device memory and failed swap look the same"),
    })
}
