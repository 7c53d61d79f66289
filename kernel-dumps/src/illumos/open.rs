//! Finding the headers, wherever the dump lies: on its device, in vmdump.N, in vmcore.N.

use super::dumphdr::{CRYPT, Crypt, DUMP_OFFSET, DataHeader, DumpHeader, HEADER, Refusal, flag};
use super::encrypted::{self, Decrypted, Key};
use crate::Error;
use crate::source::ReadAt;
use evidence::{Addr, Doubt, ToU64, ToUsize};
use std::path::Path;

/// Where a dump lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the dump device, as the kernel wrote it.
    Device,
    /// `vmdump.N`: compressed, as savecore copies it.
    Vmdump,
    /// `vmcore.N`: uncompressed, with a hashed map.
    Vmcore,
}

impl Place {
    /// The word for attributes and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Vmdump => "vmdump",
            Self::Vmcore => "vmcore",
        }
    }
}

/// What was found.
pub(super) struct Opened {
    pub source: Box<dyn ReadAt>,
    pub place: Place,
    pub header: DumpHeader,
    pub data: Option<DataHeader>,
    /// Where the terminal header stands.
    pub terminal: Option<u64>,
}

/// How far before the end of a file the terminal header is searched, in steps of 64 KiB.
const STEPS: u64 = 16;

struct Found {
    at: u64,
    header: DumpHeader,
    crypt: Option<Crypt>,
    data: Option<DataHeader>,
}

fn at(source: &dyn ReadAt, offset: u64) -> Result<Found, Refusal> {
    let mut bytes = vec![0; HEADER.saturating_add(CRYPT).saturating_add(64)];
    let got = if offset < source.size() { source.read_at(offset, &mut bytes).unwrap_or(0) } else { 0 };
    bytes.truncate(got);
    let header = DumpHeader::parse(&bytes)?;
    let crypt = Crypt::parse(&bytes).filter(|_| header.has(flag::ENCRYPTED));
    let data = DataHeader::parse(&bytes, crypt.is_some());
    Ok(Found { at: offset, header, crypt, data })
}

/// Finds and checks the headers, and takes the encryption off.
pub(super) fn open(
    path: &Path,
    source: Box<dyn ReadAt>,
    key: Option<&Key>,
    doubts: &mut Vec<Doubt>,
) -> Result<Opened, Error> {
    let size = source.size();
    let first = at(&*source, 0);
    if let Err(Refusal::Unsupported(what)) = first {
        return Err(Error::Unsupported { path: path.to_owned(), what });
    }
    let terminal = terminal(&*source);
    let start = match (&first, &terminal) {
        (Ok(_), _) => None,
        (Err(_), Some(t)) => Some(t.header.start),
        (Err(_), None) => {
            [DUMP_OFFSET, (size / 5) & !(DUMP_OFFSET.saturating_sub(1)), (size / 5).next_multiple_of(DUMP_OFFSET)]
                .into_iter()
                .find(|start| at(&*source, *start).is_ok_and(|f| f.header.start == *start))
        }
    };
    let initial = match start {
        None => first.ok(),
        Some(start) => at(&*source, start).ok(),
    };
    if initial.is_none() && terminal.is_none() {
        return Err(refuse(path, &*source, start.unwrap_or(0)));
    }
    let chosen = choose(initial, terminal, size, doubts).ok_or_else(|| refuse(path, &*source, 0))?;
    let (found, data, terminal) = chosen;
    let header = found.header;
    let place = match (header.start, header.has(flag::COMPRESSED)) {
        (1.., _) => Place::Device,
        (0, true) => Place::Vmdump,
        (0, false) => Place::Vmcore,
    };
    let source = match found.crypt.filter(|_| header.has(flag::ENCRYPTED)) {
        Some(crypt) if place == Place::Device => decrypted(path, source, key, crypt, &header)?,
        _ => {
            if header.has(flag::ENCRYPTED) {
                let why = "the header says encrypted, which savecore's files never are; it was read as it is";
                doubts.push(Doubt::new("dump-header", why));
            } else if key.is_some() {
                doubts.push(Doubt::new("dump-header", "the dump is not encrypted; the key was not used"));
            }
            source
        }
    };
    if place == Place::Device && !header.has(flag::VALID) {
        let why = "savecore has already taken this dump; what was written to the device since is damage";
        doubts.push(Doubt::new("dump-header", why));
    }
    Ok(Opened { source, place, header, data, terminal })
}

/// The terminal header: the last one on a multiple of 64 KiB.
fn terminal(source: &dyn ReadAt) -> Option<Found> {
    let last = source.size().checked_sub(1)? & !(DUMP_OFFSET.saturating_sub(1));
    (0..STEPS).find_map(|n| {
        let offset = last.checked_sub(n.saturating_mul(DUMP_OFFSET)).filter(|o| *o > 0)?;
        at(source, offset).ok().filter(|f| f.header.start != offset)
    })
}

type Chosen = (Found, Option<DataHeader>, Option<u64>);

/// Of two headers that should be equal, the one whose numbers fit the file.
fn choose(initial: Option<Found>, terminal: Option<Found>, size: u64, doubts: &mut Vec<Doubt>) -> Option<Chosen> {
    let vmcore = |f: &Found| f.header.start == 0 && !f.header.has(flag::COMPRESSED);
    let (data, place) = (terminal.as_ref().and_then(|t| t.data), terminal.as_ref().map(|t| t.at));
    let mut doubt = |offset: u64, why: &str| {
        doubts.push(Doubt::at("dump-header", Addr(offset), format!("at file offset {offset:#x}: {why}")));
    };
    match (initial, terminal) {
        // vmcore.N has one header only; what looks like another one is a page.
        (Some(i), _) if vmcore(&i) => Some((i, None, None)),
        (Some(i), Some(t)) => {
            if !i.header.same(&t.header) {
                let better = faults(&t.header, size) < faults(&i.header, size);
                let which = if better { "the terminal one" } else { "the first one" };
                let why = format!("the terminal header differs from the first one; {which} was believed");
                doubt(t.at, &why);
                return Some((if better { t } else { i }, data, place));
            }
            Some((i, data, place))
        }
        (Some(i), None) => {
            doubt(size, "the terminal header is missing: the file was cut off, or never finished");
            Some((i, None, None))
        }
        (None, Some(t)) => {
            doubt(t.header.start, "the first header is damaged; the terminal one was used");
            Some((t, data, place))
        }
        (None, None) => None,
    }
}

/// How many of a header's numbers cannot be.
fn faults(h: &DumpHeader, size: u64) -> usize {
    let after = |at: u64, entries: u64, each: u64| at.checked_add(entries.checked_mul(each)?).filter(|e| *e <= size);
    [
        h.outside(size).is_some(),
        after(h.pfn, h.npages, 8).is_none(),
        after(h.map, h.nvtop, 24).is_none(),
        after(h.ksyms, h.ksyms_csize, 1).is_none(),
        h.pfn < h.ksyms || h.map < h.ksyms || h.data < h.pfn || h.data < h.map,
        h.ksyms_csize > h.ksyms_size,
        h.crash_time > u64::from(u32::MAX),
    ]
    .into_iter()
    .filter(|fault| *fault)
    .count()
}

fn decrypted(
    path: &Path,
    source: Box<dyn ReadAt>,
    key: Option<&Key>,
    crypt: Crypt,
    header: &DumpHeader,
) -> Result<Box<dyn ReadAt>, Error> {
    let refuse = |expected, found: &str| Error::Format {
        path: path.to_owned(),
        offset: header.start.saturating_add(HEADER.to_u64()),
        expected,
        found: found.to_owned(),
    };
    let Some(key) = key else {
        return Err(refuse(
            "a key for this encrypted dump (--key FILE, the file that dumpadm -k was given)",
            "none was given",
        ));
    };
    let mut name = vec![0; 64];
    let got = source.read_at(header.start.saturating_add(56), &mut name).unwrap_or(0);
    match encrypted::fits(key, &crypt, name.get(..got).unwrap_or_default()) {
        Ok(true) => Ok(Box::new(Decrypted::new(source, key.clone(), crypt, header.start, header.page_size))),
        Ok(false) => Err(refuse("the key this dump was encrypted with", "another key")),
        Err(what) => Err(Error::Unsupported { path: path.to_owned(), what }),
    }
}

/// Why there is no header, as exactly as can be said.
fn refuse(path: &Path, source: &dyn ReadAt, offset: u64) -> Error {
    let mut head = vec![0; 4100];
    let got = source.read_at(0, &mut head).unwrap_or(0);
    head.truncate(got);
    let interrupted = head.len() == 4100 && head.iter().take(4096).all(|b| *b == 0) && head.ends_with(b"\x7fELF");
    let (expected, found) = if interrupted {
        (
            "the header of vmcore.N, which savecore writes last",
            "zeros: savecore was interrupted; use vmdump.N, or the dump device".to_owned(),
        )
    } else {
        let found = match at(source, offset) {
            Err(Refusal::Magic(magic)) => format!("{magic:#010x}"),
            Err(Refusal::Unsupported(what)) => what,
            Err(Refusal::Field(at, what, value)) => format!("{value:#x} where {what} stands (byte {at} of the header)"),
            Err(Refusal::Short(got)) => format!("{got} bytes"),
            Ok(_) => "a header that contradicts itself".to_owned(),
        };
        ("the header of an illumos kernel dump, version 10, 64-bit little-endian", found)
    };
    Error::Format { path: path.to_owned(), offset: offset.to_usize().to_u64(), expected, found }
}
