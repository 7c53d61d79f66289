//! Writing `vmcore.N` from any dump, in savecore's layout (cmd/savecore/savecore.c, `build_corefile`).
//!
//! The header, the symbol table, the page frame numbers, the hashed map, the pages: each section at the next page. The
//! header is written last, so that a file without one is known to be unfinished.

use super::Lost;
use super::dumphdr::{DumpHeader, HEADER, flag};
use super::map::HASHED;
use super::pages::Pages;
use super::table::Translation;
use super::window::Window;
use crate::source::ReadAt;
use evidence::{ToU64, ToUsize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is written.
pub(super) struct Given<'d> {
    pub header: &'d DumpHeader,
    pub source: &'d dyn ReadAt,
    pub pages: &'d Pages,
    pub ksyms: &'d [u8],
    /// The source's map is hashed already.
    pub hashed: bool,
}

/// Entries written at a time.
const BATCH: u64 = 4096;

pub(super) fn write(given: &Given<'_>, out: &File) -> io::Result<Vec<Lost>> {
    let h = given.header;
    let page = |at: u64| at.checked_next_multiple_of(h.page_size).ok_or_else(too_large);
    let count = given.pages.pfns.count();
    let translations =
        h.nvtop.min(given.source.size().saturating_sub(h.map).checked_div(Translation::SIZE).unwrap_or(0));
    // The kernel's mask, unless damage made it too small for the map, or too large for any.
    let least = translations.checked_next_power_of_two().unwrap_or(1).max(1);
    let buckets =
        h.hashmask.checked_add(1).filter(|b| b.is_power_of_two() && *b >= least && *b <= least.saturating_mul(4));
    let buckets = buckets.unwrap_or(least);
    let ksyms = h.page_size;
    let pfn = page(ksyms.saturating_add(given.ksyms.len().to_u64()))?;
    let map = page(pfn.checked_add(count.checked_mul(8).ok_or_else(too_large)?).ok_or_else(too_large)?)?;
    let data = page(map.checked_add(buckets.checked_mul(HASHED).ok_or_else(too_large)?).ok_or_else(too_large)?)?;
    if given.hashed {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is a vmcore already"));
    }
    out.write_all_at(given.ksyms, ksyms)?;
    write_pfns(given, out, pfn, count)?;
    let layout = Layout { map, data, buckets, translations };
    write_map(given, out, &layout)?;
    let lost = write_pages(given, out, data, count)?;
    let mut header = raw_header(given)?;
    let flags = h.flags & !(flag::COMPRESSED | flag::ENCRYPTED);
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at.saturating_add(bytes.len())) {
            field.copy_from_slice(bytes);
        }
    };
    put(8, &flags.to_le_bytes());
    for (at, value) in [(16, 0), (24, ksyms), (32, pfn), (40, map), (48, data), (1824, buckets.saturating_sub(1))] {
        put(at, &value.to_le_bytes());
    }
    put(1840, &count.to_le_bytes());
    let size = given.ksyms.len().to_u64();
    put(1848, &size.to_le_bytes());
    put(1856, &size.to_le_bytes());
    header.resize(h.page_size.to_usize(), 0);
    out.write_all_at(&header, 0)?;
    Ok(lost)
}

struct Layout {
    map: u64,
    data: u64,
    buckets: u64,
    translations: u64,
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the header's counts are larger than any file")
}

/// The header as it stands in the source, byte for byte.
fn raw_header(given: &Given<'_>) -> io::Result<Vec<u8>> {
    let mut raw = vec![0; HEADER];
    let got = given.source.read_at(given.header.start, &mut raw)?;
    if got < HEADER || DumpHeader::parse(&raw).as_ref() != Ok(given.header) {
        // The terminal header was the one to believe.
        let last = given.source.size().saturating_sub(1) & !0xffff;
        given.source.read_at(last, &mut raw)?;
    }
    Ok(raw)
}

fn write_pfns(given: &Given<'_>, out: &File, at: u64, count: u64) -> io::Result<()> {
    let mut index = 0_u64;
    while index < count {
        let end = index.saturating_add(BATCH).min(count);
        let bytes: Vec<u8> = (index..end).flat_map(|i| given.pages.pfns.get(i).unwrap_or(0).to_le_bytes()).collect();
        out.write_all_at(&bytes, at.saturating_add(index.saturating_mul(8)))?;
        index = end;
    }
    Ok(())
}

/// Entry `i` of the hashed map is translation `i`; the buckets' heads share the entries. Translations to pages that are
/// not in the dump leave an empty entry.
fn write_map(given: &Given<'_>, out: &File, layout: &Layout) -> io::Result<()> {
    let h = given.header;
    let mut window = Window::new(given.source);
    let mut read = |i: u64| {
        let at = h.map.saturating_add(i.saturating_mul(Translation::SIZE));
        window.bytes(at, 24).and_then(Translation::parse)
    };
    let entries = layout.buckets.to_usize();
    // Four bytes per entry each: heads of buckets, links of entries, both one more than the index.
    let (mut heads, mut links) = (vec![0_u32; entries], vec![0_u32; layout.translations.to_usize()]);
    let mask = layout.buckets.saturating_sub(1);
    for i in 0..layout.translations {
        let Some(t) = read(i).filter(|t| given.pages.pfns.find(t.pfn).is_some()) else { continue };
        let hash = t.space.wrapping_shr(3).wrapping_add(t.at.checked_shr(h.page_shift).unwrap_or(0)) & mask;
        let one_more = u32::try_from(i.saturating_add(1)).map_err(|_| too_large())?;
        if let (Some(head), Some(link)) = (heads.get_mut(hash.to_usize()), links.get_mut(i.to_usize())) {
            *link = *head;
            *head = one_more;
        }
    }
    let offset = |one_more: u32| match u64::from(one_more).checked_sub(1) {
        Some(i) => layout.map.saturating_add(i.saturating_mul(HASHED)),
        None => 0,
    };
    let mut batch = Vec::new();
    let mut from = 0_u64;
    for i in 0..layout.buckets {
        let t = if i < layout.translations { read(i) } else { None };
        let found = t.and_then(|t| Some((t, given.pages.pfns.find(t.pfn)?)));
        let head = heads.get(i.to_usize()).copied().unwrap_or(0);
        let mut entry = [offset(head), 0, 0, 0, 0];
        if let Some((t, page)) = found {
            let link = links.get(i.to_usize()).copied().unwrap_or(0);
            let at = layout.data.saturating_add(page.saturating_mul(h.page_size));
            entry = [offset(head), offset(link), at, t.space, t.at];
        }
        batch.extend(entry.iter().flat_map(|v| v.to_le_bytes()));
        let next = i.saturating_add(1);
        if next.saturating_sub(from) == BATCH || next == layout.buckets {
            out.write_all_at(&batch, layout.map.saturating_add(from.saturating_mul(HASHED)))?;
            batch.clear();
            from = next;
        }
    }
    Ok(())
}

/// Pages of zeros are left out, as savecore does; the file ends behind the last other page.
fn write_pages(given: &Given<'_>, out: &File, data: u64, count: u64) -> io::Result<Vec<Lost>> {
    let mut lost: Vec<Lost> = Vec::new();
    for index in 0..count {
        match given.pages.page(index) {
            Ok(page) if page.iter().all(|b| *b == 0) => {}
            Ok(page) => {
                let at = data.saturating_add(index.saturating_mul(given.header.page_size));
                out.write_all_at(&page, at)?;
            }
            Err(why) => match lost.last_mut() {
                Some(l) if l.pages.end == index && l.why == why => l.pages.end = index.saturating_add(1),
                _ => lost.push(Lost { pages: index..index.saturating_add(1), frames: None, why }),
            },
        }
    }
    for l in &mut lost {
        let last = l.pages.end.saturating_sub(1);
        l.frames = given.pages.pfns.get(l.pages.start).zip(given.pages.pfns.get(last));
    }
    Ok(lost)
}
