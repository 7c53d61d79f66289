//! What every part of the outline works with: symbols by name, members by name, memory.

use super::info::Info;
use debuginfo::DebugInfo;
use debuginfo::kernel::{Btf, Kallsyms};
use debuginfo::layout::{DwarfLayouts, Fields, Layouts, Member};
use evidence::bytes::Endian;
use evidence::{Addr, Doubt, Doubts, Memory};
use std::sync::OnceLock;

/// Most CPUs: `NR_CPUS` is at most 8192.
pub(super) const LIMIT_CPUS: u32 = 8192;

/// Structures out of BTF, and out of DWARF when there is no BTF.
pub(super) struct Described<'d> {
    pub btf: Option<&'d Btf>,
    pub info: &'d DebugInfo<'d>,
    pub dwarf: OnceLock<Option<DwarfLayouts<'d, 'd>>>,
}

impl<'d> Described<'d> {
    fn best(&self) -> Option<&dyn Layouts> {
        if let Some(btf) = self.btf {
            return Some(btf);
        }
        self.dwarf.get_or_init(|| DwarfLayouts::new(self.info, 0)).as_ref().map(|d| {
            let layouts: &dyn Layouts = d;
            layouts
        })
    }
}

impl Layouts for Described<'_> {
    fn member(&self, of: &str, path: &str) -> Option<Member> {
        self.best()?.member(of, path)
    }
    fn size_of(&self, name: &str) -> Option<u64> {
        self.best()?.size_of(name)
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.best()?.enumerator(name)
    }
    fn source(&self) -> &'static str {
        self.best().map_or("nothing", Layouts::source)
    }
}

/// A Linux kernel in a dump.
#[derive(Clone, Copy)]
pub(super) struct Linux<'k> {
    pub info: &'k Info<'k>,
    pub fields: Fields<'k>,
    pub doubts: &'k Doubts,
    pub kallsyms: Option<&'k Kallsyms>,
    /// The tables of the kernel's file, when it was given.
    pub file: &'k DebugInfo<'k>,
    /// How far the kernel was moved.
    pub slide: u64,
}

impl Linux<'_> {
    pub(super) fn memory(&self) -> &dyn Memory {
        self.fields.memory
    }

    pub(super) fn endian(&self) -> Endian {
        self.fields.endian
    }

    /// A symbol's runtime address; for a variable of which each CPU has one, what to add to the CPU's offset.
    pub(super) fn symbol(&self, name: &str) -> Option<Addr> {
        let stated = self.info.symbol(name).or_else(|| Some(Addr(self.kallsyms?.by_name(name)?)));
        stated.or_else(|| {
            let symbol = self.file.symbols(0)?.by_name(name)?;
            // Variables of CPUs lie at small addresses, which do not move with the kernel.
            let moves = symbol.start.0 >> 32 != 0;
            Some(Addr(if moves { symbol.start.0.wrapping_add(self.slide) } else { symbol.start.0 }))
        })
    }

    /// The pointer that a global variable holds.
    pub(super) fn pointer(&self, name: &str) -> Option<Addr> {
        self.fields.pointer_at(self.symbol(name)?).ok()
    }

    pub(super) fn word(&self, at: Addr) -> Option<u64> {
        self.memory().read_u64(at, self.endian()).ok()
    }

    pub(super) fn half(&self, at: Addr) -> Option<u32> {
        self.memory().read_u32(at, self.endian()).ok()
    }

    /// A global variable of four bytes.
    pub(super) fn int(&self, name: &str) -> Option<u32> {
        self.half(self.symbol(name)?)
    }

    /// A global variable of eight bytes.
    pub(super) fn long(&self, name: &str) -> Option<u64> {
        self.word(self.symbol(name)?)
    }

    /// Where a member lies: as types say, else as VMCOREINFO says.
    pub(super) fn offset(&self, of: &str, member: &str) -> Option<u64> {
        let described = self.fields.layouts.member(of, member).map(|m| m.offset);
        described.or_else(|| self.info.offset(of, member))
    }

    pub(super) fn size(&self, of: &str) -> Option<u64> {
        self.fields.layouts.size_of(of).or_else(|| self.info.size(of))
    }

    pub(super) fn doubt(&self, what: &'static str, why: impl Into<Box<str>>) {
        self.doubts.push(Doubt::new(what, why));
    }

    /// What to add to the symbol of a variable of which each CPU has one.
    pub(super) fn cpu_offset(&self, cpu: u32) -> Option<u64> {
        match self.symbol("__per_cpu_offset") {
            Some(table) => self.word(table.wrapping_add(u64::from(cpu).saturating_mul(8))),
            // A kernel for one processor has plain variables instead.
            None if cpu == 0 && !self.is_for_many_cpus() => Some(0),
            None => None,
        }
    }

    /// Whether tasks say on which CPU they are, which those of a kernel for one processor do not.
    fn is_for_many_cpus(&self) -> bool {
        ["thread_info.cpu", "cpu"].iter().any(|path| self.fields.layouts.member("task_struct", path).is_some())
    }

    /// Whether this is a kernel for one processor: tasks are described, but say no CPU.
    pub(super) fn is_for_one_cpu(&self) -> bool {
        let described = self.fields.layouts.member("task_struct", "pid").is_some();
        described && !self.is_for_many_cpus() && self.symbol("__per_cpu_offset").is_none()
    }

    /// A CPU's own variable.
    pub(super) fn per_cpu(&self, name: &str, cpu: u32) -> Option<Addr> {
        Some(self.symbol(name)?.wrapping_add(self.cpu_offset(cpu)?))
    }

    /// The CPUs of a mask.
    fn mask(&self, name: &str, most: u32) -> Option<Vec<u32>> {
        let start = self.symbol(name)?;
        let mut cpus = Vec::new();
        for word in 0..most.div_ceil(64) {
            let bits = self.word(start.wrapping_add(u64::from(word).saturating_mul(8)))?;
            let numbers = (0..64_u32).filter(|bit| bits >> bit & 1 == 1);
            cpus.extend(numbers.map(|bit| word.saturating_mul(64).saturating_add(bit)));
        }
        cpus.retain(|cpu| *cpu < most);
        Some(cpus)
    }

    /// The CPUs that were there and running.
    pub(super) fn online(&self) -> Vec<u32> {
        let most = self.int("nr_cpu_ids").unwrap_or(1).clamp(1, LIMIT_CPUS);
        let masks = ["__cpu_online_mask", "__cpu_present_mask", "__cpu_possible_mask"];
        let found = masks.iter().find_map(|name| self.mask(name, most).filter(|cpus| !cpus.is_empty()));
        found.unwrap_or_else(|| vec![0])
    }

    /// The CPUs that have variables of their own, whether they were running or not: a panic takes the others offline.
    pub(super) fn possible(&self) -> Vec<u32> {
        let most = self.int("nr_cpu_ids").unwrap_or(1).clamp(1, LIMIT_CPUS);
        let masks = ["__cpu_possible_mask", "__cpu_present_mask"];
        let found = masks.iter().find_map(|name| self.mask(name, most).filter(|cpus| !cpus.is_empty()));
        found.unwrap_or_else(|| self.online())
    }

    /// Text of at most `limit` bytes that a pointer leads to.
    pub(super) fn text(&self, at: Addr, limit: usize) -> Option<String> {
        self.fields.text_at(at, limit).ok()
    }

    /// `length` bytes at `at`.
    pub(super) fn bytes(&self, at: Addr, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory().read_exact(at, &mut bytes).ok()?;
        Some(bytes)
    }
}
