//! What collectors look at: the faulting thread's frames with their names, memory in the target's word size, symbols.

use crate::resolve::Resolved;
use crate::walk::Walked;
use debuginfo::DebugInfo;
use evidence::bytes::{Endian, u32_at, u64_at};
use evidence::{Addr, Arch, Memory, ToU64, ToUsize};
use std::ops::Range;

/// Frames from the top in which a runtime's own functions are looked for: panics and throws are a dozen deep.
pub(super) const TOP: usize = 48;

/// Most bytes of stack searched for a runtime's structures: the frames between a throw and its abort have some hundred.
const LIMIT_SEARCH: u64 = 64 << 10;

/// One thread, seen by a collector.
pub(super) struct Scene<'s, 'm> {
    pub(super) thread: &'s Walked<'s>,
    pub(super) resolved: &'s Resolved,
    pub(super) memory: &'s dyn Memory,
    pub(super) info: &'s DebugInfo<'m>,
    /// Bytes in a pointer.
    pub(super) size: u8,
}

impl<'s, 'm> Scene<'s, 'm> {
    pub(super) const fn new(
        thread: &'s Walked<'s>,
        resolved: &'s Resolved,
        memory: &'s dyn Memory,
        info: &'s DebugInfo<'m>,
        arch: Arch,
    ) -> Self {
        Self { thread, resolved, memory, info, size: arch.pointer_size() }
    }

    /// The physical function of a frame.
    pub(super) fn function(&self, frame: usize) -> Option<&'s str> {
        let lookup = self.thread.stack.frames.get(frame)?.lookup();
        self.resolved.at(lookup)?.frames.last()?.function.as_deref()
    }

    /// The first of the top frames whose function satisfies `test`.
    pub(super) fn find(&self, test: impl Fn(&str) -> bool) -> Option<usize> {
        let count = self.thread.stack.frames.len().min(TOP);
        (0..count).find(|frame| self.function(*frame).is_some_and(&test))
    }

    /// A word of the target.
    pub(super) fn word(&self, at: u64) -> Option<u64> {
        self.memory.read_pointer(Addr(at), self.size, Endian::Little).ok()
    }

    /// A word of the target, `index` words after `at`.
    pub(super) fn word_at(&self, at: u64, index: u64) -> Option<u64> {
        self.word(at.checked_add(index.checked_mul(u64::from(self.size))?)?)
    }

    /// The stack between two frames: from the stack pointer of the inner one to the frame address of the outer one.
    pub(super) fn stack(&self, inner: usize, outer: usize) -> Option<Range<u64>> {
        let frames = &self.thread.stack.frames;
        let start = frames.get(inner)?.registers.sp()?.0;
        let last = frames.get(outer)?;
        let beyond = || frames.get(outer.checked_add(1)?)?.registers.sp();
        let end = last.cfa.or_else(beyond)?.0;
        (start < end).then(|| start..end.min(start.saturating_add(LIMIT_SEARCH)))
    }

    /// Every aligned word of a range of memory, as far as it can be read.
    pub(super) fn words(&self, range: &Range<u64>) -> Vec<u64> {
        let length = range.end.saturating_sub(range.start).min(LIMIT_SEARCH);
        let mut bytes = vec![0; length.to_usize()];
        let (got, _) = self.memory.read(Addr(range.start), &mut bytes);
        let bytes = bytes.get(..got).unwrap_or_default();
        bytes
            .chunks_exact(usize::from(self.size))
            .filter_map(|w| match self.size {
                4 => u32_at(w, 0, Endian::Little).map(u64::from),
                _ => u64_at(w, 0, Endian::Little),
            })
            .collect()
    }

    /// The values of all registers of some frames.
    pub(super) fn registers(&self, frames: Range<usize>) -> Vec<u64> {
        let mut values: Vec<u64> = Vec::new();
        for frame in self.thread.stack.frames.get(frames).unwrap_or_default() {
            values.extend(frame.registers.iter().map(|(_, v)| v));
        }
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The linkage name of the function or object that starts at `at`, or covers it.
    pub(super) fn symbol(&self, at: u64) -> Option<(String, u64)> {
        let (index, module) = self.info.modules().find(Addr(at))?;
        let symbols = self.info.symbols(index)?;
        let svma = module.to_svma(Addr(at));
        let symbol = symbols.object_at(svma).or_else(|| symbols.at(svma))?;
        Some((symbol.name.into_owned(), svma.offset_from(symbol.start)?))
    }

    /// Whether the function of that linkage name starts at `at`, in whichever image `at` lies.
    pub(super) fn is_function(&self, at: u64, name: &str) -> bool {
        let found = self.info.modules().find(Addr(at)).and_then(|(index, module)| {
            let symbol = self.info.symbols(index)?.by_name(name)?;
            Some(symbol.start == module.to_svma(Addr(at)))
        });
        found.unwrap_or(false)
    }

    /// Exactly `length` bytes of valid UTF-8 without control characters other than white space.
    pub(super) fn text(&self, at: u64, length: u64, limit: u64) -> Option<String> {
        if length == 0 || length > limit {
            return None;
        }
        let mut bytes = vec![0; length.to_usize()];
        self.memory.read_exact(Addr(at), &mut bytes).ok()?;
        debug_assert_eq!(bytes.len().to_u64(), length);
        let text = String::from_utf8(bytes).ok()?;
        text.chars().all(|c| !c.is_control() || c.is_whitespace()).then_some(text)
    }
}
