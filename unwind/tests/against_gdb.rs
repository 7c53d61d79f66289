//! Every frame of every thread of the victims has the pc, and the callee-saved registers, that gdb finds.
mod common;
#[path = "common/gdb.rs"]
mod gdb;

use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Register, Target as _};
use std::path::Path;
use unwind::{Limits, Trust, unwind};

#[track_caller]
fn check(program: &Path, core: &Path) {
    let (target, memory) = common::read_core(core);
    let doubts = Doubts::new();
    let locator = Locator { executable: Some(program.to_owned()), ..Locator::default() };
    let modules = Modules::outline(&target, &memory, &locator, &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let peer = gdb::frames(program, core);
    assert_eq!(peer.len(), target.threads().len());
    for thread in target.threads() {
        let stack = unwind(&thread.registers, &memory, &info, &Limits::default());
        let expected = &peer[&thread.id.0];
        let ours: Vec<String> = stack.frames.iter().take(gdb::MOST).map(|f| format!("{:#x}", f.pc.0)).collect();
        let theirs: Vec<String> = expected.iter().map(|f| format!("{:#x}", f.pc)).collect();
        let what = format!("{} thread {}: {:?}", core.display(), thread.id.0, stack.truncated);
        assert_eq!(ours, theirs, "{what}");
        for (n, (frame, peer)) in stack.frames.iter().zip(expected).enumerate() {
            for ((number, name), value) in gdb::ASKED.iter().zip(&peer.registers) {
                if let (Some(ours), Some(theirs)) = (frame.registers.get(Register(*number)), value) {
                    assert_eq!(format!("{ours:#x}"), format!("{theirs:#x}"), "{what} frame {n} {name}");
                } else if frame.trust != Trust::Scan && frame.trust != Trust::FramePointer {
                    assert_eq!(frame.registers.get(Register(*number)), *value, "{what} frame {n} {name}");
                }
            }
        }
    }
    for doubt in doubts.into_sorted() {
        println!("doubt: {doubt:?}");
    }
}

#[test]
fn null_deref_in_its_forms() {
    for variant in
        ["gcc-O0", "gcc-O2", "clang-O2", "static", "static-pie", "no-pie", "debug-frame", "omit-frame-pointer"]
    {
        let program = testdata::victims::build("null_deref", variant).unwrap();
        check(&program, &testdata::victims::crash_core("null_deref", variant).unwrap());
    }
}
