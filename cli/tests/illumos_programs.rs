//! A program's core with the notes of Linux, and the same memory and registers with those of illumos: told apart, and
//! the same frames, variables and findings. What gdb makes of both is looked at as well.

mod common;

use common::{arg, json};
use serde_json::Value;
use std::path::Path;
use testdata::elfcore::{Contents, CoreBuilder};

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Types and bodies of all notes, and address, size in memory, flags and bytes of all segments.
type Parts = (Vec<(usize, Vec<u8>)>, Vec<(u64, u64, u32, Vec<u8>)>);

fn parts(core: &[u8]) -> Parts {
    let (mut notes, mut loads) = (Vec::new(), Vec::new());
    let (table, count) = (word(core, 32) as usize, u16::from_le_bytes(core[56..58].try_into().unwrap()));
    for header in (0..usize::from(count)).map(|n| &core[table + n * 56..]) {
        let (offset, size) = (word(header, 8) as usize, word(header, 32) as usize);
        let bytes = core.get(offset..offset + size).unwrap().to_vec();
        match half(header, 0) {
            1 => loads.push((word(header, 16), word(header, 40), half(header, 4) as u32, bytes)),
            4 => {
                let mut at = 0;
                while at + 12 <= bytes.len() {
                    let (name, body) = (half(&bytes, at), half(&bytes, at + 4));
                    let start = at + 12 + name.next_multiple_of(4);
                    notes.push((half(&bytes, at + 8), bytes[start..start + body].to_vec()));
                    at = start + body.next_multiple_of(4);
                }
            }
            _ => {}
        }
    }
    (notes, loads)
}

/// `elf_prstatus`'s registers by their places in illumos's `gregset_t` (sys/regset.h); trapno and err are not among them.
const PLACES: [Option<usize>; 27] = [
    Some(0),
    Some(1),
    Some(2),
    Some(3),
    Some(10),
    Some(11),
    Some(4),
    Some(5),
    Some(6),
    Some(7),
    Some(14),
    Some(13),
    Some(12),
    Some(9),
    Some(8),
    None,
    Some(17),
    Some(18),
    Some(19),
    Some(20),
    Some(21),
    Some(26),
    Some(27),
    Some(25),
    Some(24),
    Some(22),
    Some(23),
];

/// The core with the notes that illumos would have written, the old ones first.
fn of_illumos(linux: &[u8]) -> Vec<u8> {
    let (notes, loads) = parts(linux);
    let body = |kind: usize| notes.iter().find(|(k, _)| *k == kind).map(|(_, b)| b.clone()).unwrap();
    let (status, info) = (body(1), body(0x5349_4749));
    let mut lwp = vec![0; 1296];
    lwp[4] = 1;
    lwp[12..14].copy_from_slice(&info[..2]);
    // signo, errno, code there; signo, code, errno here.
    for (from, to) in [(0, 16), (8, 20), (4, 24)] {
        lwp[to..to + 4].copy_from_slice(&info[from..from + 4]);
    }
    lwp[32..40].copy_from_slice(&info[16..24]);
    for (n, place) in PLACES.iter().enumerate().filter_map(|(n, p)| Some((n, (*p)?))) {
        lwp[544 + place * 8..552 + place * 8].copy_from_slice(&status[112 + n * 8..120 + n * 8]);
    }
    // A read of a page that is not there.
    lwp[544 + 15 * 8] = 14;
    lwp[544 + 16 * 8] = 4;
    let mut process = vec![0; 384];
    process[8] = 77;
    process.extend(&lwp);
    let mut facts = vec![0; 416];
    facts[8] = 77;
    facts[136..140].copy_from_slice(b"prog");
    let mut state = vec![0; 128];
    (state[4], state[26]) = (1, b'O');
    let mut core = CoreBuilder::new(true, false, 62)
        .note("CORE", 3, &body(3))
        .note("CORE", 1, &[0; 336])
        .next_note_segment()
        .note("CORE", 13, &facts)
        .note("CORE", 10, &process)
        .note("CORE", 6, &body(6))
        .note("CORE", 17, &state)
        .note("CORE", 16, &lwp);
    for (at, size, flags, bytes) in loads {
        core = core.load(at, size, flags, Contents::Bytes(bytes));
    }
    core.build()
}

/// What gdb says is in the program counter.
fn of_gdb(program: &Path, core: &Path) -> Option<String> {
    let out = std::process::Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "printf \"pc=%#lx\\n\", $rip", arg(program), arg(core)])
        .env_remove("DEBUGINFOD_URLS")
        .output()
        .map_err(|e| eprintln!("skipped: gdb: {e}"))
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("pc=")).map(str::to_owned)
}

/// Function, line and variables of the program's own frames.
fn frames(found: &Value) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.to_string();
    let all = found["threads"][0]["frames"].as_array().unwrap();
    let main = all.iter().position(|f| f["function"] == "main").unwrap_or_else(|| panic!("no main: {found}"));
    all[..=main].iter().map(|f| (text(&f["function"]), text(&f["line"]), text(&f["variables"]))).collect()
}

#[test]
fn cores_that_differ_in_their_notes_only() {
    ["gcc-O0", "static"].into_iter().for_each(told_apart);
}

fn told_apart(variant: &str) {
    let Some(linux) = common::core("null_deref", variant) else { return };
    let program = testdata::victims::build("null_deref", variant).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let illumos = folder.path().join("core");
    std::fs::write(&illumos, of_illumos(&std::fs::read(&linux).unwrap())).unwrap();
    let look = |core: &Path| json(&["show", arg(core), "--exe", arg(&program), "--json"]);
    let (theirs, ours) = (look(&linux), look(&illumos));
    assert_eq!((&theirs["identity"]["os"], &ours["identity"]["os"]), (&"linux".into(), &"illumos".into()));
    let pc = |found: &Value| found["threads"][0]["frames"][0]["pc"].as_str().unwrap().to_owned();
    assert_eq!(pc(&theirs), pc(&ours));
    assert_eq!(theirs["event"]["address"], ours["event"]["address"]);
    assert_eq!(frames(&theirs), frames(&ours));
    assert!(frames(&ours).iter().any(|(_, _, variables)| variables.contains("\"value\"")), "{ours}");
    let classes = |found: &Value| {
        let list = found["findings"].as_array().unwrap();
        list.iter().map(|f| f["class"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((classes(&theirs)[0].as_str(), classes(&ours)[0].as_str()), ("null-deref", "null-deref"));
    // gdb agrees on the core of Linux. The other it takes for one of Linux as well, and is wrong about the registers.
    if let (Some(right), wrong) = (of_gdb(&program, &linux), of_gdb(&program, &illumos)) {
        assert_eq!(right, pc(&theirs));
        println!("gdb: {right} in the core of Linux, {wrong:?} in that of illumos, where it is {}", pc(&ours));
    }
}
