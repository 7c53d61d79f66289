//! Questions about code bytes: does a call come before this address?

use debuginfo::images::{CodeAt, Modules};
use evidence::{Addr, Arch, Memory, ToU64, bytes};

/// What is known about an address as a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnTo {
    /// Executable, and the instruction before it is a call.
    AfterCall,
    /// Executable as far as known; the bytes before it could not be read.
    Unknown,
    /// Not executable, or not behind a call.
    No,
}

/// Longest x86 call instruction: `call *disp32(base,index,scale)` with a REX prefix.
const LONGEST_CALL: usize = 8;

/// Judges a possible return address.
pub(crate) fn judge(at: Addr, arch: Arch, memory: &dyn Memory, modules: &Modules) -> ReturnTo {
    match modules.code_at(at.wrapping_sub(1)) {
        CodeAt::NotExecutable | CodeAt::Unmapped => return ReturnTo::No,
        // Code that no mapping and no image knows: a number is not an address because nobody denies it.
        CodeAt::Unknown if modules.find(at.wrapping_sub(1)).is_none() => return ReturnTo::No,
        CodeAt::Yes | CodeAt::Unknown => {}
    }
    follows_call(at, arch, memory, modules)
}

/// Whether the instruction before `at` is a call, by its bytes in memory or in the verified file.
pub(crate) fn follows_call(at: Addr, arch: Arch, memory: &dyn Memory, modules: &Modules) -> ReturnTo {
    // ARM marks return addresses into Thumb code by bit 0.
    let end = if arch == Arch::Arm { Addr(at.0 & !1) } else { at };
    let Some(raw) = bytes_before(end, memory, modules) else { return ReturnTo::Unknown };
    let call = match arch {
        Arch::X86_64 | Arch::X86 | Arch::Other => is_x86_call(&raw),
        Arch::Aarch64 => is_aarch64_call(&raw),
        Arch::Arm => is_arm_call(&raw, at.0 & 1 != 0),
    };
    if call { ReturnTo::AfterCall } else { ReturnTo::No }
}

/// The function that the call before `at` names directly; `None` for indirect calls and where the bytes are missing.
pub(crate) fn direct_target(at: Addr, arch: Arch, memory: &dyn Memory, modules: &Modules) -> Option<Addr> {
    let raw = bytes_before(at, memory, modules)?;
    let last = bytes::i32_at(&raw, 4, bytes::Endian::Little)?;
    match arch {
        Arch::X86_64 if raw.get(3) == Some(&0xe8) => Some(at.wrapping_add(i64::from(last).cast_unsigned())),
        Arch::X86 if raw.get(3) == Some(&0xe8) => {
            Some(Addr(at.0.wrapping_add(i64::from(last).cast_unsigned()) & 0xffff_ffff))
        }
        // BL: 26 bits, signed, in words.
        Arch::Aarch64 if last.cast_unsigned() & 0xfc00_0000 == 0x9400_0000 => {
            let words = last.wrapping_shl(6).wrapping_shr(6);
            Some(at.wrapping_sub(4).wrapping_add(i64::from(words).wrapping_mul(4).cast_unsigned()))
        }
        _ => None,
    }
}

/// The code before `at`, from memory or from the verified file.
fn bytes_before(at: Addr, memory: &dyn Memory, modules: &Modules) -> Option<[u8; LONGEST_CALL]> {
    let mut raw = [0_u8; LONGEST_CALL];
    let start = at.wrapping_sub(LONGEST_CALL.to_u64());
    if memory.read_exact(start, &mut raw).is_err() {
        let from_file = modules.find(start).and_then(|(_, m)| m.code_in_file(m.to_svma(start)));
        raw.copy_from_slice(from_file?.get(..LONGEST_CALL)?);
    }
    Some(raw)
}

/// Whether the eight bytes can end in a near call (Intel SDM volume 2, CALL: E8 cd, FF /2).
fn is_x86_call(raw: &[u8; LONGEST_CALL]) -> bool {
    let [_, a, b, c, d, e, f, g] = *raw;
    // (opcode, ModRM, SIB) at each distance from the end that the form allows.
    let indirect = |opcode: u8, modrm: u8| opcode == 0xff && modrm & 0x38 == 0x10;
    let (mode, rm) = (|m: u8| m >> 6, |m: u8| m & 7);
    c == 0xe8
        || (indirect(f, g) && (mode(g) == 3 || (mode(g) == 0 && rm(g) != 4 && rm(g) != 5)))
        || (indirect(e, f) && ((mode(f) == 1 && rm(f) != 4) || (mode(f) == 0 && rm(f) == 4 && g & 7 != 5)))
        || (indirect(d, e) && mode(e) == 1 && rm(e) == 4)
        || (indirect(b, c) && ((mode(c) == 2 && rm(c) != 4) || (mode(c) == 0 && rm(c) == 5)))
        || (indirect(a, b) && rm(b) == 4 && (mode(b) == 2 || (mode(b) == 0 && c & 7 == 5)))
}

/// BL, BLR and the authenticating BLRAA, BLRAB, BLRAAZ, BLRABZ (Arm ARM, C4.1.66).
fn is_aarch64_call(raw: &[u8; LONGEST_CALL]) -> bool {
    let Some(word) = bytes::u32_at(raw, 4, bytes::Endian::Little) else { return false };
    word & 0xfc00_0000 == 0x9400_0000 || word & 0xffff_fc1f == 0xd63f_0000 || word & 0xfeff_f800 == 0xd63f_0800
}

/// BL and BLX in ARM code and in Thumb code (Arm ARM for ARMv7-A, A8.8.25 and A8.8.26).
fn is_arm_call(raw: &[u8; LONGEST_CALL], thumb: bool) -> bool {
    let half = |at| bytes::u16_at(raw, at, bytes::Endian::Little).unwrap_or(0);
    if thumb {
        let long = half(4) & 0xf800 == 0xf000 && half(6) & 0xc000 == 0xc000;
        return long || half(6) & 0xff87 == 0x4780;
    }
    let word = bytes::u32_at(raw, 4, bytes::Endian::Little).unwrap_or(0);
    let conditional = word >> 28 != 0xf;
    let direct = conditional && word & 0x0f00_0000 == 0x0b00_0000;
    direct || (conditional && word & 0x0fff_fff0 == 0x012f_ff30) || word & 0xfe00_0000 == 0xfa00_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &[u8], call: bool) {
        let mut raw = [0x90; LONGEST_CALL];
        raw[LONGEST_CALL - code.len()..].copy_from_slice(code);
        assert_eq!(is_x86_call(&raw), call, "{code:02x?}");
    }

    #[test]
    fn every_form_of_near_call_is_known() {
        check(&[0xe8, 1, 2, 3, 4], true);
        check(&[0xff, 0xd0], true); // call *%rax
        check(&[0x41, 0xff, 0xd3], true); // call *%r11
        check(&[0xff, 0x10], true); // call *(%rax)
        check(&[0xff, 0x50, 0x18], true); // call *0x18(%rax)
        check(&[0xff, 0x14, 0xc8], true); // call *(%rax,%rcx,8)
        check(&[0xff, 0x54, 0x24, 8], true); // call *8(%rsp)
        check(&[0xff, 0x15, 1, 2, 3, 4], true); // call *x(%rip)
        check(&[0xff, 0x90, 1, 2, 0, 0], true); // call *x(%rax)
        check(&[0xff, 0x94, 0x24, 0, 1, 0, 0], true); // call *x(%rsp)
        check(&[0xff, 0x14, 0xc5, 0, 1, 0, 0], true); // call *x(,%rax,8)
        check(&[0xff, 0xe0], false); // jmp *%rax
        check(&[0xc3], false);
        check(&[0x0f, 0x05], false); // syscall
    }

    #[test]
    fn aarch64_calls() {
        for (word, call) in [
            (0x9400_0001_u32, true),
            (0xd63f_0040, true),
            (0xd73f_0841, true),
            (0xd63f_081f, true),
            (0x1400_0001, false),
            (0xd65f_03c0, false),
        ] {
            let mut raw = [0; LONGEST_CALL];
            raw[4..].copy_from_slice(&word.to_le_bytes());
            assert_eq!(is_aarch64_call(&raw), call, "{word:#x}");
        }
    }

    #[test]
    fn arm_calls() {
        let check = |code: &[u8], thumb: bool, call: bool| {
            let mut raw = [0; LONGEST_CALL];
            raw[LONGEST_CALL - code.len()..].copy_from_slice(code);
            assert_eq!(is_arm_call(&raw, thumb), call, "{code:02x?}");
        };
        check(&0xeb00_0010_u32.to_le_bytes(), false, true); // bl
        check(&0xe12f_ff33_u32.to_le_bytes(), false, true); // blx r3
        check(&0xfa00_0010_u32.to_le_bytes(), false, true); // blx label
        check(&0xe12f_ff1e_u32.to_le_bytes(), false, false); // bx lr
        check(&[0x00, 0xf0, 0x10, 0xf8], true, true); // bl
        check(&[0x00, 0xf0, 0x10, 0xe8], true, true); // blx label
        check(&[0x98, 0x47], true, true); // blx r3
        check(&[0x70, 0x47], true, false); // bx lr
    }
}
