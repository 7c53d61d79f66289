//! The registers of a frame while it is taken down, one operation after the other.

use crate::cfi_step::Caller;
use crate::walk::Walker;
use crate::{Frame, abi};
use evidence::{Addr, Register, Registers};

/// The registers while a frame is taken down.
pub(crate) struct Undo<'u, 'w, 'm> {
    pub registers: Registers,
    pub walker: &'u Walker<'w, 'm>,
}

impl<'u, 'w, 'm> Undo<'u, 'w, 'm> {
    /// With what calls leave alone.
    pub(crate) fn new(frame: &Frame, walker: &'u Walker<'w, 'm>) -> Self {
        let arch = walker.arch;
        let mut registers = Registers::new(arch);
        let kept = frame.registers.iter().filter(|(r, _)| {
            abi::is_preserved(arch, *r)
                || *r == Registers::sp_register(arch)
                || (!frame.is_return_address && Some(*r) == abi::link_register(arch))
        });
        for (register, value) in kept {
            registers.set(register, value);
        }
        Self { registers, walker }
    }

    pub(crate) fn get(&self, register: Register) -> Result<u64, &'static str> {
        self.registers.get(register).ok_or("a register that leads to its frame is not known")
    }

    pub(crate) fn sp(&self) -> Result<u64, &'static str> {
        self.get(Registers::sp_register(self.walker.arch))
    }

    pub(crate) fn set_sp(&mut self, sp: u64) {
        self.registers.set(Registers::sp_register(self.walker.arch), sp);
    }

    pub(crate) fn word(&self, at: u64) -> Option<u64> {
        self.walker.read_pointer(Addr(at)).ok()
    }

    /// Takes a register out of memory. One whose word is missing is not known any more.
    pub(crate) fn load(&mut self, register: Register, at: u64) {
        match self.word(at) {
            Some(value) => self.registers.set(register, value),
            None => self.registers.forget(register),
        }
    }

    /// The caller, when its stack pointer is set and its program counter is `pc`.
    pub(crate) fn leave(mut self, pc: u64) -> Result<Caller, &'static str> {
        let arch = self.walker.arch;
        let cfa = Addr(self.sp()?);
        let pc = abi::return_address(arch, Addr(pc), self.walker.address_mask);
        if let Some(link) = abi::link_register(arch) {
            self.registers.forget(link);
        }
        self.registers.set(Registers::pc_register(arch), pc.0);
        Ok(Caller { registers: self.registers, cfa, return_address: Some(pc) })
    }
}
