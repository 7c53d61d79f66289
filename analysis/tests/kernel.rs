//! Kernels: every kind of report, and the two shared dumps' own consoles.

use snapshot_format::Snapshot;
use snapshot_format::schema::{Event, Frame, Stack, Thread, Trust};

/// A console in which module `demo` goes wrong: `before` the CPU line, then the instruction, the trace and the end.
fn console(before: &[&str], rip: &str, trace: &[&str], panic: Option<&str>) -> String {
    let mut lines: Vec<String> = vec!["Linux version 6.1.0-demo (gcc) #1 SMP".into()];
    lines.extend(before.iter().map(|l| (*l).to_owned()));
    lines.push("CPU: 1 PID: 42 Comm: sh worker Tainted: G           OE      6.1.0-demo #1".into());
    lines.push(format!("RIP: 0010:{rip}"));
    lines.push("RSP: 0018:ffffc90000123aa0 EFLAGS: 00010202".into());
    lines.push("RAX: 0000000000000000 RBX: ffff888001234500 RCX: c0000000ffffefff".into());
    lines.push("Call Trace:".into());
    lines.push(" <TASK>".into());
    lines.extend(trace.iter().map(|l| format!(" {l}")));
    lines.push(" entry_SYSCALL_64_after_hwframe+0x6e/0xd8".into());
    lines.push("RIP: 0033:0x47b7a0".into());
    lines.push(" </TASK>".into());
    lines.push("Modules linked in: demo(OE)".into());
    lines.push("---[ end trace 0000000000000000 ]---".into());
    lines.push("RIP: 0010:somewhere_else+0x1/0x2".into());
    lines.extend(panic.map(|p| format!("Kernel panic - not syncing: {p}")));
    let stamp = |(i, l): (usize, &String)| format!("[{:>5}.{:06}] {l}\r\n", i, i * 7);
    lines.iter().enumerate().map(stamp).collect()
}

fn judge(log: &str) -> Snapshot {
    let mut snapshot = analysis::snapshot_of_log(log);
    analysis::analyse(&mut snapshot);
    snapshot
}

/// Class and blamed function of the first finding.
fn verdict(snapshot: &Snapshot) -> (String, String) {
    let finding = snapshot.findings.first().expect("a finding");
    let text = &finding.text;
    let blamed = text.rsplit_once(" in ").map_or("", |(_, f)| f.split("()").next().unwrap_or(f));
    (finding.class.clone(), blamed.to_owned())
}

const TRACE: [&str; 4] =
    ["? stale+0x1/0x2", "demo_middle+0xc/0x20 [demo]", "demo_write+0x2ba/0x356 [demo]", "vfs_write+0xc7/0x3f0"];
const FATAL: Option<&str> = Some("Fatal exception");

#[test]
fn every_kind_of_oops() {
    let demo = "demo_deep+0x5/0x30 [demo]";
    let fault = |address: &str, what: &str, code: &str| {
        vec![
            format!("BUG: unable to handle page fault for address: {address}"),
            format!("#PF: supervisor {what} in kernel mode"),
            format!("#PF: error_code({code})"),
            "Oops: 0000 [#1] PREEMPT SMP NOPTI".into(),
        ]
    };
    let table: Vec<(Vec<String>, &str, &str, &str)> = vec![
        (
            vec![
                "BUG: kernel NULL pointer dereference, address: 0000000000000028".into(),
                "#PF: supervisor read access in kernel mode".into(),
                "#PF: error_code(0x0000) - not-present page".into(),
                "Oops: 0000 [#1] PREEMPT SMP NOPTI".into(),
            ],
            demo,
            "null-deref",
            "demo_deep",
        ),
        (vec!["BUG: unable to handle kernel NULL pointer dereference at 0000000000000028".into(), "Oops: 0002 [#1] SMP".into()], demo, "null-deref", "demo_deep"),
        (fault("ffffdead00001028", "read access", "0x0000) - not-present page"), demo, "wild-pointer", "demo_deep"),
        (fault("ffffffff81000000", "write access", "0x0003) - permissions violation"), demo, "write-readonly", "demo_deep"),
        (fault("0000000000401000", "read access", "0x0001) - permissions violation"), demo, "user-access", "demo_deep"),
        (fault("ffff888001e0f000", "instruction fetch", "0x0011) - permissions violation"), "0xffff888001e0f000", "exec-nonexec", "demo_middle"),
        (vec!["BUG: kernel NULL pointer dereference, address: 0000000000000000".into(), "#PF: supervisor instruction fetch in kernel mode".into(), "Oops: 0010 [#1] SMP".into()], "0x0", "jump-null", "demo_middle"),
        (vec!["general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b93: 0000 [#1] PREEMPT SMP".into()], demo, "use-after-free", "demo_deep"),
        (vec!["general protection fault, probably for non-canonical address 0x8000deadbeef0000: 0000 [#1] SMP".into()], demo, "non-canonical", "demo_deep"),
        (vec!["Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP".into()], demo, "use-after-free", "demo_deep"),
        (vec!["general protection fault: 0000 [#1] PREEMPT SMP".into()], "0x4141414141414141", "wild-jump", "demo_middle"),
        (vec!["kernel BUG at mm/slub.c:419!".into(), "invalid opcode: 0000 [#1] SMP".into()], "kmem_cache_free+0x2f7/0x310", "double-free", "demo_middle"),
        (vec!["list_del corruption. prev->next should be ffff, but was 0".into(), "------------[ cut here ]------------".into(), "kernel BUG at lib/list_debug.c:59!".into(), "invalid opcode: 0000 [#1] SMP".into()], "__list_del_entry_valid.cold+0x37/0x5f", "list-corruption", "demo_middle"),
        (vec!["kernel BUG at demo.c:113!".into(), "invalid opcode: 0000 [#1] SMP".into()], demo, "kernel-bug", "demo_deep"),
        (vec!["BUG: TASK stack guard page was hit at 00000000c2 (stack is 00..0)".into(), "stack guard page: 0000 [#1] SMP".into()], demo, "stack-overflow", "demo_deep"),
        (vec!["divide error: 0000 [#1] PREEMPT SMP".into()], demo, "divide-by-zero", "demo_deep"),
        (vec!["BUG: KASAN: slab-use-after-free in demo_deep+0x5/0x30 [demo]".into()], demo, "use-after-free", "demo_deep"),
    ];
    for (before, rip, class, function) in &table {
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let sanitizer = *class == "use-after-free" && before[0].contains("KASAN");
        let panic = if sanitizer { Some("panic_on_warn set ...") } else { FATAL };
        let snapshot = judge(&console(&before, rip, &TRACE, panic));
        assert_eq!(verdict(&snapshot), ((*class).to_owned(), (*function).to_owned()), "{before:?}");
        assert_eq!(snapshot.findings.len(), 2, "{before:?}: {:?}", snapshot.findings);
        assert_eq!(snapshot.findings[1].class, "kernel-panic");
        assert_eq!((snapshot.identity.pid, snapshot.identity.command.as_deref()), (Some(42), Some("sh worker")));
        assert_eq!(snapshot.identity.release.as_deref(), Some("6.1.0-demo"));
        // The kernel that goes on says so.
        let alive = judge(&console(&before, rip, &TRACE, None));
        assert_eq!(verdict(&alive).0, *class);
        assert!(alive.findings.iter().all(|f| f.class != "kernel-panic"));
        assert!(sanitizer || alive.findings[1].class == "kernel-oops", "{before:?}");
    }
}

#[test]
fn panics_of_their_own() {
    let log = |message: &str, first: &str| {
        format!(
            "[    1.000000] Kernel panic - not syncing: {message}\n[    1.000001] CPU: 0 PID: 7 Comm: sh Not tainted 6.1.0 #1\n[    1.000002] Call Trace:\n[    1.000003]  <TASK>\n[    1.000004]  dump_stack_lvl+0x44/0x5c\n[    1.000005]  panic+0x118/0x2ed\n[    1.000006]  {first}+0x12/0x20 [demo]\n[    1.000007]  vfs_write+0x1/0x2\n[    1.000008] ---[ end Kernel panic - not syncing: {message} ]---\n"
        )
    };
    let of = |message: &str, first: &str| verdict(&judge(&log(message, first)));
    assert_eq!(of("demo: plain call", "demo_panic"), ("kernel-panic".into(), "demo_panic".into()));
    let smashed = of("stack-protector: Kernel stack is corrupted in: demo_smash+0x77/0x80 [demo]", "__stack_chk_fail");
    assert_eq!(smashed.0, "stack-smash");
    assert_eq!(of("sysrq triggered crash", "sysrq_handle_crash").0, "requested");
    assert_eq!(judge(&log("demo: plain call", "demo_panic")).findings.len(), 1);
}

#[test]
fn the_culprit_is_not_who_panicked() {
    let hung = "\
[  10.000000] INFO: task sh:118 blocked for more than 5 seconds.
[  10.000001]       Tainted: G           OE      6.1.0 #1
[  10.000002] task:sh              state:D stack:0     pid:118   ppid:1      flags:0x00004002
[  10.000003] Call Trace:
[  10.000004]  <TASK>
[  10.000005]  __schedule+0x34d/0x9e0
[  10.000006]  schedule+0x5a/0xd0
[  10.000007]  __mutex_lock.constprop.0+0x3ae/0x730
[  10.000008]  demo_wait+0x1a/0x30 [demo]
[  10.000009]  vfs_write+0xc7/0x3f0
[  10.000010]  </TASK>
[  10.000011] Kernel panic - not syncing: hung_task: blocked tasks
[  10.000012] CPU: 0 PID: 28 Comm: khungtaskd Tainted: G           OE      6.1.0 #1
[  10.000013] Call Trace:
[  10.000014]  watchdog+0x1e1/0x2a0
";
    let snapshot = judge(hung);
    assert_eq!(verdict(&snapshot), ("hung-task".into(), "demo_wait".into()));
    assert_eq!(snapshot.findings[0].thread, Some(118));
    let soft = "\
[  20.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [sh:118]
[  20.000001] CPU: 1 PID: 118 Comm: sh Tainted: G           OE      6.1.0 #1
[  20.000002] RIP: 0010:demo_spin+0xe/0x10 [demo]
[  20.000003] Call Trace:
[  20.000004]  <IRQ>
[  20.000005]  watchdog_timer_fn+0x1a4/0x200
[  20.000006]  </IRQ>
[  20.000007]  <TASK>
[  20.000008]  asm_sysvec_apic_timer_interrupt+0x16/0x20
[  20.000009] RIP: 0010:demo_spin+0xe/0x10 [demo]
[  20.000010]  demo_write+0x1/0x2 [demo]
[  20.000011] Kernel panic - not syncing: softlockup: hung tasks
";
    assert_eq!(verdict(&judge(soft)), ("soft-lockup".into(), "demo_spin".into()));
    assert_eq!(judge(soft).fingerprint.map(|f| f.frames), Some(vec!["demo_spin".into(), "demo_write".into()]));
    let stall = "\
[  30.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[  30.000001] rcu: \t1-....: (20 ticks this GP) idle=3a4c/1/0x4000000000000000 softirq=12/12 fqs=4
[  30.000002] \t(detected by 0, t=21 jiffies, g=1, q=2 ncpus=2)
[  30.000003] Sending NMI from CPU 0 to CPUs 1:
[  30.000004] NMI backtrace for cpu 1
[  30.000005] CPU: 1 PID: 119 Comm: sh Tainted: G           OE      6.1.0 #1
[  30.000006] RIP: 0010:demo_stall+0xc/0x10 [demo]
[  30.000007] Call Trace:
[  30.000008]  <TASK>
[  30.000009]  demo_write+0x1/0x2 [demo]
[  30.000010] Kernel panic - not syncing: RCU Stall
[  30.000011] CPU: 0 PID: 109 Comm: w-spin Tainted: G           OE      6.1.0 #1
[  30.000012] Call Trace:
[  30.000013]  panic+0x118/0x2ed
[  30.000014]  print_other_cpu_stall+0x1/0x2
";
    let snapshot = judge(stall);
    assert_eq!(verdict(&snapshot), ("rcu-stall".into(), "demo_stall".into()));
    assert_eq!(snapshot.findings[0].thread, Some(119));
    assert!(snapshot.findings[0].text.contains("CPU 1"));
}

/// A dump whose log holds the oops has the fingerprint of the pasted oops, and its finding points into its own frames.
#[test]
fn a_dump_and_its_log_agree() {
    let before = ["BUG: kernel NULL pointer dereference, address: 0000000000000028", "Oops: 0000 [#1] PREEMPT SMP"];
    let text = console(&before, "demo_deep+0x5/0x30 [demo]", &TRACE, FATAL);
    let pasted = judge(&text);
    let mut dump = analysis::snapshot_of_log(&text);
    "kernel-dump".clone_into(&mut dump.identity.origin);
    let frame = |function: &str, trust| Frame { function: Some(function.into()), pc: 1, trust, ..Frame::default() };
    dump.frames = vec![
        frame("crash_kexec", Trust::Context),
        frame("oops_end", Trust::Orc),
        frame("asm_exc_page_fault", Trust::Orc),
        frame("demo_deep", Trust::Orc),
        frame("demo_middle", Trust::Orc),
    ];
    dump.stacks = vec![Stack { first: 0, count: 5 }];
    dump.threads =
        vec![Thread { id: 42, process: Some(42), stack: Some(0), context: "task".into(), ..Thread::default() }];
    dump.event = Some(Event { thread: Some(42), message: Some("Fatal exception".into()), ..Event::default() });
    analysis::analyse(&mut dump);
    assert_eq!(dump.fingerprint, pasted.fingerprint);
    assert_eq!(
        dump.fingerprint.as_ref().map(|f| f.frames.clone()),
        Some(vec!["demo_deep".into(), "demo_middle".into(), "demo_write".into(), "vfs_write".into()])
    );
    assert_eq!((dump.findings[0].thread, dump.findings[0].frame), (Some(42), Some(3)));
}

#[test]
fn other_systems() {
    let mut freebsd = analysis::snapshot_of_log(
        "Fatal trap 12: page fault while in kernel mode\ncpuid = 0; apic id = 00\nfault virtual address\t= 0x28\nfault code\t\t= supervisor write data, page not present\ninstruction pointer\t= 0x20:0xffffffff8221\ncurrent process\t\t= 117 (sh)\ntrap number\t\t= 12\npanic: page fault\ncpuid = 0\nKDB: stack backtrace:\n",
    );
    analysis::analyse(&mut freebsd);
    let classes = |s: &Snapshot| s.findings.iter().map(|f| f.class.clone()).collect::<Vec<_>>();
    assert_eq!(classes(&freebsd), ["null-deref", "kernel-panic"]);
    assert!(freebsd.findings[0].text.starts_with("write to 0x28"));
    let mut illumos = analysis::snapshot_of_log(
        "panic[cpu1]/thread=fffffe0010c3ec20: BAD TRAP: type=e (#pf Page fault) rp=fffffe0010c3e7d0 addr=28 occurred in module \"demo\" due to a NULL pointer dereference\n",
    );
    analysis::analyse(&mut illumos);
    assert_eq!(classes(&illumos), ["null-deref", "kernel-panic"]);
    let mut asserted = Snapshot::default();
    "kernel-dump".clone_into(&mut asserted.identity.origin);
    "illumos".clone_into(&mut asserted.identity.os);
    asserted.event =
        Some(Event { message: Some("assertion failed: x != 0, file: demo.c, line: 7".into()), ..Event::default() });
    analysis::analyse(&mut asserted);
    assert_eq!(classes(&asserted), ["kernel-bug", "kernel-panic"]);
}

#[test]
fn what_programs_write_is_no_report() {
    for line in [
        "app[12]: NULL pointer dereference in main",
        "myapp[12]: closes issue [#12]",
        "logger: they say soft lockup - CPU#1 stuck",
        "note: hard LOCKUP, detected stalls on CPUs/tasks, NMI backtrace for cpu 1",
        "shell: who invoked oom-killer",
    ] {
        let snapshot = judge(&format!("[    1.000000] {line}\n"));
        assert!(snapshot.findings.is_empty(), "{line}: {:?}", snapshot.findings);
    }
}

#[test]
fn a_healthy_log_has_no_finding() {
    let snapshot = judge("[    0.000000] Linux version 6.1.0\n[    1.000000] systemd[1]: Started.\n");
    assert!(snapshot.findings.is_empty() && snapshot.fingerprint.is_none());
}

#[test]
fn consoles_of_the_shared_dumps() {
    for path in ["linux-kernel/debian/null.serial.log", "linux-kernel/tiny/tiny.serial.log"] {
        let Some(file) = testdata::fixtures::fixture(path) else { continue };
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let snapshot = judge(&text);
        let (class, function) = verdict(&snapshot);
        assert_eq!((class.as_str(), function.as_str()), ("null-deref", "lkf_level3"), "{path}");
        assert_eq!(snapshot.findings[1].class, "kernel-panic", "{path}");
        assert_eq!(snapshot.findings.len(), 2, "{path}");
        let frames = snapshot.fingerprint.unwrap().frames;
        assert_eq!(frames[..4], ["lkf_level3", "lkf_level2", "lkf_level1", "lkf_write"], "{path}");
    }
}
