//! Synthetic cores: every odd shape, and hostile ones.

use super::*;
use evidence::{Absent, Addr, Arch, Protection, ThreadId};
use proptest::prelude::*;
use std::time::{Duration, Instant};
use testdata::elfcore::linux::{crashed, prpsinfo, prstatus, siginfo, small, x86_64_registers};
use testdata::elfcore::{Contents, CoreBuilder};

fn read(bytes: &[u8]) -> Result<Core, Error> {
    open_stream(bytes, "-", &Options::default())
}

fn doubts(core: &Core) -> String {
    core.gaps.doubts.iter().map(|d| format!("{}: {}\n", d.what, d.why)).collect()
}

/// One byte, or why it is absent.
fn byte(core: &Core, at: u64) -> Result<u8, Absent> {
    let mut into = [0];
    match core.memory.read(Addr(at), &mut into) {
        (_, None) => Ok(into[0]),
        (_, Some(why)) => Err(why),
    }
}

#[test]
fn a_small_core_tells_everything() {
    let core = read(&small().build()).unwrap();
    let id = core.identity();
    assert_eq!((id.os, id.arch, id.pid, id.parent_pid), (Os::Linux, Arch::X86_64, Some(100), Some(1)));
    assert_eq!((id.command.as_deref(), id.arguments.as_deref()), (Some("app"), Some("/opt/app --flag")));
    assert_eq!(id.executable.as_deref(), Some("/opt/app"));
    let event = core.event().unwrap();
    assert_eq!(event.thread, Some(ThreadId(100)));
    assert_eq!(event.signal.unwrap().address, Some(Addr(0x28)));
    assert_eq!(core.threads().len(), 2);
    assert_eq!(core.threads()[1].registers.pc(), Some(Addr(0x40_1011)));
    assert_eq!(core.threads()[1].registers.thread_pointer(), Some(Addr(0x7000_0001)));
    assert_eq!(core.threads()[0].name.as_deref(), Some("app"));
    assert_eq!((core.threads()[0].signal.unwrap().number, core.threads()[1].signal), (11, None));
    let paths: Vec<_> = core.mappings().iter().map(|m| (m.range.start.0, m.path.as_deref(), m.file_offset)).collect();
    let wanted = [(0x40_0000, Some("/opt/app"), 0), (0x40_1000, Some("/opt/app"), 4096), (0x7fff_0000_0000, None, 0)];
    assert_eq!(paths, wanted);
    let code = Protection { read: true, write: false, execute: true };
    assert_eq!(core.mappings()[1].protection, Some(code));
    assert_eq!(core.images().len(), 1);
    assert_eq!((core.images()[0].base, core.images()[0].size), (Addr(0x40_0000), Some(0x3000)));
    assert_eq!(byte(&core, 0x40_0001), Ok(b'E'));
    assert_eq!(byte(&core, 0x40_1000), Err(Absent::Filtered));
    assert_eq!(byte(&core, 0x28), Err(Absent::Unmapped));
    assert_eq!(byte(&core, 0x7fff_0000_0801), Ok(1));
    let mut two = [0; 2];
    assert_eq!(core.memory.read(Addr(0x7fff_0000_0fff), &mut two), (2, None));
    assert_eq!(two, [255, 7]);
    assert_eq!((core.gaps().truncated_at, core.gaps().filtered_bytes), (None, 0x2000));
    assert_eq!(doubts(&core), "");
}

#[test]
fn odd_segments_are_used_as_far_as_they_make_sense() {
    let core = crashed(1)
        .load(0x50_0000, 0x2000, 6, Contents::Bytes(vec![5; 0x2000]))
        .load(0x20_0123, 0x10, 4, Contents::Bytes(vec![2; 0x10]))
        .load(0x50_1000, 0x2000, 6, Contents::Bytes(vec![6; 0x2000]))
        .load(u64::MAX - 0xfff, 0x2000, 4, Contents::Bytes(vec![9; 0x2000]))
        .load(0x60_0000, 0x1000, 4, Contents::At(u64::MAX - 10, 0x1000))
        .load(0x70_0000, 0x3000, 4, Contents::Bytes(vec![7; 0x1000]))
        .load(0x80_0000, 0x1000, 4, Contents::Bytes(vec![8; 0x2000]))
        .load(0x90_0000, u64::MAX, 4, Contents::Hole(0))
        .build();
    let core = read(&core).unwrap();
    assert_eq!(byte(&core, 0x20_0123), Ok(2));
    assert_eq!(byte(&core, 0x20_0133), Err(Absent::Unmapped));
    assert_eq!(byte(&core, 0x50_1fff), Ok(5));
    assert_eq!(byte(&core, 0x50_2000), Ok(6));
    assert_eq!(byte(&core, 0x60_0000), Err(Absent::Truncated));
    assert_eq!((byte(&core, 0x70_0fff), byte(&core, 0x70_1000)), (Ok(7), Err(Absent::Filtered)));
    assert_eq!(byte(&core, 0x80_0fff), Ok(8));
    assert_eq!(byte(&core, 0x90_0000), Err(Absent::Filtered));
    let said = doubts(&core);
    assert!(said.contains("lie over") && said.contains("past the end"), "{said}");
    assert!(core.mappings().windows(2).all(|w| w[0].range.end <= w[1].range.start));
}

#[test]
fn a_truncated_core_says_where_and_serves_the_rest() {
    let whole = small().build();
    let cut = whole.len() - 0x1800;
    let core = read(&whole[..cut]).unwrap();
    assert_eq!(core.gaps().truncated_at, Some(cut as u64));
    assert!(doubts(&core).contains(&format!("{cut:#x}")), "{}", doubts(&core));
    assert_eq!(byte(&core, 0x7fff_0000_07ff), Ok(255));
    assert_eq!(byte(&core, 0x7fff_0000_0800), Err(Absent::Truncated));
    assert_eq!(core.threads().len(), 2);
}

#[test]
fn seventy_thousand_segments_and_the_extended_count() {
    let mut core = crashed(3);
    for n in 0..70_000_u64 {
        core = core.load(0x10_0000_0000 + n * 0x2000, 0x1000, 6, Contents::At(0x1000 + (n % 7), 0x800));
    }
    let bytes = core.load(0x7000_0000_0000, 0x1000, 6, Contents::Bytes(vec![3; 0x1000])).build();
    let core = read(&bytes).unwrap();
    assert_eq!(core.mappings().len(), 70_003, "70,001 segments and a file of two mappings that has none");
    assert_eq!(byte(&core, 0x7000_0000_0fff), Ok(3));
    assert_eq!(byte(&core, 0x10_0000_0000 + 69_999 * 0x2000 + 0x800), Err(Absent::Filtered));
    assert_eq!(doubts(&core), "");
    // The section header that counts is the last thing in the file.
    let core = read(&bytes[..bytes.len() - 64]).unwrap();
    assert_eq!(core.mappings().len(), 70_003);
    assert!(doubts(&core).contains("70002"), "{}", doubts(&core));
}

#[test]
fn a_sparse_core_of_half_a_terabyte_is_read_where_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let huge = 500_u64 << 30;
    crashed(2)
        .load(0x10_0000_0000, huge, 6, Contents::Hole(huge))
        .load(0x7000_0000_0000, 0x1000, 6, Contents::Bytes(vec![3; 0x1000]))
        .write(&path)
        .unwrap();
    let start = Instant::now();
    let core = open(&path, &Options::default()).unwrap();
    assert_eq!(byte(&core, 0x10_0000_0000 + huge - 1), Ok(0));
    assert_eq!(byte(&core, 0x7000_0000_0000), Ok(3));
    assert_eq!(core.threads().len(), 2);
    // Reading half a terabyte, even of holes, takes minutes.
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn claims_of_size_cost_nothing() {
    // Four billion program headers, by the section header of the extended count.
    let mut bytes = small().build();
    bytes[40..48].copy_from_slice(&0x100_u64.to_le_bytes());
    bytes[56..58].copy_from_slice(&0xffff_u16.to_le_bytes());
    bytes[0x100 + 44..0x100 + 48].copy_from_slice(&u32::MAX.to_le_bytes());
    let core = read(&bytes).unwrap();
    assert!(doubts(&core).contains("4294967295"), "{}", doubts(&core));
    assert_eq!(byte(&core, 0x50_0000_0000), Err(Absent::Truncated), "missing headers may have covered it");
    // A note whose body goes past its segment, and one past the file.
    let notes = crashed(1).raw_note(&[5, 0, 0, 0, 255, 255, 255, 127, 6, 0, 0, 0]).raw_note(b"CORE\0\0\0\0");
    let core = read(&notes.build()).unwrap();
    assert_eq!(core.threads().len(), 1);
    assert!(doubts(&core).contains("claims a name of 5"), "{}", doubts(&core));
    let notes = crashed(1).raw_note(&[0; 400]);
    assert!(doubts(&read(&notes.build()).unwrap()).contains("zeros"));
}

#[test]
fn the_set_of_notes_decides_the_system() {
    let lwpstatus = vec![0; 1296];
    let illumos = CoreBuilder::new(true, false, 62).note("CORE", 13, &[0; 416]).note("CORE", 16, &lwpstatus);
    let freebsd = CoreBuilder::new(true, false, 62).note("FreeBSD", 1, &[0; 224]);
    for osabi in [0, 3, 6, 9] {
        assert_eq!(read(&small().osabi(osabi).build()).unwrap().identity().os, Os::Linux);
        for (other, os) in [(&illumos, Os::Illumos), (&freebsd, Os::FreeBsd)] {
            match read(&other.clone().osabi(osabi).build()) {
                Ok(core) => assert_eq!(core.identity().os, os),
                Err(e) => assert!(e.to_string().contains(os.word()), "{e}"),
            }
        }
    }
    let kernel = crashed(1).note("VMCOREINFO", 0, b"OSRELEASE=6.1");
    assert!(read(&kernel.build()).unwrap_err().to_string().contains("kernel"));
    let netbsd = CoreBuilder::new(true, false, 62).note("NetBSD-CORE", 1, &[0; 16]);
    assert!(read(&netbsd.build()).unwrap_err().to_string().contains("NetBSD"));
}

/// A core as gdb writes it: the process's facts first.
fn of_gdb(signal: i32, info: &[u8]) -> CoreBuilder {
    CoreBuilder::new(true, false, 62)
        .note("CORE", 3, &prpsinfo(7, "app", "app"))
        .note("CORE", 1, &prstatus(7, signal, &x86_64_registers(0x1000, 0x2000, 0)))
        .note("CORE", 0x5349_4749, info)
}

#[test]
fn a_debuggers_core_has_an_event_only_if_a_signal_kills() {
    let event = |core: &CoreBuilder| read(&core.build()).unwrap().event().cloned();
    assert!(event(&of_gdb(0, &siginfo(19, 0, 0))).is_none());
    assert!(event(&of_gdb(5, &siginfo(5, 0x80, 0))).is_none());
    let fault = event(&of_gdb(11, &siginfo(11, 1, 0x44_0040))).unwrap();
    assert_eq!(fault.signal.unwrap().address, Some(Addr(0x44_0040)));
    // gdb leaves some mappings out without a trace; what the fault itself reported, and what cannot be, is unmapped.
    let core = read(&of_gdb(11, &siginfo(11, 1, 0x44_0040)).build()).unwrap();
    assert_eq!(byte(&core, 0x44_0000), Err(Absent::Unmapped));
    assert_eq!(byte(&core, 0x45_0000), Err(Absent::Filtered));
    assert_eq!(byte(&core, 0x28), Err(Absent::Unmapped));
    assert_eq!(byte(&core, 0x1234_5678_9abc_def0), Err(Absent::Unmapped));
}

#[test]
fn other_architectures_and_byte_orders_keep_what_is_common() {
    // s390x: big-endian, 64-bit, registers not known here.
    let mut body = vec![0; 336];
    body[32..36].copy_from_slice(&77_u32.to_be_bytes());
    let core =
        CoreBuilder::new(true, true, 22).note("CORE", 1, &body).load(0x1000, 0x1000, 6, Contents::Bytes(vec![1; 4096]));
    let core = read(&core.build()).unwrap();
    assert_eq!((core.identity().arch, core.identity().big_endian), (Arch::Other, true));
    assert_eq!((core.threads()[0].id, core.threads()[0].registers.known()), (ThreadId(77), 0));
    assert_eq!(byte(&core, 0x1fff), Ok(1));
    assert!(doubts(&core).contains("registers of thread 77"));
}

#[test]
fn an_i386_core_has_its_thread_pointer() {
    let mut status = vec![0; 72];
    status[24..28].copy_from_slice(&9_u32.to_le_bytes());
    let registers: Vec<u32> = (0..17).map(|n| if n == 10 { 0x63 } else { 0x100 + n }).collect();
    status.extend(registers.iter().flat_map(|r| r.to_le_bytes()));
    status.extend([0; 4]);
    let tls: Vec<u8> = [12_u32, 0xf7d0_0700, 0xfffff, 0x51].iter().flat_map(|n| n.to_le_bytes()).collect();
    let core = CoreBuilder::new(false, false, 3).note("CORE", 1, &status).note("LINUX", 0x200, &tls);
    let list = testdata::elfcore::linux::files(&core, &[(0x804_8000, 0x804_9000, 0, "/bin/a (deleted)")]);
    let core = core.note("CORE", 0x4649_4c45, &list).load(0x804_8000, 0x1000, 5, Contents::Hole(0));
    let core = read(&core.build()).unwrap();
    assert_eq!(core.threads()[0].registers.thread_pointer(), Some(Addr(0xf7d0_0700)));
    assert_eq!(core.threads()[0].registers.pc(), Some(Addr(0x10c)));
    assert_eq!((core.mappings()[0].path.as_deref(), core.mappings()[0].deleted), (Some("/bin/a"), true));
    assert_eq!(core.images().len(), 1, "its header was left out, and it is executable");
}

/// Opens and reads everything; the memory that is there must be readable, and the rest must say why not.
pub(super) fn exercise(bytes: &[u8]) {
    let Ok(core) = read(bytes) else { return };
    let mut into = vec![0; 0x10000];
    for extent in core.memory().extents().iter().take(200) {
        assert!(extent.range.start < extent.range.end);
        let (got, stop) = core.memory().read(extent.range.start, &mut into);
        assert!(stop.is_some() || got == into.len());
        assert!(extent.absent.is_none() || got == 0);
    }
    assert!(core.mappings().windows(2).all(|w| w[0].range.end <= w[1].range.start));
    assert!(core.memory().extents().windows(2).all(|w| w[0].range.end <= w[1].range.start));
    for thread in core.threads() {
        let _ = core.memory().read(thread.registers.sp().unwrap_or_default(), &mut into[..64]);
    }
}

proptest! {
    #[test]
    fn notes_of_any_bytes_are_harmless(raw in proptest::collection::vec(any::<u8>(), 0..600), wide in any::<bool>()) {
        let core = CoreBuilder::new(wide, false, 62).note("CORE", 1, &raw).raw_note(&raw);
        exercise(&core.build());
        exercise(&raw);
    }

    #[test]
    fn what_is_written_as_notes_is_listed(notes in proptest::collection::vec(("[A-Z]{0,8}", any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..12)) {
        let mut core = CoreBuilder::new(true, false, 62);
        for (owner, kind, body) in &notes {
            core = core.note(owner, *kind, body);
        }
        let input = Input::from_stream(&*core.build(), Path::new("-")).unwrap();
        let unsure = Doubts::new();
        let headers = headers::read(input.source(), &unsure).unwrap();
        let index = super::notes::index(input.source(), &headers, &unsure);
        let listed: Vec<_> = index.iter().map(|n| (n.owner.to_string(), n.kind, n.body(input.source(), &unsure))).collect();
        prop_assert_eq!(listed, notes);
    }
}
