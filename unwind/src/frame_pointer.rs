//! One step outwards along the chain of frame pointers, for code without call frame information.

use crate::abi;
use crate::code::{ReturnTo, judge};
use crate::linux_frames;
use crate::walk::Walker;
use evidence::{Addr, Arch, Register, Registers, ToU64, ToUsize};

/// Largest distance between two frame pointers: a frame with megabytes of local arrays exists, one of 64 MiB would
/// overflow every default stack.
const LIMIT_FRAME: u64 = 64 << 20;

/// How far before a program counter the instruction that sets up its frame is looked for, where no symbol says where
/// the function starts.
const LIMIT_PROLOGUE: u64 = 4096;

/// Whether the function that `pc` lies in has set the frame pointer up before `pc`; `None` when its code cannot be
/// read. Code without (hand-written, or made by a simple JIT compiler) leaves the frame pointer to its caller, whose
/// frame the chain would then skip.
pub(crate) fn sets_frame_pointer(pc: Addr, arch: Arch, walker: &Walker<'_, '_>) -> Option<bool> {
    // mov %rsp,%rbp in both encodings, mov %esp,%ebp (Intel SDM volume 2, MOV).
    let (width, forms): (_, [&[u8]; 2]) = match arch {
        Arch::X86_64 => (3, [&[0x48, 0x89, 0xe5], &[0x48, 0x8b, 0xec]]),
        Arch::X86 => (2, [&[0x89, 0xe5], &[0x8b, 0xec]]),
        Arch::Aarch64 | Arch::Arm | Arch::Other => return None,
    };
    let modules = walker.info.modules();
    let known = modules.find(pc).and_then(|(index, module)| {
        let svma = module.to_svma(pc);
        let symbol = walker.info.symbols(index).and_then(|s| s.at(svma)).map(|s| module.to_addr(s.start));
        let in_file = || {
            let (file, at) = (walker.info.sym_file(index)?, module.to_relative(svma));
            let start = file.function_at(at).map(|f| f.range.start).or_else(|| Some(file.public_at(at)?.start));
            start.map(|start| module.base.wrapping_add(start))
        };
        Some((module, symbol.or_else(in_file)?))
    });
    let near = pc.0.saturating_sub(LIMIT_PROLOGUE);
    let start = known.map_or(near, |(_, start)| start.0.max(near));
    let length = pc.0.checked_sub(start)?.to_usize();
    let mut code = vec![0; length];
    let (got, _) = walker.memory.read(Addr(start), &mut code);
    if got < length {
        // Before generated code there may be nothing: its own page is enough. Code of an image may be in the file only.
        let from_file = known.and_then(|(m, start)| m.code_in_file(m.to_svma(start))?.get(..length));
        if let Some(bytes) = from_file {
            code.copy_from_slice(bytes);
        } else {
            let page = pc.0 & !0xfff;
            code.truncate(pc.0.checked_sub(page)?.to_usize());
            let (got, _) = walker.memory.read(Addr(page), &mut code);
            if got.to_u64() < code.len().to_u64() {
                return None;
            }
        }
    }
    Some(code.windows(width).any(|w| forms.contains(&w)))
}

/// A caller found by its frame record.
pub(crate) struct Caller {
    pub registers: Registers,
    pub pc: Addr,
    pub cfa: Option<Addr>,
    /// The code before the return address could not be read.
    pub unsure: bool,
}

/// Follows the frame record (saved frame pointer, return address) that the frame pointer points at.
///
/// It is believed only when everything fits: aligned, above the stack pointer, growing, and the return address lies
/// behind a call.
pub(crate) fn step(registers: &Registers, walker: &Walker<'_, '_>) -> Option<Caller> {
    let arch = registers.arch;
    let word = u64::from(arch.pointer_size());
    if arch == Arch::Arm {
        return step_arm(registers, walker);
    }
    let left = linux_frames::left_stack(registers, walker);
    let fp = registers.fp().filter(|fp| is_record(*fp, left.as_ref().unwrap_or(registers)))?;
    let (saved, raw) = walker.read_two_pointers(fp)?;
    let raw = Addr(raw);
    let mut pc = raw;
    let mut verdict = judge(pc, arch, walker.memory, walker.info.modules());
    if verdict == ReturnTo::No && arch == Arch::Aarch64 {
        pc = abi::strip_signature(arch, raw, walker.address_mask);
        verdict = judge(pc, arch, walker.memory, walker.info.modules());
    }
    if verdict == ReturnTo::No {
        return None;
    }
    let mut outer = walker.thread_state(registers);
    // A chain ends with 0; anything else must lie further up. What the function did with the saved value before is
    // its caller's matter: zero or garbage there only means that the next step needs another method.
    if saved == 0 || Addr(saved).offset_from(fp).is_some_and(|d| d > 0 && d <= LIMIT_FRAME) {
        outer.set(Registers::fp_register(arch), saved);
    }
    outer.set(Registers::pc_register(arch), pc.0);
    // On x86 the call pushed the return address just above the saved frame pointer. AArch64 keeps the record at the
    // bottom of the frame: where the caller's stack ended is not known.
    let mut cfa = None;
    if matches!(arch, Arch::X86_64 | Arch::X86 | Arch::Other) {
        let sp = fp.checked_add(word.checked_mul(2)?)?;
        outer.set(Registers::sp_register(arch), sp.0);
        cfa = Some(sp);
        if outer.fp().is_none() {
            // A kernel's interrupt stack may lie anywhere: the saved one leads back to the task's.
            let mut back = outer.clone();
            back.set(Registers::fp_register(arch), saved);
            outer = if linux_frames::left_stack(&back, walker).is_some() { back } else { outer };
        }
    }
    Some(Caller { registers: outer, pc, cfa, unsure: is_unsure(verdict, pc, walker) })
}

/// Whether a frame record can be there: aligned, above the stack pointer, not far.
fn is_record(fp: Addr, registers: &Registers) -> bool {
    let word = u64::from(registers.arch.pointer_size());
    let aligned = fp.0 != 0 && fp.0.checked_rem(word) == Some(0);
    aligned && registers.sp().is_none_or(|sp| fp.offset_from(sp).is_some_and(|d| d <= LIMIT_FRAME))
}

/// Whether the frame pointer leads to a record of zeros: what a system puts below the first function of a thread.
pub(crate) fn is_last(registers: &Registers, walker: &Walker<'_, '_>) -> bool {
    let word = u64::from(registers.arch.pointer_size());
    let record = registers.fp().filter(|fp| is_record(*fp, registers));
    let zero = |at: Addr| walker.read_pointer(at).is_ok_and(|w| w == 0);
    record.is_some_and(|fp| zero(fp) && zero(fp.wrapping_add(word)))
}

/// Whether a return address whose code is not there is only a number: in an image it is more.
pub(crate) fn is_unsure(verdict: ReturnTo, pc: Addr, walker: &Walker<'_, '_>) -> bool {
    verdict == ReturnTo::Unknown && walker.info.modules().find(pc.wrapping_sub(1)).is_none()
}

/// 32-bit ARM has two frame pointers (r11, and r7 in Thumb code and on Apple's systems) and two layouts: the record
/// begins at the frame pointer (clang), or ends there (GCC's ARM code: the return address at the frame pointer, the
/// saved one below it).
fn step_arm(registers: &Registers, walker: &Walker<'_, '_>) -> Option<Caller> {
    for number in [Register(11), Register(7)] {
        let Some(fp) = registers.get(number).map(Addr).filter(|fp| is_record(*fp, registers)) else { continue };
        let above = fp.checked_add(4)?;
        for (slot, saved_at) in [(above, fp), (fp, fp.wrapping_sub(4))] {
            let Some(raw) = walker.read_pointer(slot).ok().filter(|raw| *raw != 0) else { continue };
            let pc = abi::return_address(Arch::Arm, Addr(raw), walker.address_mask);
            let verdict = judge(Addr(raw), Arch::Arm, walker.memory, walker.info.modules());
            let saved = walker.read_pointer(saved_at).unwrap_or(0);
            let chained = saved == 0 || Addr(saved).offset_from(fp).is_some_and(|d| d > 0 && d <= LIMIT_FRAME);
            if verdict == ReturnTo::No || !chained {
                continue;
            }
            let mut outer = walker.thread_state(registers);
            outer.set(number, saved);
            outer.set(Registers::pc_register(Arch::Arm), pc.0);
            let cfa = slot.checked_add(4)?;
            outer.set(Registers::sp_register(Arch::Arm), cfa.0);
            return Some(Caller { registers: outer, pc, cfa: Some(cfa), unsure: is_unsure(verdict, pc, walker) });
        }
    }
    None
}

/// The caller of an interrupted function that has not saved the link register yet, or never will.
///
/// The link register is stale where the function has made a call: it then points into the function itself, or at what
/// the frame record holds as well. Without symbols that tell functions apart, an address near the program counter is
/// taken for a stale one.
pub(crate) fn caller_of_leaf(registers: &Registers, walker: &Walker<'_, '_>) -> Option<(Registers, Addr)> {
    /// Most code of one function before or behind the program counter, where no symbol tells where it ends.
    const NEAR: u64 = 256;
    let arch = registers.arch;
    let raw = Addr(registers.get(abi::link_register(arch)?)?);
    let pc = abi::return_address(arch, raw, walker.address_mask);
    let here = registers.pc()?;
    let record = registers.fp().filter(|fp| is_record(*fp, registers));
    let saved = record.and_then(|fp| walker.read_pointer(fp.checked_add(arch.pointer_size().into())?).ok());
    let known = |at: Addr| {
        let (index, module) = walker.info.modules().find(at)?;
        let frames = walker.info.resolve(index, module.to_svma(at));
        frames.last()?.function_start.map(|start| (index, start))
    };
    let same = match (known(here), known(pc.wrapping_sub(1))) {
        (Some(a), Some(b)) => a == b,
        _ => here.0.abs_diff(pc.0) < NEAR,
    };
    let in_record = saved.is_some_and(|s| abi::return_address(arch, Addr(s), walker.address_mask) == pc);
    if pc.0 == 0 || same || in_record {
        return None;
    }
    if judge(raw, arch, walker.memory, walker.info.modules()) == ReturnTo::No
        && judge(pc, arch, walker.memory, walker.info.modules()) == ReturnTo::No
    {
        return None;
    }
    let mut outer = Registers::new(arch);
    for (register, value) in registers.iter().filter(|(r, _)| abi::is_preserved(arch, *r)) {
        outer.set(register, value);
    }
    outer.set(Registers::pc_register(arch), pc.0);
    if let Some(sp) = registers.sp() {
        outer.set(Registers::sp_register(arch), sp.0);
    }
    Some((outer, pc))
}
