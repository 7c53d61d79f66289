//! Address translation by the dumped machine's own page tables.

pub mod aarch64;
pub mod x86;
pub mod x86_64;

use crate::{Absent, PhysAddr};

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub physical: PhysAddr,
    /// Bytes from there to the end of the page.
    pub left: u64,
}

/// Reads a page-table entry of 8 bytes.
pub type ReadEntry<'r> = &'r dyn Fn(PhysAddr) -> Result<u64, Absent>;
