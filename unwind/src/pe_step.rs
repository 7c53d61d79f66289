//! One step outwards by the unwind data of an image of Windows: which kind, and that of x86-64.
//!
//! Source: Microsoft's "x64 exception handling": "Unwind procedure", "Unwind helpers". In a prologue only what was done
//! so far is taken back; an epilogue is recognised by its instructions, which are carried out.

use crate::walk::Walker;
use crate::{Frame, abi};
use crate::{pe_arm64, pe_epilogue};
use debuginfo::pe::View;
use debuginfo::pe::x64::{self, Info, Op, RuntimeFunction};
use evidence::{Addr, Arch, Register, Registers};

/// Most parts of one function: compilers write up to three, one for each shrink-wrapped group of registers.
const LIMIT_CHAIN: usize = 32;

const RSP: Register = Register(7);

/// What the data gives.
pub(crate) struct Caller {
    pub registers: Registers,
    /// The stack pointer before the call: where the caller's frame ends.
    pub cfa: Addr,
    pub pc: Addr,
    /// `pc` is an interrupted instruction, not a return address.
    pub interrupted: bool,
}

/// The caller of `frame`; `None` when the frame is not in an image of Windows.
pub(crate) fn step(frame: &Frame, walker: &Walker<'_, '_>) -> Option<Result<Caller, String>> {
    let (_, module) = walker.info.modules().find(frame.lookup())?;
    let view = module.pe_view(walker.memory)?;
    let rva = u32::try_from(frame.lookup().offset_from(module.base)?).ok()?;
    match view.file.arch() {
        Arch::X86_64 => Some(unwind(frame, rva, &view, walker).map_err(str::to_owned)),
        Arch::Aarch64 => Some(pe_arm64::unwind(frame, rva, &view, walker).map_err(str::to_owned)),
        // 32-bit images have no such data.
        _ => None,
    }
}

/// A register by its number in instructions.
pub(crate) fn register(number: u8) -> Register {
    // rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi; the others have one number only.
    Register(match number & 15 {
        1 => 2,
        2 => 1,
        4 => 7,
        5 => 6,
        6 => 4,
        7 => 5,
        same => u16::from(same),
    })
}

/// Whether calls leave a register alone on Windows ("x64 calling convention": "Caller/callee saved registers").
const fn is_preserved(register: Register) -> bool {
    matches!(register.0, 3..=7 | 12..=15) || abi::is_thread_state(Arch::X86_64, register)
}

/// The registers while a frame is taken down.
pub(crate) struct Undo<'u, 'w, 'm> {
    pub registers: Registers,
    pub walker: &'u Walker<'w, 'm>,
}

impl Undo<'_, '_, '_> {
    pub(crate) fn sp(&self) -> Result<u64, &'static str> {
        self.registers.get(RSP).ok_or("the stack pointer is not known")
    }

    pub(crate) fn set_sp(&mut self, sp: u64) {
        self.registers.set(RSP, sp);
    }

    fn word(&self, at: u64) -> Option<u64> {
        self.walker.read_pointer(Addr(at)).ok()
    }

    /// Takes a register off the stack. One whose word is missing is not known any more.
    pub(crate) fn pop(&mut self, register: Register) -> Result<(), &'static str> {
        let sp = self.sp()?;
        self.load(register, sp);
        // Where `pop rsp` would leave the stack is in the word itself.
        if register != RSP {
            self.set_sp(sp.wrapping_add(8));
        }
        Ok(())
    }

    fn load(&mut self, register: Register, at: u64) {
        match self.word(at) {
            Some(value) => self.registers.set(register, value),
            None => self.registers.forget(register),
        }
    }

    /// The return, after all else is undone.
    pub(crate) fn leave(mut self, interrupted: bool, pc: Option<u64>) -> Result<Caller, &'static str> {
        let sp = self.sp()?;
        let pc = match pc {
            Some(pc) => pc,
            None => {
                self.set_sp(sp.wrapping_add(8));
                self.word(sp).ok_or("the return address is not in the dump")?
            }
        };
        let cfa = Addr(self.sp()?);
        self.registers.set(Registers::pc_register(Arch::X86_64), pc);
        Ok(Caller { registers: self.registers, cfa, pc: Addr(pc), interrupted })
    }
}

fn unwind(frame: &Frame, rva: u32, view: &View<'_>, walker: &Walker<'_, '_>) -> Result<Caller, &'static str> {
    let mut registers = Registers::new(Arch::X86_64);
    for (register, value) in frame.registers.iter().filter(|(r, _)| is_preserved(*r)) {
        registers.set(register, value);
    }
    let mut undo = Undo { registers, walker };
    let Some(function) = x64::find(view, rva)? else {
        if view.file.is_code(rva.into()) != Some(true) {
            return Err("it is not in a section of code");
        }
        // A leaf: it has neither changed the stack pointer nor any register that it must keep.
        return undo.leave(false, None);
    };
    let info = x64::info(view, function.unwind)?;
    if !frame.is_return_address && pe_epilogue::run(rva, &function, &info, view, &mut undo)? {
        return undo.leave(false, None);
    }
    // Of the registers that hold a frame pointer, those that calls do not keep are known in the innermost frame.
    for (n, value) in [register(0), register(1), register(2)].map(|r| (r, frame.registers.get(r))) {
        if info.frame.is_some_and(|(number, _)| register(number) == n)
            && let Some(value) = value
        {
            undo.registers.set(n, value);
        }
    }
    undo_all(rva, &function, info, view, undo)
}

fn undo_all(
    rva: u32,
    function: &RuntimeFunction,
    mut info: Info,
    view: &View<'_>,
    mut undo: Undo<'_, '_, '_>,
) -> Result<Caller, &'static str> {
    // How far into the prologue; of the parts that the function came from, all of it.
    let mut done = rva.wrapping_sub(function.begin);
    for _ in 0..LIMIT_CHAIN {
        let is_set = info.codes.iter().find(|c| c.op == Op::SetFrame).is_none_or(|c| done >= c.after.into());
        let base = match info.frame {
            Some((number, above)) if is_set => {
                let value = undo.registers.get(register(number)).ok_or("the frame register is not known")?;
                value.wrapping_sub(above.into())
            }
            _ => undo.sp()?,
        };
        for code in info.codes.iter().filter(|c| done >= c.after.into()) {
            match code.op {
                Op::Push(number) => undo.pop(register(number))?,
                Op::Alloc(size) => {
                    let sp = undo.sp()?;
                    undo.set_sp(sp.wrapping_add(size.into()));
                }
                Op::SetFrame => undo.set_sp(base),
                Op::Save(number, offset) => undo.load(register(number), base.wrapping_add(offset.into())),
                Op::SaveXmm => {}
                Op::MachineFrame(error) => {
                    let at = undo.sp()?.wrapping_add(if error { 8 } else { 0 });
                    let pc = undo.word(at).ok_or("the interrupted instruction's address is not in the dump")?;
                    let sp =
                        undo.word(at.wrapping_add(24)).ok_or("the interrupted stack pointer is not in the dump")?;
                    undo.set_sp(sp);
                    return undo.leave(true, Some(pc));
                }
            }
        }
        let Some(next) = info.chained else { return undo.leave(false, None) };
        info = x64::info(view, next.unwind)?;
        done = u32::MAX;
    }
    Err("its parts are chained without end")
}
