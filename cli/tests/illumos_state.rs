//! What an illumos kernel was at, out of its memory: what threads sleep on, buffers of the allocator, saved arguments; and
//! what is concluded from it. In both layouts of the structures, some of whose names are those of the symbol table.

mod common;

use serde_json::Value;
use std::path::Path;
use testdata::illumos::heap::{FREED, WILD, report};
use testdata::illumos::kernel::{Image, SAVES, Truth, panicked};
use testdata::illumos::layouts::Layout;

const LAYOUTS: [fn() -> Layout; 2] = [Layout::first, Layout::second];
const GENERAL_PROTECTION: &str = "BAD TRAP: type=d (#gp General protection) rp=fffffe0010000000 addr=0";

/// What is said of a kernel that `change` made different.
fn looked_at(folder: &Path, layout: fn() -> Layout, change: impl Fn(&mut Image, &Truth)) -> (Value, Truth) {
    let (mut kernel, truth) = panicked(layout());
    change(&mut kernel, &truth);
    let file = folder.join("vmdump.0");
    std::fs::write(&file, kernel.dump().vmdump()).unwrap();
    (common::json(&["bt", "--json", common::arg(&file)]), truth)
}

/// The values of the attributes of a key.
fn facts<'f>(found: &'f Value, key: &str) -> Vec<&'f str> {
    let all = found["attributes"].as_array().unwrap().iter();
    all.filter(|a| a["key"] == key).map(|a| a["value"].as_str().unwrap()).collect()
}

fn finding(found: &Value) -> (&str, &str, String) {
    let first = &found["findings"][0];
    (first["class"].as_str().unwrap(), first["text"].as_str().unwrap(), first["evidence"].to_string())
}

fn doubts(found: &Value) -> String {
    found["doubts"].to_string()
}

#[test]
fn what_threads_sleep_on() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let (kernel, truth) = panicked(layout());
        let (found, _) = looked_at(folder.path(), layout, |_, _| ());
        let row = |name: &str, kind: &str, rest: &str| format!("{kind} {:#018x} ({name}): {rest}", kernel.at(name));
        let mut wanted = vec![
            row("system_taskq", "mutex", "held by thread 12; waited for by 11"),
            row("pool_lock", "rwlock", "held by thread 11; waited for by 12, 16; to write: 12"),
            row("disk_sema", "semaphore", "held by no known thread; waited for by 17"),
        ];
        wanted.sort_by_key(|row| row.split(' ').nth(1).map(str::to_owned));
        assert_eq!(facts(&found, "kernel.lock"), wanted);
        assert_eq!(facts(&found, "kernel.deadlock"), ["threads 11, 12 wait for each other"]);
        let whole = truth.heap.whole;
        let condition = format!(
            "condition variable {:#018x} (+0x28 of object {whole:#018x} of cache taskq_cache): waited for by 18, 19",
            whole + 0x28
        );
        assert_eq!(facts(&found, "kernel.wait"), [condition]);
        assert!(!doubts(&found).contains("kernel-locks"), "{}", doubts(&found));
        let text = common::stdout(&["show", common::arg(&folder.path().join("vmdump.0")), "kernel"]);
        for part in ["locks that are waited for", "condition variables that are waited for", "to write: 12"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

/// Turnstiles that contradict the threads are said, and threads that are in none are still listed.
#[test]
fn turnstiles_that_contradict() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        // The first thread says that it waits for something else: the queue is not followed beyond it.
        let astray = |k: &mut Image, t: &Truth| {
            let lock = k.at("pool_lock");
            k.set(t.places.0[0], "_kthread", &[("t_wchan", lock)]);
        };
        let (found, _) = looked_at(folder.path(), layout, astray);
        let said = doubts(&found);
        assert!(
            said.contains("is in the queue of the lock at") && said.contains("counts 1 waiters, and queues 0"),
            "{said}"
        );
        assert!(said.contains("1 threads say that they wait for a lock, and are in no turnstile"), "{said}");
        let circle = |k: &mut Image, _: &Truth| {
            // A chain that leads to itself.
            let table = k.at("turnstile_table");
            let entry = k.layout().of("turnstile_chain").size;
            let first = k.layout().offset("turnstile_chain", "tc_first");
            let next = k.layout().offset("turnstile", "ts_next");
            let head = (0..256).map(|n| k.read(table + n * entry + first)).find(|t| *t != 0).unwrap();
            k.long(head + next, head);
        };
        let (found, _) = looked_at(folder.path(), layout, circle);
        assert!(doubts(&found).contains("of the turnstiles leads back to"), "{}", doubts(&found));
        assert_eq!(facts(&found, "kernel.deadlock"), ["threads 11, 12 wait for each other"]);
    }
}

#[test]
fn a_pointer_out_of_freed_memory() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let change = |k: &mut Image, t: &Truth| {
            k.trap(13, 0, 0, &[("r_rdi", FREED), ("r_rax", t.heap.checked[1])], GENERAL_PROTECTION);
        };
        let (found, truth) = looked_at(folder.path(), layout, change);
        let row = format!(
            "object {:#018x} of cache kmem_alloc_64 (64 bytes): free; rax is +0x0; rdi ({FREED:#x}) is what it holds at +0x0; \
             its tag says free; filled with the pattern of freed memory; freed by thread 12 (listener) 1.234 s before \
             the panic in ioctl+0x20 < main+0x20; the object before it: allocated; the object behind it: free",
            truth.heap.checked[1]
        );
        assert_eq!(facts(&found, "kernel.slab"), [row.as_str()], "{}", doubts(&found));
        let (class, text, evidence) = finding(&found);
        assert_eq!(class, "use-after-free", "{text}");
        assert!(text.contains("which freed memory is filled with in broken_driver()"), "{text}");
        assert!(evidence.contains("memory: object") && evidence.contains("rdi is 0xdeadbeefdeadbeef"), "{evidence}");
        // Without checks, by the list of the slab and what the object holds.
        let change = |k: &mut Image, t: &Truth| {
            let message = format!("BAD TRAP: type=e (#pf Page fault) rp=fffffe0010000000 addr={:x}", WILD.1 + 8);
            k.trap(14, 0, WILD.1 + 8, &[("r_rdi", 0), ("r_rbx", WILD.1), ("r_rcx", t.heap.plain[1] + 0x10)], &message);
        };
        let (found, truth) = looked_at(folder.path(), layout, change);
        let row = format!(
            "object {:#018x} of cache demo_cache (112 bytes): free; rcx is +0x10; rbx ({:#x}) is what it holds at +0x28; the \
             object before it: allocated; the object behind it: allocated",
            truth.heap.plain[1], WILD.1
        );
        assert_eq!(facts(&found, "kernel.slab"), [row.as_str()], "{}", doubts(&found));
        let (class, text, _) = finding(&found);
        assert_eq!(class, "use-after-free");
        assert!(text.contains("0xffffdead00001000, which was read from a freed object of cache demo_cache"), "{text}");
    }
}

/// States of buffers, wherever they are kept: in use, freed to the slab, in a magazine; in slabs of lists and of trees.
#[test]
fn states_of_buffers() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let change = |k: &mut Image, t: &Truth| {
            let names = ["r_rdi", "r_rsi", "r_rdx", "r_rcx", "r_r8", "r_r9", "r_rax", "r_rbx", "r_r10", "r_r11"];
            let heap =
                [t.heap.checked[0], t.heap.checked[2] + 8, t.heap.checked[3], t.heap.checked[4], t.heap.plain[0] + 111];
            let places: Vec<u64> = heap.into_iter().chain(t.heap.tree).chain([t.heap.whole + 300]).collect();
            let registers: Vec<(&str, u64)> = names.into_iter().zip(places).collect();
            k.trap(14, 0, 0x28, &registers, "BAD TRAP: type=e (#pf Page fault) rp=fffffe0010000000 addr=28");
        };
        let (found, truth) = looked_at(folder.path(), layout, change);
        let rows = facts(&found, "kernel.slab");
        let of = |at: u64| {
            *rows.iter().find(|r| r.starts_with(&format!("object {at:#018x} "))).unwrap_or_else(|| panic!("{rows:#?}"))
        };
        assert_eq!(rows.len(), 10, "{rows:#?}");
        let asked = of(truth.heap.checked[0]);
        for part in [
            "allocated; rdi is +0x0",
            "its tag says allocated",
            "40 bytes of it were asked for",
            "allocated by thread 12",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        assert!(asked.contains("its first 40 bytes hold the pattern of memory that was never set"), "{asked}");
        let changed = of(truth.heap.checked[2]);
        for part in ["free; rsi is +0x8", "it was written to after it was freed (+0x10 holds 0x41414141)"] {
            assert!(changed.contains(part), "{changed}");
        }
        assert!(changed.contains("the object behind it: allocated, and was written past its end"), "{changed}");
        let past = of(truth.heap.checked[3]);
        assert!(
            past.contains("allocated; rdx is +0x0")
                && past.contains("it was written past its end (+0x40 holds 0x42424242"),
            "{past}"
        );
        // In a magazine: free, though its slab counts it as used.
        assert!(of(truth.heap.checked[4]).contains("(64 bytes): free; rcx is +0x0; its tag says free"), "{rows:#?}");
        assert!(
            of(truth.heap.plain[0]).contains("of cache demo_cache (112 bytes): allocated; r8 is +0x6f"),
            "{rows:#?}"
        );
        for (at, name) in truth.heap.tree.iter().zip(["r9", "rax", "rbx", "r10"]) {
            assert!(
                of(*at).contains(&format!("of cache tree_cache (1024 bytes): allocated; {name} is +0x0")),
                "{rows:#?}"
            );
        }
        assert!(
            of(truth.heap.whole + 256).contains("of cache taskq_cache (256 bytes): allocated; r11 is +0x2c"),
            "{rows:#?}"
        );
        let (class, _, evidence) = finding(&found);
        assert_eq!(class, "null-deref");
        assert!(evidence.contains("it was written past its end"), "{evidence}");
        assert!(!doubts(&found).contains("kernel-memory"), "{}", doubts(&found));
    }
}

#[test]
fn what_the_allocator_reported() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (0, 2, 0, "use-after-free", "a buffer was modified after it was freed", "; +0x10 holds 0x41414141"),
        (1, 3, 0, "heap-corruption", "a buffer was written past its end", ""),
        (2, 1, 0, "double-free", "a buffer was freed twice", ""),
        (8, 0, 8, "invalid-free", "an address inside of a buffer was freed", " was handed over"),
    ];
    for layout in LAYOUTS {
        for (kind, buffer, inside, class, words, more) in cases {
            let change = |k: &mut Image, t: &Truth| {
                k.called("kernel heap corruption detected");
                let real = t.heap.checked[buffer];
                report(k, kind, real + inside, real, t.heap.cache);
            };
            let (found, truth) = looked_at(folder.path(), layout, change);
            let rows = facts(&found, "kernel.kmem_error");
            let head = format!("{words}: object {:#018x} of cache kmem_alloc_64", truth.heap.checked[buffer]);
            assert!(rows.len() == 1 && rows[0].starts_with(&head) && rows[0].ends_with(more), "{rows:?}");
            let (found_class, text, evidence) = finding(&found);
            assert_eq!(found_class, class, "{text}");
            assert!(evidence.contains("memory: object"), "{evidence}");
        }
        let change = |k: &mut Image, t: &Truth| {
            k.called("kernel heap corruption detected");
            report(k, 3, 0xffff_fe00_7777_0000, 0xffff_fe00_7777_0000, t.heap.cache);
        };
        let (found, _) = looked_at(folder.path(), layout, change);
        let row = "an address was freed that is no buffer: 0xfffffe0077770000, freed to cache kmem_alloc_64";
        assert_eq!((facts(&found, "kernel.kmem_error"), finding(&found).0), (vec![row], "invalid-free"));
        // A lock in a freed buffer; its owner is printed without the lowest bits.
        let change = |k: &mut Image, t: &Truth| {
            let at = t.heap.checked[1] + 8;
            k.called(&format!("mutex_enter: bad mutex, lp={at:x} owner=deadbeefdeadbee8 thread=fffffe0010000000"));
        };
        let (found, _) = looked_at(folder.path(), layout, change);
        let (class, text, evidence) = finding(&found);
        assert_eq!(class, "use-after-free", "{evidence}");
        assert!(text.contains("a lock was used that lies in a freed object of cache kmem_alloc_64"), "{text}");
        assert!(
            facts(&found, "kernel.slab")[0].contains("; lp is +0x8; owner (0xdeadbeefdeadbeef) is what it holds"),
            "{found}"
        );
    }
}

/// Lists that lead nowhere: what is not known is not called allocated.
#[test]
fn lists_that_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let change = |k: &mut Image, t: &Truth| {
            // The link in the free object of the cache without checks, at its end.
            let link = t.heap.plain[1] + 104 + k.layout().offset("kmem_bufctl", "bc_next");
            k.long(link, 0xffff_fe00_7777_0000);
            k.trap(14, 0, 0x28, &[("r_rdi", t.heap.plain[0])], "BAD TRAP: type=e (#pf Page fault) rp=0 addr=28");
        };
        let (found, _) = looked_at(folder.path(), layout, change);
        let rows = facts(&found, "kernel.slab");
        assert!(rows[0].contains("not known to be free") && rows[0].contains("list of free buffers"), "{rows:?}");
        let change = |k: &mut Image, t: &Truth| {
            let head = k.at("kmem_caches") + k.layout().offset("list", "list_head");
            k.set(head, "list_node", &[("list_next", 0x1000)]);
            k.trap(14, 0, 0x28, &[("r_rdi", t.heap.plain[0])], "BAD TRAP: type=e (#pf Page fault) rp=0 addr=28");
        };
        let (found, _) = looked_at(folder.path(), layout, change);
        assert!(facts(&found, "kernel.slab").is_empty());
        assert!(doubts(&found).contains("buffers are not looked up"), "{}", doubts(&found));
    }
}

#[test]
fn arguments_that_prologues_saved() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let (found, _) = looked_at(folder.path(), layout, |_, _| ());
        let mut seen = 0;
        for thread in found["threads"].as_array().unwrap() {
            for frame in thread["frames"].as_array().unwrap() {
                let name = frame["function"].as_str().unwrap();
                let arguments: Vec<String> = frame["variables"].as_array().map_or_else(Vec::new, |list| {
                    let one = |v: &Value| format!("{}={}", v["name"].as_str().unwrap(), v["value"].as_str().unwrap());
                    list.iter().map(one).collect()
                });
                let saves = SAVES.iter().find(|(of, ..)| *of == name && *of != "idle");
                // The trap interrupted a call whose arguments this kernel's maker left at zero.
                let zero = thread["id"] == 15 && name == "ioctl";
                let values = saves.map_or(&[][..], |(_, _, values)| values).iter().map(|v| if zero { 0 } else { *v });
                let wanted: Vec<String> = values.zip(1..).map(|(v, n)| format!("arg{n}={v:#x}")).collect();
                assert_eq!(arguments, wanted, "thread {}, {name}", thread["id"]);
                seen += wanted.len();
            }
        }
        assert!(seen >= 10, "{seen}");
        let first = &found["threads"][0]["frames"][1]["variables"][0];
        assert_eq!(first["kind"], "parameter", "{first}");
        assert_eq!(first["type"], "rdi on entry, saved by the prologue");
    }
}

/// Before a `ret` the frame pointer is the caller's: what lies below it are not the arguments of the function.
#[test]
fn arguments_of_a_frame_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    for (place, count) in [(0x8f, 3), (0x90, 0)] {
        let change = |k: &mut Image, _: &Truth| {
            let rip = k.at("ioctl") + place;
            let end = k.at("ioctl") + 0x90;
            k.write(end, &[0xc3]);
            let message = "BAD TRAP: type=e (#pf Page fault) rp=fffffe0010000000 addr=28";
            k.trap(14, 0, 0x28, &[("r_rip", rip), ("r_savpc", rip)], message);
        };
        let (found, truth) = looked_at(folder.path(), LAYOUTS[0], change);
        let threads = found["threads"].as_array().unwrap();
        let frame = &threads.iter().find(|t| t["id"] == truth.panicking).unwrap()["frames"][0];
        assert_eq!(frame["function"], "ioctl", "{frame}");
        assert_eq!(frame["variables"].as_array().map(Vec::len), Some(count), "{frame}");
    }
}
