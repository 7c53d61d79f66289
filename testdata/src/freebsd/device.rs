//! A dump on its device: records of all versions, the key, the dump.

/// The fields of a record.
#[derive(Clone, Debug)]
pub struct Record {
    /// The magic string.
    pub magic: &'static str,
    /// `amd64`, ...
    pub architecture: &'static str,
    /// 1 to 4.
    pub version: u32,
    /// Bytes of the dump.
    pub length: u64,
    /// Bytes set aside for it (versions 3 and 4).
    pub extent: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// Bytes of the key (version 2 and later).
    pub key_size: u32,
    /// Bytes of a sector.
    pub block_size: u32,
    /// 0 none, 1 gzip, 2 Zstandard (version 3 and later).
    pub compression: u8,
    /// The host's name.
    pub host: &'static str,
    /// The kernel's version string.
    pub version_string: &'static str,
    /// The panic message.
    pub panic: &'static str,
}

impl Record {
    /// A record of version 4 for `length` bytes of an amd64 kernel that panicked.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self {
            magic: "FreeBSD Kernel Dump",
            architecture: "amd64",
            version: 4,
            length: length as u64,
            extent: length as u64,
            time: 1_700_000_000,
            key_size: 0,
            block_size: 512,
            compression: 0,
            host: "db1.example.org",
            version_string: "FreeBSD 14.1-RELEASE releng/14.1-n267679 GENERIC\n",
            panic: "page fault",
        }
    }

    /// The record's bytes, with the right parity.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let text = |out: &mut Vec<u8>, text: &str, length: usize| {
            let end = out.len() + length;
            out.extend(&text.as_bytes()[..text.len().min(length - 1)]);
            out.resize(end, 0);
        };
        text(&mut out, self.magic, 20);
        text(&mut out, self.architecture, 12);
        out.extend(self.version.to_be_bytes());
        out.extend(2_u32.to_be_bytes());
        out.extend(self.length.to_be_bytes());
        if self.version == 3 {
            out.extend(self.extent.to_be_bytes());
        }
        out.extend(self.time.to_be_bytes());
        if self.version >= 2 {
            out.extend(self.key_size.to_be_bytes());
        }
        out.extend(self.block_size.to_be_bytes());
        if self.version == 3 {
            out.push(self.compression);
        }
        text(&mut out, self.host, 64);
        text(&mut out, self.version_string, 192);
        let panic = if self.version >= 4 { 495 } else { 508 } - out.len();
        text(&mut out, self.panic, panic);
        if self.version >= 4 {
            out.push(self.compression);
            out.extend(self.extent.to_be_bytes());
            out.extend([0; 4]);
        }
        let mut parity = [0_u8; 4];
        for (n, byte) in out.iter().enumerate() {
            parity[n % 4] ^= byte;
        }
        out.extend(parity);
        out
    }

    /// A device: 64 KiB and `before` bytes that are never used, record, key, the dump in its extent, record.
    #[must_use]
    pub fn device(&self, before: usize, key: &[u8], dump: &[u8]) -> Vec<u8> {
        let sector = self.block_size as usize;
        let mut record = self.write();
        record.resize(sector, 0);
        let mut out = vec![0xa5; 65_536 + before.next_multiple_of(sector)];
        out.extend(&record);
        out.extend(key);
        out.extend(dump);
        out.resize(out.len() + self.extent as usize - dump.len(), 0x5a);
        out.extend(&record);
        out
    }
}

/// The key's record: cipher 1 (AES-256-CBC) or 2 (ChaCha20), vector, encrypted key, padded to whole sectors.
#[must_use]
pub fn key_record(cipher: u8, vector: &[u8; 32], encrypted: &[u8], sector: usize) -> Vec<u8> {
    let mut out = vec![cipher];
    out.extend(vector);
    out.extend((encrypted.len() as u32).to_be_bytes());
    out.extend(encrypted);
    out.resize(out.len().next_multiple_of(sector), 0);
    out
}
