//! Kernels of illumos whose facts contradict each other: dumps of running systems, copies, messages in two places.

mod common;

use serde_json::Value;
use std::path::{Path, PathBuf};
use testdata::illumos::Dump;
use testdata::illumos::kernel::{Image, Truth, panicked};
use testdata::illumos::layouts::Layout;

const LAYOUTS: [fn() -> Layout; 2] = [Layout::first, Layout::second];

/// Writes a kernel's dump, made different by `change`, and what is found in it.
fn looked_at(
    folder: &Path,
    layout: fn() -> Layout,
    memory: impl Fn(&mut Image, &Truth),
    header: impl Fn(&mut Dump, &Truth),
) -> (PathBuf, Value, Truth) {
    let (mut kernel, truth) = panicked(layout());
    memory(&mut kernel, &truth);
    let mut dump = kernel.dump();
    header(&mut dump, &truth);
    let file = folder.join("vmdump.0");
    std::fs::write(&file, dump.vmdump()).unwrap();
    let found = common::json(&["bt", "--json", common::arg(&file)]);
    (file, found, truth)
}

fn doubts(found: &Value) -> String {
    let list = found["doubts"].as_array().cloned().unwrap_or_default();
    list.iter().map(|d| format!("{}: {}\n", d["what"].as_str().unwrap(), d["why"].as_str().unwrap())).collect()
}

fn thread(found: &Value, id: u64) -> &Value {
    found["threads"].as_array().unwrap().iter().find(|t| t["id"] == id).unwrap()
}

/// The list of CPUs says what ran after the panic, `panic_cpu` what ran at it; of a system that did not panic the copy
/// is what lay there.
#[test]
fn the_copy_of_the_cpu_counts_after_a_panic_only() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let (_, found, truth) = looked_at(folder.path(), layout, |_, _| (), |_, _| ());
        assert_eq!(thread(&found, truth.panicking)["cpu"], 0, "{found}");
        let running = |k: &mut Image, _: &Truth| {
            for name in ["panicstr", "panic_thread", "panic_reg"] {
                let at = k.at(name);
                k.long(at, 0);
            }
            let buffer = k.at("panicbuf");
            k.write(buffer, &[0; 8192]);
        };
        let live = |d: &mut Dump, _: &Truth| {
            d.flags |= 4;
            d.panic = String::new();
        };
        let (_, found, truth) = looked_at(folder.path(), layout, running, live);
        assert!(thread(&found, truth.panicking)["cpu"].is_null(), "{found}");
        assert!(found["event"].is_null(), "{}", found["event"]);
        let classes: Vec<&str> =
            found["findings"].as_array().unwrap().iter().map(|f| f["class"].as_str().unwrap()).collect();
        assert!(!classes.contains(&"kernel-panic") && !classes.contains(&"null-deref"), "{classes:?}");
        assert!(doubts(&found).contains("running system"), "{}", doubts(&found));
    }
}

/// Lists of a running system may lead back into themselves: what they hold is listed once, and the circle is said.
#[test]
fn circles_in_the_lists_of_a_running_system() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let circles = |k: &mut Image, t: &Truth| {
            let (threads, processes) = &t.places;
            k.set(threads[8], "_kthread", &[("t_next", threads[2])]);
            // The list of processes goes from the last made to the first.
            k.set(processes[0], "proc", &[("p_next", processes[2])]);
        };
        let (_, found, truth) = looked_at(folder.path(), layout, circles, |d, _| d.flags |= 4);
        assert_eq!(found["threads"].as_array().unwrap().len(), truth.threads.len(), "{found}");
        for (id, pid, state, ..) in &truth.threads {
            let thread = thread(&found, *id);
            assert_eq!((thread["pid"].as_u64(), thread["state"].as_str()), (Some(*pid), Some(*state)), "{id}");
        }
        let doubts = doubts(&found);
        assert!(doubts.contains("kernel-threads: the list of _kthread leads back to"), "{doubts}");
        assert!(doubts.contains("kernel-processes: the list of proc leads back to"), "{doubts}");
    }
}

/// A program's pages are kept under its `p_as`; which one the panicking thread was of is said, and its memory is read.
#[test]
fn the_space_of_the_panicking_program() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let (of_it, of_another) = (0xffff_fe01_aaaa_0000, 0xffff_fe01_bbbb_0000);
        let spaces = |k: &mut Image, t: &Truth| {
            k.set(t.places.1[3], "proc", &[("p_as", of_it)]);
            k.set(t.places.1[1], "proc", &[("p_as", of_another)]);
        };
        let user = |d: &mut Dump, _: &Truth| {
            for (space, pfn, byte) in [(of_it, 0x70_0000, 0xa5), (of_another, 0x70_0001, 0x5a)] {
                d.pages.push((pfn, vec![byte; 4096]));
                d.map.push((space, 0x804_7000, pfn));
            }
        };
        let (file, ..) = looked_at(folder.path(), layout, spaces, user);
        let facts = common::stdout(&["show", common::arg(&file), "attributes"]);
        assert!(facts.contains("panic.address_space = 0xfffffe01aaaa0000"), "{facts}");
        for (space, byte) in [(of_it, "a5 a5 a5 a5"), (of_another, "5a 5a 5a 5a")] {
            let space = format!("{space:#x}");
            let bytes = common::stdout(&["memory", common::arg(&file), "0x8047000", "4", "--space", &space]);
            assert!(bytes.contains(byte), "{bytes}");
        }
    }
}

/// `panicstr` is a format; the message is that of the panic buffer, and without it that of the header, which is cut.
#[test]
fn the_message_is_the_formatted_one() {
    let folder = tempfile::tempdir().unwrap();
    let message = |found: &Value| found["event"]["message"].as_str().unwrap().to_owned();
    for layout in LAYOUTS {
        let (_, found, truth) = looked_at(folder.path(), layout, |_, _| (), |d, _| d.panic = "BAD TRAP: type=e".into());
        assert_eq!(message(&found), truth.message);
        let no_buffer = |k: &mut Image, _: &Truth| {
            let at = k.at("panicbuf");
            k.write(at, &[0; 8192]);
        };
        let (_, found, _) = looked_at(folder.path(), layout, no_buffer, |d, _| d.panic = "BAD TRAP: type=e".into());
        assert_eq!(message(&found), "BAD TRAP: type=e");
        assert!(!doubts(&found).contains("holds 199"), "{}", doubts(&found));
        let (_, found, _) = looked_at(folder.path(), layout, no_buffer, |d, _| d.panic = "x".repeat(199));
        assert_eq!(message(&found), "x".repeat(199));
        assert!(doubts(&found).contains("the header's, which holds 199 bytes of it"), "{}", doubts(&found));
    }
}
