//! A `vmdump` of 64 GB that is computed where it is read: memory stays bounded, and opening reads once per block.

use evidence::{Machine, PhysAddr};
use kernel_dumps::illumos::{IllumosDump, Mode};
use kernel_dumps::{Options, ReadAt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testdata::illumos::{Compression, Dump};
use testdata::memory::peak_kilobytes;

const PAGES: u64 = 16 << 20;
/// Pages of a range, each in a block of its own.
const RANGE: u64 = 512;
const PFNS: u64 = 8192;
const MAP: u64 = PFNS + PAGES * 8;
const DATA: u64 = MAP + 4096;

/// One page of zeros in lzjb, behind its length.
fn object() -> Vec<u8> {
    let (mut data, mut left, mut bit, mut flags) = (vec![0_u8, 0], 4095_usize, 1, 0);
    while left > 0 {
        if bit == 8 {
            (bit, flags) = (0, data.len());
            data.push(0);
        }
        // A copy of up to 66 bytes from one byte before; one and two bytes have no copy.
        let length = left.min(66);
        if length < 3 {
            data.push(0);
            left -= 1;
        } else {
            data[flags] |= 1 << bit;
            data.extend([((length - 3) << 2) as u8, 1]);
            left -= length;
        }
        bit += 1;
    }
    let mut object = (data.len() as u32).to_le_bytes().to_vec();
    object.extend(data);
    object
}

struct Computed {
    first: Vec<u8>,
    last: Vec<u8>,
    /// A block with its word; only the index in its range header differs.
    block: Vec<u8>,
    end: u64,
    /// Calls that read of the blocks, and bytes of them.
    calls: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl ReadAt for Computed {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.size().saturating_sub(offset).min(into.len() as u64) as usize;
        let period = self.block.len() as u64;
        if (DATA..self.end).contains(&offset) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        }
        for (at, byte) in (offset..).zip(&mut into[..n]) {
            *byte = if at < PFNS {
                self.first.get(at as usize).copied().unwrap_or(0)
            } else if at < MAP {
                ((at - PFNS) / 8).to_le_bytes()[(at % 8) as usize]
            } else if at < DATA {
                0
            } else if at < DATA + PAGES / RANGE * period {
                let (number, within) = ((at - DATA) / period, (at - DATA) % period);
                match within {
                    12..20 => (number * RANGE).to_le_bytes()[(within - 12) as usize],
                    _ => self.block[within as usize],
                }
            } else if at >= self.end {
                self.last.get((at - self.end) as usize).copied().unwrap_or(0)
            } else {
                0
            };
        }
        Ok(n)
    }
    fn size(&self) -> u64 {
        self.end + 65_536
    }
}

fn source() -> Computed {
    let small = Dump { compression: Compression::Lzjb, ..Dump::sample(20, 4) }.vmdump();
    let (mut first, mut last) = (small[..4096].to_vec(), small[small.len() - 65_536..].to_vec());
    let mut contents = b"StrmHdr\0".to_vec();
    contents.extend([0; 8]);
    contents.extend(RANGE.to_le_bytes());
    contents.extend(object().repeat(RANGE as usize));
    let mut block = (1 << 20 | contents.len() as u32).to_le_bytes().to_vec();
    block.extend(&contents);
    let csize = (PAGES / RANGE * block.len() as u64 + 4).next_multiple_of(4096);
    let end = (DATA + csize + 1).next_multiple_of(65_536);
    let longs =
        [(24, 4096), (1848, 0), (1856, 0), (32, PFNS), (40, MAP), (48, DATA), (1840, PAGES), (1824, 0), (1832, 0)];
    for (at, value) in longs {
        first[at..at + 8].copy_from_slice(&value.to_le_bytes());
        last[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    last[1912 + 8..1912 + 16].copy_from_slice(&csize.to_le_bytes());
    last[1912 + 16..1912 + 20].copy_from_slice(&(128_u32 << 10).to_le_bytes());
    last[1912 + 20..1912 + 24].copy_from_slice(&1024_u32.to_le_bytes());
    Computed { first, last, block, end, calls: Arc::default(), bytes: Arc::default() }
}

/// The only test of this program, so that what it takes at most is its own.
#[test]
fn sixty_four_gigabytes_compressed() {
    let source = source();
    let (calls, bytes) = (source.calls.clone(), source.bytes.clone());
    let dump = IllumosDump::from_source(Path::new("large"), Box::new(source), &Options::default()).unwrap();
    let blocks = PAGES / RANGE;
    let (so_far, opening) = (calls.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    // Once for the chain, once for the range header.
    assert!(so_far <= blocks * 2 + 64, "{so_far} reads for {blocks} blocks");
    assert!(opening <= (blocks * 2 + 64) * 4096, "{opening} bytes were read to open {blocks} blocks");
    assert_eq!((dump.mode(), dump.page_count()), (Some(Mode::ParallelLzjb), PAGES));
    let mut page = vec![1; 4096];
    for index in (0..PAGES).step_by(PAGES as usize / 50).chain([PAGES - 1]) {
        page.fill(1);
        assert_eq!(dump.read_physical(PhysAddr(index << 12), &mut page), (4096, None), "page {index}");
        assert!(page.iter().all(|b| *b == 0), "page {index}");
    }
    assert_eq!(dump.read_physical(PhysAddr(PAGES << 12), &mut page).0, 0);
    let peak = peak_kilobytes();
    println!("{so_far} reads, {opening} bytes for {blocks} blocks; at most {peak} kB");
    assert!(peak < 200_000, "{peak} kB");
}
