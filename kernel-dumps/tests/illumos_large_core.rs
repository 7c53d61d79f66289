//! A `vmcore` of 64 GB, sparse: memory stays bounded. The only test of this program, so that what it takes at most is
//! its own.

use evidence::{Absent, Addr, Machine, PhysAddr, Target};
use kernel_dumps::illumos::IllumosDump;
use kernel_dumps::{Options, ReadAt};
use std::path::Path;
use testdata::illumos::Dump;
use testdata::memory::peak_kilobytes;

/// A dump of 64 GB: opening it takes the headers and the chain of blocks, reading it the pages that are asked for.
#[test]
fn sixty_four_gigabytes() {
    use std::os::unix::fs::FileExt;
    /// Counts what is read of a sparse file.
    struct Counting(std::fs::File, u64, std::sync::Arc<std::sync::atomic::AtomicU64>);
    impl ReadAt for Counting {
        fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.read_at(into, offset)?;
            self.2.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
            Ok(n)
        }
        fn size(&self) -> u64 {
            self.1
        }
    }
    let pages = 16_u64 << 20;
    let small = Dump::sample(20, 4).vmcore();
    let file = tempfile::tempfile().unwrap();
    let mut header = small[..4096].to_vec();
    let data = (8192 + pages * 8 + 64 * 40).next_multiple_of(4096);
    let longs = [
        (24, 4096),
        (1848, 0),
        (1856, 0),
        (32, 8192),
        (40, 8192 + pages * 8),
        (48, data),
        (1840, pages),
        (1824, 63),
        (1832, 64),
    ];
    for (at, value) in longs {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    file.write_all_at(&header, 0).unwrap();
    let batch: u64 = 1 << 16;
    for first in (0..pages).step_by(batch as usize) {
        let pfns: Vec<u8> = (first..first + batch).flat_map(u64::to_le_bytes).collect();
        file.write_all_at(&pfns, 8192 + first * 8).unwrap();
    }
    // One entry in the map, one page in the middle.
    let (kas, _, kernel) = Dump::SPACES;
    let bucket = (kas >> 3).wrapping_add(kernel >> 12) & 63;
    let entry = 8192 + pages * 8 + bucket * 40;
    let middle = data + (pages / 2) * 4096;
    let words: Vec<u8> = [entry, 0, middle, kas, kernel].iter().flat_map(|w| w.to_le_bytes()).collect();
    file.write_all_at(&words, entry).unwrap();
    file.write_all_at(&[0x5a; 4096], middle).unwrap();
    file.set_len(data + pages * 4096).unwrap();
    let read = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let source = Counting(file, data + pages * 4096, read.clone());
    let dump = IllumosDump::from_source(Path::new("large"), Box::new(source), &Options::default()).unwrap();
    let so_far = read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(so_far < 4 << 20, "opening read {so_far} bytes");
    let mut byte = [0; 8];
    assert_eq!((dump.memory().read(Addr(kernel), &mut byte), byte), ((8, None), [0x5a; 8]));
    assert_eq!(dump.read_physical(PhysAddr((pages / 2) << 12), &mut byte), (8, None));
    assert_eq!(dump.read_physical(PhysAddr((pages - 1) << 12), &mut byte).0, 8);
    assert_eq!(dump.read_physical(PhysAddr(pages << 12), &mut byte), (0, Some(Absent::Filtered)));
    let so_far = read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(so_far < 8 << 20, "{so_far} bytes were read for three pages");
    let peak = peak_kilobytes();
    println!("at most {peak} kB");
    assert!(peak < 200_000, "{peak} kB");
}
