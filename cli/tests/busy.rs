//! A program of two hundred busy threads, captured again and again while it runs, also by a collector that is killed at
//! random moments: no frame is lost, no thread stays stopped, and its own sum of its work comes out right.
//!
//! `POSTFAULT_STRESS` is the number of captures (10; `cargo xtask stress` makes 200).

mod common;

use common::postfault;
use std::process::Stdio;
use std::time::Duration;
use testdata::victims::{LiveVictim, run_live};

const THREADS: usize = 200;

fn captures() -> u32 {
    std::env::var("POSTFAULT_STRESS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn busy() -> LiveVictim {
    run_live("checksum", "gcc-O2", &[&THREADS.to_string()]).unwrap()
}

/// The program's verdict on its own work, and that none of its threads was left stopped.
fn verdict(victim: LiveVictim) {
    std::thread::sleep(Duration::from_millis(200));
    for (thread, state) in victim.threads() {
        assert!(!matches!(state, 'T' | 't'), "thread {thread} is left in state {state}");
    }
    let (status, said) = victim.terminate().unwrap();
    assert!(said.contains("OK") && !said.contains("WRONG"), "{status}: {said}");
}

#[test]
fn captures_of_a_busy_program_lose_no_frame() {
    captured(&[]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn captures_of_copies_of_a_busy_program_lose_no_frame() {
    captured(&["--fork"]);
}

fn captured(how: &[&str]) {
    let victim = busy();
    let pid = victim.pid().to_string();
    let complete = victim.threads().len();
    for n in 0..captures() {
        let document = common::json(&[&["bt", "--pid", &pid, "--json"], how].concat());
        let threads = document["threads"].as_array().unwrap();
        assert_eq!(threads.len(), complete, "capture {n}");
        for t in threads {
            assert!(t.get("truncated").is_none(), "capture {n}: thread {}: {}", t["id"], t["truncated"]);
            let frames = t["frames"].as_array().unwrap();
            let outermost = frames.last().and_then(|f| f["function"].as_str()).unwrap_or_default();
            let whole = ["_start", "clone3", "__clone3", "__GI___clone3", "clone", "__clone", "start_thread"];
            assert!(whole.contains(&outermost), "capture {n}: thread {} ends in {outermost:?}", t["id"]);
            assert!(frames.iter().all(|f| f["trust"] != "scan"), "capture {n}: thread {}: {frames:?}", t["id"]);
        }
    }
    verdict(victim);
}

#[test]
fn a_collector_killed_at_any_moment_does_no_harm() {
    killed(&[]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_collector_killed_while_it_copies_does_no_harm() {
    killed(&["--fork"]);
}

fn killed(how: &[&str]) {
    let victim = busy();
    let pid = victim.pid().to_string();
    let mut delay = 1_u64;
    for _ in 0..captures() {
        let mut collector = postfault()
            .args(["bt", "--pid", &pid, "--json"])
            .args(how)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Anywhere between the first system call and the last: 0 to 255 ms, in an order that repeats nothing.
        delay = delay.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(delay >> 56));
        collector.kill().unwrap();
        collector.wait().unwrap();
    }
    verdict(victim);
}
