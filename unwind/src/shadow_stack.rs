//! The processor's own copy of the return addresses (Intel CET, AMD shadow stacks): only calls write it, only returns
//! read it, so that neither an overrun nor a missing unwind table harms it.
//!
//! It names every caller, and nothing else: the other registers of a frame still come from the method that found the
//! same return address. Where that method found another one, or none, the shadow stack's counts.
//!
//! Source: Intel SDM volume 1, chapter 17 (CALL pushes the return address on both stacks; RET compares).

use crate::walk::{Step, Walker};
use crate::{Frame, Trust};
use evidence::{Addr, Arch, Register, Registers, ToU64, ToUsize, bytes};

/// The shadow stack pointer (our number, see [`Registers`]).
pub(crate) const SSP: Register = Register(60);

/// Bytes of the ordinary stack in which the slot of a return address is looked for: its distance is the size of one
/// frame, and larger ones than 64 KiB are rare. Without the slot only the stack pointer remains unknown.
const LIMIT_SLOT: u64 = 64 << 10;
/// Shadow stacks are made of pages of this size.
const PAGE: u64 = 4096;

/// Puts the shadow stack's word beside what another method found for the caller of `frame`.
pub(crate) fn check(frame: &mut Frame, step: Step, walker: &Walker<'_, '_>) -> Step {
    let Some(ssp) = frame.registers.get(SSP) else { return step };
    // Handlers are entered without a call: a token lies there, in each system's own form.
    if frame.signal_frame {
        return without(step);
    }
    let word = u64::from(walker.arch.pointer_size());
    let Ok(expected) = walker.read_pointer(Addr(ssp)) else {
        // Behind its last page nothing was ever called. Elsewhere it is not in the dump.
        let followed = frame.trust == Trust::ShadowStack && ssp.checked_rem(PAGE) == Some(0);
        return if followed { Step::End } else { without(step) };
    };
    let known = walker.info.modules().find(Addr(expected).wrapping_sub(1)).is_some();
    let Some(after) = ssp.checked_add(word).filter(|_| known) else { return without(step) };
    match step {
        Step::End => Step::End,
        Step::Caller(mut caller) if caller.pc.0 == expected => {
            caller.registers.set(SSP, after);
            if matches!(caller.trust, Trust::Scan | Trust::FramePointer) {
                caller.trust = Trust::ShadowStack;
                caller.suspect = false;
            }
            Step::Caller(caller)
        }
        // The table knows how large the frame is; what lies in it was overwritten.
        Step::Caller(caller) if matches!(caller.trust, Trust::Cfi | Trust::Orc) => {
            let sp = caller.registers.sp();
            Step::Caller(rebuilt(frame, expected, after, sp, true, walker))
        }
        Step::Caller(_) | Step::Lost(_) => {
            let sp = slot(&frame.registers, expected, walker).and_then(|at| at.checked_add(word));
            frame.cfa = sp;
            Step::Caller(rebuilt(frame, expected, after, sp, false, walker))
        }
    }
}

/// What was found, from where on the shadow stack is not followed.
fn without(step: Step) -> Step {
    match step {
        Step::Caller(mut caller) => {
            caller.registers.forget(SSP);
            Step::Caller(caller)
        }
        other => other,
    }
}

/// The caller at `pc`, of which the stack pointer may be known.
fn rebuilt(frame: &Frame, pc: u64, ssp: u64, sp: Option<Addr>, suspect: bool, walker: &Walker<'_, '_>) -> Frame {
    let arch = frame.registers.arch;
    let mut registers = walker.thread_state(&frame.registers);
    registers.set(Registers::pc_register(arch), pc);
    registers.set(SSP, ssp);
    if let Some(sp) = sp {
        registers.set(Registers::sp_register(arch), sp.0);
    }
    Frame {
        registers,
        pc: Addr(pc),
        is_return_address: true,
        cfa: None,
        trust: Trust::ShadowStack,
        signal_frame: false,
        suspect,
    }
}

/// Where the ordinary stack holds `value`, at or above the stack pointer.
fn slot(registers: &Registers, value: u64, walker: &Walker<'_, '_>) -> Option<Addr> {
    let word = usize::from(walker.arch.pointer_size());
    let start = Addr(registers.sp()?.0.checked_next_multiple_of(word.to_u64())?);
    let mut stack = vec![0; LIMIT_SLOT.to_usize()];
    let (got, _) = walker.memory.read(start, &mut stack);
    let words = stack.get(..got)?.chunks_exact(word);
    let index = words.into_iter().position(|w| match walker.arch {
        Arch::X86 => bytes::u32_at(w, 0, walker.endian).map(u64::from) == Some(value),
        _ => bytes::u64_at(w, 0, walker.endian) == Some(value),
    })?;
    start.checked_add(index.checked_mul(word)?.to_u64())
}

/// Whether the shadow stack says that `outer` is further out than `inner`.
pub(crate) fn goes_up(inner: &Frame, outer: &Frame) -> bool {
    match (inner.registers.get(SSP), outer.registers.get(SSP)) {
        (Some(inner), Some(outer)) => outer > inner,
        _ => false,
    }
}
