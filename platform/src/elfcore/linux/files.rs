//! `NT_FILE`: which file is mapped where.

use super::Parts;
use super::process::Auxv;
use crate::elfcore::headers::{Headers, LIMIT_SEGMENTS, PT_LOAD};
use crate::elfcore::mappings::FileRange;
use evidence::bytes::{u32_at, u64_at};
use evidence::{Addr, Doubt, Doubts, ToUsize};
use std::sync::Arc;

/// Reads the list (`fill_files_note`, fs/binfmt_elf.c): count and page size, then start, end and offset in pages of each
/// range, then the names. All numbers are `long`s of the program. gdb writes the same with a page size of 1.
pub(super) fn read(body: &[u8], headers: &Headers, at: u64, doubts: &Doubts) -> Vec<FileRange> {
    let width = if headers.wide { 8_usize } else { 4 };
    let long = |index: usize| {
        let at = index.checked_mul(width)?;
        if headers.wide { u64_at(body, at, headers.endian) } else { u32_at(body, at, headers.endian).map(u64::from) }
    };
    let (Some(count), Some(page)) = (long(0), long(1)) else { return Vec::new() };
    let count = count.min(LIMIT_SEGMENTS).to_usize();
    let names_at = count.saturating_mul(3).saturating_add(2).saturating_mul(width);
    let mut names = body.get(names_at..).unwrap_or_default().split(|b| *b == 0);
    let mut out: Vec<FileRange> = Vec::new();
    for n in 0..count {
        let base = n.saturating_mul(3).saturating_add(2);
        let fields = (long(base), long(base.saturating_add(1)), long(base.saturating_add(2)));
        let ((Some(start), Some(end), Some(offset)), Some(name)) = (fields, names.next()) else {
            doubts.push(Doubt::new(
                "note",
                format!("the list of mapped files (file offset {at:#x}) is cut after {n} of {count} entries"),
            ));
            break;
        };
        if start >= end || name.is_empty() {
            doubts.push(Doubt::at("note", Addr(start), "an entry of the list of mapped files has no range or no name"));
            continue;
        }
        let (name, deleted) = match name.strip_suffix(b" (deleted)") {
            Some(name) => (name, true),
            None => (name, false),
        };
        // One string for each file, not for each of its mappings.
        let before = out.last().and_then(|f| f.path.clone()).filter(|p| p.as_bytes() == name);
        let path = before.unwrap_or_else(|| Arc::from(&*String::from_utf8_lossy(name)));
        let offset = offset.saturating_mul(page);
        let range = Addr(start)..Addr(end);
        out.push(FileRange { range, offset, path: Some(path), deleted, protection: None });
    }
    out
}

/// Names the segments that the auxiliary vector points into: the vDSO by its base, and the main stack, on top of which
/// the kernel puts the program's name (`create_elf_tables`).
pub(super) fn name_special(files: &mut Vec<FileRange>, auxv: &Auxv, parts: &Parts<'_>) {
    let mut name = |at: Option<u64>, name: &str, whole: bool| {
        let Some(at) = at.filter(|a| *a != 0) else { return };
        let segment = parts.headers.segments.iter().find(|s| {
            let covers = s.vaddr <= at && at < s.vaddr.saturating_add(s.memsz);
            s.kind == PT_LOAD && covers && (!whole || s.vaddr == at)
        });
        if let Some(s) = segment {
            let range = Addr(s.vaddr)..Addr(s.vaddr.saturating_add(s.memsz));
            let taken = files.iter().any(|f| f.range.start < range.end && range.start < f.range.end);
            if !taken {
                files.push(FileRange {
                    range,
                    offset: 0,
                    path: Some(Arc::from(name)),
                    deleted: false,
                    protection: None,
                });
            }
        }
    };
    name(auxv.vdso, "[vdso]", true);
    name(auxv.exec_name, "[stack]", false);
}
