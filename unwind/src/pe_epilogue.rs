//! Epilogues of x86-64 code of Windows, recognised by their instructions.
//!
//! Source: Microsoft's "x64 prolog and epilog": an epilogue is `add rsp, n` or `lea rsp, [frame + n]` (either may be
//! missing), then pops of 8-byte registers, then a return or a jump out of the function; nothing else may be in it, so
//! that it can be recognised from any of its instructions on.

use crate::pe_step::{Undo, register};
use debuginfo::pe::View;
use debuginfo::pe::x64::{self, Info, RuntimeFunction};
use evidence::Register;
use evidence::bytes::{Endian, i32_at};

/// Longest epilogue: 8 bytes for the stack pointer, 16 pops of 2 bytes, a jump of 7.
const LONGEST: usize = 48;
const RSP: Register = Register(7);

/// One instruction of an epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add(i32),
    /// `lea rsp, [register + n]`.
    Lea(u8, i32),
    Pop(u8),
    Return,
    /// A jump to so many bytes behind its end.
    Jump(i32),
    /// A jump to where a register or a memory word says: only used to leave a function.
    IndirectJump,
}

/// Takes the frame down by the rest of the epilogue that `rva` is in. `false`: it is in none, and nothing was changed.
pub(crate) fn run(
    rva: u32,
    function: &RuntimeFunction,
    info: &Info,
    view: &View<'_>,
    undo: &mut Undo<'_, '_, '_>,
) -> Result<bool, &'static str> {
    let code = view.bytes(rva, LONGEST);
    let Some(steps) = read(&code, rva, function, info, view) else {
        let inside = info.epilogues.iter().any(|(start, size)| {
            let begin = function.end.wrapping_sub(*start);
            rva.wrapping_sub(begin) < *size
        });
        // The first byte of an epilogue is still the body's frame.
        let missing = code.is_empty() && inside;
        return if missing { Err("the code of the epilogue that it is in is not in the dump") } else { Ok(false) };
    };
    for step in steps {
        match step {
            Step::Add(n) => {
                let sp = undo.sp()?;
                undo.set_sp(sp.wrapping_add(i64::from(n).cast_unsigned()));
            }
            Step::Lea(number, n) => {
                let base = undo.registers.get(register(number)).ok_or("the frame register is not known")?;
                undo.set_sp(base.wrapping_add(i64::from(n).cast_unsigned()));
            }
            Step::Pop(number) => undo.pop(register(number))?,
            Step::Return | Step::Jump(_) | Step::IndirectJump => {}
        }
    }
    Ok(true)
}

/// The instructions from `rva` to the end of the epilogue, if they are one.
fn read(code: &[u8], rva: u32, function: &RuntimeFunction, info: &Info, view: &View<'_>) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut at = 0_usize;
    loop {
        let (step, length) = decode(code.get(at..)?)?;
        at = at.checked_add(length)?;
        match step {
            Step::Add(n) if !steps.is_empty() || n < 0 => return None,
            Step::Lea(..) if !steps.is_empty() => return None,
            Step::Lea(number, _) if info.frame.is_none_or(|(frame, _)| frame != number) => return None,
            Step::Pop(number) if register(number) == RSP => return None,
            Step::Jump(distance) => {
                let end = rva.checked_add(u32::try_from(at).ok()?)?;
                if !leaves(end.wrapping_add_signed(distance), function, view) {
                    return None;
                }
                steps.push(step);
                return Some(steps);
            }
            Step::Return | Step::IndirectJump => {
                steps.push(step);
                return Some(steps);
            }
            _ => steps.push(step),
        }
    }
}

/// Whether a jump to `target` is a call that takes the place of the return: to another function, or to the start of its
/// own; not to another part of it.
fn leaves(target: u32, function: &RuntimeFunction, view: &View<'_>) -> bool {
    let start = |part: &RuntimeFunction| -> u32 {
        let mut part = *part;
        for _ in 0..32 {
            match x64::info(view, part.unwind).ok().and_then(|info| info.chained) {
                Some(next) => part = next,
                None => break,
            }
        }
        part.begin
    };
    let own = start(function);
    if (function.begin..function.end).contains(&target) {
        return target == own;
    }
    match x64::find(view, target) {
        Ok(Some(other)) => start(&other) != own || target == own,
        // A leaf, or another image.
        _ => true,
    }
}

/// Decodes one instruction (Intel SDM volume 2) and gives its length; `None` when it cannot be in an epilogue.
fn decode(code: &[u8]) -> Option<(Step, usize)> {
    let (rex, rest, prefix) = match code {
        [rex @ 0x40..=0x4f, rest @ ..] => (*rex, rest, 1),
        _ => (0, code, 0),
    };
    let wide = rex & 8 != 0;
    let high = (rex & 1) << 3;
    let long = |at: usize| i32_at(rest, at, Endian::Little);
    let (step, length): (Step, usize) = match rest {
        // add rsp, imm8 / imm32.
        [0x83, 0xc4, n, ..] if wide && high == 0 => (Step::Add(i32::from(n.cast_signed())), 3),
        [0x81, 0xc4, ..] if wide && high == 0 => (Step::Add(long(2)?), 6),
        // lea rsp, [base + disp]: without index, so that a base of rsp or r12 cannot be meant.
        [0x8d, modrm, ..] if wide && rex & 6 == 0 && modrm & 0x38 == 0x20 && modrm & 7 != 4 => {
            let base = (modrm & 7) | high;
            match (modrm >> 6, rest.get(2)) {
                (0, _) if modrm & 7 != 5 => (Step::Lea(base, 0), 2),
                (1, Some(n)) => (Step::Lea(base, i32::from(n.cast_signed())), 3),
                (2, _) => (Step::Lea(base, long(2)?), 6),
                _ => return None,
            }
        }
        [op @ 0x58..=0x5f, ..] => (Step::Pop((op & 7) | high), 1),
        [0xc3, ..] | [0xc2, _, _, ..] if rex == 0 => (Step::Return, 1),
        [0xf3, 0xc3, ..] if rex == 0 => (Step::Return, 2),
        [0xeb, n, ..] if rex == 0 => (Step::Jump(i32::from(n.cast_signed())), 2),
        [0xe9, ..] if rex == 0 => (Step::Jump(long(1)?), 5),
        // jmp [rip + n], and any jmp with a REX.W prefix, which says just this.
        [0xff, 0x25, ..] => (Step::IndirectJump, 6),
        [0xff, modrm, ..] if wide && modrm & 0x38 == 0x20 => (Step::IndirectJump, 2),
        _ => return None,
    };
    Some((step, length.checked_add(prefix)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let one = |code: &[u8]| decode(code);
        assert_eq!(one(&[0x48, 0x83, 0xc4, 0x28, 0x90]), Some((Step::Add(0x28), 4)));
        assert_eq!(one(&[0x48, 0x81, 0xc4, 0xb8, 0x11, 1, 0]), Some((Step::Add(0x111b8), 7)));
        assert_eq!(one(&[0x48, 0x8d, 0x65, 0xf0]), Some((Step::Lea(5, -16), 4)));
        assert_eq!(one(&[0x49, 0x8d, 0x63, 8]), Some((Step::Lea(11, 8), 4)));
        assert_eq!(one(&[0x48, 0x8d, 0xa5, 0, 1, 0, 0]), Some((Step::Lea(5, 256), 7)));
        assert_eq!(one(&[0x5b]), Some((Step::Pop(3), 1)));
        assert_eq!(one(&[0x41, 0x5e]), Some((Step::Pop(14), 2)));
        assert_eq!(one(&[0xc3]), Some((Step::Return, 1)));
        assert_eq!(one(&[0xeb, 0xfe]), Some((Step::Jump(-2), 2)));
        assert_eq!(one(&[0x48, 0xff, 0xe0]), Some((Step::IndirectJump, 3)));
        // mov, sub, a switch's jump through a register.
        for other in [&[0x48, 0x89, 0xe5][..], &[0x48, 0x83, 0xec, 0x28], &[0xff, 0xe0], &[]] {
            assert_eq!(one(other), None);
        }
    }
}
