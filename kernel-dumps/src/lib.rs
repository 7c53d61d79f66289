//! Kernel crash dumps as evidence.
//!
//! Input: a dump file of a Linux kernel (an ELF vmcore, a compressed kdump, or either in makedumpfile's flattened form)
//! or of an illumos kernel (a dump device, `vmdump.N`, `vmcore.N`). Output: an [`evidence::Target`] with what the source
//! itself records, the kernel's virtual memory, and physical memory. It knows no types: which tasks there were is for
//! those who have them to say. FreeBSD's dumps are recognised by their first bytes and named.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod error;
pub mod freebsd;
pub mod illumos;
pub mod linux;
mod machine;
pub use evidence::paging;
mod rank;
mod source;

pub use error::Error;
pub use source::{FileSource, ReadAt};

use std::path::Path;

/// How a dump is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The contents of the key file of an encrypted dump.
    pub key: Option<Vec<u8>>,
}

/// What kind of kernel dump the first bytes of a file promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// makedumpfile's compressed format (`KDUMP   `), or diskdump's (`DISKDUMP`).
    Kdump,
    /// An ELF core; user cores begin in the same way, and only the notes tell.
    Elf,
    /// makedumpfile's flattened stream.
    Flattened,
    /// illumos's `vmdump.N` or `vmcore.N`; on a dump device the header stands elsewhere.
    Illumos,
    /// Something that is known by name and not read.
    Named(&'static str),
}

/// Looks at the first bytes of a file (4 KiB are enough).
#[must_use]
pub fn sniff(head: &[u8]) -> Option<Kind> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"KDUMP   ") || starts(b"DISKDUMP") {
        return Some(Kind::Kdump);
    }
    if starts(b"makedumpfile\0\0\0\0") {
        return Some(Kind::Flattened);
    }
    if starts(b"\x7fELF") {
        return Some(Kind::Elf);
    }
    // SADUMP: the partition header's signature (libkdumpfile, sadump.c); 0x75646173 0x0000706d or "sadump\0\0".
    if starts(b"sadu") || starts(b"sadump\0\0") {
        return Some(Kind::Named("a SADUMP dump (Fujitsu firmware)"));
    }
    // LKCD: DUMP_MAGIC_NUMBER 0xa8190173618f23ed in either byte order (lkcd's dump.h).
    if starts(&0xa819_0173_618f_23ed_u64.to_le_bytes()) || starts(&0xa819_0173_618f_23ed_u64.to_be_bytes()) {
        return Some(Kind::Named("an LKCD dump"));
    }
    if starts(b"minidump FreeBSD/") || starts(b"FreeBSD Kernel Dump") {
        return Some(Kind::Named("a FreeBSD kernel dump"));
    }
    // illumos: DUMP_MAGIC 0xdefec8ed, first word of dumphdr_t (usr/src/uts/common/sys/dumphdr.h).
    if starts(&0xdefe_c8ed_u32.to_le_bytes()) || starts(&0xdefe_c8ed_u32.to_be_bytes()) {
        return Some(Kind::Illumos);
    }
    // s390's dump header (arch/s390/include/asm/debug.h era tools): 0xa8190173618f23fd.
    if starts(&0xa819_0173_618f_23fd_u64.to_be_bytes()) {
        return Some(Kind::Named("an s390 dump"));
    }
    None
}

/// Opens the kernel dump at `path`.
///
/// # Errors
/// The file cannot be read, or it is no kernel dump of a kind that is read.
pub fn open(path: &Path) -> Result<linux::LinuxDump, Error> {
    linux::LinuxDump::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        assert_eq!(sniff(b"KDUMP   \x06\0\0\0"), Some(Kind::Kdump));
        assert_eq!(sniff(b"makedumpfile\0\0\0\0"), Some(Kind::Flattened));
        assert_eq!(sniff(&0xdefe_c8ed_u32.to_le_bytes()), Some(Kind::Illumos));
        assert_eq!(sniff(b"KDUMP"), None);
        assert_eq!(sniff(b""), None);
    }
}
