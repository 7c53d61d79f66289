//! Cores of FreeBSD programs with their memory and their debug information: stacks, variables and findings, and what
//! lldb says of the same core.

mod common;

use common::freebsd::{MACHINES, program};
use common::{arg, json, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use testdata::elfcore::freebsd::Machine;
use testdata::fixtures::required;

/// Prints what lldb sees of a core, as one JSON value in the file `OUT`.
const SCRIPT: &str = r#"
import json, lldb, os
target = lldb.debugger.CreateTarget(os.environ['PROGRAM'])
process = target.LoadCore(os.environ['CORE'])
threads = []
for t in process:
    frames = []
    for f in t:
        values = {}
        for v in f.GetVariables(True, True, False, True):
            values[v.GetName()] = v.GetValue()
        frames.append({'pc': f.GetPC(), 'function': f.GetFunctionName(), 'values': values})
    threads.append({'id': t.GetThreadID(), 'frames': frames})
json.dump(threads, open(os.environ['OUT'], 'w'))
"#;

fn lldb(program: &Path, core: &Path, folder: &Path) -> Option<Value> {
    let (script, out) = (folder.join("s.py"), folder.join("out.json"));
    std::fs::write(&script, SCRIPT).unwrap();
    let import = format!("command script import {}", arg(&script));
    let tools = ["lldb-22", "lldb-19", "lldb"];
    let name = tools.into_iter().find(|t| Command::new(t).arg("--version").output().is_ok_and(|o| o.status.success()));
    let Some(name) = name else {
        assert!(!required("POSTFAULT_REQUIRE_TOOLS"), "no lldb");
        eprintln!("skipped: no lldb");
        return None;
    };
    let output = Command::new(name)
        .args(["-x", "-b", "-o", &import])
        .env("PROGRAM", program)
        .env("CORE", core)
        .env("OUT", &out)
        .output()
        .unwrap();
    let Ok(text) = std::fs::read_to_string(&out) else {
        panic!("{name}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// What a value says, whoever wrote it: a number, or the address that text begins with.
fn number(value: &Value) -> f64 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let word = text.split(' ').next().unwrap();
    let hex = word.strip_prefix("0x").map(|h| u64::from_str_radix(h, 16).unwrap() as f64);
    hex.unwrap_or_else(|| word.parse().unwrap_or_else(|e| panic!("{value}: {e}")))
}

/// Functions, program counters and variables of both; how many variables there are.
fn compare(found: &Value, seen: &Value, what: &str) -> usize {
    let ours = found["threads"][0]["frames"].as_array().unwrap();
    let theirs = seen[0]["frames"].as_array().unwrap();
    let theirs: Vec<&Value> = theirs.iter().filter(|f| f["function"].is_string()).collect();
    assert_eq!(seen[0]["id"], found["threads"][0]["id"], "{what}");
    assert_eq!(theirs.len(), CALLED.len(), "{what}: {seen}");
    let mut compared = 0;
    for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let pc = format!("{:#x}", theirs["pc"].as_u64().unwrap());
        assert_eq!((&ours["function"], &ours["pc"]), (&theirs["function"], &pc.into()), "{what}, frame {n}");
        assert_eq!(ours["function"], CALLED[n], "{what}, frame {n}");
        let mine: BTreeMap<&str, &Value> =
            ours["variables"].as_array().unwrap().iter().map(|v| (v["name"].as_str().unwrap(), v)).collect();
        let names: Vec<&String> = theirs["values"].as_object().unwrap().keys().collect();
        assert_eq!(mine.keys().collect::<Vec<_>>(), names, "{what}, frame {n}");
        for (name, value) in theirs["values"].as_object().unwrap() {
            assert_eq!(number(&mine[name.as_str()]["value"]), number(value), "{what}, frame {n}: {name}");
            compared += 1;
        }
    }
    compared
}

const CALLED: [&str; 5] = ["fault", "middle", "middle", "middle", "_start"];

#[test]
fn variables_are_those_that_lldb_reads() {
    for machine in MACHINES {
        let folder = tempfile::tempdir().unwrap();
        let Some((file, mut process)) = program(machine, folder.path(), 0) else { return };
        let what = format!("{machine:?}");
        let core = folder.path().join("program.core");
        process.core().write(&core).unwrap();
        let found = json(&["show", arg(&core), "--exe", arg(&file), "--json"]);
        assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
        assert_eq!(found["findings"][0]["class"], "null-deref", "{what}");
        assert_eq!(found["event"]["address"], "0x8", "{what}: {}", found["event"]);
        if machine != Machine::Arm64 {
            // It really ran.
            let variables = |frame: usize| found["threads"][0]["frames"][frame]["variables"].to_string();
            assert!(variables(0).contains(r#""name":"sum","type":"int","value":13"#), "{what}: {}", variables(0));
            assert!(variables(0).contains(r#""name":"ratio","type":"double","value":2.5"#), "{what}: {}", variables(0));
            assert!(variables(3).contains(r#"\"hello\""#), "{what}: {}", variables(3));
        }
        if let Some(seen) = lldb(&file, &core, folder.path()) {
            assert!(compare(&found, &seen, &what) >= 14, "{what}: variables");
        }
        // AT_FXRNG has another system's number for its vDSO (lldb 19 takes it for one, and runs out of memory).
        let bare = folder.path().join("bare.core");
        process.auxv.push((33, process.mappings[0].start + 0x10));
        process.core().write(&bare).unwrap();
        let known = json(&["show", arg(&bare), "--exe", arg(&file), "--json"]);
        assert_eq!((&known["threads"], &known["doubts"]), (&found["threads"], &found["doubts"]), "{what}: AT_FXRNG");
        // Without an auxiliary vector the program is known by its path.
        process.auxv.clear();
        process.core().write(&bare).unwrap();
        let known = json(&["show", arg(&bare), "--exe", arg(&file), "--json"]);
        assert_eq!(known["threads"], found["threads"], "{what}: without an auxiliary vector");
        // By its place below a folder, and from the snapshot alone.
        let place = folder.path().join("root/usr/local/bin");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::rename(&file, place.join("program")).unwrap();
        let root = folder.path().join("root");
        let snapshot = folder.path().join("taken.pfsnap");
        run(&["capture", arg(&core), "--sysroot", arg(&root), "-o", arg(&snapshot)], 0);
        std::fs::remove_dir_all(&root).unwrap();
        let shown = json(&["show", arg(&snapshot), "--json"]);
        assert_eq!(shown["threads"], found["threads"], "{what}");
        assert_eq!(shown["findings"], found["findings"], "{what}");
    }
}

/// Return addresses of arm64 that carry an authentication code lead where the plain ones do.
#[test]
fn signed_return_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for signature in [0, 0x0025_0000_0000_0000, 0xff55_0000_0000_0000] {
        let Some((file, process)) = program(Machine::Arm64, folder.path(), signature) else { return };
        let core = folder.path().join("program.core");
        process.core().write(&core).unwrap();
        let found = json(&["bt", arg(&core), "--exe", arg(&file), "--json"]);
        let frames = found["threads"][0]["frames"].as_array().unwrap().clone();
        let names: Vec<&str> = frames.iter().filter_map(|f| f["function"].as_str()).collect();
        assert_eq!(names, CALLED, "{signature:#x}");
        all.push(frames.iter().map(|f| f["pc"].clone()).collect::<Vec<_>>());
    }
    assert!(all.windows(2).all(|w| w[0] == w[1]), "{all:?}");
}
