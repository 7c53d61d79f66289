//! illumos dumps in every container, with bytes flipped and cut off: nothing panics, nothing hangs, memory stays bounded,
//! and a page that did not change is read as it was or is called lost.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each container gets (4; the whole is 20,000), `POSTFAULT_CONTAINER` a part
//! of the names of those that are tried.

use evidence::{Addr, Machine, PhysAddr, Target};
use kernel_dumps::illumos::{IllumosDump, Place};
use kernel_dumps::{Error, Options};
use std::path::Path;
use testdata::illumos::{Compression, Dump, Key};
use testdata::memory::peak_kilobytes;

const KEY: Key = Key { key: [7; 32], nonce: [1, 2, 3, 4, 5, 6, 7, 8] };
/// Kilobytes that this process may ever have in memory: no field of a file of some kilobytes may cost more.
const LIMIT_PEAK: u64 = 200_000;

struct Container {
    name: String,
    truth: Dump,
    bytes: Vec<u8>,
    encrypted: bool,
}

impl Container {
    fn open(&self, bytes: Vec<u8>) -> Result<IllumosDump, Error> {
        let options = Options { key: self.encrypted.then(|| KEY.key.to_vec()) };
        IllumosDump::from_source(Path::new("dump"), Box::new(bytes), &options)
    }

    /// Where the header lies, and where the sections of pages begin in the file.
    fn places(&self) -> (usize, usize) {
        let header = if self.name.contains("device") { 65_536 } else { 0 };
        let data = self.bytes[header + 48..header + 56].try_into().unwrap();
        (header, usize::try_from(u64::from_le_bytes(data)).unwrap())
    }

    /// Whether a page that is read wrong may be: lzjb and stored pages have no checksum, tables neither.
    fn checked(&self) -> bool {
        self.truth.compression == Compression::Bzip2 && !self.encrypted && self.name.contains("vmdump")
    }
}

fn containers() -> Vec<Container> {
    let only = std::env::var("POSTFAULT_CONTAINER").unwrap_or_default();
    let mut all = Vec::new();
    for compression in Compression::ALL {
        let serial_tail = if matches!(compression, Compression::Lzjb | Compression::Bzip2) { 2 } else { 0 };
        // A block of lzjb holds whole pages, some of which are stored.
        let block = if compression == Compression::Bzip2 { 2048 } else { 8192 };
        let truth = Dump { compression, serial_tail, block, range: 4, ..Dump::sample(12, 6) };
        let mut add = |form: &str, bytes, encrypted| {
            all.push(Container { name: format!("{form} {compression:?}"), truth: truth.clone(), bytes, encrypted });
        };
        add("vmdump", truth.vmdump(), false);
        add("device", truth.device(None), false);
        add("encrypted device", truth.device(Some(&KEY)), true);
        if compression == Compression::Serial {
            add("vmcore", truth.vmcore(), false);
        }
    }
    all.into_iter().filter(|c| c.name.contains(&only)).collect()
}

/// Reads all that a dump has; returns how many pages are right, and how many are wrong. A `vmcore.N` leaves pages of zeros
/// out at its end, so that those behind its end are read as zeros, which is said.
fn look(dump: &IllumosDump, truth: &Dump) -> (usize, usize) {
    let zeros = dump.place() == Place::Vmcore && dump.gaps().doubts.iter().any(|d| d.why.contains("read as zero"));
    let lost = dump.lost();
    let (mut right, mut wrong) = (0, 0);
    for (index, (pfn, bytes)) in truth.pages.iter().enumerate() {
        match dump.page(index as u64) {
            Ok(page) if *page == **bytes => right += 1,
            Ok(page) if zeros && page.iter().all(|b| *b == 0) => {}
            Ok(_) => wrong += 1,
            Err(_) if (index as u64) < dump.page_count() => {
                assert!(lost.iter().any(|l| l.pages.contains(&(index as u64))), "page {index}: {lost:?}");
            }
            Err(_) => {}
        }
        let _ = dump.read_physical(PhysAddr(pfn << 12), &mut [0; 64]);
    }
    for at in [Dump::SPACES.2, Dump::SPACES.2 + 4096] {
        let _ = dump.memory().read(Addr(at), &mut [0; 64]);
    }
    let _ = (dump.memory().extents().len(), dump.notes().len(), dump.attributes().len(), dump.ksyms().len());
    assert!(dump.gaps().doubts.len() <= evidence::LIMIT_DOUBTS + 1);
    (right, wrong)
}

#[test]
fn flipped_bytes_cost_what_they_hit() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut seed = 77_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for container in containers() {
        let (name, truth) = (&container.name, &container.truth);
        let (header, data) = container.places();
        let length = container.bytes.len();
        let begun = std::time::Instant::now();
        let (mut opened, mut whole) = (0, 0);
        for round in 0..count {
            let mut bad = container.bytes.clone();
            // Headers, tables and the first blocks more often than their size deserves.
            let at = match round % 4 {
                0 => next() % length,
                1 => (header + next() % 2048).min(length - 1),
                2 => length - 1 - next() % length.min(65_536 - 1),
                _ => (header + next() % (data + 8192 - header)).min(length - 1),
            };
            bad[at] ^= 1 << (next() % 8);
            if round % 8 == 7 {
                bad[next() % length] = next() as u8;
            }
            let Ok(dump) = container.open(bad) else { continue };
            opened += 1;
            let (right, wrong) = look(&dump, truth);
            whole += usize::from(right == truth.pages.len());
            if container.checked() && round % 8 != 7 && at >= data && at < length - 65_536 {
                // bzip2 has checksums; of the last pages, which are lzjb, one can be hit.
                assert!(wrong <= 1, "{name}: flip {round} at {at:#x}: {wrong} pages are wrong");
            }
        }
        assert!(opened * 2 >= count && whole * 4 >= count, "{name}: {opened} of {count} opened, {whole} of them whole");
        println!(
            "{name}: {count} flips, {opened} opened, {whole} of them whole, {} ms, peak {} kB",
            begun.elapsed().as_millis(),
            peak_kilobytes()
        );
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}

#[test]
fn what_is_left_of_a_dump_is_right_wherever_it_ends() {
    let every = std::env::var_os("POSTFAULT_MUTATIONS").is_some();
    for container in containers() {
        let (name, truth) = (&container.name, &container.truth);
        let length = container.bytes.len();
        let (mut opened, mut salvaged) = (0, 0);
        // Of a device the first part, where the dump is: behind it are megabytes for messages.
        let whole = (0..length).step_by(4096);
        let cuts: Vec<usize> = if every { whole.collect() } else { whole.take(64).step_by(4).collect() };
        for end in cuts.into_iter().chain([length]) {
            let Ok(dump) = container.open(container.bytes[..end].to_vec()) else { continue };
            opened += 1;
            let (right, wrong) = look(&dump, truth);
            assert_eq!(wrong, 0, "{name}: cut at {end:#x}");
            salvaged += right;
            if end < length && right < truth.pages.len() {
                assert!(!dump.gaps().doubts.is_empty(), "{name}: cut at {end:#x}: {right} pages, and no word of it");
            }
        }
        assert!(opened > 1 && (!every || salvaged > truth.pages.len()), "{name}: {opened} opened, {salvaged} pages");
        println!("{name}: {length} bytes, {opened} cuts opened, {salvaged} pages salvaged");
    }
    assert!(peak_kilobytes() < LIMIT_PEAK, "{} kB", peak_kilobytes());
}
