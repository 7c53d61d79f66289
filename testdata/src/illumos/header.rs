//! `dumphdr_t` of a 64-bit kernel, byte by byte.

use super::dump::Dump;

/// Where the sections lie.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sections {
    pub start: u64,
    pub ksyms: u64,
    pub pfn: u64,
    pub map: u64,
    pub data: u64,
}

pub(super) const HEADER: usize = 1912;
pub(super) const PAGE: usize = 4096;

pub(super) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The mask for so many translations.
pub(super) fn hashmask(translations: usize) -> u64 {
    (translations as u64).next_power_of_two().max(1) - 1
}

pub(super) fn header(dump: &Dump, flags: u32, at: &Sections) -> Vec<u8> {
    let mut h = vec![0; HEADER];
    for (offset, value) in [(0, 0xdefe_c8ed_u32), (4, 10), (8, flags), (12, 64), (1808, 12)] {
        put(&mut h, offset, &value.to_le_bytes());
    }
    let ksyms = dump.ksyms.len() as u64;
    let longs = [
        (16, at.start),
        (24, at.ksyms),
        (32, at.pfn),
        (40, at.map),
        (48, at.data),
        (1800, dump.crash_time),
        (1816, PAGE as u64),
        (1824, hashmask(dump.map.len())),
        (1832, dump.map.len() as u64),
        (1840, dump.pages.len() as u64),
        (1848, ksyms),
        (1856, ksyms),
    ];
    for (offset, value) in longs {
        put(&mut h, offset, &value.to_le_bytes());
    }
    for (n, text) in ["SunOS", "host-one", "5.11", "test-version", "i86pc"].iter().enumerate() {
        put(&mut h, 56 + n * 257, text.as_bytes());
    }
    put(&mut h, 1341, b"i86pc");
    put(&mut h, 1598, &dump.panic.as_bytes()[..dump.panic.len().min(199)]);
    put(&mut h, 1868, b"5a1ee9a2-0001-4001-8001-0123456789ab");
    h
}

/// `dumpdatahdr_t`.
pub(super) fn data_header(dump: &Dump, csize: u64) -> Vec<u8> {
    let mut h = vec![0; 32];
    put(&mut h, 0, &0x6468_6472_u32.to_le_bytes());
    put(&mut h, 4, &1_u32.to_le_bytes());
    put(&mut h, 8, &csize.to_le_bytes());
    put(&mut h, 16, &(dump.block as u32).to_le_bytes());
    put(&mut h, 20, &(dump.range as u32).to_le_bytes());
    put(&mut h, 24, &dump.streams.to_le_bytes());
    put(&mut h, 26, &dump.compression.level().to_le_bytes());
    h
}
