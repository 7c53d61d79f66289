//! Minidumps of many threads, of much memory, and with a large symbol file, beside minidump-stackwalk.

use super::sample::{Sample, Spread, once, spread};
use super::scratch;
use std::path::Path;
use std::process::Command;
use testdata::minidump::{ID, MODULE, Threads, symbol_file};

/// The size of the measurement.
const THREADS: u32 = 10_000;
/// As JSON, all threads are printed at least so many times faster than by the peer.
const LEAST_FASTER: f64 = 20.0;
/// In at most this much memory, KiB.
const MOST_PEAK: f64 = 300.0 * 1024.0;
/// Memory of the large dump.
const LARGE: u64 = 500 << 20;
/// The large dump opens in at most this much memory, KiB.
const MOST_PEAK_LARGE: f64 = 50.0 * 1024.0;
/// Bytes of the large symbol file.
const SYMBOLS: u64 = 1 << 30;
/// The frames of a stack are named in at most this part of the time of reading the symbol file whole.
const LEAST_PART: f64 = 20.0;

/// Measures everything about minidumps; `peer` is minidump-stackwalk, if it is not in PATH under that name.
pub fn measure(postfault: &Path, runs: usize, peer: Option<&Path>) -> Result<(), String> {
    let peer = peer.map_or_else(|| "minidump-stackwalk".to_owned(), |p| p.display().to_string());
    let there = Command::new(&peer).arg("--version").output().ok().filter(|o| o.status.success());
    match &there {
        Some(output) => println!("peer: {}", String::from_utf8_lossy(&output.stdout).trim()),
        None => println!("peer: {peer} is not installed; ratios to it are left out"),
    }
    let bench = Bench { postfault: postfault.display().to_string(), peer: there.map(|_| peer), runs };
    let failed: Vec<String> =
        [bench.threads(), bench.large(), bench.symbols()].into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

struct Bench {
    postfault: String,
    peer: Option<String>,
    runs: usize,
}

impl Bench {
    /// The samples of two commands that take turns; the first round is not counted.
    fn turns(&self, commands: &[Vec<String>]) -> Result<Vec<Vec<Sample>>, String> {
        let mut samples = vec![Vec::new(); commands.len()];
        for round in 0..=self.runs {
            for (command, list) in commands.iter().zip(&mut samples) {
                let sample = once(command, None)?;
                if round > 0 || self.runs == 0 {
                    list.push(sample);
                }
            }
        }
        Ok(samples)
    }

    fn threads(&self) -> Result<(), String> {
        let folder = scratch()?;
        let dump = folder.path().join("threads.dmp");
        let made = Threads { threads: THREADS, ..Threads::default() };
        made.write(&dump).map_err(|e| e.to_string())?;
        println!("minidump of {THREADS} threads of {} frames, no two stacks alike, as JSON", made.frames);
        let mut commands = vec![words(&[&self.postfault, "bt", "--json", "--no-cache", &text(&dump)])];
        commands.extend(self.peer.as_ref().map(|peer| words(&[peer, "--json", &text(&dump)])));
        let samples = self.turns(&commands)?;
        let ours = row("postfault bt --json", &samples[0]);
        let theirs = samples.get(1).map(|s| row("minidump-stackwalk --json", s));
        if let Some(theirs) = theirs {
            let (faster, lighter) = (theirs.0.median / ours.0.median, theirs.1.median / ours.1.median);
            println!("  {faster:.1} times faster, in 1/{lighter:.1} of the memory");
            if faster < LEAST_FASTER {
                return Err(format!("{THREADS} threads: {faster:.1} times faster, {LEAST_FASTER} times are promised"));
            }
        }
        at_most("the dump of many threads", ours.1, MOST_PEAK)
    }

    fn large(&self) -> Result<(), String> {
        let folder = scratch()?;
        let dump = folder.path().join("large.dmp");
        Threads { memory: LARGE, ..Threads::default() }.write(&dump).map_err(|e| e.to_string())?;
        println!("minidump with {} MiB in its Memory64List", LARGE >> 20);
        let mut commands = vec![words(&[&self.postfault, "bt", "--json", "--no-cache", &text(&dump)])];
        commands.extend(self.peer.as_ref().map(|peer| words(&[peer, "--json", &text(&dump)])));
        let samples = self.turns(&commands)?;
        let ours = row("postfault bt --json", &samples[0]);
        samples.get(1).map(|s| row("minidump-stackwalk --json", s));
        at_most("the large dump", ours.1, MOST_PEAK_LARGE)
    }

    fn symbols(&self) -> Result<(), String> {
        let folder = scratch()?;
        let place = folder.path().join(MODULE).join(ID);
        std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        let file = place.join(format!("{MODULE}.sym"));
        let functions = symbol_file(&file, SYMBOLS).map_err(|e| e.to_string())?;
        let dump = folder.path().join("symbols.dmp");
        let made = Threads { functions, ..Threads::default() };
        made.write(&dump).map_err(|e| e.to_string())?;
        println!("symbol file of {} MiB, {functions} functions; a stack of {} frames", SYMBOLS >> 20, made.frames);
        let store = text(folder.path());
        let mut commands = vec![
            words(&[&self.postfault, "bt", "--json", "--no-cache", "--symbols", &store, &text(&dump)]),
            words(&["wc", "-l", &text(&file)]),
        ];
        commands.extend(self.peer.as_ref().map(|p| words(&[p, "--json", "--symbols-path", &store, &text(&dump)])));
        let named = named(&commands[0])?;
        let samples = self.turns(&commands)?;
        let ours = row("postfault bt --json", &samples[0]);
        let read = row("wc -l: its lines counted", &samples[1]);
        let peer = samples.get(2).map(|s| row("minidump-stackwalk: all of it read", s));
        println!("  {named} frames named; 1/{:.1} of counting its lines", read.0.median / ours.0.median);
        if named as u64 != made.frames {
            return Err(format!("{named} of {} frames have the function's name", made.frames));
        }
        if let Some(peer) = peer {
            let part = peer.0.median / ours.0.median;
            println!("  1/{part:.1} of reading it whole as the peer does");
            if part < LEAST_PART {
                return Err(format!("names take 1/{part:.1} of reading the file whole, 1/{LEAST_PART} is promised"));
            }
        }
        Ok(())
    }
}

/// Frames of the first thread that are named after one of the made functions.
fn named(command: &[String]) -> Result<usize, String> {
    let (program, rest) = command.split_first().ok_or("no command")?;
    let output = Command::new(program).args(rest).output().map_err(|e| e.to_string())?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    let frames = value["threads"][0]["frames"].as_array().cloned().unwrap_or_default();
    let is_named = |f: &serde_json::Value| f["function"].as_str().is_some_and(|n| n.starts_with("busy::part"));
    Ok(frames.iter().filter(|f| is_named(f)).count())
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Prints one line of a table; gives wall time and peak memory.
fn row(name: &str, samples: &[Sample]) -> (Spread, Spread) {
    let (wall, cpu, peak) = (spread(samples, |s| s.wall), spread(samples, |s| s.cpu), spread(samples, |s| s.peak));
    println!(
        "  {name:<36} wall {:.3} s ({:.3} to {:.3}); cpu {:.3} s; peak {:.1} MiB; {} runs",
        wall.median,
        wall.least,
        wall.most,
        cpu.median,
        peak.median / 1024.0,
        samples.len()
    );
    (wall, peak)
}

fn at_most(what: &str, peak: Spread, most: f64) -> Result<(), String> {
    if peak.median <= most {
        return Ok(());
    }
    Err(format!("{what} takes {:.0} MiB, at most {:.0} are promised", peak.median / 1024.0, most / 1024.0))
}
