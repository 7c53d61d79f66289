//! Every shared dump against what two other tools say of it; and synthetic ones.

use super::*;
use evidence::{Addr, Arch};
use serde_json::Value;
use std::path::PathBuf;

fn dumps() -> Vec<PathBuf> {
    let mut out = Vec::new();
    for folder in ["minidump/breakpad", "minidump/llvm"] {
        let Some(folder) = testdata::fixtures::fixture(folder) else { continue };
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        out.extend(files.filter(|p| p.extension().is_some_and(|e| e == "dmp")));
    }
    out.sort();
    out
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// minidump-stackwalk's answer, where it gave one.
fn oracle(path: &Path) -> Option<Value> {
    let json = path.parent()?.join("oracle").join(format!("{}.minidump-stackwalk.json", stem(path)));
    serde_json::from_slice(&std::fs::read(json).ok()?).ok()
}

fn load(path: &Path) -> Minidump {
    open(path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn hex_number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

#[test]
fn no_dump_is_rejected_and_all_say_what_they_are() {
    for path in dumps() {
        let dump = load(&path);
        assert!(!dump.threads.is_empty(), "{}", path.display());
        assert!(!dump.images.is_empty(), "{}", path.display());
        let doubts: Vec<_> = dump.gaps.doubts.iter().map(|d| &*d.why).collect();
        if !stem(&path).contains("mips") {
            assert!(dump.threads.iter().all(|t| t.registers.pc().is_some()), "{}", path.display());
            assert_ne!(dump.identity.arch, Arch::Other, "{}", path.display());
        }
        println!("{}: {:?} {:?} {doubts:?}", stem(&path), dump.identity.os, dump.identity.arch);
    }
}

#[test]
fn modules_are_those_of_minidump_stackwalk() {
    let mut compared = 0;
    for path in dumps() {
        let Some(oracle) = oracle(&path) else { continue };
        let dump = load(&path);
        for theirs in oracle["modules"].as_array().into_iter().flatten() {
            let at = format!("{}: {}", stem(&path), theirs["filename"]);
            let base = Addr(hex_number(&theirs["base_addr"]).unwrap());
            let hint = dump.images.iter().find(|i| i.base == base).unwrap_or_else(|| panic!("{at}: not there"));
            let id = dump.module_ids.iter().find(|i| i.base == base).unwrap();
            assert_eq!(hint.size, hex_number(&theirs["end_addr"]).map(|end| end - base.0), "{at}");
            let name = hint.path.as_deref().map(|p| p.rsplit(['/', '\\']).next().unwrap());
            assert_eq!(name, theirs["filename"].as_str(), "{at}");
            // Their debug id of a module without one is a string of zeros.
            let known = theirs["debug_id"].as_str().filter(|i| i.bytes().any(|b| b != b'0'));
            // The age has capital digits as Breakpad writes it, small ones as they do.
            let lower = id.debug_id.as_deref().map(str::to_ascii_lowercase);
            assert_eq!(lower, known.map(str::to_ascii_lowercase), "{at}");
            let code = theirs["code_id"].as_str().filter(|c| !c.is_empty());
            if dump.identity.os == Os::Windows {
                assert_eq!(id.code_id.as_deref().map(str::to_ascii_lowercase).as_deref(), code, "{at}");
            } else if let (Some(ours), Some(theirs)) = (id.code_id.as_deref(), code) {
                assert_eq!(ours, theirs, "{at}");
            }
            compared += 1;
        }
        assert_eq!(oracle["modules"].as_array().map_or(0, Vec::len), dump.images.len(), "{}", stem(&path));
    }
    println!("{compared} modules");
}

#[test]
fn threads_and_crash_address_are_those_of_minidump_stackwalk() {
    for path in dumps() {
        let Some(oracle) = oracle(&path) else { continue };
        let dump = load(&path);
        let name = stem(&path);
        let theirs = oracle["threads"].as_array().unwrap();
        let mut ours: Vec<u64> = dump.threads.iter().map(|t| t.id.0).collect();
        let mut expected: Vec<u64> = theirs.iter().filter_map(|t| t["thread_id"].as_u64()).collect();
        // They list the thread that wrote the dump as well.
        let writer = dump.attributes.iter().find(|a| &*a.key == "breakpad.dump_thread");
        ours.extend(writer.map(|w| w.value.parse::<u64>().unwrap()));
        ours.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ours, expected, "{name}");
        for (thread, frame) in theirs.iter().map(|t| (t, &t["frames"][0])) {
            let Some(ours) = dump.threads.iter().find(|o| Some(o.id.0) == thread["thread_id"].as_u64()) else {
                continue;
            };
            assert_eq!(ours.registers.pc(), hex_number(&frame["offset"]).map(Addr), "{name}");
            assert_eq!(ours.name.as_deref(), thread["thread_name"].as_str().filter(|n| !n.is_empty()), "{name}");
            for (register, value) in frame["registers"].as_object().into_iter().flatten() {
                let number = evidence::register_number(dump.identity.arch, &register.replace("efl", "eflags"));
                if let Some(number) = number {
                    assert_eq!(ours.registers.get(number), hex_number(value), "{name} {register}");
                }
            }
        }
        let crash = &oracle["crash_info"];
        let Some(event) = &dump.event else {
            assert!(crash["type"].is_null(), "{name}: {}", crash["type"]);
            continue;
        };
        let address = event.signal.and_then(|s| s.address);
        let pc = dump.threads.iter().find(|t| Some(t.id) == event.thread).and_then(|t| t.registers.pc());
        let theirs = hex_number(&crash["address"]).map(Addr);
        let kind = crash["type"].as_str().unwrap_or_default();
        if kind.starts_with("SIGABRT") {
            // What they print is the number of the sender and of its user.
            assert_eq!(address, None, "{name}");
            let signal = event.signal.unwrap();
            assert_eq!(signal.sender_pid, theirs.map(|a| a.0 & 0xffff_ffff), "{name}");
        } else if let Some(address) = address {
            assert_eq!(Some(address), theirs, "{name} {kind}");
        } else if event.signal.is_some() {
            // No data address: theirs is where the program stood.
            assert_eq!(pc, theirs, "{name} {kind}");
        }
    }
}

#[test]
fn memory_is_what_the_ranges_say() {
    for path in dumps() {
        let Some(oracle) = oracle(&path) else { continue };
        let dump = load(&path);
        for thread in &dump.threads {
            let sp = thread.registers.sp().unwrap();
            let mut word = [0; 8];
            let (got, why) = dump.memory.read(sp, &mut word);
            assert!(got > 0 || thread.stack.is_none() || why.is_some(), "{}", path.display());
        }
        let extents = dump.memory.extents();
        assert!(extents.windows(2).all(|w| w[0].range.end <= w[1].range.start), "{}", path.display());
        let _ = oracle;
    }
}

/// Any number of annotations may name the same long text: a small file would become gigabytes.
#[test]
fn annotations_that_share_a_long_text_are_bounded() {
    let (count, length) = (60_000_u32, 200_000_u32);
    let mut words = vec![0x504d_444d, 0xa793, 1, 32, 0, 0, 0, 0, CRASHPAD_INFO, 52, 44];
    // Behind these: version and two numbers of 16 bytes, then the place of the pairs, and that of the modules.
    let (pairs_at, text_at) = (96, 96 + 4 + count * 8);
    words.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 4 + count * 8, pairs_at, 0, 0]);
    words.push(count);
    words.extend((0..count).flat_map(|_| [text_at, text_at]));
    words.push(length);
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend(vec![b'a'; usize::try_from(length).unwrap()]);
    bytes.push(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let dump = load(file.path());
    let kept: usize = dump.attributes.iter().map(|a| a.key.len() + a.value.len()).sum();
    assert!((8 << 20..17 << 20).contains(&kept), "{kept} bytes are kept");
    assert!(dump.gaps.doubts.iter().any(|d| d.why.contains("the rest is left out")), "{:?}", dump.gaps.doubts);
}
