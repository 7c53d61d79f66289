//! illumos kernel dumps: on the dump device, as `vmdump.N`, as `vmcore.N`; compressed, encrypted, partial, damaged.
//!
//! Pages are read straight from the compressed file: opening follows the chain of blocks and indexes the map, and only
//! what is asked for is decompressed. What cannot be read is said page by page. Sources of the formats:
//! uts/common/sys/dumphdr.h, uts/common/os/dumpsubr.c, cmd/savecore/savecore.c of illumos-gate.

mod bzip2_block;
mod chain;
mod contents;
mod device;
mod dumphdr;
mod encrypted;
pub mod lzjb;
mod map;
mod open;
mod pages;
mod pbzip2;
mod plzjb;
mod ranges;
mod settle;
mod space;
mod streams;
mod symbols;
mod table;
mod vmcore;
mod window;

pub use dumphdr::DumpHeader;
use encrypted::Key;
pub use open::Place;
pub use streams::Mode;

use crate::source::{FileSource, ReadAt};
use crate::{Error, Options};
use dumphdr::flag;
use evidence::{
    Absent, Arch, Attribute, Doubt, Event, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, Origin, Os,
    PhysAddr, Target, Thread,
};
use map::Map;
use pages::Pages;
use space::Space;
use std::path::Path;
use std::sync::Arc;
use table::{Cached, Pfns};

/// Dumps of up to this many pages are checked page by page when they are opened, so that every loss is known at once.
/// 64 MiB take a fraction of a second; of larger ones, [`IllumosDump::lost`] tells.
const LIMIT_CHECKED: u64 = 1 << 14;
/// Doubts about single losses; the rest is counted.
const LIMIT_LOSSES: usize = 200;

/// Pages that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Their indices in the dump's table of pages.
    pub pages: std::ops::Range<u64>,
    /// The page frame numbers of the first and the last of them, where the table has them.
    pub frames: Option<(u64, u64)>,
    /// Why.
    pub why: Absent,
}

/// An opened illumos kernel dump.
pub struct IllumosDump {
    identity: Identity,
    header: DumpHeader,
    place: Place,
    source: Arc<dyn ReadAt>,
    pages: Arc<Pages>,
    map: Arc<Map>,
    kernel: Space,
    ksyms: Vec<u8>,
    event: Option<Event>,
    notes: Vec<Note>,
    attributes: Vec<Attribute>,
    gaps: Gaps,
    cpus: u32,
}

impl IllumosDump {
    /// Opens the dump at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is no illumos dump, or is encrypted and the key is missing or another one.
    pub fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let source = FileSource::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::from_source(path, Box::new(source), options)
    }

    /// Opens a dump that is not a file, or not yet; `path` is for messages.
    ///
    /// # Errors
    /// As [`IllumosDump::open`].
    pub fn from_source(path: &Path, source: Box<dyn ReadAt>, options: &Options) -> Result<Self, Error> {
        let mut gaps = Gaps::default();
        let doubts = &mut gaps.doubts;
        let key = options.key.as_deref().map(Key::from_bytes).transpose().map_err(|found| Error::Format {
            path: path.to_owned(),
            offset: 0,
            expected: "a key file of 32 bytes",
            found: format!("{found} bytes"),
        })?;
        let opened = open::open(path, source, key.as_ref(), doubts)?;
        let (header, place) = (opened.header, opened.place);
        let source: Arc<dyn ReadAt> = Arc::from(opened.source);
        let table = Arc::new(Cached::new(source.clone()));
        let pfns = pfns(&*source, &table, &header, doubts);
        let map = Arc::new(match place {
            Place::Vmcore => Map::hashed(table.clone(), &header),
            Place::Device | Place::Vmdump => Map::raw(&*source, table, &header, doubts),
        });
        let end = opened.terminal.unwrap_or_else(|| source.size());
        let pages = Arc::new(Pages::open(source.clone(), place, &header, opened.data, end, pfns, doubts));
        let ksyms = symbols::table(&*source, &header, doubts);
        let known = symbols::find(&ksyms, &["kas", "kpm_vbase", "kpm_size"]);
        let kas = symbols::kernel_space(known.first().copied().flatten(), &map, doubts);
        let kernel = Space::kernel(pages.clone(), map.clone(), kas, &known);
        let device = match place {
            Place::Device => device::read(&*source, doubts),
            Place::Vmdump | Place::Vmcore => device::Found::default(),
        };
        let mut dump = Self {
            identity: identity(&header),
            event: (!header.panic_string.is_empty())
                .then(|| Event { message: Some(header.panic_string.as_str().into()), ..Event::default() }),
            attributes: Vec::new(),
            notes: device.notes,
            header,
            place,
            source,
            pages,
            map,
            kernel,
            ksyms,
            gaps,
            cpus: 0,
        };
        dump.attributes = dump.describe(device.summary);
        dump.state_doubts();
        if opened.terminal.is_none() && place != Place::Vmcore {
            dump.gaps.truncated_at = Some(dump.source.size());
        }
        Ok(dump)
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &DumpHeader {
        &self.header
    }

    /// Where the dump lies.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// How its pages are compressed; `None` when they are not.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.pages.mode()
    }

    /// The symbol table as the kernel wrote it, an ELF file; empty when the dump has none.
    #[must_use]
    pub fn ksyms(&self) -> &[u8] {
        &self.ksyms
    }

    /// How many pages the dump has.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.pages.pfns.count()
    }

    /// The page of an index, and its page frame number.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn page(&self, index: u64) -> Result<Arc<[u8]>, Absent> {
        self.pages.page(index)
    }

    /// The page frame number of the page of an index.
    #[must_use]
    pub fn frame(&self, index: u64) -> Option<u64> {
        self.pages.pfns.get(index)
    }

    /// Reads every page and says which cannot be read.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        self.pages.lost()
    }

    /// Writes `vmcore.N` as savecore does, into an empty file; pages of zeros become holes. Returns what could not be
    /// read and is a hole, too.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn write_vmcore(&self, out: &std::fs::File) -> std::io::Result<Vec<Lost>> {
        vmcore::write(
            &vmcore::Given {
                header: &self.header,
                source: &*self.source,
                pages: &self.pages,
                ksyms: &self.ksyms,
                hashed: self.place == Place::Vmcore,
            },
            out,
        )
    }

    fn state_doubts(&mut self) {
        let h = &self.header;
        let doubts = &mut self.gaps.doubts;
        if !h.has(flag::COMPLETE) {
            doubts.push(Doubt::new("dump-state", "the dump is partial: the kernel did not finish writing it"));
        }
        if h.has(flag::LIVE) {
            let why = "the dump was taken of a running system (savecore -L): its structures may contradict each other";
            doubts.push(Doubt::new("dump-state", why));
        }
        if self.ksyms.is_empty() {
            let why = "the dump has no symbol table: kernel symbols need --kernel unix.N";
            doubts.push(Doubt::new("dump-symbols", why));
        }
        self.pages.chain_doubts(doubts);
        let lost = if self.pages.pfns.count() <= LIMIT_CHECKED { self.pages.lost() } else { self.pages.unplaced() };
        for l in lost.iter().take(LIMIT_LOSSES) {
            let (first, last) = (l.pages.start, l.pages.end.saturating_sub(1));
            let frames = l.frames.map_or_else(String::new, |(a, b)| format!(" (page frames {a:#x} to {b:#x})"));
            doubts.push(Doubt::new("dump-pages", format!("pages {first} to {last}{frames} are lost: {}", l.why)));
        }
        if let Some(more) = lost.len().checked_sub(LIMIT_LOSSES).filter(|n| *n > 0) {
            doubts.push(Doubt::new("dump-pages", format!("{more} more ranges of pages are lost")));
        }
    }

    fn describe(&self, summary: Option<String>) -> Vec<Attribute> {
        let h = &self.header;
        let mode = self.mode().map_or("none", Mode::word);
        let mut list = vec![
            ("dump.place", self.place.word().to_owned()),
            ("dump.compression", mode.to_owned()),
            ("dump.flags", h.words()),
            ("dump.pages", self.page_count().to_string()),
            ("dump.platform", h.platform.clone()),
            ("dump.uuid", h.uuid.clone()),
            ("uname.system", h.utsname.first().cloned().unwrap_or_default()),
            ("uname.version", h.utsname.get(3).cloned().unwrap_or_default()),
            ("uname.machine", h.utsname.get(4).cloned().unwrap_or_default()),
            ("panic.summary", summary.unwrap_or_default()),
        ];
        if h.fm_panic != 0 {
            list.push(("panic.by", "fault management".to_owned()));
        }
        let attribute = |(key, value): (&str, String)| Attribute { key: key.into(), thread: None, value: value.into() };
        list.into_iter().filter(|(_, value)| !value.is_empty()).map(attribute).collect()
    }
}

fn pfns(source: &dyn ReadAt, table: &Arc<Cached>, h: &DumpHeader, doubts: &mut Vec<Doubt>) -> Pfns {
    let fits = source.size().saturating_sub(h.pfn).checked_div(8).unwrap_or(0);
    if fits < h.npages {
        let why = format!("the header says {} pages, the table of them ends with the file after {fits}", h.npages);
        doubts.push(Doubt::new("dump-pages", why));
    }
    let (pfns, ordered) = Pfns::new(table.clone(), h.pfn, h.npages.min(fits));
    if !ordered {
        doubts
            .push(Doubt::new("dump-pages", "the table of page frames is not in order: it is damaged, or another one"));
    }
    pfns
}

fn identity(h: &DumpHeader) -> Identity {
    let mut identity = Identity::new(Origin::KernelDump, Os::Illumos, Arch::X86_64);
    let [system, node, release, version, machine] = &h.utsname;
    if !machine.is_empty() && machine != "i86pc" && machine != "i86xpv" {
        identity.arch = Arch::Other;
    }
    let text = |s: &str| Some(s).filter(|s| !s.is_empty()).map(Box::from);
    identity.command = Some("unix".into());
    identity.host = text(node);
    identity.release = text(format!("{release} {version}").trim());
    if identity.release.is_none() {
        identity.release = text(system);
    }
    identity.taken_at_ns = h.crash_time.checked_mul(1_000_000_000).filter(|t| *t > 0);
    identity
}

impl Target for IllumosDump {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn memory(&self) -> &dyn Memory {
        &self.kernel
    }
    fn threads(&self) -> &[Thread] {
        &[]
    }
    fn mappings(&self) -> &[Mapping] {
        &[]
    }
    fn images(&self) -> &[ImageHint] {
        &[]
    }
    fn event(&self) -> Option<&Event> {
        self.event.as_ref()
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

impl Machine for IllumosDump {
    fn cpus(&self) -> u32 {
        self.cpus
    }

    fn symbol_file(&self) -> Option<&[u8]> {
        Some(self.ksyms.as_slice()).filter(|k| !k.is_empty())
    }

    fn read_physical(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Absent>) {
        self.pages.read_physical(at, into)
    }

    /// `root` is the address of the `struct as`, which is what the dump's map is keyed by.
    fn space(&self, root: PhysAddr) -> Result<Box<dyn Memory + '_>, Absent> {
        if !self.map.knows(root.0) {
            return Err(Absent::Filtered);
        }
        Ok(Box::new(Space::of(self.pages.clone(), self.map.clone(), root.0)))
    }
}
