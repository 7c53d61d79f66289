//! The crashing thread's frames: those of Breakpad and minidump-stackwalk where the two agree, and the truth where
//! they are wrong together.

use crate::support::*;
use snapshot_format::schema::Trust;

/// A module's name and an offset into it.
type At = (&'static str, u64);

/// Ubuntu 14.04's glibc: `__libc_start_main+245`, where every `main` returns to.
const START: At = ("libc-2.19.so", 0x2_1ec5);

/// Dumps in which both tools are wrong: how many of their frames are right, and what follows in truth.
///
/// The programs of these dumps keep frame pointers. `main`'s record holds the return address into `__libc_start_main`;
/// both tools reject it, because the frame pointer saved beside it is 0 (as the ABI has it for the first frame), and scan
/// the stack instead, where older calls of the loader lie.
const TRUTH: [(&str, usize, &[At]); 19] = [
    ("linux_divide_by_zero", 2, &[START]),
    ("linux_executable_heap", 2, &[START]),
    ("linux_executable_stack", 2, &[START]),
    ("linux_inside_module_exe_region1", 2, &[START]),
    ("linux_inside_module_exe_region2", 2, &[START]),
    ("linux_jmp_to_0", 2, &[START]),
    ("linux_jmp_to_module_not_exe_region", 2, &[START]),
    ("linux_null_dereference", 2, &[START]),
    ("linux_outside_module", 2, &[START]),
    ("linux_stack_pointer_in_module", 2, &[START]),
    ("linux_stack_pointer_in_stack", 2, &[START]),
    ("linux_stack_pointer_in_stack_alt_name", 2, &[START]),
    ("linux_write_to_nonwritable_module", 2, &[START]),
    ("linux_write_to_nonwritable_region_math", 2, &[START]),
    ("linux_write_to_outside_module", 2, &[START]),
    ("linux_write_to_outside_module_via_math", 2, &[START]),
    ("linux_write_to_under_4k", 2, &[START]),
    // raise() has no frame of its own: both tools leave out the function that called it (0x1e64).
    ("linux_raise_sigabrt", 1, &[("driver", 0x1e64), ("driver", 0x1f06), START]),
    // The processor's shadow stack is in the dump; both tools scan the ordinary one, and find 24 frames too many.
    (
        "tiny-exe-with-cet-xsave",
        3,
        &[
            ("tiny.exe", 0x9_b8ca),
            ("tiny.exe", 0x1_b0ed),
            ("tiny.exe", 0x5_9068),
            ("KERNEL32.DLL", 0x1_54e0),
            ("ntdll.dll", 0x485b),
        ],
    ),
];

/// Dumps in which the frames beyond some are scanned by both tools and cannot be right, for a reason of their own.
const ONLY: [(&str, usize, &str); 2] = [
    ("linux_inline", 1, "libc's return address is in the frame record; the 50 frames of the scan lie in data"),
    ("minidump_crashpad_annotation", 27, "the chain of frame pointers ends in dyld's start with 0: nothing called it"),
];

#[test]
fn crashing_threads_have_the_frames_that_both_tools_agree_on() {
    let mut compared = 0;
    for path in dumps() {
        let name = stem(&path);
        let (Some(theirs), Some(rows)) = (minidump_stackwalk(&path), breakpad(&path)) else { continue };
        let snapshot = snapshot(&path);
        let crashing = theirs["crash_info"]["crashing_thread"].as_u64().unwrap_or(0);
        let theirs = theirs["threads"][crashing as usize]["frames"].as_array().unwrap();
        // Inlined calls are rows of their own with us, and with neither of them in these dumps.
        let ours: Vec<_> = frames(&snapshot).iter().filter(|f| !f.inline).collect();
        let truth = TRUTH.iter().find(|(n, ..)| *n == name);
        let only = ONLY.iter().find(|(n, ..)| *n == name);
        let until = truth.map(|t| t.1).or(only.map(|o| o.1)).unwrap_or(usize::MAX);
        let agreed = theirs.iter().zip(&rows).take_while(|(a, b)| a["module"].as_str().unwrap_or("") == b.0).count();
        for (at, frame) in theirs.iter().enumerate().take(agreed.min(until)) {
            let got = ours.get(at).unwrap_or_else(|| panic!("{name}: frame {at} of {agreed} is missing"));
            let (module, offset) = place(&snapshot, got);
            assert_eq!(module, frame["module"].as_str().unwrap_or(""), "{name} frame {at}");
            // They print the address of the call's last byte, we the return address.
            if let Some(expected) = frame["module_offset"].as_str().and_then(hex) {
                assert!(offset.wrapping_sub(expected) <= 1, "{name} frame {at}: {offset:#x}, theirs {expected:#x}");
            }
            if let Some(function) = frame["function"].as_str() {
                assert_eq!(got.function.as_deref(), Some(function), "{name} frame {at}");
            }
            compared += 1;
        }
        if let Some((_, from, truth)) = truth {
            let rest: Vec<_> = ours.iter().skip(*from).take(truth.len()).map(|f| place(&snapshot, f)).collect();
            let expected: Vec<_> = truth.iter().map(|(m, o)| ((*m).to_owned(), *o)).collect();
            assert_eq!(rest, expected, "{name}");
            let guessed = ours.iter().skip(from + truth.len()).all(|f| f.trust == Trust::Scan);
            assert!(guessed, "{name}: what lies beyond main's caller is at most guessed");
        } else if only.is_none() && !rows.is_empty() {
            assert_eq!(ours.len(), theirs.len(), "{name}");
        }
    }
    println!("{compared} frames compared");
    assert!(compared > 400 || testdata::fixtures::fixtures().is_none());
}

/// The microdumps for which Breakpad's answer is at hand.
#[test]
fn microdumps_have_the_frames_of_breakpad() {
    for name in ["microdump-arm", "microdump-arm64"] {
        let (Some(path), Some(theirs)) = (
            dump(name),
            testdata::fixtures::fixture(&format!(
                "minidump/breakpad/{}.out",
                name.replace("microdump-", "microdump.stackwalk.machine_readable-")
            )),
        ) else {
            continue;
        };
        let symbols = testdata::fixtures::fixture("minidump/breakpad/symbols/microdump").into_iter().collect();
        let snapshot = snapshot_with(&path, &debuginfo::Locator { symbols, ..debuginfo::Locator::default() });
        let text = std::fs::read_to_string(theirs).unwrap();
        let rows: Vec<Vec<&str>> =
            text.lines().filter(|l| l.starts_with("0|")).map(|l| l.split('|').collect()).collect();
        let ours: Vec<_> = frames(&snapshot).iter().filter(|f| !f.inline).collect();
        for (row, frame) in rows.iter().zip(&ours) {
            let (module, _) = place(&snapshot, frame);
            assert_eq!(module, row[2], "{name} frame {}", row[1]);
            if !row[3].is_empty() {
                // Breakpad's symbol files of that time have the parameters' types left out in some names.
                assert_eq!(frame.function.as_deref(), Some(row[3]), "{name} frame {}", row[1]);
            }
        }
        assert!(ours.len() >= rows.len(), "{name}: {} frames, theirs {}", ours.len(), rows.len());
    }
}

/// Inlined calls out of a symbol file, whose names the shared store keeps apart by their form.
#[test]
fn inlined_calls_of_symbol_files_are_rows() {
    let (Some(path), Some(store)) = (dump("linux_inline"), testdata::fixtures::fixture("minidump/breakpad/symbols"))
    else {
        return;
    };
    let id = "BBA6FA10B8AAB33D00000000000000000";
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("linux_inline").join(id);
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(store.join("linux_inline").join(id).join("linux_inline.new.sym"), to.join("linux_inline.sym"))
        .unwrap();
    let symbols = vec![folder.path().to_owned()];
    let snapshot = snapshot_with(&path, &debuginfo::Locator { symbols, ..debuginfo::Locator::default() });
    let names: Vec<_> = frames(&snapshot).iter().map(|f| (f.function.as_deref(), f.inline)).take(4).collect();
    let (last, inlined) = names.split_last().unwrap();
    assert!(inlined.iter().all(|(name, inline)| name.is_some() && *inline), "{names:?}");
    assert_eq!(*last, (Some("main"), false), "{names:?}");
    let module = snapshot.modules.iter().find(|m| m.path.ends_with("/linux_inline")).unwrap();
    assert_eq!(module.symbols, "sym-file");
}
