//! One step outwards by the unwind data of an ARM64 image of Windows.
//!
//! Source: Microsoft's "ARM64 exception handling": what is left of the codes is carried out in order. The rest of an
//! epilogue whose instructions are at hand is carried out as they are, because those of packed entries may leave out
//! what the description has.

use crate::arm64_code::{FP, LR, epilogue, words};
use crate::pe_step::Caller;
use crate::undo::Undo;
use crate::walk::Walker;
use crate::{Frame, abi};
use debuginfo::pe::View;
use debuginfo::pe::arm64::{self, Op};
use evidence::{Addr, Arch, Register, Registers};

/// Bytes from the first instruction of an epilogue to the return.
const EPILOGUE: usize = 96;

/// Places in a `CONTEXT` of ARM64 (`winnt.h`): x0, sp, pc.
const CONTEXT_X: u64 = 8;
const CONTEXT_SP: u64 = 0x100;
const CONTEXT_PC: u64 = 0x108;

/// The caller of `frame`, which lies at `rva`.
pub(crate) fn unwind(
    frame: &Frame,
    rva: u32,
    view: &View<'_>,
    walker: &Walker<'_, '_>,
) -> Result<Caller, &'static str> {
    let Some(ops) = arm64::find(view, rva, frame.is_return_address)? else {
        if view.file.is_code(rva.into()) != Some(true) {
            return Err("it is not in a section of code");
        }
        // A leaf.
        return leave(Undo::new(frame, walker), None);
    };
    if !frame.is_return_address {
        let code = words(&view.bytes(rva, EPILOGUE));
        // Where the function ends is of no matter: a branch behind a restored frame leaves it.
        let here = u64::from(rva);
        if let Some(undo) = epilogue(Undo::new(frame, walker), here, &(here..here), &code) {
            return leave(undo, None);
        }
    }
    let mut undo = Undo::new(frame, walker);
    for op in ops {
        match op {
            Op::Alloc(size) => move_up(&mut undo, size)?,
            Op::Save(registers, offset) => load(&mut undo, registers, offset)?,
            Op::Push(registers, size) => {
                load(&mut undo, registers, 0)?;
                move_up(&mut undo, size)?;
            }
            Op::SetFrame => {
                let fp = undo.get(FP)?;
                undo.set_sp(fp);
            }
            Op::AddFrame(above) => {
                let fp = undo.get(FP)?;
                undo.set_sp(fp.wrapping_sub(above.into()));
            }
            Op::Sign | Op::Nothing => {}
            Op::MachineFrame => {
                let at = undo.sp()?;
                return interrupted(undo, at, at.wrapping_add(8));
            }
            Op::Context => {
                let at = undo.sp()?;
                for n in 0..31 {
                    undo.load(Register(n), at.wrapping_add(CONTEXT_X).wrapping_add(u64::from(n).wrapping_mul(8)));
                }
                return interrupted(undo, at.wrapping_add(CONTEXT_SP), at.wrapping_add(CONTEXT_PC));
            }
        }
    }
    leave(undo, None)
}

fn move_up(undo: &mut Undo<'_, '_, '_>, size: u32) -> Result<(), &'static str> {
    let sp = undo.sp()?;
    undo.set_sp(sp.wrapping_add(size.into()));
    Ok(())
}

fn load(undo: &mut Undo<'_, '_, '_>, registers: [Option<u8>; 2], offset: u32) -> Result<(), &'static str> {
    let mut at = undo.sp()?.wrapping_add(offset.into());
    for register in registers {
        if let Some(number) = register {
            undo.load(Register(number.into()), at);
        }
        at = at.wrapping_add(8);
    }
    Ok(())
}

fn leave(undo: Undo<'_, '_, '_>, pc: Option<u64>) -> Result<Caller, &'static str> {
    let pc = match pc {
        Some(pc) => pc,
        None => undo.registers.get(LR).ok_or("the return address is not known")?,
    };
    let found = undo.leave(pc)?;
    let pc = found.return_address.unwrap_or(Addr(0));
    Ok(Caller { registers: found.registers, cfa: found.cfa, pc, interrupted: false })
}

/// The registers of interrupted code: its stack pointer and program counter lie at these addresses.
fn interrupted(mut undo: Undo<'_, '_, '_>, sp: u64, pc: u64) -> Result<Caller, &'static str> {
    let pc = undo.word(pc).ok_or("the interrupted instruction's address is not in the dump")?;
    let sp = undo.word(sp).ok_or("the interrupted stack pointer is not in the dump")?;
    let pc = abi::strip_signature(Arch::Aarch64, Addr(pc), undo.walker.address_mask);
    undo.set_sp(sp);
    undo.registers.set(Registers::pc_register(Arch::Aarch64), pc.0);
    Ok(Caller { registers: undo.registers, cfa: Addr(sp), pc, interrupted: true })
}
