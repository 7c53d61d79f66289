//! Section headers and their contents, decompressed on first use.
//!
//! What is decompressed goes into the cache if there is one, and is mapped from there: so it takes memory only as it is
//! read, and the next run has it at once.

use super::ElfFile;
use super::growing::Growing;
use super::unpack::{Compression, Unpacker, whole_zlib};
use crate::cache::{Cache, Kept, Subject};
use crate::map::FileBytes;
use crate::{BuildId, Error};
use evidence::{Svma, ToU64, ToUsize};
use object::elf;
use object::read::elf::{CompressionHeader, FileHeader, SectionHeader};
use object::{Endianness, ReadRef as _};
use std::io::{self, Write as _};
use std::sync::OnceLock;

/// Larger sections do not stay in memory whole.
const LARGE: u64 = 8 << 20;

/// Bytes decompressed at a time.
const PIECE: usize = 1 << 18;

/// A section of which one part in so many was needed is decompressed to its end for the cache.
const KEPT_FROM: u64 = 4;

/// Bytes that one byte of a stream is reckoned to become at most: deflate's limit. Zstandard's is higher, for contents
/// that debug information is not.
const LARGEST_RATIO: u64 = 1032;

/// Largest section we decompress: twice the size of the largest `.debug_info` seen (Chromium's, 2.6 GB of DWARF in all).
pub const LIMIT_DECOMPRESSED: u64 = 4 << 30;

/// Debug sections that nothing here reads.
const UNUSED: [&str; 4] = ["debug_macro", "debug_macinfo", "debug_pub", "debug_gdb_scripts"];

/// A section.
#[derive(Debug)]
pub struct Section {
    name: Box<str>,
    kind: u32,
    flags: u64,
    address: Svma,
    file_offset: u64,
    file_size: u64,
    link: u32,
    compression: Compression,
    /// Bytes of the compression header before the stream.
    compression_header: u64,
    uncompressed_size: u64,
    decompressed: OnceLock<Result<Unpacked, String>>,
}

/// Decompressed contents.
#[derive(Debug)]
enum Unpacked {
    Memory(Box<[u8]>),
    Kept(Kept),
    /// In a file without a name, which goes when it is closed.
    Temporary(FileBytes),
    /// There as far as somebody needed it.
    Growing(Box<Growing>),
}

impl Section {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `sh_type`.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.kind
    }

    /// `sh_flags`.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        self.flags
    }

    /// `sh_addr`.
    #[must_use]
    pub const fn address(&self) -> Svma {
        self.address
    }

    /// `sh_offset`.
    #[must_use]
    pub const fn file_offset(&self) -> u64 {
        self.file_offset
    }

    /// `sh_link`.
    #[must_use]
    pub const fn link(&self) -> u32 {
        self.link
    }

    /// Size of the contents after decompression, bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.uncompressed_size
    }

    /// Whether the file holds no contents for it (`.bss`, or everything loadable in a separate debug file).
    #[must_use]
    pub const fn is_nobits(&self) -> bool {
        self.kind == elf::SHT_NOBITS.0
    }

    /// A section of an image of another format.
    pub(super) fn placed(
        name: Box<str>,
        kind: u32,
        flags: u64,
        address: Svma,
        file_offset: u64,
        size: u64,
        bytes: &[u8],
    ) -> Self {
        let mut section = Self {
            name,
            kind,
            flags,
            address,
            file_offset,
            file_size: size,
            link: 0,
            compression: Compression::None,
            compression_header: 0,
            uncompressed_size: size,
            decompressed: OnceLock::new(),
        };
        section.find_old_compression(bytes);
        section
    }

    /// GNU's older form of compression (`.zdebug_*`): "ZLIB" and the size as 8 big-endian bytes.
    fn find_old_compression(&mut self, bytes: &[u8]) {
        if !self.name.starts_with(".zdebug_") {
            return;
        }
        let raw = bytes.read_bytes_at(self.file_offset, self.file_size.min(12)).unwrap_or_default();
        if let (Some(b"ZLIB"), Some(size)) =
            (raw.get(..4), evidence::bytes::u64_at(raw, 4, evidence::bytes::Endian::Big))
        {
            self.compression = Compression::Zlib;
            self.compression_header = 12;
            self.uncompressed_size = size;
        }
    }

    pub(super) fn data<'f>(&'f self, file: &'f ElfFile) -> Result<Option<&'f [u8]>, Error> {
        let data = self.begun(file)?;
        self.reach(file, self.uncompressed_size)?;
        Ok(data)
    }

    /// As [`Section::data`], but a part of it may only be looked at after [`Section::reach`] said that it is there.
    pub(super) fn begun<'f>(&'f self, file: &'f ElfFile) -> Result<Option<&'f [u8]>, Error> {
        if self.is_nobits() {
            return Ok(None);
        }
        let raw = self.raw(file)?;
        if self.compression == Compression::None {
            return Ok(Some(raw));
        }
        let stream = raw.get(self.compression_header.to_usize()..).unwrap_or_default();
        match self.decompressed.get_or_init(|| self.decompress(stream, file)) {
            Ok(Unpacked::Memory(bytes)) => Ok(Some(bytes)),
            Ok(Unpacked::Kept(kept)) => Ok(Some(kept)),
            Ok(Unpacked::Temporary(bytes)) => Ok(Some(bytes)),
            Ok(Unpacked::Growing(growing)) => Ok(Some(growing.bytes())),
            Err(why) => Err(self.bad(file, "a compressed section", format!("{}: {why}", self.name))),
        }
    }

    /// Sees to it that the first `upto` bytes are there.
    ///
    /// # Errors
    /// The section's stream is damaged before that.
    pub(super) fn reach(&self, file: &ElfFile, upto: u64) -> Result<(), Error> {
        let Some(Ok(Unpacked::Growing(growing))) = self.decompressed.get() else { return Ok(()) };
        if growing.reached() >= upto {
            return Ok(());
        }
        let stream = self.raw(file)?.get(self.compression_header.to_usize()..).unwrap_or_default();
        growing
            .reach(stream, upto, |part| file.release_mapped(part))
            .map_err(|why| self.bad(file, "a compressed section", format!("{}: {why}", self.name)))
    }

    /// Bytes that are there; `None` for a section that is there whole.
    pub(crate) fn reached(&self) -> Option<u64> {
        match self.decompressed.get() {
            Some(Ok(Unpacked::Growing(growing))) => Some(growing.reached()),
            _ => None,
        }
    }

    fn bad(&self, file: &ElfFile, expected: &'static str, found: String) -> Error {
        Error::Format { path: file.path().to_owned(), offset: self.file_offset, expected, found }
    }

    /// The contents as the file has them.
    fn raw<'f>(&self, file: &'f ElfFile) -> Result<&'f [u8], Error> {
        file.bytes().read_bytes_at(self.file_offset, self.file_size).map_err(|()| {
            let found = format!("section {} of {:#x} bytes in a file of {:#x}", self.name, self.file_size, file.size());
            self.bad(file, "section contents inside the file", found)
        })
    }

    fn decompress(&self, stream: &[u8], file: &ElfFile) -> Result<Unpacked, String> {
        let size = self.uncompressed_size;
        if size > LIMIT_DECOMPRESSED {
            return Err(format!("claims {size} bytes, more than the limit of {LIMIT_DECOMPRESSED}"));
        }
        let cache = file.cache().filter(|(cache, _)| size >= cache.smallest);
        if let Some((cache, subject)) = cache
            && let Some(kept) = cache.load_large(subject, self.entry_name()).filter(|kept| kept.len().to_u64() == size)
        {
            return Ok(Unpacked::Kept(kept));
        }
        let unpacked = self.decompress_anew(stream, file)?;
        // A cache that cannot be written costs the next run time, and nothing else.
        let kept = match (&unpacked, cache) {
            (Unpacked::Memory(bytes), Some((cache, subject))) => self.keep(cache, subject, bytes, |_| {}),
            (Unpacked::Temporary(bytes), Some((cache, subject))) => {
                self.keep(cache, subject, bytes, |p| bytes.release(p))
            }
            _ => None,
        };
        Ok(kept.map_or(unpacked, Unpacked::Kept))
    }

    fn decompress_anew(&self, stream: &[u8], file: &ElfFile) -> Result<Unpacked, String> {
        let size = self.uncompressed_size;
        if self.grows()
            && let Some(growing) = Growing::new(self.compression, size)
        {
            return Ok(Unpacked::Growing(Box::new(growing)));
        }
        let unpacked = if size >= LARGE { self.temporary(stream).map(Unpacked::Temporary) } else { None };
        let unpacked = unpacked.map_or_else(|| self.memory(stream).map(Unpacked::Memory), Ok);
        file.release(stream);
        unpacked
    }

    fn memory(&self, stream: &[u8]) -> Result<Box<[u8]>, String> {
        let size = self.uncompressed_size;
        // What a stream of this length can hold at most is known.
        let most = stream.len().to_u64().saturating_mul(LARGEST_RATIO);
        if self.compression == Compression::Zlib {
            if size > most {
                return Err(format!("promised {size} bytes, more than {} bytes of deflate can hold", stream.len()));
            }
            let mut bytes = vec![0; size.to_usize()];
            whole_zlib(stream, &mut bytes)?;
            return Ok(bytes.into());
        }
        // Growing would copy everything several times.
        let mut bytes = Vec::with_capacity(size.min(most).to_usize());
        self.unpack(stream, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        if bytes.len().to_u64() != size {
            return Err(format!("promised {size} bytes, gave {}", bytes.len()));
        }
        Ok(bytes.into())
    }

    /// Unpacks into a file without a name, so that no more of it is in memory than is looked at. A place that cannot be
    /// written, and a damaged stream, are both found out by doing without.
    fn temporary(&self, stream: &[u8]) -> Option<FileBytes> {
        let mut file = tempfile::tempfile().ok()?;
        let size = self.uncompressed_size;
        let mut count = 0_u64;
        let write = |piece: &[u8]| {
            count = count.saturating_add(piece.len().to_u64());
            file.write_all(piece)
        };
        self.unpack(stream, write).ok()?;
        if count == size { FileBytes::map(&file).ok() } else { None }
    }

    /// Puts the contents into the cache, and opens them there; `passed` is told what was written.
    fn keep(&self, cache: &Cache, subject: &Subject, bytes: &[u8], passed: impl Fn(&[u8])) -> Option<Kept> {
        let write = |out: &mut dyn io::Write| {
            bytes.chunks(PIECE).try_for_each(|piece| {
                out.write_all(piece)?;
                passed(piece);
                Ok(())
            })
        };
        cache.fill(subject, self.entry_name(), self.uncompressed_size, write).ok()
    }

    /// Hands over what the stream holds, in pieces: one byte more than promised at most, to notice streams that hold
    /// more.
    fn unpack(&self, stream: &[u8], mut with: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut unpacker, mut buffer) = (Unpacker::new(self.compression)?, vec![0; PIECE]);
        let mut room = self.uncompressed_size.saturating_add(1);
        loop {
            let length = buffer.len().min(room.to_usize());
            let piece = buffer.get_mut(..length).unwrap_or_default();
            let count = unpacker.fill(stream, piece)?;
            with(piece.get(..count).unwrap_or_default())?;
            room = room.saturating_sub(count.to_u64());
            if count < length || room == 0 {
                return Ok(());
            }
        }
    }

    /// What the cache calls it.
    fn entry_name(&self) -> &str {
        self.name.trim_start_matches('.')
    }

    /// Whether it is decompressed as it is needed: a large one of units, which are asked for one by one.
    pub(super) fn grows(&self) -> bool {
        let is_units = matches!(&*self.name, ".debug_info" | ".zdebug_info");
        is_units && self.compression != Compression::None && self.uncompressed_size >= LARGE
    }

    /// Puts a section into the cache that is decompressed as it is needed, if so much of it was needed that the rest
    /// costs little more.
    pub(super) fn keep_grown(&self, file: &ElfFile) {
        let Some((Ok(Unpacked::Growing(growing)), (cache, subject))) = self.decompressed.get().zip(file.cache()) else {
            return;
        };
        let size = self.uncompressed_size;
        if size < cache.smallest || growing.reached() < size / KEPT_FROM || self.reach(file, size).is_err() {
            return;
        }
        // Whoever wrote it meanwhile wrote the same.
        if cache.load_large(subject, self.entry_name()).is_none() {
            self.keep(cache, subject, growing.bytes(), |piece| growing.bytes().release(piece));
        }
    }

    /// Whether it is a compressed section of debug information.
    pub(super) fn is_packed_debug(&self) -> bool {
        self.compression != Compression::None
            && (self.name.starts_with(".debug_") || self.name.starts_with(".zdebug_"))
            && !UNUSED.iter().any(|unused| self.name.contains(unused))
    }

    /// Lets go of the memory behind `part` if it is one of the decompressed contents and can be had again.
    pub(super) fn release(&self, part: &[u8]) {
        match self.decompressed.get() {
            Some(Ok(Unpacked::Kept(kept))) => kept.release(part),
            Some(Ok(Unpacked::Temporary(bytes))) => bytes.release(part),
            Some(Ok(Unpacked::Growing(growing))) => growing.bytes().release(part),
            _ => {}
        }
    }
}

/// A number that tells files of different sections apart.
pub(super) fn shape(sections: &[Section]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for s in sections {
        hasher.update(s.name.as_bytes());
        for number in [s.file_offset, s.file_size, s.uncompressed_size, s.address.0, s.flags] {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.finalize()
}

/// Reads the section table; a damaged one yields what can be read of it.
pub(super) fn read<H: FileHeader<Endian = Endianness>>(
    header: &H,
    endian: Endianness,
    bytes: &[u8],
    is_64: bool,
) -> (Vec<Section>, Option<BuildId>) {
    let Ok(table) = header.sections(endian, bytes) else { return (Vec::new(), None) };
    let mut build_id = None;
    let mut sections = Vec::with_capacity(table.len());
    for s in table.iter() {
        let name = String::from_utf8_lossy(table.section_name(endian, s).unwrap_or_default()).into_owned();
        let (file_offset, file_size) = (s.sh_offset(endian).into(), s.sh_size(endian).into());
        let mut section = Section {
            kind: s.sh_type(endian).0,
            flags: s.sh_flags(endian).0,
            address: Svma(s.sh_addr(endian).into()),
            file_offset,
            file_size,
            link: s.sh_link(endian),
            compression: Compression::None,
            compression_header: 0,
            uncompressed_size: file_size,
            decompressed: OnceLock::new(),
            name: name.into(),
        };
        if let Ok(Some((compression, _, _))) = s.compression(endian, bytes) {
            section.uncompressed_size = compression.ch_size(endian).into();
            section.compression_header = if is_64 { 24 } else { 12 };
            section.compression = if compression.ch_type(endian) == elf::ELFCOMPRESS_ZSTD {
                Compression::Zstd
            } else {
                Compression::Zlib
            };
        } else {
            section.find_old_compression(bytes);
        }
        if let (None, Ok(Some(mut notes))) = (&build_id, s.notes(endian, bytes)) {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    build_id = BuildId::new(note.desc());
                }
            }
        }
        sections.push(section);
    }
    (sections, build_id)
}
