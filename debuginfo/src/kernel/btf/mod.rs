//! BTF: the types of a Linux kernel or of one of its modules, as the kernel keeps them in its memory.
//!
//! A module's types go on where its kernel's end: numbers and strings continue (split BTF).
//!
//! Source: Documentation/bpf/btf.rst, `include/uapi/linux/btf.h`.

mod layouts;
mod types;

use super::name_index::NameIndex;
use evidence::ToUsize;
use evidence::bytes::{Endian, slice_at, u8_at, u16_at, u32_at};
use std::fmt;
use std::sync::{Arc, OnceLock};
use types::{Raw, kind};

/// Largest BTF: Debian's kernel has 4.4 MB.
pub const LIMIT_BTF: usize = 256 << 20;
/// Most types: Debian's kernel has 140,000.
const LIMIT_TYPES: usize = 16 << 20;
/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;

/// Why BTF cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfError {
    /// Where in it, bytes from its start.
    pub offset: usize,
    /// What was expected.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BTF at {:#x}: expected {}, found {}", self.offset, self.expected, self.found)
    }
}

impl std::error::Error for BtfError {}

/// The types of a kernel, or of a module on top of its kernel's.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    endian: Endian,
    /// Where the strings lie.
    strings: std::ops::Range<usize>,
    /// Where each type lies; the first one has the number `first`.
    offsets: Vec<u32>,
    first: u32,
    base: Option<Arc<Btf>>,
    /// Named structures, unions, typedefs, enumerations and base types: (string, type).
    named: Vec<(u32, u32)>,
    by_name: OnceLock<NameIndex>,
}

impl Btf {
    /// Reads the headers of all types. `base` is the kernel's BTF, for a module's.
    ///
    /// # Errors
    /// It is no BTF, or a type reaches past its end.
    pub fn parse(data: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let bad = |offset, expected, found: String| BtfError { offset, expected, found };
        if data.len() > LIMIT_BTF {
            return Err(bad(0, "at most 256 MiB", format!("{} bytes", data.len())));
        }
        let endian = match (u16_at(&data, 0, Endian::Little), u16_at(&data, 0, Endian::Big)) {
            (Some(MAGIC), _) => Endian::Little,
            (_, Some(MAGIC)) => Endian::Big,
            _ => return Err(bad(0, "the magic number eb9f", format!("{:02x?}", data.get(..2).unwrap_or(&data)))),
        };
        if u8_at(&data, 2) != Some(1) {
            return Err(bad(2, "version 1", format!("{:?}", u8_at(&data, 2))));
        }
        let field = |at| {
            let value = u32_at(&data, at, endian).map(ToUsize::to_usize);
            value.ok_or_else(|| bad(at, "a header of 24 bytes", format!("{} bytes in all", data.len())))
        };
        let header = field(4)?;
        let part = |at: usize, length: usize| {
            let start = header.checked_add(at)?;
            let end = start.checked_add(length)?;
            (end <= data.len()).then_some(start..end)
        };
        let outside = || bad(8, "types and strings inside of the data", format!("{} bytes in all", data.len()));
        let types = part(field(8)?, field(12)?).ok_or_else(outside)?;
        let strings = part(field(16)?, field(20)?).ok_or_else(outside)?;
        let first = base.as_ref().map_or(1, |b| b.end());
        let (mut offsets, mut named) = (Vec::new(), Vec::new());
        let mut at = types.start;
        while at < types.end {
            if offsets.len() >= LIMIT_TYPES {
                return Err(bad(at, "at most 16 million types", "more".into()));
            }
            let raw = Raw::at(&data, at, endian)
                .ok_or_else(|| bad(at, "a type of 12 bytes", "the end of the data".into()))?;
            let length = raw.length().ok_or_else(|| bad(at, "a known kind of type", format!("kind {}", raw.kind)))?;
            let next = at.saturating_add(length);
            if next > types.end {
                return Err(bad(at, "a type inside of the section", format!("{length} bytes")));
            }
            if raw.name != 0 && kind::is_layout(raw.kind) {
                let number = first.saturating_add(u32::try_from(offsets.len()).unwrap_or(u32::MAX));
                named.push((raw.name, number));
            }
            offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
            at = next;
        }
        Ok(Self { data, endian, strings, offsets, first, base, named, by_name: OnceLock::new() })
    }

    /// One past the last type's number.
    fn end(&self) -> u32 {
        self.first.saturating_add(u32::try_from(self.offsets.len()).unwrap_or(u32::MAX))
    }

    /// How many types there are, the kernel's among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end().saturating_sub(1).to_usize()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of strings there are, the kernel's among them.
    fn string_end(&self) -> usize {
        self.base.as_ref().map_or(0, |b| b.string_end()).saturating_add(self.strings.len())
    }

    /// The string with that number, without its NUL.
    fn string(&self, number: u32) -> &[u8] {
        let before = self.base.as_ref().map_or(0, |b| b.string_end());
        let Some(at) = number.to_usize().checked_sub(before) else {
            return self.base.as_ref().map_or(&[], |b| b.string(number));
        };
        let all = self.data.get(self.strings.clone()).unwrap_or_default();
        let tail = all.get(at..).unwrap_or_default();
        tail.split(|b| *b == 0).next().unwrap_or_default()
    }

    /// Whether the string with that number is `text`.
    fn is_string(&self, number: u32, text: &[u8]) -> bool {
        let before = self.base.as_ref().map_or(0, |b| b.string_end());
        let Some(at) = number.to_usize().checked_sub(before) else {
            return self.base.as_ref().is_some_and(|b| b.is_string(number, text));
        };
        let all = self.data.get(self.strings.clone()).unwrap_or_default();
        slice_at(all, at, text.len().saturating_add(1)).is_some_and(|s| s.strip_suffix(&[0]) == Some(text))
    }

    fn raw(&self, number: u32) -> Option<(&Self, Raw)> {
        let Some(index) = number.checked_sub(self.first) else {
            return if number == 0 { None } else { self.base.as_ref()?.raw(number) };
        };
        let at = *self.offsets.get(index.to_usize())?;
        Some((self, Raw::at(&self.data, at.to_usize(), self.endian)?))
    }

    /// The number of a named structure, union or enumeration; else of a base type; else of a typedef.
    fn named(&self, name: &str) -> Option<u32> {
        let text = name.as_bytes();
        let fits = |(string, number): &&(u32, u32)| {
            self.is_string(*string, text).then(|| self.raw(*number).map(|(_, raw)| raw.kind)).flatten()
        };
        let rows = self.by_name.get_or_init(|| {
            NameIndex::new(self.named.len(), |row| self.named.get(row).map_or(&[], |(string, _)| self.string(*string)))
        });
        let mut best: Option<(u8, u32)> = None;
        for entry in rows.candidates(text).filter_map(|row| self.named.get(row)) {
            if let Some(found) = fits(&entry) {
                let rank = u8::from(found == kind::TYPEDEF);
                if best.is_none_or(|(b, _)| rank < b) {
                    best = Some((rank, entry.1));
                }
            }
        }
        best.map(|(_, number)| number).or_else(|| self.base.as_ref()?.named(name))
    }
}
