//! Cores of Linux programs, written by the kernel or by gdb.

mod mappings;
mod process;
mod threads;

use super::headers::Header;
use super::memory::CoreMemory;
use super::notes::RawNote;
use crate::input::Input;
use crate::linux_abi::NT_AUXV;
use evidence::bytes::{self, Endian};
use evidence::{
    Addr, Attribute, Doubt, Event, Gaps, Identity, ImageHint, Mapping, Memory, Note, Origin, Os, Target, Thread,
};

/// `AT_PHDR`, `AT_ENTRY`, `AT_RANDOM`, `AT_EXECFN`, `AT_SYSINFO_EHDR` (`include/uapi/linux/auxvec.h`,
/// `arch/x86/include/uapi/asm/auxvec.h`).
mod at {
    pub const PHDR: u64 = 3;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
}

/// Longest path read out of memory.
const LIMIT_PATH: usize = 4096;

/// An opened core.
pub struct Core {
    identity: Identity,
    memory: CoreMemory,
    threads: Vec<Thread>,
    mappings: Vec<Mapping>,
    images: Vec<ImageHint>,
    event: Option<Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    gaps: Gaps,
}

impl Core {
    pub(super) fn assemble(input: Input, header: Header, raw: Vec<RawNote>, mut gaps: Gaps) -> Self {
        let mut identity = Identity::new(Origin::UserCore, Os::Linux, header.arch);
        identity.big_endian = header.endian == Endian::Big;
        let (threads, owners) = threads::read(&raw, header.arch, &mut gaps.doubts);
        if let Some(first) = threads.first() {
            // A program of 32 bits on a machine of 64 writes its core in its own class.
            identity.arch = first.registers.arch;
        } else {
            gaps.doubts.push(Doubt::new("threads", "the core has no NT_PRSTATUS note: no thread can be shown"));
        }
        process::identify(&raw, &header, &mut identity);
        let mut mappings = mappings::read(&raw, &header, &mut gaps.doubts);
        let memory = CoreMemory::new(input, header.segments);
        let mut images = Vec::new();
        if let Some(auxv) = raw.iter().find(|n| n.kind == NT_AUXV && &*n.owner == "CORE") {
            let entry = |key| auxv_entry(&auxv.body, key, header.endian, header.address_size);
            if let Some(path) = entry(at::EXECFN).and_then(|p| {
                let memory: &dyn Memory = &memory;
                memory.read_c_string(Addr(p), LIMIT_PATH).ok().filter(|t| !t.is_empty())
            }) {
                identity.executable = Some(path.into());
            }
            // The path under which the kernel mapped it is better than the one under which it was started.
            let mapped = entry(at::PHDR).and_then(|p| mapping_at(&mappings, Addr(p))).and_then(|m| m.path.clone());
            if let Some(path) = mapped {
                identity.executable = Some((&*path).into());
            }
            for (key, name) in [(at::RANDOM, "[stack]"), (at::SYSINFO_EHDR, "[vdso]")] {
                let Some(inside) = entry(key) else { continue };
                let index = mappings.partition_point(|m| m.range.end <= Addr(inside));
                if let Some(m) = mappings.get_mut(index).filter(|m| m.range.contains(&Addr(inside))) {
                    if m.path.is_none() {
                        m.path = Some(name.into());
                    }
                    if key == at::SYSINFO_EHDR {
                        images.push(ImageHint { base: m.range.start, path: m.path.clone(), ..ImageHint::default() });
                    }
                }
            }
        }
        images.extend(
            mappings
                .iter()
                .filter(|m| m.file_offset == 0 && m.path.as_deref().is_some_and(|p| p.starts_with('/')))
                .map(|m| ImageHint { base: m.range.start, path: m.path.clone(), ..ImageHint::default() }),
        );
        let event = process::event(&threads);
        let notes = raw
            .into_iter()
            .zip(owners)
            .map(|(n, thread)| Note { owner: n.owner, kind: n.kind, thread, body: n.body })
            .collect();
        Self { identity, memory, threads, mappings, images, event, notes, attributes: Vec::new(), gaps }
    }
}

/// The value of a key in an auxiliary vector.
fn auxv_entry(body: &[u8], key: u64, endian: Endian, size: u8) -> Option<u64> {
    let size = usize::from(size);
    let word = |bytes: &[u8], at: usize| match size {
        4 => bytes::u32_at(bytes, at, endian).map(u64::from),
        _ => bytes::u64_at(bytes, at, endian),
    };
    body.chunks_exact(size.saturating_mul(2)).find(|e| word(e, 0) == Some(key)).and_then(|e| word(e, size))
}

fn mapping_at(mappings: &[Mapping], at: Addr) -> Option<&Mapping> {
    let index = mappings.partition_point(|m| m.range.end <= at);
    mappings.get(index).filter(|m| m.range.contains(&at))
}

impl Target for Core {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.memory
    }
    fn threads(&self) -> &[Thread] {
        &self.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
    fn images(&self) -> &[ImageHint] {
        &self.images
    }
    fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }
    fn notes(&self) -> &[Note] {
        &self.notes
    }
    fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
    fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}
