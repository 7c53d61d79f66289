//! A program of many threads is stopped again and again, by us and by a collector that is killed at random moments.

use crate::common::{Victim, compile, runs_freely};
use evidence::{Addr, Paged, Target};
use platform::live::{Options, attach};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const THREADS: usize = 200;

/// How often; the environment variable is for long runs.
fn times() -> usize {
    std::env::var("POSTFAULT_STRESS").ok().and_then(|v| v.parse().ok()).unwrap_or(20)
}

fn worker() -> Victim {
    let mut victim = Victim::start(Command::new(compile("worker", &[]).unwrap()).arg(THREADS.to_string()));
    victim.line_with("ready");
    victim
}

/// Ends the victim, and gives what it found out about itself.
fn verdict(mut victim: Victim) -> impl Fn(&str) -> i64 {
    victim.signal(libc::SIGTERM);
    let line = victim.line_with("interrupted=");
    move |key: &str| {
        let value = line.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{key} in {line}")).parse().unwrap()
    }
}

#[test]
fn two_hundred_threads_notice_nothing() {
    let victim = worker();
    let pid = victim.pid();
    for _ in 0..times() {
        let stop = attach(pid, &Options { resident: false, ..Options::default() }).unwrap();
        let target = stop.shared();
        assert_eq!(target.threads().len(), THREADS + 2);
        assert!(target.threads().iter().all(|t| t.registers.pc().is_some() && t.registers.sp().is_some()));
        let in_calls = target.threads().iter().filter(|t| t.state.as_ref().is_some_and(|s| s.system_call.is_some()));
        assert!(in_calls.count() > THREADS / 4);
        let memory = Paged::new(target.memory());
        let tops: Vec<_> = target.threads().iter().filter_map(|t| t.registers.sp()).collect();
        memory.fetch(&tops.iter().map(|sp| *sp..Addr(sp.0 + 4096)).collect::<Vec<_>>());
        let released = stop.release();
        assert!(released.stopped_for_us > 0 && !released.out_of_time);
        // What was fetched outlives the stop.
        for sp in tops {
            let mut word = [0; 8];
            assert_eq!(evidence::Memory::read(&memory, sp, &mut word), (8, None));
        }
        assert_eq!(target.gaps().doubts, []);
        runs_freely(pid);
    }
    let found = verdict(victim);
    for key in ["interrupted", "unrepaired", "wrong", "lost"] {
        assert_eq!(found(key), 0, "{key}");
    }
    assert_eq!(found("sent"), found("received"));
    assert!(found("rounds") > 0);
}

#[test]
fn a_collector_killed_at_any_moment_leaves_no_trace() {
    killed_at_any_moment("");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_collector_killed_while_it_forks_leaves_no_trace() {
    killed_at_any_moment("fork");
}

fn killed_at_any_moment(how: &str) {
    let victim = worker();
    let pid = victim.pid();
    let collector = std::env::current_exe().unwrap();
    for round in 0..times() {
        // This very program, as the collector that loops below.
        let mut child = Command::new(&collector)
            .args(["--exact", "stress::collector", "--nocapture"])
            .env("POSTFAULT_COLLECT", pid.to_string())
            .env("POSTFAULT_COLLECT_HOW", how)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_micros(u64::from(nanos % 150_000) + 1000 * (round as u64 % 8)));
        child.kill().unwrap();
        child.wait().unwrap();
        runs_freely(pid);
    }
    let found = verdict(victim);
    // "unrepaired" may not be zero here: an epoll_wait whose repairer was killed returns EINTR, as Linux has it.
    for key in ["interrupted", "wrong", "lost"] {
        assert_eq!(found(key), 0, "{key}");
    }
    assert_eq!(found("sent"), found("received"));
}

/// Not a test by itself: the collector that the test above starts and kills.
#[test]
fn collector() {
    let Some(pid) = std::env::var("POSTFAULT_COLLECT").ok().and_then(|p| p.parse().ok()) else { return };
    let fork = std::env::var("POSTFAULT_COLLECT_HOW").is_ok_and(|how| how == "fork");
    while let Ok(stop) = attach(pid, &Options { fork, resident: false, open_files: false, ..Options::default() }) {
        drop(stop);
    }
}
