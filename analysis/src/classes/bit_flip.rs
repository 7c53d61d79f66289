//! `bit-flip`: the bad pointer is one bit away from a good one, and nothing better explains it.
//!
//! Memory does fail, but rarely: one bit proves nothing, so this never says more than "possible".

use crate::case::{Case, is_canonical};
use crate::verdict::{Security, Verdict};
use crate::view::{Place, allows};
use crate::words::hex;
use snapshot_format::schema::Value;

/// How near a flipped pointer must be to one that the program holds, bytes: within one object of usual size.
const NEAR: u64 = 256;

/// Pointers of variables compared with: more make a chance hit likely.
const LIMIT_POINTERS: usize = 4_096;

pub(super) fn add(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    decided.filter(|v| matches!(v.class(), "wild-pointer" | "non-canonical" | "wild-jump"))?;
    let fault = case.fault.as_ref()?;
    let operand = fault.operand.as_ref();
    let base = operand.and_then(|o| o.base.as_ref()).and_then(|b| b.value);
    let pointer = base.or(fault.address)?;
    let offset = operand.and_then(|o| o.address).map_or(0, |a| a.wrapping_sub(pointer));
    if pointer.is_power_of_two() && pointer >= 1 << 16 {
        return Some(verdict(case, 0.15, pointer, 0, "null with one bit set"));
    }
    let letter = if fault.fetch { b'x' } else { b'r' };
    let usable = |candidate: u64| match case.view.place(candidate.wrapping_add(offset)) {
        Place::Mapped(m) => allows(m, letter) == Some(true),
        Place::Unmapped | Place::Unknown => false,
    };
    let width = case.view.arch.pointer_size().saturating_mul(8);
    let bits = u32::try_from(width).unwrap_or(64);
    let mut candidates = (0..bits).map(|bit| pointer ^ (1_u64 << bit.min(63))).filter(|c| usable(*c));
    let candidate = candidates.next()?;
    if candidates.next().is_some() {
        return None;
    }
    let wild = !is_canonical(case.view.arch, pointer);
    let known = known_near(case, candidate, pointer);
    match (wild, known) {
        (true, Some(name)) => {
            Some(verdict(case, 0.3, pointer, candidate, "the pointer with one bit changed is mapped").because(name))
        }
        (false, Some(name)) => {
            Some(verdict(case, 0.2, pointer, candidate, "the pointer with one bit changed is mapped").because(name))
        }
        (true, None) => Some(verdict(
            case,
            0.15,
            pointer,
            candidate,
            "the pointer with one bit changed is mapped, and no other change of one bit makes it so",
        )),
        (false, None) => None,
    }
}

/// A register or pointer variable near the candidate.
fn known_near(case: &Case<'_>, candidate: u64, pointer: u64) -> Option<String> {
    let near = |value: u64| value != pointer && value.abs_diff(candidate) < NEAR;
    if let Some((name, value)) = case.view.general_registers().find(|(_, v)| near(*v)) {
        return Some(format!("{name} = {} is near {}", hex(value), hex(candidate)));
    }
    let thread = case.view.thread.map(|t| t.id);
    let rows = case.view.snapshot.variables.iter().filter(|v| v.thread == thread).take(LIMIT_POINTERS);
    rows.filter_map(|v| match v.value {
        Value::Pointer(value) if near(value) => {
            Some(format!("`{}` = {} is near {}", v.name, hex(value), hex(candidate)))
        }
        _ => None,
    })
    .next()
}

fn verdict(case: &Case<'_>, confidence: f64, pointer: u64, candidate: u64, what: &str) -> Verdict {
    let bit = (pointer ^ candidate).trailing_zeros();
    Verdict::new(case, "bit-flip", confidence)
        .severity("warning")
        .text(format!("possibly failing memory: {} differs from {} in bit {bit} alone", hex(pointer), hex(candidate)))
        .because(what)
        .but("programs make such values by themselves far more often than memory fails")
        .security(Security::None, "a hardware failure, if it is one")
}
