//! A snapshot, indexed for the classifiers: the thread that stopped, its frames and registers, memory and mappings.
//!
//! Rows come from files, so every reference between them is checked here once; classifiers see only what resolved.

use snapshot_format::Snapshot;
use snapshot_format::schema::{Event, Frame, Mapping, Thread};
use std::collections::BTreeMap;

/// Instruction sets the classifiers know something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    X86,
    Aarch64,
    Other,
}

impl Arch {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "x86_64" => Self::X86_64,
            "x86" => Self::X86,
            "aarch64" => Self::Aarch64,
            _ => Self::Other,
        }
    }

    /// Bytes in a pointer.
    pub(crate) const fn pointer_size(self) -> u64 {
        match self {
            Self::X86 => 4,
            Self::X86_64 | Self::Aarch64 | Self::Other => 8,
        }
    }
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// In this mapping.
    Mapped(&'a Mapping),
    /// In none, and the mappings are known.
    Unmapped,
    /// The snapshot has no mappings to look in.
    Unknown,
}

/// The indexed snapshot.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) arch: Arch,
    /// The thread the event happened on.
    pub(crate) thread: Option<&'a Thread>,
    /// All frames of that thread, innermost first.
    pub(crate) frames: &'a [Frame],
    /// Index of the physical frame that the fault is looked for in: the innermost one, or, when the signal was raised
    /// again from within a handler or the event was found there, the one that the handler interrupted.
    pub(crate) context: usize,
    /// Whether `context` lies beneath a signal trampoline.
    pub(crate) interrupted: bool,
    registers: BTreeMap<&'a str, u64>,
    mappings: Vec<&'a Mapping>,
    extents: Vec<(u64, &'a [u8])>,
}

/// The frames of a stack row, cut at the table's end.
pub(crate) fn frames_of(snapshot: &Snapshot, stack: Option<u32>) -> &[Frame] {
    let Some(row) = stack.and_then(|s| usize::try_from(s).ok()).and_then(|s| snapshot.stacks.get(s)) else {
        return &[];
    };
    let first = usize::try_from(row.first).unwrap_or(usize::MAX);
    let count = usize::try_from(row.count).unwrap_or(usize::MAX);
    let tail = snapshot.frames.get(first..).unwrap_or(&[]);
    tail.get(..count).unwrap_or(tail)
}

/// The thread that the event names, or else the one that is marked.
fn faulting(snapshot: &Snapshot) -> Option<&Thread> {
    let named = snapshot.event.as_ref().and_then(|e| e.thread);
    snapshot.threads.iter().find(|t| named == Some(t.id)).or_else(|| snapshot.threads.iter().find(|t| t.faulting))
}

/// The frame that the event happened in, where the capture found the event itself on the stack of a signal handler.
///
/// Unlike beneath a handler that raised the signal again, the event is this frame's own.
fn stated(snapshot: &Snapshot, frames: &[Frame]) -> Option<usize> {
    let value = |key: &str| snapshot.attributes.iter().find(|a| a.key == key).map(|a| a.value.as_str());
    if value("event.origin") != Some("signal-frame") {
        return None;
    }
    let frame: usize = value("event.frame")?.parse().ok()?;
    let inner = frames.get(..frame)?.iter().rev().find(|f| !f.inline)?;
    (inner.signal_frame && !frames.get(frame)?.inline).then_some(frame)
}

impl<'a> View<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let thread = faulting(snapshot);
        let frames = thread.map_or(&[][..], |t| frames_of(snapshot, t.stack));
        let mut mappings: Vec<&Mapping> = snapshot.mappings.iter().filter(|m| m.start < m.end).collect();
        mappings.sort_by_key(|m| (m.start, m.end));
        let mut extents: Vec<(u64, &[u8])> = snapshot
            .memory
            .iter()
            .filter(|e| e.space == 0 && e.absent.is_none() && !e.bytes.is_empty())
            .map(|e| (e.address, e.bytes.as_slice()))
            .collect();
        extents.sort_by_key(|(address, bytes)| (*address, bytes.len()));
        let mut view = Self {
            snapshot,
            arch: Arch::parse(&snapshot.identity.arch),
            thread,
            frames,
            context: stated(snapshot, frames).or_else(|| frames.iter().position(|f| !f.inline)).unwrap_or(0),
            interrupted: false,
            registers: BTreeMap::new(),
            mappings,
            extents,
        };
        view.load_registers();
        view
    }

    /// Looks at the frame that a signal handler interrupted instead of the handler itself.
    ///
    /// Returns whether there is one.
    pub(crate) fn look_beneath_handler(&mut self) -> bool {
        let Some(trampoline) = self.frames.iter().position(|f| f.signal_frame) else { return false };
        let beneath = trampoline.saturating_add(1);
        let Some(tail) = self.frames.get(beneath..) else { return false };
        let Some(physical) = tail.iter().position(|f| !f.inline) else { return false };
        self.context = beneath.saturating_add(physical);
        self.interrupted = true;
        self.load_registers();
        true
    }

    /// Registers of the context frame. The innermost frame's may be filed under any inlined frame it contains.
    fn load_registers(&mut self) {
        self.registers.clear();
        let Some(thread) = self.thread else { return };
        let first = self.first_inline();
        for row in &self.snapshot.registers {
            let Ok(frame) = usize::try_from(row.frame) else { continue };
            if row.thread == thread.id && frame >= first && frame <= self.context {
                self.registers.insert(row.name.as_str(), row.value);
            }
        }
    }

    /// Index of the innermost frame, inlined ones counted, at the context's pc.
    pub(crate) fn first_inline(&self) -> usize {
        let before = self.frames.get(..self.context).unwrap_or(&[]);
        let inlined = before.iter().rev().take_while(|f| f.inline).count();
        self.context.saturating_sub(inlined)
    }

    pub(crate) fn event(&self) -> Option<&'a Event> {
        self.snapshot.event.as_ref()
    }

    /// The value of a register of the context frame.
    pub(crate) fn register(&self, name: &str) -> Option<u64> {
        self.registers.get(name).copied()
    }

    pub(crate) fn pc(&self) -> Option<u64> {
        let recorded = match self.arch {
            Arch::X86_64 => self.register("rip"),
            Arch::X86 => self.register("eip"),
            Arch::Aarch64 | Arch::Other => self.register("pc"),
        };
        recorded.or_else(|| self.frames.get(self.context).map(|f| f.pc))
    }

    pub(crate) fn sp(&self) -> Option<u64> {
        match self.arch {
            Arch::X86_64 => self.register("rsp"),
            Arch::X86 => self.register("esp"),
            Arch::Aarch64 | Arch::Other => self.register("sp"),
        }
    }

    /// Registers of the context frame whose value is an address like any other: no segments, flags or bases.
    pub(crate) fn general_registers(&self) -> impl Iterator<Item = (&'a str, u64)> + '_ {
        self.registers.iter().map(|(n, v)| (*n, *v)).filter(|(name, _)| {
            !matches!(*name, "es" | "cs" | "ss" | "ds" | "fs" | "gs" | "fs_base" | "gs_base")
                && !matches!(*name, "rflags" | "eflags" | "pstate" | "tpidr_el0" | "rip" | "eip" | "pc")
        })
    }

    /// Whether any mapping is known at all.
    pub(crate) fn knows_mappings(&self) -> bool {
        !self.mappings.is_empty()
    }

    /// Mappings by start address.
    pub(crate) fn mappings(&self) -> &[&'a Mapping] {
        &self.mappings
    }

    pub(crate) fn place(&self, address: u64) -> Place<'a> {
        if self.mappings.is_empty() {
            return Place::Unknown;
        }
        let after = self.mappings.partition_point(|m| m.start <= address);
        let candidate = self.mappings.get(..after).and_then(|before| before.last());
        match candidate {
            Some(m) if address < m.end => Place::Mapped(m),
            _ => Place::Unmapped,
        }
    }

    pub(crate) fn mapping(&self, address: u64) -> Option<&'a Mapping> {
        match self.place(address) {
            Place::Mapped(m) => Some(m),
            Place::Unmapped | Place::Unknown => None,
        }
    }

    /// The mapping that ends at or below `address` and the one that starts above it.
    pub(crate) fn neighbours(&self, address: u64) -> (Option<&'a Mapping>, Option<&'a Mapping>) {
        let after = self.mappings.partition_point(|m| m.start <= address);
        let below = self.mappings.get(..after).and_then(|m| m.last()).copied();
        (below.filter(|m| m.end <= address), self.mappings.get(after).copied())
    }

    /// Up to `length` kept bytes from `address` on.
    pub(crate) fn bytes(&self, address: u64, length: usize) -> &'a [u8] {
        let after = self.extents.partition_point(|(start, _)| *start <= address);
        // Extents may overlap; the nearest few below are enough for what a capture writes.
        for (start, bytes) in self.extents.get(..after).unwrap_or(&[]).iter().rev().take(LIMIT_OVERLAP) {
            let Ok(skip) = usize::try_from(address.wrapping_sub(*start)) else { continue };
            if let Some(tail) = bytes.get(skip..).filter(|t| !t.is_empty()) {
                return tail.get(..length).unwrap_or(tail);
            }
        }
        &[]
    }

    /// A number of `size` (1, 2, 4 or 8) bytes in the target's byte order.
    pub(crate) fn number(&self, address: u64, size: u64) -> Option<u64> {
        let length = usize::try_from(size).ok().filter(|n| matches!(n, 1 | 2 | 4 | 8))?;
        let bytes = self.bytes(address, length);
        if bytes.len() != length {
            return None;
        }
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        Some(if self.snapshot.identity.big_endian {
            bytes.iter().fold(0, fold)
        } else {
            bytes.iter().rev().fold(0, fold)
        })
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<&'a str> {
        self.snapshot.attributes.iter().find(|a| a.key == key).map(|a| a.value.as_str())
    }

    /// The last part of a module's path.
    pub(crate) fn module_name(&self, module: Option<u32>) -> Option<&'a str> {
        let row = usize::try_from(module?).ok()?;
        Some(basename(&self.snapshot.modules.get(row)?.path))
    }

    /// Whether the frame is in the C or C++ runtime, which distributions ship without symbols of internal functions.
    pub(crate) fn in_runtime(&self, frame: &Frame) -> bool {
        let mapped = || self.mapping(frame.pc).and_then(|m| m.path.as_deref()).map(basename);
        let Some(name) = self.module_name(frame.module).or_else(mapped) else { return false };
        RUNTIMES.iter().any(|r| name.strip_prefix(r).is_some_and(|rest| rest.starts_with(['.', '-'])))
    }

    /// The frame's function, or its module and offset, for sentences.
    pub(crate) fn frame_label(&self, frame: &Frame) -> String {
        if let Some(function) = &frame.function {
            return format!("{}()", crate::names::without_parameters(function));
        }
        match (self.module_name(frame.module), frame.module_offset) {
            (Some(module), Some(offset)) => format!("{module}+{offset:#x}"),
            (Some(module), None) => module.to_owned(),
            (None, _) => format!("{:#x}", frame.pc),
        }
    }
}

/// How many overlapping extents are tried for one read: a capture writes none that overlap, and a forged snapshot must
/// not make every read linear.
const LIMIT_OVERLAP: usize = 16;

/// File names, up to the first dot or dash, of the libraries that abort, throw and unwind.
const RUNTIMES: [&str; 9] =
    ["libc", "libstdc++", "libc++", "libc++abi", "libcxxrt", "libgcc_s", "libpthread", "libthr", "ld"];

/// The part of a path after its last separator of either kind.
pub(crate) fn basename(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Whether a mapping allows `letter` (`r`, `w` or `x`): `None` where the snapshot does not know.
pub(crate) fn allows(mapping: &Mapping, letter: u8) -> Option<bool> {
    let position = match letter {
        b'r' => 0,
        b'w' => 1,
        _ => 2,
    };
    match mapping.protection.as_bytes().get(position) {
        Some(b'?') | None => None,
        Some(found) => Some(*found == letter),
    }
}
