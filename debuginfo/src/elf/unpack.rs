//! Decompression of sections: step by step, or at once into memory, which is half as fast again for zlib's streams.

use std::io;

/// What a section was compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Zlib,
    Zstd,
}

/// Most steps in a row that neither read nor write: decoders need one now and then, none needs more.
const LIMIT_IDLE_STEPS: u8 = 8;

/// Decompresses a whole stream of zlib's into `out`, which must be as long as what the stream holds.
///
/// # Errors
/// The stream is damaged, or holds something of another length.
pub(super) fn whole_zlib(stream: &[u8], out: &mut [u8]) -> Result<(), String> {
    let size = out.len();
    match libdeflater::Decompressor::new().zlib_decompress(stream, out) {
        Ok(count) if count == size => Ok(()),
        Ok(count) => Err(format!("promised {size} bytes, gave {count}")),
        Err(libdeflater::DecompressionError::InsufficientSpace) => {
            Err(format!("holds more than the {size} bytes promised"))
        }
        Err(libdeflater::DecompressionError::BadData) => {
            Err("the compressed stream is damaged, or ends too early".to_owned())
        }
    }
}

enum Decoder {
    Zlib(flate2::Decompress),
    Zstd(zstd::stream::raw::Decoder<'static>),
}

/// A compressed stream that is being read. It does not hold the stream itself, so that it can be kept beside it.
pub(super) struct Unpacker {
    decoder: Decoder,
    /// Bytes of the stream that were read.
    read: usize,
    ended: bool,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("read", &self.read).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Unpacker {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        let decoder = match compression {
            Compression::Zlib => Decoder::Zlib(flate2::Decompress::new(true)),
            _ => Decoder::Zstd(zstd::stream::raw::Decoder::new()?),
        };
        Ok(Self { decoder, read: 0, ended: false })
    }

    /// Bytes of the stream that were read.
    pub(super) const fn read(&self) -> usize {
        self.read
    }

    /// Fills `out` as far as the stream goes, and says how far; less than `out` only at the stream's end. The stream
    /// must be the same each time.
    ///
    /// # Errors
    /// The stream is damaged, or ends too early.
    pub(super) fn fill(&mut self, stream: &[u8], out: &mut [u8]) -> io::Result<usize> {
        let (mut written, mut idle) = (0_usize, 0_u8);
        while !self.ended {
            let Some(room) = out.get_mut(written..).filter(|room| !room.is_empty()) else { break };
            let rest = stream.get(self.read..).unwrap_or_default();
            let (took, gave, ended) = self.step(rest, room)?;
            self.read = self.read.saturating_add(took);
            written = written.saturating_add(gave);
            self.ended = ended;
            idle = if took == 0 && gave == 0 { idle.saturating_add(1) } else { 0 };
            if idle >= LIMIT_IDLE_STEPS || (idle > 0 && rest.is_empty() && !ended) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed stream ends too early"));
            }
        }
        Ok(written)
    }

    /// One call of the decoder: bytes read, bytes written, and whether that was all.
    fn step(&mut self, stream: &[u8], out: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        match &mut self.decoder {
            Decoder::Zlib(decoder) => {
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(stream, out, flate2::FlushDecompress::None)?;
                let count = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
                let (took, gave) = (count(decoder.total_in(), before.0), count(decoder.total_out(), before.1));
                Ok((took, gave, status == flate2::Status::StreamEnd))
            }
            Decoder::Zstd(decoder) => {
                use zstd::stream::raw::Operation as _;
                let status = decoder.run_on_buffers(stream, out)?;
                // A frame's end is the stream's end unless another frame follows.
                let ended = status.remaining == 0 && status.bytes_read == stream.len();
                Ok((status.bytes_read, status.bytes_written, ended))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn data() -> Vec<u8> {
        (0..300_000_u32).flat_map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()).collect()
    }

    fn packed(how: Compression, data: &[u8]) -> Vec<u8> {
        if how == Compression::Zlib {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(data).unwrap();
            out.finish().unwrap()
        } else {
            // Two frames.
            let (first, second) = data.split_at(data.len() / 3);
            [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat()
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_whole() {
        let data = data();
        for how in [Compression::Zlib, Compression::Zstd] {
            let stream = packed(how, &data);
            for size in [1_usize, 4099, 1 << 18, data.len(), data.len() + 1] {
                if size == 1 && how == Compression::Zlib {
                    continue;
                }
                let (mut unpacker, mut found, mut piece) = (Unpacker::new(how).unwrap(), Vec::new(), vec![0; size]);
                loop {
                    let count = unpacker.fill(&stream, &mut piece).unwrap();
                    found.extend_from_slice(&piece[..count]);
                    if count < size {
                        break;
                    }
                }
                assert!(found == data, "{how:?} in pieces of {size}");
                assert_eq!(unpacker.read(), stream.len());
            }
        }
    }

    #[test]
    fn the_whole_at_once_is_the_same_and_of_no_other_length() {
        let data = data();
        let stream = packed(Compression::Zlib, &data);
        let mut out = vec![0; data.len()];
        whole_zlib(&stream, &mut out).unwrap();
        assert!(out == data);
        assert!(whole_zlib(&stream, &mut out[1..]).unwrap_err().contains("more than"));
        assert!(whole_zlib(&stream, &mut vec![0; data.len() + 1]).unwrap_err().contains("gave"));
        assert!(whole_zlib(&stream[..stream.len() - 5], &mut out).unwrap_err().contains("damaged"));
        assert!(whole_zlib(&[], &mut out).is_err());
        let mut flipped = stream;
        *flipped.last_mut().unwrap() ^= 1;
        assert!(whole_zlib(&flipped, &mut out).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_stream_that_is_cut_gives_its_beginning_and_then_an_error() {
        let data = data();
        for how in [Compression::Zlib, Compression::Zstd] {
            let stream = packed(how, &data);
            for cut in [0, 1, 100, stream.len() / 2, stream.len() - 1] {
                let (mut unpacker, mut found, mut piece) = (Unpacker::new(how).unwrap(), Vec::new(), vec![0; 10_007]);
                let error = loop {
                    match unpacker.fill(&stream[..cut], &mut piece) {
                        Ok(count) => found.extend_from_slice(&piece[..count]),
                        Err(error) => break error,
                    }
                    assert!(found.len() <= data.len());
                };
                assert!(!error.to_string().is_empty());
                assert!(data.starts_with(&found), "{how:?} cut at {cut}");
            }
        }
    }
}
