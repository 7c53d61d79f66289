//! Kernels: tasks, modules, log and cause of death, out of a whole machine's memory.
//!
//! The only place that asks "is this a kernel?". Input: a target that is a [`Machine`](evidence::Machine). Output: a
//! [`Kernel`], which [`Kernel::over`] turns into a target again: after that there are only threads, images and
//! memories, and a task is unwound, named and shown as any thread is.

mod circles;
mod freebsd;
mod illumos;
mod linux;
mod view;

use debuginfo::{Locator, Modules};
use evidence::{Attribute, Doubts, Event, Identity, Mapping, Memory, Os, Target, Thread};
use snapshot_format::schema;
pub(crate) use view::KernelView;

/// What a kernel's memory says of it.
pub(crate) struct Kernel {
    /// The source's identity, completed: release, host, the command that panicked.
    pub(crate) identity: Identity,
    /// Why it died: the task, the panic message, trap number, error code and address.
    pub(crate) event: Option<Event>,
    /// Every task, thread or CPU whose stack can be unwound. Ids are unique.
    pub(crate) threads: Vec<Thread>,
    /// Kernel address ranges with what they are, sorted and disjoint; may be empty.
    pub(crate) mappings: Vec<Mapping>,
    /// Facts under `kernel.`: release, version, command line, uptime, taint.
    pub(crate) attributes: Vec<Attribute>,
    /// The kernel's image and its modules.
    pub(crate) modules: Modules,
    /// All tasks, also those without a stack. A task's `id` is the id of its thread.
    pub(crate) tasks: Vec<schema::Task>,
    /// The message buffer, oldest first.
    pub(crate) log: Vec<schema::LogRecord>,
}

/// What the parts of an outline work with.
#[derive(Clone, Copy)]
pub(crate) struct Given<'g> {
    /// The machine.
    pub(crate) target: &'g dyn Target,
    /// The kernel's address space, what was read of it kept.
    pub(crate) memory: &'g dyn Memory,
    /// Where files are looked for.
    pub(crate) locator: &'g Locator,
    /// Where doubts go.
    pub(crate) doubts: &'g Doubts,
}

/// Works a kernel out; `None` when the target is no machine, or of a system whose kernels are not known here.
pub(crate) fn outline(given: Given<'_>) -> Option<Kernel> {
    given.target.machine()?;
    match given.target.identity().os {
        Os::Linux => linux::outline(given),
        Os::FreeBsd => freebsd::outline(given),
        Os::Illumos => illumos::outline(given),
        _ => None,
    }
}

impl Kernel {
    /// What the source itself states, to be completed.
    fn recorded(given: Given<'_>) -> Self {
        let target = given.target;
        Self {
            identity: target.identity().clone(),
            event: target.event().cloned(),
            threads: target.threads().to_vec(),
            mappings: target.mappings().to_vec(),
            attributes: target.attributes().to_vec(),
            modules: Modules::outline(target, given.memory, given.locator, given.doubts),
            tasks: Vec::new(),
            log: Vec::new(),
        }
    }
}
