//! Time against the numbers of threads and segments and the size of DWARF, beside other tools.
//!
//! Every point is one waiting process that all tools look at in turn. Absolute times belong to the run; what the page
//! is for are the ratios, of processor time as well as of wall time because other programs may use the machine.

use super::page::{self, Chapter, Point, in_turn};
use super::{size, tools};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testdata::workload::{self, Size};

/// Frames of the generated walk in each thread.
pub const DEPTH: &str = "24";
/// Threads of the largest program, where that is measured.
const LARGE_THREADS: usize = 1000;
/// Threads of the program that is captured with its variables.
const STOPPED_THREADS: usize = 200;

/// What the tools look at.
#[derive(Clone, Copy)]
struct Subject<'p> {
    program: &'p Path,
    form: &'static str,
    threads: usize,
    /// Mappings besides those of a program that asks for none.
    mappings: usize,
    ask: Ask,
}

/// What they are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Backtraces,
    Variables,
    /// A snapshot with variables, in a stop and from a copy of the process.
    Snapshot,
}

/// A series of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Series {
    /// Programs of three sizes.
    Size,
    /// The same, with all variables.
    Variables,
    /// DWARF in several forms.
    Forms,
    /// Many mappings.
    Segments,
    /// Many threads.
    Threads,
    /// Many threads of the largest program.
    ThreadsAndSize,
    /// How long a capture with variables stops the program.
    Stop,
}

/// What all series are measured with.
pub struct With<'w> {
    pub postfault: &'w Path,
    pub runs: usize,
    pub threads: &'w [usize],
    pub segments: &'w [usize],
    pub big: bool,
}

/// Measures a series and writes its chapter of the page.
pub fn measure(series: Series, with: &With<'_>) -> Result<(), String> {
    let folder = super::scratch()?;
    let small = built(Size::Small)?;
    let one = Subject { program: &small, form: "g++ DWARF 5", threads: 1, mappings: 0, ask: Ask::Backtraces };
    let mut over = Vec::new();
    let mut measured = |subject: Subject<'_>, x: f64| point(subject, x, with, folder.path(), &mut over);
    let mut sizes = Vec::new();
    if matches!(series, Series::Size | Series::Variables) {
        sizes = vec![small.clone(), built(Size::Medium)?];
        sizes.extend(if with.big { Some(built(Size::Big)?) } else { None });
    }
    let by_size = |ask: Ask, measured: &mut dyn FnMut(Subject<'_>, f64) -> Result<Point, String>| {
        let points = sizes.iter().map(|program| measured(Subject { program, ask, ..one }, megabytes(size(program)?)));
        points.collect::<Result<Vec<_>, String>>()
    };
    let chapter = match series {
        Series::Size => Chapter {
            title: "Size of DWARF",
            about: "Backtraces with source lines and inlined calls of all frames, of a waiting program with one thread.",
            plot: Some(("performance-size.svg", "MB of program")),
            commands: Ask::Backtraces.shown(),
            points: by_size(Ask::Backtraces, &mut measured)?,
        },
        Series::Variables => Chapter {
            title: "With all variables",
            about: "The same programs, with all variables of all frames.",
            plot: Some(("performance-variables.svg", "MB of program")),
            commands: Ask::Variables.shown(),
            points: by_size(Ask::Variables, &mut measured)?,
        },
        Series::Forms => Chapter {
            title: "Forms of DWARF",
            about: "The medium program without `.debug_aranges`, with compressed sections, and with compressed sections in a \
                    file of its own, as distributions have them.",
            plot: None,
            commands: Ask::Backtraces.shown(),
            points: forms(&built(Size::Medium)?, folder.path())?
                .iter()
                .map(|(form, program)| measured(Subject { program, form, ..one }, 0.0))
                .collect::<Result<_, _>>()?,
        },
        Series::Segments => Chapter {
            title: "Segments",
            about: "The small program with further mappings.",
            plot: Some(("performance-segments.svg", "mappings")),
            commands: Ask::Backtraces.shown(),
            points: with
                .segments
                .iter()
                .map(|n| measured(Subject { mappings: *n, ..one }, count(*n)))
                .collect::<Result<_, _>>()?,
        },
        Series::Threads => Chapter {
            title: "Threads",
            about: "The small program with further threads.",
            plot: Some(("performance-threads.svg", "threads")),
            commands: Ask::Backtraces.shown(),
            points: with
                .threads
                .iter()
                .map(|n| measured(Subject { threads: *n, ..one }, count(*n)))
                .collect::<Result<_, _>>()?,
        },
        Series::ThreadsAndSize => Chapter {
            title: "Many threads and much DWARF",
            about: "The largest program, nearly all of its units on some stack.",
            plot: None,
            commands: Ask::Backtraces.shown(),
            points: vec![measured(Subject { program: &built(Size::Big)?, threads: LARGE_THREADS, ..one }, 0.0)?],
        },
        Series::Stop => Chapter {
            title: "Stop with variables",
            about: "A snapshot with all variables of 200 threads: how long they stand still, and with `--fork`, which reads \
                    them from a copy of the process.",
            plot: None,
            commands: Ask::Snapshot.shown(),
            points: vec![measured(Subject { threads: STOPPED_THREADS, ask: Ask::Snapshot, ..one }, 0.0)?],
        },
    };
    page::write(with.runs, &chapter)
}

fn built(size: Size) -> Result<PathBuf, String> {
    workload::build(size, &[]).map_err(|e| e.to_string())
}

impl Ask {
    fn tools(self, postfault: &Path, folder: &Path, pid: &str) -> Vec<tools::Tool> {
        match self {
            Self::Backtraces => tools::live(postfault, folder, pid, false),
            Self::Variables => tools::live(postfault, folder, pid, true),
            Self::Snapshot => tools::snapshot(postfault, folder, pid),
        }
    }

    fn shown(self) -> Vec<tools::Tool> {
        self.tools(Path::new("postfault"), Path::new("DIR"), "PID")
    }
}

/// The program in other forms.
fn forms(program: &Path, folder: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let mut forms = Vec::new();
    for (form, arguments) in [
        ("no aranges", ["-R", ".debug_aranges"]),
        ("zlib", ["--compress-debug-sections=zlib", "-p"]),
        ("zstd", ["--compress-debug-sections=zstd", "-p"]),
    ] {
        let made = folder.join(form.replace(' ', "-"));
        let status = Command::new("objcopy").args(arguments).arg(program).arg(&made).status();
        if status.is_ok_and(|status| status.success()) {
            forms.push((form, made));
        }
    }
    // Debug information in a file of its own, compressed, as distributions have it.
    forms.extend(separate(program, folder).map(|made| ("zlib, separate file", made)));
    if forms.is_empty() {
        Err("objcopy (Debian package binutils) made none of the forms".to_owned())
    } else {
        Ok(forms)
    }
}

/// The program without debug information, which is in a compressed file beside it.
fn separate(program: &Path, folder: &Path) -> Option<PathBuf> {
    let (stripped, debug) = (folder.join("separate"), folder.join("separate.debug"));
    let link = format!("--add-gnu-debuglink={}", debug.display());
    let objcopy = |words: &[&str], to: &Path| {
        let made = Command::new("objcopy").args(words).arg(program).arg(to).status();
        made.is_ok_and(|status| status.success())
    };
    let made = objcopy(&["--only-keep-debug", "--compress-debug-sections=zlib"], &debug)
        && objcopy(&["--strip-debug", "-p", &link], &stripped);
    made.then_some(stripped)
}

/// Builds the programs that are measured, so that a quiet machine is not kept waiting for a compiler.
pub fn prepare(big: bool) -> Result<(), String> {
    for size in [Some(Size::Small), Some(Size::Medium), big.then_some(Size::Big)].into_iter().flatten() {
        println!("{}", workload::build(size, &[]).map_err(|e| e.to_string())?.display());
    }
    Ok(())
}

/// A waiting workload; it ends with this.
struct Waiting {
    child: Child,
    clock: tempfile::NamedTempFile,
}

impl Waiting {
    fn start(subject: &Subject<'_>) -> Result<Self, String> {
        let program = subject.program;
        let clock = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .args(["wait", &subject.threads.to_string(), DEPTH])
            .arg(clock.path())
            .arg(subject.mappings.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        let waiting = Self { child, clock };
        if line.trim() == "ready" { Ok(waiting) } else { Err(format!("{} is not ready", program.display())) }
    }

    /// Asks the thread that looks at the clock to begin anew.
    fn reset(&self) -> std::io::Result<()> {
        self.clock.as_file().write_all_at(&1_u64.to_le_bytes(), 8)?;
        std::thread::sleep(std::time::Duration::from_millis(5));
        Ok(())
    }

    /// The longest time that thread stood still since then, seconds.
    fn gap(&self) -> f64 {
        let mut bytes = [0; 8];
        let read = self.clock.as_file().read_exact_at(&mut bytes, 0);
        read.map_or(f64::NAN, |()| std::time::Duration::from_nanos(u64::from_le_bytes(bytes)).as_secs_f64())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks at one process with all tools in turn, but those that `over` says took too long for an easier one.
fn point(
    subject: Subject<'_>,
    x: f64,
    with: &With<'_>,
    folder: &Path,
    over: &mut Vec<&'static str>,
) -> Result<Point, String> {
    let Subject { program, form, threads, mappings, ask } = subject;
    let waiting = Waiting::start(&subject)?;
    let tools = ask.tools(with.postfault, folder, &waiting.child.id().to_string());
    let mut left_out: Vec<Option<String>> =
        tools.iter().map(|t| over.contains(&t.name).then(|| "took too long for an easier one".to_owned())).collect();
    let reset = || waiting.reset().map_err(|e| e.to_string());
    let samples = in_turn(&tools, with.runs, &mut left_out, reset, || waiting.gap())?;
    let slow = tools.iter().zip(&left_out).filter(|(_, why)| why.as_deref() == Some(tools::TOO_LONG));
    over.extend(slow.map(|(tool, _)| tool.name));
    let mut what =
        format!("{form}, {} MB, {threads} thread{}", size(program)? / 1_000_000, if threads == 1 { "" } else { "s" });
    if mappings > 0 {
        what.push_str(&format!(", {mappings} mappings"));
    }
    println!("measured {what}");
    Ok(Point { what, x, names: tools.iter().map(|t| t.name).collect(), samples, left_out })
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::NAN, f64::from)
}

fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1000).map_or(f64::NAN, f64::from) / 1000.0
}
