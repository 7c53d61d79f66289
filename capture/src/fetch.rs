//! The few big reads that happen while the target stands still.

use crate::plan::Chosen;
use debuginfo::Modules;
use evidence::{Addr, Mapping, Paged, Target, ToU64};
use std::ops::Range;

/// Bytes below the stack pointer that belong to the frame: the x86-64 psABI's red zone.
const RED_ZONE: u64 = 128;

/// Most bytes of one stack fetched in advance. Deeper stacks are read on demand; 256 KiB covers all but runaway
/// recursion, and 5,000 threads of it stay within what [`Paged`] keeps.
const LIMIT_STACK_AHEAD: u64 = 256 << 10;

/// Most bytes fetched in advance for all threads together.
const LIMIT_ALL_STACKS: u64 = 512 << 20;

/// Reads the used part of every chosen thread's stack in one batch.
pub(crate) fn stacks(target: &dyn Target, chosen: &[Chosen<'_>], paged: &Paged<'_>) {
    let share = LIMIT_ALL_STACKS.checked_div(chosen.len().max(1).to_u64()).unwrap_or(0).max(8 << 10);
    let ahead = share.min(LIMIT_STACK_AHEAD);
    let ranges: Vec<Range<Addr>> = chosen
        .iter()
        .filter_map(|c| {
            let sp = c.thread.registers.sp()?;
            let end = stack_end(target.mappings(), sp)?;
            Some(sp.wrapping_sub(RED_ZONE)..end.min(sp.saturating_add(ahead)))
        })
        .filter(|r| r.start < r.end)
        .collect();
    paged.fetch(&ranges);
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
