//! One step outwards along the chain of frame pointers, for code without call frame information.

use crate::abi;
use crate::code::{ReturnTo, judge};
use crate::walk::Walker;
use evidence::{Addr, Arch, Registers, ToU64, ToUsize};

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
        let symbol = walker.info.symbols(index)?.at(module.to_svma(pc))?;
        Some((module, module.to_addr(symbol.start)))
    });
    let near = pc.0.saturating_sub(LIMIT_PROLOGUE);
    let start = known.map_or(near, |(_, start)| start.0.max(near));
    let length = pc.0.checked_sub(start)?.to_usize();
    let mut code = vec![0; length];
    let (got, _) = walker.memory.read(Addr(start), &mut code);
    if got < length {
        // Before generated code there may be nothing: its own page is enough. Code of an image may be in the file only.
        let from_file = known.and_then(|(m, start)| m.main()?.bytes_at(m.to_svma(start))?.get(..length));
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
    let fp = registers.fp()?;
    let aligned = fp.0 != 0 && fp.0.checked_rem(word) == Some(0);
    let above = registers.sp().is_none_or(|sp| fp.offset_from(sp).is_some_and(|d| d <= LIMIT_FRAME));
    if !aligned || !above || arch == Arch::Arm {
        return None;
    }
    let saved = walker.read_pointer(fp).ok()?;
    let raw = Addr(walker.read_pointer(fp.checked_add(word)?).ok()?);
    let mut pc = raw;
    let mut verdict = judge(pc, arch, walker.memory, walker.info.modules());
    if verdict == ReturnTo::No && arch == Arch::Aarch64 {
        pc = abi::strip_signature(arch, raw);
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
    }
    Some(Caller { registers: outer, pc, cfa, unsure: verdict == ReturnTo::Unknown })
}
