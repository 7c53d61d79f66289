//! Section headers and their contents, decompressed on first use.
//!
//! What is decompressed goes into the cache if there is one, and is mapped from there: so it takes memory only as it is
//! read, and the next run has it at once.

use super::ElfFile;
use crate::cache::Kept;
use crate::map::FileBytes;
use crate::{BuildId, Error};
use evidence::{Svma, ToU64, ToUsize};
use object::elf;
use object::read::elf::{CompressionHeader, FileHeader, SectionHeader};
use object::{Endianness, ReadRef as _};
use std::io::{self, Read as _, Write as _};
use std::sync::OnceLock;

/// Larger sections do not stay in memory whole.
const LARGE: u64 = 8 << 20;

/// Bytes decompressed at a time.
const PIECE: usize = 1 << 18;

/// Bytes that one byte of a stream is reckoned to become at most: deflate's limit. Zstandard's is higher, for contents
/// that debug information is not.
const LARGEST_RATIO: u64 = 1032;

/// Largest section we decompress: twice the size of the largest `.debug_info` seen (Chromium's, 2.6 GB of DWARF in all).
pub const LIMIT_DECOMPRESSED: u64 = 4 << 30;

/// Debug sections that nothing here reads.
const UNUSED: [&str; 4] = ["debug_macro", "debug_macinfo", "debug_pub", "debug_gdb_scripts"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Zlib,
    Zstd,
}

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
        if self.is_nobits() {
            return Ok(None);
        }
        let bad =
            |expected, found| Error::Format { path: file.path().to_owned(), offset: self.file_offset, expected, found };
        let raw = file.bytes().read_bytes_at(self.file_offset, self.file_size).map_err(|()| {
            bad(
                "section contents inside the file",
                format!("section {} of {:#x} bytes in a file of {:#x}", self.name, self.file_size, file.size()),
            )
        })?;
        if self.compression == Compression::None {
            return Ok(Some(raw));
        }
        let stream = raw.get(self.compression_header.to_usize()..).unwrap_or_default();
        let result = self.decompressed.get_or_init(|| self.decompress(stream, file));
        match result {
            Ok(Unpacked::Memory(bytes)) => Ok(Some(bytes)),
            Ok(Unpacked::Kept(kept)) => Ok(Some(kept)),
            Ok(Unpacked::Temporary(bytes)) => Ok(Some(bytes)),
            Err(why) => Err(bad("a compressed section", format!("{}: {why}", self.name))),
        }
    }

    fn decompress(&self, stream: &[u8], file: &ElfFile) -> Result<Unpacked, String> {
        let size = self.uncompressed_size;
        if size > LIMIT_DECOMPRESSED {
            return Err(format!("claims {size} bytes, more than the limit of {LIMIT_DECOMPRESSED}"));
        }
        if let Some((cache, subject)) = file.cache().filter(|(cache, _)| size >= cache.smallest) {
            let what = self.name.trim_start_matches('.');
            let kept = cache.load_large(subject, what).filter(|kept| kept.len().to_u64() == size);
            let write = |out: &mut dyn io::Write| self.unpack(stream, |piece| out.write_all(piece));
            // A cache that cannot be written, and a damaged stream, are both found out by doing without.
            if let Some(kept) = kept.or_else(|| cache.fill(subject, what, size, write).ok()) {
                file.release(stream);
                return Ok(Unpacked::Kept(kept));
            }
        }
        if size >= LARGE
            && let Some(bytes) = self.temporary(stream)
        {
            file.release(stream);
            return Ok(Unpacked::Temporary(bytes));
        }
        // Growing would copy everything several times; what a stream of this length can hold at most is known.
        let most = stream.len().to_u64().saturating_mul(LARGEST_RATIO);
        let mut bytes = Vec::with_capacity(size.min(most).to_usize());
        self.unpack(stream, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        if bytes.len().to_u64() != size {
            return Err(format!("promised {size} bytes, gave {}", bytes.len()));
        }
        file.release(stream);
        Ok(Unpacked::Memory(bytes.into()))
    }

    /// Unpacks into a file without a name, so that no more of it is in memory than is looked at. A place that cannot be
    /// written, and a damaged stream, are both found out by doing without.
    fn temporary(&self, stream: &[u8]) -> Option<FileBytes> {
        let mut file = tempfile::tempfile().ok()?;
        let mut count = 0_u64;
        let write = |piece: &[u8]| {
            count = count.saturating_add(piece.len().to_u64());
            file.write_all(piece)
        };
        self.unpack(stream, write).ok()?;
        if count == self.uncompressed_size { FileBytes::map(&file).ok() } else { None }
    }

    /// Hands over what the stream holds, in pieces large enough for decoders to write into them directly.
    fn unpack(&self, stream: &[u8], mut with: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut stream, mut buffer) = (self.unpacked(stream)?, vec![0; PIECE]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => with(buffer.get(..count).unwrap_or_default())?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What the stream holds: one byte more than promised at most, to notice streams that hold more.
    fn unpacked<'s>(&self, stream: &'s [u8]) -> io::Result<Box<dyn io::Read + 's>> {
        let most = self.uncompressed_size.saturating_add(1);
        Ok(match self.compression {
            Compression::Zlib => Box::new(flate2::read::ZlibDecoder::new(stream).take(most)),
            _ => Box::new(zstd::stream::read::Decoder::new(stream)?.take(most)),
        })
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
