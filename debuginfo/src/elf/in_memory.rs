//! An image put together from the target's memory, for when its file is gone.
//!
//! Section headers are not loaded, so what remains is what the loader needs itself: segments, exported symbols, and the
//! call frame information by `PT_GNU_EH_FRAME`.

use super::{ElfFile, Headers, Segment};
use crate::BuildId;
use crate::map::FileBytes;
use evidence::{Arch, Memory, Svma, ToU64, ToUsize};
use object::elf;

/// Most bytes copied of one writable segment: enough for the dynamic section, which linkers put first.
const LIMIT_WRITABLE: u64 = 1 << 20;

impl ElfFile {
    /// Copies the segments of an image, each up to its first missing byte, and not more than `limit` bytes in all.
    pub(crate) fn from_memory(
        name: &str,
        headers: &Headers,
        slide: u64,
        build_id: Option<BuildId>,
        memory: &dyn Memory,
        limit: u64,
    ) -> Option<Self> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut segments = Vec::new();
        for load in headers.loads() {
            let writable = load.flags & elf::PF_W.0 != 0;
            let room = limit.saturating_sub(bytes.len().to_u64());
            let most = if writable { LIMIT_WRITABLE.min(room) } else { room };
            let start = bytes.len();
            let mut part = vec![0; load.file_size.min(most).to_usize()];
            let (got, _) = memory.read(evidence::Addr(load.address.wrapping_add(slide)), &mut part);
            bytes.extend_from_slice(part.get(..got).unwrap_or_default());
            segments.push(Segment {
                address: Svma(load.address),
                memory_size: load.memory_size,
                file_offset: start.to_u64(),
                file_size: got.to_u64(),
                executable: load.flags & elf::PF_X.0 != 0,
                writable,
            });
        }
        if bytes.is_empty() {
            return None;
        }
        let range = |kind| {
            let p = headers.programs.iter().find(|p| p.is(kind))?;
            Some(p.address..p.address.saturating_add(p.memory_size))
        };
        let arch = match elf::Machine(headers.machine) {
            elf::EM_X86_64 => Arch::X86_64,
            elf::EM_386 => Arch::X86,
            elf::EM_AARCH64 => Arch::Aarch64,
            elf::EM_ARM => Arch::Arm,
            _ => Arch::Other,
        };
        Some(Self {
            path: name.into(),
            bytes: FileBytes::Owned(bytes.into()),
            endian: headers.endian,
            is_64: headers.is_64,
            arch,
            kind: headers.kind,
            entry: Svma(headers.entry),
            programs: headers.programs.clone(),
            segments,
            dynamic: range(elf::PT_DYNAMIC),
            eh_frame_header: range(elf::PT_GNU_EH_FRAME),
            tls: range(elf::PT_TLS),
            sections: Vec::new(),
            build_id,
            cache: std::sync::OnceLock::new(),
            macho: None,
            relocated_by: slide,
        })
    }

    /// What the loader added to addresses in the contents; 0 for files.
    pub(crate) const fn relocated_by(&self) -> u64 {
        self.relocated_by
    }
}
