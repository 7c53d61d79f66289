//! The RSA private key that opens the key of an encrypted dump.

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey};
use std::path::Path;

/// Largest file that is taken for a key: one of 16384 bits has 13 KiB.
const LIMIT_FILE: u64 = 1 << 20;

/// `KERNELDUMP_KEY_MAX_SIZE`: bytes of the key of a dump.
const KEY: usize = 64;

/// Decrypts `encrypted` with the private key in the file at `path` (PEM or DER, PKCS #1 or PKCS #8).
///
/// # Errors
/// In words, what is wrong with the file or that it is another key.
pub(super) fn decrypt(path: &Path, encrypted: &[u8]) -> Result<Vec<u8>, String> {
    let name = path.display();
    let size = path.metadata().map_err(|e| format!("{name}: {e}"))?.len();
    if size > LIMIT_FILE {
        return Err(format!("{name}: {size} bytes are more than any key has"));
    }
    let bytes = std::fs::read(path).map_err(|e| format!("{name}: {e}"))?;
    let key = parse(&bytes).ok_or_else(|| {
        format!("{name}: is no RSA private key (PEM or DER, PKCS #1 or PKCS #8; keys with a passphrase are not read)")
    })?;
    if key.size() != encrypted.len() {
        return Err(format!(
            "{name}: is a key of {} bits, and the dump was encrypted for one of {}",
            key.size().saturating_mul(8),
            encrypted.len().saturating_mul(8)
        ));
    }
    let oaep = key.decrypt(Oaep::<sha1::Sha1>::new(), encrypted);
    // Before FreeBSD 13 dumps were encrypted in the older way. What another key opens of it is no error but noise, of
    // any length.
    let opened = oaep.or_else(|_| key.decrypt(Pkcs1v15Encrypt, encrypted)).ok();
    opened.filter(|k| k.len() == KEY).ok_or_else(|| format!("{name}: is not the private key for this dump"))
}

fn parse(bytes: &[u8]) -> Option<RsaPrivateKey> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.contains("-----BEGIN")
    {
        return RsaPrivateKey::from_pkcs8_pem(text).ok().or_else(|| RsaPrivateKey::from_pkcs1_pem(text).ok());
    }
    RsaPrivateKey::from_pkcs8_der(bytes).ok().or_else(|| RsaPrivateKey::from_pkcs1_der(bytes).ok())
}
