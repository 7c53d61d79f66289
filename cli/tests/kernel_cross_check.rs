//! `postfault cross-check` of a Linux kernel dump with drgn and crash, where they are installed.

mod common;

use common::{arg, postfault};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use testdata::fixtures::fixture;

const DUMP: &str = "linux-kernel/tiny/tiny.zstd-d31";
const KERNEL: &str = "linux-kernel/tiny/vmlinux-tiny.zst";

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// The kernel's file as the tools want it.
fn unpacked(folder: &tempfile::TempDir) -> Option<PathBuf> {
    let (packed, kernel) = (fixture(KERNEL)?, folder.path().join("vmlinux"));
    let mut from = zstd::Decoder::new(std::fs::File::open(packed).unwrap()).unwrap();
    std::io::copy(&mut from, &mut std::fs::File::create(&kernel).unwrap()).unwrap();
    Some(kernel)
}

fn compare(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = postfault().arg("cross-check").args(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), document, stderr)
}

/// All tasks' frames, what the kernel's structures say of tasks and modules, the cause of death, and every line of the log.
#[test]
fn drgn_and_postfault_agree_on_a_kernel() {
    let Some(dump) = fixture(DUMP) else { return };
    if !installed("drgn") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(kernel) = unpacked(&folder) else { return };
    let options = ["--json", "--no-cache", "--with", "drgn", "--kernel", arg(&kernel), arg(&dump)];
    let (code, document, stderr) = compare(&options);
    let peer = &document["peers"][0];
    assert_eq!(code, Some(0), "{peer:#}\n{stderr}");
    let total = |name: &str| peer["totals"][name].as_u64().unwrap();
    assert_eq!((total("differences"), total("frames")), (0, total("frames_same")), "{peer:#}");
    assert_eq!(total("facts"), total("facts_same"), "{peer:#}");
    assert!(total("threads") >= 32 && total("frames") > 200 && total("facts") > 300, "{peer:#}");
}

#[test]
fn a_tool_that_cannot_read_the_source_is_named() {
    let Some(dump) = fixture(DUMP) else { return };
    let (code, _, stderr) = compare(&["--with", "gdb", arg(&dump)]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("gdb is asked about programs, not kernel dumps"), "{stderr}");
    let (code, _, stderr) = compare(&["--with", "kgdb", arg(&dump)]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("`kgdb` is no tool to compare with"), "{stderr}");
    // crash does not work without the kernel's file, and then nothing was compared.
    let (code, document, _) = compare(&["--json", "--with", "crash", arg(&dump)]);
    assert_eq!(code, Some(3));
    let why = document["peers"][0]["unavailable"].as_str().unwrap();
    assert!(why.contains("it needs the kernel's file") || why.contains("is not installed"), "{why}");
}
