//! Snapshots through the command line: what was captured is what is shown, wherever it is shown.

mod common;

use common::{arg, core, json, run, stdout};

/// The very bytes of `show --json` right after the capture, with the snapshot alone in an empty directory and every
/// file that the capture read out of reach.
#[test]
fn a_snapshot_alone_shows_what_the_capture_showed() {
    for (name, variant) in [("null_deref", "gcc-O0"), ("containers", "gcc-O0"), ("threads", "gcc-O2")] {
        let Some(core) = core(name, variant) else { return };
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first.pfsnap");
        let captured = run(&["capture", arg(&core), "--json", "-o", arg(&first)], 0).stdout;
        let shown = run(&["show", arg(&first), "--json"], 0).stdout;
        assert!(captured == shown, "{name}: capture --json and show --json differ");

        let empty = tempfile::tempdir().unwrap();
        let copy = empty.path().join("copy.pfsnap");
        std::fs::copy(&first, &copy).unwrap();
        drop(folder);
        // A new root without /usr, /lib or the victim's folder: nothing but the snapshot and the program itself.
        let alone = common::postfault()
            .args(["show", arg(&copy), "--json"])
            .current_dir(empty.path())
            .env("PATH", "")
            .output()
            .unwrap();
        assert!(alone.stdout == shown, "{name}: the copy shows something else");
        assert!(!shown.is_empty());
    }
}

#[test]
fn the_same_core_gives_the_same_bytes() {
    let Some(core) = core("null_deref", "gcc-O0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run(&["capture", arg(&core), "-o", arg(&a)], 0);
    run(&["capture", arg(&core), "-o", arg(&b)], 0);
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
    assert_eq!(stdout(&["diff", arg(&a), arg(&b)]), "");
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let Some(core) = core("null_deref", "gcc-O0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "precious").unwrap();
    let output = run(&["capture", arg(&core), "-o", arg(&path)], 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--force"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    run(&["capture", arg(&core), "-o", arg(&path), "--force"], 0);
    assert!(std::fs::read(&path).unwrap().len() > 100);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
}

#[test]
fn facts_and_files_travel_along() {
    let Some(core) = core("null_deref", "gcc-O0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, log) = (folder.path().join("s"), folder.path().join("app.log"));
    std::fs::write(&log, "last words").unwrap();
    run(&["capture", arg(&core), "-o", arg(&snapshot), "--kv", "ticket=42", "--attach", arg(&log)], 0);
    let document = json(&["show", arg(&snapshot), "--json"]);
    let attributes = document["attributes"].as_array().unwrap();
    assert!(attributes.iter().any(|a| a["key"] == "user.ticket" && a["value"] == "42"));
    assert!(stdout(&["show", arg(&snapshot), "files"]).contains("app.log (10 bytes)"));
}

#[test]
fn different_crashes_differ() {
    let (Some(a), Some(b)) = (core("null_deref", "gcc-O0"), core("abort", "gcc-O0")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (left, right) = (folder.path().join("a"), folder.path().join("b"));
    run(&["capture", arg(&a), "-o", arg(&left)], 0);
    run(&["capture", arg(&b), "-o", arg(&right)], 0);
    let text = String::from_utf8(run(&["diff", arg(&left), arg(&right)], 1).stdout).unwrap();
    assert!(text.contains("SIGSEGV") && text.contains("SIGABRT"), "{text}");
    assert!(!json_diff(arg(&left), arg(&right)).is_empty());
}

fn json_diff(a: &str, b: &str) -> Vec<serde_json::Value> {
    serde_json::from_slice(&run(&["diff", a, b, "--json"], 1).stdout).unwrap()
}

#[test]
fn a_core_on_standard_input_is_the_same_core() {
    let Some(core) = core("threads", "gcc-O2") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    run(&["capture", arg(&core), "-o", arg(&a)], 0);
    let status = common::postfault()
        .args(["capture", "-", "-o", arg(&b)])
        .stdin(std::fs::File::open(&core).unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
}
