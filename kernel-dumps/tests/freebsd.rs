//! Real dumps of FreeBSD kernels.

mod support;

use evidence::{Absent, Addr, Machine as _, PhysAddr, Target as _};
use kernel_dumps::freebsd::FreeBsdDump;
use platform::input::Input;
use support::Bytes;
use testdata::fixtures::fixture;

fn open(name: &str) -> Option<FreeBsdDump> {
    let file = fixture(&format!("freebsd/vmcore/{name}.bz2"))?;
    let input = Input::open(&file).unwrap();
    Some(FreeBsdDump::from_source(&file, Box::new(Bytes(input)), &Default::default()).unwrap())
}

fn word(dump: &FreeBsdDump, at: u64) -> Result<u64, Absent> {
    dump.memory().read_u64(Addr(at), evidence::bytes::Endian::Little).map_err(|e| e.why)
}

/// `KPML4phys` of this kernel says where its page tables are; the dump says so without it.
#[test]
fn a_full_dump_finds_its_own_page_tables() {
    let Some(dump) = open("vmcore-amd64-full") else { return };
    assert_eq!(word(&dump, 0xffff_ffff_81d4_7eb8), Ok(0x27b_e000));
    assert_eq!(dump.root(), Some(PhysAddr(0x27b_e000)));
    assert_eq!(dump.gaps().truncated_at, Some(127_043_584));
    let mut byte = [0];
    assert_eq!(dump.read_physical(PhysAddr(1 << 40), &mut byte), (0, Some(Absent::Unmapped)));
    assert!(dump.space(PhysAddr(0x27b_e000)).is_ok());
}

/// The file is shorter than its header says: what is there is read, what is not is truncated.
#[test]
fn a_minidump_without_its_end() {
    let Some(dump) = open("vmcore-amd64-minidump") else { return };
    assert_eq!(word(&dump, 0xffff_ffff_81cd_4c0c).map(|w| w & 0xffff_ffff), Ok(100), "hz");
    assert_eq!(word(&dump, 0x1000), Err(Absent::Filtered), "programs' memory");
    assert_eq!(dump.gaps().truncated_at, Some(101_685_248));
    let doubts = format!("{:?}", dump.gaps().doubts);
    assert!(doubts.contains(&format!("{:#x}", 107_388_928)), "{doubts}");
    let pages: u64 = dump.physical_extents().iter().map(|e| (e.range.end.0 - e.range.start.0) / 4096).sum();
    assert_eq!(pages, 24_144);
}
