//! Guest memory: physical slots, and virtual memory through the guest's page tables.

use super::registers::Control;
use evidence::paging::x86_64::{Rules, translate};
use evidence::{Absent, Addr, Extent, Memory, PhysAddr, ToU64, ToUsize};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::Arc;

/// Control register bits and `EFER` (Intel SDM volume 3A, sections 2.2.1 and 2.5).
const CR0_PG: u64 = 1 << 31;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;

/// Physical memory of a guest.
pub trait GuestMemory: Send + Sync {
    /// Reads the longest prefix that is memory and can be read.
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> usize;
    /// Where there is memory: sorted, disjoint.
    fn ranges(&self) -> Vec<Range<PhysAddr>>;
}

/// A memory slot whose bytes the monitor lends.
pub struct Slot {
    /// Guest physical address of its first byte.
    pub base: PhysAddr,
    /// A copy of its bytes, or a reference-counted handle to them. Nothing may write to borrowed bytes: for memory
    /// that devices may still change there is [`HostSlots`].
    pub bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

/// Memory slots whose bytes are lent as slices.
pub struct MappedSlots {
    slots: Vec<Slot>,
}

impl MappedSlots {
    /// In any order; where two overlap, the one with the lower base is read.
    #[must_use]
    pub fn new(mut slots: Vec<Slot>) -> Self {
        slots.sort_by_key(|s| s.base);
        Self { slots }
    }
}

impl GuestMemory for MappedSlots {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> usize {
        read_parts(at, into, |here, rest| {
            let tail = self.slots.iter().find_map(|s| {
                let bytes: &[u8] = (*s.bytes).as_ref();
                bytes.get(usize::try_from(here.offset_from(s.base)?).ok()?..).filter(|t| !t.is_empty())
            })?;
            let n = tail.len().min(rest.len());
            rest.get_mut(..n)?.copy_from_slice(tail.get(..n)?);
            Some(n)
        })
    }

    fn ranges(&self) -> Vec<Range<PhysAddr>> {
        merged(self.slots.iter().map(|s| (s.base, (*s.bytes).as_ref().len().to_u64())))
    }
}

/// A memory slot as KVM knows it (`struct kvm_userspace_memory_region`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSlot {
    /// `guest_phys_addr`: guest physical address of its first byte.
    pub base: PhysAddr,
    /// `memory_size` in bytes.
    pub size: u64,
    /// `userspace_addr`: where its first byte is mapped in this process.
    pub host: u64,
}

/// Memory slots by their addresses in this process, as they were given to `KVM_SET_USER_MEMORY_REGION`.
///
/// The kernel copies the bytes (`process_vm_readv` of ourselves): no reference to guest memory ever exists, so that
/// device threads may go on writing, and a slot that is no longer mapped is missing memory, not a crash. A seccomp
/// filter of the monitor must allow the call.
pub struct HostSlots {
    slots: Vec<HostSlot>,
}

impl HostSlots {
    /// In any order; where two overlap, the one with the lower base is read.
    #[must_use]
    pub fn new(mut slots: Vec<HostSlot>) -> Self {
        slots.sort_by_key(|s| s.base);
        Self { slots }
    }
}

impl GuestMemory for HostSlots {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> usize {
        read_parts(at, into, |here, rest| {
            let (host, left) = self.slots.iter().find_map(|s| {
                let offset = here.offset_from(s.base).filter(|o| *o < s.size)?;
                Some((s.host.checked_add(offset)?, s.size.saturating_sub(offset)))
            })?;
            let n = rest.len().min(left.to_usize());
            let remote = [RemoteIoVec { base: usize::try_from(host).ok()?, len: n }];
            process_vm_readv(Pid::this(), &mut [IoSliceMut::new(rest.get_mut(..n)?)], &remote).ok()
        })
    }

    fn ranges(&self) -> Vec<Range<PhysAddr>> {
        merged(self.slots.iter().map(|s| (s.base, s.size)))
    }
}

/// Fills `into` part by part until one gives nothing.
fn read_parts(at: PhysAddr, into: &mut [u8], part: impl Fn(PhysAddr, &mut [u8]) -> Option<usize>) -> usize {
    let mut done = 0_usize;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        let got = at.checked_add(done.to_u64()).and_then(|here| part(here, rest)).unwrap_or(0);
        if got == 0 {
            break;
        }
        done = done.saturating_add(got);
    }
    done
}

/// The ranges of slots that are sorted by their bases, joined where they touch or overlap.
fn merged(slots: impl Iterator<Item = (PhysAddr, u64)>) -> Vec<Range<PhysAddr>> {
    let mut ranges: Vec<Range<PhysAddr>> = Vec::new();
    for (base, size) in slots.filter(|(_, size)| *size > 0) {
        let end = base.saturating_add(size);
        match ranges.last_mut().filter(|last| base <= last.end) {
            Some(last) => last.end = last.end.max(end),
            None => ranges.push(base..end),
        }
    }
    ranges
}

/// How virtual addresses become physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paging {
    /// Paging is off: they are the same.
    Off,
    /// 4 or 5 levels of 64-bit tables.
    Tables { root: PhysAddr, levels: u8 },
}

impl Paging {
    /// What the control registers say; 32-bit and PAE paging outside long mode are not walked.
    pub(super) const fn of(control: &Control) -> Result<Self, Absent> {
        if control.cr0 & CR0_PG == 0 {
            return Ok(Self::Off);
        }
        if control.efer & EFER_LMA == 0 {
            return Err(Absent::Denied);
        }
        let levels = if control.cr4 & CR4_LA57 == 0 { 4 } else { 5 };
        Ok(Self::Tables { root: PhysAddr(control.cr3), levels })
    }

    /// The same kind of tables from another root.
    pub(super) const fn with_root(self, root: PhysAddr) -> Option<Self> {
        match self {
            Self::Off => None,
            Self::Tables { levels, .. } => Some(Self::Tables { root, levels }),
        }
    }
}

/// An address space of the guest.
pub(super) struct Space {
    memory: Arc<dyn GuestMemory>,
    paging: Result<Paging, Absent>,
    rules: Rules,
    extents: Vec<Extent>,
}

impl Space {
    pub(super) fn new(memory: Arc<dyn GuestMemory>, paging: Result<Paging, Absent>, rules: Rules) -> Self {
        Self { memory, paging, rules, extents: Vec::new() }
    }

    pub(super) const fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(super) const fn paging(&self) -> Result<Paging, Absent> {
        self.paging
    }

    /// The physical address, and how many bytes follow it in the same page.
    fn translate(&self, at: Addr) -> Result<(PhysAddr, u64), Absent> {
        match self.paging? {
            Paging::Off => Ok((PhysAddr(at.0), 4096_u64.wrapping_sub(at.0 & 4095))),
            Paging::Tables { root, levels } => {
                let entry = |at: PhysAddr| {
                    let mut raw = [0; 8];
                    if self.memory.read(at, &mut raw) == 8 {
                        Ok(u64::from_le_bytes(raw))
                    } else {
                        Err(Absent::Unmapped)
                    }
                };
                translate(root, levels, self.rules, at, &entry).map(|t| (t.physical, t.left))
            }
        }
    }
}

impl Memory for Space {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let (physical, left) = match self.translate(here) {
                Ok(there) => there,
                Err(why) => return (done, Some(why)),
            };
            let Some(rest) = into.get_mut(done..) else { break };
            let n = rest.len().min(left.to_usize());
            let Some(part) = rest.get_mut(..n) else { break };
            let got = self.memory.read(physical, part);
            done = done.saturating_add(got);
            if got < n {
                // Mapped, and not memory: a device.
                return (done, Some(Absent::Denied));
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}
