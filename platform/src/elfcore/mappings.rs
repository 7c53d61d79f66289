//! Mappings and images: the segments give addresses and protections, the list of mapped files gives names.

use super::memory::Covered;
use evidence::{Addr, ImageHint, Mapping, Memory, Protection};
use std::ops::Range;
use std::sync::Arc;

/// How many mappings without a name may lie between two of one image: .bss, and the gaps that a loader reserves.
const LIMIT_ANONYMOUS_BETWEEN: usize = 4;

/// A range that a system's notes name: a file's, or one of the kernel's own (`[vdso]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRange {
    pub(super) range: Range<Addr>,
    /// In bytes.
    pub(super) offset: u64,
    /// `None`: the system lists the range and names no file.
    pub(super) path: Option<Arc<str>>,
    pub(super) deleted: bool,
    /// What the list says is allowed there; a segment says it better.
    pub(super) protection: Option<Protection>,
}

/// Joins segments and names. Files whose ranges have no segment give mappings of unknown protection; a segment that
/// holds several files' ranges (or parts of none) is split at their borders.
pub(super) fn build(covered: &[Covered], files: &[FileRange]) -> Vec<Mapping> {
    let mut files: Vec<&FileRange> = files.iter().filter(|f| f.range.start < f.range.end).collect();
    files.sort_by_key(|f| f.range.start);
    // Of overlapping names (hostile, or a file list taken while the program ran) the lower one counts.
    let mut disjoint: Vec<(Range<Addr>, &FileRange)> = Vec::with_capacity(files.len());
    let mut end = Addr(0);
    for f in files {
        let start = f.range.start.max(end);
        if start < f.range.end {
            disjoint.push((start..f.range.end, f));
            end = f.range.end;
        }
    }
    let mut out: Vec<Mapping> = Vec::with_capacity(covered.len());
    let mut segments = covered.iter().peekable();
    let mut names = disjoint.into_iter().peekable();
    let mut at = Addr(0);
    loop {
        while segments.next_if(|c| Addr(c.end) <= at).is_some() {}
        while names.next_if(|(r, _)| r.end <= at).is_some() {}
        let segment = segments.peek().copied();
        let name = names.peek();
        let starts = [segment.map(|c| Addr(c.start)), name.map(|(r, _)| r.start)];
        let Some(next) = starts.into_iter().flatten().min() else { break };
        at = at.max(next);
        // The nearest border behind `at`.
        let borders = segment.iter().flat_map(|c| [Addr(c.start), Addr(c.end)]);
        let borders = borders.chain(name.iter().flat_map(|(r, _)| [r.start, r.end]));
        let Some(stop) = borders.filter(|b| *b > at).min() else { break };
        let inside = segment.filter(|c| Addr(c.start) <= at);
        let file = name.filter(|(r, _)| r.start <= at).map(|(_, f)| *f);
        out.push(Mapping {
            range: at..stop,
            protection: inside.map(|c| c.protection).or(file.and_then(|f| f.protection)),
            shared: None,
            file_offset: file.map_or(0, |f| f.offset.saturating_add(at.offset_from(f.range.start).unwrap_or(0))),
            path: file.and_then(|f| f.path.clone()),
            deleted: file.is_some_and(|f| f.deleted),
            file_id: None,
            open: Vec::new(),
        });
        at = stop;
    }
    out
}

/// Images among the mapped files: where a file's first byte is mapped and an ELF header stands there, or, where that
/// page was left out, where some of the file is executable.
pub(super) fn images(mappings: &[Mapping], memory: &dyn Memory) -> Vec<ImageHint> {
    let mut out: Vec<ImageHint> = Vec::new();
    let mut rest = mappings;
    while let Some((first, behind)) = rest.split_first() {
        let is_vdso = first.path.as_deref() == Some("[vdso]");
        let starts = first.path.is_some() && first.file_offset == 0;
        if !starts {
            rest = behind;
            continue;
        }
        let mut group = 1_usize;
        let mut end = first.range.end;
        let mut last_offset = first.file_offset;
        let mut executable = first.protection.is_some_and(|p| p.execute);
        // Anonymous memory in between is the image's .bss or a reserved gap; another file ends the image.
        let mut skipped = 0_usize;
        for m in behind {
            skipped = skipped.saturating_add(1);
            if m.path.is_none() && skipped < LIMIT_ANONYMOUS_BETWEEN {
                continue;
            }
            // A small image maps its first page more than once, side by side; a second load starts anew.
            let again = m.file_offset == 0 && !(last_offset == 0 && m.range.start == end);
            if m.path != first.path || again || m.file_offset < last_offset {
                break;
            }
            group = skipped.saturating_add(1);
            end = m.range.end;
            last_offset = m.file_offset;
            executable |= m.protection.is_some_and(|p| p.execute);
        }
        let mut magic = [0; 4];
        let image = match memory.read(first.range.start, &mut magic) {
            (_, None) => &magic == b"\x7fELF",
            _ => executable || is_vdso,
        };
        if image {
            out.push(ImageHint {
                base: first.range.start,
                size: end.offset_from(first.range.start),
                path: first.path.clone(),
                build_id: None,
                slide: None,
            });
        }
        rest = rest.get(group..).unwrap_or_default();
    }
    out
}
