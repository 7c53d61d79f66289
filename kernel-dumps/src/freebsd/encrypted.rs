//! Encrypted dumps: with the private key they are read in place, without it they say what they need.
//!
//! Source: `struct kerneldumpkey` in `sys/sys/kerneldump.h`, `sys/kern/kern_shutdown.c` (`kerneldump_crypto_create`,
//! `kerneldump_encrypt`), `sbin/decryptcore`. The key of 64 random bytes is encrypted with RSA (OAEP; before 13: PKCS #1
//! v1.5). AES-256-CBC takes 32 of them and carries its vector on over all of the dump; ChaCha20 takes 32 of them, a
//! 64-bit nonce (the first 8 bytes of the vector) and a 64-bit block counter from 0. Both can be entered anywhere.

use super::rsa_key;
use crate::source::ReadAt;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _};
use evidence::bytes::{Endian, slice_at, u8_at, u32_at};
use evidence::{ToU64, ToUsize};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The cipher of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256 in cipher block chaining mode.
    Aes256Cbc,
    /// ChaCha20.
    ChaCha20,
}

impl Cipher {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Cbc => "AES-256-CBC",
            Self::ChaCha20 => "ChaCha20",
        }
    }
}

/// What lies before an encrypted dump, or in its `key.N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The cipher.
    pub cipher: Cipher,
    /// The initialisation vector.
    pub vector: [u8; 32],
    /// The key, encrypted with RSA.
    pub encrypted: Vec<u8>,
}

/// Where the encrypted key starts: one byte of cipher, the vector, a big-endian length.
const ENCRYPTED: usize = 37;
/// Largest RSA modulus, bytes: 16384 bits.
const LIMIT_MODULUS: usize = 2048;

impl KeyRecord {
    /// A record; `None` when it is none.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let cipher = match u8_at(raw, 0)? {
            1 => Cipher::Aes256Cbc,
            2 => Cipher::ChaCha20,
            _ => return None,
        };
        let vector = <[u8; 32]>::try_from(slice_at(raw, 1, 32)?).ok()?;
        let size = u32_at(raw, 33, Endian::Big)?.to_usize();
        // No RSA key has fewer than 512 bits.
        if !(64..=LIMIT_MODULUS).contains(&size) {
            return None;
        }
        Some(Self { cipher, vector, encrypted: slice_at(raw, ENCRYPTED, size)?.to_vec() })
    }

    /// The decrypted bytes of `source`.
    ///
    /// # Errors
    /// Why the private key in the file at `private` does not open it.
    pub(super) fn open(&self, source: Arc<dyn ReadAt>, private: &Path) -> Result<Arc<dyn ReadAt>, String> {
        let key = rsa_key::decrypt(private, &self.encrypted)?;
        let key = key.get(..32).and_then(|k| <[u8; 32]>::try_from(k).ok());
        let key = key.ok_or("the decrypted key has fewer than 32 bytes")?;
        Ok(Arc::new(Decrypted { source, cipher: self.cipher, key, vector: self.vector }))
    }
}

/// A source as it was before it was encrypted.
struct Decrypted {
    source: Arc<dyn ReadAt>,
    cipher: Cipher,
    key: [u8; 32],
    vector: [u8; 32],
}

const AES_BLOCK: u64 = 16;

impl Decrypted {
    fn chacha(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        let nonce = <[u8; 8]>::try_from(self.vector.get(..8)?).ok()?;
        let mut cipher = chacha20::ChaCha20Legacy::new(&self.key.into(), &nonce.into());
        cipher.try_seek(offset).ok()?;
        cipher.try_apply_keystream(bytes).ok()
    }

    /// Decrypts whole blocks; `before` is the encrypted block before them, or the vector.
    fn aes(&self, before: [u8; 16], blocks: &mut [u8]) -> Option<()> {
        use cbc::cipher::block_padding::NoPadding;
        use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
        let cipher = cbc::Decryptor::<aes::Aes256>::new(&self.key.into(), &before.into());
        cipher.decrypt_padded::<NoPadding>(blocks).ok().map(|_| ())
    }
}

impl ReadAt for Decrypted {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the cipher refuses this position");
        if self.cipher == Cipher::ChaCha20 {
            let got = self.source.read_at(offset, into)?;
            let part = into.get_mut(..got).ok_or_else(wrong)?;
            self.chacha(offset, part).ok_or_else(wrong)?;
            return Ok(got);
        }
        // Whole blocks around what was asked for, and the block before them.
        let skip = offset & AES_BLOCK.wrapping_sub(1);
        let first = offset.wrapping_sub(skip);
        let length = skip.saturating_add(into.len().to_u64()).next_multiple_of(AES_BLOCK);
        let length = length.min(self.source.size().saturating_sub(first) & !(AES_BLOCK.wrapping_sub(1)));
        let mut before = <[u8; 16]>::try_from(self.vector.get(..16).unwrap_or_default()).map_err(|_| wrong())?;
        if let Some(previous) = first.checked_sub(AES_BLOCK)
            && self.source.read_at(previous, &mut before)? < 16
        {
            return Ok(0);
        }
        let mut blocks = vec![0; length.to_usize()];
        let got = self.source.read_at(first, &mut blocks)?.to_u64() & !(AES_BLOCK.wrapping_sub(1));
        blocks.truncate(got.to_usize());
        self.aes(before, &mut blocks).ok_or_else(wrong)?;
        let plain = blocks.get(skip.to_usize()..).unwrap_or_default();
        let n = plain.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), plain.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn size(&self) -> u64 {
        self.source.size()
    }
}
