//! Call frame information of one module: for an address, the rules that recover the caller's registers.
//!
//! `.eh_frame` comes first (its header's search table is used in place), then `.debug_frame`, of the image or its debug
//! file. Rows are owned and kept by address range, so that a thousand threads that wait in one function pay once.

mod header;
mod index;
mod rows;

use crate::Slice;
use crate::elf::ElfFile;
use crate::images::Module;
use evidence::{Arch, Doubt, Doubts, Register, Svma};
use gimli::{BaseAddresses, DebugFrame, EhFrame};
use header::{Header, Search};
use index::Index;
pub use rows::{Cfa, Row, Rule};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Most rows kept of one module. A row is a few hundred bytes; a stack of real code touches some hundred.
const LIMIT_ROWS: usize = 1 << 16;

/// The call frame information of one module.
#[derive(Debug)]
pub struct Cfi<'m> {
    module: &'m Module,
    eh_frame: Option<EhFrameTable<'m>>,
    debug_frame: OnceLock<Option<DebugFrameTable<'m>>>,
    rows: RwLock<BTreeMap<u64, Arc<Row<'m>>>>,
}

#[derive(Debug)]
struct EhFrameTable<'m> {
    section: EhFrame<Slice<'m>>,
    bases: BaseAddresses,
    header: Option<Header<'m>>,
    /// Built by a scan when there is no header, or one that contradicts the section.
    index: OnceLock<Index>,
}

#[derive(Debug)]
struct DebugFrameTable<'m> {
    section: DebugFrame<Slice<'m>>,
    bases: BaseAddresses,
    index: Index,
}

impl<'m> Cfi<'m> {
    /// Finds the sections; reads nothing of them yet.
    #[must_use]
    pub(crate) fn new(module: &'m Module) -> Self {
        let eh_frame = module.main().and_then(EhFrameTable::of);
        Self { module, eh_frame, debug_frame: OnceLock::new(), rows: RwLock::default() }
    }

    /// The rules at an address; `None` when the module says nothing about it. What is damaged is a doubt.
    pub fn row(&self, at: Svma, doubts: &Doubts) -> Option<Arc<Row<'m>>> {
        {
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, row)) = rows.range(..=at.0).next_back()
                && row.range.contains(&at)
            {
                return Some(Arc::clone(row));
            }
        }
        let row = Arc::new(self.find(at, doubts)?);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if rows.len() < LIMIT_ROWS {
            rows.insert(row.range.start.0, Arc::clone(&row));
        }
        Some(row)
    }

    fn find(&self, at: Svma, doubts: &Doubts) -> Option<Row<'m>> {
        let damaged = |section: &str, e: gimli::Error| {
            let why = format!("{}: {section}: {e}; the rules for {at} are lost", self.module.path);
            doubts.push(Doubt::at("cfi", self.module.to_addr(at), why));
        };
        if let Some(table) = &self.eh_frame {
            match table.row(at) {
                Ok(Some(row)) => return Some(row),
                Ok(None) => {}
                Err(e) => damaged(".eh_frame", e),
            }
        }
        match self.debug_frame()?.row(at) {
            Ok(row) => row,
            Err(e) => {
                damaged(".debug_frame", e);
                None
            }
        }
    }

    /// Calls `with` for every row there is, by address within each section: what `.eh_frame` covers is not taken from
    /// `.debug_frame` again.
    pub fn each_row(&self, with: &mut dyn FnMut(Row<'m>)) {
        if let Some(table) = &self.eh_frame {
            let index = Index::build(&table.section, &table.bases);
            for offset in index.offsets() {
                if let Ok(fde) = index::fde(&table.section, &table.bases, gimli::EhFrameOffset(offset)) {
                    rows::all(&table.section, &table.bases, &fde, with);
                }
            }
        }
        let Some(table) = self.debug_frame() else { return };
        for offset in table.index.offsets() {
            let Ok(fde) = index::fde(&table.section, &table.bases, gimli::DebugFrameOffset(offset)) else { continue };
            let start = Svma(fde.initial_address());
            let covered = self.eh_frame.as_ref().is_some_and(|t| matches!(t.row(start), Ok(Some(_))));
            if !covered {
                rows::all(&table.section, &table.bases, &fde, with);
            }
        }
    }

    fn debug_frame(&self) -> Option<&DebugFrameTable<'m>> {
        let open = || {
            let debug = self.module.debug();
            [self.module.main(), debug].into_iter().flatten().find_map(DebugFrameTable::of)
        };
        self.debug_frame.get_or_init(open).as_ref()
    }

    /// Whether there is any call frame information at all.
    #[must_use]
    pub const fn has_eh_frame(&self) -> bool {
        self.eh_frame.is_some()
    }
}

fn bases(file: &ElfFile, eh_frame: u64, header: u64) -> BaseAddresses {
    let mut bases = BaseAddresses::default().set_eh_frame(eh_frame).set_eh_frame_hdr(header);
    if let Some(text) = file.section(".text") {
        bases = bases.set_text(text.address().0);
    }
    if let Some(got) = file.section(".got") {
        bases = bases.set_got(got.address().0);
    }
    bases
}

const fn vendor(file: &ElfFile) -> gimli::Vendor {
    if matches!(file.arch(), Arch::Aarch64) { gimli::Vendor::AArch64 } else { gimli::Vendor::Default }
}

impl<'m> EhFrameTable<'m> {
    /// By section names, and without section headers (an image out of memory) by `PT_GNU_EH_FRAME`.
    fn of(file: &'m ElfFile) -> Option<Self> {
        // On 32-bit macOS the numbers of esp and ebp are exchanged in it.
        if file.macho().is_some() && file.arch() == Arch::X86 {
            return None;
        }
        let by_name = |name| {
            let section = file.section(name)?;
            let data = file.section_data(name).ok().flatten()?;
            Some((section.address().0, data))
        };
        let header = by_name(".eh_frame_hdr").or_else(|| {
            let Range { start, end } = file.eh_frame_header()?;
            let data = file.bytes_at(Svma(start))?;
            let length = usize::try_from(end.checked_sub(start)?).ok()?.min(data.len());
            Some((start, data.get(..length)?))
        });
        let header =
            header.and_then(|(address, data)| Header::parse(data, address, file.endian(), file.address_size()));
        let (address, data) = by_name(".eh_frame").or_else(|| {
            // The section has no stated end here: it ends with a zero length, or with its segment.
            let start = header.as_ref()?.eh_frame;
            Some((start, file.bytes_at(Svma(start))?))
        })?;
        let mut section = EhFrame::new(data, file.endian());
        section.set_address_size(file.address_size());
        section.set_vendor(vendor(file));
        let bases = bases(file, address, header.as_ref().map_or(0, |h| h.address));
        // A header that speaks of another place is not about this section.
        let header = header.filter(|h| h.eh_frame == address);
        Some(Self { section, bases, header, index: OnceLock::new() })
    }

    fn row(&self, at: Svma) -> gimli::Result<Option<Row<'m>>> {
        let offset = match self.header.as_ref().map(|h| h.search(at.0)) {
            Some(Search::Found { start, entry }) => {
                match index::fde(&self.section, &self.bases, gimli::EhFrameOffset(entry)) {
                    Ok(fde) if fde.initial_address() == start => {
                        if !fde.contains(at.0) {
                            return Ok(None);
                        }
                        return rows::row(&self.section, &self.bases, &fde, at).map(Some);
                    }
                    // The header contradicts the section, which the loader does not need; the section is believed.
                    _ => None,
                }
            }
            Some(Search::Before) => return Ok(None),
            Some(Search::Damaged) | None => None,
        };
        let offset: Option<usize> =
            offset.or_else(|| self.index.get_or_init(|| Index::build(&self.section, &self.bases)).find(at.0));
        let Some(offset) = offset else { return Ok(None) };
        let fde = index::fde(&self.section, &self.bases, gimli::EhFrameOffset(offset))?;
        rows::row(&self.section, &self.bases, &fde, at).map(Some)
    }
}

impl<'m> DebugFrameTable<'m> {
    fn of(file: &'m ElfFile) -> Option<Self> {
        let data = file.section_data(".debug_frame").ok().flatten()?;
        let mut section = DebugFrame::from(gimli::EndianSlice::new(data, file.endian()));
        section.set_address_size(file.address_size());
        section.set_vendor(vendor(file));
        let bases = bases(file, 0, 0);
        let index = Index::build(&section, &bases);
        Some(Self { section, bases, index })
    }

    fn row(&self, at: Svma) -> gimli::Result<Option<Row<'m>>> {
        let Some(offset) = self.index.find(at.0) else { return Ok(None) };
        let fde = index::fde(&self.section, &self.bases, gimli::DebugFrameOffset(offset))?;
        rows::row(&self.section, &self.bases, &fde, at).map(Some)
    }
}

/// A register number of gimli as ours.
const fn register(number: gimli::Register) -> Register {
    Register(number.0)
}
