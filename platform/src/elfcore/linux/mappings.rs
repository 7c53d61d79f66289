//! Mappings: segments say what was allowed, `NT_FILE` says which files.

use super::super::headers::Header;
use super::super::notes::RawNote;
use evidence::bytes::{u32_at, u64_at};
use evidence::{Addr, Doubt, Mapping, ToU64, ToUsize};
use std::ops::Range;
use std::sync::Arc;

/// `NT_FILE`: the letters `FILE`.
const NT_FILE: u32 = 0x4649_4c45;
/// Most entries read: see the limit of segments.
const LIMIT_ENTRIES: u64 = 1 << 23;

/// An entry of `NT_FILE`.
struct FileRange {
    range: Range<Addr>,
    /// Offset in the file, bytes.
    offset: u64,
    path: Arc<str>,
}

/// All mappings, sorted and disjoint.
pub(super) fn read(notes: &[RawNote], header: &Header, doubts: &mut Vec<Doubt>) -> Vec<Mapping> {
    let note = notes.iter().find(|n| n.kind == NT_FILE && &*n.owner == "CORE");
    let mut files = note.map(|n| file_ranges(&n.body, header, doubts)).unwrap_or_default();
    files.sort_by_key(|f| f.range.start);
    let mut mappings: Vec<Mapping> = Vec::with_capacity(header.segments.len());
    let mut next = files.iter().peekable();
    for s in &header.segments {
        // Files that no segment covers: their mappings were left out of the core altogether.
        while let Some(f) = next.next_if(|f| f.range.end <= s.range.start) {
            push_file(&mut mappings, f);
        }
        let file = next.peek().filter(|f| f.range.start < s.range.end && s.range.start < f.range.end);
        let inside = file.and_then(|f| s.range.start.offset_from(f.range.start)).unwrap_or(0);
        mappings.push(Mapping {
            range: s.range.clone(),
            protection: Some(s.protection),
            shared: None,
            file_offset: file.map_or(0, |f| f.offset.saturating_add(inside)),
            path: file.map(|f| f.path.clone()),
            deleted: false,
            file_id: None,
            open: Vec::new(),
        });
        while next.next_if(|f| f.range.end <= s.range.end).is_some() {}
    }
    for f in next {
        push_file(&mut mappings, f);
    }
    for m in &mut mappings {
        // The kernel writes the path as it shows it in /proc/PID/maps.
        if let Some(path) = m.path.as_deref().and_then(|p| p.strip_suffix(" (deleted)")) {
            m.path = Some(path.into());
            m.deleted = true;
        }
    }
    mappings
}

fn push_file(mappings: &mut Vec<Mapping>, f: &FileRange) {
    let start = mappings.last().map_or(f.range.start, |m| m.range.end.max(f.range.start));
    if start < f.range.end {
        let cut = start.0.saturating_sub(f.range.start.0);
        mappings.push(Mapping {
            range: start..f.range.end,
            protection: None,
            shared: None,
            file_offset: f.offset.saturating_add(cut),
            path: Some(f.path.clone()),
            deleted: false,
            file_id: None,
            open: Vec::new(),
        });
    }
}

/// The note's layout (fs/binfmt_elf.c, `fill_files_note`): longs count and page_size, then count times (start, end,
/// offset in pages), then the names, each ended by NUL.
fn file_ranges(body: &[u8], header: &Header, doubts: &mut Vec<Doubt>) -> Vec<FileRange> {
    let size = usize::from(header.address_size);
    let word = |index: u64| {
        let at = index.to_usize().saturating_mul(size);
        if size == 4 { u32_at(body, at, header.endian).map(u64::from) } else { u64_at(body, at, header.endian) }
    };
    let (Some(count), Some(page)) = (word(0), word(1)) else {
        doubts.push(Doubt::new("nt-file", "the list of mapped files is too short to have a header"));
        return Vec::new();
    };
    let possible = body.len().to_u64().checked_div(size.to_u64().saturating_mul(3)).unwrap_or(0);
    if count > possible.min(LIMIT_ENTRIES) {
        doubts.push(Doubt::new(
            "nt-file",
            format!("the list of mapped files claims {count} entries and has {possible} at most"),
        ));
        return Vec::new();
    }
    let names_at = count.saturating_mul(3).saturating_add(2).to_usize().saturating_mul(size);
    let mut names = body.get(names_at..).unwrap_or_default().split(|b| *b == 0);
    let mut known: std::collections::HashSet<Arc<str>> = std::collections::HashSet::new();
    let mut list = Vec::new();
    for index in 0..count {
        let at = index.saturating_mul(3).saturating_add(2);
        let (Some(start), Some(end), Some(offset)) = (word(at), word(at.saturating_add(1)), word(at.saturating_add(2)))
        else {
            break;
        };
        let Some(name) = names.next() else { break };
        let name = String::from_utf8_lossy(name);
        // Thousands of mappings share a few hundred names.
        let path = match known.get(&*name) {
            Some(path) => path.clone(),
            None => {
                let path: Arc<str> = name.into();
                known.insert(path.clone());
                path
            }
        };
        if start < end {
            list.push(FileRange { range: Addr(start)..Addr(end), offset: offset.saturating_mul(page), path });
        }
    }
    list
}
