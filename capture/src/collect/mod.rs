//! Evidence a classifier will want, taken while the target is at hand: raw memory, abort messages, facts of the capture.
//!
//! A classifier that wants more gets a new collector here, never a handle to the target.

mod cxx_exception;
pub(crate) mod handler;
mod memory;
mod messages;
mod rust_panic;
mod scene;
#[cfg(test)]
mod tests;

use crate::plan::Plan;
use crate::resolve::Resolved;
use crate::walk::Walked;
use debuginfo::DebugInfo;
use evidence::{Doubts, Memory, Origin, Target};
pub(crate) use memory::interrupted;
use scene::Scene;
use snapshot_format::Snapshot;

/// What every collector is given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'c, 'm> {
    pub(crate) target: &'c dyn Target,
    pub(crate) walked: &'c [Walked<'c>],
    pub(crate) resolved: &'c Resolved,
    pub(crate) memory: &'c dyn Memory,
    pub(crate) info: &'c DebugInfo<'m>,
    pub(crate) plan: &'c Plan,
    pub(crate) doubts: &'c Doubts,
}

pub(crate) fn collect(given: &Given<'_, '_>, snapshot: &mut Snapshot) {
    let identity = given.target.identity();
    // A kernel has no C library and no runtime of C++ or Rust that would keep what it said; its log has that.
    let program = !matches!(identity.origin, Origin::KernelDump | Origin::LiveKernel);
    if program {
        messages::collect(given.memory, given.info, snapshot);
    }
    if let Some(thread) = given.walked.iter().find(|w| w.faulting && program) {
        let scene = Scene::new(thread, given.resolved, given.memory, given.info, identity.arch);
        messages::of_runtimes(&scene, snapshot);
    }
    memory::collect(given, snapshot);
}
