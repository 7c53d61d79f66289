//! Real programs that die: what the kernel reports and what their instructions are, read by gdb, must lead to the
//! class that each victim is about.

mod common;

use snapshot_format::Snapshot;
use snapshot_format::schema::*;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testdata::victims;

/// Runs the program under gdb until it stops, and reads the rows.
fn probe(program: &Path, folder: &Path) -> Result<Snapshot, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/probe.py");
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "gdb", "-nx", "-batch", "-x"])
        .args([script.as_path(), program])
        .current_dir(folder)
        .env("LC_ALL", "C")
        .env_remove("DEBUGINFOD_URLS")
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut s = Snapshot::default();
    s.identity.origin = "live".into();
    s.identity.os = "linux".into();
    s.identity.arch = "x86_64".into();
    let mut event = Event::default();
    let mut limits = String::new();
    let mut thread = Thread { faulting: true, context: "lwp".into(), stack: Some(0), ..Thread::default() };
    for line in text.lines().filter_map(|l| l.strip_prefix("PF\t")) {
        let f: Vec<&str> = line.split('\t').collect();
        let n = |at: usize| f[at].parse::<u64>().unwrap();
        match f[0] {
            "pid" => s.identity.pid = Some(n(1)),
            "tid" => thread.id = n(1),
            "si_signo" => event.signal = f[1].parse().ok(),
            "si_code" => event.code = f[1].parse().ok(),
            "si_addr" => event.address = Some(n(1)),
            "si_pid" => event.sender_pid = Some(n(1)),
            "frame" => s.frames.push(Frame {
                pc: n(1),
                inline: f[2] == "inline",
                signal_frame: f[2] == "signal",
                function: (!f[3].is_empty()).then(|| f[3].to_owned()),
                ..Frame::default()
            }),
            "register" => {
                let row =
                    RegisterValue { thread: thread.id, frame: f[1].parse().unwrap(), name: f[2].into(), value: n(3) };
                s.registers.push(row);
            }
            "bytes" => {
                let bytes: Vec<u8> =
                    (0..f[2].len() / 2).map(|i| u8::from_str_radix(&f[2][2 * i..2 * i + 2], 16).unwrap()).collect();
                s.memory.push(MemoryExtent {
                    address: n(1),
                    length: bytes.len() as u64,
                    bytes,
                    ..MemoryExtent::default()
                });
            }
            "map" => s.mappings.push(Mapping {
                start: n(1),
                end: n(2),
                protection: f[3].into(),
                file_offset: n(4),
                path: (!f[5].is_empty()).then(|| f[5].to_owned()),
                deleted: false,
            }),
            "limit" => limits.push_str(&format!("{}\n", f[1])),
            other => return Err(format!("unknown line {other}")),
        }
    }
    if s.frames.is_empty() {
        return Err(format!("gdb said\n{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    s.stacks = vec![Stack { first: 0, count: s.frames.len() as u32 }];
    event.thread = Some(thread.id);
    s.threads.push(thread);
    s.event = Some(event);
    s.attributes.push(Attribute { key: "proc.limits".into(), thread: None, value: limits });
    Ok(s)
}

fn judge(victim: &victims::Victim, variant: &str) -> Result<(), String> {
    let program = victims::build(victim.name, variant).map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let snapshot = probe(&program, folder.path())?;
    let found = analysis::classify(&snapshot);
    let report = common::report(&common::Crash(snapshot.clone()));
    println!("{} {variant}: {report}", victim.name);
    let first = found.first().map_or("", |(f, _)| f.class.as_str());
    if first != victim.class {
        return Err(format!("found {first:?}, expected {}\n{:?}\n{report}", victim.class, snapshot.event));
    }
    if found.iter().any(|(f, _)| f.class == "inconsistent") {
        return Err(format!("contradicts itself:\n{report}"));
    }
    Ok(())
}

#[test]
fn every_victim_gets_its_class() {
    if Command::new("gdb").arg("--version").output().is_err() {
        assert!(std::env::var_os("POSTFAULT_REQUIRE_PEERS").is_none(), "gdb is not installed");
        println!("skipped: gdb is not installed");
        return;
    }
    // Every variant on request; the optimised one of each victim otherwise.
    let all = std::env::var_os("POSTFAULT_ALL_VARIANTS").is_some();
    let plain = ["gcc-O2", "rust-O2"];
    let jobs: Vec<_> = victims::all()
        .iter()
        .filter(|v| {
            v.signal.is_some() && v.class != "abort" || ["abort", "pure_virtual", "rust_abort"].contains(&v.name)
        })
        .flat_map(|v| v.variants.iter().map(move |w| (v, *w)))
        .filter(|(_, w)| all || plain.contains(w))
        .collect();
    assert!(jobs.len() > 20, "only {} victims", jobs.len());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((victim, variant)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = judge(victim, variant) {
                        wrong.lock().unwrap().push(format!("{} {variant}: {e}", victim.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), jobs.len(), wrong.join("\n"));
}
