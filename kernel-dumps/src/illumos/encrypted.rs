//! Dumps encrypted on their device (dumpadm -k): ChaCha20 with a 64-bit counter and a 64-bit nonce.
//!
//! The kernel encrypts the device offsets and lays the result over the data (uts/common/os/dumpsubr.c): a 64-bit word
//! at offset `o` is `plain ^ o ^ keystream(o)`, the keystream's byte position being the device offset itself. Headers
//! and the last 64 KiB stay in clear.

use super::dumphdr::{Crypt, DUMP_OFFSET};
use crate::source::ReadAt;
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use evidence::{ToU64, ToUsize};
use std::io;
use std::ops::Range;

/// `DUMP_CRYPT_ALGO_CHACHA20`.
const CHACHA20: u8 = 1;
/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// The key of an encrypted dump: the contents of the file given to `dumpadm -k`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key([u8; KEY_LENGTH]);

impl Key {
    /// From the contents of a key file.
    ///
    /// # Errors
    /// The number of bytes it has instead of 32.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, usize> {
        bytes.try_into().map(Self).map_err(|_| bytes.len())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Whether `key` is the one `crypt` was made with; `utsname` is the header's, the first 64 bytes of it are used.
pub(super) fn fits(key: &Key, crypt: &Crypt, utsname: &[u8]) -> Result<bool, String> {
    if crypt.algorithm != CHACHA20 {
        return Err(format!("an illumos kernel dump encrypted by algorithm {}", crypt.algorithm));
    }
    let Some(mut check) = utsname.get(..64).map(<[u8]>::to_vec) else { return Ok(false) };
    cipher(key, crypt).apply_keystream(&mut check);
    Ok(check == crypt.check)
}

fn cipher(key: &Key, crypt: &Crypt) -> ChaCha20Legacy {
    ChaCha20Legacy::new(&key.0.into(), &crypt.nonce.into())
}

/// A device whose bytes are decrypted as they are read.
pub(super) struct Decrypted {
    inner: Box<dyn ReadAt>,
    key: Key,
    crypt: Crypt,
    secret: Range<u64>,
}

impl Decrypted {
    /// `start` is where the first header stands.
    pub(super) fn new(inner: Box<dyn ReadAt>, key: Key, crypt: Crypt, start: u64, page_size: u64) -> Self {
        let end = inner.size().saturating_sub(DUMP_OFFSET) & !(DUMP_OFFSET.saturating_sub(1));
        Self { inner, key, crypt, secret: start.saturating_add(page_size)..end }
    }
}

/// Takes the offset of each word off `part`, which begins at `start` on the device.
fn mix_offsets(start: u64, part: &mut [u8]) {
    fn by_byte(start: u64, part: &mut [u8]) {
        for (at, byte) in (start..).zip(part) {
            let word = (at & !7).to_le_bytes();
            *byte ^= word.get((at & 7).to_usize()).copied().unwrap_or(0);
        }
    }
    let aligned = start.next_multiple_of(8);
    let before = aligned.saturating_sub(start).to_usize().min(part.len());
    let (head, rest) = part.split_at_mut(before);
    by_byte(start, head);
    let (words, tail) = rest.as_chunks_mut::<8>();
    let mut at = aligned;
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ at).to_le_bytes();
        at = at.wrapping_add(8);
    }
    by_byte(at, tail);
}

impl ReadAt for Decrypted {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read_at(offset, into)?;
        let end = offset.saturating_add(got.to_u64()).min(self.secret.end);
        let start = offset.max(self.secret.start);
        let (from, to) = (start.saturating_sub(offset).to_usize(), end.saturating_sub(offset).to_usize());
        let Some(part) = into.get_mut(from..to).filter(|_| start < end) else { return Ok(got) };
        let mut cipher = cipher(&self.key, &self.crypt);
        cipher.try_seek(start).map_err(io::Error::other)?;
        cipher.try_apply_keystream(part).map_err(io::Error::other)?;
        mix_offsets(start, part);
        Ok(got)
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_device_wherever_a_read_begins() {
        for (start, length) in (0..9).flat_map(|s| (0..40).map(move |l| (s, l))) {
            let mut part = vec![0_u8; length];
            mix_offsets(0x1234_5678_9abc_de00 + start, &mut part);
            for (n, byte) in part.iter().enumerate() {
                let at = 0x1234_5678_9abc_de00 + start + n as u64;
                assert_eq!(*byte, ((at & !7) >> (8 * (at & 7))) as u8, "{start} {length} {n}");
            }
        }
    }
}
