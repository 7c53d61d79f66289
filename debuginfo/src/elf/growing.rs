//! A large section that is decompressed from its beginning, as far as somebody needs it.
//!
//! Streams of debug packages can only be read from their start, and the units that a backtrace needs lie anywhere: what
//! lies behind the last of them is never decompressed, and who works on the first of them does not wait for the last.

use super::unpack::{Compression, Unpacker};
use crate::map::FileBytes;
use evidence::{ToU64 as _, ToUsize as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes decompressed at a time, and how much further than asked for.
const PIECE: usize = 1 << 18;

/// Bytes of the stream whose memory is let go together.
const PASSED: usize = 4 << 20;

/// Contents in a file without a name, which goes when it is closed.
///
/// The file grows under a mapping that is as long as the contents will be: filling a file that has its length already
/// takes ext4 twice as long. Nobody may look at a byte before [`Growing::reach`] said that it is there.
#[derive(Debug)]
pub(super) struct Growing {
    bytes: FileBytes,
    /// Bytes that are there.
    reached: AtomicU64,
    work: Mutex<Work>,
}

#[derive(Debug)]
struct Work {
    file: File,
    unpacker: Unpacker,
    buffer: Box<[u8]>,
    /// Bytes of the stream that were let go.
    passed: usize,
    failed: Option<String>,
}

impl Growing {
    /// `None` where there is no room for such a file.
    pub(super) fn new(compression: Compression, size: u64) -> Option<Self> {
        let file = tempfile::tempfile().ok()?;
        if !has_room(&file, size) {
            return None;
        }
        let bytes = FileBytes::map_up_to(&file, usize::try_from(size).ok()?).ok()?;
        let unpacker = Unpacker::new(compression).ok()?;
        let work = Work { file, unpacker, buffer: vec![0; PIECE].into(), passed: 0, failed: None };
        Some(Self { bytes, reached: AtomicU64::new(0), work: Mutex::new(work) })
    }

    /// All contents, of which only what was reached may be looked at.
    pub(super) fn bytes(&self) -> &FileBytes {
        &self.bytes
    }

    /// Bytes that are there.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Decompresses until `upto` bytes are there, all of them if it is more; `release` lets go of parts of `stream`.
    ///
    /// # Errors
    /// The stream is damaged or too short, or the file cannot be written: bytes reached before stay.
    pub(super) fn reach(&self, stream: &[u8], upto: u64, release: impl Fn(&[u8])) -> Result<(), String> {
        let size = self.bytes.len().to_u64();
        let upto = upto.min(size);
        while self.reached() < upto {
            // One piece under the lock: others who need less go on as soon as that is there.
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let reached = self.reached();
            if reached >= upto {
                break;
            }
            if let Some(why) = &work.failed {
                return Err(why.clone());
            }
            let count = work.step(stream, size.saturating_sub(reached));
            match count {
                Ok(count) => self.reached.store(reached.saturating_add(count), Ordering::Release),
                Err(why) => {
                    let why = format!("{why}, after {reached} of {size} bytes");
                    // What will never be there reads as zeros, should anybody look at it in spite of all.
                    let _ = work.file.set_len(size);
                    work.failed = Some(why.clone());
                    return Err(why);
                }
            }
            let read = work.unpacker.read();
            if read.saturating_sub(work.passed) >= PASSED || reached == size {
                release(stream.get(work.passed..read).unwrap_or_default());
                work.passed = read;
            }
        }
        Ok(())
    }
}

impl Work {
    /// One more piece, of at most `missing` bytes.
    fn step(&mut self, stream: &[u8], missing: u64) -> Result<u64, String> {
        let length = self.buffer.len().min(missing.to_usize());
        let last = length.to_u64() == missing;
        let piece = self.buffer.get_mut(..length).unwrap_or_default();
        let count = self.unpacker.fill(stream, piece).map_err(|e| e.to_string())?;
        if count < length {
            return Err(format!("the stream ends {} bytes too early", missing.saturating_sub(count.to_u64())));
        }
        // What follows the last byte is a checksum, which decoders look at when they find the end.
        if last && self.unpacker.fill(stream, &mut [0]).map_err(|e| e.to_string())? != 0 {
            return Err("the stream holds more than it promises".to_owned());
        }
        self.file.write_all(piece).map_err(|e| {
            format!("no room for {missing} more bytes in {} ({e}): set TMPDIR to a folder with room", temporary())
        })?;
        Ok(count.to_u64())
    }
}

fn temporary() -> String {
    std::env::temp_dir().display().to_string()
}

/// Whether the file system of `file` has room for `size` bytes; where that cannot be asked, the first write that fails
/// tells.
fn has_room(file: &File, size: u64) -> bool {
    #[cfg(target_os = "linux")]
    if let Ok(state) = nix::sys::statvfs::fstatvfs(file) {
        return state.blocks_available().saturating_mul(state.fragment_size()) > size;
    }
    let _ = (file, size);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const SIZE: usize = 5 * PIECE + 77;

    fn data() -> Vec<u8> {
        (0..SIZE).map(|n| (n / 5).to_le_bytes()[0] ^ (n >> 11).to_le_bytes()[0]).collect()
    }

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn no_more_is_unpacked_than_is_asked_for() {
        let (data, released) = (data(), AtomicUsize::new(0));
        let stream = packed(&data);
        let release = |part: &[u8]| {
            released.fetch_add(part.len(), Ordering::Relaxed);
        };
        let growing = Growing::new(Compression::Zlib, SIZE.to_u64()).unwrap();
        assert_eq!(growing.reached(), 0);
        growing.reach(&stream, 10, release).unwrap();
        assert_eq!(growing.reached(), PIECE.to_u64());
        growing.reach(&stream, PIECE.to_u64(), release).unwrap();
        assert_eq!(growing.reached(), PIECE.to_u64());
        assert!(growing.bytes()[..PIECE] == data[..PIECE]);
        growing.reach(&stream, PIECE.to_u64() + 1, release).unwrap();
        assert!(growing.bytes()[..2 * PIECE] == data[..2 * PIECE]);
        growing.reach(&stream, u64::MAX, release).unwrap();
        assert_eq!(growing.reached(), SIZE.to_u64());
        assert!(growing.bytes()[..] == data);
    }

    #[test]
    fn many_may_ask_at_once() {
        let data = data();
        let stream = packed(&data);
        let growing = Growing::new(Compression::Zlib, SIZE.to_u64()).unwrap();
        let places: Vec<usize> = (0..200).map(|n| n * 7919 % SIZE).collect();
        let right = crate::parallel::parallel(&places, |at| {
            growing.reach(&stream, at.to_u64() + 1, |_| {}).unwrap();
            growing.bytes()[..=*at] == data[..=*at]
        });
        assert!(right.into_iter().all(|right| right));
    }

    #[test]
    fn damage_ends_it_and_what_was_there_stays() {
        let data = data();
        let stream = packed(&data);
        let whole = SIZE.to_u64();
        let cut = &stream[..stream.len() * 2 / 3];
        let growing = Growing::new(Compression::Zlib, whole).unwrap();
        let why = growing.reach(cut, whole, |_| {}).unwrap_err();
        assert!(why.contains("too early") && why.contains(&format!("{} of {whole}", growing.reached())), "{why}");
        let there = growing.reached();
        assert!(there > 0 && there < whole);
        growing.reach(cut, there, |_| {}).unwrap();
        assert_eq!(growing.reach(cut, there + 1, |_| {}).unwrap_err(), why);
        assert!(growing.bytes()[..there.to_usize()] == data[..there.to_usize()]);
        // A promise of more, or of less, than the stream holds; and a wrong checksum.
        for wrong in [whole + 1, whole - 1, whole - PIECE.to_u64()] {
            let growing = Growing::new(Compression::Zlib, wrong).unwrap();
            assert!(growing.reach(&stream, wrong, |_| {}).is_err(), "{wrong}");
        }
        let mut flipped = stream.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let growing = Growing::new(Compression::Zlib, whole).unwrap();
        assert!(growing.reach(&flipped, whole, |_| {}).is_err());
        assert!(growing.reached() >= whole - PIECE.to_u64());
    }
}
