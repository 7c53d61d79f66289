//! Made kernels of FreeBSD, in two layouts, through the whole command line.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::freebsd::device::Record;
use testdata::freebsd::kernel::{self, Layout, Port, function};
use testdata::freebsd::minidump::{Machine, Minidump};
use testdata::freebsd::{full, textdump};

fn run(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_postfault")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn show(dump: &Path, kernel: Option<&Path>) -> Value {
    let mut arguments = vec!["show", dump.to_str().unwrap(), "--json"];
    arguments.extend(kernel.map(|k| ["--kernel", k.to_str().unwrap()]).into_iter().flatten());
    run(&arguments)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn minidump(version: u32, messages: &[u8]) -> Minidump {
    Minidump {
        machine: Machine::Amd64,
        version,
        kernel_base: 0xffff_fe00_0000_0000,
        direct: (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0),
        messages: messages.to_vec(),
    }
}

fn names(thread: &Value) -> Vec<&str> {
    thread["frames"].as_array().unwrap().iter().map(|f| f["function"].as_str().unwrap_or("?")).collect()
}

/// What must be said of the kernel, whatever it was dumped into. `types`: whether its file has them.
fn check(found: &Value, types: bool) {
    let event = &found["event"];
    assert_eq!((&event["thread"], &event["message"]), (&100_077.into(), &"page fault".into()));
    assert_eq!((&event["address"], &event["access"]), (&"0x28".into(), &"write".into()));
    assert_eq!(found["identity"]["release"], "14.1-RELEASE");
    let finding = |n: usize| (&found["findings"][n]["class"], &found["findings"][n]["frame"]);
    assert_eq!(finding(0), (&"null-deref".into(), &6.into()), "blamed is what was interrupted, not the panic code");
    assert_eq!(finding(1).0, "kernel-panic");
    let threads = found["threads"].as_array().unwrap();
    let about = |t: &Value| (t["id"].as_u64().unwrap(), t["pid"].as_u64().unwrap(), t["name"].clone());
    assert_eq!(about(&threads[0]), (100_077, 4321, "ioctl-test".into()));
    assert_eq!(about(&threads[1]), (100_055, 77, "sshd".into()));
    assert_eq!(about(&threads[2]), (100_003, 11, "idle/idle: cpu0".into()));
    // Through the trap frame to what was interrupted, and to where the system call came from.
    let died = ["doadump", "vpanic", "panic", "trap_fatal", "trap", "calltrap", "sys_ioctl", "amd64_syscall"];
    assert_eq!(names(&threads[0])[..8], died);
    assert_eq!(names(&threads[0])[8..], ["fast_syscall_common"]);
    assert_eq!(threads[0]["frames"][6]["pc"], format!("{:#x}", function("sys_ioctl")));
    assert_eq!(threads[0]["truncated"], Value::Null);
    assert_eq!(names(&threads[1]), ["sched_switch", "sleepq_wait"]);
    assert_eq!(names(&threads[2]), ["cpustop_handler", "fork_exit"]);
    assert_eq!(threads[2]["cpu"], 0);
    if types {
        assert_eq!(threads[1]["state"], "sleeping");
        assert_eq!(threads[1]["wait_channel"], "select");
    }
    let log: Vec<&str> = found["log"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap()).collect();
    assert!(log[0].starts_with('#') && log[1] == "Starting devd.", "{log:?}");
    assert_eq!(log.last(), Some(&"cpuid = 1"));
    let modules = found["modules"].as_array().unwrap();
    let zfs = modules.iter().find(|m| m["path"] == "/boot/kernel/zfs.ko").unwrap();
    assert_eq!(zfs["base"], format!("{:#x}", kernel::MODULE));
    assert_eq!(zfs["size"].as_u64(), Some(if types { 0x50_0000 } else { 0 }));
}

fn layouts() -> [(Layout, Option<u8>); 4] {
    let (first, second) = (kernel::first_layout(), kernel::second_layout());
    [(first.clone(), None), (first, Some(2)), (second.clone(), Some(3)), (second, None)]
}

#[test]
fn kernels_of_two_layouts_in_every_container() {
    let dir = tempfile::tempdir().unwrap();
    for (n, (layout, ctf)) in layouts().into_iter().enumerate() {
        let made = kernel::build(&layout, ctf);
        let file = write(dir.path(), "kernel", &made.file);
        let dump = match n {
            0 => minidump(3, b"").write(&made.memory),
            1 => {
                let dump = minidump(2, b"").write(&made.memory);
                Record::new(dump.len()).device(8192, &[], &dump)
            }
            _ => {
                let mut memory = made.memory.clone();
                full::page_tables(&mut memory, if n == 2 { 4 } else { 5 });
                full::write(&memory)
            }
        };
        let found = show(&write(dir.path(), "vmcore.0", &dump), Some(&file));
        check(&found, ctf.is_some());
        assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{}", found["doubts"]);
        let snapshot = dir.path().join(format!("{n}.pfsnap"));
        let status = Command::new(env!("CARGO_BIN_EXE_postfault"))
            .args(["capture", dir.path().join("vmcore.0").to_str().unwrap(), "--kernel", file.to_str().unwrap(), "-o"])
            .arg(&snapshot)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        check(&show(&snapshot, None), ctf.is_some());
    }
}

/// arm64 and i386: the same kernel, with words, registers, pcbs and traps of their own.
#[test]
fn kernels_of_two_layouts_on_other_machines() {
    let dir = tempfile::tempdir().unwrap();
    let machines =
        [(Port::Arm64, Machine::Arm64, 3), (Port::I386, Machine::I386Pae, 2), (Port::I386, Machine::I386, 2)];
    // The versions before: without the list of memory's ranges, and amd64's first one with tables of another form.
    let before = [
        (Port::Arm64, Machine::Arm64, 1),
        (Port::Arm64, Machine::Arm64, 2),
        (Port::I386, Machine::I386Pae, 1),
        (Port::I386, Machine::I386, 1),
        (Port::Amd64Old, Machine::Amd64, 1),
    ];
    for (port, machine, version) in machines.into_iter().chain(before) {
        for (layout, ctf) in layouts() {
            let made = kernel::build_for(port, &layout, ctf);
            let file = write(dir.path(), "kernel", &made.file);
            let kernel_base = port.kernel_base();
            let direct = match port {
                Port::Arm64 => (0xffff_a000_0000_0000, 0xffff_b000_0000_0000, 0),
                Port::Amd64Old => (0xffff_ff00_0000_0000, 0xffff_ff80_0000_0000, 0),
                _ => (0, 0, 0),
            };
            let dump = Minidump { machine, version, kernel_base, direct, messages: Vec::new() }.write(&made.memory);
            let dump = write(dir.path(), "vmcore.0", &dump);
            let found = show(&dump, Some(&file));
            let what = format!("{machine:?} version {version}, {}, types {ctf:?}", layout.osreldate);
            check_on(port, &found, ctf.is_some(), &what);
            assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
            // Without the dump and the kernel's file.
            let snapshot = dir.path().join("taken.pfsnap");
            let (dump, file) = (dump.to_str().unwrap(), file.to_str().unwrap());
            let output = Command::new(env!("CARGO_BIN_EXE_postfault"))
                .args(["capture", dump, "--kernel", file, "-o", snapshot.to_str().unwrap()])
                .output()
                .unwrap();
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            check_on(port, &show(&snapshot, None), ctf.is_some(), &what);
            std::fs::remove_file(&snapshot).unwrap();
        }
    }
}

/// What must be said of the kernel on every machine.
fn check_on(port: Port, found: &Value, types: bool, what: &str) {
    let event = &found["event"];
    assert_eq!((&event["thread"], &event["message"]), (&100_077.into(), &"page fault".into()), "{what}");
    let threads = found["threads"].as_array().unwrap();
    let about = |t: &Value| (t["id"].as_u64().unwrap(), t["pid"].as_u64().unwrap(), t["name"].clone());
    assert_eq!(about(&threads[0]), (100_077, 4321, "ioctl-test".into()), "{what}");
    assert_eq!(about(&threads[1]), (100_055, 77, "sshd".into()), "{what}");
    assert_eq!(about(&threads[2]), (100_003, 11, "idle/idle: cpu0".into()), "{what}");
    let died = ["doadump", "vpanic", "panic", "trap_fatal", "trap", "calltrap", "sys_ioctl", "amd64_syscall"]
        .map(|n| port.name(n));
    assert_eq!(names(&threads[0])[..8], died, "{what}");
    assert_eq!(names(&threads[0])[8..], [port.name("fast_syscall_common")], "{what}");
    assert_eq!(threads[0]["truncated"], Value::Null, "{what}");
    let pc = format!("{:#x}", port.at(function("sys_ioctl")));
    assert_eq!(threads[0]["frames"][6]["pc"], pc.as_str(), "{what}");
    assert_eq!(names(&threads[1]), ["sched_switch", "sleepq_wait"], "{what}");
    assert_eq!(names(&threads[2]), ["cpustop_handler", "fork_exit"], "{what}");
    assert_eq!(threads[2]["cpu"], 0, "{what}");
    if types {
        assert_eq!(
            (&threads[1]["state"], &threads[1]["wait_channel"]),
            (&"sleeping".into(), &"select".into()),
            "{what}"
        );
    }
    let log: Vec<&str> = found["log"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap()).collect();
    assert!(log[0].starts_with('#') && log[1] == "Starting devd.", "{what}: {log:?}");
    let modules = found["modules"].as_array().unwrap();
    let zfs = modules.iter().find(|m| m["path"] == "/boot/kernel/zfs.ko").unwrap();
    assert_eq!(zfs["base"], format!("{:#x}", port.at(kernel::MODULE)), "{what}");
    assert_eq!(zfs["size"].as_u64(), Some(if types { 0x50_0000 } else { 0 }), "{what}");
}

#[test]
fn another_kernels_file_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let made = kernel::build(&kernel::first_layout(), None);
    let mut file = made.file.clone();
    let at = file.windows(12).position(|w| w == b"FreeBSD 14.1").unwrap();
    file[at + 11] = b'2';
    let file = write(dir.path(), "kernel", &file);
    let found = show(&write(dir.path(), "vmcore.0", &minidump(3, b"").write(&made.memory)), Some(&file));
    assert!(found["doubts"].to_string().contains("14.2"), "{}", found["doubts"]);
    assert_eq!(found["threads"].as_array().map(Vec::len), Some(0));
}

/// Without the kernel's file: the record, `info.N` and the message buffer are what there is.
#[test]
fn nothing_but_the_dump() {
    let dir = tempfile::tempdir().unwrap();
    let made = kernel::build(&kernel::second_layout(), None);
    let dump = minidump(3, b"<2>one\ntwo\n\0\0\0").write(&made.memory);
    std::fs::write(dir.path().join("info.3"), "  Hostname: db7\n  Panic String: sleeping thread\n").unwrap();
    let found = show(&write(dir.path(), "vmcore.3", &dump), None);
    assert_eq!(found["event"]["message"], "sleeping thread");
    assert_eq!(found["identity"]["host"], "db7");
    assert_eq!((&found["log"][0]["text"], &found["log"][0]["level"]), (&"one".into(), &"crit".into()));
    assert!(found["doubts"].to_string().contains("--kernel"));
}

#[test]
fn text_dumps() {
    let dir = tempfile::tempdir().unwrap();
    let archive = textdump::archive(&[
        ("ddb.txt", "db:0:kdb.enter.panic>  bt\nTracing pid 4321\n"),
        ("msgbuf.txt", "<118>Starting devd.\npanic: page fault\n"),
        ("panic.txt", "page fault"),
        ("version.txt", kernel::VERSION),
    ]);
    let reversed = textdump::on_device(&archive);
    let mut record = Record::new(reversed.len());
    record.magic = "FreeBSD Text Dump";
    for (name, bytes) in [("textdump.tar.0", archive.clone()), ("ada0p3", record.device(512, &[], &reversed))] {
        let found = show(&write(dir.path(), name, &bytes), None);
        assert_eq!(found["event"]["message"], "page fault", "{name}");
        assert_eq!(found["identity"]["release"], "14.1-RELEASE", "{name}");
        assert_eq!(found["log"][1]["text"], "panic: page fault", "{name}");
        assert!(found["attributes"].to_string().contains("Tracing pid 4321"), "{name}");
    }
}
