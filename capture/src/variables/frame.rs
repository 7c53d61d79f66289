//! A physical frame, as expressions ask for it.

use super::Collector;
use debuginfo::dwarf::{Dwarf, Scope};
use debuginfo::eval::{self, Context, EntryOf, Missing};
use evidence::{Addr, Memory, Register, Svma};

/// A physical frame of a thread, with the function its pc lies in.
#[derive(Clone, Copy)]
pub(super) struct Physical<'p, 'i, 'm> {
    pub(super) collector: &'p Collector<'i, 'm>,
    pub(super) frames: &'p [unwind::Frame],
    pub(super) index: usize,
    pub(super) module: usize,
    /// The physical function's DIE.
    pub(super) function: Option<Scope>,
    this: &'p unwind::Frame,
    slide: u64,
    pub(super) dwarf: &'p Dwarf<'m>,
}

impl<'p, 'm> Physical<'p, '_, 'm> {
    pub(super) fn new<'i>(
        collector: &'p Collector<'i, 'm>,
        frames: &'p [unwind::Frame],
        index: usize,
        module: usize,
        function: Option<Scope>,
    ) -> Option<Physical<'p, 'i, 'm>> {
        let slide = collector.types.info().module(module)?.slide;
        let dwarf = collector.dwarf(module)?;
        Some(Physical { collector, frames, index, module, function, this: frames.get(index)?, slide, dwarf })
    }

    /// The look-up address in the module's own terms.
    pub(super) fn pc(&self) -> Svma {
        Svma(self.this.lookup().0.wrapping_sub(self.slide))
    }

    /// The return address itself (or the interrupted pc) in the module's own terms.
    pub(super) fn exact_pc(&self) -> Svma {
        Svma(self.this.pc.0.wrapping_sub(self.slide))
    }

    /// The frame that called this one, if its function is known.
    pub(super) fn caller(&self) -> Option<Self> {
        let index = self.index.checked_add(1)?;
        let frame = self.frames.get(index)?;
        let info = self.collector.types.info();
        let (module, image) = info.modules().find(frame.lookup())?;
        let function = info.function_at(module, image.to_svma(frame.lookup()))?.0?;
        Physical::new(self.collector, self.frames, index, module, Some(function))
    }

    /// The thread pointer: the same in all frames of a thread.
    pub(super) fn thread_pointer(&self) -> Option<Addr> {
        self.frames.first().and_then(|f| f.registers.thread_pointer())
    }
}

impl<'m> eval::Frame<'m> for Physical<'_, '_, 'm> {
    fn memory(&self) -> &dyn Memory {
        self.collector.memory
    }

    fn register(&self, register: Register) -> Option<u64> {
        self.this.registers.get(register)
    }

    fn vector(&self, register: Register) -> Option<&[u8]> {
        self.this.registers.vector(register)
    }

    fn slide(&self) -> u64 {
        self.slide
    }

    fn cfa(&self) -> Result<u64, Missing> {
        self.this.cfa.map(|a| a.0).ok_or(Missing::Cfa)
    }

    fn frame_base(&self, depth: usize) -> Result<u64, Missing> {
        let none = || Missing::DebugInfo("the function has no frame base".into());
        let function = self.function.ok_or_else(none)?;
        let unit = self.dwarf.unit(function.unit).ok_or_else(none)?;
        let entry = unit.unit.entry(function.die).map_err(|e| Missing::DebugInfo(e.to_string()))?;
        let value = entry.attr_value(gimli::DW_AT_frame_base).ok_or_else(none)?;
        let expression = eval::find(unit, value, Some(self.pc()))?;
        Context { dwarf: self.dwarf, unit, frame: self }.number(expression, None, depth)
    }

    fn entry_value(&self, of: EntryOf<'m>, depth: usize) -> Result<u64, Missing> {
        super::entry_value::value(self, of, depth)
    }

    fn tls(&self, offset: u64) -> Result<u64, Missing> {
        super::tls::address(self.collector, self.module, self.thread_pointer(), offset)
    }
}

/// What expressions of globals may ask: nothing that belongs to a frame.
pub(super) struct NoFrame<'p, 'i, 'm> {
    pub(super) collector: &'p Collector<'i, 'm>,
    pub(super) module: usize,
}

impl<'m> eval::Frame<'m> for NoFrame<'_, '_, 'm> {
    fn memory(&self) -> &dyn Memory {
        self.collector.memory
    }

    fn register(&self, _: Register) -> Option<u64> {
        None
    }

    fn vector(&self, _: Register) -> Option<&[u8]> {
        None
    }

    fn slide(&self) -> u64 {
        self.collector.types.info().module(self.module).map_or(0, |m| m.slide)
    }

    fn cfa(&self) -> Result<u64, Missing> {
        Err(Missing::Cfa)
    }

    fn frame_base(&self, _: usize) -> Result<u64, Missing> {
        Err(Missing::Cfa)
    }

    fn entry_value(&self, _: EntryOf<'m>, _: usize) -> Result<u64, Missing> {
        Err(Missing::EntryValue("there is no frame"))
    }

    fn tls(&self, _: u64) -> Result<u64, Missing> {
        Err(Missing::Tls("there is no thread"))
    }
}
