//! Wrong input of every kind: the exit code, an empty standard output, and a message that says what to do.

mod common;

use common::{arg, run};

fn refused(arguments: &[&str], code: i32, says: &str) {
    let output = run(arguments, code);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty(), "{arguments:?}: stdout is data only");
    assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    assert!(stderr.lines().count() < 20, "{arguments:?}: {stderr}");
}

#[test]
fn what_is_no_source_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let zeros = file("zeros", &[0; 10_000]);
    let empty = file("empty", b"");
    let text = file("text", b"#!/bin/sh\n");
    let half = file("half.gz", &[0x1f, 0x8b, 8, 0]);
    for command in ["bt", "capture", "symbols", "show"] {
        refused(&[command, "/nonexistent/core"], 3, "No such file");
        refused(&[command, arg(folder.path())], 3, "directory");
        refused(&[command, arg(&zeros)], 3, "expected a core, a kernel dump, a minidump or a snapshot");
        refused(&[command, arg(&empty)], 3, "empty file");
        refused(&[command, arg(&text)], 3, "expected a core, a kernel dump, a minidump or a snapshot");
        refused(&[command, arg(&half)], 3, "half.gz");
        refused(&[command, env!("CARGO_BIN_EXE_postfault")], 3, "--exe");
    }
}

#[test]
fn processes_that_cannot_be_looked_at_are_named() {
    refused(&["bt", "--pid", "4294967295"], 3, "no such process");
    refused(&["bt", "--pid", "2"], 3, "kernel thread");
}

#[test]
fn the_command_line_is_checked() {
    refused(&["bt"], 2, "SOURCE");
    refused(&["bt", "--pid", "1", "core"], 2, "cannot be used with");
    refused(&["show", "core", "nonsense"], 2, "sections are summary");
    refused(&["memory", "core", "12"], 2, "address and a length");
    refused(&["memory", "core", "zz", "1"], 2, "not a number");
    refused(&["memory", "core", "0xffffffffffffffff", "2"], 2, "last address");
    refused(&["frobnicate"], 2, "frobnicate");
    refused(&["capture", "core", "--kv", "novalue"], 2, "KEY=VALUE");
}

#[test]
fn help_has_examples_and_nothing_on_stderr() {
    for command in ["capture", "bt", "show", "memory", "symbols", "diff", "export", "cross-check", "completions", "man"]
    {
        let output = run(&[command, "--help"], 0);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("postfault {command}")), "{text}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn manual_pages_and_completions_are_made() {
    let folder = tempfile::tempdir().unwrap();
    run(&["man", arg(folder.path())], 0);
    let page = std::fs::read_to_string(folder.path().join("postfault-capture.1")).unwrap();
    assert!(page.starts_with(".ie") || page.contains(".TH"), "{}", &page[..200]);
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(&["completions", shell], 0).stdout).unwrap();
        assert!(script.contains("capture"), "{shell}");
    }
}
