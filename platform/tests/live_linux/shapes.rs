//! Processes of unusual shapes, what is said of them, and that they stay what they were.

use crate::common::{Victim, compile, eventually, folder, runs_freely, signal, states};
use evidence::{Absent, Addr, Arch, Read, Register, Target, register_number};
use platform::live::{Options, attach};
use platform::{Error, Refusal};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn refusal(pid: u64) -> Refusal {
    match attach(pid, &Options::default()) {
        Err(Error::Attach { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stopped_group_stays_stopped() {
    let victim = Victim::shape("handler");
    victim.signal(libc::SIGSTOP);
    eventually("the stop", || states(victim.pid()).0 == "T");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    assert_eq!(&*stop.target().threads()[0].state.as_ref().unwrap().word, "stopped");
    assert!(stop.target().threads()[0].registers.pc().is_some());
    drop(stop);
    eventually("stopped again", || states(victim.pid()) == ("T".to_owned(), false));
    victim.signal(libc::SIGCONT);
    runs_freely(victim.pid());
}

#[test]
fn a_signal_sent_during_the_stop_arrives_after_it() {
    let mut victim = Victim::shape("handler");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    victim.signal(libc::SIGUSR1);
    assert!(!stop.release().out_of_time);
    assert_eq!(victim.line_with("handled"), format!("handled {}", libc::SIGUSR1));
}

#[test]
fn a_leader_that_has_ended() {
    let victim = Victim::shape("dead-leader");
    eventually("the end of the leader", || states(victim.pid()).0.contains('Z'));
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let target = stop.target();
    assert_eq!(target.threads().len(), 2);
    assert_eq!(target.threads()[0].registers.known(), 0);
    assert_eq!(target.threads()[1].name.as_deref(), Some("odd) name ("));
    assert!(target.gaps().doubts.iter().any(|d| d.why.contains("has ended")));
    assert!(!target.mappings().is_empty());
    let sp = target.threads()[1].registers.sp().unwrap();
    assert_eq!(target.memory().read(sp, &mut [0; 64]), (64, None));
}

#[test]
fn a_parent_that_waits_for_its_vfork_child_does_not_hold_us_up() {
    let mut victim = Victim::shape("vfork");
    let options = Options { stop_wait: Duration::from_secs(60), ..Options::default() };
    let stop = attach(victim.pid(), &options).unwrap();
    let target = stop.shared();
    let doubt = target.gaps().doubts.iter().find(|d| d.what == "thread").expect("a doubt about the waiting thread");
    assert!(doubt.why.contains("could not be stopped"), "{}", doubt.why);
    assert_eq!(target.threads().len(), 2);
    let waiting = &target.threads()[1];
    assert!(waiting.registers.pc().is_some() && waiting.registers.get(Register(6)).is_none());
    let _ = stop.release();
    runs_freely(victim.pid());
    victim.say("x");
    assert_eq!(victim.line_with("child"), "child 7");
}

#[test]
fn threads_that_come_and_go() {
    let victim = Victim::shape("breeding");
    for _ in 0..20 {
        let stop = attach(victim.pid(), &Options { resident: false, ..Options::default() }).unwrap();
        assert!(stop.target().threads().len() >= 9);
        // Whatever is listed now stands still.
        let (letters, _) = states(victim.pid());
        assert!(letters.chars().all(|c| "tZX".contains(c)), "{letters}");
        drop(stop);
        runs_freely(victim.pid());
    }
}

#[test]
fn waits_without_a_limit_go_on() {
    let mut victim = Victim::shape("waits");
    eventually("four sleeping threads", || states(victim.pid()).0 == "SSSS");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let doubts: Vec<String> = stop.target().gaps().doubts.iter().map(|d| d.why.to_string()).collect();
    drop(stop);
    runs_freely(victim.pid());
    std::thread::sleep(Duration::from_millis(100));
    victim.say("x");
    let results = victim.line_with("results");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(results, format!("results -1 -1 {}", libc::EINTR));
        assert_eq!(doubts.len(), 1, "{doubts:?}");
        assert!(doubts[0].contains("epoll_wait"), "{doubts:?}");
    }
}

#[test]
fn memory_with_and_without_permission() {
    let mut victim = Victim::start(Command::new(compile("shapes", &["-mavx2"]).unwrap()).arg("memory"));
    let line = victim.line_with("page");
    let page = Addr(u64::from_str_radix(line.rsplit("0x").next().unwrap(), 16).unwrap());
    victim.line_with("ready");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let target = stop.shared();
    let mut bytes = [0; 3 * 4096];
    let (got, why) = target.memory().read(page, &mut bytes);
    assert!(got >= 8192 && bytes[..8192].iter().all(|b| *b == 0x5a), "{got} {why:?}");
    assert_eq!(target.memory().read(Addr(0), &mut [0; 8]), (0, Some(Absent::Unmapped)));
    if let Some(vvar) = target.mappings().iter().find(|m| m.path.as_deref() == Some("[vvar]")) {
        assert_eq!(target.memory().read(vvar.range.start, &mut [0; 8]), (0, Some(Absent::Denied)));
    }
    let (mut one, mut two) = ([0; 16], [0; 16]);
    let mut batch = [Read::new(page.wrapping_add(4090), &mut one), Read::new(Addr(8), &mut two)];
    target.memory().read_batch(&mut batch);
    assert_eq!((batch[0].got, batch[0].stop, batch[1].stop), (16, None, Some(Absent::Unmapped)));
    let _ = stop.release();
    assert_eq!(target.memory().read(page, &mut [0; 8]), (0, Some(Absent::Released)));
}

#[test]
fn a_budget_ends_the_stop() {
    let victim = Victim::shape("plain");
    let options = Options { stop_budget: Some(Duration::from_millis(50)), ..Options::default() };
    let stop = attach(victim.pid(), &options).unwrap();
    runs_freely(victim.pid());
    let sp = stop.target().threads()[0].registers.sp();
    if let Some(sp) = sp {
        assert_eq!(stop.target().memory().read(sp, &mut [0; 8]).1, Some(Absent::Released));
    }
    assert!(stop.release().out_of_time);
}

#[test]
fn a_process_killed_in_the_stop() {
    let victim = Victim::shape("plain");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    victim.signal(libc::SIGKILL);
    let start = Instant::now();
    let _ = stop.release();
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn refusals_say_why() {
    let victim = Victim::shape("dead-leader");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let other = stop.target().threads()[1].id.0;
    let own = u64::from(std::process::id());
    assert!(matches!(refusal(victim.pid()), Refusal::Traced { tracer, .. } if tracer == own));
    assert!(matches!(refusal(other), Refusal::NotALeader { process } if process == victim.pid()));
    assert!(matches!(refusal(own), Refusal::Ourselves));
    assert!(matches!(refusal(u64::MAX), Refusal::NoSuchProcess));
    let mut dead = Command::new("true").spawn().unwrap();
    eventually("a zombie", || states(u64::from(dead.id())).0 == "Z");
    assert!(matches!(refusal(u64::from(dead.id())), Refusal::Zombie));
    dead.wait().unwrap();
}

/// What attaching says when user 65534 tries it.
fn refusal_to_nobody(pid: u64) -> String {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder().join(format!("collector-of-nobody-{pid}"));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let out = Command::new(&copy)
        .args(["--exact", "shapes::attach_and_say", "--nocapture"])
        .env("POSTFAULT_ATTACH", pid.to_string())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn another_user_is_told_what_is_needed() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let victim = Victim::shape("plain");
    let said = refusal_to_nobody(victim.pid());
    assert!(said.contains("runs as user 0") && said.contains("CAP_SYS_PTRACE"), "{said}");
}

/// A set-user-id program that user 65534 started: that user may not attach, root may, and it runs on either way.
#[test]
fn a_set_user_id_program() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can make one");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder().join("set-user-id");
    std::fs::copy(compile("shapes", &["-mavx2"]).unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let mut victim = Victim::start(Command::new(&copy).arg("plain").uid(65534).gid(65534));
    victim.line_with("ready");
    let status = std::fs::read_to_string(format!("/proc/{}/status", victim.pid())).unwrap();
    if !status.contains("Uid:\t65534\t0\t") {
        println!("skipped: the file system does not know set-user-id (nosuid)");
        return;
    }
    let said = refusal_to_nobody(victim.pid());
    assert!(said.contains("runs as user 0 (started by user 65534)"), "{said}");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    assert_eq!(stop.target().threads().len(), 1);
    let _ = stop.release();
    eventually("it runs on", || states(victim.pid()) == ("S".into(), false));
}

/// Its own numbers differ from ours: threads are known by ours throughout, and its program is found.
#[test]
fn a_program_of_another_pid_namespace() {
    if !Command::new("unshare").args(["-p", "-f", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: no pid namespaces here");
        return;
    }
    let program = compile("shapes", &["-mavx2"]).unwrap();
    let mut outer = Victim::start(
        Command::new("unshare").args(["-p", "-f", "--mount-proc", "--kill-child"]).arg(&program).arg("dead-leader"),
    );
    outer.line_with("ready");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.pid())).unwrap();
    let inner: u64 = children.trim().parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
    assert!(status.contains(&format!("NSpid:\t{inner}\t1\n")), "{status}");
    let stop = attach(inner, &Options::default()).unwrap();
    let target = stop.shared();
    let ids: Vec<u64> = target.threads().iter().map(|t| t.id.0).collect();
    assert!(ids.contains(&inner) && ids.len() == 2, "{ids:?}");
    let running = target.threads().iter().find(|t| t.id.0 != inner).unwrap();
    let pc = running.registers.pc().unwrap();
    let mut code = [0; 2];
    assert_eq!(target.memory().read(evidence::Addr(pc.0 - 2), &mut code).0, 2);
    assert_eq!(code, [0x0f, 0x05], "it waits in a system call");
    assert!(
        target
            .identity()
            .executable
            .as_deref()
            .is_some_and(|e| e.ends_with(program.file_name().unwrap().to_str().unwrap()))
    );
    let _ = stop.release();
    eventually("it runs on", || !states(inner).1);
}

/// Not a test by itself: what the test above runs as another user.
#[test]
fn attach_and_say() {
    let Some(pid) = std::env::var("POSTFAULT_ATTACH").ok().and_then(|p| p.parse().ok()) else { return };
    println!("{}", attach(pid, &Options::default()).unwrap_err());
}

#[test]
fn a_program_of_another_mount_namespace_is_found() {
    let mount = folder().join("elsewhere");
    std::fs::create_dir_all(&mount).unwrap();
    let program = compile("shapes", &["-mavx2"]).unwrap();
    let script = "mount -t tmpfs none \"$1\" && cp \"$2\" \"$1/v\" && exec \"$1/v\" plain";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&mount).arg(&program);
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: no mount namespaces here");
        return;
    }
    let mut victim = Victim::start(&mut command);
    victim.line_with("ready");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let target = stop.shared();
    assert!(!mount.join("v").exists());
    assert!(target.identity().root.is_some());
    let exe = target.identity().executable.clone().unwrap();
    let mapping = target.mappings().iter().find(|m| m.path.as_deref() == Some(&*exe)).unwrap();
    let original = std::fs::read(&program).unwrap();
    assert!(mapping.open.iter().any(|p| std::fs::read(p).is_ok_and(|b| b == original)), "{:?}", mapping.open);
    let _ = stop.release();
    drop(victim);
    // Also when the process has gone: some mapping of it has a descriptor of ours.
    let held = target.mappings().iter().filter(|m| m.path.as_deref() == Some(&*exe)).flat_map(|m| &m.open);
    assert!(held.filter(|p| p.starts_with("/proc/self/fd")).any(|p| std::fs::read(p).is_ok_and(|b| b == original)));
}

#[test]
fn a_deleted_program_is_still_there() {
    let program = compile("shapes", &["-mavx2"]).unwrap();
    let copy = folder().join("deleted-soon");
    std::fs::copy(&program, &copy).unwrap();
    let mut victim = Victim::start(Command::new(&copy).arg("plain"));
    victim.line_with("ready");
    std::fs::remove_file(&copy).unwrap();
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let mapping = stop.target().mappings().iter().find(|m| m.path.as_deref() == copy.to_str()).unwrap();
    assert!(mapping.deleted);
    assert!(mapping.open.iter().any(|p| std::fs::read(p).is_ok_and(|b| b == std::fs::read(&program).unwrap())));
}

#[test]
fn a_32_bit_program() {
    let Some(program) = compile("shapes", &["-m32"]) else {
        println!("skipped: no 32-bit compiler");
        return;
    };
    let mut victim = Victim::start(Command::new(program).arg("registers"));
    victim.line_with("ready");
    eventually("the wait", || states(victim.pid()).0 == "SS");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let thread = &stop.target().threads()[0];
    assert_eq!((stop.target().identity().arch, thread.registers.arch), (Arch::X86, Arch::X86));
    assert_eq!(thread.registers.get(register_number(Arch::X86, "esi").unwrap()), Some(0x1122_3344));
    assert!(thread.registers.thread_pointer().is_some_and(|p| p.0 != 0));
    assert_eq!(thread.state.as_ref().unwrap().system_call, Some(29));
}

/// Every register that gdb shows, of threads that do not move between the two looks.
#[cfg(target_arch = "x86_64")]
#[test]
fn registers_equal_those_of_gdb() {
    let victim = Victim::shape("registers");
    eventually("the waits", || states(victim.pid()).0 == "SS");
    let stop = attach(victim.pid(), &Options::default()).unwrap();
    let threads = stop.target().threads().to_vec();
    drop(stop);
    runs_freely(victim.pid());
    let names = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "cs", "ss", "ds", "es", "fs", "gs", "fs_base", "gs_base",
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch", "-p"]).arg(victim.pid().to_string());
    for (n, thread) in threads.iter().enumerate() {
        gdb.args(["-ex", &format!("thread find {}", thread.id.0)]).args(["-ex", &format!("thread {}", n + 1)]);
        for name in names {
            gdb.args(["-ex", &format!("printf \"REG {} {name} %lx\\n\", (unsigned long)${name}", thread.id.0)]);
        }
        for (register, lane) in (0..16).flat_map(|r| (0..4).map(move |l| (r, l))) {
            let value = format!("(unsigned long)$ymm{register}.v4_int64[{lane}]");
            gdb.args(["-ex", &format!("printf \"YMM {} {register} {lane} %lx\\n\", {value}", thread.id.0)]);
        }
    }
    let Ok(out) = gdb.output() else {
        println!("skipped: no gdb");
        return;
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut compared = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        // gdb numbers threads in the order of the kernel's list, as ours are.
        let Some(thread) = words.get(1).and_then(|id| threads.iter().find(|t| t.id.0.to_string() == *id)) else {
            continue;
        };
        let value = u64::from_str_radix(words.last().unwrap(), 16).unwrap_or(0);
        let ours = match words[0] {
            "REG" => thread.registers.get(register_number(Arch::X86_64, words[2]).unwrap()).unwrap(),
            "YMM" => {
                let (register, lane): (u16, usize) = (words[2].parse().unwrap(), words[3].parse().unwrap());
                let bytes = thread.registers.vector(Register(17 + register)).unwrap();
                u64::from_le_bytes(bytes[lane * 8..lane * 8 + 8].try_into().unwrap())
            }
            _ => continue,
        };
        assert_eq!(ours, value, "{line}");
        compared += 1;
    }
    assert_eq!(compared, threads.len() * (names.len() + 64), "{text}");
    assert_eq!(threads[0].registers.get(register_number(Arch::X86_64, "rbx").unwrap()), Some(0x1122_3344_5566_7788));
}

#[test]
fn a_killed_collector_leaves_a_stopped_group_stopped() {
    let victim = Victim::shape("handler");
    victim.signal(libc::SIGSTOP);
    eventually("the stop", || states(victim.pid()).0 == "T");
    for millis in [20, 60, 100] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stress::collector"])
            .env("POSTFAULT_COLLECT", victim.pid().to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        signal(child.id(), libc::SIGKILL);
        child.wait().unwrap();
        eventually("stopped again", || states(victim.pid()) == ("T".to_owned(), false));
    }
}
