//! Real programs that die: what the kernel reports and what their instructions are, read by gdb, must lead to the
//! class that each victim is about.

mod common;
mod probe;

use probe::probe;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testdata::victims;

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
        // gdb 13.1 dies of SIGSEGV on a DWARF 5 package file (index version 5).
        .filter(|(_, w)| *w != "clang-split-dwp" && (all || plain.contains(w)))
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
