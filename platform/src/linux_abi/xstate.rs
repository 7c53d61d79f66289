//! Vector registers out of an XSAVE area in the standard format (`NT_X86_XSTATE`), and out of a bare FXSAVE area.
//!
//! Source: Intel SDM volume 1 chapter 13; the kernel keeps the enabled features (XCR0) in the software-reserved bytes
//! at 464 (`arch/x86/include/uapi/asm/user.h`, `struct user_xstateregs`).

use evidence::bytes::{Endian, slice_at, u32_at, u64_at};
use evidence::{Arch, ToUsize, Vectors, X87};
use std::sync::Arc;

/// Where the XMM registers lie in an FXSAVE area and in an XSAVE area's legacy part.
const XMM_AT: usize = 160;
/// Where XSAVE's header starts: `XSTATE_BV`, the components that are not in their initial state.
const HEADER_AT: usize = 512;
/// Where the kernel notes XCR0.
pub(crate) const XCR0_AT: usize = 464;
/// The upper halves of YMM are at the same place on every processor.
const AVX_AT: usize = 576;
/// Component numbers (bits of XCR0).
const X87_STATE: u32 = 0;
const SSE: u32 = 1;
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const ZMM_HI256: u32 = 6;
const HI16_ZMM: u32 = 7;

/// Where a processor puts the XSAVE components whose place is not the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Layout {
    /// Offset in bytes of the upper halves of ZMM0-ZMM15, when known.
    pub zmm_hi256: Option<u32>,
}

impl Layout {
    /// Reads a layout note ([`super::NT_X86_XSAVE_LAYOUT`]): entries of four 32-bit numbers, component, size, offset,
    /// flags (`struct xfeat_component`, `arch/x86/include/uapi/asm/elf.h`).
    #[must_use]
    pub fn from_note(body: &[u8]) -> Self {
        let mut layout = Self::default();
        for entry in body.chunks_exact(16) {
            let word = |at| u32_at(entry, at, Endian::Little);
            if word(0) == Some(ZMM_HI256) && word(4) == Some(512) {
                layout.zmm_hi256 = word(8);
            }
        }
        layout
    }

    /// The layout that an area of this size has, where only one processor family writes areas of this size: Intel
    /// before protection keys 2688 bytes, with them 2696; AMD 2432 and 2440. Other sizes tell nothing.
    #[must_use]
    pub const fn guess(area: usize) -> Self {
        Self {
            zmm_hi256: match area {
                2688 | 2696 => Some(1152),
                2432 | 2440 => Some(896),
                _ => None,
            },
        }
    }

    /// The layout of the processor this program runs on, as a note body of the form [`Layout::from_note`] reads.
    #[cfg(target_arch = "x86_64")]
    #[must_use]
    pub fn host_note() -> Vec<u8> {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const LEAF_XSAVE: u32 = 0xd;
        let mut body = Vec::new();
        if __cpuid(0).eax < LEAF_XSAVE {
            return body;
        }
        for component in 2..32_u32 {
            let answer = __cpuid_count(LEAF_XSAVE, component);
            // ECX bit 0: a supervisor component, which has no place in the standard format.
            if answer.eax == 0 || answer.ecx & 1 != 0 {
                continue;
            }
            for word in [component, answer.eax, answer.ebx, answer.ecx] {
                body.extend_from_slice(&word.to_le_bytes());
            }
        }
        body
    }
}

/// The widest vectors an XSAVE area holds: 64 bytes each where AVX-512 is enabled and its place is known, else 32
/// where AVX is, else 16. i386 programs have eight registers, x86-64 programs the first sixteen.
#[must_use]
pub fn vectors(arch: Arch, area: &[u8], layout: Layout) -> Option<Arc<Vectors>> {
    let (first, count) = match arch {
        Arch::X86_64 => (17, 16_usize),
        Arch::X86 => (21, 8),
        _ => return None,
    };
    let enabled = u64_at(area, XCR0_AT, Endian::Little)?;
    let in_use = u64_at(area, HEADER_AT, Endian::Little)?;
    let has = |bits: u64, component: u32| bits & 1_u64.wrapping_shl(component) != 0;
    let avx512 = [OPMASK, ZMM_HI256, HI16_ZMM].iter().all(|c| has(enabled, *c));
    let zmm_at = layout.zmm_hi256.filter(|_| avx512).map(ToUsize::to_usize);
    let width = match (zmm_at, has(enabled, AVX)) {
        (Some(_), true) => 64,
        (_, true) => 32,
        (_, false) => 16,
    };
    let mut out = Vec::with_capacity(count.saturating_mul(width));
    for n in 0..count {
        // A component that is not in use reads as zeros: that is its initial state.
        let mut part = |component: u32, base: usize, len: usize| -> Option<()> {
            let bytes = slice_at(area, base.checked_add(n.checked_mul(len)?)?, len)?;
            let old = out.len();
            out.resize(old.saturating_add(len), 0);
            if has(in_use, component) {
                out.get_mut(old..)?.copy_from_slice(bytes);
            }
            Some(())
        };
        part(SSE, XMM_AT, 16)?;
        if width >= 32 {
            part(AVX, AVX_AT, 16)?;
        }
        if let (64, Some(at)) = (width, zmm_at) {
            part(ZMM_HI256, at, 32)?;
        }
    }
    Some(Arc::new(Vectors { first, width, bytes: out.into_boxed_slice() }))
}

/// The XMM registers of an FXSAVE area (`NT_PRFPREG` on x86-64, `NT_PRXFPREG` on i386).
#[must_use]
pub fn fxsave_vectors(arch: Arch, area: &[u8]) -> Option<Arc<Vectors>> {
    let (first, count) = match arch {
        Arch::X86_64 => (17, 16_usize),
        Arch::X86 => (21, 8),
        _ => return None,
    };
    let bytes = slice_at(area, XMM_AT, count.checked_mul(16)?)?;
    Some(Arc::new(Vectors { first, width: 16, bytes: Box::from(bytes) }))
}

/// The x87 unit and MXCSR out of an XSAVE area; a unit that is not in use is in its initial state.
#[must_use]
pub fn x87(area: &[u8]) -> Option<X87> {
    let in_use = u64_at(area, HEADER_AT, Endian::Little)?;
    let has = |component: u32| in_use & 1_u64.wrapping_shl(component) != 0;
    let recorded = X87::from_fxsave(area)?;
    let mut out = recorded;
    if !has(X87_STATE) {
        // SDM volume 1, 13.6: FCW is 0x37f, everything else 0.
        let (mxcsr, mxcsr_mask) = (recorded.mxcsr, recorded.mxcsr_mask);
        let nothing = [[0; 10]; 8];
        out = X87 {
            control: 0x37f,
            status: 0,
            tag: 0,
            opcode: 0,
            instruction: 0,
            data: 0,
            mxcsr,
            mxcsr_mask,
            stack: nothing,
        };
    }
    // MXCSR is written where SSE or AVX is.
    if !has(SSE) && !has(AVX) {
        out.mxcsr = 0x1f80;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::{Register, Registers};
    use proptest::prelude::*;

    fn area(enabled: u64, in_use: u64, len: usize) -> Vec<u8> {
        let mut area: Vec<u8> = (0..len).map(|n| n.to_le_bytes()[0] | 1).collect();
        area[XCR0_AT..XCR0_AT + 8].copy_from_slice(&enabled.to_le_bytes());
        area[HEADER_AT..HEADER_AT + 8].copy_from_slice(&in_use.to_le_bytes());
        area
    }

    #[test]
    fn parts_of_a_register_are_joined() {
        let area = area(0xe7, 0xe7, 2440);
        let got = vectors(Arch::X86_64, &area, Layout::guess(2440)).unwrap();
        assert_eq!((got.width, got.bytes.len()), (64, 1024));
        let mut registers = Registers::new(Arch::X86_64);
        registers.vectors = Some(got);
        let zmm1 = registers.vector(Register(18)).unwrap();
        assert_eq!(zmm1[..16], area[XMM_AT + 16..XMM_AT + 32]);
        assert_eq!(zmm1[16..32], area[AVX_AT + 16..AVX_AT + 32]);
        assert_eq!(zmm1[32..], area[896 + 32..896 + 64]);
    }

    #[test]
    fn a_component_in_its_initial_state_is_zero() {
        let got = vectors(Arch::X86_64, &area(0x7, 0x3, 832), Layout::default()).unwrap();
        assert_eq!(got.width, 32);
        assert_eq!(got.bytes[16..32], [0; 16]);
        assert_ne!(got.bytes[..16], [0; 16]);
    }

    #[test]
    fn a_unit_that_is_not_in_use_is_as_after_its_reset() {
        let used = x87(&area(7, 7, 832)).unwrap();
        assert_eq!(used.instruction, 0x0f0f_0d0d_0b0b_0909);
        let unused = x87(&area(7, 6, 832)).unwrap();
        assert_eq!((unused.control, unused.instruction, unused.stack[0]), (0x37f, 0, [0; 10]));
        assert_eq!(unused.mxcsr, used.mxcsr);
        assert_eq!(x87(&area(7, 1, 832)).unwrap().mxcsr, 0x1f80);
        assert_eq!(x87(&area(7, 7, 832)[..512]), None);
    }

    #[test]
    fn an_unknown_place_gives_the_part_that_is_known() {
        assert_eq!(vectors(Arch::X86_64, &area(0xe7, 0xe7, 11008), Layout::guess(11008)).unwrap().width, 32);
        assert_eq!(vectors(Arch::X86, &area(3, 3, 576), Layout::default()).unwrap().bytes.len(), 128);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_host_describes_itself() {
        let note = Layout::host_note();
        let avx512 = std::arch::is_x86_feature_detected!("avx512f");
        assert_eq!(Layout::from_note(&note).zmm_hi256.is_some(), avx512);
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in any::<Option<u32>>()) {
            for arch in [Arch::X86_64, Arch::X86, Arch::Arm] {
                let _ = vectors(arch, &bytes, Layout { zmm_hi256: at });
                let _ = fxsave_vectors(arch, &bytes);
                let _ = x87(&bytes);
            }
            let _ = Layout::from_note(&bytes);
        }
    }
}
