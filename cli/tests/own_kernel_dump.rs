//! A dump that this repository made itself: `cargo xtask kdump-guest`, reduced by the example `reduce-kernel-dump`.
//!
//! Beside it lies what drgn said of every stack, with the kernel's file, which we do not have here; and in it, the kernel's
//! own call trace.

mod common;

use common::{arg, json};
use serde_json::Value;
use std::collections::BTreeMap;
use testdata::fixtures::workspace;

/// Threads of idle tasks of further CPUs are numbered above all pids.
const IDLE: u64 = 1 << 32;

fn document() -> Value {
    let dump = workspace().join("testdata/kernel-dumps/sysrq.kdump");
    json(&["bt", "--json", "--threads", "all", "--no-variables", "--no-cache", arg(&dump)])
}

fn physical(thread: &Value) -> Vec<(u64, String)> {
    let frames = thread["frames"].as_array().unwrap().iter().filter(|f| f["inline"] == Value::Bool(false));
    let frame = |f: &Value| {
        let pc = f["pc"].as_str().unwrap().trim_start_matches("0x");
        (u64::from_str_radix(pc, 16).unwrap(), f["function"].as_str().unwrap_or("?").to_owned())
    };
    frames.map(frame).collect()
}

/// Every task with the same addresses in the same order; functions by name, but for parts (`.cold`) that the kernel's own
/// symbols name, and labels in assembler.
#[test]
fn stacks_are_those_of_drgn() {
    let document = document();
    let text = std::fs::read_to_string(workspace().join("testdata/kernel-dumps/sysrq.stacks.tsv")).unwrap();
    let threads: BTreeMap<u64, &Value> =
        document["threads"].as_array().unwrap().iter().map(|t| (t["id"].as_u64().unwrap(), t)).collect();
    let (mut tasks, mut frames, mut differ, mut idle) = (0, 0, Vec::new(), 0);
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [pid, name, stack @ ..] = fields.as_slice() else { panic!("{line}") };
        let mut id: u64 = pid.parse().unwrap();
        if id == 0 {
            id = if idle == 0 { 0 } else { IDLE + idle };
            idle += 1;
        }
        let thread = threads.get(&id).unwrap_or_else(|| panic!("no task {id}"));
        assert_eq!(thread["name"].as_str(), Some(*name), "task {id}");
        tasks += 1;
        let ours = physical(thread);
        let addresses: Vec<u64> = ours.iter().map(|(pc, _)| *pc).collect();
        let theirs: Vec<(u64, &str)> = stack
            .iter()
            .map(|f| f.split_once(' ').unwrap())
            .map(|(pc, n)| (u64::from_str_radix(pc, 16).unwrap(), n))
            .collect();
        assert_eq!(addresses, theirs.iter().map(|(pc, _)| *pc).collect::<Vec<_>>(), "task {id} ({name})");
        frames += theirs.len();
        for ((_, ours), (pc, theirs)) in ours.iter().zip(&theirs) {
            // Programs have no names here: drgn gives their addresses.
            let in_kernel = pc >> 63 == 1;
            if in_kernel && ours != theirs && !ours.starts_with(theirs) && !theirs.starts_with(ours.as_str()) {
                differ.push(format!("{pc:#x} {ours} {theirs}"));
            }
        }
    }
    assert_eq!(tasks, threads.len());
    assert!(tasks > 50 && frames > 300, "{tasks} tasks, {frames} frames");
    assert!(differ.is_empty(), "{differ:?}");
}

/// What the kernel printed of the stack that panicked: `? ` marks what it did not believe itself.
#[test]
fn the_crashed_stack_is_the_kernels_own_call_trace() {
    let document = document();
    let log: Vec<&str> = document["log"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap()).collect();
    let first = log.iter().rposition(|l| *l == "Call Trace:").unwrap();
    let trace = log[first..].iter().map(|l| l.trim()).skip_while(|l| *l != "<TASK>").skip(1);
    let believed = trace.take_while(|l| !l.starts_with("RIP:")).filter(|l| l.contains("+0x") && !l.starts_with("? "));
    let printed: Vec<&str> = believed.map(|l| l.split('/').next().unwrap()).collect();
    let thread = &document["threads"][0];
    assert_eq!(thread["faulting"], Value::Bool(true));
    let frames = thread["frames"].as_array().unwrap().iter().filter(|f| f["inline"] == Value::Bool(false));
    let ours: Vec<String> = frames
        .map(|f| format!("{}+{:#x}", f["function"].as_str().unwrap_or("?"), f["offset"].as_u64().unwrap_or(0)))
        .collect();
    // The trace begins where it was printed, in panic(), and ends with a label inside of the entry code.
    let callers = |names: &[String]| -> Vec<String> {
        let after = names.iter().position(|n| n.starts_with("panic+")).unwrap() + 1;
        names[after..].iter().take_while(|n| !n.starts_with("entry_")).cloned().collect()
    };
    let printed: Vec<String> = printed.into_iter().map(str::to_owned).collect();
    assert_eq!(callers(&ours), callers(&printed), "{ours:?} {printed:?}");
    assert!(callers(&ours).len() >= 6);
}

#[test]
fn what_died() {
    let document = document();
    assert_eq!(document["identity"]["release"], "6.1.0-56-amd64");
    assert_eq!(document["event"]["message"], "sysrq triggered crash");
    assert_eq!(document["findings"][0]["class"], "requested");
    // The dump was reduced to what stacks, tasks and log need: pages of timers and work are not in it.
    let doubts = document["doubts"].as_array().unwrap();
    for doubt in doubts {
        assert!(["timers", "work"].contains(&doubt["what"].as_str().unwrap()), "{doubt}");
    }
    assert!(doubts.len() <= 2, "{doubts:?}");
    assert_eq!(document["threads"][0]["id"], 1);
    assert_eq!(document["threads"][0]["name"], "init");
}
