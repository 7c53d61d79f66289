//! The dynamic loader's own list of images, and the auxiliary vector.

use super::in_memory::InMemory;
use evidence::bytes::{self, Endian};
use evidence::{Addr, Doubt, Doubts, Memory, Note, ToUsize};

/// Most entries of the loader's list that are followed: programs with thousands of plugins exist, with 65,536 none.
const LIMIT_LINK_MAP: usize = 65_536;
/// Longest path name read from the target (Linux `PATH_MAX`).
const LIMIT_PATH: usize = 4096;
/// Most bytes of a dynamic section that are searched for `DT_DEBUG`.
const LIMIT_DYNAMIC: u64 = 64 << 10;
/// Most auxiliary vector entries; Linux writes about 22.
const LIMIT_AUXV: usize = 128;

/// `DT_DEBUG` of <elf.h>: the loader puts the address of `struct r_debug` (<link.h>) there.
const DT_DEBUG: u64 = 21;
const DT_NULL: u64 = 0;

/// One `struct link_map` (<link.h>): l_addr, l_name, l_ld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkMapEntry {
    /// Runtime address minus SVMA.
    pub slide: u64,
    /// Where its dynamic section lies.
    pub dynamic: Addr,
    /// Its path; empty for the main program.
    pub path: String,
}

/// Values of the auxiliary vector (<elf.h> `AT_*`) that tell of images.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Auxv {
    pub program_headers: Option<Addr>,
    pub loader: Option<Addr>,
    pub entry: Option<Addr>,
    pub vdso: Option<Addr>,
}

impl Auxv {
    /// Out of the notes of a core: `NT_AUXV` is 6 for "CORE" (Linux, illumos), 16 for "FreeBSD", where a 4-byte
    /// structure size comes first (`NT_PROCSTAT_AUXV`, sys/elf_common.h).
    pub(super) fn read(notes: &[Note], pointer_size: u8, endian: Endian) -> Self {
        let mut auxv = Self::default();
        let found = notes.iter().find_map(|n| match (&*n.owner, n.kind) {
            // AT_SYSINFO_EHDR; FreeBSD's 33 is AT_FXRNG, its vDSO is at AT_KPRELOAD.
            ("CORE", 6) => Some((n, 0_usize, 33)),
            ("FreeBSD", 16) => Some((n, 4, 34)),
            _ => None,
        });
        let Some((note, skip, vdso)) = found else { return auxv };
        let word = usize::from(pointer_size);
        let mut at = skip;
        for _ in 0..LIMIT_AUXV {
            let (Some(kind), Some(value)) = (
                pointer_at(&note.body, at, pointer_size, endian),
                pointer_at(&note.body, at.saturating_add(word), pointer_size, endian),
            ) else {
                break;
            };
            let value = (value != 0).then_some(Addr(value));
            match kind {
                0 => break,
                3 => auxv.program_headers = value,
                7 => auxv.loader = value,
                9 => auxv.entry = value,
                kind if kind == vdso => auxv.vdso = value,
                _ => {}
            }
            at = at.saturating_add(word.saturating_mul(2));
        }
        auxv
    }
}

fn pointer_at(raw: &[u8], at: usize, size: u8, endian: Endian) -> Option<u64> {
    if size == 4 { bytes::u32_at(raw, at, endian).map(u64::from) } else { bytes::u64_at(raw, at, endian) }
}

/// Follows the loader's list from the dynamic section of the main program.
pub(super) fn walk(program: &InMemory, memory: &dyn Memory, doubts: &Doubts) -> Vec<LinkMapEntry> {
    let (size, endian) = (program.pointer_size(), program.endian());
    let word = u64::from(size);
    let Some(r_debug) = r_debug(program, memory) else { return Vec::new() };
    // struct r_debug { int r_version; struct link_map *r_map; ... }: the pointer is aligned to its size.
    let Ok(mut at) = memory.read_pointer(r_debug.wrapping_add(word), size, endian) else {
        doubts.push(Doubt::at(
            "link-map",
            r_debug,
            "the loader's r_debug cannot be read: images without a mapping path stay unnamed",
        ));
        return Vec::new();
    };
    let mut entries = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while at != 0 {
        if entries.len() >= LIMIT_LINK_MAP || !seen.insert(at) {
            let why = if entries.len() >= LIMIT_LINK_MAP { "is longer than the limit" } else { "runs in a circle" };
            doubts.push(Doubt::at(
                "link-map",
                Addr(at),
                format!("the loader's list {why}: {} entries kept", entries.len()),
            ));
            break;
        }
        let mut raw = [0; 32];
        let length = word.saturating_mul(4).to_usize().min(raw.len());
        let Some(part) = raw.get_mut(..length) else { break };
        if let Err(e) = memory.read_exact(Addr(at), part) {
            doubts.push(Doubt::at("link-map", Addr(at), format!("the loader's list breaks off: {e}")));
            break;
        }
        let field = |n: usize| pointer_at(&raw, usize::from(size).saturating_mul(n), size, endian).unwrap_or(0);
        let name = Addr(field(1));
        let path = if name.0 == 0 { String::new() } else { memory.read_c_string(name, LIMIT_PATH).unwrap_or_default() };
        entries.push(LinkMapEntry { slide: field(0), dynamic: Addr(field(2)), path });
        at = field(3);
    }
    entries
}

fn r_debug(program: &InMemory, memory: &dyn Memory) -> Option<Addr> {
    let (at, length) = program.dynamic()?;
    let mut raw = vec![0; length.min(LIMIT_DYNAMIC).to_usize()];
    let (got, _) = memory.read(at, &mut raw);
    raw.truncate(got);
    let size = program.pointer_size();
    let step = usize::from(size).saturating_mul(2);
    for at in (0..raw.len()).step_by(step.max(1)) {
        let tag = pointer_at(&raw, at, size, program.endian())?;
        if tag == DT_NULL {
            return None;
        }
        if tag == DT_DEBUG {
            let value = pointer_at(&raw, at.saturating_add(usize::from(size)), size, program.endian())?;
            return (value != 0).then_some(Addr(value));
        }
    }
    None
}

impl LinkMapEntry {
    /// Whether its dynamic section lies in the image that spans `size` bytes from `base`.
    pub(super) fn lies_in(&self, base: Addr, size: u64) -> bool {
        self.dynamic.offset_from(base).is_some_and(|skip| skip < size)
    }
}
