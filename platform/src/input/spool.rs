//! Writing a stream into a sparse temporary file without a name.

use super::Kind;
use crate::Error;
use evidence::ToU64;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes moved at a time.
const PIECE: usize = 1 << 20;
/// Zeros are left out in units of this size: the block size of most file systems.
const BLOCK: usize = 4096;
/// Longest stream stored. Sparse cores of 500 GB exist; 64 TiB is a compression bomb.
const LIMIT_STREAM: u64 = 64 << 40;

/// Decompresses `stream` into a temporary file. The text says why the stream ended early, if it did.
pub(super) fn decompress(kind: Kind, stream: impl Read, name: &Path) -> Result<(File, Option<String>), Error> {
    let io = |source| Error::io(name, "decompress", source);
    match kind {
        Kind::Gzip => store(flate2::read::MultiGzDecoder::new(io::BufReader::new(stream)), name),
        Kind::Zstd => store(zstd::stream::read::Decoder::new(stream).map_err(io)?, name),
        Kind::Xz => store(liblzma::read::XzDecoder::new_multi_decoder(stream), name),
        Kind::Bzip2 => store(bzip2::read::MultiBzDecoder::new(stream), name),
        Kind::Lz4 => store(lz4_flex::frame::FrameDecoder::new(stream), name),
        _ => store(stream, name),
    }
}

/// Writes `stream` into a temporary file.
pub(super) fn store(mut stream: impl Read, name: &Path) -> Result<(File, Option<String>), Error> {
    let io = |source| Error::io(name, "write a temporary copy (TMPDIR chooses where) of", source);
    let mut file = tempfile::tempfile().map_err(io)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0_u64;
    let mut cut_off = None;
    loop {
        let (got, error) = read_piece(&mut stream, &mut buffer);
        let piece = buffer.get(..got).unwrap_or_default();
        for (n, block) in piece.chunks(BLOCK).enumerate() {
            if block.iter().any(|b| *b != 0) {
                file.write_all_at(block, at.saturating_add(n.saturating_mul(BLOCK).to_u64())).map_err(io)?;
            }
        }
        at = at.saturating_add(got.to_u64());
        if let Some(e) = error {
            cut_off = Some(format!("the stream ends badly after {at} bytes: {e}"));
            break;
        }
        if got < buffer.len() {
            break;
        }
        if at > LIMIT_STREAM {
            cut_off = Some(format!("the stream is longer than {LIMIT_STREAM} bytes"));
            break;
        }
    }
    file.set_len(at).map_err(io)?;
    file.flush().map_err(io)?;
    Ok((file, cut_off))
}

/// Reads until `into` is full, the stream ends, or it fails; what was read before a failure counts.
fn read_piece(stream: &mut impl Read, into: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut done = 0_usize;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(n) => done = done.saturating_add(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (done, Some(e)),
        }
    }
    (done, None)
}
