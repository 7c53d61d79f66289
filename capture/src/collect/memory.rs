//! Which raw bytes are kept.

use super::Given;
use crate::fetch::stack_end;
use crate::plan::KeepMemory;
use crate::walk::Walked;
use evidence::{Addr, Doubt, Memory, Registers, Target, ToU64, ToUsize};
use snapshot_format::Snapshot;
use snapshot_format::schema::MemoryExtent;
use std::ops::Range;
use unwind::Frame;

/// Bytes kept on each side of an innermost pc: more than the longest run of instructions a classifier looks at.
const AROUND_PC: u64 = 64;
/// Bytes of the faulting thread's stack kept from its stack pointer on.
const FAULTING_STACK: u64 = 32 << 10;
/// Bytes of every other thread's stack.
const OTHER_STACK: u64 = 2 << 10;
/// Bytes kept around a pointer's target by `reachable`.
const AROUND_POINTER: u64 = 256;
/// Return addresses of the faulting thread before which code is kept.
const CALLS: usize = 32;
/// Bytes kept before a return address: the longest call instruction of x86 has 15.
const CALL_BYTES: u64 = 16;
/// Most interrupted contexts of one stack that are kept in full: handlers that fault again nest a few deep.
const LIMIT_INTERRUPTED: usize = 16;
/// Most pointers followed by `reachable`.
const LIMIT_POINTERS: usize = 65_536;
/// Most raw bytes kept below `full`: a snapshot stays a thing one can mail.
const LIMIT_BYTES: u64 = 256 << 20;

pub(super) fn collect(given: &Given<'_, '_>, snapshot: &mut Snapshot) {
    let Given { target, walked, memory, plan, doubts, .. } = *given;
    let mut ranges: Vec<Range<Addr>> = Vec::new();
    for (index, w) in walked.iter().enumerate() {
        if plan.keep_memory == KeepMemory::Judged && index > 0 && !w.faulting {
            continue;
        }
        let all = w.faulting || !plan.keep_memory.is_local();
        around(&w.thread.registers, target, if all { FAULTING_STACK } else { OTHER_STACK }, &mut ranges);
        if w.faulting {
            faulting(w, target, &mut ranges);
        }
    }
    match plan.keep_memory {
        KeepMemory::Judged | KeepMemory::Stacks => {}
        KeepMemory::Reachable => {
            let mut pointers = Vec::new();
            for range in merge(ranges.clone()) {
                follow(memory, target, &range, &mut pointers);
            }
            ranges.extend(pointers);
        }
        KeepMemory::Full => {
            ranges.extend(memory.extents().iter().filter(|e| e.absent.is_none()).map(|e| e.range.clone()));
        }
    }
    let limit = if plan.keep_memory == KeepMemory::Full { u64::MAX } else { LIMIT_BYTES };
    let mut kept = 0_u64;
    for range in merge(ranges) {
        let length = range.end.0.saturating_sub(range.start.0);
        if kept.saturating_add(length) > limit {
            doubts.push(Doubt::at("memory", range.start, format!("raw memory beyond {limit} bytes was not kept")));
            break;
        }
        kept = kept.saturating_add(keep(memory, &range, &mut snapshot.memory));
    }
}

/// The code at the pc and the stack from the stack pointer on.
fn around(registers: &Registers, target: &dyn Target, stack: u64, ranges: &mut Vec<Range<Addr>>) {
    if let Some(pc) = registers.pc() {
        ranges.push(Addr(pc.0.saturating_sub(AROUND_PC))..pc.saturating_add(AROUND_PC));
    }
    if let Some(sp) = registers.sp() {
        let wanted = sp.saturating_add(stack);
        let end = stack_end(target.mappings(), sp).map_or(wanted, |end| end.min(wanted));
        ranges.push(Addr(sp.0.saturating_sub(128))..end);
    }
}

/// What the registers point at: the operands of the faulting instruction are among them.
fn operands(registers: &Registers, ranges: &mut Vec<Range<Addr>>) {
    for (_, value) in registers.iter() {
        ranges.push(Addr(value.saturating_sub(64))..Addr(value.saturating_add(128)));
    }
}

/// What a classifier wants of the faulting thread besides: the same for every context that a signal interrupted, and
/// the calls that led here.
fn faulting(w: &Walked<'_>, target: &dyn Target, ranges: &mut Vec<Range<Addr>>) {
    operands(&w.thread.registers, ranges);
    for (_, frame) in interrupted(&w.stack.frames) {
        around(&frame.registers, target, FAULTING_STACK, ranges);
        operands(&frame.registers, ranges);
    }
    let calls = w.stack.frames.iter().filter(|f| f.is_return_address).take(CALLS);
    ranges.extend(calls.map(|f| Addr(f.pc.0.saturating_sub(CALL_BYTES))..f.pc));
}

/// The frames that signals interrupted, with their indices: those below trampolines.
pub(crate) fn interrupted(frames: &[Frame]) -> impl Iterator<Item = (usize, &Frame)> {
    let below = frames.iter().enumerate().skip(1).zip(frames).filter(|(_, inner)| inner.signal_frame);
    below.map(|(outer, _)| outer).take(LIMIT_INTERRUPTED)
}

/// Sorts, joins what overlaps or touches.
fn merge(mut ranges: Vec<Range<Addr>>) -> Vec<Range<Addr>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<Addr>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Appends the readable parts of `range`; returns how many bytes that were.
fn keep(memory: &dyn Memory, range: &Range<Addr>, rows: &mut Vec<MemoryExtent>) -> u64 {
    const PIECE: u64 = 1 << 20;
    let mut at = range.start;
    let mut total = 0_u64;
    while at < range.end {
        let length = range.end.0.saturating_sub(at.0).min(PIECE);
        let mut bytes = vec![0; length.to_usize()];
        let (got, stop) = memory.read(at, &mut bytes);
        bytes.truncate(got);
        if got > 0 {
            total = total.saturating_add(got.to_u64());
            rows.push(MemoryExtent { space: 0, address: at.0, length: got.to_u64(), bytes, absent: None });
        }
        at = at.saturating_add(got.to_u64());
        if stop.is_some() {
            // The next page may be there again.
            let next = Addr(at.0.saturating_add(1).checked_next_multiple_of(4096).unwrap_or(u64::MAX));
            if next >= range.end {
                break;
            }
            at = next;
        }
    }
    total
}

fn follow(memory: &dyn Memory, target: &dyn Target, range: &Range<Addr>, found: &mut Vec<Range<Addr>>) {
    let size = usize::from(target.identity().arch.pointer_size());
    let endian = evidence::bytes::Endian::from_big(target.identity().big_endian);
    let mut bytes = vec![0; range.end.0.saturating_sub(range.start.0).to_usize()];
    let (got, _) = memory.read(range.start, &mut bytes);
    for word in bytes.get(..got).unwrap_or_default().chunks_exact(size) {
        if found.len() >= LIMIT_POINTERS {
            return;
        }
        let value = match size {
            4 => evidence::bytes::u32_at(word, 0, endian).map(u64::from),
            _ => evidence::bytes::u64_at(word, 0, endian),
        };
        let Some(at) = value else { continue };
        let mapping = crate::fetch::mapping_at(target.mappings(), Addr(at));
        if mapping.is_some_and(|m| m.protection.is_some_and(|p| p.write)) {
            found.push(Addr(at.saturating_sub(AROUND_POINTER))..Addr(at.saturating_add(AROUND_POINTER)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::testing::FakeMemory;

    #[test]
    fn ranges_are_joined_and_holes_skipped() {
        let r = |a, b| Addr(a)..Addr(b);
        assert_eq!(merge(vec![r(5, 9), r(1, 5), r(20, 20), r(30, 31)]), vec![r(1, 9), r(30, 31)]);
        let memory = FakeMemory::new().with(Addr(0x1000), vec![1; 16]).with(Addr(0x3000), vec![2; 16]);
        let mut rows = Vec::new();
        assert_eq!(keep(&memory, &r(0x1008, 0x3008), &mut rows), 16);
        assert_eq!(rows.iter().map(|m| (m.address, m.length)).collect::<Vec<_>>(), vec![(0x1008, 8), (0x3000, 8)]);
    }
}
