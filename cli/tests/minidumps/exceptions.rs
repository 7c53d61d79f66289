//! Windows' exception codes that say by themselves what happened, and variables of a Linux dump.

use crate::support::*;
use crate::synth::*;
use debuginfo::Locator;
use snapshot_format::Snapshot;

const CODE: u64 = 0x1_4000_0000;
const STACK: u64 = 0x20_0000;

/// A Windows program that ended with `code`.
fn ended(code: u32, parameters: &[u64]) -> Snapshot {
    let dump = Synth {
        processor: AMD64,
        platform: WINDOWS,
        threads: vec![SynthThread {
            id: 7,
            context: amd64(1232, &[(RIP, CODE + 0x1000), (RSP, STACK + 0x100)]),
            stack: (STACK, vec![0; 0x800]),
        }],
        // int3; ret
        memory: vec![(CODE + 0x1000, vec![0xcc, 0xc3])],
        modules: vec![(CODE, 0x10000, "C:\\a.exe")],
        exception: Some(Exception {
            thread: 7,
            code,
            address: CODE + 0x1000,
            parameters: parameters.to_vec(),
            ..Exception::default()
        }),
        ..Synth::default()
    };
    snapshot_with(dump.write().path(), &Locator::default())
}

#[track_caller]
fn check(code: u32, parameters: &[u64], name: &str, expected: (&str, &str)) {
    let snapshot = ended(code, parameters);
    let event = snapshot.event.as_ref().unwrap();
    assert_eq!(event.thread, Some(7));
    assert_eq!(event.signal_name.as_deref(), Some(name), "{event:?}");
    assert_eq!(finding(&snapshot), expected, "{:?}", snapshot.findings);
    // Where the code stood is no address of a fault.
    assert_eq!(event.address, None, "{event:?}");
    assert_eq!(snapshot.findings.iter().filter(|f| f.class == "null-deref" || f.class == "bit-flip").count(), 0);
}

#[test]
fn a_heap_that_was_found_damaged() {
    check(0xc000_0374, &[0x7ff8_1234_0000], "STATUS_HEAP_CORRUPTION", ("heap-corruption", "high"));
}

/// Parameters as the C++ runtime of Visual C++ gives them: its magic, the object, its type, the image.
#[test]
fn an_exception_of_cpp_that_nobody_caught() {
    let parameters = [0x1993_0520, STACK + 0x180, CODE + 0x2000, CODE];
    check(0xe06d_7363, &parameters, "Unhandled C++ Exception", ("uncaught-exception", "none"));
}

/// A victim's core as a minidump, without the snapshot that `export` puts into it: names and variables come from the
/// program's own DWARF, found by the build-id in the list of modules.
#[test]
fn variables_of_a_linux_dump_with_dwarf_at_hand() {
    let core = match testdata::victims::crash_core("null_deref", "gcc-O0") {
        Ok(core) => core,
        Err(why) => {
            assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_CORES"), "{why}");
            println!("skipped: no core: {why}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (taken, dump) = (folder.path().join("a.pfsnap"), folder.path().join("a.dmp"));
    for words in [
        vec!["capture".as_ref(), core.as_os_str(), "-o".as_ref(), taken.as_os_str()],
        vec![
            "export".as_ref(),
            taken.as_os_str(),
            "--to".as_ref(),
            "minidump".as_ref(),
            "-o".as_ref(),
            dump.as_os_str(),
        ],
    ] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_postfault")).args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let bytes = std::fs::read(&dump).unwrap();
    let directory: Vec<u32> =
        bytes[32..32 + 24 * 12].chunks(12).map(|e| u32::from_le_bytes(e[..4].try_into().unwrap())).collect();
    let place = directory.iter().position(|kind| *kind == 0x5046_0001).unwrap();
    let mut bare = bytes;
    bare[32 + place * 12..][..12].fill(0);
    std::fs::write(&dump, bare).unwrap();

    let from_core = Snapshot::read_path(&taken).unwrap().0;
    let snapshot = snapshot_with(&dump, &Locator::default());
    let names: Vec<&str> = frames(&snapshot).iter().filter_map(|f| f.function.as_deref()).collect();
    assert!(names.starts_with(&["store_weight", "handle", "main"]), "{names:?}");
    let values = |s: &Snapshot| -> Vec<String> {
        let rows = s.variables.iter().filter(|v| v.frame.is_some_and(|f| f < 3));
        rows.map(|v| format!("{} {:?} {:?}", v.name, v.value, v.absent)).collect()
    };
    let (ours, expected) = (values(&snapshot), values(&from_core));
    assert!(ours.iter().any(|v| v.starts_with("depth Signed(2)")), "{ours:#?}");
    assert!(ours.iter().any(|v| v.starts_with("w Signed(252)")), "{ours:#?}");
    // The core holds more memory than the dump: what a dump has not, it must not make up.
    for value in ours.iter().filter(|v| v.ends_with("None")) {
        assert!(expected.contains(value), "{value} is not among {expected:#?}");
    }
}
