//! Loaded and unloaded modules: `MINIDUMP_MODULE`, `MINIDUMP_UNLOADED_MODULE`, and the CodeView records that identify
//! them.
//!
//! Sources: minidumpapiset.h; the records `RSDS` and `NB10` as symbol servers use them; `BpEL` of Breakpad's
//! minidump_format.h.

use super::reader::{Location, Reader};
use super::{MODULE_LIST, UNLOADED_MODULE_LIST};
use evidence::bytes::{Endian, c_str_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{Addr, ImageHint, ModuleId};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// Modules that are kept. The largest programs load some thousands; Windows' own reader takes any number.
const LIMIT_MODULES: usize = 65_536;
/// Bytes of a CodeView record that are read: a path and 24 bytes.
const LIMIT_RECORD: u32 = 64 << 10;

/// A loaded module with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) name: Option<Arc<str>>,
    pub(super) id: ModuleId,
    /// An ELF build-id.
    pub(super) build_id: Option<Box<[u8]>>,
}

/// A module that was loaded before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unloaded {
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) name: Option<String>,
    pub(super) code_id: String,
}

/// All loaded modules, each base once.
pub(super) fn loaded(reader: &Reader<'_>, windows: bool) -> Vec<Module> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for stream in reader.streams.iter().filter(|s| s.kind == MODULE_LIST) {
        let bytes = reader.bytes(stream.location);
        for entry in reader.list("modules", &bytes, stream.location.size, 108) {
            if out.len() >= LIMIT_MODULES {
                reader.doubt(format!("more than {LIMIT_MODULES} modules: the rest is left out"));
                return out;
            }
            if let Some(module) = one(reader, entry, windows).filter(|m| seen.insert(m.base)) {
                out.push(module);
            }
        }
    }
    out
}

fn one(reader: &Reader<'_>, entry: &[u8], windows: bool) -> Option<Module> {
    let word = |at| u32_at(entry, at, reader.endian);
    let base = u64_at(entry, 0, reader.endian)?;
    let size = word(8)?;
    let name = reader.utf16(word(20)?.into()).filter(|n| !n.is_empty());
    let mut id = ModuleId { base: Addr(base), ..ModuleId::default() };
    let mut build_id = None;
    let record = Location::at(entry, 76, reader.endian)?;
    if record.size > 0 {
        let record = reader.record(Location { size: record.size.min(LIMIT_RECORD), ..record });
        build_id = code_view(&record, reader.endian, &mut id);
    }
    if windows {
        id.code_id = Some(pe_code_id(word(16)?, size).into());
    } else if let Some(build) = &build_id {
        id.code_id = Some(hex(build).into());
    }
    if id.debug_file.is_none() {
        id.debug_file.clone_from(&name.as_deref().map(Arc::from));
    }
    id.version = version(entry, reader.endian).map(Into::into);
    Some(Module { base, size: size.into(), name: name.map(Into::into), id, build_id })
}

/// The identifier by which symbol servers file a PE image.
pub(super) fn pe_code_id(time: u32, size: u32) -> String {
    format!("{time:08X}{size:x}")
}

/// `VS_FIXEDFILEINFO`, when it has its signature and is not all zero.
fn version(entry: &[u8], endian: Endian) -> Option<String> {
    let word = |at| u32_at(entry, at, endian);
    if word(24)? != 0xfeef_04bd {
        return None;
    }
    let (high, low) = (word(32)?, word(36)?);
    (high != 0 || low != 0).then(|| format!("{}.{}.{}.{}", high >> 16, high & 0xffff, low >> 16, low & 0xffff))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// A GUID in the order that its text has: the first three fields are numbers in the file's byte order.
fn guid(bytes: &[u8], endian: Endian) -> Option<String> {
    let (a, b, c) = (u32_at(bytes, 0, endian)?, u16_at(bytes, 4, endian)?, u16_at(bytes, 6, endian)?);
    let mut text = format!("{a:08X}{b:04X}{c:04X}");
    for byte in slice_at(bytes, 8, 8)? {
        let _ = write!(text, "{byte:02X}");
    }
    Some(text)
}

/// Fills the debug file and debug id in; returns an ELF build-id.
fn code_view(record: &[u8], endian: Endian, id: &mut ModuleId) -> Option<Box<[u8]>> {
    let name = |at| c_str_at(record, at).filter(|n| !n.is_empty());
    match u32_at(record, 0, endian)? {
        // "RSDS": a GUID and how often the program database was written since.
        0x5344_5352 => {
            let age = u32_at(record, 20, endian)?;
            let text = guid(slice_at(record, 4, 16)?, endian)?;
            if text.bytes().any(|b| b != b'0') {
                id.debug_id = Some(format!("{text}{age:X}").into());
            }
            id.debug_file = name(24).map(Into::into);
            None
        }
        // "NB10": a time and an age.
        0x3031_424e => {
            let (time, age) = (u32_at(record, 8, endian)?, u32_at(record, 12, endian)?);
            id.debug_id = Some(format!("{time:08X}{age:x}").into());
            id.debug_file = name(16).map(Into::into);
            None
        }
        // "BpEL": an ELF build-id. Breakpad's symbol files go by its first 16 bytes, read as a GUID.
        0x4270_454c => {
            let build = record.get(4..).filter(|b| b.iter().any(|b| *b != 0))?;
            let mut first = [0_u8; 16];
            for (to, from) in first.iter_mut().zip(build) {
                *to = *from;
            }
            id.debug_id = guid(&first, endian).map(|g| format!("{g}0").into());
            Some(build.into())
        }
        _ => None,
    }
}

/// All unloaded modules; ranges may overlap, as one address served several in turn.
pub(super) fn unloaded(reader: &Reader<'_>) -> Vec<Unloaded> {
    let Some(stream) = reader.first(UNLOADED_MODULE_LIST, 12) else { return Vec::new() };
    let entries = reader.sized_list("unloaded modules", &stream, false, 24);
    let entry = |e: &&[u8]| {
        let word = |at| u32_at(e, at, reader.endian);
        let (size, time) = (word(8)?, word(16)?);
        Some(Unloaded {
            base: u64_at(e, 0, reader.endian)?,
            size: size.into(),
            name: reader.utf16(word(20)?.into()),
            code_id: pe_code_id(time, size),
        })
    };
    entries.iter().take(LIMIT_MODULES).filter_map(entry).collect()
}

impl Module {
    /// As the shared types say it.
    pub(super) fn hint(&self) -> ImageHint {
        ImageHint {
            base: Addr(self.base),
            size: Some(self.size),
            path: self.name.clone(),
            build_id: self.build_id.clone(),
            slide: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_of_every_kind_of_record() {
        let mut record = b"RSDS".to_vec();
        record.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        record.extend(26_u32.to_le_bytes());
        record.extend(b"c:\\b\\a.pdb\0rest");
        let mut id = ModuleId::default();
        assert_eq!(code_view(&record, Endian::Little, &mut id), None);
        assert_eq!(id.debug_id.as_deref(), Some("78563412BC9AF0DE01020304050607081A"));
        assert_eq!(id.debug_file.as_deref(), Some("c:\\b\\a.pdb"));
        let mut record = b"NB10".to_vec();
        record.extend([0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 2, 0, 0, 0]);
        record.extend(b"a.pdb");
        let mut id = ModuleId::default();
        code_view(&record, Endian::Little, &mut id);
        assert_eq!((id.debug_id.as_deref(), id.debug_file.as_deref()), (Some("123456782"), Some("a.pdb")));
        let mut record = 0x4270_454c_u32.to_le_bytes().to_vec();
        record.extend(1..=20);
        let mut id = ModuleId::default();
        let build = code_view(&record, Endian::Little, &mut id).unwrap();
        assert_eq!(hex(&build), "0102030405060708090a0b0c0d0e0f1011121314");
        assert_eq!(id.debug_id.as_deref(), Some("0403020106050807090A0B0C0D0E0F100"));
        for length in 0..record.len() {
            code_view(&record[..length], Endian::Big, &mut ModuleId::default());
        }
    }
}
