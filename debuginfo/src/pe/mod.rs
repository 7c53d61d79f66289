//! Images of Windows: headers, sections, identity, exports, and where their unwind data lies.
//!
//! Two sources: a file in the layout of files, and a copy of the headers out of a dump's memory, whose other parts are
//! then read from that memory by [`View`]. Layout: Microsoft's "PE Format"; all numbers are little-endian, all places
//! are RVAs (bytes from the image's base).

pub mod arm64;
mod exports;
pub mod x64;

use crate::Error;
use crate::map::FileBytes;
use crate::symbols::SymbolTable;
use evidence::bytes::{Endian, slice_at, u16_at, u32_at};
use evidence::{Addr, Arch, Memory, ToU64, ToUsize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most sections of one image: the loader of Windows takes 96.
const LIMIT_SECTIONS: usize = 96;
/// Bytes of headers read out of memory: the first page holds them all.
pub(crate) const LIMIT_HEAD: usize = 4096;
/// Most bytes of one export directory copied out of memory: the largest ones of Windows have about 100 KiB.
const LIMIT_EXPORTS: u32 = 4 << 20;
/// Debug directory entries looked at: linkers write up to six.
const LIMIT_DEBUG: usize = 32;
const LITTLE: Endian = Endian::Little;

/// A section.
#[derive(Clone, Debug)]
struct Section {
    rva: u32,
    size: u32,
    offset: u32,
    file_size: u32,
    executable: bool,
}

/// A data directory: where a table lies, and its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Directory {
    rva: u32,
    size: u32,
}

/// A PE image.
#[derive(Debug)]
pub struct PeFile {
    path: PathBuf,
    bytes: FileBytes,
    in_memory: bool,
    /// The copy of the export directory, for an image in memory.
    exported: Box<[u8]>,
    arch: Arch,
    time: u32,
    size: u32,
    sections: Vec<Section>,
    exports: Directory,
    exceptions: Directory,
    debug: Directory,
    symbols: OnceLock<SymbolTable>,
}

impl PeFile {
    /// Maps and reads the headers of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be opened, or is no PE image.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(not_pe(path, 0, if meta.is_file() { "an empty file" } else { "no regular file" }));
        }
        Self::parse(path.to_owned(), FileBytes::map(&file).map_err(io)?, false)
    }

    /// Reads the headers of an image that lies in a target's memory at `base`. `None` when there is none.
    #[must_use]
    pub fn from_memory(name: &str, base: Addr, memory: &dyn Memory) -> Option<Self> {
        let mut head = vec![0; LIMIT_HEAD];
        let (got, _) = memory.read(base, &mut head);
        head.truncate(got);
        if head.get(..2) != Some(b"MZ") {
            return None;
        }
        let mut file = Self::parse(PathBuf::from(name), FileBytes::Owned(head.into()), true).ok()?;
        let Directory { rva, size } = file.exports;
        if (1..=LIMIT_EXPORTS).contains(&size) {
            let mut table = vec![0; size.to_usize()];
            if memory.read_exact(base.wrapping_add(rva.into()), &mut table).is_ok() {
                file.exported = table.into();
            }
        }
        Some(file)
    }

    fn parse(path: PathBuf, bytes: FileBytes, in_memory: bool) -> Result<Self, Error> {
        match headers(&bytes) {
            Ok(head) => Ok(Self {
                path,
                bytes,
                in_memory,
                exported: Box::default(),
                arch: head.arch,
                time: head.time,
                size: head.size,
                sections: head.sections,
                exports: head.exports,
                exceptions: head.exceptions,
                debug: head.debug,
                symbols: OnceLock::new(),
            }),
            Err((offset, found)) => Err(not_pe(&path, offset, found)),
        }
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was read out of the target's memory.
    #[must_use]
    pub const fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// The machine it is for.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// What symbol stores file it under: the time stamp and the size of the image, in hexadecimal.
    #[must_use]
    pub fn code_id(&self) -> String {
        format!("{:08X}{:x}", self.time, self.size)
    }

    /// GUID and age of its program database, as Breakpad writes them.
    #[must_use]
    pub fn debug_id(&self) -> Option<String> {
        let table = self.bytes_at(self.debug.rva)?;
        let table = table.get(..self.debug.size.to_usize()).unwrap_or(table);
        // Of 28 bytes: type at 12, size and place of the data at 16 and 20.
        for entry in table.chunks_exact(28).take(LIMIT_DEBUG) {
            const IMAGE_DEBUG_TYPE_CODEVIEW: u32 = 2;
            if u32_at(entry, 12, LITTLE)? != IMAGE_DEBUG_TYPE_CODEVIEW {
                continue;
            }
            let record = self.bytes_at(u32_at(entry, 20, LITTLE)?)?;
            if record.get(..4) == Some(b"RSDS") {
                let age = u32_at(record, 20, LITTLE)?;
                return Some(super::pdb::debug_id(record.get(4..20)?, age));
            }
        }
        None
    }

    /// The file's bytes from an RVA to the end of its section's contents in the file.
    #[must_use]
    pub fn bytes_at(&self, rva: u32) -> Option<&[u8]> {
        if self.in_memory {
            if let Some(inside) = rva.checked_sub(self.exports.rva)
                && let Some(rest) = self.exported.get(inside.to_usize()..).filter(|r| !r.is_empty())
            {
                return Some(rest);
            }
            return self.bytes.get(rva.to_usize()..).filter(|r| !r.is_empty());
        }
        let section =
            self.sections.iter().find(|s| rva.checked_sub(s.rva).is_some_and(|o| o < s.size.max(s.file_size)))?;
        let inside = rva.checked_sub(section.rva)?;
        let length = section.file_size.checked_sub(inside)?.to_usize();
        let start = section.offset.checked_add(inside)?.to_usize();
        let rest = self.bytes.get(start..)?;
        Some(rest.get(..length).unwrap_or(rest)).filter(|r| !r.is_empty())
    }

    /// Whether an RVA lies in code; `None` in no section.
    #[must_use]
    pub fn is_code(&self, rva: u64) -> Option<bool> {
        let covers = |s: &&Section| rva.checked_sub(s.rva.into()).is_some_and(|o| o < u64::from(s.size));
        self.sections.iter().find(covers).map(|s| s.executable)
    }

    /// The names that it exports.
    #[must_use]
    pub fn exports(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| exports::read(self))
    }
}

/// An image in a target: its file, and its memory for what the file does not hold.
#[derive(Clone, Copy)]
pub struct View<'v> {
    /// The headers, and the file if there is one.
    pub file: &'v PeFile,
    /// The target's memory.
    pub memory: &'v dyn Memory,
    /// Where it lies.
    pub base: Addr,
}

impl View<'_> {
    /// Fills `into` from an RVA. `None` when a part is missing.
    pub fn read(&self, rva: u32, into: &mut [u8]) -> Option<()> {
        if let Some(bytes) = self.file.bytes_at(rva).and_then(|b| b.get(..into.len())) {
            into.copy_from_slice(bytes);
            return Some(());
        }
        if rva.to_usize().checked_add(into.len())? > self.file.size.to_usize() {
            return None;
        }
        self.memory.read_exact(self.base.wrapping_add(rva.into()), into).ok()
    }

    /// The bytes from an RVA on, as many as there are up to `most`.
    #[must_use]
    pub fn bytes(&self, rva: u32, most: usize) -> Vec<u8> {
        if let Some(bytes) = self.file.bytes_at(rva) {
            return bytes.get(..most).unwrap_or(bytes).to_vec();
        }
        let mut bytes = vec![0; most];
        let (got, _) = self.memory.read(self.base.wrapping_add(rva.into()), &mut bytes);
        bytes.truncate(got);
        bytes
    }
}

struct Head {
    arch: Arch,
    time: u32,
    size: u32,
    sections: Vec<Section>,
    exports: Directory,
    exceptions: Directory,
    debug: Directory,
}

fn headers(bytes: &[u8]) -> Result<Head, (u64, &'static str)> {
    if bytes.get(..2) != Some(b"MZ") {
        return Err((0, "no MZ"));
    }
    let at = u32_at(bytes, 0x3c, LITTLE).ok_or((0x3c, "the end"))?.to_usize();
    if slice_at(bytes, at, 4) != Some(b"PE\0\0") {
        return Err((at.to_u64(), "no PE signature"));
    }
    parse_headers(bytes, at).ok_or((at.to_u64(), "headers that end too early"))
}

fn parse_headers(bytes: &[u8], at: usize) -> Option<Head> {
    let file = at.checked_add(4)?;
    let half = |offset: usize| u16_at(bytes, file.checked_add(offset)?, LITTLE);
    let optional_size = half(16)?.to_usize();
    let optional = file.checked_add(20)?;
    let word = |offset: usize| u32_at(bytes, optional.checked_add(offset)?, LITTLE);
    let wide = match u16_at(bytes, optional, LITTLE)? {
        0x20b => true,
        0x10b => false,
        _ => return None,
    };
    // IMAGE_DATA_DIRECTORY[]: behind 112 bytes in PE32+, 96 in PE32.
    let first: usize = if wide { 112 } else { 96 };
    let count = word(first.checked_sub(4)?)?.to_usize();
    let directory = |n: usize| -> Option<Directory> {
        let offset = first.checked_add(n.checked_mul(8)?)?;
        if n >= count || offset.checked_add(8)? > optional_size {
            return None;
        }
        Some(Directory { rva: word(offset)?, size: word(offset.checked_add(4)?)? })
    };
    let table = optional.checked_add(optional_size)?;
    let mut sections = Vec::new();
    for n in 0..half(2)?.to_usize().min(LIMIT_SECTIONS) {
        let Some(entry) = slice_at(bytes, table.checked_add(n.checked_mul(40)?)?, 40) else { break };
        let flags = u32_at(entry, 36, LITTLE)?;
        let file_size = u32_at(entry, 16, LITTLE)?;
        let size = u32_at(entry, 8, LITTLE)?;
        sections.push(Section {
            rva: u32_at(entry, 12, LITTLE)?,
            size: if size == 0 { file_size } else { size },
            offset: u32_at(entry, 20, LITTLE)?,
            file_size,
            executable: flags & 0x2000_0000 != 0,
        });
    }
    Some(Head {
        arch: match half(0)? {
            0x8664 => Arch::X86_64,
            0x14c => Arch::X86,
            0xaa64 => Arch::Aarch64,
            0x1c0 | 0x1c4 => Arch::Arm,
            _ => Arch::Other,
        },
        time: u32_at(bytes, file.checked_add(4)?, LITTLE)?,
        size: word(56)?,
        sections,
        exports: directory(0).unwrap_or_default(),
        exceptions: directory(3).unwrap_or_default(),
        debug: directory(6).unwrap_or_default(),
    })
}

fn not_pe(path: &Path, offset: u64, found: &str) -> Error {
    Error::Format { path: path.to_owned(), offset, expected: "a PE image", found: found.to_owned() }
}
