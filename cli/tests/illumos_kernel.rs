//! A whole illumos kernel that is made here, in two layouts of its structures, through the whole program.

mod common;

use serde_json::Value;
use std::path::Path;
use testdata::illumos::kernel::{Truth, panicked};
use testdata::illumos::layouts::Layout;
use testdata::illumos::{Compression, Dump};

fn bt(file: &Path) -> Value {
    common::json(&["bt", "--json", common::arg(file)])
}

fn compare(json: &Value, truth: &Truth, what: &str) {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let threads = json["threads"].as_array().unwrap();
    assert_eq!(threads.len(), truth.threads.len(), "{what}");
    for (id, pid, state, name, functions) in &truth.threads {
        let thread = threads.iter().find(|t| t["id"] == *id).unwrap_or_else(|| panic!("{what}: no thread {id}"));
        assert_eq!((thread["pid"].as_u64(), text(&thread["state"]).as_str()), (Some(*pid), *state), "{what}: {id}");
        assert_eq!(text(&thread["name"]), *name, "{what}: {id}");
        let frames: Vec<String> = thread["frames"].as_array().unwrap().iter().map(|f| text(&f["function"])).collect();
        assert_eq!(frames, *functions, "{what}: {id}: {}", thread["truncated"]);
        assert!(thread["truncated"].is_null(), "{what}: {id}: {}", thread["truncated"]);
        assert_eq!(thread["faulting"] == true, *id == truth.panicking, "{what}: {id}");
    }
    let event = &json["event"];
    assert_eq!(event["thread"].as_u64(), Some(truth.panicking), "{what}");
    assert_eq!(text(&event["message"]), truth.message, "{what}");
    assert_eq!(text(&event["address"]), format!("{:#x}", truth.address), "{what}");
    assert_eq!(text(&event["access"]), "read", "{what}");
    let panicking = threads.iter().find(|t| t["id"] == truth.panicking).unwrap();
    assert_eq!(text(&panicking["registers"]["rdi"]), format!("{:#x}", truth.rdi), "{what}");
    let log: Vec<String> = json["log"].as_array().unwrap().iter().map(|l| text(&l["text"])).collect();
    assert_eq!(log, truth.log, "{what}");
    let classes: Vec<String> = json["findings"].as_array().unwrap().iter().map(|f| text(&f["class"])).collect();
    assert_eq!(classes, ["null-deref", "kernel-panic", "deadlock"], "{what}");
    let mut modules: Vec<String> = json["modules"].as_array().unwrap().iter().map(|m| text(&m["path"])).collect();
    modules.sort();
    assert_eq!(modules, truth.modules, "{what}");
}

#[test]
fn both_layouts_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    for (name, layout) in [("first", Layout::first()), ("second", Layout::second())] {
        let (kernel, truth) = panicked(layout);
        let dump = kernel.dump();
        let forms = [
            ("vmdump", Dump { compression: Compression::Bzip2, ..dump.clone() }.vmdump()),
            ("vmcore", dump.vmcore()),
            ("device", Dump { compression: Compression::Serial, ..dump.clone() }.device(None)),
        ];
        for (form, bytes) in forms {
            let file = folder.path().join(format!("{name}.{form}"));
            std::fs::write(&file, bytes).unwrap();
            compare(&bt(&file), &truth, &format!("{name} {form}"));
            let facts = common::stdout(&["show", common::arg(&file), "attributes"]);
            assert!(facts.contains("kernel.deadlock = threads 11, 12 wait for each other"), "{facts}");
            assert!(facts.contains("(pool_lock): held by thread 11; waited for by 12"), "{facts}");
        }
    }
}

/// Structures full of garbage: lists that loop, pointers to nowhere, types that are none. Every run ends by itself.
#[test]
fn damaged_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 5_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let whole = panicked(Layout::first()).0.dump().vmcore();
    let file = folder.path().join("damaged");
    for round in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round * 4 {
            let at = next() % bytes.len();
            // A pointer to somewhere in the kernel is worse than noise.
            let value = if next() % 2 == 0 { 0xffff_fe00_1000_0000 + next() as u64 % 0x1_0000 } else { next() as u64 };
            let end = (at + 8).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        std::fs::write(&file, bytes).unwrap();
        let out = common::postfault().args(["bt", "--json", common::arg(&file)]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 1 | 3)), "{round}: {:?}: {said}", out.status);
        assert!(!said.contains("panicked"), "{round}: {said}");
    }
}
