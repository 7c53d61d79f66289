//! What AArch64 instructions do to a frame, and epilogues, which are carried out.
//!
//! Instructions: Arm ARM, C4.1. Those of prologues and epilogues move the stack pointer by constants and store or load
//! registers relative to it.

use crate::undo::Undo;
use evidence::Register;
use evidence::bytes::{Endian, u32_at};
use std::ops::Range;

pub(crate) const FP: Register = Register(29);
pub(crate) const LR: Register = Register(30);

/// What an instruction does to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `stp`, `str`: stores registers (numbers of x registers; `None` for vectors) at sp + offset; `moves`: sp becomes
    /// that address before.
    Store {
        registers: [Option<u16>; 2],
        moves: i64,
    },
    /// `ldp`, `ldr` at sp + offset; `moves`: sp grows by that afterwards.
    Load {
        registers: [Option<u16>; 2],
        offset: i64,
        size: i64,
        moves: i64,
    },
    /// `sub sp, sp, n` (negative) or `add sp, sp, n`.
    Move(i64),
    /// `add x29, sp, n`.
    SetFrame(i64),
    /// `mov sp, x29`, `sub sp, x29, n`.
    FromFrame(i64),
    /// Landing pads and signing or authenticating the link register.
    Mark,
    Return,
    /// `b` to so many bytes further on.
    Branch(i64),
    /// `br`.
    IndirectBranch,
    /// `b.cond`, `cbz`, `tbz`.
    ConditionalBranch,
    Call,
    /// `brk`, `udf`, anything that does not go on.
    Trap,
    /// Anything else; `true`: it writes none of the registers that matter here.
    Other(bool),
}

fn signed(value: u32, bits: u32) -> i64 {
    let shift = 64_u32.saturating_sub(bits);
    i64::from(value).wrapping_shl(shift).wrapping_shr(shift)
}

pub(crate) fn decode(word: u32) -> Op {
    let field = |shift: u32, bits: u32| word.wrapping_shr(shift) & 1_u32.wrapping_shl(bits).wrapping_sub(1);
    let is_sp = field(5, 5) == 31;
    let register = |shift: u32| u16::try_from(field(shift, 5)).ok();
    // Load/store pair: opc 101 V mode L imm7 Rt2 Rn Rt. 64-bit integers, 64-bit and 128-bit vectors.
    let pair = match word >> 22 & 0x3fe {
        0x2a0..=0x2a7 => Some((8, true)),
        0x1b0..=0x1b7 => Some((8, false)),
        0x2b0..=0x2b7 => Some((16, false)),
        _ => None,
    };
    if let Some((size, integer)) = pair.filter(|_| is_sp) {
        let offset = signed(field(15, 7), 7).wrapping_mul(size);
        let registers = if integer { [register(0), register(10)] } else { [None; 2] };
        let (mode, load) = (field(23, 2), field(22, 1) == 1);
        return match (mode, load) {
            (2, false) => Op::Store { registers, moves: 0 },
            (3, false) => Op::Store { registers, moves: offset },
            (2, true) => Op::Load { registers, offset, size, moves: 0 },
            (1, true) => Op::Load { registers, offset: 0, size, moves: offset },
            _ => Op::Other(false),
        };
    }
    // Load/store register, unsigned offset, and pre- and post-indexed: size 111 V mode.
    let single = match word >> 21 & 0x7ff {
        0x7c8..=0x7cb => Some((true, true)),
        0x7e8..=0x7eb => Some((false, true)),
        0x7c0..=0x7c3 => Some((true, false)),
        0x7e0..=0x7e3 => Some((false, false)),
        _ => None,
    };
    if let Some((integer, scaled)) = single.filter(|_| is_sp) {
        let registers = [if integer { register(0) } else { None }, None];
        let load = field(22, 1) == 1;
        if scaled {
            let offset = i64::from(field(10, 12)).wrapping_mul(8);
            return if load {
                Op::Load { registers, offset, size: 8, moves: 0 }
            } else {
                Op::Store { registers, moves: 0 }
            };
        }
        let offset = signed(field(12, 9), 9);
        return match (field(10, 2), load, field(21, 1)) {
            (3, false, 0) => Op::Store { registers, moves: offset },
            (1, true, 0) => Op::Load { registers, offset: 0, size: 8, moves: offset },
            _ => Op::Other(false),
        };
    }
    let amount = || i64::from(field(10, 12)).wrapping_shl(field(22, 1).wrapping_mul(12));
    match (word & 0xff80_03ff, word) {
        (0xd100_03ff, _) => Op::Move(amount().wrapping_neg()),
        (0x9100_03ff, _) => Op::Move(amount()),
        (0x9100_03fd, _) => Op::SetFrame(amount()),
        (0x9100_03bf, _) => Op::FromFrame(amount()),
        (0xd100_03bf, _) => Op::FromFrame(amount().wrapping_neg()),
        // nop, paciasp, pacibsp, autiasp, autibsp, xpaclri, bti and the other hints.
        (_, 0xd503_201f..=0xd503_2fff) if word & 0xffff_f01f == 0xd503_201f => Op::Mark,
        // pacia, pacib, autia, autib of x30 by sp, which the hints are for processors that have them.
        (_, 0xdac1_03fe | 0xdac1_07fe | 0xdac1_13fe | 0xdac1_17fe) => Op::Mark,
        // ret, retaa, retab.
        (_, 0xd65f_03c0 | 0xd65f_0bff | 0xd65f_0fff) => Op::Return,
        _ => match word >> 26 {
            0x05 => Op::Branch(signed(field(0, 26), 26).wrapping_mul(4)),
            0x25 => Op::Call,
            _ => branch(word),
        },
    }
}

/// The other branches.
const fn branch(word: u32) -> Op {
    match word >> 24 {
        0x54 | 0x34..=0x37 | 0xb4..=0xb7 => Op::ConditionalBranch,
        // brk, hlt; udf has zeros above.
        0xd4 if word & 0x00e0_001f == 0x0020_0000 || word & 0x00e0_001f == 0x0040_0000 => Op::Trap,
        0x00 if word >> 16 == 0 => Op::Trap,
        // br, braa: with bit 21 set blr, blraa; eret and others are not for programs.
        0xd6 | 0xd7 => match word >> 21 & 7 {
            0 => Op::IndirectBranch,
            1 => Op::Call,
            _ => Op::Other(false),
        },
        _ => Op::Other(keeps_frame(word)),
    }
}

/// Whether an instruction leaves x19 to x30 and the stack pointer alone: what it writes is in its lowest five bits, of
/// pairs also in those from bit 10 on. Instructions that only set flags have 31 there.
const fn keeps_frame(word: u32) -> bool {
    let (first, second) = (word & 31, word >> 10 & 31);
    let is_pair = word >> 27 & 7 == 5;
    let flags_only = first == 31 && matches!(word >> 24, 0x6a | 0x6b | 0x71 | 0x72 | 0xea | 0xeb | 0xf1 | 0xf2);
    (first < 19 || flags_only) && (!is_pair || second < 19)
}

/// The instructions of a piece of code.
pub(crate) fn words(code: &[u8]) -> Vec<Op> {
    code.chunks_exact(4).filter_map(|raw| u32_at(raw, 0, Endian::Little)).map(decode).collect()
}

/// Carries out what is left of the function, if it only takes the frame down.
/// `after` is the code from `pc` on, `function` is where it lies; the return address is in the link register then.
pub(crate) fn epilogue<'u, 'w, 'm>(
    mut undo: Undo<'u, 'w, 'm>,
    pc: u64,
    function: &Range<u64>,
    after: &[Op],
) -> Option<Undo<'u, 'w, 'm>> {
    /// Most instructions from the first one of an epilogue to the return.
    const LIMIT_EPILOGUE: usize = 24;
    let mut moved = false;
    for (n, op) in after.iter().take(LIMIT_EPILOGUE).enumerate() {
        let sp = undo.sp().ok()?;
        match *op {
            Op::Load { registers, offset, size, moves } => {
                let mut at = sp.wrapping_add(offset.cast_unsigned());
                for register in registers {
                    if let Some(number) = register.filter(|n| (19..=30).contains(n)) {
                        undo.load(Register(number), at);
                        moved = true;
                    }
                    at = at.wrapping_add(size.cast_unsigned());
                }
                moved |= moves != 0;
                undo.set_sp(sp.wrapping_add(moves.cast_unsigned()));
            }
            Op::Move(by) if by > 0 => {
                moved = true;
                undo.set_sp(sp.wrapping_add(by.cast_unsigned()));
            }
            Op::FromFrame(by) => {
                moved = true;
                let fp = undo.get(FP).ok()?;
                undo.set_sp(fp.wrapping_add(by.cast_unsigned()));
            }
            Op::Mark | Op::Other(true) => {}
            Op::Return => return Some(undo),
            Op::Branch(distance) => {
                let here = u64::try_from(n).unwrap_or(0).wrapping_mul(4);
                let target = pc.wrapping_add(here).wrapping_add(distance.cast_unsigned());
                return (moved && !function.contains(&target)).then_some(undo);
            }
            Op::IndirectBranch => return moved.then_some(undo),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let pair = |a, b| [Some(a), Some(b)];
        for (word, op) in [
            (0xa9be_7bfd, Op::Store { registers: pair(29, 30), moves: -32 }),
            (0xa901_4ff4, Op::Store { registers: pair(20, 19), moves: 0 }),
            (0x6dbd_23e9, Op::Store { registers: [None; 2], moves: -48 }),
            (0xf81f_0ffe, Op::Store { registers: [Some(30), None], moves: -16 }),
            (0xf900_07f3, Op::Store { registers: [Some(19), None], moves: 0 }),
            (0xa942_7bfd, Op::Load { registers: pair(29, 30), offset: 32, size: 8, moves: 0 }),
            (0xa8c3_57f6, Op::Load { registers: pair(22, 21), offset: 0, size: 8, moves: 48 }),
            (0xf841_07fe, Op::Load { registers: [Some(30), None], offset: 0, size: 8, moves: 16 }),
            (0xf940_07f3, Op::Load { registers: [Some(19), None], offset: 8, size: 8, moves: 0 }),
            (0xd100_c3ff, Op::Move(-48)),
            (0x9140_07ff, Op::Move(4096)),
            (0x9100_83fd, Op::SetFrame(32)),
            (0x9100_03bf, Op::FromFrame(0)),
            (0xd100_83bf, Op::FromFrame(-32)),
            (0xd503_237f, Op::Mark),
            (0xd503_245f, Op::Mark),
            (0xdac1_03fe, Op::Mark),
            (0xdac1_17fe, Op::Mark),
            (0xd65f_03c0, Op::Return),
            (0xd65f_0fff, Op::Return),
            (0x17ff_ffff, Op::Branch(-4)),
            (0x9400_0001, Op::Call),
            (0xd63f_0100, Op::Call),
            (0xd61f_0100, Op::IndirectBranch),
            (0x5400_0040, Op::ConditionalBranch),
            (0x3600_0040, Op::ConditionalBranch),
            (0xb400_0040, Op::ConditionalBranch),
            (0xd420_0020, Op::Trap),
            (0x0000_0000, Op::Trap),
            // stp x8, x9, [x0]; ldr x0, [x1]; mov x0, x1; strb w0, [sp, 1]; cmp x0, x1.
            (0xa900_2408, Op::Other(true)),
            (0xf940_0020, Op::Other(true)),
            (0xaa01_03e0, Op::Other(true)),
            (0x3900_07e0, Op::Other(true)),
            (0xeb01_001f, Op::Other(true)),
            // mov x19, x0; ldp x0, x20, [x1]; and sp, x9, -16.
            (0xaa00_03f3, Op::Other(false)),
            (0xa940_5020, Op::Other(false)),
            (0x927c_ed3f, Op::Other(false)),
        ] {
            assert_eq!(decode(word), op, "{word:#x}");
        }
    }
}
