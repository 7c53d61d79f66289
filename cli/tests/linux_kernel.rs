//! Linux kernel dumps against drgn: every task's frames, the modules and the log, with the kernel's file and without.
//!
//! drgn had the kernel's file in both cases; its texts lie beside the dumps. Every difference is printed with its cause.

mod common;
#[path = "linux_kernel/drgn.rs"]
mod drgn;

use common::{arg, json};
use debuginfo::kernel::find_kallsyms;
use drgn::{Drgn, Frame};
use evidence::bytes::Endian;
use evidence::{Addr, Target as _};
use kernel_dumps::linux::LinuxDump;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use testdata::fixtures::fixture;

/// A tiny kernel and its file, and Debian's kernel without one.
const TINY: [&str; 3] =
    ["linux-kernel/tiny/tiny.zstd-d31", "linux-kernel/tiny/vmlinux-tiny.zst", "linux-kernel/tiny/tiny.drgn.txt"];
const DEBIAN: [&str; 2] = ["linux-kernel/debian/null.full.kdump", "linux-kernel/debian/null.drgn.txt"];

/// Threads of idle tasks of further CPUs are numbered above all pids.
const IDLE: u64 = 1 << 32;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn threads(document: &Value) -> BTreeMap<u64, &Value> {
    let list = document["threads"].as_array().unwrap();
    list.iter().map(|t| (t["id"].as_u64().unwrap(), t)).filter(|(id, _)| *id != 0 && *id < IDLE).collect()
}

/// The compiler's suffixes of parts and copies of functions, which DWARF does not show.
fn plain(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn ours(thread: &Value) -> Vec<Frame> {
    let frame = |f: &Value| {
        let function = f["function"].as_str().map(|n| plain(n).to_owned());
        Frame {
            name: function.unwrap_or_else(|| text(f, "pc").to_owned()),
            file: f["file"].as_str().map(str::to_owned),
            line: f["line"].as_u64(),
            column: f["column"].as_u64(),
            module: f["module"].as_str().map(str::to_owned),
        }
    };
    thread["frames"].as_array().unwrap().iter().map(frame).collect()
}

/// What the states of `ps` are called.
fn state(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk-sleep",
        'T' => "stopped",
        't' => "traced",
        'X' => "dead",
        'Z' => "zombie",
        'P' => "parked",
        'I' => "idle",
        other => panic!("state {other}"),
    }
}

/// Tasks, modules, log and cause of death are drgn's.
fn check_facts(document: &Value, expected: &Drgn) {
    let threads = threads(document);
    let pids: Vec<u64> = expected.tasks.iter().map(|t| t.pid).collect();
    assert_eq!(threads.keys().copied().collect::<Vec<_>>(), pids, "the tasks");
    for task in &expected.tasks {
        let thread = threads[&task.pid];
        assert_eq!(text(thread, "name"), task.comm, "pid {}", task.pid);
        assert_eq!(thread["pid"].as_u64(), Some(task.tgid), "pid {}", task.pid);
        assert_eq!(thread["cpu"].as_u64(), Some(task.cpu), "pid {}", task.pid);
        assert_eq!(text(thread, "state"), state(task.state), "pid {}", task.pid);
    }
    assert_eq!(document["event"]["thread"].as_u64(), Some(expected.crashed), "{}", document["event"]);
    assert_eq!(text(&document["event"], "message"), "Fatal exception");
    assert_eq!(text(&document["event"], "address"), "0x28");
    assert_eq!(text(&document["identity"], "release"), expected.release);
    let mut modules: Vec<(String, String)> = document["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (text(m, "path").to_owned(), text(m, "base").to_owned()))
        .collect();
    modules.retain(|(name, _)| name != "vmlinux");
    let mut names = expected.modules.clone();
    modules.sort();
    names.sort();
    assert_eq!(modules, names, "the modules");
    let lines = document["log"].as_array().unwrap().iter().map(|r| {
        let ns = r["time"].as_u64().unwrap();
        format!("[{:5}.{:06}] {}", ns / 1_000_000_000, ns / 1000 % 1_000_000, text(r, "text"))
    });
    let lines: Vec<String> = lines.collect();
    assert_eq!(lines.len(), expected.log.len());
    for (line, theirs) in lines.iter().zip(&expected.log) {
        // drgn prints the time before the first line of a record only; we do as dmesg does.
        let later = !theirs.starts_with('[') && line.split_once("] ").is_some_and(|(_, text)| text == theirs);
        assert!(line == theirs || later, "{line:?} where drgn has {theirs:?}");
    }
}

/// The stacks of the dump: the crashed one and every task's, with the pid.
fn stacks<'d>(document: &Value, expected: &'d Drgn) -> Vec<(u64, Vec<Frame>, &'d [Frame])> {
    let threads = threads(document);
    expected.tasks.iter().map(|t| (t.pid, ours(threads[&t.pid]), t.frames.as_slice())).collect()
}

/// With the kernel's file, everything is the same: function, file, line, column, inlined calls.
#[test]
fn with_the_kernels_file() {
    let [Some(dump), Some(packed), Some(theirs)] = TINY.map(fixture) else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmlinux = dir.path().join("vmlinux");
    unpack(&packed, &vmlinux);
    let Some(packed) = fixture("linux-kernel/tiny/lkfault.ko.zst") else { return };
    unpack(&packed, &dir.path().join("lkfault.ko"));
    let files = ["--kernel", arg(&vmlinux), "--symbols", arg(dir.path())];
    let document = json(&[&["bt", "--json", "--no-variables", arg(&dump)], &files[..]].concat());
    let expected = Drgn::parse(&std::fs::read_to_string(theirs).unwrap());
    check_facts(&document, &expected);
    let (mut equal, mut all) = (0, 0);
    for (pid, mine, theirs) in stacks(&document, &expected) {
        assert_eq!(mine.len(), theirs.len(), "pid {pid}: {mine:#?}\n{theirs:#?}");
        for (index, (a, b)) in mine.iter().zip(theirs).enumerate() {
            all += 1;
            let same = a.name == b.name && a.same_place(b);
            equal += usize::from(same);
            if !same {
                println!("pid {pid} frame {index}: {a:?} where drgn has {b:?}");
            }
        }
    }
    println!("{equal} of {all} frames are equal");
    assert!(equal * 1000 >= all * 995, "{equal} of {all}");
}

/// Whether this machine has the kernel's file in a place where it is looked for without being asked.
fn is_installed(document: &Value) -> bool {
    let release = text(&document["identity"], "release");
    let places = ["/usr/lib/debug/boot/vmlinux-", "/usr/lib/debug/lib/modules/", "/boot/vmlinux-", "/lib/modules/"];
    places.iter().any(|place| {
        let path = format!("{place}{release}");
        Path::new(&path).is_file() || ["vmlinux", "build/vmlinux"].iter().any(|f| Path::new(&path).join(f).is_file())
    })
}

/// Without it, the functions are the same but for inlined calls, which only DWARF knows.
fn check_without(dump: &str, theirs: &str, unnamed: &[&str]) {
    let (Some(dump), Some(theirs)) = (fixture(dump), fixture(theirs)) else { return };
    let empty = tempfile::tempdir().unwrap();
    let document = json(&["bt", "--json", arg(&dump), "--symbols", arg(empty.path())]);
    let expected = Drgn::parse(&std::fs::read_to_string(theirs).unwrap());
    check_facts(&document, &expected);
    if is_installed(&document) {
        println!("skipped: the kernel's debug package is installed here, so the dump is not all there is");
        return;
    }
    let (mut equal, mut all) = (0, 0);
    for (pid, mine, theirs) in stacks(&document, &expected) {
        assert_eq!(mine.last().map(|f| &f.name), theirs.last().map(|f| &f.name), "pid {pid}: the outermost frame");
        let mut rest = theirs.iter();
        for (index, frame) in mine.iter().enumerate() {
            all += 1;
            let nameless = frame.module.as_deref().is_some_and(|m| unnamed.contains(&m));
            if nameless {
                // One of drgn's stands for it: functions of the modules are not inlined here.
                let skipped = rest.next().map(|f| f.name.as_str());
                println!(
                    "pid {pid} frame {index}: {} where drgn has {skipped:?}: the module's symbols were left out of the dump",
                    frame.name
                );
                continue;
            }
            match rest.find(|f| f.name == frame.name) {
                Some(_) => equal += 1,
                None => panic!("pid {pid} frame {index}: drgn has no {}: {mine:#?}\n{theirs:#?}", frame.name),
            }
        }
        assert_eq!(rest.next(), None, "pid {pid}");
        assert!(mine.iter().all(|f| f.line.is_none()), "pid {pid}");
    }
    println!("{equal} of {all} frames have drgn's function");
    let nameless = if unnamed.is_empty() { 0 } else { 4 };
    assert!((equal + nameless) * 100 >= all * 99, "{equal} of {all}");
}

#[test]
fn tiny_with_nothing_but_the_dump() {
    check_without(TINY[0], TINY[2], &[]);
}

/// The fixture holds only the pages that drgn touched, and drgn had no need of the modules' own symbols.
#[test]
fn debian_with_nothing_but_the_dump() {
    check_without(DEBIAN[0], DEBIAN[1], &["lkfault"]);
}

/// A file of another build is named, with both build-ids, and not used.
#[test]
fn the_wrong_kernel_file_is_named_and_not_used() {
    let [Some(dump), _] = DEBIAN.map(fixture) else { return };
    let Some(packed) = fixture("linux-kernel/tiny/vmlinux-tiny-nodebug.zst") else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmlinux = dir.path().join("vmlinux");
    unpack(&packed, &vmlinux);
    let document = json(&["bt", "--json", "--threads", "faulting", arg(&dump), "--kernel", arg(&vmlinux)]);
    let doubts = document["doubts"].as_array().unwrap();
    let said = doubts.iter().map(|d| text(d, "why")).find(|w| w.contains("of another build")).unwrap();
    assert!(said.contains("eb4fbcd037e7253717950bf2b93bd5566f47c56f"), "{said}");
    assert!(said.contains("bd2905360705602a0d176dcd4841ba5e40949902"), "{said}");
    let kernel = document["modules"].as_array().unwrap().iter().find(|m| text(m, "path") == "vmlinux").unwrap();
    assert_eq!(text(kernel, "symbols"), "kallsyms", "{kernel}");
    assert_eq!(text(&document["threads"][0]["frames"][0], "function"), "delay_tsc");
}

/// Kernels before 6.0 do not say where their symbols are: a search finds the same places that later ones state.
#[test]
fn the_symbol_table_is_found_without_being_stated() {
    for path in [TINY[0], DEBIAN[0]] {
        let Some(file) = fixture(path) else { return };
        let dump = LinuxDump::open(&file).unwrap();
        let stated = |name: &str| dump.vmcoreinfo().symbol(&format!("kallsyms_{name}")).map(Addr);
        let found = find_kallsyms(dump.memory(), Endian::Little, Addr(dump.vmcoreinfo().symbol("_stext").unwrap()));
        let best = found.first().unwrap();
        assert_eq!(Some(best.token_table), stated("token_table"), "{path}");
        assert_eq!(Some(best.token_index), stated("token_index"), "{path}");
        assert_eq!(Some(best.names), stated("names"), "{path}");
        assert_eq!(Some(best.count), stated("num_syms"), "{path}");
        assert_eq!((best.offsets, best.relative_base), (stated("offsets"), stated("relative_base")), "{path}");
    }
}

fn unpack(from: &Path, to: &Path) {
    let mut out = std::fs::File::create(to).unwrap();
    zstd::stream::copy_decode(std::fs::File::open(from).unwrap(), &mut out).unwrap();
}
