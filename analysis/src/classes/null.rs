//! `null-deref` and `near-null-deref`: a pointer is null, or was computed from null.
//!
//! The first page counts as null: members of structures lie there. What is further out, up to the addresses that are
//! never mapped, is near null: an element of a null array, or a member of a very large structure.

use super::jump::LOW;
use crate::case::{Case, Fault};
use crate::variables::explain;
use crate::verdict::{Security, Verdict};
use crate::view::Place;
use crate::words::{access_phrase, operand_agrees, place_phrase, report_phrase, with_instruction};

/// Bytes from null that count as null itself: one page.
const PAGE: u64 = 0x1000;

/// How the address comes from null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The pointer register is 0; the rest is a constant of the instruction.
    Null,
    /// The pointer register is 0 and an index was added.
    Indexed,
    /// The pointer register itself is small.
    Near(u64),
    /// Only the address is known.
    Address,
}

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref().filter(|f| !f.fetch)?;
    let address = fault.address?;
    if matches!(fault.place, Place::Mapped(_)) {
        return None;
    }
    let origin = origin(fault, address)?;
    let far = address >= LOW;
    let near = (PAGE..LOW).contains(&address);
    let exact = fault.operand.is_some() && fault.reported;
    let confidence = match origin {
        Origin::Null if exact => 0.98,
        Origin::Null => 0.9,
        Origin::Indexed if far => 0.75,
        Origin::Indexed => 0.95,
        Origin::Near(_) => 0.92,
        Origin::Address => 0.8,
    };
    let verdict = Verdict::new(case, if near { "near-null-deref" } else { "null-deref" }, confidence);
    let pointer = match origin {
        Origin::Null | Origin::Indexed => Some(0),
        Origin::Near(value) => Some(value),
        Origin::Address => None,
    };
    let (head, grounds) = explain(case, pointer);
    let null = matches!(origin, Origin::Null | Origin::Indexed) || address == 0;
    let what = if null {
        format!("{} through a null pointer", access_phrase(fault))
    } else {
        format!("{}, which is {address} bytes from null: a member or element of a null pointer", access_phrase(fault))
    };
    let verdict = verdict
        .text(with_instruction(case, fault, &head.unwrap_or(what)))
        .because_if(report_phrase(case))
        .because_if(operand_agrees(fault))
        .because_if(grounds)
        .because_if(library(case))
        .but_if(fault.operand.is_none().then(|| "the faulting instruction could not be decoded".into()));
    let verdict = match origin {
        Origin::Indexed if far => {
            verdict.but("the address comes from the index: which of the two registers is wrong is open")
        }
        _ => verdict.but_if(
            (fault.place == Place::Unmapped && far).then(|| format!("the address lies {}", place_phrase(fault.place))),
        ),
    };
    Some(if far {
        verdict.security(Security::Medium, "the offset from null reaches beyond the addresses that are never mapped")
    } else {
        verdict.security(Security::Low, "the lowest addresses cannot be mapped by default")
    })
}

fn origin(fault: &Fault<'_>, address: u64) -> Option<Origin> {
    let Some(operand) = &fault.operand else { return (address < LOW).then_some(Origin::Address) };
    // A wild stack pointer is no null pointer of the program's.
    if operand.stack && operand.base.is_some() {
        return None;
    }
    let base = operand.base.as_ref().and_then(|b| b.value);
    let index = operand.index.as_ref().and_then(|i| i.value);
    match (base, index) {
        (Some(0), None) => Some(Origin::Null),
        (Some(0), Some(0)) => Some(Origin::Null),
        (Some(0), Some(index)) => {
            // An index as large as an address is the pointer, and the base an index of 0.
            let plausible = address < LOW || index.cast_signed().unsigned_abs() < 1 << 32;
            plausible.then_some(Origin::Indexed)
        }
        (Some(base), _) if address < LOW && base < LOW => Some(Origin::Near(base)),
        (Some(_), Some(0)) if address < LOW => Some(Origin::Indexed),
        (None, Some(0)) if address < LOW => Some(Origin::Null),
        (None, Some(index)) if address < LOW && index < LOW => Some(Origin::Near(index)),
        _ if address < LOW => Some(Origin::Address),
        _ => None,
    }
}

/// A fault inside a library function that was handed the pointer.
fn library(case: &Case<'_>) -> Option<String> {
    let name = case.names.get(case.view.context)?.as_deref()?;
    let family = ["mem", "str", "wcs", "printf", "vfprintf", "fputs", "fwrite", "pthread_"];
    if !family.iter().any(|f| name.trim_start_matches('_').starts_with(f)) {
        return None;
    }
    let caller = case.culprit(case.view.context.saturating_add(1))?;
    Some(format!("{name}() was handed the pointer; it was called from {}", case.place_of(caller)))
}
