//! Makes a small dump of a large one: a kdump that has only the pages which a capture without the kernel's file reads.
//!
//! `cargo run --package postfault-cli --example reduce-kernel-dump DUMP OUT`. Header, sub header, notes and the bitmap of RAM
//! are copied; the second bitmap, the descriptors and the pages are written anew, compressed with zstd. What was left out
//! is absent as filtered, as if makedumpfile had left it out.

use evidence::ToU64;
use kernel_dumps::linux::LinuxDump;
use kernel_dumps::{FileSource, ReadAt};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bytes of a descriptor: offset, size, flags, flags of the page.
const DESCRIPTOR: usize = 24;
/// The flag of pages compressed with zstd.
const ZSTD: u32 = 0x20;

/// A file that remembers which descriptors were asked for.
struct Recorder {
    file: FileSource,
    seen: Arc<Mutex<BTreeSet<u64>>>,
}

impl ReadAt for Recorder {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if into.len() == DESCRIPTOR {
            self.seen.lock().map_err(|_| io::Error::other("poisoned"))?.insert(offset);
        }
        self.file.read_at(offset, into)
    }

    fn size(&self) -> u64 {
        self.file.size()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dump, out] = arguments.as_slice() else { return Err("usage: reduce-kernel-dump DUMP OUT".into()) };
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let recorder = Recorder { file: FileSource::open(Path::new(dump))?, seen: seen.clone() };
    let target = LinuxDump::from_source(Path::new(dump), Box::new(recorder))?;
    // Nothing is found in a folder that is not there: the capture has nothing but the dump.
    let locator = debuginfo::Locator { system: Some("/nonexistent".into()), ..debuginfo::Locator::default() };
    let plan = capture::Plan::default();
    let snapshot = capture::capture(&target, &locator, &plan, &mut || {});
    println!("{} tasks, {} stacks, {} doubts", snapshot.tasks.len(), snapshot.threads.len(), snapshot.doubts.len());
    let seen = seen.lock().map_err(|_| "poisoned")?.clone();

    let bytes = std::fs::read(dump)?;
    let word = |at: usize| -> Result<usize, Box<dyn std::error::Error>> {
        Ok(usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4).ok_or("a short header")?.try_into()?))?)
    };
    let (block, sub_blocks, bitmap_blocks) = (word(428)?, word(432)?, word(436)?);
    let bitmaps = (1 + sub_blocks) * block;
    let half = bitmap_blocks * block / 2;
    let descriptors = bitmaps + 2 * half;
    let old = bytes.get(bitmaps + half..descriptors).ok_or("no second bitmap")?;
    let set = (0..half * 8).filter(|pfn| old[pfn >> 3] >> (pfn & 7) & 1 == 1);
    let at = |index: usize| descriptors + index * DESCRIPTOR;
    let kept: Vec<(usize, usize)> = set.enumerate().filter(|(n, _)| seen.contains(&at(*n).to_u64())).collect();

    let mut bitmap = vec![0_u8; half];
    for (_, pfn) in &kept {
        bitmap[pfn >> 3] |= 1 << (pfn & 7);
    }
    // The sub header's notes and VMCOREINFO may lie behind the pages: they are put behind the descriptors.
    let mut head = bytes.get(..bitmaps).ok_or("no sub header")?.to_vec();
    head[424..428].copy_from_slice(&ZSTD.to_le_bytes());
    let mut data = Vec::new();
    let start = descriptors + kept.len() * DESCRIPTOR;
    for field in [block + 32, block + 48] {
        let number = |at: usize| -> Result<usize, Box<dyn std::error::Error>> {
            Ok(usize::try_from(u64::from_le_bytes(head[at..at + 8].try_into()?))?)
        };
        let (offset, size) = (number(field)?, number(field + 8)?);
        let part = bytes.get(offset..offset + size).ok_or("notes outside of the file")?;
        head[field..field + 8].copy_from_slice(&(start + data.len()).to_u64().to_le_bytes());
        data.extend_from_slice(part);
    }
    let mut table = Vec::new();
    let mut same: HashMap<Vec<u8>, [u8; DESCRIPTOR]> = HashMap::new();
    for (_, pfn) in &kept {
        let mut page = vec![0; block];
        let physical = evidence::PhysAddr((pfn * block).to_u64());
        let (got, why) = evidence::Machine::read_physical(&target, physical, &mut page);
        if got != block {
            return Err(format!("page {pfn:#x}: {why:?}").into());
        }
        if !same.contains_key(&page) {
            let packed = zstd::bulk::compress(&page, 19)?;
            let (body, flags) = if packed.len() < block { (packed, ZSTD) } else { (page.clone(), 0) };
            let mut entry = [0; DESCRIPTOR];
            entry[..8].copy_from_slice(&(start + data.len()).to_u64().to_le_bytes());
            entry[8..12].copy_from_slice(&u32::try_from(body.len())?.to_le_bytes());
            entry[12..16].copy_from_slice(&flags.to_le_bytes());
            data.extend(body);
            same.insert(page.clone(), entry);
        }
        table.extend(same[&page]);
    }
    let ram = bytes.get(bitmaps..bitmaps + half).ok_or("no first bitmap")?;
    let whole = [&head[..], ram, &bitmap[..], &table[..], &data[..]].concat();
    std::fs::write(out, &whole)?;
    println!("{} pages, {} bytes", kept.len(), whole.len());
    Ok(())
}
