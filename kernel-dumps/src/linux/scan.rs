//! VMCOREINFO of dumps whose note is missing: the page in which the kernel keeps its text, found in physical memory.
//!
//! Source: kernel/crash_core.c (kernel/vmcore_info.c since 6.9). `vmcoreinfo_data` is a zeroed page of its own that begins
//! with `OSRELEASE=`; `vmcoreinfo_note` repeats the text behind the header of an ELF note.

use super::vmcoreinfo::VmcoreInfo;
use crate::machine::{Pages, Space, Translate};
use evidence::{Addr, Doubt, Memory as _, ToU64, ToUsize};
use std::sync::Arc;

/// Most pages looked at: 64 GiB of 4 KiB pages, some minutes. The page is allocated at boot, but may lie anywhere.
const LIMIT_PAGES: u64 = 1 << 24;
/// A page costs its descriptor in a kdump, and itself in an ELF vmcore: there are no more pages than that, whatever
/// headers and holes of a few bytes promise.
const LEAST_COST: u64 = 24;
/// Most candidates tried: kernels that were here before a kexec, the capture kernel's, and copies in page cache.
const LIMIT_CANDIDATES: usize = 64;
/// The note's header: three words, and `VMCOREINFO` padded to 12 bytes.
const NOTE_HEADER: usize = 24;
const FIRST_KEY: &[u8] = b"OSRELEASE=";

/// The text of the running kernel, out of a file of `stored` bytes: one whose page tables lead from `init_uts_ns` to the release that it states.
pub(super) fn find(pages: &Arc<Pages>, stored: u64, doubts: &mut Vec<Doubt>) -> Option<VmcoreInfo> {
    let most = LIMIT_PAGES.min(stored.div_ceil(LEAST_COST));
    let (mut looked, mut tried) = (0_u64, 0_usize);
    let size = pages.page_size();
    for extent in pages.extents() {
        let first = extent.range.start.0.checked_div(size).unwrap_or(0);
        let last = extent.range.end.0.div_ceil(size.max(1));
        for number in first..last {
            if looked >= most || tried >= LIMIT_CANDIDATES {
                doubts.push(Doubt::new("vmcoreinfo", format!("it was searched for in {looked} pages only")));
                return None;
            }
            looked = looked.saturating_add(1);
            // Past the cache: these pages are looked at once.
            let Ok(page) = pages.uncached(number) else { continue };
            let Some(text) = candidate(&page) else { continue };
            tried = tried.saturating_add(1);
            let info = VmcoreInfo::parse(text);
            if is_of_this_kernel(pages, &info) {
                let at = number.saturating_mul(size);
                let why = format!("the dump has no VMCOREINFO; the kernel's own was found at physical address {at:#x}");
                doubts.push(Doubt::new("vmcoreinfo", why));
                return Some(info);
            }
        }
    }
    None
}

/// The text in a page that may be the one.
fn candidate(page: &[u8]) -> Option<&[u8]> {
    if page.starts_with(FIRST_KEY) {
        return Some(page);
    }
    page.get(NOTE_HEADER..).filter(|text| text.starts_with(FIRST_KEY))
}

fn is_of_this_kernel(pages: &Arc<Pages>, info: &VmcoreInfo) -> bool {
    let (Some(release), Some(names)) = (info.get("OSRELEASE"), info.symbol("init_uts_ns")) else { return false };
    let Some(tables) = super::paging(info) else { return false };
    let tables: Arc<dyn Translate> = Arc::new(tables);
    let kernel = Space { pages: pages.clone(), tables: Ok(tables), extents: Vec::new() };
    // `struct uts_namespace` begins with `struct new_utsname` (six fields of 65 bytes), in newer kernels behind a kref.
    let mut bytes = vec![0; 512];
    let (got, _) = kernel.read(Addr(names), &mut bytes);
    let bytes = bytes.get(..got.to_u64().to_usize()).unwrap_or_default();
    !release.is_empty() && bytes.windows(release.len()).any(|window| window == release.as_bytes())
}
