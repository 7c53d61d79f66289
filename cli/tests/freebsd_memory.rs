//! Made kernels of FreeBSD: full dumps of every machine by its own page tables, and the allocator's items that a panic was
//! about, in two layouts of its structures.

mod common;

use common::{arg, json, run, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use testdata::freebsd::kernel::{self, Has, Layout, Port, Story, function, uma};
use testdata::freebsd::minidump::{Machine, Minidump};
use testdata::freebsd::{debug_info, full};

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn layouts() -> [Layout; 2] {
    [kernel::first_layout(), kernel::second_layout()]
}

fn names(thread: &Value) -> Vec<&str> {
    thread["frames"].as_array().unwrap().iter().map(|f| f["function"].as_str().unwrap_or("?")).collect()
}

#[test]
fn full_dumps_of_every_machine() {
    let dir = tempfile::tempdir().unwrap();
    let forms = [
        (Port::Amd64, full::Tables::Amd64(4)),
        (Port::Amd64, full::Tables::Amd64(5)),
        (Port::Arm64, full::Tables::Arm64),
        (Port::Arm64, full::Tables::Arm64Large),
        (Port::I386, full::Tables::I386),
        (Port::I386, full::Tables::I386Pae),
    ];
    for (port, tables) in forms {
        for layout in layouts() {
            let what = format!("{tables:?}, {}", layout.osreldate);
            let made = kernel::build_for(port, &layout, Some(3));
            let mut memory =
                if tables == full::Tables::Arm64Large { made.memory.grouped() } else { made.memory.clone() };
            full::add(&mut memory, tables);
            let (dump, file) =
                (write(dir.path(), "vmcore.0", &full::write_for(&memory, tables)), dir.path().join("kernel"));
            std::fs::write(&file, &made.file).unwrap();
            let found = json(&["show", arg(&dump), "--json", "--kernel", arg(&file)]);
            assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
            let threads = found["threads"].as_array().unwrap();
            assert_eq!(threads.len(), 3, "{what}");
            let died = ["doadump", "vpanic", "panic", "trap_fatal", "trap", "calltrap", "sys_ioctl", "amd64_syscall"]
                .map(|n| port.name(n));
            assert_eq!(names(&threads[0])[..8], died, "{what}");
            assert_eq!(names(&threads[1]), ["sched_switch", "sleepq_wait"], "{what}");
            assert_eq!(threads[1]["wait_channel"], "select", "{what}");
            // Memory by its address, without any file.
            let at = format!("{:#x}", port.at(function("panic")));
            let bytes = stdout(&["memory", arg(&dump), &at, "4"]);
            assert!(bytes.contains("90 90 90 90"), "{what}: {bytes}");
        }
    }
}

/// The rows about items, by the register that points to each.
fn rows(found: &Value) -> Vec<(String, String)> {
    let attributes = found["attributes"].as_array().unwrap();
    let rows = attributes.iter().filter(|a| a["key"] == "kernel.slab").map(|a| a["value"].as_str().unwrap());
    rows.map(|r| (r.split("; ").nth(1).unwrap().split(' ').next().unwrap().to_owned(), r.to_owned())).collect()
}

fn check(port: Port, found: &Value, story: Story, what: &str) {
    assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
    let rows = rows(found);
    let registers: [&str; 5] = match port {
        Port::Amd64 | Port::Amd64Old => ["rdi", "rsi", "rdx", "rcx", "r8"],
        Port::I386 => ["edi", "esi", "edx", "ecx", "ebx"],
        Port::Arm64 => ["x0", "x1", "x2", "x3", "x4"],
    };
    let row = |n: usize| {
        let found = rows.iter().find(|(name, _)| name == registers[n]);
        found.map(|(_, row)| row.as_str()).unwrap_or_else(|| panic!("{what}: {} in {rows:#?}", registers[n]))
    };
    let expected = if story == Story::Twice { 4 } else { 3 };
    assert_eq!(rows.len(), expected, "{what}: {rows:#?}");
    let freed = row(0);
    let head = format!("object {:#x} of zone malloc-128 (112 bytes): free; ", port.item(uma::WAITS_ON_CPU));
    assert!(freed.starts_with(&head), "{what}: {freed}");
    assert!(freed.contains(&format!("{} is +0x8; ", registers[0])), "{what}: {freed}");
    assert!(freed.contains("; it waits in the cache of CPU 1; "), "{what}: {freed}");
    assert!(freed.contains("; the object before it: allocated; the one behind it: allocated; "), "{what}: {freed}");
    assert!(freed.contains("; item 3 of 31 in the slab at "), "{what}: {freed}");
    let holds = format!("{} ({:#x}) is what it holds at +{:#x}", registers[3], port.wild(), uma::HOLDS);
    assert_eq!(freed.contains(&holds), story == Story::Freed, "{what}: {freed}");
    let taken = row(1);
    assert!(taken.contains("(112 bytes): allocated; "), "{what}: {taken}");
    assert!(taken.contains("; all its bytes are 0x11; the object before it: free; "), "{what}: {taken}");
    let buffer = row(2);
    let head = format!("object {:#x} of zone mbuf (256 bytes): free; ", port.buffer(1));
    assert!(buffer.starts_with(&head), "{what}: {buffer}");
    assert!(!buffer.contains("waits in"), "{what}: {buffer}");
    let classes: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|f| f["class"].as_str().unwrap()).collect();
    match story {
        Story::Null => assert!(!classes.contains(&"double-free"), "{what}: {classes:?}"),
        Story::Freed => {
            assert_eq!(classes[0], "use-after-free", "{what}: {classes:?}");
            let text = found["findings"][0]["text"].as_str().unwrap();
            assert!(text.contains("which was read from a freed object of zone malloc-128"), "{what}: {text}");
        }
        Story::Twice => {
            assert!(classes.contains(&"double-free"), "{what}: {classes:?}");
            let sleeper = &found["threads"][1];
            assert_eq!(
                (&sleeper["state"], &sleeper["wait_channel"]),
                (&"lock".into(), &"*process lock".into()),
                "{what}"
            );
            assert!(row(4).contains("; it was freed twice: the cache of CPU 0 and the slab; "), "{what}: {}", row(4));
        }
    }
}

#[test]
fn items_that_registers_point_to() {
    let dir = tempfile::tempdir().unwrap();
    for (port, machine, version) in
        [(Port::Amd64, Machine::Amd64, 3), (Port::Arm64, Machine::Arm64, 3), (Port::I386, Machine::I386Pae, 2)]
    {
        for (layout, ctf) in layouts().into_iter().zip([2, 3]) {
            for story in [Story::Null, Story::Freed, Story::Twice] {
                if port == Port::Arm64 && story == Story::Null {
                    // Its log is amd64's.
                    continue;
                }
                let made = kernel::build_with(port, &layout, &Has { ctf: Some(ctf), story, ..Has::default() });
                let what = format!("{port:?}, {}, {story:?}", layout.osreldate);
                let dump = dumped(port, machine, version, &made.memory);
                let (dump, file) = (write(dir.path(), "vmcore.0", &dump), write(dir.path(), "kernel", &made.file));
                check(port, &json(&["show", arg(&dump), "--json", "--kernel", arg(&file)]), story, &what);
                let snapshot = dir.path().join("taken.pfsnap");
                run(&["capture", arg(&dump), "--kernel", arg(&file), "-o", arg(&snapshot)], 0);
                check(port, &json(&["show", arg(&snapshot), "--json"]), story, &what);
                let text = stdout(&["show", arg(&snapshot), "kernel"]);
                assert!(text.contains("of zone malloc-128 (112 bytes): free"), "{what}: {text}");
                std::fs::remove_file(&snapshot).unwrap();
            }
        }
    }
}

fn dumped(port: Port, machine: Machine, version: u32, memory: &testdata::freebsd::Memory) -> Vec<u8> {
    let direct = match port {
        Port::Arm64 => (0xffff_a000_0000_0000, 0xffff_b000_0000_0000, 0),
        Port::I386 => (0, 0, 0),
        _ => (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0),
    };
    Minidump { machine, version, kernel_base: port.kernel_base(), direct, messages: Vec::new() }.write(memory)
}

/// The same by DWARF, in a full dump.
#[test]
fn items_by_debug_information() {
    let dir = tempfile::tempdir().unwrap();
    for layout in layouts() {
        let sections = match debug_info::sections(&layout, &[], dir.path()) {
            Ok(sections) => sections,
            Err(why) => {
                assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_TOOLS"), "{why}");
                eprintln!("skipped: {why}");
                return;
            }
        };
        let has = Has { sections, story: Story::Freed, ..Has::default() };
        let made = kernel::build_with(Port::Amd64, &layout, &has);
        let mut memory = made.memory.clone();
        full::add(&mut memory, full::Tables::Amd64(4));
        let dump = write(dir.path(), "vmcore.0", &full::write(&memory));
        let file = write(dir.path(), "kernel.debug", &made.file);
        let found = json(&["show", arg(&dump), "--json", "--kernel", arg(&file)]);
        check(Port::Amd64, &found, Story::Freed, &format!("DWARF, {}", layout.osreldate));
    }
}
