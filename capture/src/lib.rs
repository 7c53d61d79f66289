//! From a stopped target to the rows of a snapshot.
//!
//! Input: any [`Target`], where to look for debug files, and a [`Plan`]. Output: a [`Snapshot`] without findings. The
//! crate knows no backend (its tests run on fakes), and it draws no conclusions: classifying is the analysis crate's
//! work, over the snapshot alone.
//!
//! The way of one capture is a straight line: fetch what must be read while the target stands still, release it,
//! outline its images, unwind all threads in parallel, resolve all pcs in one batch, evaluate variables, collect what
//! a classifier will want, assemble the rows. Many stacks of which only the frames are wanted are walked before the
//! release, so that they need not be kept.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod assemble;
mod collect;
mod fetch;
mod outline;
mod parallel;
mod plain;
mod plan;
mod redact;
mod resolve;
mod saved_arguments;
mod stacks;
mod values;
pub mod variables;
mod walk;

use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Memory, Origin, Paged, Target};
use outline::kernel::{self, KernelView};
pub use parallel::for_each_parallel;
pub use plan::{KeepMemory, Plan, ThreadChoice};
pub use redact::{Profile, redact};
use snapshot_format::Snapshot;
pub use values::Options as VariableOptions;

/// Says when the target need not stand still any longer. Called once, from the calling thread.
pub type Release<'r> = &'r mut dyn FnMut();

/// Captures `target`.
///
/// Nothing that goes wrong on the way ends the capture: it becomes a doubt of the snapshot.
pub fn capture(target: &dyn Target, locator: &Locator, plan: &Plan, release: Release<'_>) -> Snapshot {
    let doubts = Doubts::new();
    doubts.extend(target.gaps().doubts.iter().cloned());
    let again = target.identity().origin == Origin::Minidump;
    let paged = if again { Paged::small(target.memory()) } else { Paged::new(target.memory()) };
    let kernel = kernel::outline(kernel::Given { target, memory: &paged, locator, doubts: &doubts });
    let view: Option<KernelView<'_>> = kernel.as_ref().map(|k| k.over(target));
    let target: &dyn Target = match &view {
        Some(view) => view,
        None => target,
    };
    let chosen = plan.choose(target);
    // A process that has come to its end is in no hurry, and what its runtimes have to say lies anywhere. Files wait for
    // nobody: a core without an event (gcore) is read as long as there is something to read. Nor does a kernel that is read
    // while it runs.
    let stopped = matches!(target.identity().origin, Origin::LiveProcess | Origin::LiveKernel) && kernel.is_none();
    let waits = stopped && target.event().is_none();
    let early = !plan.variables && plan.keep_memory.is_local() && waits;
    // Stacks are copied, and walked when the target runs again; many are walked one after the other instead of being kept.
    let large = early && plain::are_many(target, &chosen, plan);
    fetch::stacks(target, if large { chosen.get(..1).unwrap_or_default() } else { &chosen }, &paged);

    let outlined;
    let modules = if let Some(kernel) = &kernel {
        &kernel.modules
    } else {
        outlined = Modules::outline(target, &paged, locator, &doubts);
        &outlined
    };
    let info = DebugInfo::new(modules, &doubts);
    let info = if plan.variables || !plan.globals.is_empty() { info } else { info.without_locations() };
    let mut plain = Vec::new();
    if large {
        plain = plain::walk(target, &chosen, target.memory(), &info, plan);
        fetch::stacks(target, &plain::others(&chosen, &plain), &paged);
    }
    if early {
        fetch::before_release(target, modules, &paged);
        paged.release();
        release();
    }

    let backed = &debuginfo::images::Backed::new(&paged, modules);
    if !large {
        // What was fetched in advance, or the source itself: whole stacks would fill the cache.
        let stacks: &dyn Memory = if early { backed } else { target.memory() };
        plain = plain::walk(target, &chosen, stacks, &info, plan);
    }
    let mut walked = walk::walk(target, &chosen, plain, backed, &info, plan);
    // A healthy process has no event; one that sits in the handler of a fault shows it on a stack.
    let handled =
        if target.event().is_none() { collect::handler::find(target, &walked, backed, &doubts) } else { None };
    if let Some(handled) = &handled
        && let Some(w) = walked.get_mut(handled.thread)
    {
        w.faulting = true;
    }
    let resolved = resolve::resolve(&walked, &info);
    let variables = if plan.variables {
        values::collect(&walked, &resolved, backed, &info, plan, kernel.is_some(), &doubts)
    } else {
        Vec::new()
    };
    let mut snapshot = assemble::assemble(target, modules, &walked, &resolved, variables);
    if let Some(kernel) = &kernel {
        assemble::kernel(kernel, &mut snapshot);
    }
    if let Some(handled) = handled {
        handled.assemble(&walked, &resolved, &mut snapshot);
    }
    let given = collect::Given {
        target,
        walked: &walked,
        resolved: &resolved,
        memory: backed,
        info: &info,
        plan,
        doubts: &doubts,
    };
    collect::collect(&given, &mut snapshot);
    if !early {
        paged.release();
        release();
    }
    for module in modules.list() {
        doubts.extend(module.doubts());
    }
    snapshot.doubts = assemble::doubts(doubts.into_sorted());
    snapshot
}
