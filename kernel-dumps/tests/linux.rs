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
