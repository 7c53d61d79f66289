//! The whole pipeline over sources that fail, end early or lie: no panic, no hang, bounded memory, and what is complete
//! is shown.

mod common;

use debuginfo::Locator;
use evidence::testing::FaultyTarget;
use evidence::{Absent, Target};
use platform::elfcore;
use snapshot_format::Snapshot;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most memory one test process may have used in the end.
const LIMIT_RESIDENT: u64 = 512 << 20;

/// Everything from a target to findings, in memory.
fn pipeline(target: &dyn Target) -> Snapshot {
    // Without the system's debug files: those of the C library would only cost time.
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| testdata::victims::build("null_deref", "gcc-O0").unwrap());
    let locator =
        Locator { executable: Some(program.clone()), system: Some("/nonexistent".into()), ..Locator::default() };
    let mut released = 0;
    let mut snapshot = capture::capture(target, &locator, &capture::Plan::default(), &mut || released += 1);
    assert_eq!(released, 1, "the target is released exactly once");
    analysis::analyse(&mut snapshot);
    snapshot
}

fn open(path: &Path) -> Result<elfcore::Core, platform::Error> {
    elfcore::open(path, &elfcore::Options::default())
}

/// Peak resident memory of this process, bytes.
fn peak() -> u64 {
    testdata::memory::peak_kilobytes() * 1024
}

#[test]
fn each_single_read_may_fail() {
    let Some(core) = common::core("null_deref", "gcc-O0") else { return };
    let core = open(&core).unwrap();
    let counting = FaultyTarget::new(&core, 0..0, Absent::Corrupt);
    let whole = pipeline(&counting);
    let reads = counting.reads();
    assert!(reads > 20, "{reads} reads");
    assert!(whole.frames.len() > 3);
    for n in 0..reads {
        for why in [Absent::Corrupt, Absent::Unmapped] {
            let one = pipeline(&FaultyTarget::new(&core, n..n + 1, why));
            assert_eq!(one.threads.len(), whole.threads.len(), "read {n}");
            assert_eq!(one.frames[0].pc, whole.frames[0].pc, "read {n}: the innermost frame needs no memory");
            // From here on nothing can be read at all.
            let rest = pipeline(&FaultyTarget::new(&core, n..u64::MAX, why));
            assert_eq!(rest.threads.len(), whole.threads.len(), "reads from {n} on");
        }
    }
    assert!(peak() < LIMIT_RESIDENT, "{} bytes", peak());
}

#[test]
fn a_core_may_end_anywhere() {
    let Some(core) = common::core("null_deref", "gcc-O0") else { return };
    let bytes = std::fs::read(&core).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut opened = 0;
    for end in (0..bytes.len()).step_by(4096) {
        let path = folder.path().join("cut");
        std::fs::write(&path, &bytes[..end]).unwrap();
        match open(&path) {
            Ok(cut) => {
                opened += 1;
                assert!(cut.gaps().truncated_at.is_some(), "cut at {end:#x} is not said to be cut");
                let snapshot = pipeline(&cut);
                assert!(!snapshot.doubts.is_empty());
            }
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("cut: at offset") && text.contains("expected"), "{text}");
            }
        }
    }
    assert!(opened > 10, "{opened} cuts were opened");
    assert!(peak() < LIMIT_RESIDENT, "{} bytes", peak());
}

/// Most flips go where a byte decides something: headers and notes; the others anywhere.
#[test]
fn any_byte_of_a_core_may_lie() {
    let Some(core) = common::core("null_deref", "gcc-O0") else { return };
    let bytes = std::fs::read(&core).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped");
    std::fs::write(&path, &bytes).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let flips: u32 = std::env::var("POSTFAULT_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let mut shown = 0;
    for _ in 0..flips {
        let length = bytes.len() as u64;
        let at = if next() % 4 == 0 { next() % length } else { next() % length.min(16 << 10) };
        let old = bytes[usize::try_from(at).unwrap()];
        let new = old ^ (1 << (next() % 8)) as u8;
        file.write_all_at(&[new], at).unwrap();
        if let Ok(core) = open(&path) {
            shown += usize::from(!pipeline(&core).threads.is_empty());
        }
        file.write_all_at(&[old], at).unwrap();
    }
    assert!(shown > 1000.min(flips as usize / 2), "{shown} of {flips} were shown");
    assert!(peak() < LIMIT_RESIDENT, "{} bytes", peak());
}
