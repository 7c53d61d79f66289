//! A guest of KVM as evidence: the virtual machine's CPUs and memory, handed over by the monitor that runs it.
//!
//! Input: the vCPU descriptors of a stopped guest and a way to its physical memory. Output: a [`Target`] with one
//! context per vCPU, the virtual memory of the first one through the guest's own page tables, and physical memory.
//!
//! It never runs, pauses or changes a vCPU: that is the monitor's business, which must have left `KVM_RUN` on all of
//! them. It does not find out what runs in the guest (the monitor may say, see [`Guest::with_os`]), and it does not
//! walk the page tables of 32-bit modes.

mod memory;
mod registers;

pub use memory::{GuestMemory, HostSlot, HostSlots, MappedSlots, Slot};
use memory::{Paging, Space};

use crate::Error;
use evidence::paging::x86_64::Rules;
use evidence::{
    Absent, Arch, Attribute, Doubt, Event, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, Origin, Os,
    PhysAddr, Target, Thread, ToU64,
};
use kvm_ioctls::VcpuFd;
use std::sync::Arc;

/// A stopped guest.
pub struct Guest {
    identity: Identity,
    threads: Vec<Thread>,
    memory: Arc<dyn GuestMemory>,
    space: Space,
    attributes: Vec<Attribute>,
    gaps: Gaps,
}

impl Guest {
    /// Records the registers of all `vcpus`, numbered in the order given.
    ///
    /// # Errors
    /// KVM refuses to tell the registers of a vCPU.
    pub fn new(vcpus: &[VcpuFd], memory: Arc<dyn GuestMemory>) -> Result<Self, Error> {
        let mut threads = Vec::with_capacity(vcpus.len());
        let mut attributes = Vec::new();
        let mut gaps = Gaps::default();
        let mut paging = Err(Absent::Unmapped);
        for (number, vcpu) in (0_u32..).zip(vcpus) {
            let cpu = registers::read(number, vcpu)?;
            if number == 0 {
                paging = Paging::of(&cpu.control);
                if let Err(why) = paging {
                    gaps.doubts.push(Doubt::new(
                        "paging",
                        format!("vCPU 0 uses 32-bit page tables, which are not walked: its memory is {why}"),
                    ));
                }
            }
            attributes.extend(cpu.attributes);
            gaps.doubts.extend(cpu.doubts);
            threads.push(cpu.thread);
        }
        let space = Space::new(Arc::clone(&memory), paging, Rules::default());
        let identity = Identity::new(Origin::LiveKernel, Os::Other, Arch::X86_64);
        Ok(Self { identity, threads, memory, space, attributes, gaps })
    }

    /// Says which system runs in the guest. For Linux, pages without access count as mapped, which other systems'
    /// page tables cannot tell.
    #[must_use]
    pub fn with_os(mut self, os: Os) -> Self {
        self.space.set_rules(Rules { linux_protnone: os == Os::Linux, ..Rules::default() });
        self.identity.os = os;
        self
    }
}

impl Target for Guest {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.space
    }
    fn threads(&self) -> &[Thread] {
        &self.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &[]
    }
    fn images(&self) -> &[ImageHint] {
        &[]
    }
    fn event(&self) -> Option<&Event> {
        None
    }
    fn notes(&self) -> &[Note] {
        &[]
    }
    fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
    fn machine(&self) -> Option<&dyn Machine> {
        Some(self)
    }
}

impl Machine for Guest {
    fn cpus(&self) -> u32 {
        u32::try_from(self.threads.len()).unwrap_or(u32::MAX)
    }

    fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let got = self.memory.read(at, into);
        if got == into.len() {
            return (got, None);
        }
        let stopped = at.checked_add(got.to_u64());
        let in_slot = stopped.is_some_and(|stop| self.memory.ranges().iter().any(|r| r.contains(&stop)));
        // Memory of the guest that this process cannot read, or none at all.
        (got, Some(if in_slot { Absent::Denied } else { Absent::Unmapped }))
    }

    fn space(&self, root: PhysAddr) -> Result<Box<dyn Memory + '_>, Absent> {
        let paging = self.space.paging()?.with_root(root).ok_or(Absent::Unmapped)?;
        if self.memory.read(PhysAddr(root.0 & !0xfff), &mut [0; 8]) < 8 {
            return Err(Absent::Unmapped);
        }
        Ok(Box::new(Space::new(Arc::clone(&self.memory), Ok(paging), self.space.rules())))
    }
}
