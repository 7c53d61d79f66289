//! Every frame of every thread of the victims has the pc, and the callee-saved registers, that gdb finds.
mod gdb;

use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Register, Target as _};
use platform::elfcore;
use std::path::Path;
use unwind::{Limits, Trust, unwind};

#[track_caller]
fn check(program: &Path, core: &Path) {
    let target = elfcore::open(core, &elfcore::Options::default()).unwrap();
    let doubts = Doubts::new();
    let locator = Locator { executable: Some(program.to_owned()), ..Locator::default() };
    let modules = Modules::outline(&target, target.memory(), &locator, &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let peer = gdb::frames(program, core, target.identity().arch);
    assert_eq!(peer.len(), target.threads().len());
    for thread in target.threads() {
        let stack = unwind(&thread.registers, target.memory(), &info, &Limits::default());
        let expected = &peer[&thread.id.0];
        let ours: Vec<String> = stack.frames.iter().take(gdb::MOST).map(|f| format!("{:#x}", f.pc.0)).collect();
        let theirs: Vec<String> = expected.iter().map(|f| format!("{:#x}", f.pc)).collect();
        let what = format!("{} thread {}: {:?}", core.display(), thread.id.0, stack.truncated);
        assert_eq!(ours, theirs, "{what}");
        for (n, (frame, peer)) in stack.frames.iter().zip(expected).enumerate() {
            for ((number, name), value) in gdb::asked(target.identity().arch).iter().zip(&peer.registers) {
                if let (Some(ours), Some(theirs)) = (frame.registers.get(Register(*number)), value) {
                    assert_eq!(format!("{ours:#x}"), format!("{theirs:#x}"), "{what} frame {n} {name}");
                } else if frame.trust != Trust::Scan && frame.trust != Trust::FramePointer {
                    assert_eq!(frame.registers.get(Register(*number)), *value, "{what} frame {n} {name}");
                }
            }
        }
    }
    assert!(doubts.sorted().iter().all(|d| d.what != "cfi"), "{:?}", doubts.sorted());
}

fn check_victim(name: &str, variants: &[&str]) {
    for variant in variants {
        let program = testdata::victims::build(name, variant).unwrap();
        let dies = testdata::victims::find(name).unwrap().signal.is_some();
        let core = if dies {
            testdata::victims::crash_core(name, variant)
        } else {
            testdata::victims::wait_gcore(name, variant)
        };
        check(&program, &core.unwrap());
    }
}

#[test]
fn null_deref_in_its_forms() {
    let forms = ["gcc-O0", "gcc-O2", "clang-O2", "static", "static-pie", "no-pie", "lld", "debug-frame"];
    check_victim("null_deref", &forms);
    check_victim("null_deref", &["omit-frame-pointer", "stripped", "minidebuginfo", "debuglink", "zstd"]);
}

#[test]
fn i386() {
    check_victim("null_deref", &["m32", "m32-O2"]);
}

#[test]
fn jumps_to_bad_addresses() {
    check_victim("jump_null", &["gcc-O0", "gcc-O2", "clang-O2"]);
    check_victim("exec_nonexec", &["gcc-O0", "gcc-O2"]);
}

#[test]
fn signals_on_their_own_stack() {
    check_victim("signal_frame", &["gcc-O0", "gcc-O2", "clang-O2"]);
}

#[test]
fn deep_recursion_and_stack_overflow() {
    check_victim("stack_overflow", &["gcc-O0"]);
    check_victim("recursion", &["gcc-O0"]);
    check_victim("rust_stack_overflow", &["rust-O2"]);
}

#[test]
fn libraries_exceptions_and_panics() {
    check_victim("dlopened", &["gcc-O2"]);
    check_victim("uncaught_exception", &["gcc-O2"]);
    check_victim("rust_panic", &["rust-O0", "rust-O2"]);
}

#[test]
fn many_threads() {
    check_victim("threads", &["gcc-O2", "clang-O2", "stripped"]);
    check_victim("rust_threads", &["rust-O2"]);
}

/// Names of the functions of the first thread, innermost first.
fn names(name: &str, variant: &str) -> (Vec<String>, Vec<Trust>, Option<String>) {
    let program = testdata::victims::build(name, variant).unwrap();
    let core = testdata::victims::crash_core(name, variant).unwrap();
    let target = elfcore::open(&core, &elfcore::Options::default()).unwrap();
    let doubts = Doubts::new();
    let locator = Locator { executable: Some(program), ..Locator::default() };
    let modules = Modules::outline(&target, target.memory(), &locator, &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let stack = unwind(&target.threads()[0].registers, target.memory(), &info, &Limits::default());
    let name = |f: &unwind::Frame| {
        let found = modules.find(f.lookup());
        let symbol = found.and_then(|(i, m)| info.symbols(i)?.at(m.to_svma(f.lookup())));
        symbol.map_or("?".to_owned(), |s| s.name.into_owned())
    };
    (stack.frames.iter().map(name).collect(), stack.frames.iter().map(|f| f.trust).collect(), stack.truncated)
}

/// Who called the code without rules, optimised or not.
fn caller(victim: &str) -> &'static str {
    if victim == "jit" { "main" } else { "before" }
}

/// Where gdb loses the way (it prints `0x0` or garbage after the frame without rules), the source says what is right.
#[test]
fn code_without_call_frame_information() {
    for variant in ["gcc-O0", "gcc-O2", "clang-O0", "clang-O2"] {
        for victim in ["jit", "no_cfi"] {
            let (names, trust, truncated) = names(victim, variant);
            assert_eq!(truncated, None, "{victim} {variant} {names:?}");
            assert!(
                trust.contains(&Trust::Scan) || trust.contains(&Trust::FramePointer),
                "{victim} {variant} {trust:?}"
            );
            assert!(
                names.contains(&caller(victim).to_owned()) && names.last().unwrap() == "_start",
                "{victim} {variant} {names:?}"
            );
            println!("{victim} {variant}: {names:?} {trust:?}");
        }
    }
    let (names, trust, truncated) = names("null_deref", "frame-pointer");
    println!("{names:?} {trust:?}");
    assert_eq!(truncated, None);
    assert!(names.contains(&"main".to_owned()) && trust.contains(&Trust::FramePointer), "{names:?}");
}

#[test]
fn a_smashed_stack_shows_what_it_was_smashed_with_and_ends() {
    let (names, trust, _) = names("corrupt_stack", "gcc-O0");
    assert!(names[0] == "smash" || names.contains(&"smash".to_owned()), "{names:?}");
    assert!(names.contains(&"?".to_owned()) && names.len() < 20, "{names:?} {trust:?}");
}
