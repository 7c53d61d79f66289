//! The shape of `/proc/kcore` (fs/proc/kcore.c of Linux 6.1): offsets are virtual addresses, some ranges have no physical
//! address and read as zeros where nothing is mapped, notes have no registers, and its length is what it was long ago.

use evidence::{Absent, Addr, Machine, Origin, PhysAddr, Target};
use kernel_dumps::ReadAt;
use kernel_dumps::linux::LinuxDump;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE_OFFSET: u64 = 0xffff_8880_0000_0000;
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
const VMALLOC: u64 = 0xffff_c900_0000_0000;
/// Where data begins in the file.
const DATA: u64 = 0x3000;
/// Bytes of memory.
const MEMORY: usize = 1 << 20;
/// Where the kernel lies in it, and its top-level table.
const TEXT: u64 = 0x4_0000;
const TABLES: u64 = 0x1_0000;
/// The page that vmalloc has mapped.
const MAPPED: u64 = 0x8_0000;
const RELEASE: &str = "6.1.0-test";

/// A running kernel: memory by virtual address behind a header.
struct Running {
    head: Vec<u8>,
    memory: Vec<u8>,
    size: u64,
    reads: Arc<AtomicU64>,
}

impl ReadAt for Running {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if offset < DATA {
            return self.head.read_at(offset, into);
        }
        let at = offset - DATA + PAGE_OFFSET;
        let inside = match at {
            KERNEL_MAP.. => at.checked_sub(KERNEL_MAP).map(|o| o + TEXT),
            VMALLOC.. => None,
            _ => Some(at - PAGE_OFFSET),
        };
        // As the kernel does: zeros where nothing can be read.
        into.fill(0);
        if let Some(inside) = inside {
            self.memory.read_at(inside, into)?;
        }
        Ok(into.len())
    }

    fn size(&self) -> u64 {
        self.size
    }
}

fn memory() -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    let mut put = |at: u64, bytes: &[u8]| memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    // Three further tables for each of kernel text and vmalloc.
    let mut next = TABLES;
    for (address, to) in [(KERNEL_MAP, TEXT), (VMALLOC, MAPPED)] {
        let mut table = TABLES;
        for level in [39, 30, 21] {
            next += 0x1000;
            let index = (address >> level) & 511;
            put(table + index * 8, &(next | 3).to_le_bytes());
            table = next;
        }
        put(table + ((address >> 12) & 511) * 8, &(to | 3).to_le_bytes());
    }
    put(TEXT + 16, format!("Linux\0{RELEASE}\0").as_bytes());
    put(MAPPED, b"in vmalloc space");
    memory
}

fn note(name: &[u8], kind: u32, body: &[u8]) -> Vec<u8> {
    let mut note: Vec<u8> = [name.len() as u32, body.len() as u32, kind].iter().flat_map(|w| w.to_le_bytes()).collect();
    for part in [name, body] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

fn kcore(info: &str) -> Running {
    let mut notes = note(b"CORE\0", 1, &[0; 336]);
    notes.extend(note(b"CORE\0", 3, &[0; 136]));
    notes.extend(note(b"CORE\0", 4, &[7; 9024]));
    if !info.is_empty() {
        notes.extend(note(b"VMCOREINFO\0", 0, info.as_bytes()));
    }
    assert!(notes.len() as u64 + 64 + 56 * 5 < DATA);
    let segments = [
        (4_u32, 64 + 56 * 5, 0, 0, notes.len() as u64),
        (1, KERNEL_MAP - PAGE_OFFSET + DATA, KERNEL_MAP, TEXT, 0x1_0000),
        (1, VMALLOC - PAGE_OFFSET + DATA, VMALLOC, u64::MAX, 0x1fff_ffff_ffff),
        (1, 0xffff_ffff_ff60_0000 - PAGE_OFFSET + DATA, 0xffff_ffff_ff60_0000, u64::MAX, 0x1000),
        (1, DATA, PAGE_OFFSET, 0, MEMORY as u64),
    ];
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0_u64, 64, 0] {
        head.extend(word.to_le_bytes());
    }
    head.extend([0; 4]);
    for half in [64_u16, 56, 5, 0, 0, 0] {
        head.extend(half.to_le_bytes());
    }
    for (kind, offset, address, physical, size) in segments {
        head.extend(kind.to_le_bytes());
        head.extend([0; 4]);
        for word in [offset, address, physical, size, size, 4096] {
            head.extend(word.to_le_bytes());
        }
    }
    head.extend(notes);
    head.resize(DATA as usize, 0);
    Running { head, memory: memory(), size: 0x7fff_ff60_3000, reads: Arc::default() }
}

fn info() -> String {
    let lines = [
        format!("OSRELEASE={RELEASE}"),
        "BUILD-ID=00112233445566778899aabbccddeeff00112233".to_owned(),
        "PAGESIZE=4096".to_owned(),
        format!("SYMBOL(init_uts_ns)={:x}", KERNEL_MAP + 16),
        format!("SYMBOL(swapper_pg_dir)={KERNEL_MAP:x}"),
        // The top-level table is where the kernel's first page would be.
        format!("NUMBER(phys_base)={TABLES}"),
        "NUMBER(pgtable_l5_enabled)=0".to_owned(),
    ];
    lines.join("\n") + "\n"
}

fn read(dump: &LinuxDump, at: u64, length: usize) -> (Vec<u8>, Option<Absent>) {
    let mut bytes = vec![0; length];
    let (got, why) = dump.memory().read(Addr(at), &mut bytes);
    bytes.truncate(got);
    (bytes, why)
}

#[test]
fn a_running_kernel_is_read_by_its_page_tables() {
    let dump = LinuxDump::from_source(Path::new("/proc/kcore"), Box::new(kcore(&info()))).unwrap();
    let identity = dump.identity();
    assert_eq!((identity.origin, identity.release.as_deref()), (Origin::LiveKernel, Some(RELEASE)));
    assert!(dump.attributes().iter().any(|a| &*a.key == "vmcoreinfo.BUILD-ID" && a.value.starts_with("00112233")));
    assert_eq!(read(&dump, KERNEL_MAP + 16, 16), (b"Linux\x006.1.0-test".to_vec(), None));
    assert_eq!(read(&dump, VMALLOC, 16), (b"in vmalloc space".to_vec(), None));
    // The file has zeros here.
    assert_eq!(read(&dump, VMALLOC + 0x1000, 16), (Vec::new(), Some(Absent::Unmapped)));
    assert_eq!(read(&dump, 0xffff_ffff_ff60_0000, 16), (Vec::new(), Some(Absent::Unmapped)));
    let mut bytes = [0; 16];
    assert_eq!(dump.read_physical(PhysAddr(MAPPED), &mut bytes), (16, None));
    assert_eq!(dump.read_physical(PhysAddr(MEMORY as u64), &mut bytes), (0, Some(Absent::Unmapped)));
    let extents: Vec<_> = dump.physical_extents().iter().map(|e| (e.range.start.0, e.range.end.0)).collect();
    assert_eq!(extents, [(0, MEMORY as u64)]);
}

/// The notes have room for registers and nothing in it: no CPU is shown with zeros.
#[test]
fn a_running_kernel_has_no_registers() {
    let dump = LinuxDump::from_source(Path::new("/proc/kcore"), Box::new(kcore(&info()))).unwrap();
    assert!(dump.threads().is_empty());
    let doubts: Vec<_> = dump.gaps().doubts.iter().map(|d| d.what).collect();
    assert_eq!(doubts, ["live-kernel"]);
}

/// The length that the system tells is of boot time; nothing is cut off for that.
#[test]
fn its_length_says_nothing() {
    for size in [0x1_0000, DATA + (MEMORY as u64), 0x7fff_ff60_3000] {
        let mut source = kcore(&info());
        source.size = size;
        let dump = LinuxDump::from_source(Path::new("/proc/kcore"), Box::new(source)).unwrap();
        assert_eq!(dump.gaps().truncated_at, None);
        assert_eq!(dump.gaps().doubts.len(), 1, "{size:#x}: {:?}", dump.gaps().doubts);
        assert_eq!(read(&dump, KERNEL_MAP + 16, 5), (b"Linux".to_vec(), None));
    }
}

/// Before Linux 4.19 there is no VMCOREINFO: that is said, and terabytes are not searched for it.
#[test]
fn without_vmcoreinfo_nothing_is_searched() {
    let source = kcore("");
    let reads = source.reads.clone();
    let dump = LinuxDump::from_source(Path::new("/proc/kcore"), Box::new(source)).unwrap();
    assert!(dump.gaps().doubts.iter().any(|d| d.what == "vmcoreinfo"), "{:?}", dump.gaps().doubts);
    assert_eq!(read(&dump, KERNEL_MAP + 16, 5).0, b"");
    assert!(reads.load(Ordering::Relaxed) < 32, "{reads:?} reads");
}
