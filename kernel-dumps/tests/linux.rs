//! Real dumps of Linux kernels, and what happens when they are damaged.

use evidence::{Absent, Addr, Machine, PhysAddr, Target};
use kernel_dumps::linux::LinuxDump;
use std::path::Path;
use testdata::fixtures::fixture;

const DUMPS: [&str; 2] = ["linux-kernel/tiny/tiny.zstd-d31", "linux-kernel/debian/null.full.kdump"];

fn read(dump: &LinuxDump, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let (got, _) = dump.memory().read(Addr(at), &mut bytes);
    bytes.truncate(got);
    bytes
}

/// `init_uts_ns` holds the release that VMCOREINFO states: it is found by symbol, through KASLR, phys_base and the
/// page tables of the dump.
#[test]
fn kernel_memory_is_read_through_its_page_tables() {
    for path in DUMPS {
        let Some(file) = fixture(path) else { return };
        let dump = LinuxDump::open(&file).unwrap();
        let info = dump.vmcoreinfo();
        let release = info.get("OSRELEASE").unwrap();
        let bytes = read(&dump, info.symbol("init_uts_ns").unwrap(), 512);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(release), "{path}: {release} is not in {text:?}");
        assert_eq!(dump.identity().release.as_deref(), Some(release));
        let cpu = &dump.threads()[0].registers;
        assert!(cpu.pc().unwrap().0 > 0xffff_ffff_8000_0000, "{path}: {cpu:?}");
        assert_eq!(read(&dump, cpu.sp().unwrap().0, 8).len(), 8, "{path}: no stack at sp: it is in vmalloc space");
        assert!(dump.gaps().doubts.is_empty(), "{path}: {:?}", dump.gaps().doubts);
    }
}

/// The serial log's banner lies in the printk ring: found in physical memory, page by page.
#[test]
fn physical_memory_holds_the_kernels_log() {
    let Some(file) = fixture(DUMPS[0]) else { return };
    let dump = LinuxDump::open(&file).unwrap();
    let needle = b"BUG: kernel NULL pointer dereference, address";
    let mut found = false;
    for extent in dump.physical_extents() {
        let mut at = extent.range.start.0;
        while at < extent.range.end.0 {
            let mut page = vec![0; 4096];
            let (got, why) = dump.read_physical(PhysAddr(at), &mut page);
            assert_eq!((got, why), (4096, None), "at {at:#x}");
            found |= page.windows(needle.len()).any(|w| w == needle);
            at += 4096;
        }
    }
    assert!(found);
    let mut byte = [0];
    assert_eq!(dump.read_physical(PhysAddr(1 << 50), &mut byte), (0, Some(Absent::Unmapped)));
    assert_eq!(dump.memory().read(Addr(0x8000_0000_0000_0000), &mut byte), (0, Some(Absent::Unmapped)));
}

/// Reads what an analysis would read first, whatever it is worth.
fn exercise(bytes: Vec<u8>) {
    let Ok(dump) = LinuxDump::from_source(Path::new("damaged"), Box::new(bytes)) else { return };
    let mut page = vec![0; 4096];
    for extent in dump.physical_extents().iter().take(16) {
        dump.read_physical(PhysAddr(extent.range.start.0), &mut page);
    }
    for thread in dump.threads().iter().take(4) {
        for at in [thread.registers.pc(), thread.registers.sp()].into_iter().flatten() {
            dump.memory().read(at, &mut page);
        }
    }
    if let Some(at) = dump.vmcoreinfo().symbol("init_uts_ns") {
        dump.memory().read(Addr(at), &mut page);
    }
}

#[test]
fn truncated_dumps_are_opened_as_far_as_they_go_or_refused() {
    let Some(file) = fixture(DUMPS[0]) else { return };
    let whole = std::fs::read(&file).unwrap();
    for end in (0..whole.len()).step_by(64 << 10) {
        exercise(whole[..end].to_vec());
    }
    let half = whole[..whole.len() / 2].to_vec();
    let dump = LinuxDump::from_source(Path::new("half"), Box::new(half)).unwrap();
    let mut reasons = [0; 2];
    for extent in dump.physical_extents() {
        let mut at = extent.range.start.0;
        while at < extent.range.end.0 {
            match dump.read_physical(PhysAddr(at), &mut [0; 8]) {
                (8, None) => reasons[0] += 1,
                (0, Some(Absent::Truncated)) => reasons[1] += 1,
                other => panic!("{other:?} at {at:#x}"),
            }
            at += 4096;
        }
    }
    assert!(reasons[0] > 100 && reasons[1] > 100, "{reasons:?}");
}

/// Flips bytes where they hurt most: headers, bitmaps, descriptors.
#[test]
fn flipped_bytes_do_no_harm() {
    let Some(file) = fixture(DUMPS[0]) else { return };
    let whole = std::fs::read(&file).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next() % 4 {
            let at = (next() % 0x20000) as usize;
            bytes[at] = next() as u8;
        }
        exercise(bytes);
    }
}

#[test]
fn other_files_are_refused_with_what_they_are() {
    let refuse = |bytes: &[u8]| match LinuxDump::from_source(Path::new("x"), Box::new(bytes.to_vec())) {
        Ok(_) => panic!("opened"),
        Err(e) => e.to_string(),
    };
    assert!(refuse(b"").contains("kernel dump"));
    assert!(refuse(&0xdefe_c8ed_u32.to_le_bytes()).contains("illumos"));
    assert!(refuse(b"KDUMP   ").contains("464 bytes"));
    assert!(refuse(&[0; 8192]).contains("expected a kernel dump"));
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The sub header is the second block.
const SUB: usize = 4096;

/// Without the note, the kernel's own copy of VMCOREINFO is found in its memory, and is the same.
#[test]
fn vmcoreinfo_is_found_in_memory() {
    let Some(file) = fixture(DUMPS[0]) else { return };
    let mut bytes = std::fs::read(&file).unwrap();
    let truth = LinuxDump::open(&file).unwrap();
    bytes[SUB + 32..SUB + 48].fill(0);
    let (at, size) = (word(&bytes, SUB + 48) as usize, word(&bytes, SUB + 56) as usize);
    let notes = &mut bytes[at..at + size];
    if let Some(name) = notes.windows(11).position(|w| w == b"VMCOREINFO\0") {
        notes[name] = b'X';
    }
    let dump = LinuxDump::from_source(Path::new("x"), Box::new(bytes)).unwrap();
    assert!(truth.vmcoreinfo().iter().count() > 50);
    let differ: Vec<_> =
        truth.vmcoreinfo().iter().filter(|(key, value)| dump.vmcoreinfo().get(key) != Some(value)).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let doubts = &dump.gaps().doubts;
    assert!(doubts.iter().any(|d| d.why.contains("was found at physical address")), "{doubts:?}");
    let at = dump.vmcoreinfo().symbol("init_uts_ns").unwrap();
    assert_eq!(read(&dump, at, 512), read(&truth, at, 512));
}

/// Found by fuzzing: a program header of gigabytes over the hole of a flattened file is not searched page by page.
#[test]
fn a_hole_is_not_searched() {
    let piece = |offset: u64, data: &[u8]| [&offset.to_be_bytes(), &(data.len() as u64).to_be_bytes(), data].concat();
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend(1_u64.to_le_bytes());
    elf.extend([4096_u64, 0, 0, 1 << 48, 1 << 48, 0].map(u64::to_le_bytes).concat());
    let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    file.resize(4096, 0);
    file.extend(piece(0, &elf));
    file.extend(piece(1 << 50, b"x"));
    file.extend([0xff; 16]);
    let dump = LinuxDump::from_source(Path::new("x"), Box::new(file)).unwrap();
    let doubts = &dump.gaps().doubts;
    assert!(doubts.iter().any(|d| d.why.contains("searched for in 6 pages only")), "{doubts:?}");
}

/// The pages `range` of a dump as one of the files of `makedumpfile --split`: all of the bitmaps, some descriptors.
fn part(whole: &[u8], range: std::ops::Range<u64>) -> Vec<u8> {
    let block = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize * 4096;
    let (bitmaps, size) = (4096 + block(432), block(436));
    let table = bitmaps + size;
    let dumped = &whole[bitmaps + size / 2..table];
    let pages: Vec<u64> =
        (0..dumped.len() as u64 * 8).filter(|n| dumped[*n as usize / 8] >> (n % 8) & 1 == 1).collect();
    let mut out = whole[..table].to_vec();
    out[SUB + 12..SUB + 16].copy_from_slice(&1_u32.to_le_bytes());
    out[SUB + 80..SUB + 88].copy_from_slice(&range.start.to_le_bytes());
    out[SUB + 88..SUB + 96].copy_from_slice(&range.end.to_le_bytes());
    let own: Vec<usize> = (0..pages.len()).filter(|index| range.contains(&pages[*index])).collect();
    let (mut data, notes) = (Vec::<u8>::new(), table + own.len() * 24);
    for (offset, size) in [(32, 40), (48, 56)] {
        let (at, size) = (word(whole, SUB + offset) as usize, word(whole, SUB + size) as usize);
        out[SUB + offset..SUB + offset + 8].copy_from_slice(&((notes + data.len()) as u64).to_le_bytes());
        data.extend(&whole[at..at + size]);
    }
    for index in own {
        let mut descriptor = whole[table + index * 24..table + index * 24 + 24].to_vec();
        let (at, size) = (word(&descriptor, 0) as usize, (word(&descriptor, 8) & 0xffff_ffff) as usize);
        descriptor[..8].copy_from_slice(&((notes + data.len()) as u64).to_le_bytes());
        data.extend(&whole[at..at + size]);
        out.extend(descriptor);
    }
    out.extend(data);
    out
}

fn parts(list: &[&[u8]]) -> Result<LinuxDump, String> {
    let named = |(n, bytes): (usize, &&[u8])| -> (std::path::PathBuf, Box<dyn kernel_dumps::ReadAt>) {
        (format!("part{n}").into(), Box::new(bytes.to_vec()))
    };
    LinuxDump::from_parts(list.iter().enumerate().map(named).collect()).map_err(|e| e.to_string())
}

#[test]
fn parts_of_a_split_dump_are_one_dump() {
    let Some(file) = fixture(DUMPS[0]) else { return };
    let whole = std::fs::read(&file).unwrap();
    let truth = LinuxDump::open(&file).unwrap();
    let starts = |dump: &LinuxDump| -> Vec<u64> {
        dump.physical_extents().iter().flat_map(|e| (e.range.start.0..e.range.end.0).step_by(4096)).collect()
    };
    let all = starts(&truth);
    let (a, b) = (all[all.len() / 3] / 4096, all[all.len() * 2 / 3] / 4096);
    let made = [part(&whole, 0..a), part(&whole, a..b), part(&whole, b..1 << 20)];
    let [first, second, third] = made.each_ref().map(Vec::as_slice);
    let dump = parts(&[third, first, second]).unwrap();
    assert!(dump.gaps().doubts.is_empty(), "{:?}", dump.gaps().doubts);
    assert_eq!(dump.physical_extents(), truth.physical_extents());
    let page = |dump: &LinuxDump, at| {
        let mut page = vec![0; 4096];
        (dump.read_physical(PhysAddr(at), &mut page), page)
    };
    for at in all.iter().copied() {
        assert_eq!(page(&dump, at), page(&truth, at), "{at:#x}");
    }
    // A part without pages ends where its bitmaps' last zeros would be (seen of makedumpfile 1.7.2).
    let mut empty = part(&whole, 1 << 20..1 << 21);
    let block = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize * 4096;
    let end = 4096 + block(432) + block(436) - 5;
    assert!(empty[end..end + 5].iter().all(|b| *b == 0));
    // The notes that the helper puts behind go with it.
    empty.truncate(end);
    empty[SUB + 32..SUB + 64].copy_from_slice(&[0; 32]);
    let alone = LinuxDump::from_source(Path::new("x"), Box::new(empty.clone())).unwrap();
    assert!(alone.gaps().doubts.iter().any(|d| d.why.contains("--part")), "{:?}", alone.gaps().doubts);
    assert!(!alone.gaps().doubts.iter().any(|d| d.why.contains("the file ends")), "{:?}", alone.gaps().doubts);
    empty.truncate(end - 4096);
    assert!(LinuxDump::from_source(Path::new("x"), Box::new(empty)).is_err());
    // Without one of them its pages are missing, and this is said.
    let lone = LinuxDump::from_source(Path::new("x"), Box::new(first.to_vec())).unwrap();
    for lone in [parts(&[first, third]).unwrap(), lone] {
        let doubts = &lone.gaps().doubts;
        assert!(doubts.iter().any(|d| d.why.contains("--part")), "{doubts:?}");
        for at in all.iter().copied().filter(|at| *at < b * 4096) {
            let expected = if at < a * 4096 { (4096, None) } else { (0, Some(Absent::Truncated)) };
            assert_eq!(page(&lone, at).0, expected, "{at:#x}");
        }
    }
    let refused = |list: &[&[u8]]| parts(list).err().unwrap();
    assert!(refused(&[first, first]).contains("which another part has"));
    assert!(refused(&[first, &whole]).contains("a dump by itself"));
    assert!(refused(&[]).contains("without parts"));
    assert!(refused(&[b"\x7fELF"]).contains("no compressed kdump"));
}
