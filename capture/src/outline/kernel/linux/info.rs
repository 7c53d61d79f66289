//! VMCOREINFO: what a Linux kernel says about itself in its dump.
//!
//! The source gives every line as an attribute `vmcoreinfo.KEY`. Source of the keys and their number bases:
//! Documentation/admin-guide/kdump/vmcoreinfo.rst.

use evidence::{Addr, Target};
use std::collections::HashMap;

const PREFIX: &str = "vmcoreinfo.";

/// The lines by key.
pub(super) struct Info<'t> {
    lines: HashMap<&'t str, &'t str>,
}

impl<'t> Info<'t> {
    pub(super) fn of(target: &'t dyn Target) -> Self {
        let lines = target.attributes().iter().filter_map(|a| Some((a.key.strip_prefix(PREFIX)?, &*a.value)));
        Self { lines: lines.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn text(&self, key: &str) -> Option<&'t str> {
        self.lines.get(key).copied()
    }

    /// `SYMBOL(name)`: a runtime address.
    pub(super) fn symbol(&self, name: &str) -> Option<Addr> {
        let text = self.text(&format!("SYMBOL({name})"))?;
        u64::from_str_radix(text, 16).ok().map(Addr)
    }

    /// All `SYMBOL(name)` lines.
    pub(super) fn symbols(&self) -> impl Iterator<Item = (&'t str, u64)> + '_ {
        self.lines.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("SYMBOL(")?.strip_suffix(')')?;
            Some((name, u64::from_str_radix(value, 16).ok()?))
        })
    }

    /// `OFFSET(structure.member)`.
    pub(super) fn offset(&self, of: &str, member: &str) -> Option<u64> {
        self.text(&format!("OFFSET({of}.{member})"))?.parse().ok()
    }

    /// `SIZE(structure)`.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.text(&format!("SIZE({name})"))?.parse().ok()
    }

    /// `KERNELOFFSET`: how far address randomisation moved the kernel; hexadecimal without prefix.
    pub(super) fn kernel_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.text("KERNELOFFSET")?, 16).ok()
    }

    /// `BUILD-ID`, hexadecimal (Linux 5.9 and later).
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        let text = self.text("BUILD-ID")?;
        let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        pairs.iter().map(|[high, low]| u8::try_from(high.checked_mul(16)?.checked_add(*low)?).ok()).collect()
    }

    pub(super) fn page_size(&self) -> u64 {
        self.text("PAGESIZE").and_then(|t| t.parse().ok()).filter(|n: &u64| n.is_power_of_two()).unwrap_or(4096)
    }
}
