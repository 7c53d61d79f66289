//! AArch64 code of macOS and iOS.

use super::{Function, LIMIT_STEPS};
use crate::Frame;
use crate::arm64_code::{FP, LR, Op, epilogue, words};
use crate::cfi_step::Caller;
use crate::undo::Undo;
use crate::walk::Walker;
use debuginfo::cfi::Cfa;
use debuginfo::macho::compact;
use evidence::{Register, Registers};

/// The caller's registers, by what is said of the function.
pub(super) fn step(
    frame: &Frame,
    described: compact::Frame,
    function: &Function<'_>,
    walker: &Walker<'_, '_>,
) -> Result<Caller, &'static str> {
    if !frame.is_return_address {
        let after = words(&function.after(walker));
        if let Some(undo) = epilogue(Undo::new(frame, walker), function.pc, &function.range, &after) {
            return leave(undo);
        }
        if let Some(depth) = not_set_up(described, function, &after, walker) {
            // What was stored is still in its register.
            let mut undo = Undo::new(frame, walker);
            let sp = undo.sp()?;
            undo.set_sp(sp.wrapping_add(depth));
            return leave(undo);
        }
    }
    let mut undo = Undo::new(frame, walker);
    match described {
        compact::Frame::Record { pairs } => {
            let fp = undo.get(FP)?;
            load_pairs(&mut undo, pairs, fp);
            undo.load(FP, fp);
            undo.load(LR, fp.wrapping_add(8));
            undo.set_sp(fp.wrapping_add(16));
        }
        compact::Frame::Leaf { size, pairs } => {
            // Nothing but a leaf, or a function that was interrupted, still has its return address in the register.
            let end = undo.sp()?.wrapping_add(size.into());
            load_pairs(&mut undo, pairs, end);
            undo.set_sp(end);
        }
        _ => return Err("its compact unwind information is that of another processor"),
    }
    leave(undo)
}

/// The caller from an epilogue, or from a prologue that begins where the function does; `None` elsewhere.
pub(super) fn edge(
    frame: &Frame,
    function: &Function<'_>,
    walker: &Walker<'_, '_>,
) -> Option<Result<Caller, &'static str>> {
    let after = words(&function.after(walker));
    if let Some(undo) = epilogue(Undo::new(frame, walker), function.pc, &function.range, &after) {
        return Some(leave(undo));
    }
    let (start, before) = function.before(walker);
    let before = words(&before);
    if start != function.range.start {
        return None;
    }
    // What was stored is still in its register, but for the frame pointer.
    let prologue = before.iter().take_while(|op| is_part(op)).count();
    let done = depth(&mut before.iter().take(prologue));
    let mut undo = Undo::new(frame, walker);
    match before.get(prologue) {
        None => {
            let sp = undo.sp().ok()?;
            undo.set_sp(sp.wrapping_add(done));
        }
        // The rules say that the frame pointer is set some instructions later than it is.
        Some(Op::SetFrame(above)) if is_stale(frame, walker) => {
            let fp = undo.get(FP).ok()?;
            undo.load(FP, fp);
            undo.set_sp(fp.wrapping_sub(above.cast_unsigned()).wrapping_add(done));
        }
        Some(_) => return None,
    }
    Some(leave(undo))
}

/// Whether the rules for a frame are relative to the stack pointer.
fn is_stale(frame: &Frame, walker: &Walker<'_, '_>) -> bool {
    let sp = Registers::sp_register(walker.arch);
    walker.row_at(frame.lookup()).is_some_and(|row| matches!(row.cfa, Cfa::Offset(base, _) if base == sp))
}

/// Pairs of registers lie downwards from `end`, the lower number above.
fn load_pairs(undo: &mut Undo<'_, '_, '_>, pairs: [u16; 5], end: u64) {
    let mut at = end;
    for first in pairs.into_iter().filter(|first| *first != 0) {
        for register in [first, first.saturating_add(1)] {
            at = at.wrapping_sub(8);
            undo.load(Register(register), at);
        }
    }
}

/// The return, when everything else is undone.
fn leave(undo: Undo<'_, '_, '_>) -> Result<Caller, &'static str> {
    let link = undo.registers.get(LR).ok_or("the return address is not known")?;
    undo.leave(link)
}

/// How many bytes of the frame are on the stack where it is not yet set up.
fn not_set_up(
    described: compact::Frame,
    function: &Function<'_>,
    after: &[Op],
    walker: &Walker<'_, '_>,
) -> Option<u64> {
    let before = words(&function.before(walker).1);
    let framed = matches!(described, compact::Frame::Record { .. });
    // What of a prologue lies directly before and behind the program counter.
    let done = depth(&mut before.iter().rev().take_while(|op| is_part(op)));
    if framed && sets_frame(after) {
        return Some(done);
    }
    let left = depth(&mut after.iter().take_while(|op| is_part(op)));
    // Behind the room for a leaf's registers they are stored, and nothing else is done: all are still what they were.
    if !framed && (left > 0 || done > 0) {
        return Some(done);
    }
    is_bare(framed, function, after).then_some(0)
}

/// Whether an instruction may be a part of a prologue before the frame pointer is set.
const fn is_part(op: &Op) -> bool {
    match op {
        Op::Store { .. } | Op::Mark => true,
        Op::Move(n) => *n < 0,
        _ => false,
    }
}

/// How far instructions of a prologue move the stack pointer down.
fn depth(ops: &mut dyn Iterator<Item = &Op>) -> u64 {
    ops.fold(0, |depth, op| match op {
        Op::Move(n) | Op::Store { moves: n, .. } => depth.wrapping_add(n.wrapping_neg().cast_unsigned()),
        _ => depth,
    })
}

/// Whether nothing but a prologue comes before the frame pointer is set.
fn sets_frame(after: &[Op]) -> bool {
    matches!(after.iter().find(|op| !is_part(op)), Some(Op::SetFrame(_)))
}

/// Whether, on the way from the program counter on, a frame is set up or the function is left before anything that
/// needs one.
fn is_bare(framed: bool, function: &Function<'_>, after: &[Op]) -> bool {
    let mut at = 0_usize;
    for _ in 0..LIMIT_STEPS {
        let Some(op) = after.get(at) else { return false };
        match *op {
            // With a frame pointer more room may be made when it is set: only before it this is a prologue.
            Op::Store { moves: n, .. } | Op::Move(n)
                if n < 0 && (!framed || sets_frame(after.get(at..).unwrap_or_default())) =>
            {
                return true;
            }
            Op::Move(n) if framed && n < 0 => {}
            Op::Move(_) | Op::FromFrame(_) | Op::Trap | Op::IndirectBranch => return false,
            Op::Load { moves, registers, .. } => {
                if moves != 0 || (framed && registers.contains(&Some(29))) {
                    return false;
                }
            }
            Op::Call => return false,
            Op::Return => return true,
            Op::Branch(distance) => {
                let here = u64::try_from(at).unwrap_or(0).wrapping_mul(4);
                let target = function.pc.wrapping_add(here).wrapping_add(distance.cast_unsigned());
                if !function.range.contains(&target) {
                    return true;
                }
                // Backwards is where it was before.
                let Some(ahead) = usize::try_from(distance).ok().and_then(|d| d.checked_div(4)).filter(|d| *d > 0)
                else {
                    return false;
                };
                at = at.saturating_add(ahead);
                continue;
            }
            Op::Store { .. } | Op::SetFrame(_) | Op::Mark | Op::ConditionalBranch | Op::Other(_) => {}
        }
        at = at.saturating_add(1);
    }
    false
}
