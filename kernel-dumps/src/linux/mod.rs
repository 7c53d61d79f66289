//! Linux kernel dumps: containers, what the kernel says about itself, CPUs, and memory through its page tables.

mod elf;
mod flattened;
mod kdump;
pub mod lzo;
mod notes;
mod vmcoreinfo;

use crate::paging::x86_64;
use crate::source::{FileSource, ReadAt, exact};
use crate::{Error, Kind, sniff};
use elf::ElfDump;
use evidence::{
    Absent, Addr, Arch, Attribute, Doubt, Event, Extent, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note,
    Origin, Os, PhysAddr, Target, Thread, ToU64, ToUsize,
};
use flattened::Flattened;
use kdump::Kdump;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
pub use vmcoreinfo::VmcoreInfo;

/// Most runs of consecutive pages listed as extents. Beyond it, reading still works; only the list is cut.
const LIMIT_RUNS: usize = 1 << 20;
/// Decompressed pages kept: 16 MiB of 4 KiB pages hold the page tables and stacks that an analysis returns to.
const CACHED_PAGES: usize = 4096;
/// `__START_KERNEL_map`: where x86-64 maps its own text (arch/x86/include/asm/page_64_types.h).
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Physical pages by number.
trait Physical: Send + Sync {
    /// Bytes per page.
    fn page_size(&self) -> u64;
    /// The page, possibly shorter than a page at the end of a segment.
    fn page(&self, number: u64) -> Result<Vec<u8>, Absent>;
    /// Runs of page numbers that are in the dump.
    fn runs(&self) -> Vec<std::ops::Range<u64>>;
}

type CachedPage = Result<Arc<[u8]>, Absent>;

/// Physical memory with a bounded cache of decompressed pages.
struct Pages {
    physical: Box<dyn Physical>,
    cache: Mutex<HashMap<u64, CachedPage>>,
}

impl Pages {
    fn page(&self, number: u64) -> CachedPage {
        if let Some(page) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return page.clone();
        }
        let page: CachedPage = self.physical.page(number).map(Arc::from);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_PAGES {
            cache.clear();
        }
        cache.insert(number, page.clone());
        page
    }

    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let size = self.physical.page_size();
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let (number, skip) = (here.0.checked_div(size).unwrap_or(0), here.0 & size.wrapping_sub(1));
            let page = match self.page(number) {
                Ok(page) => page,
                Err(why) => return (done, Some(why)),
            };
            let tail = page.get(skip.to_usize()..).unwrap_or_default();
            if tail.is_empty() {
                return (done, Some(Absent::Filtered));
            }
            let Some(rest) = into.get_mut(done..) else { break };
            let n = tail.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..n), tail.get(..n)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(n);
        }
        (done, None)
    }

    fn entry(&self, at: PhysAddr) -> Result<u64, Absent> {
        let mut raw = [0; 8];
        match self.read(at, &mut raw) {
            (8, None) => Ok(u64::from_le_bytes(raw)),
            (_, why) => Err(why.unwrap_or(Absent::Corrupt)),
        }
    }
}

/// How virtual addresses are translated; absent when the dump does not say enough.
#[derive(Clone, Copy, Debug)]
struct Paging {
    root: PhysAddr,
    levels: u8,
    rules: x86_64::Rules,
}

/// A virtual address space of the dumped machine.
struct Space {
    pages: Arc<Pages>,
    paging: Result<Paging, Absent>,
    extents: Vec<Extent>,
}

impl Memory for Space {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let paging = match self.paging {
            Ok(paging) => paging,
            Err(why) => return (0, Some(why)),
        };
        let mut done = 0_usize;
        while done < into.len() {
            let Some(here) = at.checked_add(done.to_u64()) else { return (done, Some(Absent::Unmapped)) };
            let read = |entry| self.pages.entry(entry);
            let there = match x86_64::translate(paging.root, paging.levels, paging.rules, here, &read) {
                Ok(there) => there,
                Err(why) => return (done, Some(why)),
            };
            let Some(rest) = into.get_mut(done..) else { break };
            let n = rest.len().min(there.left.to_usize());
            let Some(part) = rest.get_mut(..n) else { break };
            let (got, stop) = self.pages.read(there.physical, part);
            done = done.saturating_add(got);
            if stop.is_some() {
                // A physical page that is no RAM is still mapped: a device, or memory taken away.
                let why = stop.map(|w| if w == Absent::Unmapped { Absent::Filtered } else { w });
                return (done, why);
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

/// An opened Linux kernel dump.
pub struct LinuxDump {
    identity: Identity,
    pages: Arc<Pages>,
    kernel: Space,
    threads: Vec<Thread>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    gaps: Gaps,
    info: VmcoreInfo,
    physical_extents: Vec<Extent>,
}

impl LinuxDump {
    /// Opens the dump at `path`: ELF, kdump, or either flattened.
    ///
    /// # Errors
    /// The file cannot be read, or is not a Linux kernel dump.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let source = FileSource::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::from_source(path, Box::new(source))
    }

    /// Opens a dump that is not a file, or not yet; `path` is for messages.
    ///
    /// # Errors
    /// As [`LinuxDump::open`].
    pub fn from_source(path: &Path, source: Box<dyn ReadAt>) -> Result<Self, Error> {
        let mut doubts = Vec::new();
        let mut source = source;
        let mut kind = sniff(&head(&*source));
        if kind == Some(Kind::Flattened) {
            let mut inner = Flattened::new(source);
            doubts.append(&mut inner.doubts);
            source = Box::new(inner);
            kind = sniff(&head(&*source));
        }
        match kind {
            Some(Kind::Kdump) => {
                let mut dump = Kdump::open(path, source)?;
                doubts.append(&mut dump.doubts);
                let gaps = Gaps { truncated_at: dump.truncated_at, filtered_bytes: 0, doubts };
                let (notes, info) = (std::mem::take(&mut dump.notes), std::mem::take(&mut dump.vmcoreinfo));
                let x86_64 = dump.machine.is_empty() || dump.machine == "x86_64";
                Ok(Self::assemble(Box::new(dump), &notes, &info, x86_64, gaps))
            }
            Some(Kind::Elf) => {
                let mut dump = ElfDump::open(path, source)?;
                doubts.append(&mut dump.doubts);
                let gaps = Gaps { truncated_at: dump.truncated_at, filtered_bytes: 0, doubts };
                let notes = std::mem::take(&mut dump.notes);
                let x86_64 = dump.machine == 62;
                Ok(Self::assemble(Box::new(dump), &notes, &[], x86_64, gaps))
            }
            Some(Kind::Named(what)) => Err(Error::Unsupported { path: path.to_owned(), what: what.to_owned() }),
            Some(Kind::Flattened) => Err(Error::Unsupported {
                path: path.to_owned(),
                what: "a flattened dump inside a flattened dump".into(),
            }),
            None => Err(Error::Format {
                path: path.to_owned(),
                offset: 0,
                expected: "a kernel dump (KDUMP, ELF core or makedumpfile's flattened form)",
                found: format!("{:02x?}", head(&*source).get(..8).unwrap_or_default()),
            }),
        }
    }

    fn assemble(physical: Box<dyn Physical>, notes: &[u8], info: &[u8], x86_64: bool, mut gaps: Gaps) -> Self {
        let parsed = notes::parse(notes, &mut gaps.doubts);
        let own = parsed.iter().find(|n| &*n.owner == "VMCOREINFO").map(|n| n.body.clone());
        let info = VmcoreInfo::parse(if info.is_empty() { own.as_deref().unwrap_or_default() } else { info });
        if info.is_empty() {
            gaps.doubts
                .push(Doubt::new("vmcoreinfo", "the dump has no VMCOREINFO: kernel addresses cannot be translated"));
        }
        let mut identity =
            Identity::new(Origin::KernelDump, Os::Linux, if x86_64 { Arch::X86_64 } else { Arch::Other });
        identity.release = info.get("OSRELEASE").map(Into::into);
        identity.command = Some("vmlinux".into());
        identity.taken_at_ns =
            info.get("CRASHTIME").and_then(|t| t.parse::<u64>().ok()).and_then(|s| s.checked_mul(1_000_000_000));
        let threads = if x86_64 { notes::cpus(&parsed) } else { Vec::new() };
        let attributes = info
            .iter()
            .map(|(k, v)| Attribute { key: format!("vmcoreinfo.{k}").into(), thread: None, value: v.into() })
            .collect();
        let page = physical.page_size();
        let physical_extents = physical
            .runs()
            .into_iter()
            .map(|r| Extent {
                range: Addr(r.start.saturating_mul(page))..Addr(r.end.saturating_mul(page)),
                absent: None,
            })
            .collect();
        let pages = Arc::new(Pages { physical, cache: Mutex::new(HashMap::new()) });
        let paging = if x86_64 { paging(&info) } else { None };
        if paging.is_none() && !info.is_empty() {
            gaps.doubts.push(Doubt::new("paging", "VMCOREINFO lacks the top-level page table or phys_base"));
        }
        let kernel = Space { pages: pages.clone(), paging: paging.ok_or(Absent::Corrupt), extents: Vec::new() };
        Self { identity, pages, kernel, threads, notes: parsed, attributes, gaps, info, physical_extents }
    }

    /// What the kernel says about itself.
    #[must_use]
    pub const fn vmcoreinfo(&self) -> &VmcoreInfo {
        &self.info
    }

    /// Ranges of physical memory that are in the dump.
    #[must_use]
    pub fn physical_extents(&self) -> &[Extent] {
        &self.physical_extents
    }
}

fn head(source: &dyn ReadAt) -> Vec<u8> {
    exact(source, 0, source.size().min(4096).to_usize()).unwrap_or_default()
}

/// Where the kernel's own page tables are. Not the sub header's `phys_base`: QEMU writes garbage there.
fn paging(info: &VmcoreInfo) -> Option<Paging> {
    let table = info.symbol("swapper_pg_dir").or_else(|| info.symbol("init_top_pgt"))?;
    let phys_base = info.number("phys_base")?;
    let root = PhysAddr(table.wrapping_sub(KERNEL_MAP).wrapping_add(phys_base));
    let levels = if info.number("pgtable_l5_enabled").unwrap_or(0) == 0 { 4 } else { 5 };
    let rules = x86_64::Rules { encryption: info.number("sme_mask").unwrap_or(0), linux_protnone: true };
    Some(Paging { root, levels, rules })
}

impl Target for LinuxDump {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.kernel
    }
    fn threads(&self) -> &[Thread] {
        &self.threads
    }
    fn mappings(&self) -> &[Mapping] {
        &[]
    }
    fn images(&self) -> &[ImageHint] {
        &[]
    }
    fn event(&self) -> Option<&Event> {
        None
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
    fn machine(&self) -> Option<&dyn Machine> {
        Some(self)
    }
}

impl Machine for LinuxDump {
    fn cpus(&self) -> u32 {
        u32::try_from(self.threads.len()).unwrap_or(u32::MAX)
    }

    fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        self.pages.read(at, into)
    }

    fn space(&self, root: PhysAddr) -> Result<Box<dyn Memory + '_>, Absent> {
        let kernel = self.kernel.paging?;
        let paging = Paging { root, ..kernel };
        // A root that cannot even be read is no address space.
        self.pages.entry(PhysAddr(root.0 & !0xfff))?;
        Ok(Box::new(Space { pages: self.pages.clone(), paging: Ok(paging), extents: Vec::new() }))
    }
}
