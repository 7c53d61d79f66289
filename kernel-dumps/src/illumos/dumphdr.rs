//! The headers of an illumos dump (uts/common/sys/dumphdr.h), for 64-bit little-endian machines.

use evidence::bytes::{Endian, c_str_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{ToU64, ToUsize};

const LE: Endian = Endian::Little;
/// `DUMP_MAGIC`.
pub(super) const MAGIC: u32 = 0xdefe_c8ed;
/// `DUMP_DATAHDR_MAGIC`.
const DATA_MAGIC: u32 = 0x6468_6472;
/// `DUMP_VERSION`, unchanged since 2010; older kernels wrote 9 and below.
const VERSION: u32 = 10;
/// Bytes of `dumphdr_t` on a 64-bit kernel.
pub(super) const HEADER: usize = 1912;
/// Bytes of `dump_crypt_t`, which follows the header when the dump is encrypted.
pub(super) const CRYPT: usize = 73;
/// Bytes of `dumpdatahdr_t`.
const DATA_HEADER: usize = 32;
/// `DUMP_OFFSET`: headers on devices stand at multiples of it.
pub(super) const DUMP_OFFSET: u64 = 65_536;

/// `DF_*`.
pub(super) mod flag {
    pub const VALID: u32 = 1;
    pub const COMPLETE: u32 = 2;
    pub const LIVE: u32 = 4;
    pub const COMPRESSED: u32 = 8;
    pub const ENCRYPTED: u32 = 0x10;
    pub const KERNEL: u32 = 0x1_0000;
    pub const ALL: u32 = 0x2_0000;
    pub const CURPROC: u32 = 0x4_0000;
}

/// `dumphdr_t`. Offsets are bytes from the start of the device or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpHeader {
    /// `DF_*` of sys/dumphdr.h.
    pub flags: u32,
    /// Where the first header stands; 0 in files that savecore wrote.
    pub start: u64,
    /// Where the symbol table lies.
    pub ksyms: u64,
    /// Where the table of page frame numbers lies.
    pub pfn: u64,
    /// Where the translations lie.
    pub map: u64,
    /// Where the pages lie.
    pub data: u64,
    /// System, node, release, version, machine.
    pub utsname: [String; 5],
    /// The platform's name.
    pub platform: String,
    /// The formatted panic message, at most 199 bytes of it.
    pub panic_string: String,
    /// Seconds since 1970.
    pub crash_time: u64,
    /// log2 of the page size.
    pub page_shift: u32,
    /// Bytes per page.
    pub page_size: u64,
    /// Buckets of a hashed map, less one.
    pub hashmask: u64,
    /// Number of translations.
    pub nvtop: u64,
    /// Number of dumped pages.
    pub npages: u64,
    /// Bytes of the symbol table.
    pub ksyms_size: u64,
    /// Bytes of it in the file.
    pub ksyms_csize: u64,
    /// The panic was initiated by fault management.
    pub fm_panic: u32,
    /// The OS image's UUID.
    pub uuid: String,
}

/// Why bytes are no header that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not `DUMP_MAGIC`: the word that stands there.
    Magic(u32),
    /// A dump, of a machine that is not read: what it is.
    Unsupported(String),
    /// A field that cannot be: its offset, its name, and its value.
    Field(u64, &'static str, u64),
    /// Fewer bytes than a header.
    Short(u64),
}

impl DumpHeader {
    /// Parses the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let short = || Refusal::Short(bytes.len().to_u64());
        let word = |at| u32_at(bytes, at, LE).ok_or_else(short);
        let long = |at| u64_at(bytes, at, LE).ok_or_else(short);
        let magic = word(0)?;
        if magic == MAGIC.swap_bytes() {
            return Err(Refusal::Unsupported("an illumos kernel dump of a big-endian machine (SPARC)".into()));
        }
        if magic != MAGIC {
            return Err(Refusal::Magic(magic));
        }
        let (version, wordsize) = (word(4)?, word(12)?);
        if wordsize == 32 {
            return Err(Refusal::Unsupported("an illumos kernel dump of a 32-bit kernel".into()));
        }
        if wordsize != 64 {
            return Err(Refusal::Field(12, "the word size 64", u64::from(wordsize)));
        }
        if version != VERSION {
            return Err(Refusal::Unsupported(format!("an illumos kernel dump of version {version} (10 is read)")));
        }
        if bytes.len() < HEADER {
            return Err(short());
        }
        let text = |at: usize, length| slice_at(bytes, at, length).and_then(|b| c_str_at(b, 0)).unwrap_or_default();
        let (page_shift, page_size) = (word(1808)?, long(1816)?);
        if !(12..=16).contains(&page_shift) || 1_u64.checked_shl(page_shift) != Some(page_size) {
            return Err(Refusal::Field(1808, "the page size as a power of two", page_size));
        }
        Ok(Self {
            flags: word(8)?,
            start: long(16)?,
            ksyms: long(24)?,
            pfn: long(32)?,
            map: long(40)?,
            data: long(48)?,
            utsname: [56, 313, 570, 827, 1084].map(|at| text(at, 257)),
            platform: text(1341, 257),
            panic_string: text(1598, 200),
            crash_time: long(1800)?,
            page_shift,
            page_size,
            hashmask: long(1824)?,
            nvtop: long(1832)?,
            npages: long(1840)?,
            ksyms_size: long(1848)?,
            ksyms_csize: long(1856)?,
            fm_panic: word(1864)?,
            uuid: text(1868, 37),
        })
    }

    /// Whether a `DF_*` bit is set.
    #[must_use]
    pub(super) const fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// Equal but for the bit that says "not yet saved".
    pub(super) fn same(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.flags = (other.flags & !flag::VALID) | (self.flags & flag::VALID);
        *self == other
    }

    /// The words for the flags, for people.
    pub(super) fn words(&self) -> String {
        let names = [
            (flag::VALID, "valid"),
            (flag::COMPLETE, "complete"),
            (flag::LIVE, "live"),
            (flag::COMPRESSED, "compressed"),
            (flag::ENCRYPTED, "encrypted"),
            (flag::KERNEL, "kernel"),
            (flag::ALL, "all"),
            (flag::CURPROC, "curproc"),
        ];
        let words: Vec<&str> = names.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, word)| *word).collect();
        words.join(" ")
    }

    /// The first field that points outside of a file of `size` bytes.
    pub(super) fn outside(&self, size: u64) -> Option<(&'static str, u64)> {
        let fields = [("ksyms", self.ksyms), ("pfn table", self.pfn), ("map", self.map), ("data", self.data)];
        fields.into_iter().find(|(_, at)| *at < self.start || *at > size)
    }
}

/// `dump_crypt_t`: how the dump was encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crypt {
    /// 1: ChaCha20 with a 64-bit counter and a 64-bit nonce.
    pub algorithm: u8,
    /// The first 64 bytes of `utsname`, encrypted, by which a key is recognised.
    pub check: [u8; 64],
    pub nonce: [u8; 8],
}

impl Crypt {
    /// The block that follows the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = slice_at(bytes, HEADER, CRYPT)?;
        Some(Self {
            algorithm: *raw.first()?,
            check: slice_at(raw, 1, 64)?.try_into().ok()?,
            nonce: slice_at(raw, 65, 8)?.try_into().ok()?,
        })
    }
}

/// `dumpdatahdr_t`, which follows the terminal header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataHeader {
    /// Bytes of the data section, with the padding of its last page.
    pub csize: u64,
    /// The largest block of a stream.
    pub maxcsize: u32,
    /// The most pages of a range.
    pub maxrange: u32,
    pub streams: u16,
    /// 0 serial lzjb, 1 parallel lzjb, 2 parallel bzip2.
    pub level: u16,
}

impl DataHeader {
    /// From what follows a header (and its `dump_crypt_t`): `bytes` starts with the header.
    pub(super) fn parse(bytes: &[u8], encrypted: bool) -> Option<Self> {
        let at = if encrypted { HEADER.saturating_add(CRYPT) } else { HEADER };
        let raw = slice_at(bytes, at, DATA_HEADER)?;
        if u32_at(raw, 0, LE)? != DATA_MAGIC || u32_at(raw, 4, LE)? != 1 {
            return None;
        }
        let header = Self {
            csize: u64_at(raw, 8, LE)?,
            maxcsize: u32_at(raw, 16, LE)?,
            maxrange: u32_at(raw, 20, LE)?,
            streams: u16_at(raw, 24, LE)?,
            level: u16_at(raw, 26, LE)?,
        };
        // A block's length has 20 bits.
        (header.maxcsize.to_usize() < 1 << 20 && header.level <= 2).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut h = vec![0; HEADER];
        h[..4].copy_from_slice(&MAGIC.to_le_bytes());
        h[4] = 10;
        h[12] = 64;
        h[1808] = 12;
        h[1816..1824].copy_from_slice(&4096_u64.to_le_bytes());
        h
    }

    #[test]
    fn refusals_say_what_is_there() {
        assert!(DumpHeader::parse(&header()).is_ok());
        let with = |at: usize, value: u8| {
            let mut h = header();
            h[at] = value;
            DumpHeader::parse(&h).unwrap_err()
        };
        assert!(matches!(with(12, 32), Refusal::Unsupported(what) if what.contains("32-bit")));
        assert!(matches!(with(4, 9), Refusal::Unsupported(what) if what.contains("version 9")));
        assert!(matches!(with(0, 0), Refusal::Magic(_)));
        assert!(matches!(with(1808, 40), Refusal::Field(1808, ..)));
        assert_eq!(DumpHeader::parse(&header()[..1000]).unwrap_err(), Refusal::Short(1000));
        let sparc: Vec<u8> = MAGIC.to_be_bytes().to_vec();
        assert!(matches!(DumpHeader::parse(&sparc), Err(Refusal::Unsupported(what)) if what.contains("SPARC")));
    }
}
