//! Made kernels of FreeBSD with debug information (`kernel.debug`) that gcc wrote: structures by DWARF and stacks by call
//! frame information, in two layouts.

mod common;

use common::{arg, json, run};
use serde_json::Value;
use testdata::freebsd::debug_info;
use testdata::freebsd::kernel::{self, Has, Port};
use testdata::freebsd::minidump::{Machine, Minidump};

fn names(thread: &Value) -> Vec<&str> {
    thread["frames"].as_array().unwrap().iter().map(|f| f["function"].as_str().unwrap_or("?")).collect()
}

#[test]
fn types_and_stacks_by_debug_information() {
    let dir = tempfile::tempdir().unwrap();
    // sched_switch saves the frame pointer and keeps no record of its own: only its rules lead on.
    let without = [("sched_switch", 24)];
    for (layout, constants) in
        [(kernel::first_layout(), true), (kernel::second_layout(), true), (kernel::second_layout(), false)]
    {
        let sections = match debug_info::sections(&layout, &without, dir.path()) {
            Ok(sections) => sections,
            Err(why) => {
                assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_TOOLS"), "{why}");
                eprintln!("skipped: {why}");
                return;
            }
        };
        let has = Has { sections, constants, frame_pointers: false, ..Has::default() };
        let debug = kernel::build_with(Port::Amd64, &layout, &has);
        // The kernel as it is installed: without debug information, with the name of the file that has it.
        let linked = Has { sections: vec![(".gnu_debuglink".into(), debug_info::link(&debug.file))], ..has };
        let stripped = kernel::build_with(Port::Amd64, &layout, &linked);
        let plain = Has { sections: Vec::new(), ..linked };
        let bare = kernel::build_with(Port::Amd64, &layout, &plain);
        let symbols = dir.path().join("symbols");
        std::fs::create_dir_all(&symbols).unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(symbols.join("kernel.debug"), &debug.file).unwrap();
        std::fs::write(path("kernel.full"), &debug.file).unwrap();
        std::fs::write(path("kernel"), &stripped.file).unwrap();
        std::fs::write(path("kernel.bare"), &bare.file).unwrap();
        let minidump = Minidump {
            machine: Machine::Amd64,
            version: 3,
            kernel_base: Port::Amd64.kernel_base(),
            direct: (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0),
            messages: Vec::new(),
        };
        std::fs::write(path("vmcore.0"), minidump.write(&debug.memory)).unwrap();
        let dump = path("vmcore.0");
        let (full, separate) = (path("kernel.full"), path("kernel"));
        // The installed kernel.debug by itself: sections without their contents, and no version of its own to compare.
        let kept = path("kernel.kept");
        let output = std::process::Command::new("objcopy")
            .args(["--only-keep-debug", arg(&full), arg(&kept)])
            .output()
            .expect("objcopy made the sections");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ways: [&[&str]; 3] = [
            &["--kernel", arg(&full)],
            &["--kernel", arg(&separate), "--symbols", arg(&symbols)],
            &["--kernel", arg(&kept)],
        ];
        for given in ways {
            let what = format!("{}, constants {constants}, {given:?}", layout.osreldate);
            let found = json(&[&["show", arg(&dump), "--json"], given].concat());
            check(&found, &what);
            let snapshot = path("taken.pfsnap");
            run(&[&["capture", arg(&dump), "-o", arg(&snapshot)], given].concat(), 0);
            let shown = json(&["show", arg(&snapshot), "--json"]);
            assert_eq!(shown["threads"], found["threads"], "{what}");
            std::fs::remove_file(&snapshot).unwrap();
        }
        // What the debug information was needed for.
        let found = json(&["show", arg(&dump), "--json", "--kernel", arg(&path("kernel.bare"))]);
        let threads = found["threads"].as_array().unwrap();
        assert_eq!(threads.len(), if constants { 3 } else { 0 }, "{}", layout.osreldate);
        if constants {
            assert_eq!(names(&threads[1]), ["sched_switch"], "{}", layout.osreldate);
            assert!(threads[1]["wait_channel"].is_null());
        }
    }
}

fn check(found: &Value, what: &str) {
    assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
    let threads = found["threads"].as_array().unwrap();
    let died = ["doadump", "vpanic", "panic", "trap_fatal", "trap", "calltrap", "sys_ioctl", "amd64_syscall"];
    assert_eq!(names(&threads[0])[..8], died, "{what}");
    assert_eq!(names(&threads[0])[8..], ["fast_syscall_common"], "{what}");
    // The rules lead on where the frame pointer is 0.
    assert_eq!(names(&threads[1]), ["sched_switch", "sleepq_wait", "fork_exit"], "{what}");
    assert_eq!(names(&threads[2]), ["cpustop_handler", "fork_exit"], "{what}");
    let trust = |t: usize| -> Vec<&str> {
        threads[t]["frames"].as_array().unwrap().iter().map(|f| f["trust"].as_str().unwrap()).collect()
    };
    assert_eq!(trust(1), ["context", "cfi", "cfi"], "{what}");
    assert!(trust(0)[1..].iter().all(|t| *t == "cfi"), "{what}: {:?}", trust(0));
    assert_eq!((&threads[1]["state"], &threads[1]["wait_channel"]), (&"sleeping".into(), &"select".into()), "{what}");
    assert_eq!((&threads[2]["state"], &threads[2]["cpu"]), (&"running".into(), &0.into()), "{what}");
    assert_eq!(threads[0]["name"], "ioctl-test", "{what}");
    assert_eq!(found["findings"][0]["class"], "null-deref", "{what}");
    let zfs = found["modules"].as_array().unwrap().iter().find(|m| m["path"] == "/boot/kernel/zfs.ko").unwrap();
    assert_eq!(zfs["size"], 0x50_0000, "{what}");
}
