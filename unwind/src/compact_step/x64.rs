//! x86-64 code of macOS.

use super::{Function, LIMIT_STEPS, length};
use crate::Frame;
use crate::cfi_step::Caller;
use crate::code::{ReturnTo, follows_call};
use crate::undo::Undo;
use crate::walk::Walker;
use debuginfo::macho::compact::{self, StackSize};
use evidence::bytes::{Endian, u32_at};
use evidence::{Addr, Register, ToUsize};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register as Reg,
};

const RBP: Register = Register(6);
/// `push rbp; mov rbp, rsp`, as LLVM writes it.
const FRAME_SETUP: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// Most instructions of a prologue: six pushes, two moves, a landing pad, and room.
const LIMIT_PROLOGUE: usize = 24;

/// The caller's registers, by what is said of the function.
pub(super) fn step(
    frame: &Frame,
    described: compact::Frame,
    function: &Function<'_>,
    walker: &Walker<'_, '_>,
) -> Result<Caller, &'static str> {
    if !frame.is_return_address {
        if let Some(undo) = epilogue(frame, described, function, walker) {
            return leave(undo);
        }
        if let Some(pushed) = not_set_up(described, function, walker) {
            let mut undo = Undo::new(frame, walker);
            match pushed {
                // What was pushed is still in its register; but the frame pointer is not.
                Setup { frame: true, .. } => {
                    let fp = undo.get(RBP)?;
                    undo.load(RBP, fp);
                    undo.set_sp(fp.wrapping_add(8));
                }
                Setup { depth, .. } => {
                    let sp = undo.sp()?;
                    undo.set_sp(sp.wrapping_add(depth));
                }
            }
            return leave(undo);
        }
    }
    let mut undo = Undo::new(frame, walker);
    match described {
        compact::Frame::FramePointer { below, saved } => {
            let fp = undo.get(RBP)?;
            let mut at = fp.wrapping_sub(below.into());
            for register in saved {
                if register != 0 {
                    undo.load(Register(register), at);
                }
                at = at.wrapping_add(8);
            }
            undo.load(RBP, fp);
            undo.set_sp(fp.wrapping_add(8));
        }
        compact::Frame::Frameless { size, saved } => {
            let size = match size {
                StackSize::Stated(size) => size.into(),
                StackSize::InCode { at, pushed } => {
                    let at = function.range.start.wrapping_add(at.into());
                    let code = function.code(at, at.wrapping_add(4), walker);
                    let number = u32_at(&code, 0, Endian::Little).ok_or("the size of its frame is in missing code")?;
                    u64::from(number).wrapping_add(pushed.into())
                }
            };
            let end = undo.sp()?.wrapping_add(size).wrapping_sub(8);
            let count = saved.iter().filter(|r| **r != 0).count();
            let mut at = end.wrapping_sub(u64::try_from(count).unwrap_or(0).wrapping_mul(8));
            for register in saved.into_iter().take(count) {
                undo.load(Register(register), at);
                at = at.wrapping_add(8);
            }
            undo.set_sp(end);
        }
        _ => return Err("its compact unwind information is that of another processor"),
    }
    leave(undo)
}

/// The caller from an epilogue; `None` elsewhere.
pub(super) fn edge(
    frame: &Frame,
    described: compact::Frame,
    function: &Function<'_>,
    walker: &Walker<'_, '_>,
) -> Option<Result<Caller, &'static str>> {
    epilogue(frame, described, function, walker).map(leave)
}

/// The return, when the stack pointer is at the return address.
fn leave(mut undo: Undo<'_, '_, '_>) -> Result<Caller, &'static str> {
    let sp = undo.sp()?;
    let pc = undo.word(sp).ok_or("the return address is not in the dump")?;
    undo.set_sp(sp.wrapping_add(8));
    undo.leave(pc)
}

/// How far a prologue has got: bytes on the stack, and whether the frame pointer is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setup {
    depth: u64,
    frame: bool,
}

fn register(register: Reg) -> Option<Register> {
    Some(Register(match register {
        Reg::RBX => 3,
        Reg::RBP => 6,
        Reg::RSP => 7,
        Reg::R12 => 12,
        Reg::R13 => 13,
        Reg::R14 => 14,
        Reg::R15 => 15,
        _ => return None,
    }))
}

fn is_move(i: &Instruction, to: Reg, from: Reg) -> bool {
    i.mnemonic() == Mnemonic::Mov && i.op0_register() == to && i.op1_register() == from
}

/// The number in `add rsp, n` or `sub rsp, n`.
fn constant(i: &Instruction) -> Option<u64> {
    let number = matches!(i.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64);
    (i.op0_kind() == OpKind::Register && i.op0_register() == Reg::RSP && number).then(|| i.immediate(1))
}

/// How far the prologue that begins with `code` has got at its end; `None`: something else is in it.
fn prologue(code: &[u8], at: u64) -> Option<Setup> {
    let mut setup = Setup { depth: 0, frame: false };
    let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
    for _ in 0..LIMIT_PROLOGUE {
        if !decoder.can_decode() {
            return Some(setup);
        }
        let i = decoder.decode();
        match i.mnemonic() {
            Mnemonic::Endbr64 => {}
            Mnemonic::Push if i.op0_kind() == OpKind::Register => setup.depth = setup.depth.wrapping_add(8),
            Mnemonic::Sub => setup.depth = setup.depth.wrapping_add(constant(&i)?),
            _ if is_move(&i, Reg::RBP, Reg::RSP) => setup.frame = true,
            _ => return None,
        }
    }
    None
}

/// Whether the frame that is described is not there yet, and what of it is.
fn not_set_up(described: compact::Frame, function: &Function<'_>, walker: &Walker<'_, '_>) -> Option<Setup> {
    let (start, before) = function.before(walker);
    if start == function.range.start
        && let Some(setup) = prologue(&before, start)
    {
        return Some(setup);
    }
    let compact::Frame::FramePointer { .. } = described else { return None };
    // Functions whose frame is set up later than at their start: those with a short way out.
    let plain = before.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&before);
    if plain.starts_with(&FRAME_SETUP) {
        return None;
    }
    let after = function.after(walker);
    if after.starts_with(&FRAME_SETUP) {
        return Some(Setup { depth: 0, frame: false });
    }
    if before.ends_with(&FRAME_SETUP[..1]) && after.starts_with(&FRAME_SETUP[1..]) {
        return Some(Setup { depth: 8, frame: false });
    }
    if let Some(place) = before.windows(4).rposition(|w| w == FRAME_SETUP)
        && let Some(setup) = before.get(place..).and_then(|code| prologue(code, 0))
    {
        return Some(setup);
    }
    is_bare(function, &after).then_some(Setup { depth: 0, frame: false })
}

/// Whether, on the way from the program counter on, a frame is set up or the function is left before anything that
/// needs one.
fn is_bare(function: &Function<'_>, after: &[u8]) -> bool {
    let mut decoder = Decoder::with_ip(64, after, function.pc, DecoderOptions::NONE);
    for _ in 0..LIMIT_STEPS {
        if !decoder.can_decode() {
            return false;
        }
        let i = decoder.decode();
        match (i.mnemonic(), i.flow_control()) {
            (Mnemonic::Push, _) if i.op0_register() == Reg::RBP => return true,
            (Mnemonic::Pop, _) if i.op0_register() == Reg::RBP => return false,
            (Mnemonic::Leave, _) => return false,
            (_, FlowControl::Return) => return true,
            (_, FlowControl::Next | FlowControl::ConditionalBranch) => {}
            (_, FlowControl::UnconditionalBranch) => {
                let target = i.near_branch_target();
                if !function.range.contains(&target) {
                    return true;
                }
                // Backwards is where it was before.
                let Some(ahead) = target.checked_sub(function.pc).filter(|_| target >= i.next_ip()) else {
                    return false;
                };
                if ahead > length(after) || decoder.set_position(ahead.to_usize()).is_err() {
                    return false;
                }
                decoder.set_ip(target);
            }
            _ => return false,
        }
    }
    false
}

/// Carries out what is left of the function, if it only takes the frame down: then the stack pointer is at the return
/// address.
fn epilogue<'u, 'w, 'm>(
    frame: &Frame,
    described: compact::Frame,
    function: &Function<'_>,
    walker: &'u Walker<'w, 'm>,
) -> Option<Undo<'u, 'w, 'm>> {
    /// Most instructions from the first one of an epilogue to the return.
    const LIMIT_EPILOGUE: usize = 48;
    let after = function.after(walker);
    let mut undo = Undo::new(frame, walker);
    let mut info = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, &after, function.pc, DecoderOptions::NONE);
    let mut moved = false;
    for _ in 0..LIMIT_EPILOGUE {
        if !decoder.can_decode() {
            return None;
        }
        let i = decoder.decode();
        let sp = undo.sp().ok()?;
        match i.mnemonic() {
            Mnemonic::Add if constant(&i).is_some() => undo.set_sp(sp.wrapping_add(constant(&i)?)),
            Mnemonic::Lea if i.op0_register() == Reg::RSP => {
                if i.memory_base() != Reg::RBP || i.memory_index() != Reg::None {
                    return None;
                }
                let fp = undo.get(RBP).ok()?;
                undo.set_sp(fp.wrapping_add(i.memory_displacement64()));
            }
            Mnemonic::Leave => {
                let fp = undo.get(RBP).ok()?;
                undo.load(RBP, fp);
                undo.set_sp(fp.wrapping_add(8));
            }
            Mnemonic::Pop if i.op0_kind() == OpKind::Register && i.op0_register() != Reg::RSP => {
                if let Some(register) = register(i.op0_register()) {
                    undo.load(register, sp);
                }
                undo.set_sp(sp.wrapping_add(8));
            }
            _ if is_move(&i, Reg::RSP, Reg::RBP) => {
                let fp = undo.get(RBP).ok()?;
                undo.set_sp(fp);
            }
            _ => match i.flow_control() {
                FlowControl::Return => return Some(undo),
                FlowControl::UnconditionalBranch if !function.range.contains(&i.near_branch_target()) => {
                    return (moved || at_return(described, function, &undo)).then_some(undo);
                }
                FlowControl::IndirectBranch => {
                    return (moved || at_return(described, function, &undo)).then_some(undo);
                }
                FlowControl::Next if keeps_frame(&i, &mut info) => continue,
                _ => return None,
            },
        }
        moved = true;
    }
    None
}

/// Whether an instruction changes no register that matters here.
fn keeps_frame(i: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    info.info(i).used_registers().iter().all(|used| {
        let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        !written || register(used.register().full_register()).is_none()
    })
}

/// Whether a jump is where a return would be: the frame has just been taken down, or never was one, or the stack pointer
/// is at a return address.
fn at_return(described: compact::Frame, function: &Function<'_>, undo: &Undo<'_, '_, '_>) -> bool {
    if matches!(described, compact::Frame::Frameless { size: StackSize::Stated(8), .. }) {
        return true;
    }
    let before = function.before(undo.walker).1;
    let popped = matches!(before.as_slice(), [.., 0x58..=0x5f | 0xc9]);
    let added = matches!(before.as_slice(), [.., 0x48, 0x83, 0xc4, _] | [.., 0x48, 0x81, 0xc4, _, _, _, _]);
    let walker = undo.walker;
    let word = undo.sp().ok().and_then(|sp| undo.word(sp));
    let returns = word.map(|w| follows_call(Addr(w), walker.arch, walker.memory, walker.info.modules()));
    (popped || added) && returns != Some(ReturnTo::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prologues() {
        let setup = |code: &[u8]| prologue(code, 0).map(|s| (s.depth, s.frame));
        assert_eq!(setup(&[]), Some((0, false)));
        assert_eq!(setup(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Some((8, false)));
        assert_eq!(setup(&[0x55, 0x48, 0x89, 0xe5]), Some((8, true)));
        assert_eq!(setup(&[0x55, 0x48, 0x8b, 0xec, 0x41, 0x57]), Some((16, true)));
        assert_eq!(setup(&[0x53, 0x48, 0x81, 0xec, 0, 1, 0, 0]), Some((264, false)));
        assert_eq!(setup(&[0x48, 0x83, 0xec, 0x18]), Some((24, false)));
        // xor eax, eax; sub eax, 8; mov rbp, rdi.
        for other in [&[0x31, 0xc0][..], &[0x83, 0xe8, 8], &[0x48, 0x89, 0xfd]] {
            assert_eq!(setup(other), None);
        }
    }
}
