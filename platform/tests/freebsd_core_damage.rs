//! Damaged cores of FreeBSD programs: cut off at every 4 KiB (and more finely where they are short), and with bytes
//! flipped one at a time. Nothing panics, what is complete is read and is right, and memory stays bounded.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each core gets (200; the whole is 20,000).

use evidence::{Addr, Target as _};
use platform::elfcore::{self, Core, Options};
use std::io::{Read as _, Write as _};
use testdata::elfcore::freebsd::{self, Machine, Truth};
use testdata::fixtures::fixture;
use testdata::memory::peak_kilobytes;

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 512 << 10;

struct Made {
    name: String,
    bytes: Vec<u8>,
    /// The core before it was compressed.
    plain: Vec<u8>,
    truth: Truth,
}

fn open(bytes: &[u8]) -> Result<Core, String> {
    elfcore::open_stream(bytes, "core", &Options::default()).map_err(|e| e.to_string())
}

fn cores() -> Vec<Made> {
    let mut all = Vec::new();
    for machine in [Machine::Amd64, Machine::I386, Machine::Arm64] {
        let (core, truth) = freebsd::core(machine, 12);
        let plain = core.build();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let packed = [
            (String::new(), plain.clone()),
            (", gzip".into(), gzip.finish().unwrap()),
            (", Zstandard".into(), zstd::encode_all(&*plain, 3).unwrap()),
        ];
        for (form, bytes) in packed {
            let name = format!("{machine:?}{form}");
            all.push(Made { name, bytes, plain: plain.clone(), truth: truth.clone() });
        }
    }
    if let Some(path) = fixture("freebsd/core/x86-64-freebsd.core") {
        let bytes = std::fs::read(path).unwrap();
        let truth = Truth { threads: vec![(100_654, "a.out".into(), 0x20_242b)], memory: Vec::new() };
        all.push(Made { name: "the real one".into(), plain: bytes.clone(), bytes, truth });
    }
    all
}

/// How many bytes of the core are there in the first `end` of the file.
fn available(made: &Made, end: usize) -> usize {
    let part = &made.bytes[..end];
    let mut out = Vec::new();
    let _ = match made.name.split_once(", ").map(|(_, form)| form) {
        None => return end,
        Some("gzip") => flate2::read::GzDecoder::new(part).read_to_end(&mut out),
        Some(_) => zstd::stream::read::Decoder::new(part).unwrap().read_to_end(&mut out),
    };
    out.len()
}

fn touch(core: &Core) {
    for extent in core.memory().extents() {
        assert!(core.memory().read(extent.range.start, &mut [0; 64]).0 <= 64);
    }
    assert!(core.gaps().doubts.len() <= evidence::LIMIT_DOUBTS + 1);
    let _ = (core.images().len(), core.mappings().len(), core.open_files().len(), core.attributes().len());
}

/// The threads that are as they should be.
fn whole_threads(core: &Core, truth: &Truth) -> usize {
    let is = |(id, name, pc): &&(u32, String, u64)| {
        let found = core.threads().iter().find(|t| t.id.0 == u64::from(*id));
        found.is_some_and(|t| t.name.as_deref() == Some(name) && t.registers.pc() == Some(Addr(*pc)))
    };
    truth.threads.iter().filter(is).count()
}

/// Where a sequence of bytes ends in a core.
fn end_of(core: &[u8], what: &[u8]) -> usize {
    core.windows(what.len()).position(|w| w == what).unwrap() + what.len()
}

#[test]
fn what_is_complete_is_read_wherever_the_core_ends() {
    for made in cores() {
        let (name, truth) = (&made.name, &made.truth);
        let whole = open(&made.bytes).unwrap();
        assert_eq!(whole_threads(&whole, truth), truth.threads.len(), "{name}");
        let (mut opened, mut salvaged) = (0, 0);
        let step = if made.bytes.len() < 16_384 { 256 } else { 4096 };
        for end in (0..made.bytes.len()).step_by(step).chain([made.bytes.len()]) {
            let there = available(&made, end);
            let Ok(core) = open(&made.bytes[..end]) else {
                assert!(there < 1024, "{name}, cut at {end:#x}: {there} bytes of it could be read");
                continue;
            };
            opened += 1;
            touch(&core);
            // A thread is complete when its name is there: that note comes behind its registers.
            let complete = truth.threads.iter().filter(|t| {
                let note = [&[7, 0, 0, 0][..], b"FreeBSD\0", t.1.as_bytes(), &[0; 8]].concat();
                end_of(&made.plain, &note) + 24 <= there
            });
            let (complete, found) = (complete.count(), whole_threads(&core, truth));
            assert!(found >= complete, "{name}, cut at {end:#x}: {found} of {complete} threads");
            for (at, bytes) in &truth.memory {
                let start = end_of(&made.plain, bytes) - bytes.len();
                let promised = there.saturating_sub(start).min(bytes.len());
                let mut read = vec![0; bytes.len()];
                let (got, _) = core.memory().read(Addr(*at), &mut read);
                assert!(got >= promised && read[..got] == bytes[..got], "{name}, cut at {end:#x}: {at:#x}: {got}");
                salvaged += got;
            }
            if there < made.plain.len() && !truth.memory.is_empty() {
                assert!(core.gaps().truncated_at.is_some() || !core.gaps().doubts.is_empty(), "{name}, {end:#x}");
            }
        }
        assert!(opened > 0 && (salvaged > 0 || truth.memory.is_empty()), "{name}: {opened} {salvaged}");
        println!("{name}: {} bytes, {opened} cuts opened, {salvaged} bytes of memory salvaged", made.bytes.len());
    }
    assert!(peak_kilobytes() < LIMIT_PEAK, "{} kB", peak_kilobytes());
}

#[test]
fn flipped_bytes_cost_what_they_hit() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for made in cores() {
        let (name, truth) = (&made.name, &made.truth);
        let packed = name.contains(", ");
        let begun = std::time::Instant::now();
        let (mut opened, mut threads) = (0, 0);
        let starts: Vec<usize> = truth.memory.iter().map(|(_, m)| end_of(&made.plain, m) - m.len()).collect();
        for n in 0..count {
            let length = made.bytes.len();
            let at = if next() % 4 == 0 { next() % length } else { next() % length.min(12 << 10) };
            let mut bytes = made.bytes.clone();
            bytes[at] ^= 1 << (next() % 8);
            let Ok(core) = open(&bytes) else { continue };
            opened += 1;
            touch(&core);
            let found = whole_threads(&core, truth);
            threads += found;
            // Behind the headers a flip spoils one thread, or the chain of notes from there on; memory stays.
            if !packed && at >= 512 {
                for ((from, expected), start) in truth.memory.iter().zip(&starts) {
                    let mut read = vec![0; expected.len()];
                    let (got, _) = core.memory().read(Addr(*from), &mut read);
                    assert_eq!(got, read.len(), "{name}, flip {n} at {at:#x}");
                    if let Some(hit) = at.checked_sub(*start).filter(|h| *h < read.len()) {
                        read[hit] = expected[hit];
                    }
                    assert!(read == *expected, "{name}, flip {n} at {at:#x}: memory at {from:#x}");
                }
            }
        }
        assert!(opened * 2 > count, "{name}: {opened} of {count}");
        assert!(threads > 0, "{name}");
        println!(
            "{name}: {count} flips, {opened} opened, {threads} threads right, {} ms, peak {} kB",
            begun.elapsed().as_millis(),
            peak_kilobytes()
        );
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}
