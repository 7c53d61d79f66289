//! The compressions that cores are stored in: recognised by their first bytes, undone by kept libraries.

use evidence::ToU64;
use std::io::{self, BufRead, Read};

/// A compression of whole files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the formats' names")]
pub enum Compression {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    /// The frame format of lz4, which `systemd-coredump` wrote before it changed to zstd.
    Lz4,
}

/// The largest window a zstd stream may ask for, as a power of two: 128 MiB, what `zstd` itself accepts without
/// `--long`. A larger one would let a small file claim gigabytes of memory.
const LIMIT_ZSTD_WINDOW_LOG: u32 = 27;
/// Memory that an xz stream may ask for: the strongest preset (`xz -9`) needs 65 MiB.
const LIMIT_XZ_MEMORY: u64 = 256 << 20;

impl Compression {
    /// The format that a file with these first bytes has (RFC 1952; RFC 8878 section 3.1.1; the .xz file format 1.2;
    /// bzip2's header and block magic; the LZ4 frame format 1.6).
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let bzip2_block = |at| head.get(at..).is_some_and(|b| b.starts_with(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]));
        let bzip2_end = |at| head.get(at..).is_some_and(|b| b.starts_with(&[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]));
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] if bzip2_block(4) || bzip2_end(4) => Some(Self::Bzip2),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Self::Lz4),
            _ => None,
        }
    }

    /// The name of the format and of the program that undoes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
        }
    }

    /// A reader of the unpacked bytes. Files that are several compressed files one after the other give them all.
    pub(super) fn reader<'r>(self, packed: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
            Self::Lz4 => Box::new(Lz4Frames { decoder: lz4_flex::frame::FrameDecoder::new(packed), ended: 0 }),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(LIMIT_ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(LIMIT_XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
        })
    }
}

/// The frames of an lz4 file: the library's reader ends with each.
struct Lz4Frames<R: Read> {
    decoder: lz4_flex::frame::FrameDecoder<R>,
    ended: u64,
}

/// Empty frames in a row before the file is taken to end: only an attack has more than a few.
const LIMIT_EMPTY_FRAMES: u64 = 1024;

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.ended < LIMIT_EMPTY_FRAMES {
            let got = self.decoder.read(into)?;
            if got > 0 {
                self.ended = 0;
                return Ok(got);
            }
            if into.is_empty() || self.decoder.get_mut().fill_buf()?.len().to_u64() == 0 {
                return Ok(0);
            }
            self.ended = self.ended.saturating_add(1);
        }
        Ok(0)
    }
}
