//! A Linux kernel dump beside drgn and crash: the thread that crashed, all tasks, and the snapshot's size.
//!
//! Processor time and peak memory of whole processes, without any cache of ours. Processor time is counted in hundredths
//! of a second: each sample of ours is several runs.

use super::sample::{Sample, once, spread};
use super::{scratch, size};
use std::path::{Path, PathBuf};
use std::process::Command;

/// At least so many times less processor time than drgn takes, for the crashed thread and for all tasks.
const LEAST_DRGN: f64 = 5.0;
/// And than crash takes for the crashed thread.
const LEAST_CRASH: f64 = 40.0;
/// At most this part of drgn's peak memory.
const MOST_MEMORY: f64 = 0.25;
/// Largest snapshot with all tasks, stacks, variables and the log.
const MOST_SNAPSHOT: u64 = 3_000_000;
/// Runs of ours in one sample.
const TIMES: u32 = 5;

const CRASHED: &str = "print(prog.crashed_thread().stack_trace())\n";
const ALL: &str = "from drgn.helpers.linux import for_each_task
for task in for_each_task(prog):
    try:
        print(task.pid.value_(), prog.stack_trace(task))
    except ValueError as why:
        print(task.pid.value_(), why)
";

/// What to measure with.
#[derive(clap::Args)]
pub struct Dump {
    /// For `kernel`: the dump of a Linux kernel that panicked.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// For `kernel`: its vmlinux, outside of the places where debug files are looked for.
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// For `kernel`: a module of its own with debug information (repeatable).
    #[arg(long, value_name = "FILE")]
    module: Vec<PathBuf>,
}

/// Measures; fails when something promised does not hold.
pub fn measure(postfault: &Path, runs: usize, options: &Dump) -> Result<(), String> {
    let (Some(dump), Some(vmlinux)) = (&options.dump, &options.vmlinux) else {
        return Err("kernel: --dump and --vmlinux say what is measured".to_owned());
    };
    let folder = scratch()?;
    let text = |path: &Path| path.display().to_string();
    let symbols: Vec<String> = options
        .module
        .iter()
        .filter_map(|m| m.parent())
        .flat_map(|folder| ["--symbols".to_owned(), text(folder)])
        .collect();
    let ours = |threads: &str, with: bool| {
        let mut words = vec![text(postfault), "bt".into(), "--no-cache".into(), "--no-variables".into()];
        words.extend(["--threads".into(), threads.into()]);
        if with {
            words.extend(["--kernel".into(), text(vmlinux)]);
            words.extend(symbols.clone());
        }
        words.push(text(dump));
        let one = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
        vec!["sh".to_owned(), "-ec".into(), format!("for n in $(seq {TIMES}); do {one}; done")]
    };
    let drgn = |script: &str, name: &str| -> Result<Vec<String>, String> {
        let file = folder.path().join(name);
        std::fs::write(&file, script).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut words: Vec<String> = vec!["drgn".into(), "-q".into(), "-c".into(), text(dump)];
        for file in std::iter::once(vmlinux).chain(&options.module) {
            words.extend(["-s".into(), text(file)]);
        }
        words.push(text(&file));
        Ok(words)
    };
    let commands = folder.path().join("commands");
    std::fs::write(&commands, "bt\nquit\n").map_err(|e| e.to_string())?;
    let crash = ["crash", "-s", "--no_crashrc", "-i"].map(str::to_owned).into_iter();
    let crash: Vec<String> = crash.chain([text(&commands), text(vmlinux), text(dump)]).collect();
    let rows = [
        Row::of("crashed thread, vmlinux", ours("faulting", true), TIMES),
        Row::of("crashed thread, dump alone", ours("faulting", false), TIMES),
        Row::of("all tasks, vmlinux", ours("all", true), TIMES),
        Row::of("all tasks, dump alone", ours("all", false), TIMES),
        Row::of("drgn, crashed thread", drgn(CRASHED, "crashed.py")?, 1),
        Row::of("drgn, all tasks", drgn(ALL, "all.py")?, 1),
        Row::of("crash, crashed thread", crash, 1),
    ];
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    let (has_drgn, has_crash) = (there("drgn"), there("crash"));
    println!("kernel dump {} ({} bytes): processor seconds and peak memory", dump.display(), size(dump)?);
    let mut figures = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let missing = (index == 6 && !has_crash) || ((4..6).contains(&index) && !has_drgn);
        figures.push(if missing { None } else { Some(row.measure(runs)?) });
        if missing {
            println!("  {:<28} not installed: its ratios are left out", row.name);
        }
    }
    let mut failed = Vec::new();
    let mut promise = |what: &str, mine: usize, theirs: usize, least: f64| {
        let (Some(a), Some(Some(b))) = (figures[mine], figures.get(theirs)) else { return };
        let (faster, memory) = (b.0 / a.0, a.1 / b.1);
        println!("  {what}: 1/{faster:.1} of the processor time ({least} promised), {memory:.2} of the memory");
        if faster < least || memory > MOST_MEMORY {
            failed.push(what.to_owned());
        }
    };
    promise("crashed thread beside drgn", 0, 4, LEAST_DRGN);
    promise("crashed thread beside drgn, dump alone", 1, 4, LEAST_DRGN);
    promise("all tasks beside drgn", 2, 5, LEAST_DRGN);
    promise("all tasks beside drgn, dump alone", 3, 5, LEAST_DRGN);
    promise("crashed thread beside crash", 0, 6, LEAST_CRASH);
    if let (Some(with), Some(alone)) = (figures[2], figures[3]) {
        println!("  all tasks, dump alone: {:.2} of the processor time with vmlinux", alone.0 / with.0);
        if alone.0 > with.0 {
            failed.push("all tasks without vmlinux are not faster".to_owned());
        }
    }
    failed.extend(snapshot(postfault, folder.path(), dump, vmlinux, &symbols).err());
    if failed.is_empty() { Ok(()) } else { Err(format!("kernel: {}", failed.join("; "))) }
}

struct Row {
    name: &'static str,
    words: Vec<String>,
    times: u32,
}

impl Row {
    const fn of(name: &'static str, words: Vec<String>, times: u32) -> Self {
        Self { name, words, times }
    }

    /// Medians of processor seconds and of peak KiB of one run.
    fn measure(&self, runs: usize) -> Result<(f64, f64), String> {
        let mut samples: Vec<Sample> = Vec::new();
        // The first one is not counted: files come from the disk.
        for round in 0..=runs {
            let sample = once(&self.words, None)?;
            if round > 0 || runs == 0 {
                samples.push(Sample { cpu: sample.cpu / f64::from(self.times), ..sample });
            }
        }
        let (cpu, peak) = (spread(&samples, |s| s.cpu), spread(&samples, |s| s.peak));
        println!(
            "  {:<28} cpu {:.3} s ({:.3} to {:.3}); peak {:.1} MiB; {} samples",
            self.name,
            cpu.median,
            cpu.least,
            cpu.most,
            peak.median / 1024.0,
            samples.len()
        );
        Ok((cpu.median, peak.median))
    }
}

/// A whole snapshot, with variables.
fn snapshot(postfault: &Path, folder: &Path, dump: &Path, vmlinux: &Path, symbols: &[String]) -> Result<(), String> {
    let file = folder.join("kernel.pfsnap");
    let mut words = [postfault.display().to_string(), "capture".into(), "--no-cache".into()].to_vec();
    words.extend(["--kernel".into(), vmlinux.display().to_string()]);
    words.extend_from_slice(symbols);
    words.extend(["-o".into(), file.display().to_string(), dump.display().to_string()]);
    let sample = once(&words, None)?;
    let bytes = size(&file)?;
    let output = Command::new(postfault).args(["show", "--json", "--no-variables"]).arg(&file).output();
    let output = output.map_err(|e| e.to_string())?;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    let count = |key: &str| shown[key].as_array().map_or(0, Vec::len);
    println!(
        "  snapshot with variables: {bytes} bytes (at most {MOST_SNAPSHOT}), {} tasks, {} stacks, {} lines of the log; cpu {:.2} s; peak {:.0} MiB",
        count("tasks"),
        count("threads"),
        count("log"),
        sample.cpu,
        sample.peak / 1024.0
    );
    if count("tasks") == 0 || count("threads") < count("tasks") || count("log") == 0 {
        return Err("the snapshot lacks tasks, stacks or the log".to_owned());
    }
    if bytes > MOST_SNAPSHOT { Err(format!("the snapshot has {bytes} bytes")) } else { Ok(()) }
}
