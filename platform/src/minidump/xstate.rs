//! What lies behind a context: `CONTEXT_EX` and the XSAVE area, of which the shadow stack pointer is wanted.

use evidence::bytes::{Endian, i32_at, u64_at};

/// Number of the component CET_U in the XSAVE feature masks (Intel SDM volume 1, 13.1).
const CET_USER: u32 = 11;
/// Sizes of the components between AVX (2) and CET_U in a compacted area, as CPUID leaf 0xd gives them on every
/// processor so far: (component, bytes). None of them asks for alignment in the compacted form.
const SIZES: [(u32, usize); 8] = [(2, 256), (3, 64), (4, 64), (5, 64), (6, 512), (7, 1024), (9, 8), (10, 8)];

/// `IA32_PL3_SSP` of a context with an XSAVE area in compacted form, where CET_U was recorded.
///
/// `CONTEXT_EX` lies directly behind the CONTEXT (winnt.h), which has `size` bytes: 1232 on x86-64, 716 on x86. The
/// area's legacy part is not repeated: Windows stores it from the header (mask, compaction mask) on.
pub(super) fn shadow_stack(bytes: &[u8], size: usize) -> Option<u64> {
    // CONTEXT_EX: three (offset, length) pairs relative to itself: all, legacy, xstate.
    let relative = i32_at(bytes, size.checked_add(16)?, Endian::Little)?;
    let start = size.checked_add(usize::try_from(relative).ok()?)?;
    let mask = u64_at(bytes, start, Endian::Little)?;
    let compaction = u64_at(bytes, start.checked_add(8)?, Endian::Little)?;
    let has = |component: u32| compaction & 1_u64.checked_shl(component).unwrap_or(0) != 0;
    if compaction >> 63 != 1 || !has(CET_USER) || mask & 1_u64.checked_shl(CET_USER)? == 0 {
        return None;
    }
    // The header has 64 bytes; the first component follows it.
    let mut at = start.checked_add(64)?;
    for (_, size) in SIZES.iter().filter(|(c, _)| has(*c)) {
        at = at.checked_add(*size)?;
    }
    // CET_U: IA32_U_CET, IA32_PL3_SSP.
    u64_at(bytes, at.checked_add(8)?, Endian::Little).filter(|ssp| *ssp != 0)
}
