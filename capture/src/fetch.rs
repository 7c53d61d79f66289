//! The few big reads that happen while the target stands still.

use crate::plan::Chosen;
use debuginfo::Modules;
use evidence::{Addr, Mapping, Paged, Target, Thread, ToU64};
use std::ops::Range;

/// Bytes below the stack pointer that belong to the frame: the x86-64 psABI's red zone.
const RED_ZONE: u64 = 128;

/// Most bytes of one stack fetched in advance: eight times the usual limit of a stack. A thread that uses little of its
/// stack costs little, because only what lies above its stack pointer is read.
const LIMIT_STACK_AHEAD: u64 = 64 << 20;

/// Most bytes fetched in advance for all threads together.
const LIMIT_ALL_STACKS: u64 = 512 << 20;

/// Bytes of the stacks that the chosen threads have in use.
pub(crate) fn used(target: &dyn Target, chosen: &[Chosen<'_>]) -> u64 {
    let stacks = chosen.iter().filter_map(|c| used_stack(target, c.thread));
    stacks.fold(0, |sum, r| sum.saturating_add(r.end.0.saturating_sub(r.start.0).min(LIMIT_STACK_AHEAD)))
}

/// From a thread's stack pointer, and the red zone below it, to the end of its mapping.
pub(crate) fn used_stack(target: &dyn Target, thread: &Thread) -> Option<Range<Addr>> {
    let sp = thread.registers.sp()?;
    Some(sp.wrapping_sub(RED_ZONE)..stack_end(target.mappings(), sp)?)
}

/// Reads the used part of every chosen thread's stack in one batch.
pub(crate) fn stacks(target: &dyn Target, chosen: &[Chosen<'_>], paged: &Paged<'_>) {
    // Only when all of them together are too much does each get an equal share.
    let ahead = if used(target, chosen) <= LIMIT_ALL_STACKS {
        LIMIT_STACK_AHEAD
    } else {
        LIMIT_ALL_STACKS.checked_div(chosen.len().max(1).to_u64()).unwrap_or(0).max(8 << 10)
    };
    let mut ranges: Vec<Range<Addr>> = Vec::new();
    for c in chosen {
        let Some(sp) = c.thread.registers.sp() else { continue };
        ranges.extend(used_stack(target, c.thread).map(|r| r.start..r.end.min(sp.saturating_add(ahead))));
        ranges.extend(own_stack(target, c.thread, sp).map(|r| Addr(r.end.0.saturating_sub(ahead)).max(r.start)..r.end));
    }
    ranges.retain(|r| r.start < r.end);
    paged.fetch(&ranges);
}

/// The stack that a thread was started on, when its stack pointer is elsewhere: in the handler of a signal that has a
/// stack of its own, what was interrupted lies on this one. The kernel says which is the main thread's; C libraries
/// place a thread's control block, which the thread pointer points at, at the end of its stack.
fn own_stack(target: &dyn Target, thread: &Thread, sp: Addr) -> Option<Range<Addr>> {
    let main = target.identity().pid == Some(thread.id.0);
    let own = if main {
        target.mappings().iter().find(|m| m.path.as_deref() == Some("[stack]"))?
    } else {
        mapping_at(target.mappings(), thread.registers.thread_pointer()?)?
    };
    let writable = own.protection.is_some_and(|p| p.write);
    (writable && !own.range.contains(&sp)).then(|| own.range.clone())
}

/// What unwinding and naming need besides stacks: the code at each pc is in files; images without files are here.
pub(crate) fn before_release(target: &dyn Target, modules: &Modules, paged: &Paged<'_>) {
    let code: Vec<Range<Addr>> = target
        .threads()
        .iter()
        .filter_map(|t| t.registers.pc())
        .map(|pc| pc.wrapping_sub(64)..pc.saturating_add(64))
        .filter(|r| r.start < r.end && modules.find(r.start).is_none_or(|(_, m)| m.main().is_none()))
        .collect();
    paged.fetch(&code);
}

/// The end of the mapping that `at` lies in.
pub(crate) fn stack_end(mappings: &[Mapping], at: Addr) -> Option<Addr> {
    mapping_at(mappings, at).map(|m| m.range.end)
}

/// The mapping that `at` lies in.
pub(crate) fn mapping_at(mappings: &[Mapping], at: Addr) -> Option<&Mapping> {
    let index = mappings.partition_point(|m| m.range.end <= at);
    mappings.get(index).filter(|m| m.range.contains(&at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::testing::FakeTarget;
    use evidence::{Arch, Context, Protection, Register, Registers, ThreadId};

    #[test]
    fn a_thread_on_a_signal_stack_has_another_one() {
        let mapping = |start: u64, end: u64, path: Option<&str>| Mapping {
            range: Addr(start)..Addr(end),
            protection: Some(Protection { read: true, write: true, execute: false }),
            shared: None,
            file_offset: 0,
            path: path.map(Into::into),
            deleted: false,
            file_id: None,
            open: Vec::new(),
        };
        let mut target = FakeTarget::new();
        target.identity.pid = Some(7);
        target.mappings = vec![
            mapping(0x1000, 0x2000, None),
            mapping(0x3000, 0x9000, None),
            mapping(0xa000, 0xc000, Some("[stack]")),
        ];
        let thread = |id: u64, pointer: u64| {
            let mut registers = Registers::new(Arch::X86_64);
            registers.set(Register(58), pointer);
            Thread::new(ThreadId(id), Context::Lwp, registers)
        };
        assert_eq!(own_stack(&target, &thread(8, 0x8800), Addr(0x1800)), Some(Addr(0x3000)..Addr(0x9000)));
        assert_eq!(own_stack(&target, &thread(8, 0x8800), Addr(0x4000)), None);
        assert_eq!(own_stack(&target, &thread(8, 0x2800), Addr(0x4000)), None);
        assert_eq!(own_stack(&target, &thread(7, 0x1100), Addr(0x4000)), Some(Addr(0xa000)..Addr(0xc000)));
        assert_eq!(own_stack(&target, &thread(7, 0x1100), Addr(0xb000)), None);
    }
}
