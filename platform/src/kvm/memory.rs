//! Guest memory: physical slots, and virtual memory through the guest's page tables.

use super::registers::Control;
use evidence::paging::x86_64::translate;
use evidence::{Absent, Addr, Extent, Memory, PhysAddr, ToU64, ToUsize};
use std::ops::Range;
use std::sync::Arc;

/// Control register bits and `EFER` (Intel SDM volume 3A, sections 2.2.1 and 2.5).
const CR0_PG: u64 = 1 << 31;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;

/// Physical memory of a guest.
pub trait GuestMemory: Send + Sync {
    /// Reads the longest prefix that is memory.
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> usize;
    /// Where there is memory: sorted, disjoint.
    fn ranges(&self) -> Vec<Range<PhysAddr>>;
}

/// A memory slot as the monitor gave it to KVM.
pub struct Slot {
    /// Guest physical address of its first byte.
    pub base: PhysAddr,
    /// A copy of, or a reference counted handle to, its bytes.
    pub bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

/// Memory slots whose bytes are mapped into this process.
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
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(here) = at.checked_add(done.to_u64()) else { break };
            let tail = self.slots.iter().find_map(|s| {
                let bytes: &[u8] = (*s.bytes).as_ref();
                bytes.get(here.offset_from(s.base)?.to_usize()..).filter(|t| !t.is_empty())
            });
            let Some(tail) = tail else { break };
            let n = tail.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..n), tail.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
        }
        done
    }

    fn ranges(&self) -> Vec<Range<PhysAddr>> {
        self.slots.iter().map(|s| s.base..s.base.saturating_add((*s.bytes).as_ref().len().to_u64())).collect()
    }
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
    extents: Vec<Extent>,
}

impl Space {
    pub(super) fn new(memory: Arc<dyn GuestMemory>, paging: Result<Paging, Absent>) -> Self {
        Self { memory, paging, extents: Vec::new() }
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
                translate(root, levels, 0, at, &entry).map(|t| (t.physical, t.left))
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
