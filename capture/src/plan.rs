//! What one capture is to take: which threads, how much memory, whether variables.

use evidence::{Target, Thread};

/// Which threads are unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ThreadChoice {
    /// All of them.
    #[default]
    All,
    /// The one the event happened on (the first one when there was no event).
    Faulting,
}

/// Which raw memory goes into the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeepMemory {
    /// The code and the stack of the thread that failed (or of the first one), for the analysis; none of others.
    Judged,
    /// The code at each innermost pc, and the stacks near their stack pointers.
    #[default]
    Stacks,
    /// Also what pointers on stacks and in registers lead to.
    Reachable,
    /// Everything the source has.
    Full,
}

impl KeepMemory {
    /// Whether it can be satisfied from stacks alone.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Judged | Self::Stacks)
    }
}

/// What one capture is to take.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which threads.
    pub threads: ThreadChoice,
    /// Whether variables are evaluated.
    pub variables: bool,
    /// Globals to evaluate by name.
    pub globals: Vec<String>,
    /// Which raw memory is kept.
    pub keep_memory: KeepMemory,
    /// Most frames of one stack.
    pub frames: usize,
    /// Bounds of variable evaluation.
    pub limits: crate::values::Options,
    /// Worker threads; 0 means as many as there are processors.
    pub workers: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            threads: ThreadChoice::All,
            variables: true,
            globals: Vec::new(),
            keep_memory: KeepMemory::Stacks,
            frames: unwind::Limits::default().frames,
            limits: crate::values::Options::default(),
            workers: 0,
        }
    }
}

impl Plan {
    /// The threads to take, the faulting one first, the others in the order of the source.
    pub(crate) fn choose<'t>(&self, target: &'t dyn Target) -> Vec<Chosen<'t>> {
        let faulting = target.event().and_then(|e| e.thread);
        let mut chosen: Vec<Chosen<'t>> =
            target.threads().iter().map(|thread| Chosen { thread, faulting: Some(thread.id) == faulting }).collect();
        chosen.sort_by_key(|c| !c.faulting);
        if self.threads == ThreadChoice::Faulting {
            chosen.truncate(1);
        }
        chosen
    }
}

/// A thread of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'t> {
    pub(crate) thread: &'t Thread,
    pub(crate) faulting: bool,
}
