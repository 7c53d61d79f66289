//! Linux kernel dumps in every container, cut off at every 64 KiB and with bytes flipped where they hurt most: nothing
//! panics, nothing hangs, and memory stays bounded. One test, because the peak of memory is that of the whole process.
//!
//! `POSTFAULT_DAMAGE_FLIPS` sets how many damaged files are opened in each container (400 without it).

use evidence::{Addr, Machine, PhysAddr, Target, ToU64, ToUsize};
use kernel_dumps::ReadAt;
use kernel_dumps::linux::LinuxDump;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use testdata::fixtures::fixture;
use testdata::memory::peak_kilobytes;

const DUMP: &str = "linux-kernel/tiny/tiny.zstd-d31";
/// The cache of pages takes 16 MiB, and each dump that is opened has its own until it is dropped.
const LIMIT_GROWTH_KIB: u64 = 160 << 10;

/// A file in which some bytes are others, and which may end early.
struct Damaged {
    whole: Arc<Vec<u8>>,
    flips: Vec<(u64, u8)>,
    end: u64,
}

impl ReadAt for Damaged {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let there = self.end.saturating_sub(offset).min(into.len().to_u64()).to_usize();
        let got = self.whole.read_at(offset, &mut into[..there])?;
        for (at, value) in self.flips.iter().filter(|(at, _)| (offset..offset + got.to_u64()).contains(at)) {
            into[(at - offset).to_usize()] = *value;
        }
        Ok(got)
    }

    fn size(&self) -> u64 {
        self.end
    }
}

/// A container's bytes, and where its headers, bitmaps, tables and notes lie.
struct Container {
    name: &'static str,
    whole: Arc<Vec<u8>>,
    tender: Range<u64>,
}

/// Pieces of a kibibyte to 64 of them, every other pair exchanged, and the header once more at the end.
fn flattened(inner: &[u8]) -> Vec<u8> {
    let mut file = b"makedumpfile\0\0\0\0".to_vec();
    file.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    file.resize(4096, 0);
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        let size = 1024 * (1 + pieces.len() % 64);
        pieces.push(at..(at + size).min(inner.len()));
        at += size;
    }
    pieces.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    pieces.push(0..4096);
    for piece in pieces {
        file.extend(piece.start.to_u64().to_be_bytes());
        file.extend(piece.len().to_u64().to_be_bytes());
        file.extend(&inner[piece]);
    }
    file.extend([0xff; 16]);
    file
}

/// The first megabytes of a dump's memory as an ELF vmcore with one program header a run.
fn elf(dump: &LinuxDump) -> Vec<u8> {
    let info: String = dump.vmcoreinfo().iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let mut note = [11_u32, u32::try_from(info.len()).unwrap(), 0].map(u32::to_le_bytes).concat();
    note.extend(b"VMCOREINFO\0\0");
    note.extend(info.as_bytes());
    note.resize(note.len().next_multiple_of(4), 0);
    let runs: Vec<_> = dump.physical_extents().iter().map(|e| e.range.start.0..e.range.end.0).take(512).collect();
    let headers = 64 + 56 * (runs.len() + 1);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64, 56, u16::try_from(runs.len() + 1).unwrap(), 64, 0, 0] {
        file.extend(u16::to_le_bytes(half));
    }
    let mut program = |kind: u32, offset: usize, physical: u64, size: u64| {
        file.extend(kind.to_le_bytes());
        file.extend([0; 4]);
        for word in [offset.to_u64(), 0, physical, size, size, 0] {
            file.extend(word.to_le_bytes());
        }
    };
    program(4, headers, 0, note.len().to_u64());
    let mut at = headers + note.len();
    for run in &runs {
        program(1, at, run.start, run.end - run.start);
        at += (run.end - run.start).to_usize();
    }
    file.extend(note);
    for run in &runs {
        let mut bytes = vec![0; (run.end - run.start).to_usize()];
        assert_eq!(dump.read_physical(PhysAddr(run.start), &mut bytes), (bytes.len(), None));
        file.extend(bytes);
    }
    file
}

fn containers(path: &Path) -> Vec<Container> {
    let kdump = std::fs::read(path).unwrap();
    let elf = elf(&LinuxDump::open(path).unwrap());
    let container = |name, bytes: Vec<u8>, tender| Container { name, whole: Arc::new(bytes), tender };
    vec![
        container("flattened kdump", flattened(&kdump), 0..0x22000),
        container("flattened ELF", flattened(&elf), 0..0xc000),
        container("kdump", kdump, 0..0x20000),
        container("ELF", elf, 0..0xa000),
    ]
}

/// Reads what an analysis would read first; how many bytes there were.
fn exercise(file: Damaged) -> usize {
    let Ok(dump) = LinuxDump::from_source(Path::new("damaged"), Box::new(file)) else { return 0 };
    let mut page = vec![0; 4096];
    let mut there = 0;
    for extent in dump.physical_extents().iter().take(16) {
        there += dump.read_physical(PhysAddr(extent.range.start.0), &mut page).0;
    }
    for thread in dump.threads().iter().take(4) {
        for at in [thread.registers.pc(), thread.registers.sp()].into_iter().flatten() {
            there += dump.memory().read(at, &mut page).0;
        }
    }
    if let Some(at) = dump.vmcoreinfo().symbol("init_uts_ns") {
        there += dump.memory().read(Addr(at), &mut page).0;
    }
    there
}

#[test]
fn damage_does_no_harm_in_any_container() {
    let Some(file) = fixture(DUMP) else { return };
    let flips = std::env::var("POSTFAULT_DAMAGE_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(400_u64);
    let containers = containers(&file);
    // The peak begins anew (proc(5), `clear_refs`): making the containers took more than reading them may.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kilobytes();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for Container { name, whole, tender } in &containers {
        let damaged = |flips, end| Damaged { whole: whole.clone(), flips, end };
        let size = whole.len().to_u64();
        let sound = exercise(damaged(Vec::new(), size));
        assert!(sound > 40_000, "{name}: {sound} bytes");
        let cut: Vec<usize> = (0..size).step_by(64 << 10).map(|end| exercise(damaged(Vec::new(), end))).collect();
        assert_eq!(cut.first(), Some(&0), "{name}: nothing comes out of nothing");
        // What is there before the end of the file is still read.
        assert!(cut.iter().skip(cut.len() / 2).any(|there| *there > 0), "{name}: {cut:?}");
        let mut same = 0_u64;
        for _ in 0..flips {
            let count = 1 + next(4);
            let list = (0..count).map(|_| (next(tender.end), u8::try_from(next(256)).unwrap())).collect();
            same += u64::from(exercise(damaged(list, size)) == sound);
        }
        let growth = peak_kilobytes().saturating_sub(before);
        eprintln!("{name}: {} cuts, {flips} damaged files, {same} as if sound; memory grew by {growth} KiB", cut.len());
        assert!(growth < LIMIT_GROWTH_KIB, "{name}: memory grew by {growth} KiB");
    }
}
