//! Linux kernel dumps and `/proc/kcore`: containers, what the kernel says about itself, CPUs, and memory through its page tables.

mod elf;
mod flattened;
mod kdump;
pub mod lzo;
mod notes;
mod parts;
mod scan;
mod vmcoreinfo;

use crate::machine::{Pages, Physical, Space, Translate, X86Tables};
use crate::paging::x86_64;
use crate::source::{FileSource, ReadAt, exact};
use crate::{Error, Kind, sniff};
use elf::ElfDump;
use evidence::{
    Absent, Arch, Attribute, Doubt, Event, Extent, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, Origin,
    Os, PhysAddr, Target, Thread, ToUsize,
};
use flattened::Flattened;
use kdump::Kdump;
use parts::Parts;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use vmcoreinfo::VmcoreInfo;

/// `__START_KERNEL_map`: where x86-64 maps its own text (arch/x86/include/asm/page_64_types.h).
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// An opened Linux kernel dump.
pub struct LinuxDump {
    identity: Identity,
    pages: Arc<Pages>,
    kernel: Space,
    paging: Option<X86Tables>,
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
        let (source, kind) = unflattened(source, &mut doubts);
        let stored = source.stored();
        match kind {
            Some(Kind::Kdump) => {
                let mut dump = Kdump::open(path, source)?;
                doubts.append(&mut dump.doubts);
                for pages in [0..dump.range().start, dump.range().end..u64::MAX] {
                    if dump.holds(pages.clone()) {
                        doubts.push(parts::missing(pages.start, pages.end));
                    }
                }
                let gaps = Gaps { truncated_at: dump.truncated_at, filtered_bytes: 0, doubts };
                let (notes, info) = (std::mem::take(&mut dump.notes), std::mem::take(&mut dump.vmcoreinfo));
                let x86_64 = dump.machine.is_empty() || dump.machine == "x86_64";
                Ok(Self::assemble(Box::new(dump), &notes, &info, x86_64, Some(stored), gaps))
            }
            Some(Kind::Elf) => {
                let mut dump = ElfDump::open(path, source)?;
                doubts.append(&mut dump.doubts);
                let gaps = Gaps { truncated_at: dump.truncated_at, filtered_bytes: 0, doubts };
                let notes = std::mem::take(&mut dump.notes);
                let x86_64 = dump.machine == 62;
                let stored = (!dump.live).then_some(stored);
                Ok(Self::assemble(Box::new(dump), &notes, &[], x86_64, stored, gaps))
            }
            Some(Kind::Illumos) => {
                Err(Error::Unsupported { path: path.to_owned(), what: "an illumos dump, not a Linux one".to_owned() })
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

    /// Opens the files that `makedumpfile --split` wrote, in any order; `named` has paths for messages.
    ///
    /// # Errors
    /// As [`LinuxDump::open`]; also when the files are not parts of one dump, each with its own pages.
    pub fn from_parts(named: Vec<(PathBuf, Box<dyn ReadAt>)>) -> Result<Self, Error> {
        let (mut doubts, mut parts, mut truncated_at, mut stored) = (Vec::new(), Vec::new(), None, 0_u64);
        for (path, source) in named {
            let (source, kind) = unflattened(source, &mut doubts);
            if kind != Some(Kind::Kdump) {
                let what = "no compressed kdump, which parts of a dump are".to_owned();
                return Err(Error::Unsupported { path, what });
            }
            stored = stored.saturating_add(source.stored());
            let mut part = Kdump::open(&path, source)?;
            doubts.append(&mut part.doubts);
            truncated_at = truncated_at.or(part.truncated_at);
            parts.push((path, part));
        }
        let Some((_, first)) = parts.first() else {
            let what = "a dump without parts".to_owned();
            return Err(Error::Unsupported { path: PathBuf::new(), what });
        };
        let (notes, info) = (first.notes.clone(), first.vmcoreinfo.clone());
        let x86_64 = first.machine.is_empty() || first.machine == "x86_64";
        let parts = Parts::new(parts, &mut doubts)?;
        let gaps = Gaps { truncated_at, filtered_bytes: 0, doubts };
        Ok(Self::assemble(Box::new(parts), &notes, &info, x86_64, Some(stored), gaps))
    }

    /// `stored`: how many bytes the file really has; a running kernel has none.
    fn assemble(
        physical: Box<dyn Physical>,
        notes: &[u8],
        info: &[u8],
        x86_64: bool,
        stored: Option<u64>,
        mut gaps: Gaps,
    ) -> Self {
        let parsed = notes::parse(notes, &mut gaps.doubts);
        let own = parsed.iter().find(|n| &*n.owner == "VMCOREINFO").map(|n| n.body.clone());
        let pages = Arc::new(Pages::new(physical));
        let mut info = VmcoreInfo::parse(if info.is_empty() { own.as_deref().unwrap_or_default() } else { info });
        if let Some(stored) = stored
            && info.is_empty()
            && x86_64
        {
            info = scan::find(&pages, stored, &mut gaps.doubts).unwrap_or_default();
        }
        if info.is_empty() {
            gaps.doubts
                .push(Doubt::new("vmcoreinfo", "the dump has no VMCOREINFO: kernel addresses cannot be translated"));
        }
        let origin = if stored.is_some() { Origin::KernelDump } else { Origin::LiveKernel };
        let mut identity = Identity::new(origin, Os::Linux, if x86_64 { Arch::X86_64 } else { Arch::Other });
        identity.release = info.get("OSRELEASE").map(Into::into);
        identity.command = Some("vmlinux".into());
        identity.taken_at_ns =
            info.get("CRASHTIME").and_then(|t| t.parse::<u64>().ok()).and_then(|s| s.checked_mul(1_000_000_000));
        // The notes of `/proc/kcore` have room for registers, and zeros in it.
        let threads = if x86_64 && stored.is_some() { notes::cpus(&parsed) } else { Vec::new() };
        if stored.is_none() {
            let why = "the kernel went on running while it was read: what was read at different moments may not fit \
                       together, and what CPUs were running has no registers";
            gaps.doubts.push(Doubt::new("live-kernel", why));
        }
        let attributes = info
            .iter()
            .map(|(k, v)| Attribute { key: format!("vmcoreinfo.{k}").into(), thread: None, value: v.into() })
            .collect();
        let physical_extents = pages.extents();
        let paging = if x86_64 { paging(&info) } else { None };
        if paging.is_none() && !info.is_empty() {
            gaps.doubts.push(Doubt::new("paging", "VMCOREINFO lacks the top-level page table or phys_base"));
        }
        let tables = paging.map(|p| -> Arc<dyn Translate> { Arc::new(p) }).ok_or(Absent::Corrupt);
        let kernel = Space { pages: pages.clone(), tables, extents: Vec::new() };
        Self { identity, pages, kernel, paging, threads, notes: parsed, attributes, gaps, info, physical_extents }
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

/// What is inside of a flattened file, or the file itself; and what kind of dump that is.
fn unflattened(source: Box<dyn ReadAt>, doubts: &mut Vec<Doubt>) -> (Box<dyn ReadAt>, Option<Kind>) {
    let kind = sniff(&head(&*source));
    if kind != Some(Kind::Flattened) {
        return (source, kind);
    }
    let mut inner = Flattened::new(source);
    doubts.append(&mut inner.doubts);
    let kind = sniff(&head(&inner));
    (Box::new(inner), kind)
}

fn head(source: &dyn ReadAt) -> Vec<u8> {
    exact(source, 0, source.size().min(4096).to_usize()).unwrap_or_default()
}

/// Where the kernel's own page tables are. Not the sub header's `phys_base`: QEMU writes garbage there.
fn paging(info: &VmcoreInfo) -> Option<X86Tables> {
    let table = info.symbol("swapper_pg_dir").or_else(|| info.symbol("init_top_pgt"))?;
    let phys_base = info.number("phys_base")?;
    let root = PhysAddr(table.wrapping_sub(KERNEL_MAP).wrapping_add(phys_base));
    let levels = if info.number("pgtable_l5_enabled").unwrap_or(0) == 0 { 4 } else { 5 };
    let rules = x86_64::Rules { encryption: info.number("sme_mask").unwrap_or(0), linux_protnone: true };
    Some(X86Tables { root, levels, rules })
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
        let kernel = self.paging.ok_or(Absent::Corrupt)?;
        let tables = X86Tables { root, ..kernel };
        // A root that cannot even be read is no address space.
        self.pages.entry(PhysAddr(root.0 & !0xfff))?;
        Ok(Box::new(Space { pages: self.pages.clone(), tables: Ok(Arc::new(tables)), extents: Vec::new() }))
    }
}
