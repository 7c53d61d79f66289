//! Kernels whose memory says more than their log: the object behind a pointer, the lock behind a wait.

use snapshot_format::Snapshot;
use snapshot_format::schema::{Attribute, Task};

/// A report with its CPU, instruction, registers and trace.
fn console(head: &[&str], rip: &str, trace: &[&str], panic: &str) -> String {
    let mut lines: Vec<String> = vec!["Linux version 6.1.0-demo (gcc) #1 SMP".into()];
    lines.extend(head.iter().map(|l| (*l).to_owned()));
    lines.push("CPU: 1 PID: 42 Comm: sh Tainted: G           OE      6.1.0-demo #1".into());
    lines.push(format!("RIP: 0010:{rip}"));
    lines.push("RSP: 0018:ffffc90000123aa0 EFLAGS: 00010202".into());
    lines.push("RAX: ffff888001234538 RBX: ffff888001234500 RCX: c0000000ffffefff".into());
    lines.push("RBP: 0000000000000000 R08: ffff888001234500 R09: 0000000000000000".into());
    lines.push("Call Trace:".into());
    lines.push(" <TASK>".into());
    lines.extend(trace.iter().map(|l| format!(" {l}")));
    lines.push(" </TASK>".into());
    lines.push(format!("Kernel panic - not syncing: {panic}"));
    lines.join("\n")
}

/// The snapshot of a log with facts out of the kernel's memory.
fn judge(log: &str, facts: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = analysis::snapshot_of_log(log);
    let fact = |(key, value): &(&str, &str)| Attribute { key: (*key).into(), thread: None, value: (*value).into() };
    snapshot.attributes.extend(facts.iter().map(fact));
    for (id, name, state) in [(42, "sh", "disk-sleep"), (43, "holder", "sleeping")] {
        let (name, state) = (Some(name.to_owned()), Some(state.to_owned()));
        snapshot.tasks.push(Task { id, name, state, ..Task::default() });
    }
    analysis::analyse(&mut snapshot);
    snapshot
}

fn first(snapshot: &Snapshot) -> (&str, &str, f64) {
    let finding = &snapshot.findings[0];
    (&finding.class, &finding.text, finding.confidence)
}

fn grounds(snapshot: &Snapshot, against: bool) -> Vec<&str> {
    let of_first = snapshot.evidence.iter().filter(|e| e.finding == 0 && e.counter == against);
    of_first.map(|e| e.text.as_str()).collect()
}

const JUMP: [&str; 1] = ["general protection fault: 0000 [#1] PREEMPT SMP"];
const TRACE: [&str; 2] = ["demo_middle+0xc/0x20 [demo]", "vfs_write+0xc7/0x3f0"];

fn object(state: &str, rest: &str) -> String {
    format!(
        "object 0xffff888001234500 of cache demo_cache (112 bytes): {state}; rax is +0x38; rbx is +0x0; r8 is +0x0{rest}; \
         the object before it: allocated"
    )
}

#[test]
fn a_jump_through_a_freed_object() {
    let log = console(&JUMP, "0x4141414141414141", &TRACE, "Fatal exception");
    let plain = judge(&log, &[]);
    assert_eq!(first(&plain).0, "wild-jump");
    let holds = "; rip (0x4141414141414141) is what it holds at +0x28";
    let free = judge(&log, &[("kernel.slab", &object("free", holds))]);
    let (class, text, confidence) = first(&free);
    assert_eq!((class, confidence), ("use-after-free", 0.93));
    assert!(
        text.contains("0x4141414141414141, which was read from a freed object of cache demo_cache in demo_middle()"),
        "{text}"
    );
    assert!(grounds(&free, false).iter().any(|g| g.starts_with("memory: object 0xffff888001234500")));
    assert_eq!(grounds(&free, true).len(), 1);
    assert_eq!(free.findings[0].security, "high");
    assert_eq!(free.fingerprint, plain.fingerprint, "the dump and its console are one bug");

    // An object in use proves nothing, and neither does one whose list could not be read.
    for state in ["allocated", "not known to be free"] {
        let used = judge(&log, &[("kernel.slab", &object(state, holds))]);
        assert_eq!(first(&used).0, "wild-jump", "{state}");
        assert!(grounds(&used, false).iter().any(|g| g.contains(state)), "{state}");
    }
    // A freed object that does not hold the pointer, and one that other registers pointed to.
    let other = object("free", holds).replace("0xffff888001234500", "0xffff888001239900");
    for row in [object("free", ""), other] {
        let unproven = judge(&log, &[("kernel.slab", &row)]);
        assert_eq!((first(&unproven).0, grounds(&unproven, false)), ("wild-jump", grounds(&plain, false)), "{row}");
    }
}

#[test]
fn a_pointer_out_of_a_freed_object() {
    let head = [
        "BUG: unable to handle page fault for address: ffffdead00001028",
        "#PF: supervisor read access in kernel mode",
        "#PF: error_code(0x0000) - not-present page",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
    ];
    let log = console(&head, "demo_deep+0x5/0x30 [demo]", &TRACE, "Fatal exception");
    assert_eq!(first(&judge(&log, &[])).0, "wild-pointer");
    let holds = "; rcx (0xffffdead00001000) is what it holds at +0x10";
    let free = judge(&log, &[("kernel.slab", &object("free", holds))]);
    assert_eq!(first(&free).0, "use-after-free");
    assert!(first(&free).1.starts_with("a pointer with the value 0xffffdead00001000, which was read from"));
}

#[test]
fn an_object_that_is_freed_again() {
    let head = ["kernel BUG at mm/slub.c:419!", "invalid opcode: 0000 [#1] SMP"];
    let log = console(&head, "kmem_cache_free+0x2f7/0x310", &TRACE, "Fatal exception");
    let plain = judge(&log, &[]);
    assert_eq!((first(&plain).0, first(&plain).2), ("double-free", 0.85));
    let found = judge(&log, &[("kernel.slab", &object("free", ""))]);
    let (class, text, confidence) = first(&found);
    assert_eq!((class, confidence), ("double-free", 0.95));
    assert!(
        text.contains("object 0xffff888001234500 of cache demo_cache, which is free already in demo_middle()"),
        "{text}"
    );
    assert!(grounds(&found, true).is_empty(), "the lists could be read");
    let used = judge(&log, &[("kernel.slab", &object("allocated", ""))]);
    assert_eq!(first(&used), first(&plain));
}

fn hung() -> String {
    [
        "Linux version 6.1.0-demo (gcc) #1 SMP",
        "INFO: task sh:42 blocked for more than 5 seconds.",
        "      Tainted: G           OE      6.1.0-demo #1",
        "task:sh              state:D stack:0     pid:42    ppid:1      flags:0x00004002",
        "Call Trace:",
        " <TASK>",
        " __schedule+0x34d/0x9e0",
        " schedule+0x5a/0xd0",
        " __mutex_lock.constprop.0+0x399/0x700",
        " demo_wait+0x34/0x50 [demo]",
        " </TASK>",
        "Kernel panic - not syncing: hung_task: blocked tasks",
    ]
    .join("\n")
}

#[test]
fn a_task_that_waits_for_a_lock() {
    let lock = "mutex 0xffffffffc0210020 (demo_mutex [demo]): held by thread 43; waited for by 42";
    let snapshot = judge(&hung(), &[("kernel.lock", lock)]);
    let (class, text, _) = first(&snapshot);
    assert_eq!(class, "hung-task");
    let expected = "waiting for mutex 0xffffffffc0210020 (demo_mutex [demo]), held by holder (thread 43, sleeping), in \
                    demo_wait() [demo]";
    assert!(text.ends_with(expected), "{text}");
    assert!(grounds(&snapshot, false).contains(&format!("memory: {lock}").as_str()));
    assert_eq!(snapshot.fingerprint, judge(&hung(), &[]).fingerprint);
    let other = lock.replace("by 42", "by 44");
    assert_eq!(first(&judge(&hung(), &[("kernel.lock", &other)])), first(&judge(&hung(), &[])));
}

#[test]
fn tasks_that_wait_for_each_other() {
    let locks = [
        "mutex 0xffffffffc0210020 (demo_mutex [demo]): held by thread 43; waited for by 42",
        "rwsem 0xffffffffc0210060: held by thread 42; waited for by 43, 44",
        "rwsem 0xffffffffc0210090: held by thread 45; waited for by 46",
    ];
    let circle = "threads 42, 43 wait for each other";
    let mut facts: Vec<(&str, &str)> = locks.iter().map(|l| ("kernel.lock", *l)).collect();
    facts.push(("kernel.deadlock", circle));
    let snapshot = judge(&hung(), &facts);
    assert_eq!(first(&snapshot).0, "hung-task");
    let grounds = grounds(&snapshot, false);
    assert!(
        grounds.contains(&"memory: thread 43 waits for rwsem 0xffffffffc0210060, held by sh (thread 42, disk-sleep)")
    );
    assert!(grounds.contains(&format!("memory: {circle}").as_str()), "{grounds:?}");
    let (row, deadlock) = snapshot.findings.iter().enumerate().find(|(_, f)| f.class == "deadlock").unwrap();
    assert_eq!((deadlock.text.as_str(), deadlock.severity.as_str()), (circle, "error"));
    let of_it = snapshot.evidence.iter().filter(|e| usize::try_from(e.finding) == Ok(row));
    assert_eq!(of_it.map(|e| e.text.as_str()).collect::<Vec<_>>(), locks[..2], "locks of the circle alone");
}

#[test]
fn what_rcu_waits_for() {
    let head = [
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: \t1-....: (5249 ticks this GP) idle=8a8c/1/0x4000000000000000",
    ];
    let log = console(&head, "demo_loop+0xc/0x10 [demo]", &TRACE, "RCU Stall");
    let row = "rcu_preempt: grace period 5 for 3.036 s waits for CPU 1, which runs thread 42 (sh)";
    let facts = [("kernel.rcu", row), ("kernel.rcu", "rcu_demo: no grace period is under way")];
    let snapshot = judge(&log, &facts);
    assert_eq!(first(&snapshot).0, "rcu-stall");
    let memory: Vec<&str> = grounds(&snapshot, false).into_iter().filter(|g| g.starts_with("memory: ")).collect();
    assert_eq!(memory, [format!("memory: {row}")]);
}
