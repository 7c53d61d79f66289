//! Damaged dumps of illumos kernels in every container, and damaged cores of programs, through the whole way of a
//! capture: opening, outline, stacks, findings, the snapshot written and read again. Nothing panics or hangs, memory
//! stays bounded, and what is not hit is found.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each container gets (4; the whole is 20,000), `POSTFAULT_CONTAINER` a part of
//! the names of those that are tried.

use capture::{Plan, ThreadChoice, capture};
use debuginfo::Locator;
use kernel_dumps::Options;
use kernel_dumps::illumos::IllumosDump;
use platform::elfcore;
use snapshot_format::Snapshot;
use std::path::Path;
use std::time::{Duration, Instant};
use testdata::elfcore::illumos;
use testdata::illumos::kernel::panicked;
use testdata::illumos::layouts::Layout;
use testdata::illumos::{Compression, Dump, Key};
use testdata::memory::peak_kilobytes;

const KEY: Key = Key { key: [7; 32], nonce: [1, 2, 3, 4, 5, 6, 7, 8] };
/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 512 << 10;
/// The longest that one damaged dump may take, in a build without optimisation on a busy machine.
const LIMIT_TIME: Duration = Duration::from_secs(60);

struct Made {
    name: String,
    bytes: Vec<u8>,
    /// Its threads.
    threads: usize,
    /// A core of a program, rather than a kernel's dump.
    core: bool,
    encrypted: bool,
}

fn all() -> Vec<Made> {
    let only = std::env::var("POSTFAULT_CONTAINER").unwrap_or_default();
    let mut all = Vec::new();
    for (compression, layout) in [
        (Compression::Serial, Layout::first()),
        (Compression::Old, Layout::second()),
        (Compression::Lzjb, Layout::second()),
        (Compression::Bzip2, Layout::first()),
    ] {
        let (kernel, truth) = panicked(layout);
        let dump = Dump { compression, ..kernel.dump() };
        let mut add = |form: &str, bytes, encrypted| {
            let name = format!("{form} {compression:?}");
            all.push(Made { name, bytes, threads: truth.threads.len(), core: false, encrypted });
        };
        add("vmdump", dump.vmdump(), false);
        match compression {
            Compression::Serial => add("vmcore", dump.vmcore(), false),
            Compression::Lzjb => add("device", dump.device(None), false),
            Compression::Bzip2 => add("encrypted device", dump.device(Some(&KEY)), true),
            Compression::Old => {}
        }
    }
    for wide in [true, false] {
        let (core, truth) = illumos::core(wide, 5);
        let name = format!("core of {} bits", if wide { 64 } else { 32 });
        // The zombie counts.
        all.push(Made { name, bytes: core.build(), threads: truth.threads.len() + 1, core: true, encrypted: false });
    }
    all.retain(|m| m.name.contains(&only));
    all
}

/// The whole way of a capture; `None` when the file is refused.
fn take(made: &Made, bytes: Vec<u8>) -> Option<Snapshot> {
    let locator = Locator { system: Some("/nonexistent".into()), ..Locator::default() };
    let plan = Plan { threads: ThreadChoice::All, ..Plan::default() };
    let mut snapshot = if made.core {
        let core = elfcore::open_stream(bytes.as_slice(), "core", &elfcore::Options::default()).ok()?;
        capture(&core, &locator, &plan, &mut || ())
    } else {
        let options = Options { key: made.encrypted.then(|| KEY.key.to_vec()) };
        let dump = IllumosDump::from_source(Path::new("vmdump.0"), Box::new(bytes), &options).ok()?;
        capture(&dump, &locator, &plan, &mut || ())
    };
    analysis::analyse(&mut snapshot);
    Some(snapshot)
}

fn check(snapshot: &Snapshot, what: &str) {
    assert!(snapshot.threads.len() <= 256 && snapshot.frames.len() <= 8192, "{what}");
    let mut written = Vec::new();
    snapshot.write_to(&mut written).unwrap();
    assert_eq!(Snapshot::read_slice(&written).unwrap().0, *snapshot, "{what}");
}

#[test]
fn flips_through_the_whole_capture() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for made in all() {
        let name = &made.name;
        let whole = take(&made, made.bytes.clone()).unwrap();
        assert_eq!(whole.threads.len(), made.threads, "{name}");
        let (mut same, mut refused, mut slowest) = (0, 0, Duration::ZERO);
        for n in 0..count {
            let (dice, size) = (next(), made.bytes.len());
            let header = if name.contains("device") { 65_536 } else { 0 };
            let at = match dice & 7 {
                0 => header + next() as usize % (size - header).min(2048),
                1 | 2 => header + next() as usize % (size - header).min(65_536),
                3 => size - 1 - next() as usize % size.min(65_536),
                _ => next() as usize % size,
            };
            let mut bytes = made.bytes.clone();
            bytes[at] ^= 1 << (dice >> 32 & 7);
            let begun = Instant::now();
            let Some(snapshot) = take(&made, bytes) else {
                refused += 1;
                continue;
            };
            slowest = slowest.max(begun.elapsed());
            assert!(begun.elapsed() < LIMIT_TIME, "{name}, flip {n} at {at:#x}: {:?}", begun.elapsed());
            check(&snapshot, &format!("{name}, flip {n} at {at:#x}"));
            same += usize::from(snapshot.threads.len() == made.threads && snapshot.frames.len() == whole.frames.len());
        }
        println!(
            "{name}: {size} bytes, {count} flips, {refused} refused, {same} without loss, slowest {slowest:?}, peak {peak} kB",
            size = made.bytes.len(),
            peak = peak_kilobytes()
        );
        assert!(same * 2 > count, "{name}: {same} of {count} without loss, {refused} refused");
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}

#[test]
fn cuts_through_the_whole_capture() {
    let every = std::env::var_os("POSTFAULT_MUTATIONS").is_some();
    for made in all() {
        let name = &made.name;
        let step = if every { 4096 } else { (made.bytes.len() / 8).next_multiple_of(4096) };
        let (mut opened, mut threads) = (0, 0);
        for end in (0..made.bytes.len()).step_by(step).chain([made.bytes.len() - 4096]) {
            let Some(snapshot) = take(&made, made.bytes[..end].to_vec()) else { continue };
            opened += 1;
            // Behind the terminal header and what follows it there are only zeros.
            let filling = name.starts_with("vmdump") || name.contains("device");
            let told = !snapshot.doubts.is_empty() || (filling && end + 65_536 >= made.bytes.len() + 2048);
            assert!(told, "{name}, cut at {end:#x}: nothing is said to be missing");
            check(&snapshot, &format!("{name}, cut at {end:#x}"));
            threads = threads.max(snapshot.threads.len());
        }
        println!("{name}: {opened} cuts opened, up to {threads} threads, peak {} kB", peak_kilobytes());
        assert!(opened > 0, "{name}");
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}
