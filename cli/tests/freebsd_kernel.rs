//! Real dumps of FreeBSD kernels, against what LLDB and an independent reader say of them.

use platform::input::Input;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use testdata::fixtures::fixture;

/// Unpacks a file, with holes for its zeros.
fn unpacked(name: &str, to: &Path) -> Option<()> {
    let input = Input::open(&fixture(name)?).unwrap();
    let file = File::create(to).unwrap();
    file.set_len(input.size()).unwrap();
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < input.size() {
        let got = input.read_at(at, &mut block).unwrap();
        assert!(got > 0);
        if block[..got].iter().any(|b| *b != 0) {
            file.write_all_at(&block[..got], at).unwrap();
        }
        at += got as u64;
    }
    Some(())
}

fn expected(name: &str) -> Option<Value> {
    let bytes = std::fs::read(fixture(&format!("freebsd/vmcore/{name}"))?).unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn run(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_postfault")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no address"));
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// A thread's name as LLDB writes it.
fn lldb_name(thread: &Value, crashed: &Value) -> String {
    let mut name = format!("(pid {}) {}", thread["pid"], thread["name"].as_str().unwrap_or_default());
    if thread["id"] == *crashed {
        name += " (crashed)";
    } else if let Some(cpu) = thread["cpu"].as_u64().filter(|_| thread["context"] == "cpu") {
        name += &format!(" (on CPU {cpu})");
    }
    name
}

fn registers(thread: &Value) -> BTreeMap<String, u64> {
    let map = thread.as_object().unwrap();
    map.iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

fn pcs(thread: &Value) -> Vec<u64> {
    thread["frames"].as_array().unwrap().iter().map(|f| number(&f["pc"])).collect()
}

#[test]
fn every_thread_register_and_frame() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel");
    if unpacked("freebsd/vmcore/kernel-amd64.bz2", &kernel).is_none() {
        return;
    }
    let lldb = expected("lldb-expectations.json").unwrap();
    let mut compared = 0;
    for dump in ["vmcore-amd64-full", "vmcore-amd64-minidump"] {
        let file = dir.path().join("vmcore");
        unpacked(&format!("freebsd/vmcore/{dump}.bz2"), &file).unwrap();
        let found = run(&["bt", file.to_str().unwrap(), "--kernel", kernel.to_str().unwrap(), "--json"]);
        let oracle = expected(&format!("oracle-{}.json", dump.strip_prefix("vmcore-").unwrap())).unwrap();
        let threads = found["threads"].as_array().unwrap();
        let crashed = &found["event"]["thread"];
        assert_eq!(crashed, &oracle["dumptid"], "{dump}");
        assert_eq!(threads.len() as u64, lldb[dump]["numthread"].as_u64().unwrap(), "{dump}");
        assert_eq!(threads.len(), oracle["threads"].as_array().unwrap().len(), "{dump}");
        for (thread, expected) in threads.iter().zip(oracle["threads"].as_array().unwrap()) {
            let name = &expected["name"];
            assert_eq!(lldb_name(thread, crashed), name.as_str().unwrap(), "{dump}");
            assert_eq!((&thread["id"], &thread["pid"]), (&expected["tid"], &expected["pid"]), "{dump} {name}");
            assert_eq!(registers(&thread["registers"]), registers(&expected["regs"]), "{dump} {name}");
            let frames: Vec<u64> = expected["bt"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(pcs(thread), frames, "{dump} {name}");
            compared += frames.len();
        }
        for (index, expected) in lldb[dump]["threads"].as_object().unwrap() {
            let thread = &threads[index.parse::<usize>().unwrap()];
            assert_eq!(lldb_name(thread, crashed), expected["name"].as_str().unwrap(), "{dump}");
            assert_eq!(registers(&thread["registers"]), registers(&expected["regs"]), "{dump} {index}");
            let frames: Vec<u64> = expected["bt"].as_array().unwrap().iter().map(|pc| pc.as_u64().unwrap()).collect();
            assert_eq!(pcs(thread), frames, "{dump} {index}");
        }
        let doubts: Vec<&str> =
            found["doubts"].as_array().unwrap().iter().map(|d| d["what"].as_str().unwrap()).collect();
        assert_eq!(doubts.len(), 1, "only that the file was cut off: {}", found["doubts"]);
    }
    assert_eq!(compared, 149, "frames");
}
