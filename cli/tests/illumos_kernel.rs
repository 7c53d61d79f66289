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
        }
    }
}
