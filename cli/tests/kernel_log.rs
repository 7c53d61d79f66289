//! One bug, seen as a dump and as the console's text.

mod common;

use common::{arg, json, run, stdout};

#[test]
fn a_dump_and_its_console_have_one_fingerprint() {
    let fixture = |path: &str| testdata::fixtures::fixture(path);
    let names = [
        ("linux-kernel/debian/null.serial.log", "linux-kernel/debian/null.full.kdump"),
        ("linux-kernel/tiny/tiny.serial.log", "linux-kernel/tiny/tiny.zstd-d31"),
    ];
    for (log, dump) in names {
        let (Some(log), Some(dump)) = (fixture(log), fixture(dump)) else { continue };
        let said = json(&["bt", "--log", arg(&log), "--json"]);
        let dumped = json(&["bt", arg(&dump), "--json"]);
        assert_eq!(said["identity"]["origin"], "log");
        assert_eq!(said["fingerprint"], dumped["fingerprint"], "{}", log.display());
        assert_eq!(said["findings"][0]["class"], "null-deref");
        assert_eq!(dumped["findings"][0]["class"], "null-deref");
        assert_eq!(said["findings"][0]["text"], dumped["findings"][0]["text"]);
        // Addresses that a log does not say are absent.
        assert!(said["threads"][0]["frames"][0].get("pc").is_none());
        assert_eq!(said["threads"][0]["frames"][0]["function"], "lkf_level3");
        assert!(!stdout(&["bt", "--log", arg(&log)]).contains("0x0000000000000000"));
    }
}

#[test]
fn a_text_without_a_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("console.txt");
    std::fs::write(&file, "[    0.000000] all is well\n").unwrap();
    run(&["bt", "--log", arg(&file)], 0);
    run(&["bt", "--log", arg(&file), "--strict"], 1);
    run(&["bt", "--log", arg(&folder.path().join("missing"))], 3);
    run(&["cross-check", "--log", arg(&file)], 2);
}
