//! `use-after-free`: the pointer that failed was read out of memory that an allocator had filled when it was freed.
//!
//! Only patterns that are written on freeing count; what fresh or uninitialised memory is filled with proves no such
//! thing.

use crate::case::{Case, Fault};
use crate::instruction::{Access, Operand};
use crate::verdict::{Security, Verdict};
use crate::words::{access_phrase, hex, operand_agrees, report_phrase, with_instruction};

/// (byte, who writes it).
const FREED: [(u8, &str); 4] = [
    (0xe5, "mozjemalloc (and jemalloc's older junk filling)"),
    (0x5a, "jemalloc"),
    (0xdd, "the C runtime's debug heap"),
    (0xee, "Windows' heap under a debugger (0xfeeefeee)"),
];

/// How far an offset into an object may move the address away from the pattern.
const LIMIT_OFFSET: u64 = 0x1_0000;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref()?;
    let address = pointer(case, fault)?;
    let (pointer, writer) = pattern(address, case.view.arch.pointer_size())?;
    let sentence =
        format!("{}: the pointer {} is what {writer} fills freed memory with", access_phrase(fault), hex(pointer));
    Some(
        Verdict::new(case, "use-after-free", if fault.operand.is_some() { 0.88 } else { 0.7 })
            .text(with_instruction(case, fault, &sentence))
            .because_if(report_phrase(case))
            .because_if(operand_agrees(fault))
            .because(format!("{} repeats a pattern that is written over freed blocks", hex(pointer)))
            .but("memory that was never set can hold what an earlier owner's block was filled with")
            .security(
                Security::High,
                if fault.access == Access::Execute || fault.fetch {
                    "the program went where freed memory told it"
                } else {
                    "what the freed block holds can be chosen by whoever gets it next"
                },
            ),
    )
}

/// The wild pointer: the base of the operand, the computed address, or the reported one.
fn pointer(case: &Case<'_>, fault: &Fault<'_>) -> Option<u64> {
    let of_operand = |o: &Operand| o.base.as_ref().and_then(|b| b.value).filter(|v| *v != 0).or(o.address);
    let operand = fault.operand.as_ref().and_then(of_operand);
    let size = case.view.arch.pointer_size();
    operand.filter(|p| pattern(*p, size).is_some()).or(fault.operand.as_ref().and_then(|o| o.address)).or(fault.address)
}

/// The pattern that an address is at most [`LIMIT_OFFSET`] away from.
fn pattern(address: u64, size: u64) -> Option<(u64, &'static str)> {
    FREED.iter().find_map(|(byte, writer)| {
        let repeated = if *byte == 0xee { 0xfeee_feee_feee_feee } else { u64::from_le_bytes([*byte; 8]) };
        let whole = if size == 4 { repeated & 0xffff_ffff } else { repeated };
        (address.abs_diff(whole) < LIMIT_OFFSET).then_some((whole, *writer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_their_neighbourhood() {
        assert!(pattern(0xe5e5_e5e5_e5e5_e5fd, 8).is_some());
        assert!(pattern(0xe5e5_e5f9, 4).is_some());
        assert_eq!(pattern(0xfeee_feee, 4).map(|(p, _)| p), Some(0xfeee_feee));
        assert_eq!(pattern(0x1234_5678, 4), None);
        assert_eq!(pattern(0xe5e5_e5e5, 8), None);
    }
}
