//! Ten thousand threads of sixty frames: every frame is there, and equal stacks are stored once.
//!
//! `POSTFAULT_THREADS` is how many (1000).

use crate::support::*;
use crate::synth::*;
use debuginfo::Locator;

const FRAMES: u64 = 60;
const CODE: u64 = 0x40_0000;
const STACKS: u64 = 0x7f00_0000_0000;

/// A chain of frame records, each returning to its own place.
pub fn many(threads: u32) -> Synth {
    let list = (0..threads).map(|n| {
        let base = STACKS + u64::from(n) * 0x10000;
        let mut stack = vec![0_u8; 0x800];
        for f in 0..FRAMES - 1 {
            let at = usize::try_from(0x20 + f * 0x20).unwrap();
            let next = if f + 1 < FRAMES { base + 0x20 + (f + 1) * 0x20 } else { 0 };
            stack[at..at + 8].copy_from_slice(&next.to_le_bytes());
            stack[at + 8..at + 16].copy_from_slice(&(CODE + 0x1000 + f * 0x40).to_le_bytes());
        }
        let context = amd64(1232, &[(RIP, CODE + 0x800), (RSP, base + 0x10), (RBP, base + 0x20)]);
        SynthThread { id: n + 1, context, stack: (base, stack) }
    });
    Synth {
        processor: AMD64,
        platform: LINUX,
        threads: list.collect(),
        modules: vec![(CODE, 0x10_0000, "/bin/busy")],
        ..Synth::default()
    }
}

#[test]
fn many_threads_have_all_their_frames() {
    let threads = std::env::var("POSTFAULT_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let file = many(threads).write();
    if let Some(keep) = std::env::var_os("POSTFAULT_KEEP") {
        std::fs::copy(file.path(), keep).unwrap();
    }
    let snapshot = snapshot_with(file.path(), &Locator::default());
    assert_eq!(snapshot.threads.len(), usize::try_from(threads).unwrap());
    for thread in &snapshot.threads {
        assert_eq!(frames_of(&snapshot, thread).len() as u64, FRAMES, "thread {}", thread.id);
    }
    assert_eq!(snapshot.stacks.len(), 1, "equal stacks are stored once");
}

#[test]
fn more_modules_than_others_read() {
    let mut dump = many(1);
    dump.modules.extend((0..5000_u64).map(|n| (0x1000_0000 + n * 0x1000, 0x1000, "/lib/plugin.so")));
    let snapshot = snapshot_with(dump.write().path(), &Locator::default());
    assert_eq!(snapshot.modules.len(), 5001);
}
