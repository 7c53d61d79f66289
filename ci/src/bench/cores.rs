//! Cores: small, long, large, and arriving through a pipe.

use super::page::{self, Chapter, Point, in_turn};
use super::series::DEPTH;
use super::tools::{self, Tool};
use super::{scratch, size};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testdata::victims;
use testdata::workload::{self, Size};

/// A series of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Series {
    /// Backtraces of cores of all lengths.
    Cores,
    /// Backtraces with all variables.
    CoreVariables,
    /// A snapshot of a core, beside the time it takes to write one.
    Capture,
    /// A core that arrives through a pipe.
    Pipe,
}

/// What the series are measured with.
pub struct With<'w> {
    pub postfault: &'w Path,
    pub runs: usize,
    /// MiB of memory that the large core holds.
    pub resident: u64,
    pub big: bool,
    pub drgn: &'w Path,
}

/// GiB that the long cores span without holding them.
const SPARSE: [u64; 2] = [64, 500];
/// GiB of the one that is sent through a pipe.
const PIPED: u64 = 20;

/// Measures a series and writes its chapter of the page.
pub fn measure(series: Series, with: &With<'_>) -> Result<(), String> {
    let folder = scratch()?;
    let dummies = (Path::new("postfault"), Path::new("PROGRAM"), Path::new("CORE"), Path::new("DIR"));
    let small = built(Size::Small)?;
    let chapter = match series {
        Series::Cores => {
            let mut points = Vec::new();
            for (what, reserved, resident) in SPARSE
                .map(|n| (format!("{n} GiB sparse"), n << 10, 0))
                .into_iter()
                .chain([(format!("{} MiB resident", with.resident), 0, with.resident)])
            {
                let core = crash(&small, folder.path(), 1, reserved, resident)?;
                let bytes = size(&core)?;
                let tools = tools::core(with.postfault, &small, &core);
                points.push(point(what, bytes, &tools, with.runs)?);
                std::fs::remove_file(&core).map_err(|e| format!("{}: {e}", core.display()))?;
            }
            Chapter {
                title: "Cores",
                about: "Backtraces of cores of the small program, which the kernel wrote.",
                plot: None,
                commands: tools::core(dummies.0, dummies.1, dummies.2),
                points,
            }
        }
        Series::CoreVariables => {
            let script = folder.path().join("locals.py");
            std::fs::write(&script, tools::DRGN_LOCALS).map_err(|e| format!("{}: {e}", script.display()))?;
            let mut points = Vec::new();
            for program in [Some(Size::Small), Some(Size::Medium), with.big.then_some(Size::Big)].into_iter().flatten()
            {
                let program = built(program)?;
                let core = crash(&program, folder.path(), 1, 0, 0)?;
                let tools = tools::core_locals(with.postfault, with.drgn, &script, &program, &core);
                let what = format!("core of a program of {} MB", size(&program)? / 1_000_000);
                points.push(point(what, size(&program)?, &tools, with.runs)?);
            }
            Chapter {
                title: "Cores with all variables",
                about: "Backtraces with all variables of all frames, of cores of programs with one thread. drgn prints them by a \
                        script of a few lines.",
                plot: None,
                commands: tools::core_locals(dummies.0, Path::new("drgn"), Path::new("SCRIPT"), dummies.1, dummies.2),
                points,
            }
        }
        Series::Capture => {
            let core = crash(&small, folder.path(), 1, 0, with.resident)?;
            let live = Resident::start(&small, with.resident)?;
            let tools = tools::written(with.postfault, &core, &live.0.id().to_string(), folder.path());
            let what = format!("{} MiB resident", with.resident);
            Chapter {
                title: "From a core to a snapshot",
                about: "A snapshot of a core with all variables, and how long gdb takes to write such a core of the same \
                        program while it lives.",
                plot: None,
                commands: tools::written(dummies.0, dummies.2, "PID", dummies.3),
                points: vec![point(what, 0, &tools, with.runs)?],
            }
        }
        Series::Pipe => {
            let core = crash(&small, folder.path(), 1, PIPED << 10, 0)?;
            Chapter {
                title: "From a pipe",
                about: "A sparse core through a pipe into a snapshot, and the same bytes through a pipe to nobody.",
                plot: None,
                commands: tools::piped(dummies.0, dummies.2, dummies.3),
                points: vec![point(
                    format!("{PIPED} GiB sparse"),
                    0,
                    &tools::piped(with.postfault, &core, folder.path()),
                    with.runs,
                )?],
            }
        }
    };
    page::write(with.runs, &chapter)
}

fn built(size: Size) -> Result<PathBuf, String> {
    workload::build(size, &[]).map_err(|e| e.to_string())
}

fn point(what: String, bytes: u64, tools: &[Tool], runs: usize) -> Result<Point, String> {
    let mut left_out = vec![None; tools.len()];
    let samples = in_turn(tools, runs, &mut left_out, || Ok(()), || 0.0)?;
    println!("measured {what}");
    let x = u32::try_from(bytes >> 20).map_or(f64::NAN, f64::from);
    Ok(Point { what, x, names: tools.iter().map(|t| t.name).collect(), samples, left_out })
}

/// The core of the dying program with so many threads, MiB of reserved and of filled memory in it.
pub fn crash(program: &Path, folder: &Path, threads: usize, reserved: u64, resident: u64) -> Result<PathBuf, String> {
    let own = tempfile::tempdir_in(folder).map_err(|e| e.to_string())?.keep();
    // Makes sure that the kernel writes cores into the folder of the process.
    victims::crash_core("null_deref", "gcc-O0").map_err(|e| e.to_string())?;
    let script =
        format!("ulimit -c unlimited; exec {} die {threads} {DEPTH} clock 0 {reserved} {resident}", program.display());
    let status = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&own)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| e.to_string())?;
    let entries = std::fs::read_dir(&own).map_err(|e| e.to_string())?;
    entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("core")))
        .ok_or_else(|| format!("{} ended with {status} and left no core", program.display()))
}

/// A waiting program with much memory; it ends with this.
struct Resident(std::process::Child);

impl Resident {
    fn start(program: &Path, resident: u64) -> Result<Self, String> {
        use std::io::BufRead as _;
        let clock = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .args(["wait", "1", DEPTH])
            .arg(clock.path())
            .args(["0", "0", &resident.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            std::io::BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        let resident = Self(child);
        if line.trim() == "ready" { Ok(resident) } else { Err(format!("{} is not ready", program.display())) }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
