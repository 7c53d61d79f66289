//! From an address to what the kernel notes of its page: `struct vm_page`.
//!
//! Source: `sys/vm/vm_page.h`, `vm_phys.h`, `PHYS_TO_VM_PAGE` in `vm_page.c`. The pages of a segment of memory
//! (`vm_phys_segs`) lie in one array; machines without holes have one array for all (`vm_page_array`). A page states its
//! own physical address, so that a wrong one is noticed.

use super::super::context::FreeBsd;
use evidence::bytes::Endian;
use evidence::{Addr, PhysAddr};
use std::ops::Range;

/// Most segments: `VM_PHYSSEG_MAX` is 64 at most.
const LIMIT_SEGMENTS: u32 = 1024;

/// Where the pages of a range of physical memory are described.
struct Segment {
    range: Range<u64>,
    first: Addr,
}

/// All of them.
pub(super) struct PageMap<'m, 'k> {
    kernel: &'m FreeBsd<'k>,
    segments: Vec<Segment>,
    /// Bytes of a page, and of its description.
    bytes: u64,
    each: u64,
}

impl<'m, 'k> PageMap<'m, 'k> {
    pub(super) fn of(kernel: &'m FreeBsd<'k>) -> Option<Self> {
        let each = kernel.layouts_size("vm_page")?;
        // The first of the sizes is that of a page: 4 KiB, or 16 KiB of some arm64 kernels.
        let stated = kernel.symbol("pagesizes").and_then(|at| kernel.fields.pointer_at(at).ok()).map(|p| p.0);
        let bytes = stated.filter(|n| n.is_power_of_two() && (4096..=65536).contains(n)).unwrap_or(4096);
        let mut map = Self { kernel, segments: Vec::new(), bytes, each };
        map.segments = map.sparse().unwrap_or_default();
        map.segments.extend(map.dense());
        (!map.segments.is_empty()).then_some(map)
    }

    fn sparse(&self) -> Option<Vec<Segment>> {
        let kernel = self.kernel;
        let (first, each) = (kernel.symbol("vm_phys_segs")?, kernel.layouts_size("vm_phys_seg")?);
        let segment = |n: u32| {
            let at = first.wrapping_add(each.wrapping_mul(u64::from(n)));
            let value = |name: &str| kernel.value(at, "vm_phys_seg", name);
            let range = value("start")?..value("end")?;
            Some(Segment { range, first: Addr(value("first_page")?) })
        };
        let count = kernel.int("vm_phys_nsegs")?.min(LIMIT_SEGMENTS);
        Some((0..count).filter_map(segment).filter(|s| s.first.0 != 0).collect())
    }

    fn dense(&self) -> Option<Segment> {
        let kernel = self.kernel;
        let long = |name: &str| kernel.fields.pointer_at(kernel.symbol(name)?).ok().map(|p| p.0);
        let (first, page, count) = (kernel.pointer("vm_page_array")?, long("first_page")?, long("vm_page_array_size")?);
        let start = page.checked_mul(self.bytes)?;
        Some(Segment { range: start..start.checked_add(count.checked_mul(self.bytes)?)?, first })
    }

    /// The description of the page that an address lies in.
    fn page(&self, at: Addr) -> Option<Addr> {
        let PhysAddr(physical) = self.kernel.target.machine()?.physical(at).ok()?;
        let physical = physical & !self.bytes.wrapping_sub(1);
        let found = self.segments.iter().filter(|s| s.range.contains(&physical)).map(|s| {
            let number = physical.wrapping_sub(s.range.start).checked_div(self.bytes).unwrap_or(0);
            s.first.wrapping_add(number.wrapping_mul(self.each))
        });
        let mut found = found.filter(|page| self.states(*page, physical));
        found.next()
    }

    fn states(&self, page: Addr, physical: u64) -> bool {
        self.kernel.value(page, "vm_page", "phys_addr") == Some(physical)
    }

    /// The slab that the page of an address is a part of; garbage where it is of none.
    pub(super) fn slab(&self, at: Addr) -> Option<Addr> {
        self.link(at, &["plinks.uma.slab", "plinks.s.pv"])
    }

    /// The zone that the page of an address was taken for, since 13.
    pub(super) fn zone(&self, at: Addr) -> Option<Addr> {
        self.link(at, &["plinks.uma.zone"])
    }

    fn link(&self, at: Addr, paths: &[&str]) -> Option<Addr> {
        let page = self.page(at)?;
        let member = self.kernel.fields.first_place("vm_page", paths).ok()?;
        let memory = self.kernel.memory();
        let raw = memory.read_pointer(page.wrapping_add(member.offset), self.kernel.fields.pointer, Endian::Little);
        raw.ok().map(Addr).filter(|p| p.0 != 0)
    }
}
