//! A kernel as a target: what was worked out in place of what was recorded.

use super::Kernel;
use evidence::{Attribute, Event, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, OpenFile, Target, Thread};

/// The machine, with the kernel's own threads, mappings and event.
pub(crate) struct KernelView<'k> {
    kernel: &'k Kernel,
    machine: &'k dyn Target,
}

impl Kernel {
    /// This kernel over the machine it was found in.
    pub(crate) fn over<'k>(&'k self, machine: &'k dyn Target) -> KernelView<'k> {
        KernelView { kernel: self, machine }
    }
}

impl Target for KernelView<'_> {
    fn identity(&self) -> &Identity {
        &self.kernel.identity
    }
    fn memory(&self) -> &dyn Memory {
        self.machine.memory()
    }
    fn threads(&self) -> &[Thread] {
        &self.kernel.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &self.kernel.mappings
    }
    fn images(&self) -> &[ImageHint] {
        self.machine.images()
    }
    fn event(&self) -> Option<&Event> {
        self.kernel.event.as_ref()
    }
    fn notes(&self) -> &[Note] {
        self.machine.notes()
    }
    fn attributes(&self) -> &[Attribute] {
        &self.kernel.attributes
    }
    fn open_files(&self) -> &[OpenFile] {
        self.machine.open_files()
    }
    fn gaps(&self) -> &Gaps {
        self.machine.gaps()
    }
    fn machine(&self) -> Option<&dyn Machine> {
        self.machine.machine()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Given;
    use super::*;
    use debuginfo::Locator;
    use evidence::testing::FakeTarget;
    use evidence::{Arch, Context, Doubts, Paged, Registers, ThreadId};

    #[test]
    fn what_was_worked_out_counts() {
        let machine = FakeTarget::new();
        let memory = Paged::new(machine.memory());
        let (locator, doubts) = (Locator::default(), Doubts::new());
        let given = Given { target: &machine, memory: &memory, locator: &locator, doubts: &doubts };
        let mut kernel = Kernel::recorded(given);
        kernel.threads = vec![Thread::new(ThreadId(7), Context::Task, Registers::new(Arch::X86_64))];
        kernel.event = Some(Event { message: Some("it died".into()), ..Event::default() });
        let view = kernel.over(&machine);
        assert_eq!(view.threads().first().map(|t| t.id), Some(ThreadId(7)));
        assert_eq!(view.event().and_then(|e| e.message.as_deref()), Some("it died"));
        assert!(machine.threads().iter().all(|t| t.id != ThreadId(7)));
    }
}
