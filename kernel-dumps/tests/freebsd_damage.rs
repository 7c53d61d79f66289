//! Damaged dumps of FreeBSD kernels in every container: cut off at every 4 KiB, and with bytes flipped one at a time.
//! Nothing panics, what is complete is read and is right, and memory stays bounded.
//!
//! `POSTFAULT_MUTATIONS` is how many flips each container gets (120; the whole is 20,000), `POSTFAULT_CONTAINER` a part
//! of the names of those that get any (all).

#[path = "support/made.rs"]
mod made;
mod support;

use evidence::{Addr, Machine as _, PhysAddr, Target as _};
use kernel_dumps::freebsd::{FreeBsdDump, Options, notes};
use made::{ALL, hex, memory, minidump, open, openssl, packed, unpack};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use testdata::freebsd::device::{Record, key_record};
use testdata::freebsd::minidump::{Machine, Minidump};
use testdata::freebsd::{Memory, full, textdump};
use testdata::memory::peak_kilobytes;

/// Kilobytes that this process may ever have in memory.
const LIMIT_PEAK: u64 = 512 << 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layer {
    Plain,
    Gzip,
    Zstandard,
}

/// What a container must give back as far as it goes.
#[derive(Clone)]
enum Truth {
    /// Page numbers in the order of the file, from this offset of the dump on.
    Pages(usize, Vec<(u64, Vec<u8>)>),
    /// Members, and where each ends in the archive.
    Text(Vec<(&'static str, String, usize)>),
    /// An archive on its device: its first block is the last one there.
    Reversed,
}

struct Container {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
    key: Option<PathBuf>,
    /// Where the stream starts in it, and the stream before it was encrypted.
    at: usize,
    stream: Vec<u8>,
    layer: Layer,
    /// The cipher works on blocks of so many bytes.
    block: usize,
    truth: Truth,
}

impl Container {
    fn open(&self, bytes: Vec<u8>) -> Result<FreeBsdDump, String> {
        let options = Options { key: self.key.clone(), unpack: Some(&unpack) };
        FreeBsdDump::from_source(&self.path, Box::new(bytes), &options).map_err(|e| e.to_string())
    }

    /// How many bytes of the dump are there when the container ends at `end`.
    fn available(&self, end: usize) -> usize {
        let there = end.saturating_sub(self.at).min(self.stream.len());
        let part = &self.stream[..there / self.block * self.block];
        let mut out = Vec::new();
        let _ = match self.layer {
            Layer::Plain => return part.len(),
            Layer::Gzip => flate2::read::GzDecoder::new(part).read_to_end(&mut out),
            Layer::Zstandard => zstd::stream::read::Decoder::new(part).unwrap().read_to_end(&mut out),
        };
        out.len()
    }
}

/// Reads what an analysis would read first, whatever it is worth.
fn touch(dump: &FreeBsdDump) {
    let mut buffer = [0; 64];
    for at in [0xffff_ffff_8020_0000_u64, 0xffff_ffff_8060_0100, 0xffff_f800_0010_0000, 0xc020_0000, 0, u64::MAX - 3] {
        assert!(dump.memory().read(Addr(at), &mut buffer).0 <= 64);
        assert!(dump.read_physical(PhysAddr(at & 0xffff_ffff), &mut buffer).0 <= 64);
    }
    let _ = dump.space(PhysAddr(0x10_0000)).map(|s| s.read(Addr(0x20_0000), &mut buffer));
    let _ = (dump.physical_extents().len(), dump.notes().len());
    assert!(dump.gaps().doubts.len() <= evidence::LIMIT_DOUBTS + 1);
}

fn page(dump: &FreeBsdDump, number: u64) -> Option<Vec<u8>> {
    let mut read = vec![0; 4096];
    (dump.read_physical(PhysAddr(number * 4096), &mut read) == (4096, None)).then_some(read)
}

/// The pages of a dump as they lie in it.
fn pages(dump: &[u8]) -> Truth {
    let opened = open(dump.to_vec()).unwrap();
    let numbers = opened.physical_extents();
    let numbers = numbers.iter().flat_map(|e| e.range.start.0 / 4096..e.range.end.0 / 4096);
    let list: Vec<(u64, Vec<u8>)> = numbers.map(|n| (n, page(&opened, n).unwrap())).collect();
    let start = dump.len() - list.len() * 4096;
    // What was just read is what the writer wrote.
    for (slot, (number, bytes)) in list.iter().enumerate() {
        assert_eq!(&dump[start + slot * 4096..start + (slot + 1) * 4096], &bytes[..], "page {number:#x}");
    }
    Truth::Pages(start, list)
}

fn full_dump(levels: u32) -> (Vec<u8>, Memory) {
    let (mut memory, _) = memory(0xffff_ffff_8000_0000);
    full::page_tables(&mut memory, levels);
    (full::write(&memory), memory)
}

/// The machines whose full dumps have tables of other forms, and where their kernels begin.
const FULL: [(full::Tables, u64); 4] = [
    (full::Tables::Arm64, 0xffff_0000_0000_0000),
    (full::Tables::Arm64Large, 0xffff_0000_0000_0000),
    (full::Tables::I386, 0xc000_0000),
    (full::Tables::I386Pae, 0xc000_0000),
];

fn full_of(tables: full::Tables, base: u64) -> (Vec<u8>, Memory) {
    let (mut memory, _) = memory(base);
    if tables == full::Tables::Arm64Large {
        memory = memory.grouped();
    }
    full::add(&mut memory, tables);
    (full::write_for(&memory, tables), memory)
}

/// A dump that does not become small when it is compressed: so many of its pages are noise.
fn noisy(pages: u64) -> Vec<u8> {
    let base = 0xffff_ffff_8000_0000;
    let (mut memory, _) = memory(base);
    let mut state = 0x1234_5678_9abc_def1_u64;
    let noise: Vec<u8> = (0..pages * 512)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    memory.write(base + 0x30_0000, &noise);
    let direct = (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0);
    Minidump { machine: Machine::Amd64, version: 3, kernel_base: base, direct, messages: b"hello\n".to_vec() }
        .write(&memory)
}

/// Every container. `folder` keeps the files with keys.
fn containers(folder: &Path) -> Vec<Container> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, at: usize, stream: Vec<u8>, layer, truth| {
        let container = Container {
            name: name.to_owned(),
            path: "dump".into(),
            bytes,
            key: None,
            at,
            stream,
            layer,
            block: 1,
            truth,
        };
        all.push(container);
    };
    for (machine, version) in ALL {
        let dump = minidump(machine, version).0;
        add(&format!("{machine:?} minidump {version}"), dump.clone(), 0, dump.clone(), Layer::Plain, pages(&dump));
    }
    for levels in [4, 5] {
        let dump = full_dump(levels).0;
        add(&format!("full dump, {levels} levels"), dump.clone(), 0, dump.clone(), Layer::Plain, pages(&dump));
    }
    for (tables, base) in FULL {
        let dump = full_of(tables, base).0;
        add(&format!("full dump, {tables:?}"), dump.clone(), 0, dump.clone(), Layer::Plain, pages(&dump));
    }
    let dump = minidump(Machine::Amd64, 3).0;
    let truth = pages(&dump);
    let start = 65_536 + 512;
    add("device", Record::new(dump.len()).device(0, &[], &dump), start, dump.clone(), Layer::Plain, truth.clone());
    let dump = noisy(60);
    let truth = pages(&dump);
    for (number, layer) in [(1, Layer::Gzip), (2, Layer::Zstandard)] {
        let stream = packed(&dump, number == 2);
        add(&format!("{layer:?} file"), stream.clone(), 0, stream.clone(), layer, truth.clone());
        let record = Record { compression: number, extent: stream.len() as u64 + 9000, ..Record::new(stream.len()) };
        let device = record.device(0, &[], &stream);
        add(&format!("{layer:?} on its device"), device, start, stream, layer, truth.clone());
    }
    let texts: Vec<(&'static str, String)> = [("ddb.txt", 9000), ("msgbuf.txt", 12_000), ("panic.txt", 40)]
        .iter()
        .map(|(name, size)| (*name, (0..*size).map(|n| char::from(b'a' + (n % 23) as u8)).collect()))
        .collect();
    let list: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let archive = textdump::archive(&list);
    let mut end = 0;
    let members = texts.iter().map(|(name, text)| {
        end += 512 + text.len().next_multiple_of(512);
        (*name, text.clone(), end)
    });
    add("text dump", archive.clone(), 0, archive.clone(), Layer::Plain, Truth::Text(members.collect()));
    let reversed = textdump::on_device(&archive);
    let record = Record { magic: "FreeBSD Text Dump", ..Record::new(reversed.len()) };
    add("text dump on its device", record.device(0, &[], &reversed), start, reversed, Layer::Plain, Truth::Reversed);
    encrypted(folder, &mut all);
    all
}

fn encrypted(folder: &Path, all: &mut Vec<Container>) {
    let private = folder.join("private.pem");
    // A short key: opening each of many thousand damaged files takes it once.
    std::fs::write(&private, openssl(&["genrsa", "768"], b"")).unwrap();
    let key: Vec<u8> = (0..64_u8).map(|n| n.wrapping_mul(37)).collect();
    let vector: [u8; 32] = std::array::from_fn(|n| n as u8 ^ 0x5c);
    let name = private.to_str().unwrap();
    let wrapped = openssl(&["pkeyutl", "-encrypt", "-inkey", name, "-pkeyopt", "rsa_padding_mode:pkcs1"], &key);
    let counter = format!("0000000000000000{}", hex(&vector[..8]));
    let chacha = |bytes: &[u8]| openssl(&["enc", "-chacha20", "-K", &hex(&key[..32]), "-iv", &counter], bytes);
    let aes = ["enc", "-aes-256-cbc", "-nopad", "-K", &hex(&key[..32]), "-iv", &hex(&vector[..16])];
    let plain = minidump(Machine::Amd64, 3).0;
    let noise = noisy(14);
    for (name, cipher, stream, layer, dump) in [
        ("AES-256-CBC", 1_u8, plain.clone(), Layer::Plain, &plain),
        ("ChaCha20", 2, plain.clone(), Layer::Plain, &plain),
        ("ChaCha20 and Zstandard", 2, packed(&noise, true), Layer::Zstandard, &noise),
    ] {
        let truth = pages(dump);
        let secret = if cipher == 1 { openssl(&aes, &stream) } else { chacha(&stream) };
        let record_of_key = key_record(cipher, &vector, &wrapped, 512);
        let compression = if layer == Layer::Zstandard { 2 } else { 0 };
        let record = Record { compression, key_size: record_of_key.len() as u32, ..Record::new(secret.len()) };
        let record = Record { extent: record.extent.next_multiple_of(512), ..record };
        let container = |name: String, path: PathBuf, bytes: Vec<u8>, at: usize| Container {
            name,
            path,
            bytes,
            key: Some(private.clone()),
            at,
            stream: stream.clone(),
            layer,
            block: if cipher == 1 { 16 } else { 1 },
            truth: truth.clone(),
        };
        let device = record.device(0, &record_of_key, &secret);
        all.push(container(format!("{name} on its device"), "dump".into(), device, 66_048 + record_of_key.len()));
        // As savecore leaves it, with key.N beside it.
        let place = folder.join(format!("{cipher}{compression}"));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("key.0"), &record_of_key).unwrap();
        all.push(container(format!("{name} file"), place.join("vmcore_encrypted.0"), secret, 0));
    }
}

#[test]
fn what_is_complete_is_read_wherever_the_file_ends() {
    let folder = tempfile::tempdir().unwrap();
    for container in containers(folder.path()) {
        let (name, whole) = (&container.name, container.bytes.len());
        let (mut opened, mut salvaged) = (0, 0);
        for end in (0..whole).step_by(4096).chain([whole]) {
            let available = container.available(end);
            let result = container.open(container.bytes[..end].to_vec());
            if let Ok(dump) = &result {
                opened += 1;
                touch(dump);
            }
            match &container.truth {
                Truth::Pages(start, list) => {
                    for (slot, (number, bytes)) in list.iter().enumerate() {
                        let complete = start + (slot + 1) * 4096 <= available;
                        match result.as_ref().ok().and_then(|d| page(d, *number)) {
                            Some(read) => {
                                assert!(read == *bytes, "{name}, cut at {end:#x}: page {number:#x} is wrong");
                                salvaged += 1;
                            }
                            None => {
                                let why = result.as_ref().err();
                                assert!(!complete, "{name}, cut at {end:#x}: page {number:#x} is not read: {why:?}");
                            }
                        }
                    }
                }
                Truth::Text(members) => {
                    for (member, text, last) in members {
                        let owner = format!("{}{member}", notes::TEXT);
                        let note = |d: &FreeBsdDump| {
                            d.notes().iter().any(|n| *n.owner == *owner && *n.body == *text.as_bytes())
                        };
                        let found = result.as_ref().is_ok_and(note);
                        assert!(found || *last > available, "{name}, cut at {end:#x}: {member} is not read");
                        salvaged += usize::from(found);
                    }
                }
                Truth::Reversed => salvaged += result.as_ref().map_or(0, |d| d.notes().len()),
            }
            if let Err(why) = &result {
                assert!(
                    why.contains("expected") || why.contains("cannot") || why.contains("is encrypted"),
                    "{name}: {why}"
                );
            }
        }
        assert!(opened > 0 && salvaged > 0, "{name}");
        println!("{name}: {whole} bytes, {opened} cuts opened, {salvaged} pages or texts salvaged");
    }
    assert!(peak_kilobytes() < LIMIT_PEAK, "{} kB", peak_kilobytes());
}

#[test]
fn flipped_bytes_cost_what_they_hit() {
    let count: usize = std::env::var("POSTFAULT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let only = std::env::var("POSTFAULT_CONTAINER").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for container in containers(folder.path()).into_iter().filter(|c| c.name.contains(&only)) {
        let name = &container.name;
        let begun = std::time::Instant::now();
        let (mut opened, mut compared) = (0, 0);
        let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
        for n in 0..count {
            let dice = next();
            // Half of the flips go where headers and tables are: in front, at the start of the stream, at the end.
            let whole = container.bytes.len();
            let at = match dice >> 8 & 7 {
                0 => whole - 1 - (next() as usize % whole.min(512)),
                1 => (container.at + next() as usize % 160).min(whole - 1),
                2 => (container.at + next() as usize % 24_576).min(whole - 1),
                3 => container.at.saturating_sub(next() as usize % 1024).min(whole - 1),
                _ => next() as usize % whole,
            };
            let mut bytes = container.bytes.clone();
            bytes[at] ^= 1 << (dice >> 32 & 7);
            let dump = match container.open(bytes) {
                Ok(dump) => dump,
                Err(why) => {
                    let reason: String = why.chars().filter(|c| !c.is_ascii_digit()).take(90).collect();
                    *refusals.entry(reason).or_default() += 1;
                    continue;
                }
            };
            opened += 1;
            touch(&dump);
            // A flip among the pages spoils the one it hits (and with a chained cipher the next).
            let Truth::Pages(start, list) = &container.truth else { continue };
            if container.layer != Layer::Plain
                || at < container.at + start
                || at >= container.at + container.stream.len()
            {
                continue;
            }
            let hit = (at - container.at - start) / 4096;
            for _ in 0..6 {
                let slot = next() as usize % list.len();
                if slot == hit || slot == hit + 1 {
                    continue;
                }
                let (number, bytes) = &list[slot];
                let read = page(&dump, *number);
                assert!(read.as_ref() == Some(bytes), "{name}, flip {n} at {at:#x}: page {number:#x}");
                compared += 1;
            }
        }
        // Those in the page that holds the headers may be refused, nothing else.
        assert!(opened * 3 > count, "{name}: {opened} of {count} were opened: {refusals:?}");
        println!(
            "{name}: {count} flips, {opened} opened, {compared} other pages right, {} kinds of refusals, {} ms, peak {} kB",
            refusals.len(),
            begun.elapsed().as_millis(),
            peak_kilobytes()
        );
        assert!(peak_kilobytes() < LIMIT_PEAK, "{name}: {} kB", peak_kilobytes());
    }
}
