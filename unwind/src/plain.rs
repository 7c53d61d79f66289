//! Stacks of plain frames, without recovering their registers.
//!
//! Most frames of most threads have their CFA at a constant distance from the stack or frame pointer, and nothing else
//! is needed to find the next one: two words of the stack and what is known of each program counter, which is found out
//! once. A stack with anything else in it is left to [`crate::unwind`], so that both give the same frames.

use crate::walk::{Walker, is_kernel};
use crate::{Frame, Limits, Stack, Trust, shadow_stack};
use debuginfo::DebugInfo;
use debuginfo::cfi::{Cfa, Rule};
use debuginfo::images::CodeAt;
use evidence::bytes::Endian;
use evidence::{Addr, Arch, Memory, Register, Registers, ToUsize};
use std::collections::HashMap;

/// Most program counters that are remembered; the stacks of a program with more are left to the walk.
const LIMIT_KNOWN: usize = 1 << 16;

/// How the caller of a frame is found.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Two words of the stack say it.
    Up { cfa: Cfi, return_address: i64, fp: Option<i64> },
    /// This is the outermost function.
    End { cfa: Cfi },
    /// It is not as simple as that.
    Walk,
}

/// The CFA's distance from the frame pointer or from the stack pointer.
#[derive(Clone, Copy, Debug)]
enum Cfi {
    FromFp(i64),
    FromSp(i64),
}

impl Cfi {
    fn at(self, sp: u64, fp: u64) -> u64 {
        match self {
            Self::FromFp(offset) => fp.wrapping_add_signed(offset),
            Self::FromSp(offset) => sp.wrapping_add_signed(offset),
        }
    }
}

/// Finds the frames of plain stacks. It remembers what it has learnt of each program counter, for one thread of ours.
pub struct Plain<'w, 'm> {
    walker: Walker<'w, 'm>,
    known: HashMap<(u64, bool), Way>,
    limits: Limits,
}

/// The bytes of a stack, from an address on.
#[derive(Clone, Copy, Debug)]
pub struct StackBytes<'b> {
    /// Where they were.
    pub start: Addr,
    /// The bytes.
    pub bytes: &'b [u8],
}

impl StackBytes<'_> {
    fn word(&self, at: u64) -> Option<u64> {
        let bytes = self.bytes.get(at.checked_sub(self.start.0)?.to_usize()..)?;
        bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
    }
}

impl<'w, 'm> Plain<'w, 'm> {
    /// `None` where no stack is known to be plain: other architectures than x86-64, and kernels.
    #[must_use]
    pub fn new(arch: Arch, memory: &'w dyn Memory, info: &'w DebugInfo<'m>, limits: Limits) -> Option<Self> {
        if arch != Arch::X86_64 || is_kernel(info) {
            return None;
        }
        let walker = Walker { memory, info, arch, endian: Endian::Little, kernel: false, address_mask: u64::MAX };
        Some(Self { walker, known: HashMap::new(), limits })
    }

    /// The frames of a stack that is plain down to its outermost function, `None` for any other. The registers of the
    /// innermost frame are those given, the other frames have none.
    pub fn walk(&mut self, start: &Registers, stack: StackBytes<'_>) -> Option<Stack> {
        if start.arch != self.walker.arch || start.get(shadow_stack::SSP).is_some() {
            return None;
        }
        let (mut pc, mut sp, mut fp) = (start.pc()?.0, start.sp()?.0, start.fp()?.0);
        let mut registers = start.clone();
        let mut frames = Vec::new();
        loop {
            let is_return_address = !frames.is_empty();
            let way = self.way(pc, is_return_address);
            let (Way::Up { cfa, .. } | Way::End { cfa }) = way else { return None };
            let cfa = cfa.at(sp, fp);
            frames.push(Frame {
                registers,
                pc: Addr(pc),
                is_return_address,
                cfa: Some(Addr(cfa)),
                trust: if is_return_address { Trust::Cfi } else { Trust::Context },
                signal_frame: false,
                suspect: false,
            });
            let Way::Up { return_address, fp: saved, .. } = way else { break };
            pc = stack.word(cfa.wrapping_add_signed(return_address))?;
            if let Some(saved) = saved {
                fp = stack.word(cfa.wrapping_add_signed(saved))?;
            }
            if pc == 0 {
                break;
            }
            // A stack that goes down, and one that is longer than wanted, have more to be said about them.
            if cfa <= sp || frames.len() >= self.limits.frames {
                return None;
            }
            sp = cfa;
            registers = Registers::new(self.walker.arch);
        }
        frames.shrink_to_fit();
        Some(Stack { frames, truncated: None })
    }

    fn way(&mut self, pc: u64, is_return_address: bool) -> Way {
        if let Some(way) = self.known.get(&(pc, is_return_address)) {
            return *way;
        }
        if self.known.len() >= LIMIT_KNOWN {
            return Way::Walk;
        }
        let way = self.find_out(Addr(pc), is_return_address).unwrap_or(Way::Walk);
        self.known.insert((pc, is_return_address), way);
        way
    }

    /// What the walk would do with a frame, as far as that is the same for every frame of this program counter.
    fn find_out(&self, pc: Addr, is_return_address: bool) -> Option<Way> {
        const RETURN_ADDRESS: Register = Register(16);
        let walker = &self.walker;
        let (sp, fp) = (Registers::sp_register(walker.arch), Registers::fp_register(walker.arch));
        let mut frame = Frame {
            registers: Registers::new(walker.arch),
            pc,
            is_return_address,
            cfa: None,
            trust: Trust::Cfi,
            signal_frame: false,
            suspect: false,
        };
        let lookup = frame.lookup();
        let modules = walker.info.modules();
        if is_return_address && matches!(modules.code_at(lookup), CodeAt::NotExecutable | CodeAt::Unmapped) {
            return None;
        }
        let (_, module) = modules.find(lookup)?;
        if module.orc().is_some() || module.main().is_none_or(|file| file.macho().is_some()) {
            return None;
        }
        let row = walker.rules(&mut frame)?;
        if row.signal_frame || frame.signal_frame || frame.is_return_address != is_return_address {
            return None;
        }
        let cfa = match row.cfa {
            Cfa::Offset(base, offset) if base == fp => Cfi::FromFp(offset),
            Cfa::Offset(base, offset) if base == sp => Cfi::FromSp(offset),
            _ => return None,
        };
        if row.return_address != RETURN_ADDRESS || row.rule(sp).is_some() {
            return None;
        }
        let saved = match row.rule(fp) {
            None | Some(Rule::SameValue) => None,
            Some(Rule::Offset(at)) => Some(*at),
            Some(_) => return None,
        };
        match row.rule(RETURN_ADDRESS)? {
            Rule::Undefined => Some(Way::End { cfa }),
            Rule::Offset(at) => Some(Way::Up { cfa, return_address: *at, fp: saved }),
            _ => None,
        }
    }
}
