//! A dump in every form: `vmdump.N`, `vmcore.N`, on its device, encrypted on its device.

use super::device;
use super::header::{PAGE, Sections, data_header, hashmask, header};
use super::streams;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One lzjb page after the other, with a data header.
    Serial,
    /// The same without a data header, as kernels before 2010 wrote it.
    Old,
    /// Streams of lzjb.
    Lzjb,
    /// Streams of bzip2.
    Bzip2,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Serial, Self::Old, Self::Lzjb, Self::Bzip2];

    pub(super) const fn level(self) -> u16 {
        match self {
            Self::Serial | Self::Old => 0,
            Self::Lzjb => 1,
            Self::Bzip2 => 2,
        }
    }
}

/// Key and nonce of an encrypted device.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key.
    pub key: [u8; 32],
    /// The nonce in the header.
    pub nonce: [u8; 8],
}

/// `DF_VALID`, `DF_COMPLETE`, `DF_KERNEL`.
const FLAGS: u32 = 1 | 2 | 0x1_0000;
/// `DF_COMPRESSED`.
const COMPRESSED: u32 = 8;

/// What is dumped, and how.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are those of the format")]
pub struct Dump {
    /// Page frame numbers, ascending, and 4096 bytes each.
    pub pages: Vec<(u64, Vec<u8>)>,
    /// Address space, address, page frame number.
    pub map: Vec<(u64, u64, u64)>,
    pub ksyms: Vec<u8>,
    pub panic: String,
    pub crash_time: u64,
    pub flags: u32,
    pub compression: Compression,
    pub streams: u16,
    /// Pages per range.
    pub range: usize,
    /// Bytes of the longest block.
    pub block: usize,
    /// Every range begins a block of its own (and a bzip2 stream).
    pub blocks_per_range: bool,
    /// How many of the last pages follow the streams as single lzjb pages.
    pub serial_tail: usize,
    /// Ranges that were never written, by number.
    pub absent: Vec<usize>,
    /// What only a device holds: messages and ereports (each an nvlist).
    pub messages: Vec<String>,
    pub reports: Vec<Vec<u8>>,
}

impl Dump {
    /// A dump of these pages.
    #[must_use]
    pub fn new(pages: Vec<(u64, Vec<u8>)>, map: Vec<(u64, u64, u64)>) -> Self {
        Self {
            pages,
            map,
            ksyms: b"a symbol table".to_vec(),
            panic: "BAD TRAP: type=e (#pf Page fault) rp=fffffe0000000000 addr=28".into(),
            crash_time: 1_700_000_000,
            flags: FLAGS,
            compression: Compression::Lzjb,
            streams: 3,
            range: 16,
            block: 16 << 10,
            blocks_per_range: false,
            serial_tail: 0,
            absent: Vec::new(),
            messages: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// `count` pages of zeros, text and noise, mapped one after the other; every tenth one also for a program.
    #[must_use]
    pub fn sample(count: u64, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut pfn = 0x100;
        let mut pages = Vec::new();
        for n in 0..count {
            let mut page = vec![0; PAGE];
            match n % 5 {
                0 => {}
                1 | 2 => page
                    .chunks_mut(16)
                    .for_each(|c| c.copy_from_slice(format!("page {n:6} line ").as_bytes().split_at(16).0)),
                3 => page.chunks_mut(8).for_each(|c| c.copy_from_slice(&next().to_le_bytes())),
                _ => page.chunks_mut(8).for_each(|c| c.copy_from_slice(&(next() & 0xffff_00ff).to_le_bytes())),
            }
            pages.push((pfn, page));
            pfn += 1 + next() % 7;
        }
        let mut map: Vec<(u64, u64, u64)> =
            pages.iter().enumerate().map(|(n, (pfn, _))| (KAS, KERNEL + (n * PAGE) as u64, *pfn)).collect();
        map.extend(
            pages.iter().step_by(10).enumerate().map(|(n, (pfn, _))| (USER, 0x40_0000 + (n * PAGE) as u64, *pfn)),
        );
        Self::new(pages, map)
    }

    /// Addresses of the sample's spaces, and where its kernel's pages begin.
    pub const SPACES: (u64, u64, u64) = (KAS, USER, KERNEL);

    fn map_bytes(&self) -> Vec<u8> {
        self.map.iter().flat_map(|(a, v, p)| [*a, *v, *p]).flat_map(u64::to_le_bytes).collect()
    }

    fn pfn_bytes(&self) -> Vec<u8> {
        self.pages.iter().flat_map(|(pfn, _)| pfn.to_le_bytes()).collect()
    }

    /// `vmdump.N`, as savecore copies it.
    #[must_use]
    pub fn vmdump(&self) -> Vec<u8> {
        let mut file = vec![0; PAGE];
        let mut at = Sections { ksyms: PAGE as u64, ..Sections::default() };
        file.extend(&self.ksyms);
        at.pfn = pad(&mut file, PAGE);
        file.extend(self.pfn_bytes());
        at.map = pad(&mut file, PAGE);
        file.extend(self.map_bytes());
        at.data = pad(&mut file, PAGE);
        file.extend(streams::section(self));
        let csize = pad(&mut file, PAGE) - at.data;
        // A full 64 KiB when nothing is left to fill.
        file.push(0);
        pad(&mut file, 65_536);
        let head = header(self, self.flags | COMPRESSED, &at);
        file[..head.len()].copy_from_slice(&head);
        file.extend(head);
        if self.compression != Compression::Old {
            file.extend(data_header(self, csize));
        }
        pad(&mut file, 65_536);
        file
    }

    /// `vmcore.N`, as savecore writes it; pages of zeros at the end are missing.
    #[must_use]
    pub fn vmcore(&self) -> Vec<u8> {
        let mut file = vec![0; PAGE];
        let mut at = Sections { ksyms: PAGE as u64, ..Sections::default() };
        file.extend(&self.ksyms);
        at.pfn = pad(&mut file, PAGE);
        file.extend(self.pfn_bytes());
        at.map = pad(&mut file, PAGE);
        let buckets = usize::try_from(hashmask(self.map.len()) + 1).expect("small");
        at.data = (at.map + buckets as u64 * 40).next_multiple_of(PAGE as u64);
        file.extend(self.hashed(&at, buckets));
        pad(&mut file, PAGE);
        let last = self.pages.iter().rposition(|(_, p)| p.iter().any(|b| *b != 0)).map_or(0, |n| n + 1);
        for (_, page) in &self.pages[..last] {
            file.extend(page);
        }
        let head = header(self, self.flags, &at);
        file[..head.len()].copy_from_slice(&head);
        file
    }

    fn hashed(&self, at: &Sections, buckets: usize) -> Vec<u8> {
        let mut table = vec![[0_u64; 5]; buckets];
        for (i, (space, va, pfn)) in self.map.iter().enumerate() {
            let Ok(page) = self.pages.binary_search_by_key(pfn, |(p, _)| *p) else { continue };
            let hash = usize::try_from((space >> 3).wrapping_add(va >> 12) & (buckets as u64 - 1)).expect("small");
            let head = table[hash][0];
            table[i][1..].copy_from_slice(&[head, at.data + (page * PAGE) as u64, *space, *va]);
            table[hash][0] = at.map + i as u64 * 40;
        }
        table.into_iter().flatten().flat_map(u64::to_le_bytes).collect()
    }

    /// A dump device with this dump on it.
    #[must_use]
    pub fn device(&self, key: Option<&Key>) -> Vec<u8> {
        let start = 65_536;
        let mut device = vec![0; start + PAGE];
        let mut at = Sections { start: start as u64, ksyms: (start + PAGE) as u64, ..Sections::default() };
        device.extend(&self.ksyms);
        at.map = pad(&mut device, PAGE);
        device.extend(self.map_bytes());
        at.pfn = pad(&mut device, PAGE);
        device.extend(self.pfn_bytes());
        at.data = pad(&mut device, PAGE);
        device.extend(streams::section(self));
        let csize = pad(&mut device, PAGE) - at.data;
        device::finish(self, device, &at, csize, key)
    }
}

/// Fills up to a multiple of `to`; where the next section begins.
pub(super) fn pad(file: &mut Vec<u8>, to: usize) -> u64 {
    file.resize(file.len().next_multiple_of(to), 0);
    file.len() as u64
}

const KAS: u64 = 0xffff_ffff_fbc2_f000;
const USER: u64 = 0xffff_fe01_dead_0000;
const KERNEL: u64 = 0xffff_fe00_0000_0000;
