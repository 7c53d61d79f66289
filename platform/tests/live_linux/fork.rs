//! Copies of processes: that they stand still while the process runs, and that the process cannot tell.

use crate::common::{Victim, runs_freely};
use evidence::{Absent, Addr, Target};
use platform::live::{Options, Stop, attach};
use platform::{Error, Refusal};
use std::time::Duration;

fn fork(pid: u64) -> Stop {
    attach(pid, &Options { fork: true, ..Options::default() }).unwrap()
}

/// What a program may look at in itself.
fn traces(pid: u64) -> (Vec<String>, Vec<String>) {
    let mut files: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .map(|e| format!("{:?} {:?}", e.file_name(), std::fs::read_link(e.path()).ok()))
        .collect();
    files.sort();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kept = |l: &&str| ["Sig", "Shd", "TracerPid", "Threads"].iter().any(|k| l.starts_with(k));
    (files, status.lines().filter(kept).map(str::to_owned).collect())
}

#[test]
fn the_picture_stands_still_and_the_process_runs() {
    let mut victim = Victim::start(
        std::process::Command::new(crate::common::compile("shapes", &["-mavx2"]).unwrap()).arg("watchful"),
    );
    let line = victim.line_with("pages");
    let places: Vec<Addr> = line
        .split(' ')
        .skip(1)
        .map(|word| Addr(u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap()))
        .collect();
    let [counter, pages, shared] = places[..] else { panic!("{line}") };
    victim.line_with("ready");
    let pid = victim.pid();
    let before = traces(pid);
    for _ in 0..12 {
        let held = attach(pid, &Options::default()).unwrap();
        let registers: Vec<_> = held.target().threads().iter().map(|t| t.registers.sp()).collect();
        drop(held);

        let stop = fork(pid);
        runs_freely(pid);
        let target = stop.shared();
        assert_eq!(target.threads().len(), 2);
        assert_eq!(target.threads()[0].registers.sp(), registers[0]);
        let count = || target.memory().read_u64(counter, evidence::bytes::Endian::Little).unwrap();
        let first = count();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(count(), first, "the copy stands still");
        let now = attach(pid, &Options::default()).unwrap();
        let later = now.target().memory().read_u64(counter, evidence::bytes::Endian::Little).unwrap();
        assert!(later > first, "the process runs");
        // The stack is as it was: nothing of what was put below it is left, in neither.
        let sp = registers[0].unwrap();
        let below = |t: &dyn Target| {
            let mut bytes = vec![0; 8192];
            assert_eq!(t.memory().read(sp.wrapping_sub(8192), &mut bytes), (8192, None));
            bytes
        };
        assert!(below(&*target) == below(now.target()));
        drop(now);

        let mut byte = [0; 1];
        assert_eq!((target.memory().read(pages, &mut byte), byte), ((1, None), [0x5a]));
        for absent in [pages.wrapping_add(8192), pages.wrapping_add(16384), shared] {
            assert_eq!(target.memory().read(absent, &mut byte), (0, Some(Absent::Denied)), "{absent:?}");
        }
        assert!(target.gaps().doubts.iter().filter(|d| d.what == "fork").count() == 2, "{:?}", target.gaps());
        let released = stop.release();
        assert!(released.stopped_for_us > 0 && !released.out_of_time);
        assert_eq!(target.memory().read(pages, &mut byte), (0, Some(Absent::Released)));
        assert_eq!(traces(pid), before);
        victim.say("x");
        // No SIGCHLD, no child to wait for, and no call that was cut short.
        assert_eq!(victim.line(), "children 0 wait -1");
    }
}

#[test]
fn a_filter_of_system_calls_is_a_reason_to_refuse() {
    let victim = Victim::shape("filtered");
    match attach(victim.pid(), &Options { fork: true, ..Options::default() }) {
        Err(Error::Attach { why: Refusal::NoFork { reason }, .. }) => assert!(reason.contains("seccomp"), "{reason}"),
        other => panic!("{other:?}"),
    }
    runs_freely(victim.pid());
}

#[test]
fn waits_go_on_after_a_fork() {
    let mut victim = Victim::shape("handler");
    drop(fork(victim.pid()));
    runs_freely(victim.pid());
    victim.signal(libc::SIGUSR1);
    assert_eq!(victim.line_with("handled"), format!("handled {}", libc::SIGUSR1));
}
