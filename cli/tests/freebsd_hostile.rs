//! Damaged dumps of FreeBSD kernels, and damaged kernel files, through the whole way of a capture: opening, outline,
//! stacks, findings, the snapshot written and read again. Nothing panics or hangs, memory stays bounded, and what is not
//! hit is found.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each container gets (20; the whole is 20,000).

use capture::{Plan, ThreadChoice, capture, for_each_parallel};
use debuginfo::Locator;
use kernel_dumps::ReadAt;
use kernel_dumps::freebsd::{FreeBsdDump, Options};
use snapshot_format::Snapshot;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testdata::freebsd::device::Record;
use testdata::freebsd::kernel::{self, Has, Layout, Port, Story};
use testdata::freebsd::minidump::{Machine, Minidump};
use testdata::freebsd::{debug_info, full};
use testdata::memory::peak_kilobytes;

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 768 << 10;
/// The longest that one damaged dump may take, in a build without optimisation on a busy machine.
const LIMIT_TIME: Duration = Duration::from_secs(60);

struct Made {
    name: &'static str,
    dump: Arc<Vec<u8>>,
    kernel: Vec<u8>,
}

fn dumped(port: Port, machine: Machine, version: u32, memory: &testdata::freebsd::Memory) -> Vec<u8> {
    let direct = match port {
        Port::Amd64 => (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0),
        Port::Arm64 => (0xffff_a000_0000_0000, 0xffff_b000_0000_0000, 0),
        _ => (0, 0, 0),
    };
    let messages = kernel::LOG.as_bytes().to_vec();
    Minidump { machine, version, kernel_base: port.kernel_base(), direct, messages }.write(memory)
}

fn all(folder: &Path) -> Vec<Made> {
    let (first, second) = (kernel::first_layout(), kernel::second_layout());
    let mut all = Vec::new();
    let mut add = |name, port, machine, version, layout: &Layout, ctf| {
        let made = kernel::build_for(port, layout, ctf);
        all.push(Made { name, dump: Arc::new(dumped(port, machine, version, &made.memory)), kernel: made.file });
    };
    add("amd64 version 1", Port::Amd64Old, Machine::Amd64, 1, &first, None);
    add("amd64 version 2", Port::Amd64, Machine::Amd64, 2, &second, Some(2));
    add("amd64 version 3", Port::Amd64, Machine::Amd64, 3, &first, Some(3));
    add("arm64 version 3", Port::Arm64, Machine::Arm64, 3, &second, Some(3));
    add("i386 version 2", Port::I386, Machine::I386, 2, &first, Some(2));
    add("i386 with PAE", Port::I386, Machine::I386Pae, 2, &second, None);
    for (name, port, tables, layout) in [
        ("full dump of 4 levels", Port::Amd64, full::Tables::Amd64(4), &first),
        ("full dump of 5 levels", Port::Amd64, full::Tables::Amd64(5), &second),
        ("full dump of arm64", Port::Arm64, full::Tables::Arm64, &first),
        ("full dump of arm64 with large pages", Port::Arm64, full::Tables::Arm64Large, &second),
        ("full dump of i386", Port::I386, full::Tables::I386, &first),
        ("full dump of i386 with PAE", Port::I386, full::Tables::I386Pae, &second),
    ] {
        let made = kernel::build_for(port, layout, Some(3));
        let mut memory = if tables == full::Tables::Arm64Large { made.memory.grouped() } else { made.memory };
        full::add(&mut memory, tables);
        all.push(Made { name, dump: Arc::new(full::write_for(&memory, tables)), kernel: made.file });
    }
    let made = kernel::build(&second, None);
    let dump = dumped(Port::Amd64, Machine::Amd64, 3, &made.memory);
    all.push(Made {
        name: "on its device",
        dump: Arc::new(Record::new(dump.len()).device(8192, &[], &dump)),
        kernel: made.file,
    });
    // The allocator's items, and a module's symbols in the dump.
    for (name, layout, ctf) in [("items, as 12 has them", &first, 2), ("items and a module", &second, 3)] {
        let module = if ctf == 3 { module(folder) } else { None };
        let has = Has { ctf: Some(ctf), story: Story::Freed, module, ..Has::default() };
        let made = kernel::build_with(Port::Amd64, layout, &has);
        let dump = dumped(Port::Amd64, Machine::Amd64, 3, &made.memory);
        all.push(Made { name, dump: Arc::new(dump), kernel: made.file });
    }
    match debug_info::sections(&first, &[("sched_switch", 24)], folder) {
        Ok(sections) => {
            let has = Has { sections, constants: false, frame_pointers: false, ..Has::default() };
            let made = kernel::build_with(Port::Amd64, &first, &has);
            let dump = dumped(Port::Amd64, Machine::Amd64, 3, &made.memory);
            all.push(Made { name: "with debug information", dump: Arc::new(dump), kernel: made.file });
        }
        Err(why) => eprintln!("skipped: {why}"),
    }
    all
}

/// A module that gcc compiled; `None` (said on stderr) where there is no gcc.
fn module(folder: &Path) -> Option<Vec<u8>> {
    let (source, out) = (folder.join("module.c"), folder.join("module.o"));
    std::fs::write(&source, "int zfs_state[9]; void zfs_wait(void) { zfs_state[3]++; }\n").unwrap();
    let arguments = ["-c", "-mcmodel=kernel", "-fno-pic", "-o", out.to_str()?, source.to_str()?];
    match std::process::Command::new("gcc").args(arguments).status() {
        Ok(status) if status.success() => Some(std::fs::read(out).unwrap()),
        other => {
            eprintln!("skipped: gcc: {other:?}");
            None
        }
    }
}

/// A dump with one byte changed, without a copy of the rest.
struct Flipped {
    bytes: Arc<Vec<u8>>,
    at: u64,
    flip: u8,
}

impl ReadAt for Flipped {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_at(&self, at: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let got = self.bytes.read_at(at, into)?;
        if let Some(inside) = self.at.checked_sub(at).filter(|n| *n < got as u64) {
            into[inside as usize] ^= self.flip;
        }
        Ok(got)
    }
}

/// The whole way of a capture; `None` when the dump is refused.
fn take(dump: impl ReadAt + 'static, kernel: &Path) -> Option<Snapshot> {
    let options = Options { key: None, unpack: None };
    let dump = FreeBsdDump::from_source(Path::new("vmcore.0"), Box::new(dump), &options).ok()?;
    let system = Some("/nonexistent".into());
    let locator = Locator { kernel: Some(kernel.to_owned()), system, ..Locator::default() };
    let plan = Plan { threads: ThreadChoice::All, workers: 1, ..Plan::default() };
    let mut snapshot = capture(&dump, &locator, &plan, &mut || ());
    analysis::analyse(&mut snapshot);
    Some(snapshot)
}

/// How much of the three threads' stacks is named.
fn named(snapshot: &Snapshot) -> usize {
    snapshot.frames.iter().filter(|f| f.function.is_some()).count()
}

fn put(path: &Path, bytes: &[u8]) -> PathBuf {
    std::fs::write(path, bytes).unwrap();
    path.to_owned()
}

#[test]
fn flips_through_the_whole_capture() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let folder = tempfile::tempdir().unwrap();
    for made in all(folder.path()) {
        let file = put(&folder.path().join("kernel"), &made.kernel);
        let whole = take(made.dump.to_vec(), &file).unwrap();
        assert_eq!((whole.threads.len(), whole.doubts.len()), (3, 0), "{}", made.name);
        let numbers: Vec<usize> = (0..count).collect();
        let flipped = for_each_parallel(&numbers, WORKERS, |n| flip(&made, *n, folder.path(), &file, &whole));
        let refused = flipped.iter().filter(|f| f.is_none()).count();
        let slowest = flipped.iter().flatten().map(|f| f.2).max().unwrap_or_default();
        let same = flipped.iter().flatten().filter(|f| (f.0, f.1) == (named(&whole), 3)).count();
        let name = made.name;
        println!(
            "{name}: {count} flips, {refused} refused, {same} without loss, slowest {slowest:?}, peak {} kB",
            peak_kilobytes()
        );
        assert!(same * 2 > count, "{name}: {same} of {count} without loss, {refused} refused");
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}

/// Flips at the same time.
const WORKERS: usize = 4;

/// One flip: how many frames are named, how many threads there are, and how long it took; `None` when the dump is refused.
fn flip(made: &Made, n: usize, folder: &Path, file: &Path, whole: &Snapshot) -> Option<(usize, usize, Duration)> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64 ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    // Every fourth hits the kernel's file; of the others half hit headers and tables.
    let in_file = n % 4 == 3;
    let (dice, size) = (next(), if in_file { made.kernel.len() } else { made.dump.len() });
    let at = match dice & 7 {
        0 => next() as usize % size.min(160),
        1 | 2 => next() as usize % size.min(32_768),
        3 => size - 1 - next() as usize % size.min(8192),
        _ => next() as usize % size,
    };
    let bit = 1_u8 << (dice >> 32 & 7);
    let dump = Flipped { bytes: Arc::clone(&made.dump), at: at as u64, flip: if in_file { 0 } else { bit } };
    let kernel = in_file.then(|| {
        let mut bytes = made.kernel.clone();
        bytes[at] ^= bit;
        put(&folder.join(format!("damaged-{n}")), &bytes)
    });
    let what = format!("{}, flip {n} at {at:#x}", made.name);
    let begun = Instant::now();
    let taken = std::panic::catch_unwind(|| take(dump, kernel.as_deref().unwrap_or(file)));
    let taken = taken.unwrap_or_else(|_| panic!("{what}: a panic"));
    let took = begun.elapsed();
    if let Some(path) = kernel {
        std::fs::remove_file(path).unwrap();
    }
    let snapshot = taken?;
    assert!(took < LIMIT_TIME, "{what}: {took:?}");
    assert!(snapshot.threads.len() <= 64 && snapshot.frames.len() <= 4096, "{what}");
    // What nothing was changed in comes back as the undamaged one does.
    if snapshot != *whole {
        let mut written = Vec::new();
        snapshot.write_to(&mut written).unwrap();
        assert_eq!(Snapshot::read_slice(&written).unwrap().0, snapshot, "{what}");
    }
    Some((named(&snapshot), snapshot.threads.len(), took))
}

#[test]
fn cuts_through_the_whole_capture() {
    let every = std::env::var_os("POSTFAULT_MUTATIONS").is_some();
    let folder = tempfile::tempdir().unwrap();
    for made in all(folder.path()) {
        let file = put(&folder.path().join("kernel"), &made.kernel);
        let step = if every { 4096 } else { (made.dump.len() / 12).next_multiple_of(4096) };
        let (mut opened, mut threads, mut records) = (0, 0, 0);
        for end in (0..made.dump.len()).step_by(step).chain([made.dump.len() - 4096]) {
            let Some(snapshot) = take(made.dump[..end].to_vec(), &file) else { continue };
            opened += 1;
            assert!(!snapshot.doubts.is_empty(), "{}, cut at {end:#x}: nothing is said to be missing", made.name);
            threads = threads.max(snapshot.threads.len());
            records = records.max(snapshot.log.len());
        }
        let name = made.name;
        println!(
            "{name}: {opened} cuts opened, up to {threads} threads, {records} records, peak {} kB",
            peak_kilobytes()
        );
        // Without its trailer a device holds no dump; full dumps keep no copy of the message buffer in front.
        assert_eq!(opened > 0, name != "on its device", "{name}");
        assert!(records >= 6 || name.starts_with("full") || opened == 0, "{name}: {records} records");
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}
