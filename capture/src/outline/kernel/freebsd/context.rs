//! What every part of the outline works with: the kernel's symbols, its constants, its structures, its memory.

use super::offsets::{self, Stated};
use debuginfo::DebugInfo;
use debuginfo::ctf::Ctf;
use debuginfo::layout::{DwarfLayouts, Fields, Layouts, Member};
use evidence::bytes::Endian;
use evidence::{Addr, Arch, Doubt, Doubts, Memory, Target};
use std::sync::OnceLock;

/// The structures: what the kernel states about itself, then DWARF, then CTF.
pub(super) struct Described<'d> {
    pub info: &'d DebugInfo<'d>,
    pub ctf: Option<&'d Ctf>,
    pub dwarf: OnceLock<Option<DwarfLayouts<'d, 'd>>>,
    pub stated: &'d Stated,
}

impl<'d> Described<'d> {
    fn types(&self) -> impl Iterator<Item = &dyn Layouts> {
        let dwarf = self.dwarf.get_or_init(|| DwarfLayouts::new(self.info, 0)).as_ref().map(|d| -> &dyn Layouts { d });
        dwarf.into_iter().chain(self.ctf.map(|c| -> &dyn Layouts { c }))
    }
}

impl Layouts for Described<'_> {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        let described = self.types().find_map(|t| t.member(of, path));
        // The offset that the kernel states is its own; types may be of another build.
        match (self.stated.offset(of, path), described) {
            (Some(offset), Some(member)) => Some(Member { offset, ..member }),
            (Some(offset), None) => Some(Member { offset, ..offsets::plain(of, path, self.stated)? }),
            (None, described) => described,
        }
    }
    fn size_of(&self, name: &str) -> Option<u64> {
        self.stated.size(name).or_else(|| self.types().find_map(|t| t.size_of(name)))
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.types().find_map(|t| t.enumerator(name))
    }
    fn source(&self) -> &'static str {
        self.types().next().map_or("the kernel's own constants", Layouts::source)
    }
}

/// A FreeBSD kernel in a dump.
#[derive(Clone, Copy)]
pub(super) struct FreeBsd<'k> {
    pub target: &'k dyn Target,
    pub fields: Fields<'k>,
    pub doubts: &'k Doubts,
    /// The tables of the kernel's file.
    pub file: &'k DebugInfo<'k>,
    pub arch: Arch,
}

impl FreeBsd<'_> {
    pub(super) fn memory(&self) -> &dyn Memory {
        self.fields.memory
    }

    /// A symbol's address and size; the kernel runs where it was linked to.
    pub(super) fn sized_symbol(&self, name: &str) -> Option<(Addr, u64)> {
        self.file.symbols(0)?.by_name(name).map(|s| (Addr(s.start.0), s.size))
    }

    pub(super) fn symbol(&self, name: &str) -> Option<Addr> {
        self.sized_symbol(name).map(|(at, _)| at)
    }

    /// A global variable of four bytes.
    pub(super) fn int(&self, name: &str) -> Option<u32> {
        self.half(self.symbol(name)?)
    }

    pub(super) fn half(&self, at: Addr) -> Option<u32> {
        self.memory().read_u32(at, Endian::Little).ok()
    }

    pub(super) fn pointer_at(&self, at: Addr) -> Option<Addr> {
        self.fields.pointer_at(at).ok().filter(|p| p.0 != 0)
    }

    /// The pointer that a global variable holds.
    pub(super) fn pointer(&self, name: &str) -> Option<Addr> {
        self.pointer_at(self.symbol(name)?)
    }

    /// Text of at most `limit` bytes at `at`, when there is any.
    pub(super) fn text(&self, at: Addr, limit: usize) -> Option<String> {
        self.fields.text_at(at, limit).ok().filter(|t| !t.is_empty())
    }

    /// The size of a structure.
    pub(super) fn layouts_size(&self, of: &str) -> Option<u64> {
        self.fields.layouts.size_of(of).filter(|n| *n > 0)
    }

    /// Where a member lies.
    pub(super) fn offset(&self, of: &str, path: &str) -> Option<u64> {
        self.fields.layouts.member(of, path).map(|m| m.offset)
    }

    /// The value of a number or pointer.
    pub(super) fn value(&self, at: Addr, of: &str, path: &str) -> Option<u64> {
        self.fields.integer(at, of, path).ok()
    }

    pub(super) fn doubt(&self, what: &'static str, why: impl Into<Box<str>>) {
        self.doubts.push(Doubt::new(what, why));
    }

    /// `__FreeBSD_version` of the kernel.
    pub(super) fn version(&self) -> Option<u32> {
        self.int("osreldate").filter(|v| *v > 100_000)
    }
}
