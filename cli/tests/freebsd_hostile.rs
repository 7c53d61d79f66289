//! Damaged dumps of FreeBSD kernels, and damaged kernel files, through the whole way of a capture: opening, outline,
//! stacks, findings, the snapshot written and read again. Nothing panics or hangs, memory stays bounded, and what is not
//! hit is found.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each container gets (20; the whole is 20,000).

use capture::{Plan, ThreadChoice, capture};
use debuginfo::Locator;
use kernel_dumps::freebsd::{FreeBsdDump, Options};
use snapshot_format::Snapshot;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testdata::freebsd::device::Record;
use testdata::freebsd::kernel::{self, Has, Layout, Port};
use testdata::freebsd::minidump::{Machine, Minidump};
use testdata::freebsd::{debug_info, full};
use testdata::memory::peak_kilobytes;

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 768 << 10;
/// The longest that one damaged dump may take, in a build without optimisation on a busy machine.
const LIMIT_TIME: Duration = Duration::from_secs(60);

struct Made {
    name: &'static str,
    dump: Vec<u8>,
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
        all.push(Made { name, dump: dumped(port, machine, version, &made.memory), kernel: made.file });
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
        all.push(Made { name, dump: full::write_for(&memory, tables), kernel: made.file });
    }
    let made = kernel::build(&second, None);
    let dump = dumped(Port::Amd64, Machine::Amd64, 3, &made.memory);
    all.push(Made { name: "on its device", dump: Record::new(dump.len()).device(8192, &[], &dump), kernel: made.file });
    match debug_info::sections(&first, &[("sched_switch", 24)], folder) {
        Ok(sections) => {
            let has = Has { sections, constants: false, frame_pointers: false, ..Has::default() };
            let made = kernel::build_with(Port::Amd64, &first, &has);
            let dump = dumped(Port::Amd64, Machine::Amd64, 3, &made.memory);
            all.push(Made { name: "with debug information", dump, kernel: made.file });
        }
        Err(why) => eprintln!("skipped: {why}"),
    }
    all
}

/// The whole way of a capture; `None` when the dump is refused.
fn take(dump: Vec<u8>, kernel: &Path) -> Option<Snapshot> {
    let options = Options { key: None, unpack: None };
    let dump = FreeBsdDump::from_source(Path::new("vmcore.0"), Box::new(dump), &options).ok()?;
    let system = Some("/nonexistent".into());
    let locator = Locator { kernel: Some(kernel.to_owned()), system, ..Locator::default() };
    let plan = Plan { threads: ThreadChoice::All, ..Plan::default() };
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
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for made in all(folder.path()) {
        let file = put(&folder.path().join("kernel"), &made.kernel);
        let whole = take(made.dump.clone(), &file).unwrap();
        assert_eq!((whole.threads.len(), whole.doubts.len()), (3, 0), "{}", made.name);
        let (mut same, mut refused, mut slowest) = (0, 0, Duration::ZERO);
        for n in 0..count {
            // Every fourth hits the kernel's file; of the others half hit headers and tables.
            let in_file = n % 4 == 3;
            let (dice, size) = (next(), if in_file { made.kernel.len() } else { made.dump.len() });
            let at = match dice & 7 {
                0 => next() as usize % size.min(160),
                1 | 2 => next() as usize % size.min(32_768),
                3 => size - 1 - next() as usize % size.min(8192),
                _ => next() as usize % size,
            };
            let (mut dump, mut kernel) = (made.dump.clone(), None);
            if in_file {
                let mut bytes = made.kernel.clone();
                bytes[at] ^= 1 << (dice >> 32 & 7);
                kernel = Some(put(&folder.path().join("damaged"), &bytes));
            } else {
                dump[at] ^= 1 << (dice >> 32 & 7);
            }
            let begun = Instant::now();
            let Some(snapshot) = take(dump, kernel.as_ref().unwrap_or(&file)) else {
                refused += 1;
                continue;
            };
            slowest = slowest.max(begun.elapsed());
            assert!(begun.elapsed() < LIMIT_TIME, "{}, flip {n} at {at:#x}: {:?}", made.name, begun.elapsed());
            assert!(snapshot.threads.len() <= 64 && snapshot.frames.len() <= 4096, "{}, flip {n}", made.name);
            let mut written = Vec::new();
            snapshot.write_to(&mut written).unwrap();
            assert_eq!(Snapshot::read_slice(&written).unwrap().0, snapshot, "{}, flip {n} at {at:#x}", made.name);
            same += usize::from(named(&snapshot) == named(&whole) && snapshot.threads.len() == 3);
        }
        let name = made.name;
        println!(
            "{name}: {count} flips, {refused} refused, {same} without loss, slowest {slowest:?}, peak {} kB",
            peak_kilobytes()
        );
        assert!(same * 2 > count, "{name}: {same} of {count} without loss, {refused} refused");
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
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
