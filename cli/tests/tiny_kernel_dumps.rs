//! A dump of a tiny kernel that this repository builds, boots and lets panic: `ci/linux-guest/make-tiny.sh`.
//!
//! The kernel is for one processor, with frame pointers and no unwind table. Beside its dump lies its console, on which it
//! said in /proc who its tasks were and how much memory their page tables had, and what drgn said of every stack with the
//! kernel's file. Nothing but the dump is read here.

mod common;

use common::{arg, json};
use serde_json::Value;
use std::collections::BTreeMap;
use testdata::fixtures::workspace;

/// Functions of the kernel's start, whose code is given back once it has started: what called them cannot be told.
const GIVEN_BACK: [&str; 3] = ["start_kernel", "x86_64_start_reservations", "x86_64_start_kernel"];
/// Addresses of the kernel begin here. drgn follows chains beyond their ends, to what was never an address.
const KERNEL: std::ops::Range<u64> = 0xffff_8000_0000_0000..u64::MAX;

fn text(what: &str) -> String {
    std::fs::read_to_string(workspace().join("testdata/kernel-dumps").join(what)).unwrap()
}

fn document() -> Value {
    let dump = workspace().join("testdata/kernel-dumps/tiny.kdump");
    json(&["bt", "--json", "--threads", "all", "--no-variables", "--no-cache", arg(&dump)])
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What is said of the only run queue.
fn queue(document: &Value) -> &str {
    let mut queues = list(document, "attributes").iter().filter(|a| a["key"] == "kernel.run_queue");
    let (Some(queue), None) = (queues.next(), queues.next()) else { panic!("not one run queue") };
    queue["value"].as_str().unwrap()
}

/// The letter that /proc shows for a state of ours.
fn letter(state: &str) -> &str {
    match state {
        "running" => "R",
        "sleeping" => "S",
        "disk-sleep" => "D",
        "idle" => "I",
        other => other,
    }
}

/// Every task of /proc: its name, parent and state, and the memory that a walk of its page tables found.
#[test]
fn tasks_are_those_of_proc() {
    let document = document();
    let tasks: BTreeMap<u64, &Value> =
        list(&document, "tasks").iter().map(|t| (t["id"].as_u64().unwrap(), t)).collect();
    let (console, mut compared, mut resident) = (text("tiny.console"), 1, 0);
    let queue = queue(&document);
    for line in console.lines().filter_map(|l| l.strip_prefix("fact task ")) {
        let fields: Vec<&str> = line.splitn(5, ' ').collect();
        let [pid, parent, state, pages, name] = fields[..] else { panic!("{line}") };
        let task = tasks.get(&pid.parse().unwrap()).unwrap_or_else(|| panic!("no task: {line}"));
        // Workers of the kernel are shown with what they do, and longer than their structure has room for.
        let own = task["name"].as_str().unwrap();
        assert!(name.starts_with(own) && (parent == "2" || name == own), "{line}: {own}");
        assert_eq!(task["parent_pid"].as_u64(), parent.parse().ok(), "{line}");
        assert_eq!(task["cpu"], 0, "{line}");
        // A sleep may have ended since: such a task waits for the processor. The first process slept, until others had
        // read for it.
        let now = task["state"].as_str().unwrap();
        let waits = now == "running" && queue.split("; waiting: ").nth(1).unwrap().contains(&format!("thread {pid} ("));
        let wrote = pid == "1" && now == "running";
        assert!(letter(now) == state || waits || wrote, "{line}: {now}, {queue}");
        compared += 1;
        match pages.parse::<u64>() {
            // This one wrote the facts down, and went on.
            Ok(kib) if pid == "1" => assert!(task["resident"].as_u64().unwrap().abs_diff(kib << 10) <= 128 << 10),
            Ok(kib) => {
                assert_eq!(task["resident"].as_u64(), Some(kib << 10), "{line}");
                resident += 1;
            }
            Err(_) => assert_eq!(task["resident"], Value::Null, "{line}"),
        }
    }
    assert_eq!(compared, tasks.len());
    assert!(compared > 20 && resident >= 8, "{compared} {resident}");
}

fn frames(thread: &Value) -> Vec<(u64, &str)> {
    let physical = list(thread, "frames").iter().filter(|f| f["inline"] == Value::Bool(false));
    let pc = |f: &Value| u64::from_str_radix(f["pc"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    physical.map(|f| (pc(f), f["function"].as_str().unwrap_or("?"))).filter(|(pc, _)| KERNEL.contains(pc)).collect()
}

/// Every task's stack: the same addresses in the same order as drgn's, which has the kernel's file.
#[test]
fn stacks_are_those_of_drgn() {
    let document = document();
    let threads: BTreeMap<u64, &Value> =
        list(&document, "threads").iter().map(|t| (t["id"].as_u64().unwrap(), t)).collect();
    let (stacks, mut tasks, mut compared) = (text("tiny.stacks.tsv"), 0, 0);
    for line in stacks.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, name, stack @ ..] = fields.as_slice() else { panic!("{line}") };
        let thread = threads.get(&id.parse().unwrap()).unwrap_or_else(|| panic!("no task {id}"));
        // Idle tasks are named after their CPU when there are several.
        assert!(thread["name"].as_str().unwrap().starts_with(name), "task {id}");
        let parsed = stack.iter().map(|f| f.split_once(' ').unwrap());
        let parsed = parsed.map(|(pc, name)| (u64::from_str_radix(pc, 16).unwrap(), name));
        let theirs: Vec<(u64, &str)> =
            parsed.filter(|(pc, name)| KERNEL.contains(pc) && !GIVEN_BACK.contains(name)).collect();
        let ours = frames(thread);
        let addresses = |frames: &[(u64, &str)]| frames.iter().map(|(pc, _)| *pc).collect::<Vec<_>>();
        assert_eq!(addresses(&ours), addresses(&theirs), "task {id} ({name}): {ours:x?} {theirs:x?}");
        for ((_, own), (pc, their)) in ours.iter().zip(&theirs) {
            // Two labels of one place in assembler.
            let same = own == their || (*own, *their) == ("common_startup_64", "secondary_startup_64");
            assert!(same, "{pc:#x}: {own} {their}");
        }
        (tasks, compared) = (tasks + 1, compared + theirs.len());
    }
    assert_eq!(tasks, threads.len());
    assert!(tasks > 20 && compared > 100, "{tasks} tasks, {compared} frames");
}

/// What the kernel printed of the stack that panicked: `? ` marks what it did not believe itself.
#[test]
fn the_crashed_stack_is_the_kernels_own_call_trace() {
    let (document, console) = (document(), text("tiny.console"));
    let lines = console.lines().filter_map(|l| Some(l.split_once("] ")?.1.trim()));
    let trace = lines.skip_while(|l| *l != "<TASK>").take_while(|l| !l.starts_with("RIP:"));
    let believed: Vec<&str> = trace.filter(|l| l.contains("+0x") && !l.starts_with("? ")).collect();
    let printed: Vec<&str> = believed.iter().filter_map(|l| l.split('/').next()).collect();
    let thread = &document["threads"][0];
    assert_eq!((thread["faulting"].as_bool(), thread["id"].as_u64()), (Some(true), Some(1)));
    let named = |f: &Value| format!("{}+{:#x}", f["function"].as_str().unwrap(), f["offset"].as_u64().unwrap_or(0));
    let kernel = list(thread, "frames").iter().filter(|f| f["function"].is_string());
    let ours: Vec<String> = kernel.map(named).collect();
    let behind = |names: &[String]| -> Vec<String> {
        let after = names.iter().position(|n| n.starts_with("panic+")).unwrap() + 1;
        names[after..].iter().take_while(|n| !n.starts_with("entry_")).cloned().collect()
    };
    let printed: Vec<String> = printed.into_iter().map(str::to_owned).collect();
    assert_eq!(behind(&ours), behind(&printed));
    assert!(behind(&ours).len() >= 8, "{ours:?}");
    // On to the program, whose address the registers that the kernel printed say.
    let user = console.lines().find_map(|l| l.split_once("RIP: 0033:")).unwrap().1;
    assert_eq!(list(thread, "frames").last().unwrap()["pc"], user.trim());
}

/// The log is what the console showed, up to the panic; and who died is what it says there.
#[test]
fn log_and_panic_are_those_of_the_console() {
    let (document, console) = (document(), text("tiny.console"));
    let shown: Vec<&str> = console.lines().filter_map(|l| Some(l.strip_prefix('[')?.split_once("] ")?.1)).collect();
    // Messages for debugging are in the log only.
    let records = list(&document, "log").iter().filter(|r| r["level"] != "debug");
    let log: Vec<&str> = records.flat_map(|r| r["text"].as_str().unwrap().lines()).collect();
    assert_eq!(log, shown);
    assert!(shown.len() > 100, "{}", shown.len());
    let panic = shown.iter().find_map(|l| l.strip_prefix("Kernel panic - not syncing: ")).unwrap();
    assert_eq!(document["event"]["message"], panic);
    assert_eq!(document["findings"][0]["class"], "requested");
    assert_eq!(document["doubts"], Value::Array(Vec::new()));
    let release = console.lines().find_map(|l| l.strip_prefix("fact release ")).unwrap();
    assert_eq!(document["identity"]["release"], release);
    assert!(queue(&document).starts_with("CPU 0 runs thread 1 (init); waiting: "), "{}", queue(&document));
}
