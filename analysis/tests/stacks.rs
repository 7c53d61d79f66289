//! Fingerprints and groups of threads.

mod common;

use common::*;
use snapshot_format::schema::{Frame, Stack, Thread, Trust};

const LOAD: [u8; 3] = [0x48, 0x8b, 0x00];

fn null(frames: &[&str]) -> Crash {
    Crash::unmapped(0).code(&LOAD).reg("rax", 0).frames(frames)
}

fn value(crash: &Crash) -> String {
    analysis::fingerprint(&crash.0).unwrap().value
}

#[test]
fn the_same_bug_has_the_same_fingerprint() {
    let base = null(&["store_weight(Pod*, long)", "handle(Request&, int)", "main"]);
    let same: [(&str, Crash); 8] = [
        ("other names of the same functions", null(&["store_weight", "handle", "main"])),
        ("clones", null(&["store_weight.isra.0", "handle(Request&, int) [clone .part.0]", "main"])),
        ("outside of main", null(&["store_weight", "handle", "main", "__libc_start_call_main", "_start"])),
        ("lines", base.clone().with(|s| s.frames.iter_mut().for_each(|f| f.line = Some(7)))),
        ("addresses", base.clone().with(|s| s.frames.iter_mut().for_each(|f| f.pc += 0x1000))),
        (
            "inlining",
            base.clone().with(|s| {
                s.frames.insert(0, Frame { function: Some("get".into()), inline: true, ..s.frames[0].clone() });
                s.stacks[0].count += 1;
                s.registers.iter_mut().for_each(|r| r.frame = 1);
            }),
        ),
        (
            "a scanned frame",
            base.clone().with(|s| {
                s.frames.insert(1, Frame { function: Some("stale".into()), trust: Trust::Scan, ..Frame::default() });
                s.stacks[0].count += 1;
            }),
        ),
        ("the address", null(&["store_weight", "handle", "main"]).at(0)),
    ];
    for (what, crash) in same {
        assert_eq!(value(&crash), value(&base), "{what}");
    }
    assert_eq!(value(&base).len(), 16);
    assert_eq!(analysis::fingerprint(&base.0).unwrap().frames, ["store_weight", "handle", "main"]);
}

#[test]
fn another_bug_has_another() {
    let base = value(&null(&["store_weight", "handle", "main"]));
    assert_ne!(base, value(&null(&["load_weight", "handle", "main"])));
    assert_ne!(base, value(&null(&["store_weight", "main"])));
    let wild = Crash::unmapped(0x4141_0000_0000).code(&LOAD).reg("rax", 0x4141_0000_0000);
    assert_ne!(base, value(&wild.frames(&["store_weight", "handle", "main"])), "the class counts");
}

#[test]
fn recursion_depth_does_not_show() {
    let deep = |rounds: usize| {
        let names: Vec<&str> = ["walk", "visit"].into_iter().cycle().take(rounds * 2).chain(["main"]).collect();
        Crash::unmapped(STACK - 8).code(&[0x55]).reg("rsp", STACK).frames(&names)
    };
    assert_eq!(value(&deep(100)), value(&deep(4000)));
    assert_eq!(analysis::fingerprint(&deep(100).0).unwrap().frames, ["walk", "visit", "main"]);
}

#[test]
fn what_raised_the_signal_is_skipped() {
    let tops: [&[&str]; 4] = [
        &["__pthread_kill_implementation", "__pthread_kill_internal", "__GI_raise", "__GI_abort"],
        &["raise", "abort"],
        &["__kernel_vsyscall", "raise", "abort"],
        &["thr_kill", "__raise", "abort"],
    ];
    let values: Vec<String> =
        tops.iter().map(|top| value(&Crash::abort().frames(top).frames(&["check_pod", "main"]))).collect();
    assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
    let assertion =
        Crash::abort().frames(&["raise", "abort", "__assert_fail_base", "__assert_fail", "check_pod", "main"]);
    assert_eq!(analysis::fingerprint(&assertion.0).unwrap().frames, ["check_pod", "main"]);
    let handler = Crash::abort().frames(&["raise", "abort", "on_crash"]).trampoline().frames(&["check_pod", "main"]);
    assert_eq!(analysis::fingerprint(&handler.0).unwrap().frames, ["check_pod", "main"]);
    let stripped = Crash::abort().frames(&["raise", "abort"]).frame_at(LIBC, "").frame_at(LIBC + 8, "").frames(&[
        "std::terminate()",
        "__cxa_throw",
        "check_pod",
        "main",
    ]);
    let named = Crash::abort().frames(&[
        "raise",
        "abort",
        "__gnu_cxx::__verbose_terminate_handler()",
        "__cxxabiv1::__terminate(void (*)())",
        "std::terminate()",
        "__cxa_throw",
        "check_pod",
        "main",
    ]);
    assert_eq!(value(&stripped), value(&named));
    let only = Crash::abort().frames(&["raise", "abort"]);
    assert_eq!(analysis::fingerprint(&only.0).unwrap().frames, ["raise", "abort"]);
    let heap = Crash::abort().frames(&[
        "raise",
        "abort",
        "__libc_message",
        "malloc_printerr",
        "_int_free",
        "free",
        "drop_pod",
        "main",
    ]);
    assert_eq!(analysis::fingerprint(&heap.0).unwrap().frames, ["drop_pod", "main"]);
}

#[test]
fn frames_without_names_go_by_their_module() {
    let crash = null(&["", "", "main"]).with(|s| {
        s.frames[0].module = Some(1);
        s.frames[1].module = Some(1);
    });
    assert_eq!(analysis::fingerprint(&crash.0).unwrap().frames, ["libc.so?", "main"]);
    assert_eq!(analysis::fingerprint(&Crash::unmapped(0).0), None, "no frames");
}

fn threads(stacks: &[&[&str]], of: &[u32]) -> Crash {
    null(&["main"]).with(|s| {
        for names in stacks {
            s.stacks.push(Stack { first: s.frames.len() as u32, count: names.len() as u32 });
            s.frames.extend(names.iter().map(|n| Frame { function: Some((*n).into()), ..Frame::default() }));
        }
        for (n, stack) in of.iter().enumerate() {
            s.threads.push(Thread { id: 5000 + n as u64, stack: Some(stack + 1), ..Thread::default() });
        }
    })
}

#[test]
fn threads_are_grouped_by_stack() {
    let idle: &[&str] =
        &["__futex_abstimed_wait_common64", "pthread_cond_wait@@GLIBC_2.3.2", "Worker::idle()", "start_thread"];
    let poll: &[&str] = &["epoll_wait", "Loop::run()", "start_thread"];
    let crash = threads(&[idle, poll, idle], &[0, 0, 1, 2, 1, 0]);
    let groups = analysis::stack_groups(&crash.0);
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!(groups[0].threads, [5000, 5001, 5003, 5005]);
    assert!(groups[0].wait.as_ref().is_some_and(|w| w.idle));
    let text = analysis::sentence(&groups, 3).unwrap();
    assert_eq!(
        text,
        "6 other threads: 4 share one stack in futex_wait (Worker::idle), 2 share one stack in epoll_wait (Loop::run)"
    );
    let text = analysis::sentence(&groups, 1).unwrap();
    assert_eq!(text, "6 other threads: 4 share one stack in futex_wait (Worker::idle), 2 elsewhere");
    assert_eq!(analysis::sentence(&analysis::stack_groups(&null(&["main"]).0), 3), None);
}

#[test]
fn waits_are_named_by_function_channel_or_call() {
    let wait = |crash: Crash| analysis::stack_groups(&crash.0)[0].wait.clone();
    let of = |names: &[&str]| wait(threads(&[names], &[0])).map(|w| (w.what, w.idle));
    assert_eq!(of(&["__GI___clock_nanosleep", "__GI___nanosleep", "sleep", "main"]), Some(("nanosleep", true)));
    assert_eq!(of(&["__lll_lock_wait", "pthread_mutex_lock", "take"]), Some(("lock", false)));
    assert_eq!(of(&["__libc_accept", "serve"]), Some(("accept", true)));
    assert_eq!(of(&["__GI___libc_read", "_IO_new_file_underflow"]), Some(("read", true)));
    assert_eq!(of(&["compute", "main"]), None);
    let channel = threads(&[&["??"]], &[0]).with(|s| s.threads[1].wait_channel = Some("ep_poll".into()));
    assert_eq!(wait(channel).map(|w| w.what), Some("epoll_wait"));
    let call = threads(&[&["??"]], &[0]).with(|s| s.threads[1].system_call = Some(202));
    assert_eq!(wait(call.clone()).map(|w| w.what), Some("futex_wait"));
    let other = call.with(|s| s.identity.os = "freebsd".into());
    assert_eq!(wait(other), None);
}
