//! Wording shared by the classifiers.

use crate::case::{Case, Fault};
use crate::instruction::{Access, Held, Operand};
use crate::view::{Place, basename};

/// `0` or hexadecimal.
pub(crate) fn hex(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#x}") }
}

/// `write of 8 bytes to 0x28`, as far as each part is known.
pub(crate) fn access_phrase(fault: &Fault<'_>) -> String {
    let size = fault.operand.as_ref().map_or(0, |o| o.size);
    let amount = match size {
        0 => String::new(),
        1 => " of 1 byte".to_owned(),
        n => format!(" of {n} bytes"),
    };
    let place = fault.address.map_or_else(|| "an unknown address".to_owned(), hex);
    match fault.access {
        Access::Read => format!("read{amount} from {place}"),
        Access::Write => format!("write{amount} to {place}"),
        Access::Execute => format!("instruction fetch from {place}"),
        Access::Unknown => format!("access{amount} to {place}"),
    }
}

/// `rax = 0, rcx = 0x10` of the registers an operand is made of.
pub(crate) fn registers_phrase(operand: &Operand) -> Option<String> {
    let known = |held: &Held| held.value.map(|v| format!("{} = {}", held.name, hex(v)));
    let parts: Vec<String> = [&operand.base, &operand.index].into_iter().flatten().filter_map(known).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// ``the faulting `mov [rax+0x28], rcx` has rax = 0``.
pub(crate) fn instruction_phrase(case: &Case<'_>, fault: &Fault<'_>) -> Option<String> {
    let text = &case.instruction.as_ref()?.text;
    match fault.operand.as_ref().and_then(registers_phrase) {
        Some(registers) => Some(format!("the faulting `{text}` has {registers}")),
        None => Some(format!("the faulting instruction is `{text}`")),
    }
}

/// A sentence with the instruction after it.
pub(crate) fn with_instruction(case: &Case<'_>, fault: &Fault<'_>, sentence: &str) -> String {
    match instruction_phrase(case, fault) {
        Some(phrase) => format!("{sentence}; {phrase}"),
        None => sentence.to_owned(),
    }
}

/// What the system reported, as evidence.
pub(crate) fn report_phrase(case: &Case<'_>) -> Option<String> {
    let signal = case.reported.0.as_deref()?;
    let address = case.view.event().and_then(|e| e.address).filter(|_| case.fault.as_ref().is_some_and(|f| f.reported));
    Some(match (case.reported.1, address) {
        (Some(code), Some(address)) => format!("{signal}, {code}, address {}", hex(address)),
        (Some(code), None) => format!("{signal}, {code}"),
        (None, Some(address)) => format!("{signal}, address {}", hex(address)),
        (None, None) => format!("{signal}, no further code recorded"),
    })
}

/// Where an address lies: `in libc.so.6 r--p` or `in no mapping`.
pub(crate) fn place_phrase(place: Place<'_>) -> String {
    match place {
        Place::Mapped(m) => {
            let name =
                m.path.as_deref().map_or("anonymous memory", |p| if p.starts_with('[') { p } else { basename(p) });
            format!("in {name} ({}, {:#x}-{:#x})", m.protection, m.start, m.end)
        }
        Place::Unmapped => "in no mapping".to_owned(),
        Place::Unknown => "unknown, as no mappings were recorded".to_owned(),
    }
}

/// Whether the instruction explains the reported address, as evidence.
pub(crate) fn operand_agrees(fault: &Fault<'_>) -> Option<String> {
    let operand = fault.operand.as_ref()?;
    let address = operand.address?;
    fault.reported.then(|| {
        format!("the operand's address {} computed from the registers explains the reported one", hex(address))
    })
}
