//! Mappings: `xmap`, or `map` where it has another form (sys/procfs.h, `prxmap_t` and `prmap_t`).

use super::files::Proc;
use evidence::bytes::{Endian, c_str_at, slice_at, u32_at, u64_at};
use evidence::{Addr, Mapping, Protection};
use std::io;
use std::sync::Arc;

const LE: Endian = Endian::Little;
/// Bytes of an entry as a 64-bit observer sees it.
const XMAP: usize = 216;
const MAP: usize = 104;
/// Mappings that are kept.
const LIMIT_MAPPINGS: usize = 1 << 20;
/// `MA_*`.
const EXEC: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
const SHARED: u32 = 8;
const BREAK: u32 = 0x10;
const STACK: u32 = 0x20;

/// All mappings, sorted.
pub(super) fn read(proc: &dyn Proc) -> io::Result<Vec<Mapping>> {
    let extended = proc.read("xmap").ok().filter(|b| !b.is_empty() && b.len().is_multiple_of(XMAP));
    let (bytes, size) = match extended {
        Some(bytes) => (bytes, XMAP),
        None => (proc.read("map")?, MAP),
    };
    let entries = bytes.chunks_exact(size).take(LIMIT_MAPPINGS);
    let mut list: Vec<Mapping> = entries.filter_map(|raw| mapping(proc, raw)).collect();
    list.sort_by_key(|m| m.range.start);
    // Memory may not lie twice anywhere; what says so is not believed.
    let mut end = Addr(0);
    list.retain(|m| {
        let fits = m.range.start >= end && m.range.start < m.range.end;
        if fits {
            end = m.range.end;
        }
        fits
    });
    Ok(list)
}

fn mapping(proc: &dyn Proc, raw: &[u8]) -> Option<Mapping> {
    let (start, size) = (Addr(u64_at(raw, 0, LE)?), u64_at(raw, 8, LE)?);
    let flags = u32_at(raw, 88, LE)?;
    let name = c_str_at(slice_at(raw, 16, 64)?, 0).filter(|n| is_name(n));
    let has = |bit| flags & bit != 0;
    let known = match (&name, has(BREAK), has(STACK)) {
        (Some(name), ..) => Some(proc.link(name).map_or_else(|| name.clone(), |p| p.display().to_string())),
        (None, true, _) => Some("[heap]".to_owned()),
        (None, _, true) => Some("[stack]".to_owned()),
        _ => None,
    };
    Some(Mapping {
        range: start..start.checked_add(size)?,
        protection: Some(Protection { read: has(READ), write: has(WRITE), execute: has(EXEC) }),
        shared: Some(has(SHARED)),
        file_offset: u64_at(raw, 80, LE)?,
        path: known.map(Arc::from),
        deleted: false,
        file_id: None,
        // The object can be opened there also when its file was unlinked.
        open: name.into_iter().map(|n| proc.place(&format!("object/{n}"))).collect(),
    })
}

/// A name of /proc's own making, not one that leads elsewhere.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != ".."
}
