//! The walk itself: which method for which frame, and when to stop.

use crate::{
    Frame, Limits, Stack, Trust, abi, cfi_step, code, compact_step, frame_pointer, illumos_trap, linux_frames,
    orc_step, pe_step, scan, shadow_stack, sym_step, trampoline,
};
use code::ReturnTo;
use debuginfo::DebugInfo;
use debuginfo::cfi::Row;
use debuginfo::images::CodeAt;
use evidence::bytes::{self, Endian};
use evidence::{Addr, Arch, Memory, ReadError, Registers};
use std::sync::Arc;

/// Most times that a stack may go on at a lower address than before (alternate signal stacks, split stacks,
/// coroutines). Each is possible a few times in one honest stack; damaged ones would go round in circles.
const LIMIT_STACK_SWITCHES: usize = 64;
/// Most frames in a row that only the scan found: with no other evidence between them they say little.
const LIMIT_SCANNED: usize = 64;

/// What every method needs.
pub(crate) struct Walker<'w, 'm> {
    pub memory: &'w dyn Memory,
    pub info: &'w DebugInfo<'m>,
    pub arch: Arch,
    pub endian: Endian,
    /// Whether the images are a kernel's: then the frame of a user program is where its stack ends.
    pub kernel: bool,
    /// The bits of user pointers that are address ([`abi::address_mask`]).
    pub address_mask: u64,
}

/// The next frame outwards, if there is one.
#[allow(clippy::large_enum_variant, reason = "it is moved once and never stored")]
pub(crate) enum Step {
    Caller(Frame),
    /// This was the outermost function.
    End,
    Lost(String),
}

impl<'w, 'm> Walker<'w, 'm> {
    pub(crate) fn read_pointer(&self, at: Addr) -> Result<u64, ReadError> {
        self.memory.read_pointer(at, self.arch.pointer_size(), self.endian)
    }

    /// Two pointers, one behind the other, where both can be read.
    pub(crate) fn read_two_pointers(&self, at: Addr) -> Option<(u64, u64)> {
        at.checked_add(self.arch.pointer_size().into())?;
        let mut raw = [0; 16];
        if self.arch.pointer_size() == 4 {
            let raw = raw.get_mut(..8)?;
            self.memory.read_exact(at, raw).ok()?;
            return Some((bytes::u32_at(raw, 0, self.endian)?.into(), bytes::u32_at(raw, 4, self.endian)?.into()));
        }
        self.memory.read_exact(at, &mut raw).ok()?;
        Some((bytes::u64_at(&raw, 0, self.endian)?, bytes::u64_at(&raw, 8, self.endian)?))
    }

    /// A context in which only the thread's own registers are known.
    pub(crate) fn thread_state(&self, registers: &Registers) -> Registers {
        let mut outer = Registers::new(self.arch);
        for (register, value) in registers.iter() {
            if abi::is_thread_state(self.arch, register) {
                outer.set(register, value);
            }
        }
        outer
    }

    pub(crate) fn row_at(&self, at: Addr) -> Option<Arc<Row<'m>>> {
        let (index, module) = self.info.modules().find(at)?;
        self.info.cfi(index)?.row(module.to_svma(at), self.info.doubts())
    }

    /// The rules for a frame. A signal trampoline is "returned to" at its first byte, where nothing was called: glibc
    /// starts its FDE one byte early for unwinders that look at `pc - 1`, other C libraries do not.
    pub(crate) fn rules(&self, frame: &mut Frame) -> Option<Arc<Row<'m>>> {
        let row = self.row_at(frame.lookup());
        if !frame.is_return_address {
            frame.signal_frame = row.as_ref().is_some_and(|r| r.signal_frame);
            return row;
        }
        let (_, module) = self.info.modules().find(frame.pc)?;
        let svma = module.to_svma(frame.pc);
        let at_pc = match &row {
            Some(same) if same.range.contains(&svma) => row.clone(),
            _ => self.row_at(frame.pc),
        };
        if let Some(trampoline) = at_pc.filter(|r| r.signal_frame) {
            frame.signal_frame = true;
            frame.is_return_address = false;
            return Some(trampoline);
        }
        row
    }

    fn step(&self, frame: &mut Frame, inner: Option<&Frame>) -> Step {
        if self.kernel && orc_step::is_user(&frame.registers) {
            return Step::End;
        }
        let mut lost = None;
        match self.orc(frame) {
            orc_step::Step::Caller(caller) => return Step::Caller(self.after_orc(frame, caller)),
            orc_step::Step::End => return Step::End,
            orc_step::Step::Lost(why) => lost = Some(why),
            orc_step::Step::None => {}
        }
        // As the system's own unwinder does: what it describes itself comes before call frame information.
        match compact_step::step(frame, self) {
            Some(Ok(caller)) => {
                frame.cfa = Some(caller.cfa);
                let Some(pc) = caller.return_address.filter(|pc| pc.0 != 0) else { return Step::End };
                return Step::Caller(Frame {
                    registers: caller.registers,
                    pc,
                    is_return_address: true,
                    cfa: None,
                    trust: Trust::Cfi,
                    signal_frame: false,
                    suspect: self.is_no_code(pc.wrapping_sub(1)),
                });
            }
            Some(Err(why)) => lost = Some(why),
            None => {}
        }
        let by_code = |frame: &Frame| trampoline::interrupted(frame, self);
        let first = if self.arch == Arch::Aarch64 { by_code(frame) } else { None };
        let rules = if first.is_none() { self.rules(frame) } else { None };
        let context = if rules.is_none() { first.or_else(|| by_code(frame)) } else { None };
        if let Some(registers) = context
            && let Some(pc) = registers.pc()
        {
            frame.signal_frame = true;
            frame.is_return_address = false;
            return Step::Caller(Frame {
                registers,
                pc,
                is_return_address: false,
                cfa: None,
                trust: Trust::Cfi,
                signal_frame: false,
                suspect: false,
            });
        }
        if let Some(row) = rules {
            match cfi_step::step(&row, &frame.registers, self) {
                Ok(caller) => {
                    frame.cfa = Some(caller.cfa);
                    let Some(pc) = caller.return_address.filter(|pc| pc.0 != 0) else { return Step::End };
                    let is_return_address = !row.signal_frame;
                    let code = self.info.modules().code_at(if is_return_address { pc.wrapping_sub(1) } else { pc });
                    let suspect = is_return_address && matches!(code, CodeAt::NotExecutable | CodeAt::Unmapped);
                    return Step::Caller(Frame {
                        registers: caller.registers,
                        pc,
                        is_return_address,
                        cfa: None,
                        trust: Trust::Cfi,
                        signal_frame: false,
                        suspect,
                    });
                }
                Err(why) => lost = Some(why),
            }
        } else if let Some(Ok(caller)) = pe_step::step(frame, self).map(|found| found.map_err(|why| lost = Some(why))) {
            frame.cfa = Some(caller.cfa);
            frame.signal_frame = caller.interrupted;
            if caller.pc.0 == 0 {
                return Step::End;
            }
            return Step::Caller(Frame {
                registers: caller.registers,
                pc: caller.pc,
                is_return_address: !caller.interrupted,
                cfa: None,
                trust: Trust::Cfi,
                signal_frame: false,
                suspect: self.is_no_code(caller.pc.wrapping_sub(u64::from(!caller.interrupted))),
            });
        } else if let Some(found) = sym_step::step(frame, inner, self) {
            match found {
                Ok(caller) => {
                    frame.cfa = Some(caller.cfa);
                    let Some(pc) = caller.return_address.filter(|pc| pc.0 != 0) else { return Step::End };
                    return Step::Caller(Frame {
                        registers: caller.registers,
                        pc,
                        is_return_address: true,
                        cfa: None,
                        trust: Trust::Cfi,
                        signal_frame: false,
                        suspect: false,
                    });
                }
                Err(why) => lost = Some(why),
            }
        } else if self.is_entry(frame) {
            return Step::End;
        }
        self.guess(frame, lost)
    }

    /// What the kernel's own unwind table says.
    fn orc(&self, frame: &Frame) -> orc_step::Step {
        let table = self.info.modules().find(frame.lookup()).and_then(|(_, m)| m.orc());
        match table.map(|orc| orc.at(frame.lookup(), self.memory)) {
            Some(Ok(Some(row))) => orc_step::step(&row, &frame.registers, self),
            Some(Ok(None)) | None => orc_step::Step::None,
            Some(Err(why)) => orc_step::Step::Lost(why),
        }
    }

    /// The frame that an ORC rule led to. The table knows the stack and frame pointers only; call frame information that
    /// leads to the same place adds the other registers.
    fn after_orc(&self, frame: &mut Frame, caller: orc_step::Caller) -> Frame {
        frame.cfa = Some(caller.cfa);
        frame.signal_frame = caller.interrupted;
        let mut registers = caller.registers;
        if !caller.interrupted
            && let Some(row) = self.row_at(frame.lookup())
            && let Ok(same) = cfi_step::step(&row, &frame.registers, self)
            && (same.cfa, same.return_address) == (caller.cfa, Some(caller.pc))
            && same.registers.fp() == registers.fp()
        {
            registers = same.registers;
        }
        let user = orc_step::is_user(&registers);
        let lookup = if caller.interrupted { caller.pc } else { caller.pc.wrapping_sub(1) };
        Frame {
            registers,
            pc: caller.pc,
            is_return_address: !caller.interrupted,
            cfa: None,
            trust: Trust::Orc,
            signal_frame: false,
            suspect: !user && !caller.interrupted && self.info.modules().find(lookup).is_none(),
        }
    }

    /// The code at an image's entry point: the C library's `_start`, which nobody called. musl's and others' have no
    /// call frame information.
    fn is_entry(&self, frame: &Frame) -> bool {
        /// Bytes from the entry point that belong to `_start`: x86-64's have 38 (glibc) and 22 (musl), AArch64's 56.
        const ENTRY_CODE: u64 = 64;
        let Some((_, module)) = self.info.modules().find(frame.lookup()) else { return false };
        let Some(file) = module.main() else { return false };
        let inside = module.to_svma(frame.lookup()).offset_from(file.entry());
        file.entry().0 != 0 && inside.is_some_and(|o| o < ENTRY_CODE)
    }

    /// Without rules: a jump to a bad address, the frame pointer, the scan.
    fn guess(&self, frame: &mut Frame, lost: Option<String>) -> Step {
        let registers = &frame.registers;
        let found = |registers, pc, trust, suspect| {
            Step::Caller(Frame {
                registers,
                pc,
                is_return_address: true,
                cfa: None,
                trust,
                signal_frame: false,
                suspect,
            })
        };
        if let Some((registers, user)) = illumos_trap::interrupted(frame.lookup(), registers, self)
            && let Some(pc) = registers.pc()
        {
            frame.signal_frame = true;
            if user {
                return Step::End;
            }
            return Step::Caller(Frame {
                registers,
                pc,
                is_return_address: false,
                cfa: None,
                trust: Trust::FramePointer,
                signal_frame: false,
                suspect: false,
            });
        }
        if !frame.is_return_address
            && self.is_no_code(frame.pc)
            && let Some((registers, pc)) = self.caller_of_bad_jump(registers)
        {
            return found(registers, pc, Trust::Scan, false);
        }
        if !frame.is_return_address
            && let Some((registers, pc)) = frame_pointer::caller_of_leaf(registers, self)
        {
            return found(registers, pc, Trust::FramePointer, false);
        }
        // Whether the kernel has frame pointers everywhere, and no tables instead.
        let chained = |at| self.info.modules().find(at).is_some_and(|(_, m)| m.orc().is_none());
        let sets = || frame_pointer::sets_frame_pointer(frame.pc, self.arch, self);
        if !frame.suspect && self.kernel && chained(frame.lookup()) && sets() == Some(false) {
            match linux_frames::entry(registers, self) {
                orc_step::Step::Caller(caller) => {
                    let caller = self.after_orc(frame, caller);
                    return Step::Caller(Frame { trust: Trust::FramePointer, ..caller });
                }
                orc_step::Step::End => return Step::End,
                orc_step::Step::Lost(why) => return Step::Lost(why),
                orc_step::Step::None => {}
            }
        }
        if !frame.suspect
            && sets().unwrap_or(true)
            && let Some(caller) = frame_pointer::step(registers, self)
        {
            frame.cfa = caller.cfa;
            return found(caller.registers, caller.pc, Trust::FramePointer, caller.unsure);
        }
        if frame.trust == Trust::FramePointer && frame_pointer::is_last(registers, self) {
            return Step::End;
        }
        // Kernels that keep frame pointers everywhere start their threads with a null one.
        if self.kernel
            && frame.trust == Trust::FramePointer
            && registers.fp() == Some(Addr(0))
            && chained(frame.lookup())
        {
            return Step::End;
        }
        // Behind a chain that has ended only what is proven counts.
        let blind = match frame.trust {
            Trust::FramePointer if registers.fp() == Some(Addr(0)) => scan::Blind::No,
            Trust::Context => scan::Blind::Innermost,
            _ => scan::Blind::Outer,
        };
        if let Some(sp) = registers.sp()
            && let Some(caller) = scan::step(registers, sp, blind, self)
        {
            frame.cfa = Some(caller.cfa);
            return found(caller.registers, caller.pc, Trust::Scan, caller.unsure);
        }
        let reason = lost.unwrap_or_else(|| "there is no call frame information".into());
        Step::Lost(format!(
            "at {}: {reason}; neither the frame pointer nor the stack above {} leads to a caller",
            frame.pc,
            registers.sp().map_or("an unknown address".into(), |sp| sp.to_string())
        ))
    }

    /// Whether a program counter cannot have got here by itself. All code of a kernel is in its images, but for what it
    /// made itself, which has no rules either.
    fn is_no_code(&self, pc: Addr) -> bool {
        match self.info.modules().code_at(pc) {
            CodeAt::NotExecutable | CodeAt::Unmapped => true,
            CodeAt::Unknown => self.kernel && self.info.modules().find(pc).is_none(),
            CodeAt::Yes => false,
        }
    }

    /// A call through a null or wild pointer has changed nothing but the program counter and pushed the return address.
    fn caller_of_bad_jump(&self, registers: &Registers) -> Option<(Registers, Addr)> {
        let mut outer = Registers::new(self.arch);
        for (register, value) in registers.iter() {
            if abi::is_preserved(self.arch, register) {
                outer.set(register, value);
            }
        }
        let sp = registers.sp()?;
        let pc = match abi::link_register(self.arch) {
            Some(link) => {
                outer.set(Registers::sp_register(self.arch), sp.0);
                abi::return_address(self.arch, Addr(registers.get(link)?), self.address_mask)
            }
            None => {
                let word = u64::from(self.arch.pointer_size());
                outer.set(Registers::sp_register(self.arch), sp.checked_add(word)?.0);
                Addr(self.read_pointer(sp).ok()?)
            }
        };
        let verdict = code::judge(pc, self.arch, self.memory, self.info.modules());
        outer.set(Registers::pc_register(self.arch), pc.0);
        (verdict == ReturnTo::AfterCall).then_some((outer, pc))
    }
}

/// Whether the target is a kernel: only kernels have ORC tables, or images in the upper half of the address space (but
/// for what a kernel itself puts into every process, whose names are in brackets).
pub(crate) fn is_kernel(info: &DebugInfo<'_>) -> bool {
    let upper = |at: Addr| at.0 >> 47 == 0x1_ffff;
    info.modules().list().iter().any(|m| m.orc().is_some() || (upper(m.base) && !m.path.starts_with('[')))
}

/// By the highest image of a program, or its stack, which lies above them.
fn address_mask(start: &Registers, info: &DebugInfo<'_>) -> u64 {
    let user = |at: &u64| at.leading_zeros() >= 16;
    let ends = info.modules().list().iter().map(|m| m.base.0.saturating_add(m.size)).filter(user);
    abi::address_mask(start.arch, ends.chain(start.sp().map(|sp| sp.0).filter(user)).max().unwrap_or(0))
}

/// Whether a function starts at `at`: the first thing that a new task runs, which nobody called.
fn starts_function(at: Addr, info: &DebugInfo<'_>) -> bool {
    let Some((index, module)) = info.modules().find(at) else { return false };
    let svma = module.to_svma(at);
    info.symbols(index).and_then(|s| s.at(svma)).is_some_and(|s| s.start == svma)
}

pub(crate) fn walk(
    start: &Registers,
    switched: bool,
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    limits: &Limits,
) -> Stack {
    let Some(pc) = start.pc() else {
        return Stack { frames: Vec::new(), truncated: Some("no program counter was recorded".into()) };
    };
    let address_mask = limits.address_mask.unwrap_or_else(|| address_mask(start, info));
    let walker =
        Walker { memory, info, arch: start.arch, endian: Endian::Little, kernel: is_kernel(info), address_mask };
    let mut frame = Frame {
        registers: start.clone(),
        pc,
        is_return_address: switched && !starts_function(pc, info),
        cfa: None,
        trust: Trust::Context,
        signal_frame: false,
        suspect: false,
    };
    let mut frames = Vec::new();
    let (mut switches, mut scanned) = (0_usize, 0_usize);
    let truncated = loop {
        let step = walker.step(&mut frame, frames.last());
        let step = shadow_stack::check(&mut frame, step, &walker);
        frames.push(frame);
        frame = match step {
            Step::End => break None,
            Step::Lost(why) => break Some(why),
            Step::Caller(caller) => caller,
        };
        let Some(inner) = frames.last() else { break None };
        if frames.len() >= limits.frames {
            break Some(format!("the limit of {} frames is reached", limits.frames));
        }
        scanned = if frame.trust == Trust::Scan { scanned.saturating_add(1) } else { 0 };
        if scanned > LIMIT_SCANNED {
            break Some(format!("{LIMIT_SCANNED} frames in a row were only guessed from stack contents"));
        }
        if goes_up(inner, &frame) || shadow_stack::goes_up(inner, &frame) {
            continue;
        }
        switches = switches.saturating_add(1);
        let again = frames.iter().any(|f| f.pc == frame.pc && f.registers.sp() == frame.registers.sp());
        if again {
            break Some(format!("the stack runs in a circle: {} was reached before", frame.pc));
        }
        let honest = inner.signal_frame
            || (frame.trust == Trust::Orc && !frame.suspect)
            || code::judge(frame.pc, walker.arch, memory, info.modules()) == ReturnTo::AfterCall;
        if !honest || switches > LIMIT_STACK_SWITCHES {
            break Some(format!("the frame of {} lies below the one it called: the stack is damaged", frame.pc));
        }
    };
    Stack { frames, truncated }
}

/// Whether the caller's stack pointer is above the callee's, as on one stack it must be. A leaf on machines with a link
/// register may have used no stack; so may the innermost frame only.
fn goes_up(inner: &Frame, outer: &Frame) -> bool {
    match (inner.registers.sp(), outer.registers.sp()) {
        (Some(inner_sp), Some(outer_sp)) => {
            let leaf = abi::link_register(inner.registers.arch).is_some() && inner.pc != outer.pc;
            outer_sp > inner_sp || (outer_sp == inner_sp && leaf && !inner.is_return_address)
        }
        _ => match (inner.registers.fp(), outer.registers.fp()) {
            (Some(inner_fp), Some(outer_fp)) => outer_fp > inner_fp || outer_fp.0 == 0,
            _ => false,
        },
    }
}
