//! Measurements beside other tools, on the same input in the same run.
//!
//! Figures are ratios: the machine, its load and the versions are printed, and absolute times belong to this run only.

mod cores;
mod kernel;
mod minidump;
mod page;
mod plot;
mod process;
mod sample;
mod series;
mod sizes;
mod tools;
mod traces;

pub use cores::crash;

use crate::steps::{root, run as step};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A measurement that can be made alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Minidumps beside minidump-stackwalk.
    Minidump,
    /// A Linux kernel dump beside drgn and crash.
    Kernel,
    /// The snapshot of a large program beside its core.
    Sizes,
    /// Processes that run already (`--pid`, `--named`).
    Process,
}

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only this part.
    #[arg(value_name = "PART")]
    part: Option<Part>,
    /// Where minidump-stackwalk is, if not in PATH.
    #[arg(long, value_name = "FILE")]
    stackwalk: Option<PathBuf>,
    /// Counted runs of each command.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Resident size of the large victim, MiB.
    #[arg(long, default_value_t = 1024)]
    resident: u64,
    /// Measure this executable instead of building one.
    #[arg(long, value_name = "FILE")]
    postfault: Option<PathBuf>,
    /// Numbers of threads for the page of figures (docs/performance.md).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000, 5000])]
    threads: Vec<usize>,
    /// Numbers of mappings for it; the kernel allows 65,530 (vm.max_map_count).
    #[arg(long, value_delimiter = ',', default_values_t = [466, 5000, 30_000, 60_000])]
    segments: Vec<usize>,
    /// Also measure 2 GB of DWARF: takes that much disk and memory, and half an hour.
    #[arg(long)]
    big: bool,
    /// Build what is measured, and measure nothing: what is there needs no building later.
    #[arg(long)]
    prepare: bool,
    /// Write the page of figures only.
    #[arg(long)]
    page_only: bool,
    /// Measure only these chapters of the page; the others stay as they are.
    #[arg(long, value_delimiter = ',')]
    chapter: Vec<Series>,
    /// MiB of the core that holds all of its memory, for the page.
    #[arg(long, default_value_t = 4096)]
    core: u64,
    /// drgn, if not in PATH.
    #[arg(long, value_name = "FILE", default_value = "drgn")]
    drgn: PathBuf,
    #[command(flatten)]
    kernel: kernel::Dump,
    #[command(flatten)]
    processes: process::Processes,
}

/// A chapter of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Live(series::Series),
    Core(cores::Series),
}

impl clap::ValueEnum for Series {
    fn value_variants<'a>() -> &'a [Self] {
        use cores::Series as C;
        use series::Series as L;
        &[
            Self::Live(L::Size),
            Self::Live(L::Variables),
            Self::Live(L::Forms),
            Self::Live(L::Segments),
            Self::Live(L::Threads),
            Self::Live(L::ThreadsAndSize),
            Self::Core(C::Cores),
            Self::Core(C::CoreVariables),
            Self::Core(C::Capture),
            Self::Core(C::Pipe),
            Self::Live(L::Stop),
        ]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::Live(series) => series.to_possible_value(),
            Self::Core(series) => series.to_possible_value(),
        }
    }
}

impl Options {
    /// The chapters that are asked for, all by default; 2 GB of DWARF only when asked for.
    fn chapters(&self) -> Vec<Series> {
        use clap::ValueEnum as _;
        if !self.chapter.is_empty() {
            return self.chapter.clone();
        }
        let large = Series::Live(series::Series::ThreadsAndSize);
        Series::value_variants().iter().copied().filter(|s| self.big || *s != large).collect()
    }

    fn chapter(&self, postfault: &Path, series: Series) -> Result<(), String> {
        let (runs, big) = (self.runs, self.big);
        match series {
            Series::Live(series) => {
                let (threads, segments) = (self.threads.as_slice(), self.segments.as_slice());
                series::measure(series, &series::With { postfault, runs, threads, segments, big })
            }
            Series::Core(series) => {
                cores::measure(series, &cores::With { postfault, runs, resident: self.core, big, drgn: &self.drgn })
            }
        }
    }
}

/// Runs every measurement.
pub fn run(options: &Options) -> Result<(), String> {
    let postfault = match &options.postfault {
        Some(path) => path.clone(),
        None => {
            let build = ["build", "--release", "--locked", "--package", "postfault-cli"];
            step("build", Command::new(cargo()).args(build))?;
            root().join("target/release/postfault")
        }
    };
    println!("{}", machine());
    if options.prepare {
        return series::prepare(options.big);
    }
    let minidumps = || minidump::measure(&postfault, options.runs, options.stackwalk.as_deref());
    match options.part {
        Some(Part::Minidump) => return minidumps(),
        Some(Part::Kernel) => return kernel::measure(&postfault, options.runs, &options.kernel),
        Some(Part::Sizes) => return sizes::measure(&postfault, options.resident),
        Some(Part::Process) => return process::measure(&postfault, options.runs, &options.processes),
        None => {}
    }
    let mut failed: Vec<String> =
        options.chapters().into_iter().filter_map(|series| options.chapter(&postfault, series).err()).collect();
    if !options.page_only {
        failed.extend(sizes::measure(&postfault, options.resident).err());
        failed.extend(traces::measure(&postfault, options.runs).err());
        failed.extend(minidumps().err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What the figures were measured on, and with.
fn machine() -> String {
    let mut lines = String::new();
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(lines, "- machine: {processors} x {}", first("/proc/cpuinfo", "model name").unwrap_or_default());
    let _ = writeln!(lines, "- memory: {}", first("/proc/meminfo", "MemTotal").unwrap_or_default());
    let _ = writeln!(
        lines,
        "- kernel: {}",
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
    );
    let _ = writeln!(lines, "- load: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    for tool in ["gdb", tools::lldb(), "eu-stack", "zstd"] {
        let version = Command::new(tool).arg("--version").output().ok();
        let text = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let _ = writeln!(lines, "- {tool}: {}", text.lines().next().unwrap_or("not installed"));
    }
    lines
}

/// A folder that is removed afterwards.
fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|e| format!("cannot make a temporary folder: {e}"))
}

/// `path`'s size in bytes.
fn size(path: &Path) -> Result<u64, String> {
    std::fs::metadata(path).map(|m| m.len()).map_err(|e| format!("{}: {e}", path.display()))
}
