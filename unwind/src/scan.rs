//! The last resort: the next word up the stack that looks like a return address.

use crate::abi;
use crate::code::{ReturnTo, direct_target, judge};
use crate::frame_pointer::is_unsure;
use crate::walk::Walker;
use debuginfo::SymFile;
use evidence::{Addr, Arch, Registers, ToU64, ToUsize, bytes};

/// Bytes of stack that are searched for one frame. Frames above 16 KiB are rare, and the further the search goes, the
/// likelier it finds the remains of a call that has long returned.
const LIMIT_SCAN: u64 = 16 << 10;
/// Words that are searched where code bytes are missing, so that any address of an image looks like a return address:
/// what lies further up is likelier to be a remainder. More for the innermost frame, which may be in the middle of
/// pushing.
const LIMIT_BLIND: u64 = 40;
const LIMIT_BLIND_INNERMOST: u64 = 160;
/// Headers at the start of an image, which no code precedes.
const HEADERS: u64 = 0x400;
/// Bytes read at a time.
const CHUNK: usize = 1024;

/// A caller found by scanning.
pub(crate) struct Caller {
    pub registers: Registers,
    pub pc: Addr,
    /// One word above the slot that holds the return address.
    pub cfa: Addr,
    /// The code before the return address could not be read, or calls somebody else.
    pub unsure: bool,
}

/// Whether addresses may be taken whose code cannot be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blind {
    No,
    Innermost,
    Outer,
}

/// How many words up the stack an address counts whose code cannot be looked at: none in an image's headers, more where
/// a symbol file lists a function there.
fn blind_reach(pc: Addr, blind: Blind, walker: &Walker<'_, '_>) -> u64 {
    let words = match blind {
        Blind::No => return 0,
        Blind::Innermost => LIMIT_BLIND_INNERMOST,
        Blind::Outer => LIMIT_BLIND,
    };
    let at = pc.wrapping_sub(1);
    let Some((index, module)) = walker.info.modules().find(at) else { return words };
    let relative = module.to_relative(module.to_svma(at));
    let listed = |f: &SymFile| f.function_at(relative).is_some() || f.public_at(relative).is_some();
    match walker.info.sym_file(index) {
        Some(file) if listed(file) => LIMIT_BLIND_INNERMOST,
        Some(_) => 0,
        None if relative < HEADERS => 0,
        None => words,
    }
}

/// The name of the function at an address, without the mark of a stub.
fn function_at(at: Addr, walker: &Walker<'_, '_>) -> Option<String> {
    let (index, module) = walker.info.modules().find(at)?;
    let symbol = walker.info.symbols(index)?.at(module.to_svma(at))?;
    Some(symbol.name.strip_suffix("@plt").unwrap_or(&symbol.name).to_owned())
}

/// Searches upwards from `from`.
///
/// Stacks are full of return addresses of calls that returned long ago. One whose call names another function than the
/// one that is being left is such a remainder (or the caller of a tail call): it is taken only if no other follows.
pub(crate) fn step(registers: &Registers, from: Addr, blind: Blind, walker: &Walker<'_, '_>) -> Option<Caller> {
    let arch = registers.arch;
    let word = u64::from(arch.pointer_size());
    let mut at = Addr(from.0.checked_next_multiple_of(word)?);
    let end = at.saturating_add(LIMIT_SCAN);
    let start = at;
    let mut raw = [0; CHUNK];
    let callee = registers.pc().and_then(|pc| function_at(pc, walker));
    let mut second = None;
    while at < end {
        let (got, stop) = walker.memory.read(at, &mut raw);
        for offset in (0..got).step_by(word.to_usize()) {
            let value = match word {
                4 => bytes::u32_at(&raw, offset, walker.endian).map(u64::from)?,
                _ => bytes::u64_at(&raw, offset, walker.endian)?,
            };
            if offset.to_u64().saturating_add(word) > got.to_u64() || value == 0 {
                continue;
            }
            let mut pc = Addr(value);
            let mut verdict = judge(pc, arch, walker.memory, walker.info.modules());
            let stripped = abi::return_address(arch, pc, walker.address_mask);
            if verdict == ReturnTo::No && stripped != pc && arch == Arch::Aarch64 {
                verdict = judge(stripped, arch, walker.memory, walker.info.modules());
            }
            if verdict == ReturnTo::No {
                continue;
            }
            pc = stripped;
            let slot = at.saturating_add(offset.to_u64());
            if verdict == ReturnTo::Unknown {
                let reach = blind_reach(pc, blind, walker).saturating_mul(word);
                if slot.offset_from(start).is_none_or(|d| d >= reach) {
                    continue;
                }
            }
            let cfa = slot.saturating_add(word);
            let mut outer = walker.thread_state(registers);
            outer.set(Registers::pc_register(arch), pc.0);
            outer.set(Registers::sp_register(arch), cfa.0);
            if let Some(fp) = frame_pointer(registers, slot, walker) {
                outer.set(Registers::fp_register(arch), fp);
            }
            let mut caller = Caller { registers: outer, pc, cfa, unsure: is_unsure(verdict, pc, walker) };
            let target = direct_target(caller.pc, arch, walker.memory, walker.info.modules());
            let called = target.and_then(|t| function_at(t, walker));
            if called.is_none() || callee.is_none() || called == callee {
                return Some(caller);
            }
            caller.unsure = true;
            second = second.or(Some(caller));
        }
        if stop.is_some() {
            break;
        }
        at = at.saturating_add(CHUNK.to_u64());
    }
    second
}

/// The caller's frame pointer: pushed just below the return address by a function that set up a frame, and untouched
/// by one that did not. Either is believed only when it points further up the stack and not far.
fn frame_pointer(registers: &Registers, slot: Addr, walker: &Walker<'_, '_>) -> Option<u64> {
    let word = u64::from(registers.arch.pointer_size());
    let plausible = |fp: u64| {
        fp.checked_rem(word) == Some(0) && Addr(fp).offset_from(slot).is_some_and(|d| d > 0 && d <= LIMIT_SCAN)
    };
    let below = slot.0.checked_sub(word).and_then(|at| walker.read_pointer(Addr(at)).ok());
    let fp = registers.fp().map(|fp| fp.0);
    let pushed = fp.is_some_and(|fp| fp.wrapping_add(word) == slot.0);
    let candidate = if pushed { below } else { fp.filter(|fp| plausible(*fp)).or(below) };
    candidate.filter(|fp| plausible(*fp))
}
