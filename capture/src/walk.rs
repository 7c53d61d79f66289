//! Unwinds all chosen threads in parallel.

use crate::parallel::for_each_parallel;
use crate::plan::{Chosen, Plan};
use crate::saved_arguments;
use debuginfo::DebugInfo;
use evidence::{Context, Memory, Os, Registers, Target, Thread};
use unwind::{Frame, Stack, unwind, unwind_freebsd_kernel, unwind_switched};

/// A thread and its frames.
pub(crate) struct Walked<'t> {
    pub(crate) thread: &'t Thread,
    pub(crate) faulting: bool,
    pub(crate) stack: Stack,
    /// Arguments that functions saved when they were entered.
    pub(crate) saved: Vec<saved_arguments::Saved>,
}

/// Walks the stacks of the chosen threads; those of `plain`, which are in the same order, are known already.
pub(crate) fn walk<'t>(
    target: &'t dyn Target,
    chosen: &[Chosen<'t>],
    plain: Vec<Option<Stack>>,
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
) -> Vec<Walked<'t>> {
    let mut plain = plain;
    plain.resize_with(chosen.len(), || None);
    let left: Vec<Chosen<'t>> = chosen.iter().zip(&plain).filter(|(_, p)| p.is_none()).map(|(c, _)| *c).collect();
    let mut left = walk_each(target, &left, memory, info, plan).into_iter();
    let known = |c: &Chosen<'t>, stack| Walked { thread: c.thread, faulting: c.faulting, stack, saved: Vec::new() };
    let walked = chosen.iter().zip(plain).map(|(c, plain)| plain.map_or_else(|| left.next(), |s| Some(known(c, s))));
    walked.flatten().collect()
}

fn walk_each<'t>(
    target: &'t dyn Target,
    chosen: &[Chosen<'t>],
    memory: &dyn Memory,
    info: &DebugInfo<'_>,
    plan: &Plan,
) -> Vec<Walked<'t>> {
    let limits = limits(target, plan);
    // What Linux leaves of a task that it switched out is where a call will return to.
    let switches = target.identity().os == Os::Linux;
    let saves = target.identity().os == Os::Illumos && plan.variables;
    let freebsd_kernel = target.identity().os == Os::FreeBsd && target.machine().is_some();
    for_each_parallel(chosen, plan.workers, |c| {
        let mut stack = if c.thread.registers.known() == 0 {
            Stack { frames: Vec::new(), truncated: Some("no registers were recorded for this thread".into()) }
        } else if freebsd_kernel {
            // All contexts but those of a trap were saved by a call.
            let saved = c.thread.context != Context::Lwp;
            unwind_freebsd_kernel(&c.thread.registers, saved, memory, info, &limits)
        } else {
            let unwind = if switches && c.thread.context == Context::Task { unwind_switched } else { unwind };
            unwind(&c.thread.registers, memory, info, &limits)
        };
        let saved = if saves { saved_arguments::of(&stack, memory, info) } else { Vec::new() };
        if !c.faulting {
            forget(&mut stack, plan.variables.then_some(info));
        }
        stack.frames.shrink_to_fit();
        Walked { thread: c.thread, faulting: c.faulting, stack, saved }
    })
}

/// What bounds the walk of one stack.
pub(crate) fn limits(target: &dyn Target, plan: &Plan) -> unwind::Limits {
    unwind::Limits { frames: plan.frames, address_mask: target.identity().address_mask }
}

/// Drops the registers that only variables are evaluated with: of thousands of stacks they are the larger part. A stack
/// on which a signal was handled may turn out to be the one that all is about. With `info`, variables are wanted: those
/// of functions that DWARF describes, which ask for their caller's registers as well.
fn forget(stack: &mut Stack, info: Option<&DebugInfo<'_>>) {
    if stack.frames.iter().any(|f| f.signal_frame) {
        return;
    }
    let described = |frame: &Frame| {
        let found = info.and_then(|info| Some((info, info.modules().find(frame.lookup())?.0)));
        found.is_some_and(|(info, index)| info.dwarf(index).is_some())
    };
    let mut inner = stack.frames.first().is_some_and(described);
    for frame in stack.frames.iter_mut().skip(1) {
        let own = described(frame);
        if !own && !inner {
            frame.registers = Registers::new(frame.registers.arch);
        }
        inner = own;
    }
}
