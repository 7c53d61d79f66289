//! Every victim, live, as a kernel core and as a gcore: frames equal gdb's and eu-stack's, values equal gdb's.
//!
//! `POSTFAULT_CROSS_CHECK=all` looks at every variant in every way; without it each victim is looked at in one variant
//! per way, which takes turns so that all variants are seen. Differences that are the peer's own are told apart by
//! their reason (`peer-...`) in the comparison; those that remain are listed in [`ARGUED`], each with the proof that the
//! peer is wrong.

mod common;

use common::{arg, postfault};
use std::collections::BTreeMap;
use testdata::victims::{self, Victim};

/// (victim, variant or `*`, peer, reason, proof).
const ARGUED: &[(&str, &str, &str, &str, &str)] = &[];

/// How a victim is looked at.
#[derive(Clone, Copy, Debug)]
enum Way {
    Live,
    KernelCore,
    GdbCore,
}

/// What did not agree, one line each.
fn look(victim: &Victim, variant: &str, way: Way) -> Result<Vec<String>, String> {
    let with = "--with=gdb,eu-stack";
    let mut live = None;
    let source = match way {
        Way::Live => {
            let process = victims::run_live(victim.name, variant, victim.args).map_err(|e| e.to_string())?;
            let pid = process.pid().to_string();
            live = Some(process);
            vec!["--pid".to_owned(), pid]
        }
        Way::KernelCore => match common::core(victim.name, variant) {
            Some(core) => vec![arg(&core).to_owned()],
            None => return Ok(Vec::new()),
        },
        Way::GdbCore => {
            vec![arg(&victims::wait_gcore(victim.name, variant).map_err(|e| e.to_string())?).to_owned()]
        }
    };
    let program = victims::build(victim.name, variant).map_err(|e| e.to_string())?;
    let mut command = postfault();
    command.arg("cross-check").args(&source).args([with, "--json", "--values"]).arg("--exe").arg(&program);
    let separate = victims::separate_debug_dir(&program);
    if separate.is_dir() {
        command.arg("--symbols").arg(separate);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    drop(live);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let mut lines = Vec::new();
    for peer in document["peers"].as_array().into_iter().flatten() {
        if peer["same"] == true {
            continue;
        }
        for d in peer["differences"].as_array().into_iter().flatten() {
            let reason = d["reason"].as_str().unwrap_or_default();
            let name = peer["peer"].as_str().unwrap_or_default();
            let argued = ARGUED
                .iter()
                .any(|a| a.0 == victim.name && (a.1 == "*" || a.1 == variant) && a.2 == name && a.3 == reason);
            if !reason.starts_with("peer-") && !argued {
                lines.push(format!("{} {variant} {way:?} {name}: {d}", victim.name));
            }
        }
        if peer.get("why").is_some() {
            lines.push(format!("{} {variant} {way:?}: {peer}", victim.name));
        }
    }
    Ok(lines)
}

#[test]
fn every_victim_is_seen_as_the_peers_see_it() {
    let all = std::env::var("POSTFAULT_CROSS_CHECK").is_ok_and(|v| v == "all");
    let only = std::env::var("POSTFAULT_VICTIM").ok();
    let mut jobs = Vec::new();
    for (turn, victim) in victims::all().iter().enumerate() {
        if only.as_deref().is_some_and(|o| o != victim.name) {
            continue;
        }
        let ways = [Way::Live, Way::KernelCore, Way::GdbCore];
        for (n, way) in ways.into_iter().enumerate() {
            if victim.signal.is_none() && matches!(way, Way::KernelCore) {
                continue;
            }
            let count = victim.variants.len();
            let chosen: Vec<&str> =
                if all { victim.variants.to_vec() } else { vec![victim.variants[(turn + n) % count]] };
            jobs.extend(chosen.into_iter().map(|variant| (victim, variant, way)));
        }
    }
    let looked = jobs.len();
    // Two at a time: debuggers wait for the disk and for the process as much as they compute.
    let results = capture::for_each_parallel(&jobs, 2, |(victim, variant, way)| {
        look(victim, variant, *way).unwrap_or_else(|e| vec![format!("{} {variant} {way:?}: {e}", victim.name)])
    });
    let lines: Vec<String> = results.into_iter().flatten().collect();
    let mut by_victim: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        *by_victim.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    assert!(lines.is_empty(), "{looked} looks; differences by victim {by_victim:?}\n{}", lines.join("\n"));
}
