//! illumos dumps of our own writer in every form, whole and damaged: what is read, what is lost, and what is said.

use evidence::{Absent, Addr, Machine, PhysAddr, Target};
use kernel_dumps::illumos::{IllumosDump, Lost, Place};
use kernel_dumps::{Error, Options, ReadAt};
use std::path::Path;
use testdata::illumos::{Compression, Dump, Key};
use testdata::memory::peak_kilobytes;

const KEY: Key = Key { key: [7; 32], nonce: [1, 2, 3, 4, 5, 6, 7, 8] };

fn open(bytes: Vec<u8>, key: Option<&Key>) -> Result<IllumosDump, Error> {
    let options = Options { key: key.map(|k| k.key.to_vec()) };
    IllumosDump::from_source(Path::new("dump"), Box::new(bytes), &options)
}

fn opened(bytes: Vec<u8>) -> IllumosDump {
    open(bytes, None).unwrap()
}

/// Every page that can be read is right; the others are exactly those in `lost`.
fn compare(dump: &IllumosDump, truth: &Dump, lost: &[Lost], what: &str) {
    let (kas, user, _) = Dump::SPACES;
    for (index, (pfn, bytes)) in truth.pages.iter().enumerate() {
        let is_lost = lost.iter().any(|l| l.pages.contains(&(index as u64)));
        match dump.page(index as u64) {
            Ok(page) => {
                assert!(&*page == bytes.as_slice(), "{what}: page {index} is wrong");
                assert!(!is_lost, "{what}: page {index} is there and was called lost");
            }
            Err(_) => assert!(is_lost, "{what}: page {index} is not there and nobody says so"),
        }
        if !is_lost && dump.place() != Place::Vmcore {
            let mut read = vec![0; 4096];
            assert_eq!(dump.read_physical(PhysAddr(pfn << 12), &mut read), (4096, None), "{what}: frame {pfn:#x}");
            assert!(read == *bytes);
        }
    }
    let spaces = [(kas, dump.space(PhysAddr(kas)).unwrap()), (user, dump.space(PhysAddr(user)).unwrap())];
    for (space, at, pfn) in &truth.map {
        let Some(index) = truth.pages.iter().position(|(p, _)| p == pfn) else { continue };
        if lost.iter().any(|l| l.pages.contains(&(index as u64))) {
            continue;
        }
        let memory = &spaces.iter().find(|(s, _)| s == space).unwrap().1;
        let mut read = vec![0; 4096];
        assert_eq!(memory.read(Addr(*at), &mut read), (4096, None), "{what}: {at:#x} of {space:#x}");
        assert!(read == truth.pages[index].1, "{what}: {at:#x} of {space:#x}");
    }
}

fn doubts(dump: &IllumosDump) -> String {
    dump.gaps().doubts.iter().map(|d| format!("{}: {}\n", d.what, d.why)).collect()
}

/// All forms of a sample.
fn samples() -> Vec<(String, Dump)> {
    let mut list = Vec::new();
    for compression in Compression::ALL {
        for blocks_per_range in [false, true] {
            for serial_tail in [0, 5] {
                let dump = Dump { compression, blocks_per_range, serial_tail, ..Dump::sample(60, 42) };
                list.push((format!("{compression:?} {blocks_per_range} {serial_tail}"), dump));
            }
        }
    }
    list
}

#[test]
fn every_form_reads_back() {
    for (what, truth) in samples() {
        let dump = opened(truth.vmdump());
        assert_eq!((dump.place(), doubts(&dump).as_str()), (Place::Vmdump, ""), "{what}");
        compare(&dump, &truth, &[], &what);
        if truth.serial_tail > 0 || truth.blocks_per_range {
            continue;
        }
        let dump = opened(truth.device(None));
        assert_eq!((dump.place(), doubts(&dump).as_str()), (Place::Device, ""), "{what}");
        compare(&dump, &truth, &[], &what);
        let dump = open(truth.device(Some(&KEY)), Some(&KEY)).unwrap();
        assert_eq!((dump.place(), doubts(&dump).as_str()), (Place::Device, ""), "{what}");
        compare(&dump, &truth, &[], &what);
    }
    let truth = Dump::sample(100, 42);
    let dump = opened(truth.vmcore());
    assert_eq!((dump.place(), dump.mode(), doubts(&dump).as_str()), (Place::Vmcore, None, ""));
    compare(&dump, &truth, &[], "vmcore");
}

#[test]
fn what_only_a_device_holds() {
    let truth = Dump {
        messages: vec!["first".into(), "panic[cpu0]".into()],
        reports: vec![b"report".to_vec()],
        ..Dump::sample(10, 1)
    };
    let dump = open(truth.device(Some(&KEY)), Some(&KEY)).unwrap();
    let texts: Vec<&[u8]> =
        dump.notes().iter().filter(|n| &*n.owner == "illumos.message").map(|n| &n.body[24..]).collect();
    assert_eq!(texts, [&b"first"[..], b"panic[cpu0]"]);
    assert!(dump.notes().iter().any(|n| &*n.owner == "illumos.ereport" && &*n.body == b"report"));
    assert!(dump.attributes().iter().any(|a| &*a.key == "panic.summary" && a.value.contains("panicsys")));
    assert_eq!(dump.identity().host.as_deref(), Some("host-one"));
    assert_eq!(dump.identity().taken_at_ns, Some(1_700_000_000_000_000_000));
}

#[test]
fn keys() {
    let truth = Dump::sample(10, 1);
    let device = truth.device(Some(&KEY));
    let refused = |key: Option<&Key>| open(device.clone(), key).err().unwrap().to_string();
    assert!(refused(None).contains("--key"), "{}", refused(None));
    assert!(refused(Some(&Key { key: [8; 32], ..KEY })).contains("another key"));
    let options = Options { key: Some(vec![0; 31]) };
    let short = IllumosDump::from_source(Path::new("d"), Box::new(device.clone()), &options).err().unwrap();
    assert!(short.to_string().contains("31 bytes"));
    assert!(doubts(&open(truth.device(None), Some(&KEY)).unwrap()).contains("not encrypted"));
    // savecore decrypts: a file that still says "encrypted" says so erroneously.
    let mut vmdump = truth.vmdump();
    vmdump[8] |= 0x10;
    let dump = opened(vmdump);
    assert!(doubts(&dump).contains("never are"), "{}", doubts(&dump));
    compare(&dump, &truth, &[], "erroneously encrypted");
}

/// Trap 1: two headers.
#[test]
fn one_header_is_enough() {
    for (what, truth) in samples() {
        let whole = truth.vmdump();
        let mut first = whole.clone();
        first[..4096].fill(0xff);
        let dump = opened(first);
        assert!(doubts(&dump).contains("first header is damaged"), "{}", doubts(&dump));
        compare(&dump, &truth, &[], &what);
        // Without the last 64 KiB there is no terminal header; compression is told from the blocks.
        let cut = whole[..whole.len() - 65_536].to_vec();
        let dump = opened(cut);
        assert!(doubts(&dump).contains("terminal header is missing"), "{}", doubts(&dump));
        compare(&dump, &truth, &dump.lost(), &what);
        assert_eq!(dump.lost(), [], "{what}");
        // One number of the first header is wrong: the other header fits the file better.
        let mut contradicting = whole.clone();
        contradicting[39] = 0x7f;
        let dump = opened(contradicting);
        assert!(doubts(&dump).contains("the terminal one was believed"), "{}", doubts(&dump));
        compare(&dump, &truth, &[], &what);
    }
    let truth = Dump::sample(20, 3);
    let mut device = truth.device(None);
    let end = device.len();
    device[end - 65_536..].fill(0);
    compare(&opened(device.clone()), &truth, &[], "a device without its terminal header");
    device[65_536..65_536 + 2000].fill(0);
    assert!(open(device, None).is_err());
}

/// Pages of the sample in one of bzip2's own blocks: 100,000 bytes, in which a page of zeros takes next to nothing. A
/// block of the dump is part of two of them at most.
const BZIP2: u64 = 30;

fn tag(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at - 4..at].try_into().unwrap()) >> 20
}

/// How many pages a block holds any part of.
fn pages_of(truth: &Dump, file: &[u8], at: usize, length: usize) -> u64 {
    match truth.compression {
        Compression::Bzip2 if tag(file, at) > 0 => 2 * BZIP2,
        Compression::Lzjb if tag(file, at) > 0 => {
            let (mut here, mut pages) = (at, 0);
            while here < at + length {
                if file[here..].starts_with(b"StrmHdr\0") {
                    here += 24;
                } else {
                    here += 4 + u32::from_le_bytes(file[here..here + 4].try_into().unwrap()) as usize;
                    pages += 1;
                }
            }
            pages
        }
        _ => 1,
    }
}

/// Traps 2 and 3: one bad block costs its own pages; one whose header alone is bad, none.
#[test]
fn one_bad_block() {
    for (what, truth) in samples() {
        let whole = truth.vmdump();
        let data = u64::from_le_bytes(whole[48..56].try_into().unwrap()) as usize;
        let blocks = blocks(&whole, data);
        // Of many alike some are enough, and those at both ends.
        let tried = |n: &usize| *n < 4 || n + 4 > blocks.len() || blocks.len() < 20 || n.is_multiple_of(7);
        for (n, (at, length)) in blocks.iter().enumerate().filter(|(n, _)| tried(n)) {
            let count = |lost: &[Lost]| lost.iter().map(|l| l.pages.end - l.pages.start).sum::<u64>();
            // The middle of its contents: bzip2 has checksums, lzjb has not.
            if truth.compression == Compression::Bzip2 && tag(&whole, *at) > 0 {
                let mut bad = whole.clone();
                bad[at + length / 2] ^= 0x55;
                let dump = opened(bad);
                let lost = dump.lost();
                compare(&dump, &truth, &lost, &format!("{what}: block {n}"));
                assert!(count(&lost) <= BZIP2, "{what}: block {n}: {lost:?}");
                if count(&lost) > 0 {
                    assert!(doubts(&dump).contains("are lost: damaged"), "{}", doubts(&dump));
                }
            }
            let place = format!("{what}: header of block {n} of {}", blocks.len());
            for header in [[0xff; 4], [0; 4], 0x0000_0123_u32.to_le_bytes(), 0x0010_0123_u32.to_le_bytes()] {
                let mut bad = whole.clone();
                bad[at - 4..*at].copy_from_slice(&header);
                let dump = opened(bad);
                let lost = dump.lost();
                compare(&dump, &truth, &lost, &format!("{place}: {header:?}"));
                if truth.compression == Compression::Old && n + 1 == blocks.len() && header == [0; 4] {
                    // Without a data header that is an end mark.
                    assert_eq!(count(&lost), 1, "{place}: {lost:?}");
                } else if tag(&whole, *at) == 0 && *length == 4096 {
                    // A stored page has nothing to be known by.
                    assert!(lost.len() == 1 && count(&lost) == 1, "{place}: {header:?}: {lost:?}");
                } else {
                    assert_eq!(lost, [], "{place}: {header:?}: {}", doubts(&dump));
                    assert!(doubts(&dump).contains("whole and are used"), "{place}: {header:?}: {}", doubts(&dump));
                }
            }
            // A sector of noise over the header and what follows it.
            let mut bad = whole.clone();
            let end = at + length.min(&100);
            for (k, byte) in bad[at - 4..end].iter_mut().enumerate() {
                *byte = (k as u8).wrapping_mul(151) ^ 0xf5;
            }
            let dump = opened(bad);
            let lost = dump.lost();
            compare(&dump, &truth, &lost, &format!("{place}: noise: {}", doubts(&dump)));
            let most = pages_of(&truth, &whole, *at, *length);
            assert!(count(&lost) <= most, "{place}: noise: {most} pages, lost are {lost:?}");
            assert!(doubts(&dump).contains("is no block's header"), "{place}: {}", doubts(&dump));
        }
    }
}

/// Where the contents of each block lie.
fn blocks(file: &[u8], mut at: usize) -> Vec<(usize, usize)> {
    let mut list = Vec::new();
    loop {
        let word = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        if word == 0 {
            return list;
        }
        let length = (word & 0xf_ffff) as usize;
        list.push((at + 4, length));
        at += 4 + length;
    }
}

/// A range header that is too long, or lies beyond the dump, is nobody's; the other ranges stay.
#[test]
fn bad_range_headers() {
    let claims = |pages: &[u64]| {
        let truth = Dump { blocks_per_range: true, streams: 2, ..Dump::sample(96, 9) };
        let mut bad = truth.vmdump();
        let heads: Vec<usize> = bad.windows(8).enumerate().filter(|(_, w)| w == b"StrmHdr\0").map(|(n, _)| n).collect();
        for (head, page) in heads.iter().skip(2).zip(pages) {
            bad[head + 8..head + 16].copy_from_slice(&page.to_le_bytes());
        }
        let dump = opened(bad);
        (dump.lost(), dump, truth)
    };
    // Two ranges claim the same pages: neither is believed.
    let (lost, dump, truth) = claims(&[8]);
    assert!(lost.iter().any(|l| l.pages.contains(&8)) && lost.iter().any(|l| l.pages.contains(&40)), "{lost:?}");
    assert_eq!(lost[0].frames.map(|f| f.0), Some(truth.pages[lost[0].pages.start as usize].0));
    assert!(doubts(&dump).contains("are lost"), "{}", doubts(&dump));

    let truth = Dump { blocks_per_range: true, streams: 2, ..Dump::sample(96, 9) };
    let whole = truth.vmdump();
    let heads: Vec<usize> = whole.windows(8).enumerate().filter(|(_, w)| w == b"StrmHdr\0").map(|(n, _)| n).collect();
    assert_eq!(heads.len(), 6);
    for (field, value) in [(8, 1_u64 << 40), (16, 1 << 20), (16, 0), (0, 0)] {
        let mut bad = whole.clone();
        bad[heads[2] + field..heads[2] + field + 8].copy_from_slice(&value.to_le_bytes());
        let dump = opened(bad);
        let lost = dump.lost();
        // The other headers say which range it must have been; without its magic the first block is unreadable.
        let pages: u64 = lost.iter().map(|l| l.pages.end - l.pages.start).sum();
        assert!(if field == 0 { pages < 16 } else { pages == 0 }, "{field} {value:#x}: {lost:?}");
        compare(&dump, &truth, &lost, "range header");
    }
}

/// Trap 4: a vmcore into which nothing could be saved says so; trap 6: zero pages at the end may be missing.
#[test]
fn vmcores_without_pages() {
    let mut truth = Dump::sample(30, 5);
    for (_, page) in &mut truth.pages[25..] {
        page.fill(0);
    }
    let dump = opened(truth.vmcore());
    assert!(doubts(&dump).contains("before its last 5 pages"), "{}", doubts(&dump));
    compare(&dump, &truth, &[], "zero tail");
    for (_, page) in &mut truth.pages {
        page.fill(0);
    }
    let dump = opened(truth.vmcore());
    assert!(doubts(&dump).contains("not a single page"), "{}", doubts(&dump));
    assert_eq!(dump.page(3).err(), Some(Absent::Truncated));
    // An interrupted savecore leaves a page of zeros where the header should be.
    let truth = Dump { ksyms: b"\x7fELF".to_vec(), ..Dump::sample(5, 5) };
    let mut aborted = truth.vmcore();
    aborted[..4096].fill(0);
    let error = open(aborted, None).err().unwrap().to_string();
    assert!(error.contains("interrupted") && error.contains("vmdump"), "{error}");
}

/// Trap 5: a partial dump; its table of pages may be longer than what was written.
#[test]
fn partial_dumps() {
    for compression in Compression::ALL {
        let full = Dump { compression, ..Dump::sample(60, 8) };
        let mut part = full.clone();
        part.pages.truncate(40);
        part.flags &= !2;
        let dump = opened(part.vmdump());
        assert!(doubts(&dump).contains("partial"), "{}", doubts(&dump));
        compare(&dump, &part, &[], &format!("{compression:?}"));
        let mut byte = [0];
        let gone = full.pages[50].0;
        assert_eq!(dump.read_physical(PhysAddr(gone << 12), &mut byte), (0, Some(Absent::Filtered)));
    }
    let mut live = Dump::sample(5, 1);
    live.flags |= 4;
    assert!(doubts(&opened(live.vmdump())).contains("running system"));
}

/// Traps 7 and 8, and what is refused.
#[test]
fn refusals_and_missing_symbols() {
    let truth = Dump { ksyms: Vec::new(), ..Dump::sample(5, 1) };
    let dump = opened(truth.vmdump());
    assert!(dump.ksyms().is_empty() && doubts(&dump).contains("no symbol table"), "{}", doubts(&dump));
    compare(&dump, &truth, &[], "no symbol table");
    let with = |at: usize, value: u8| {
        let mut bytes = truth.vmdump();
        bytes[at] = value;
        open(bytes, None).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(with(12, 32).contains("32-bit"));
    assert!(with(4, 9).contains("version 9"));
    let mut saved = truth.clone();
    saved.flags &= !1;
    assert!(doubts(&opened(saved.device(None))).contains("already taken"));
    let sparc: Vec<u8> = 0xdefe_c8ed_u32.to_be_bytes().into_iter().chain([0; 8000]).collect();
    assert!(open(sparc, None).err().unwrap().to_string().contains("SPARC"));
    assert!(open(Vec::new(), None).is_err());
}

/// Trap 11: chains that loop, counts that overflow.
#[test]
fn hostile_numbers() {
    let truth = Dump::sample(40, 2);
    let mut core = truth.vmcore();
    let map = u64::from_le_bytes(core[40..48].try_into().unwrap()) as usize;
    for entry in 0..64 {
        let at = map + entry * 40;
        let own = (at as u64).to_le_bytes();
        core[at..at + 8].copy_from_slice(&own);
        core[at + 8..at + 16].copy_from_slice(&own);
        core[at + 32..at + 40].fill(0xee);
    }
    let dump = opened(core);
    let mut byte = [0];
    assert_eq!(dump.memory().read(Addr(Dump::SPACES.2), &mut byte).0, 0);
    for field in [24, 32, 40, 48, 1824, 1832, 1840, 1848, 1856] {
        for value in [u64::MAX, 1 << 62, 1 << 40] {
            for mut bytes in [truth.vmdump(), truth.vmcore(), truth.device(None)] {
                let start = if bytes[0] == 0 { 65_536 } else { 0 };
                bytes[start + field..start + field + 8].copy_from_slice(&value.to_le_bytes());
                let last = bytes.len();
                bytes.truncate(last - 65_536);
                if let Ok(dump) = open(bytes, None) {
                    let _ = (dump.lost(), dump.memory().read(Addr(Dump::SPACES.2), &mut byte));
                }
            }
        }
    }
}

struct Cut(std::sync::Arc<Vec<u8>>, u64);

impl ReadAt for Cut {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.saturating_sub(offset).min(into.len() as u64) as usize;
        self.0.read_at(offset, &mut into[..n])
    }
    fn size(&self) -> u64 {
        self.1
    }
}

#[test]
fn cut_off_anywhere() {
    for (what, truth) in samples() {
        let whole = truth.vmdump();
        let whole = std::sync::Arc::new(whole);
        for end in (0..whole.len()).step_by(4096) {
            let cut = Cut(whole.clone(), end as u64);
            let Ok(dump) = IllumosDump::from_source(Path::new("d"), Box::new(cut), &Options::default()) else {
                continue;
            };
            let lost = dump.lost();
            for (index, (_, bytes)) in truth.pages.iter().enumerate() {
                if let Ok(page) = dump.page(index as u64) {
                    assert!(&*page == bytes.as_slice(), "{what}: cut at {end:#x}: page {index} is wrong");
                } else if (index as u64) < dump.page_count() {
                    assert!(lost.iter().any(|l| l.pages.contains(&(index as u64))));
                }
            }
        }
    }
}

/// Damaged bytes: nothing panics, nothing hangs; a page of bzip2 that is read is right (it has checksums).
#[test]
fn flipped_bytes() {
    let mut seed = 77_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let small: Vec<(Vec<u8>, usize)> = Compression::ALL
        .iter()
        .flat_map(|c| {
            let truth = Dump { compression: *c, serial_tail: 2, block: 2048, range: 4, ..Dump::sample(12, 6) };
            [truth.vmdump(), truth.vmcore()]
        })
        .map(|bytes| {
            let data = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize;
            (bytes, data)
        })
        .collect();
    // The whole of it takes more than a minute on a busy machine.
    let rounds = if std::env::var_os("POSTFAULT_WHOLE").is_some() { 20_000 } else { 4_000 };
    for round in 0..rounds {
        let (bytes, data) = &small[round % small.len()];
        let mut bad = bytes.clone();
        for _ in 0..1 + round % 3 {
            // Headers and tables more often than their size deserves.
            let at = if round % 2 == 0 { next() % bad.len() } else { next() % (data + 4096).min(bad.len()) };
            bad[at] = next() as u8;
        }
        if let Ok(dump) = open(bad, None) {
            let mut byte = [0; 16];
            let _ = dump.memory().read(Addr(Dump::SPACES.2 + 4096), &mut byte);
            let _ = dump.memory().extents().len();
        }
    }
    // Of files of some kilobytes no field makes more than this, whichever other tests run beside this one.
    let peak = peak_kilobytes();
    println!("{rounds} rounds, at most {peak} kB");
    assert!(peak < 200_000, "{peak} kB");
}

/// What is written from any form is the uncompressed truth, byte for byte, and reads back.
#[test]
fn vmcores_are_written_as_savecore_does() {
    for (what, truth) in samples() {
        let expected = truth.vmcore();
        for bytes in [truth.vmdump(), truth.device(None)].into_iter().take(if truth.blocks_per_range { 1 } else { 2 }) {
            let out = tempfile::NamedTempFile::new().unwrap();
            assert_eq!(opened(bytes).write_vmcore(out.as_file()).unwrap(), [], "{what}");
            let written = std::fs::read(out.path()).unwrap();
            assert_eq!(written.len(), expected.len(), "{what}");
            assert!(written == expected, "{what}");
            let dump = opened(written);
            assert_eq!(doubts(&dump), "", "{what}");
            compare(&dump, &truth, &[], &what);
        }
    }
}
