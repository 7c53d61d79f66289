//! Opening of inputs: what a file is by its first bytes, and compressed or streamed ones made seekable.
//!
//! A compressed file, or standard input, is written once into a temporary file that has no name any more (in `TMPDIR`,
//! or the system's place for such files); runs of zeros become holes, so a sparse core stays sparse.

mod spool;

use crate::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What the first bytes of a file say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the formats' names")]
pub enum Kind {
    Elf,
    Kdump,
    FlattenedDump,
    Minidump,
    IllumosDump,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    Lz4,
    /// A script, a text, an archive: nothing this project reads.
    Unknown,
}

impl Kind {
    /// Looks at the first bytes; eight are enough.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        const MAGICS: [(&[u8], Kind); 11] = [
            (b"\x7fELF", Kind::Elf),
            (b"KDUMP   ", Kind::Kdump),
            (b"DISKDUMP", Kind::Kdump),
            (b"makedump", Kind::FlattenedDump),
            (b"MDMP", Kind::Minidump),
            (b"\xed\xc8\xfe\xde", Kind::IllumosDump),
            (b"\x1f\x8b", Kind::Gzip),
            (b"\x28\xb5\x2f\xfd", Kind::Zstd),
            (b"\xfd7zXZ\0", Kind::Xz),
            (b"BZh", Kind::Bzip2),
            (b"\x04\x22\x4d\x18", Kind::Lz4),
        ];
        MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map_or(Self::Unknown, |(_, kind)| *kind)
    }

    /// Whether the bytes are to be decompressed first.
    #[must_use]
    pub const fn is_compression(self) -> bool {
        matches!(self, Self::Gzip | Self::Zstd | Self::Xz | Self::Bzip2 | Self::Lz4)
    }
}

/// A seekable file, and what is known of how it became one.
#[derive(Debug)]
pub struct Input {
    name: PathBuf,
    file: File,
    size: u64,
    /// The compressed stream or the pipe ended badly: everything before is there.
    pub cut_off: Option<String>,
}

impl Input {
    /// Opens a file; compressed ones are decompressed into a temporary file.
    ///
    /// # Errors
    /// It cannot be read, is a directory, or the temporary file cannot be written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io(path, "read", source);
        let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let meta = file.metadata().map_err(io)?;
        if meta.is_dir() {
            return Err(Error::io(path, "read", io::ErrorKind::IsADirectory.into()));
        }
        if !meta.is_file() && !std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()) {
            return Self::from_stream(file, path);
        }
        let mut head = [0; 16];
        let got = fill(&mut file, &mut head).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let kind = Kind::of(head.get(..got).unwrap_or_default());
        if kind.is_compression() {
            let (file, cut_off) = spool::decompress(kind, file, path)?;
            return Self::spooled(path, file, cut_off);
        }
        // The length of a block device is where its end is.
        let size = file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { name: path.to_owned(), file, size, cut_off: None })
    }

    /// Reads a stream to its end into a temporary file; `name` is for messages.
    ///
    /// # Errors
    /// Nothing could be read, or the temporary file cannot be written.
    pub fn from_stream(mut stream: impl Read, name: &Path) -> Result<Self, Error> {
        let mut head = [0; 16];
        let got = fill(&mut stream, &mut head).map_err(|e| Error::io(name, "read", e))?;
        let head = head.get(..got).unwrap_or_default();
        let whole = head.chain(stream);
        let kind = Kind::of(head);
        let (file, cut_off) =
            if kind.is_compression() { spool::decompress(kind, whole, name)? } else { spool::store(whole, name)? };
        Self::spooled(name, file, cut_off)
    }

    fn spooled(name: &Path, mut file: File, cut_off: Option<String>) -> Result<Self, Error> {
        let size = file.seek(SeekFrom::End(0)).map_err(|e| Error::io(name, "measure the temporary copy of", e))?;
        Ok(Self { name: name.to_owned(), file, size, cut_off })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes from start to end.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kind(&self) -> Result<Kind, Error> {
        let mut head = [0; 16];
        let got = self.read_at(0, &mut head).map_err(|e| Error::io(&self.name, "read", e))?;
        Ok(Kind::of(head.get(..got).unwrap_or_default()))
    }

    /// Reads at `offset` until `into` is full or the file ends.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(evidence::ToU64::to_u64(done))) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Exactly `length` bytes at `offset`, or `None` when the file ends before; nothing is allocated for more than
    /// the file has.
    #[must_use]
    pub fn exact(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        if offset.checked_add(evidence::ToU64::to_u64(length))? > self.size {
            return None;
        }
        let mut bytes = vec![0; length];
        (self.read_at(offset, &mut bytes).ok()? == length).then_some(bytes)
    }
}

/// Reads until `into` is full or the stream ends.
fn fill(stream: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0_usize;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(n) => done = done.saturating_add(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn every_compression_gives_the_same_bytes() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).unwrap();
        let forms = [
            plain.clone(),
            gzip.finish().unwrap(),
            zstd::encode_all(&*plain, 1).unwrap(),
            xz.finish().unwrap(),
            bzip2.finish().unwrap(),
            lz4.finish().unwrap(),
        ];
        for (n, form) in forms.iter().enumerate() {
            let input = Input::from_stream(&**form, Path::new("-")).unwrap();
            assert_eq!(input.size(), 800_000, "form {n}");
            assert_eq!(input.exact(0, 800_000).unwrap(), plain, "form {n}");
            assert_eq!(input.cut_off, None, "form {n}");
            if n > 0 {
                let half = Input::from_stream(&form[..form.len() / 2], Path::new("-")).unwrap();
                // The lz4 decoder reports a frame without its end mark as a plain end.
                assert!(half.cut_off.is_some() || n == 5, "form {n}");
                let size = usize::try_from(half.size()).unwrap();
                assert_eq!(half.exact(0, size).unwrap(), plain[..size], "form {n}");
            }
        }
    }

    #[test]
    fn zeros_become_holes() {
        use std::os::unix::fs::MetadataExt as _;
        let stream = b"head".chain(io::repeat(0).take(64 << 20)).chain(&b"tail"[..]);
        let input = Input::from_stream(stream, Path::new("-")).unwrap();
        assert_eq!(input.size(), (64 << 20) + 8);
        assert!(input.file.metadata().unwrap().blocks() * 512 < 4 << 20);
        assert_eq!(input.exact((64 << 20) + 4, 4).unwrap(), b"tail");
        assert_eq!(input.exact(input.size() - 1, 2), None);
    }
}
