//! Walks the stacks of threads of which nothing but the frames is wanted, some threads at a time into the same room.

use crate::fetch;
use crate::parallel::for_each_parallel_with;
use crate::plan::{Chosen, KeepMemory, Plan};
use crate::walk::limits;
use debuginfo::DebugInfo;
use evidence::{Context, Memory, Read, Target, ToUsize};
use std::ops::Range;
use unwind::{Plain, Stack, StackBytes};

/// Stacks of more bytes than this together are walked while the target stands still, so that they need not be kept.
const LIMIT_KEPT: u64 = 16 << 20;
/// Most bytes of one stack that are looked at here: those of larger ones are walked by what each frame needs.
const LIMIT_STACK: u64 = 256 << 10;
/// Bytes that are read at one time: enough to be worth a system call, little enough to stay in the processor's cache.
const ROOM: usize = 1 << 20;

/// Whether the stacks are walked as they are read, instead of being kept: nobody else will want them, and they are much.
pub(crate) fn are_many(target: &dyn Target, chosen: &[Chosen<'_>], plan: &Plan) -> bool {
    plan.keep_memory == KeepMemory::Judged && fetch::used(target, chosen) > LIMIT_KEPT
}

/// The threads whose stacks are not among the plain ones.
pub(crate) fn others<'t>(chosen: &[Chosen<'t>], plain: &[Option<Stack>]) -> Vec<Chosen<'t>> {
    let plain = plain.iter().chain(std::iter::repeat(&None));
    chosen.iter().zip(plain).filter(|(_, stack)| stack.is_none()).map(|(c, _)| *c).collect()
}

/// The stacks that are plain, in the order of `chosen`. Of the first thread and the one that failed more is wanted than
/// that; and whoever wants variables wants the registers of all frames.
pub(crate) fn walk(
    target: &dyn Target,
    chosen: &[Chosen<'_>],
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
) -> Vec<Option<Stack>> {
    if plan.variables || target.machine().is_some() {
        return Vec::new();
    }
    let mut stacks: Vec<Option<Stack>> = chosen.iter().map(|_| None).collect();
    let wanted = chosen.iter().enumerate().skip(1).filter(|(_, c)| !c.faulting && c.thread.context == Context::Lwp);
    let jobs: Vec<Job<'_>> = wanted
        .filter_map(|(index, c)| {
            let stack = fetch::used_stack(target, c.thread)?;
            let length = stack.end.0.saturating_sub(stack.start.0).min(LIMIT_STACK).to_usize();
            Some(Job { index, chosen: *c, start: stack.start, length })
        })
        .collect();
    let arch = target.identity().arch;
    let own = || (Plain::new(arch, memory, info, limits(target, plan)), vec![0; ROOM]);
    let found = for_each_parallel_with(&batches(&jobs), plan.workers, own, |(plain, room), batch| {
        let jobs = jobs.get(batch.clone()).unwrap_or_default();
        plain.as_mut().map(|plain| walk_batch(jobs, room, memory, plain)).unwrap_or_default()
    });
    for (index, stack) in found.into_iter().flatten() {
        if let Some(slot) = stacks.get_mut(index) {
            *slot = Some(stack);
        }
    }
    stacks
}

/// A stack to be walked, and the index of its thread.
struct Job<'t> {
    index: usize,
    chosen: Chosen<'t>,
    start: evidence::Addr,
    length: usize,
}

/// Jobs whose stacks fill the room together.
fn batches(jobs: &[Job<'_>]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut filled = 0_usize;
    for (index, job) in jobs.iter().enumerate() {
        filled = filled.saturating_add(job.length);
        match batches.last_mut().filter(|_| filled <= ROOM) {
            Some(batch) => batch.end = index.saturating_add(1),
            None => {
                filled = job.length;
                batches.push(index..index.saturating_add(1));
            }
        }
    }
    batches
}

fn walk_batch(
    jobs: &[Job<'_>],
    room: &mut [u8],
    memory: &dyn Memory,
    plain: &mut Plain<'_, '_>,
) -> Vec<(usize, Stack)> {
    let mut rest = room;
    let mut batch = Vec::with_capacity(jobs.len());
    for job in jobs {
        let (own, after) = rest.split_at_mut(job.length.min(rest.len()));
        batch.push(Read::new(job.start, own));
        rest = after;
    }
    memory.read_batch(&mut batch);
    let walked = jobs.iter().zip(&batch).filter_map(|(job, read)| {
        let bytes = read.into.get(..read.got)?;
        Some((job.index, plain.walk(&job.chosen.thread.registers, StackBytes { start: read.at, bytes })?))
    });
    walked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::{Addr, Arch, Registers, Thread, ThreadId};

    #[test]
    fn batches_fill_the_room_and_no_more() {
        let thread = Thread::new(ThreadId(1), Context::Lwp, Registers::new(Arch::X86_64));
        let job = |length: usize| Job {
            index: 0,
            chosen: Chosen { thread: &thread, faulting: false },
            start: Addr(0),
            length,
        };
        let jobs = [job(ROOM / 2), job(ROOM / 2), job(1), job(ROOM), job(0), job(1)];
        assert_eq!(batches(&jobs), [0..2, 2..3, 3..5, 5..6]);
        assert!(LIMIT_STACK.to_usize() <= ROOM && batches(&[]).is_empty());
    }
}
