//! Counts the instructions of the hot paths, under valgrind's callgrind, and compares them with what was recorded.
//!
//! Unlike times, such counts are nearly the same on every machine and beside any other work. What differs is the compiler's
//! doing: the limits leave room for that, and `--record` writes the counts anew.

use crate::bench::crash;
use crate::steps::{root, run};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::workload::{self, Size};

/// A count may be so many times the recorded one.
const MOST: f64 = 1.3;
/// The second 200 threads may take so many times the instructions of the first; three times would be quadratic.
const MOST_FOR_NEXT: f64 = 1.5;
/// What the cache knows takes at most this part of finding it out.
const MOST_WITH_CACHE: f64 = 0.5;

/// What is needed and is not there.
pub fn missing() -> Option<&'static str> {
    let found = Command::new("valgrind").arg("--version").output().is_ok_and(|o| o.status.success());
    (!found).then_some("valgrind is not installed")
}

fn recorded() -> PathBuf {
    root().join("ci/instructions.tsv")
}

/// Counts, and compares or records.
pub fn check(record: bool) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--profile", "counted", "--locked", "--package", "postfault-cli"];
    run("build what is counted", Command::new(cargo).args(build))?;
    let postfault = root().join("target/counted/postfault");
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let small = workload::build(Size::Small, &[]).map_err(|e| e.to_string())?;
    let core = |threads| crash(&small, folder.path(), threads, 0, 0).map(|path| path.display().to_string());
    let (one, some, twice) = (core(1)?, core(200)?, core(400)?);
    let kernel = root().join("testdata/kernel-dumps/sysrq.kdump").display().to_string();
    let cache = folder.path().join("cache").display().to_string();
    let mut counts = Vec::new();
    for (name, words) in [
        ("bt, 1 thread, no cache", vec!["--no-cache", &one]),
        ("bt, 1 thread, into the cache", vec!["--cache-dir", &cache, &one]),
        ("bt, 1 thread, from the cache", vec!["--cache-dir", &cache, &one]),
        ("bt --locals, 1 thread", vec!["--no-cache", "--locals", &one]),
        ("bt, 200 threads", vec!["--no-cache", &some]),
        ("bt, 400 threads", vec!["--no-cache", &twice]),
        ("bt, a kernel's tasks, from the dump alone", vec!["--no-cache", "--no-variables", &kernel]),
    ] {
        let count = instructions(&postfault, &words)?;
        println!("{count:>14} instructions: {name}");
        counts.push((name, count));
    }
    let of = |name: &str| counts.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, count)| float(*count));
    let mut wrong = Vec::new();
    let mut hold = |what: &str, ratio: f64, most: f64| {
        println!("{ratio:.2}, at most {most}: {what}");
        if ratio.is_nan() || ratio > most {
            wrong.push(format!("{what}: {ratio:.2} times, at most {most}"));
        }
    };
    let (one, some, twice) = (of("bt, 1 thread, no cache"), of("bt, 200 threads"), of("bt, 400 threads"));
    hold("the second 200 threads to the first", (twice - some) / (some - one), MOST_FOR_NEXT);
    let cached = of("bt, 1 thread, from the cache") / of("bt, 1 thread, no cache");
    hold("from the cache to without one", cached, MOST_WITH_CACHE);
    if record {
        let mut text =
            String::from("# Instructions of whole commands; `cargo xtask instructions --record` writes this.\n");
        for (name, count) in &counts {
            let _ = writeln!(text, "{name}\t{count}");
        }
        std::fs::write(recorded(), text).map_err(|e| format!("{}: {e}", recorded().display()))?;
    } else {
        let old = std::fs::read_to_string(recorded()).map_err(|e| format!("{}: {e}", recorded().display()))?;
        for (name, count) in &counts {
            let line = old.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
            let line = line.ok_or_else(|| format!("{} has no line for {name}", recorded().display()))?;
            hold(&format!("{name}, to what was recorded"), float(*count) / float(line), MOST);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn float(count: u64) -> f64 {
    u32::try_from(count >> 10).map_or(f64::NAN, f64::from)
}

/// Instructions of all threads of one run of `bt`.
fn instructions(postfault: &Path, words: &[&str]) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(postfault)
        .arg("bt")
        .args(words)
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("bt {}: {}: {said}", words.join(" "), output.status));
    }
    collected(&said).ok_or_else(|| format!("callgrind said no count: {said}"))
}

/// The count in `==4711== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|l| l.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_in_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== nothing"), None);
    }
}
