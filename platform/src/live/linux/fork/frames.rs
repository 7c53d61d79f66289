//! The stack of a thread that is made to fork: system calls that follow each other, and restore the thread, by themselves.
//!
//! Each link of the chain is a signal frame (`struct rt_sigframe`). The code that runs is the program's own: a `syscall`
//! followed by `ret`, and the trampoline of signal handlers, which calls `rt_sigreturn`. A link loads all registers of
//! the next system call; the last one loads those that the thread had. So a thread whose tracer dies anywhere in between
//! runs the rest of the chain and goes on where it was; and so does its child, which then ends.
//!
//! Sources: Linux `arch/x86/include/uapi/asm/sigcontext.h` (`struct sigcontext`, `_fpx_sw_bytes`, the two magic
//! numbers), `arch/x86/include/asm/sigframe.h`, `include/uapi/asm-generic/ucontext.h`,
//! `arch/x86/kernel/signal_64.c` (what `rt_sigreturn` reads, and how a wait is taken up again).

use evidence::ToU64;

/// `struct user_regs_struct` as words.
pub(super) const WORDS: usize = 27;
pub(super) type Words = [u64; WORDS];

/// Indices into [`Words`].
pub(super) mod word {
    pub(in super::super) const R10: usize = 7;
    pub(in super::super) const RAX: usize = 10;
    pub(in super::super) const RDX: usize = 12;
    pub(in super::super) const RSI: usize = 13;
    pub(in super::super) const RDI: usize = 14;
    pub(in super::super) const ORIG_RAX: usize = 15;
    pub(in super::super) const RIP: usize = 16;
    pub(in super::super) const CS: usize = 17;
    pub(in super::super) const RSP: usize = 19;
    pub(in super::super) const SS: usize = 20;
}

/// `struct sigcontext`'s first 18 words by their indices in [`Words`]: r8-r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp,
/// rip, flags.
const CONTEXT: [usize; 18] = [9, 8, 7, 6, 3, 2, 1, 0, 14, 13, 4, 5, 12, 10, 11, 19, 16, 18];

/// Offsets in a frame that begins with the return address (8 bytes), then the `ucontext`.
const STACK_FLAGS: usize = 8 + 24;
const REGISTERS: usize = 8 + 40;
const SEGMENTS: usize = REGISTERS + 18 * 8;
const VECTORS: usize = REGISTERS + 23 * 8;
const MASK: usize = REGISTERS + 256;
/// The return address, and `struct ucontext`.
const FRAME: usize = 8 + 304;
/// Where a frame has rdi.
const FRAME_RDI: usize = REGISTERS + 8 * 8;

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 7;
/// No valid mode of an alternate stack: `rt_sigreturn` then leaves the thread's as it is.
const NO_STACK_MODE: u32 = 0x10;

/// Vector registers up to and including PKRU, in the layout that processors without AMX have.
const USUAL_VECTORS: usize = 2696;
const USUAL_FEATURES: u64 = 0x2ff;
const MAGIC_1: u32 = 0x4650_5853;
const MAGIC_2: u32 = 0x4650_5845;
/// `_fpx_sw_bytes` in the legacy area; the kernel gives tracers the mask of features at its start.
const SOFTWARE: usize = 464;

/// `CLONE_VM`: the thread's child only forks the copy, so that memory is copied once.
const CLONE_VM: u64 = 0x100;
/// `CLONE_FILES`: the child is to hold no descriptor open that the program closes.
const CLONE_FILES: u64 = 0x400;
const CLONE_PARENT_SETTID: u64 = 0x0010_0000;
/// No process has this number: what a thread waits for whose fork has failed.
const NOBODY: u64 = 0x7fff_ffff;
/// `__WALL`.
const WAIT_ALL: u64 = 0x4000_0000;
const CALL_CLONE: u64 = 56;
const CALL_WAIT4: u64 = 61;
const CALL_EXIT_GROUP: u64 = 231;

/// Code of the program that the chain uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gadgets {
    /// `syscall; ret`.
    pub(super) call: u64,
    /// The trampoline of signal handlers: `rt_sigreturn`.
    pub(super) restore: u64,
}

/// What a thread is made to run.
pub(super) struct Chain {
    /// What goes onto its stack, and where.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Registers that make it fork.
    pub(super) fork: Words,
    /// Registers that make it wait for its child, without waiting longer than that has ended; the child's number is to
    /// be put in [`word::RDI`].
    pub(super) reap: Words,
}

/// Builds the chain below `below`, a place on the stack that nobody uses.
pub(super) fn chain(below: u64, regs: &Words, mask: u64, vectors: &[u8], gadgets: Gadgets) -> Option<Chain> {
    let (vectors, features) = usable(vectors)?;
    // From the top: vector registers, then frames; those that run first lie lowest, where a signal's frame spares them.
    let vectors_at = below.checked_sub(vectors.len().to_u64().checked_add(4)?)? & !63;
    let frame = FRAME.to_u64().next_multiple_of(16);
    let end_at = vectors_at.checked_sub(frame)? & !15;
    let grandchild_at = end_at;
    let child_at = end_at.checked_sub(frame)?;
    let restore_at = child_at.checked_sub(frame)?;
    let wait_at = restore_at.checked_sub(frame)?;

    let call = |number: u64, sp: u64, arguments: [u64; 4]| {
        let mut w = *regs;
        for (index, value) in [word::RDI, word::RSI, word::RDX, word::R10].into_iter().zip(arguments) {
            *w.get_mut(index)? = value;
        }
        w[word::RAX] = number;
        w[word::ORIG_RAX] = u64::MAX;
        w[word::RIP] = gadgets.call;
        w[word::RSP] = sp;
        Some(w)
    };
    let child_number = wait_at.checked_add(FRAME_RDI.to_u64())?;
    let fork = call(CALL_CLONE, wait_at, [CLONE_VM | CLONE_FILES | CLONE_PARENT_SETTID, child_at, child_number, 0])?;
    let reap = call(CALL_WAIT4, restore_at, [NOBODY, 0, WAIT_ALL, 0])?;
    let again = call(CALL_CLONE, end_at, [CLONE_FILES, grandchild_at, 0, 0])?;
    let end = call(CALL_EXIT_GROUP, end_at, [0; 4])?;

    let size = below.checked_sub(wait_at)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    let mut put = |at: u64, piece: &[u8]| -> Option<()> {
        let from = usize::try_from(at.checked_sub(wait_at)?).ok()?;
        bytes.get_mut(from..from.checked_add(piece.len())?)?.copy_from_slice(piece);
        Some(())
    };
    put(wait_at, &link(gadgets, &reap, mask, 0)?)?;
    put(restore_at, &link(gadgets, &taken_up(regs), mask, vectors_at)?)?;
    put(child_at, &link(gadgets, &again, u64::MAX, 0)?)?;
    put(end_at, &link(gadgets, &end, u64::MAX, 0)?)?;
    put(vectors_at, &vectors)?;
    let software = vectors_at.checked_add(SOFTWARE.to_u64())?;
    let (size, whole) = (u32::try_from(vectors.len()).ok()?, u32::try_from(vectors.len()).ok()?.checked_add(4)?);
    put(software, &MAGIC_1.to_le_bytes())?;
    put(software.checked_add(4)?, &whole.to_le_bytes())?;
    put(software.checked_add(8)?, &features.to_le_bytes())?;
    put(software.checked_add(16)?, &size.to_le_bytes())?;
    put(vectors_at.checked_add(size.into())?, &MAGIC_2.to_le_bytes())?;
    Some(Chain { at: wait_at, bytes, fork, reap })
}

/// One link: where the `ret` before it goes, and all registers after it.
fn link(gadgets: Gadgets, to: &Words, mask: u64, vectors_at: u64) -> Option<[u8; FRAME]> {
    let mut frame = [0; FRAME];
    let mut put = |at: usize, piece: &[u8]| -> Option<()> {
        frame.get_mut(at..at.checked_add(piece.len())?)?.copy_from_slice(piece);
        Some(())
    };
    put(0, &gadgets.restore.to_le_bytes())?;
    put(8, &FLAGS.to_le_bytes())?;
    put(STACK_FLAGS, &NO_STACK_MODE.to_le_bytes())?;
    for (slot, index) in CONTEXT.into_iter().enumerate() {
        put(REGISTERS.checked_add(slot.checked_mul(8)?)?, &to.get(index)?.to_le_bytes())?;
    }
    let segment = |index: usize| to.get(index)?.to_le_bytes().first_chunk::<2>().copied();
    put(SEGMENTS, &segment(word::CS)?)?;
    put(SEGMENTS.checked_add(6)?, &segment(word::SS)?)?;
    put(VECTORS, &vectors_at.to_le_bytes())?;
    put(MASK, &mask.to_le_bytes())?;
    Some(frame)
}

/// The registers with which an interrupted system call begins anew, as the kernel would set them. A wait whose time
/// limit only the kernel remembers (`ERESTART_RESTARTBLOCK`) begins with the whole time.
fn taken_up(regs: &Words) -> Words {
    const LENGTH: u64 = 2;
    let mut regs = *regs;
    if in_call(&regs) {
        regs[word::RAX] = regs[word::ORIG_RAX];
        regs[word::RIP] = regs[word::RIP].wrapping_sub(LENGTH);
    }
    regs
}

/// Whether a system call was interrupted that the kernel takes up again (`ERESTARTSYS` and its relatives).
pub(super) fn in_call(regs: &Words) -> bool {
    let result = regs[word::RAX].cast_signed();
    regs[word::ORIG_RAX].cast_signed() >= 0 && matches!(result, -514..=-512 | -516)
}

/// Whether only the kernel knows how long the wait is to last.
pub(super) fn timed(regs: &Words) -> bool {
    regs[word::ORIG_RAX].cast_signed() >= 0 && regs[word::RAX].cast_signed() == -516
}

/// The vector registers as `rt_sigreturn` takes them, and the mask of features that they have.
fn usable(raw: &[u8]) -> Option<(Vec<u8>, u64)> {
    use evidence::bytes::{Endian, u64_at};
    let mut features = u64_at(raw, SOFTWARE, Endian::Little)?;
    let mut kept = raw;
    // A thread that never used AMX may not load the larger area.
    if raw.len() > USUAL_VECTORS && u64_at(raw, 512, Endian::Little)? & !USUAL_FEATURES == 0 {
        kept = raw.get(..USUAL_VECTORS)?;
        features &= USUAL_FEATURES;
    }
    Some((kept.to_vec(), features))
}

/// The code in a piece of the program's own that begins at `at`; both parts or what there is of them.
pub(super) fn search(at: u64, code: &[u8], call: &mut Option<u64>, restore: &mut Option<u64>) {
    let mut from = 0_usize;
    while let Some(rest) = code.get(from..) {
        let Some(next) = rest.windows(2).position(|w| w == [0x0f, 0x05]) else { return };
        let here = from.saturating_add(next);
        let place = |index: usize| at.checked_add(index.to_u64());
        if call.is_none() && code.get(here.saturating_add(2)) == Some(&0xc3) {
            *call = place(here);
        }
        let before = code.get(..here).unwrap_or_default();
        if restore.is_none() {
            // mov $15, %rax (7 bytes), as glibc has it, or mov $15, %eax (5).
            let long = before.ends_with(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0]).then(|| here.checked_sub(7)).flatten();
            let short = before.ends_with(&[0xb8, 15, 0, 0, 0]).then(|| here.checked_sub(5)).flatten();
            *restore = long.or(short).and_then(place);
        }
        if call.is_some() && restore.is_some() {
            return;
        }
        from = here.saturating_add(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_where_it_is() {
        let code = [0x90, 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x05, 0xc3];
        let (mut call, mut restore) = (None, None);
        search(0x1000, &code, &mut call, &mut restore);
        assert_eq!((call, restore), (Some(0x100a), Some(0x1001)));
        let (mut call, mut restore) = (None, None);
        search(0x1000, &[0xb8, 15, 0, 0, 0, 0x0f, 0x05], &mut call, &mut restore);
        assert_eq!((call, restore), (None, Some(0x1000)));
    }

    #[test]
    fn links_lie_in_the_order_in_which_they_run() {
        let mut regs: Words = std::array::from_fn(|n| n.to_u64());
        (regs[word::RAX], regs[word::ORIG_RAX], regs[word::RIP]) = (512_u64.wrapping_neg(), 7, 0x5000);
        let gadgets = Gadgets { call: 0xca11, restore: 0x4e57 };
        let chain = chain(0x7f00, &regs, 5, &[0; USUAL_VECTORS], gadgets).unwrap();
        assert_eq!(chain.at + chain.bytes.len().to_u64(), 0x7f00);
        let word = |at: u64| {
            let from = usize::try_from(at - chain.at).unwrap();
            u64::from_le_bytes(chain.bytes[from..from + 8].try_into().unwrap())
        };
        // clone returns to the trampoline, whose frame waits and returns to the one that restores.
        assert_eq!((chain.fork[word::RSP], word(chain.at)), (chain.at, gadgets.restore));
        let sp = |frame: u64| word(frame + REGISTERS.to_u64() + 15 * 8);
        let ip = |frame: u64| word(frame + REGISTERS.to_u64() + 16 * 8);
        let ax = |frame: u64| word(frame + REGISTERS.to_u64() + 13 * 8);
        assert_eq!((ip(chain.at), ax(chain.at)), (gadgets.call, CALL_WAIT4));
        let restore = sp(chain.at);
        assert_eq!(chain.reap[word::RSP], restore);
        // The interrupted call is made again.
        assert_eq!((ip(restore), ax(restore), sp(restore)), (0x4ffe, 7, regs[word::RSP]));
        assert_eq!(word(restore + MASK.to_u64()), 5);
        assert_eq!(word(restore + VECTORS.to_u64()) % 64, 0);
        let child = chain.fork[word::RSI];
        assert_eq!((ip(child), ax(child)), (gadgets.call, CALL_CLONE));
        assert_eq!(ax(sp(child)), CALL_EXIT_GROUP);
        assert_eq!(chain.fork[word::RDX], chain.at + FRAME_RDI.to_u64());
    }
}
