//! Kernels: reports of AArch64, of the allocators' and the scheduler's checks, of stalls and of the death of init.

use snapshot_format::Snapshot;

fn judge(log: &str) -> Snapshot {
    let mut snapshot = analysis::snapshot_of_log(log);
    analysis::analyse(&mut snapshot);
    snapshot
}

/// Class and blamed function of the first finding.
fn verdict(log: &str) -> (String, String) {
    let snapshot = judge(log);
    let finding = snapshot.findings.first().unwrap_or_else(|| panic!("no finding: {log}"));
    let blamed = finding.text.rsplit_once(" in ").map_or("", |(_, f)| f.split("()").next().unwrap_or(f));
    let blamed = if finding.text.contains("()") { blamed } else { "" };
    (finding.class.clone(), blamed.to_owned())
}

fn check(log: &str, class: &str, function: &str) {
    assert_eq!(verdict(log), (class.to_owned(), function.to_owned()), "{log}");
}

#[test]
fn aarch64_says_how_memory_was_touched() {
    let log = |said: &str, address: &str, esr: &str, fsc: &str, wnr: u8, pc: &str| {
        format!(
            "Unable to handle kernel {said} at virtual address {address}\nMem abort info:\n  ESR = {esr}\n  EC = 0x25: DABT (current EL), IL = 32 bits\n  FSC = {fsc}\nData abort info:\n  ISV = 0, ISS = 0x00000044\n  CM = 0, WnR = {wnr}\nInternal error: Oops: {esr} [#1] PREEMPT SMP\nCPU: 1 PID: 42 Comm: sh Tainted: G OE 6.1.0 #1\npstate: 60000005 (nZCv daif)\npc : {pc}\nlr : demo_middle+0x14/0x20 [demo]\nsp : ffff80000b0b3c00\nx29: ffff80000b0b3c00 x28: ffff000002f10000 x27: 0000000000000000\nCall trace:\n {pc}\n demo_middle+0x14/0x20 [demo]\n el0_svc+0x34/0x100\nKernel panic - not syncing: Oops: Fatal exception\n"
        )
    };
    let demo = "demo_deep+0x10/0x30 [demo]";
    let null = log(
        "NULL pointer dereference",
        "0000000000000028",
        "0x0000000096000044",
        "0x04: level 0 translation fault",
        1,
        demo,
    );
    check(&null, "null-deref", "demo_deep");
    assert!(judge(&null).findings[0].text.starts_with("write to 0x28"));
    let permission = "0x0f: level 3 permission fault";
    let code = "ffff800008010000";
    check(
        &log("write to read-only memory", code, "0x000000009600004f", permission, 1, demo),
        "write-readonly",
        "demo_deep",
    );
    check(&log("paging request", code, "0x000000009600004f", permission, 1, demo), "write-readonly", "demo_deep");
    check(
        &log("paging request", code, "0x0000000096000007", "0x07: level 3 translation fault", 0, demo),
        "wild-pointer",
        "demo_deep",
    );
    check(
        &log(
            "execute from non-executable memory",
            "ffff000002345000",
            "0x000000008600000f",
            permission,
            0,
            "0xffff000002345000",
        ),
        "exec-nonexec",
        "demo_middle",
    );
    check(
        &log(
            "access to user memory outside uaccess routines",
            "0000000000412000",
            "0x000000009600000f",
            permission,
            0,
            demo,
        ),
        "user-access",
        "demo_deep",
    );
    // Kernels before 5.x print no `Mem abort info`: the syndrome stands on the Oops line.
    let old = "Unable to handle kernel paging request at virtual address ffff800008010000\nInternal error: Oops: 9600004f [#1] SMP\nCPU: 1 PID: 42 Comm: sh Not tainted 4.19.0 #1\npc : demo_deep+0x10/0x30 [demo]\nCall trace:\n demo_deep+0x10/0x30 [demo]\n";
    check(old, "write-readonly", "demo_deep");
}

#[test]
fn aarch64_stack_overflow() {
    let log = "Insufficient stack space to handle exception!\nESR: 0x0000000096000047 -- DABT (current EL)\nFAR: 0xffff80000b0affd0\nTask stack:     [0xffff80000b0b0000..0xffff80000b0b4000]\nCPU: 0 PID: 42 Comm: sh Tainted: G OE 6.1.0 #1\npc : demo_recurse+0x8/0x60 [demo]\nlr : demo_recurse+0x30/0x60 [demo]\nKernel panic - not syncing: kernel stack overflow\nCPU: 0 PID: 42 Comm: sh Tainted: G OE 6.1.0 #1\nCall trace:\n dump_backtrace+0xe0/0x140\n panic+0x1a0/0x380\n";
    check(log, "stack-overflow", "demo_recurse");
}

#[test]
fn checks_of_the_allocators_and_of_copies() {
    let tail = "CPU: 0 PID: 7 Comm: sh Not tainted 6.1.0 #1\nCall Trace:\n <TASK>\n dump_stack_lvl+0x44/0x5c\n check_bytes_and_report.cold+0x5/0x9\n check_object+0x1/0x2\n free_to_partial_list+0x1/0x2\n kfree+0x1/0x2\n demo_free+0x12/0x20 [demo]\n vfs_write+0x1/0x2\n";
    for (words, class) in [
        ("Redzone overwritten", "heap-corruption"),
        ("Right Redzone overwritten", "heap-corruption"),
        ("Poison overwritten", "use-after-free"),
        ("Object already free", "double-free"),
    ] {
        let history = "Allocated in demo_alloc+0x20/0x40 [demo] age=1 cpu=0 pid=7";
        for taint in ["Not tainted", "Tainted: G    B      OE"] {
            let log = format!("BUG kmalloc-64 ({taint}): {words}\n------\n{history}\n{tail}");
            check(&log, class, "demo_free");
            assert!(judge(&log).evidence.iter().any(|e| e.text.contains("demo_alloc")));
        }
    }
    let page = tail.replace("check_bytes_and_report.cold", "bad_page.cold").replace("kfree+", "__free_pages+");
    check(&format!("BUG: Bad page state in process sh  pfn:12345\n{page}"), "kernel-bug", "demo_free");
    let atomic = "BUG: scheduling while atomic: sh/118/0x00000002\nCPU: 0 PID: 118 Comm: sh Not tainted 6.1.0 #1\nCall Trace:\n <TASK>\n dump_stack_lvl+0x44/0x5c\n __schedule_bug.cold+0x4c/0x5d\n __schedule+0x7c6/0x9e0\n schedule+0x5a/0xd0\n schedule_timeout+0x11/0x12\n demo_sleep+0x1a/0x30 [demo]\n";
    check(&atomic.replace(" schedule_timeout+0x11/0x12\n", ""), "kernel-bug", "demo_sleep");
    check(atomic, "kernel-bug", "demo_sleep");
    let copy = "usercopy: Kernel memory exposure attempt detected from SLUB object 'demo' (offset 0, size 99)!\n------------[ cut here ]------------\nkernel BUG at mm/usercopy.c:102!\ninvalid opcode: 0000 [#1] PREEMPT SMP\nCPU: 0 PID: 7 Comm: sh Not tainted 6.1.0 #1\nRIP: 0010:usercopy_abort+0x74/0x76\nCall Trace:\n <TASK>\n __check_heap_object+0xe0/0x110\n __check_object_size+0x1d5/0x1f0\n demo_read+0x20/0x50 [demo]\n vfs_read+0x1/0x2\nKernel panic - not syncing: Fatal exception\n";
    check(copy, "fortify", "demo_read");
}

#[test]
fn stalls_that_others_print() {
    let own = "rcu: INFO: rcu_preempt self-detected stall on CPU\nrcu: \t0-....: (5249 ticks this GP) idle=3a4c/1/0x4000000000000000 softirq=1/1 fqs=2\n\t(t=5250 jiffies g=1 q=2 ncpus=2)\nNMI backtrace for cpu 0\nCPU: 0 PID: 118 Comm: sh Not tainted 6.1.0 #1\nCall Trace:\n <IRQ>\n dump_stack_lvl+0x44/0x5c\n nmi_cpu_backtrace.cold+0x30/0x6f\n nmi_trigger_cpumask_backtrace+0xe4/0x140\n rcu_dump_cpu_stacks+0xc4/0x100\n rcu_sched_clock_irq.cold+0x1/0x2\n update_process_times+0x6e/0xb0\n </IRQ>\n <TASK>\n asm_sysvec_apic_timer_interrupt+0x16/0x20\nRIP: 0010:demo_stall+0xc/0x10 [demo]\n demo_write+0x1/0x2 [demo]\n";
    check(own, "rcu-stall", "demo_stall");
    assert_eq!(judge(own).findings[0].thread, Some(118));
    let blocked = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nrcu: \tTasks blocked on level-0 rcu_node (CPUs 0-1): P118/1:b..l\n\t(detected by 0, t=21 jiffies, g=1, q=2 ncpus=2)\ntask:sh              state:R  running task     stack:0     pid:118   ppid:1      flags:0x00004002\nCall Trace:\n <TASK>\n __schedule+0x34d/0x9e0\n preempt_schedule_irq+0x1/0x2\n demo_reader+0x1a/0x30 [demo]\n vfs_write+0x1/0x2\nrcu: rcu_preempt kthread starved for 21 jiffies!\nrcu: RCU grace-period kthread stack dump:\ntask:rcu_preempt     state:R  running task     stack:0     pid:15    ppid:2      flags:0x00004000\nCall Trace:\n schedule_timeout+0x1/0x2\n";
    check(blocked, "rcu-stall", "demo_reader");
    assert_eq!(judge(blocked).findings[0].thread, Some(118));
}

#[test]
fn newer_words_of_hung_tasks() {
    let log = "INFO: task sh:118 blocked in I/O wait for more than 120 seconds.\n      Not tainted 6.17.0 #1\ntask:sh              state:D stack:0     pid:118   tgid:118   ppid:1\nCall Trace:\n <TASK>\n __schedule+0x34d/0x9e0\n schedule+0x5a/0xd0\n __mutex_lock.constprop.0+0x3ae/0x730\n demo_wait+0x1a/0x30 [demo]\n </TASK>\nINFO: task sh:118 is blocked on a mutex likely owned by task holder:117.\nKernel panic - not syncing: hung_task: blocked tasks\n";
    check(log, "hung-task", "demo_wait");
    let snapshot = judge(log);
    assert_eq!(snapshot.findings[0].thread, Some(118));
    assert!(snapshot.evidence.iter().any(|e| e.text.contains("likely owned by task holder:117")));
}

#[test]
fn who_asks_for_memory_or_ends_is_not_to_blame() {
    let oom = "hog invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0\nCPU: 1 PID: 118 Comm: hog Not tainted 6.1.0 #1\nCall Trace:\n <TASK>\n dump_stack_lvl+0x44/0x5c\n dump_header+0x4a/0x1ff\n out_of_memory.cold+0x1/0x2\n __alloc_pages+0x1/0x2\n __folio_alloc+0x17/0x50\n vma_alloc_folio+0x1/0x2\n __handle_mm_fault+0x1/0x2\n handle_mm_fault+0x1/0x2\n do_user_addr_fault+0x1/0x2\n exc_page_fault+0x1/0x2\n asm_exc_page_fault+0x22/0x30\nKernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled\n";
    check(oom, "oom", "");
    let module = oom.replace(" vma_alloc_folio", " demo_hoard+0x1/0x2 [demo]\n vma_alloc_folio");
    check(&module, "oom", "demo_hoard");
    let init = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\nCPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1\nCall Trace:\n <TASK>\n dump_stack_lvl+0x44/0x5c\n panic+0x118/0x2ed\n do_exit.cold+0x15/0x15\n do_group_exit+0x2d/0x80\n __x64_sys_exit_group+0x14/0x20\n do_syscall_64+0x5d/0xb0\n";
    check(init, "kernel-panic", "");
}

/// The kernel's unwinder cannot start at an address that is no code: the return address at the stack pointer can.
#[test]
fn the_caller_of_a_wild_jump() {
    let log = "general protection fault: 0000 [#1] PREEMPT SMP\nCPU: 0 PID: 116 Comm: sh Not tainted 6.1.0 #1\nRIP: 0010:0x4141414141414141\nRSP: 0018:ffffc90000437c10 EFLAGS: 00000206\nCall Trace:\n <TASK>\n ? demo_call+0x1d/0x30 [demo]\n ? stale+0x1/0x2\n ? do_syscall_64+0x5d/0xb0\n </TASK>\n---[ end trace 0000000000000000 ]---\nKernel panic - not syncing: Fatal exception\n";
    check(log, "wild-jump", "demo_call");
    assert_eq!(judge(log).fingerprint.map(|f| f.frames), Some(vec!["demo_call".into()]));
}

/// The same oops through every way that people copy it.
#[test]
fn prefixes_change_nothing() {
    let plain = [
        "BUG: kernel NULL pointer dereference, address: 0000000000000028",
        "Oops: 0000 [#1] PREEMPT SMP",
        "CPU: 0 PID: 42 Comm: sh Tainted: G OE 6.1.0 #1",
        "RIP: 0010:demo_deep+0x5/0x30 [demo]",
        "Call Trace:",
        " <TASK>",
        " demo_middle+0xc/0x20 [demo]",
        " </TASK>",
        "Kernel panic - not syncing: Fatal exception",
    ];
    let wanted = judge(&plain.join("\n"));
    assert!(wanted.fingerprint.is_some());
    for prefix in [
        "[    8.855583] ",
        "[Mon Nov 23 07:00:00 2026] ",
        "kern  :alert : [    8.855583] ",
        "6,1234,5140900,-;",
        "> ",
        "> > [    8.855583] ",
        "[    8.855583] [  T118] ",
        "[  T118] ",
        "Nov 23 07:00:00 host kernel: ",
        "[    8.855583] host kernel: ",
        "2026-11-23T07:00:00+0000 host kernel: ",
    ] {
        let lines: Vec<String> = plain.iter().map(|l| format!("{prefix}{l}")).collect();
        let found = judge(&lines.join("\n"));
        assert_eq!(found.fingerprint, wanted.fingerprint, "{prefix}");
        assert_eq!(found.identity.command.as_deref(), Some("sh"), "{prefix}");
        assert_eq!(found.findings[0].text, wanted.findings[0].text, "{prefix}");
    }
}
