//! Time against the numbers of threads and segments and the size of DWARF, beside other tools, and the page about it.
//!
//! Every point is one waiting process that all tools look at in turn. Absolute times belong to the run; what the page
//! is for are the ratios, of processor time as well as of wall time because other programs may use the machine.

use super::sample::{Sample, Spread, spread};
use super::{machine, plot, size, tools};
use crate::steps::root;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testdata::workload::{self, Size};

/// Frames of the generated walk in each thread.
const DEPTH: &str = "24";
/// Threads of the largest program, where that is measured.
const LARGE_THREADS: usize = 1000;
/// What the tools look at.
#[derive(Clone, Copy)]
struct Subject<'p> {
    program: &'p Path,
    form: &'static str,
    threads: usize,
    /// Mappings besides those of a program that asks for none.
    mappings: usize,
    values: bool,
}

/// The figures of all tools for one process.
pub struct Point {
    pub threads: usize,
    pub mappings: usize,
    pub form: &'static str,
    /// Bytes of the executable, nearly all of it DWARF.
    pub bytes: u64,
    pub names: Vec<&'static str>,
    /// In the order of the names.
    pub samples: Vec<Vec<Sample>>,
    /// Why there are none, in the same order.
    pub left_out: Vec<Option<String>>,
}

/// A plot's file, the name of its x axis, and what lies on that.
type Plot = (&'static str, &'static str, fn(&Point) -> f64);

/// A chapter of the page.
struct Chapter {
    title: &'static str,
    plot: Option<Plot>,
    points: Vec<Point>,
}

/// Measures, and writes `docs/performance.md` and its plots.
pub fn measure(postfault: &Path, runs: usize, threads: &[usize], segments: &[usize], big: bool) -> Result<(), String> {
    let cache = super::scratch()?;
    let measure = |subject: Subject<'_>| point(subject, runs, postfault, cache.path(), &mut Vec::new());
    let small = workload::build(Size::Small, &[]).map_err(|e| e.to_string())?;
    let medium = workload::build(Size::Medium, &[]).map_err(|e| e.to_string())?;
    let big = if big { Some(workload::build(Size::Big, &[]).map_err(|e| e.to_string())?) } else { None };
    let one = Subject { program: &small, form: "g++ DWARF 5", threads: 1, mappings: 0, values: false };
    let sizes: Vec<Subject<'_>> = [Some(&small), Some(&medium), big.as_ref()]
        .into_iter()
        .flatten()
        .map(|program| Subject { program, ..one })
        .collect();
    let all = |subjects: Vec<Subject<'_>>| subjects.into_iter().map(measure).collect::<Result<Vec<_>, _>>();
    let by_size = all(sizes.clone())?;
    let by_value = all(sizes.into_iter().map(|s| Subject { values: true, ..s }).collect())?;
    let by_segments = all(segments.iter().map(|n| Subject { mappings: *n, ..one }).collect())?;
    let folder = super::scratch()?;
    let mut by_form = Vec::new();
    for (form, arguments) in [
        ("no aranges", ["-R", ".debug_aranges"]),
        ("zlib", ["--compress-debug-sections=zlib", "-p"]),
        ("zstd", ["--compress-debug-sections=zstd", "-p"]),
    ] {
        let program = folder.path().join(form.replace(' ', "-"));
        let made = Command::new("objcopy").args(arguments).arg(&medium).arg(&program).status();
        if made.is_ok_and(|status| status.success()) {
            by_form.push(measure(Subject { program: &program, form, ..one })?);
        }
    }
    // Debug information in a file of its own, compressed, as distributions have it.
    if let Some(program) = separate(&medium, folder.path()) {
        by_form.push(measure(Subject { program: &program, form: "zlib, separate file", ..one })?);
    }
    let mut over = Vec::new();
    let mut by_threads = Vec::new();
    for n in threads {
        by_threads.push(point(Subject { threads: *n, ..one }, runs, postfault, cache.path(), &mut over)?);
    }
    let by_size_of_many = all(big.iter().map(|program| Subject { program, threads: LARGE_THREADS, ..one }).collect())?;
    let chapters = [
        Chapter {
            title: "Size of DWARF",
            plot: Some(("performance-size.svg", "MB of DWARF", |p| megabytes(p.bytes))),
            points: by_size,
        },
        Chapter {
            title: "With all variables",
            plot: Some(("performance-variables.svg", "MB of DWARF", |p| megabytes(p.bytes))),
            points: by_value,
        },
        Chapter { title: "Forms of DWARF", plot: None, points: by_form },
        Chapter {
            title: "Segments",
            plot: Some(("performance-segments.svg", "mappings", |p| count(p.mappings))),
            points: by_segments,
        },
        Chapter {
            title: "Threads",
            plot: Some(("performance-threads.svg", "threads", |p| count(p.threads))),
            points: by_threads,
        },
        Chapter { title: "Many threads and much DWARF", plot: None, points: by_size_of_many },
    ];
    write_page(runs, &chapters)
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
    runs: usize,
    postfault: &Path,
    cache: &Path,
    over: &mut Vec<&'static str>,
) -> Result<Point, String> {
    let Subject { program, form, threads, mappings, values } = subject;
    let waiting = Waiting::start(&subject)?;
    let pid = waiting.child.id().to_string();
    let tools = tools::live(postfault, cache, &pid, values);
    let mut samples: Vec<Vec<Sample>> = tools.iter().map(|_| Vec::new()).collect();
    let mut left_out: Vec<Option<String>> =
        tools.iter().map(|t| over.contains(&t.name).then(|| "took too long with fewer threads".to_owned())).collect();
    // The first round warms page cache and our cache, and is not counted; then all take turns.
    for round in 0..=runs {
        for ((tool, list), left_out) in tools.iter().zip(&mut samples).zip(&mut left_out) {
            // What failed or took too long will do so again.
            if left_out.is_some() {
                continue;
            }
            waiting.reset().map_err(|e| e.to_string())?;
            match tool.limited() {
                Ok(sample) if round > 0 => list.push(Sample { stop: waiting.gap(), ..sample }),
                Ok(_) => {}
                Err(why) => {
                    println!("left out: {}: {why}", tool.name);
                    if why == tools::TOO_LONG {
                        over.push(tool.name);
                    }
                    *left_out = Some(why);
                }
            }
        }
    }
    let bytes = size(&program.to_path_buf())?;
    println!("measured {form}, {bytes} bytes, {threads} threads, {mappings} mappings");
    let names = tools.iter().map(|t| t.name).collect();
    Ok(Point { threads, mappings, form, bytes, names, samples, left_out })
}

fn rows(text: &mut String, points: &[Point]) {
    text.push_str(
        "\n| program | threads | mappings | tool | runs | wall s | CPU s | peak MiB | longest stop ms | wall, × ours | CPU, × ours |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for point in points {
        let ours = point.samples.first().map(Vec::as_slice).unwrap_or_default();
        let (wall, cpu) = (spread(ours, |s| s.wall).median, spread(ours, |s| s.cpu).median);
        for ((name, list), left_out) in point.names.iter().zip(&point.samples).zip(&point.left_out) {
            let program = format!("{}, {} MB", point.form, point.bytes / 1_000_000);
            if list.is_empty() {
                let _ = writeln!(
                    text,
                    "| {program} | {} | {} | {name} | 0 | {} | | | | | |",
                    point.threads,
                    point.mappings,
                    left_out.as_deref().unwrap_or("no run was counted")
                );
                continue;
            }
            let s = |figure: fn(&Sample) -> f64| spread(list, figure);
            let show = |s: Spread| format!("{:.3} ({:.3} to {:.3})", s.median, s.least, s.most);
            let _ = writeln!(
                text,
                "| {program} | {} | {} | {name} | {} | {} | {} | {:.0} | {:.2} | {:.1} | {:.1} |",
                point.threads,
                point.mappings,
                list.len(),
                show(s(|s| s.wall)),
                show(s(|s| s.cpu)),
                s(|s| s.peak).median / 1024.0,
                s(|s| s.stop).median * 1000.0,
                s(|s| s.wall).median / wall,
                s(|s| s.cpu).median / cpu,
            );
        }
    }
}

fn write_page(runs: usize, chapters: &[Chapter]) -> Result<(), String> {
    let mut text = String::from(
        "# Performance\n\nWritten by `cargo xtask bench`. All tools look at the same waiting process in turn, with the page \
         cache warm and no index but what the program has; the first round is not counted. Medians, and in brackets the \
         least and the most. \"Longest stop\" is the longest gap that a thread of the target saw in the clock, with what \
         the machine's other work added to it. Mappings are those that the program was asked for, besides its own. Quote \
         the ratios, not the seconds.\n\n",
    );
    text.push_str(&machine());
    let _ = writeln!(text, "\nCounted runs: {runs}. Frames per thread: {DEPTH} of the walk and their inlined calls.\n");
    for values in [false, true] {
        for tool in tools::live(Path::new("postfault"), Path::new("DIR"), "4711", values) {
            let _ = writeln!(text, "    {}", tool.words.join(" "));
        }
    }
    for Chapter { title, plot, points } in chapters {
        let _ = writeln!(text, "\n## {title}");
        rows(&mut text, points);
        let Some((file, axis, x)) = plot.filter(|_| points.len() > 1) else { continue };
        let _ = writeln!(text, "\n![CPU seconds against {axis}]({file})");
        let names = points.first().map(|p| p.names.clone()).unwrap_or_default();
        let lines: Vec<plot::Line<'_>> = names
            .iter()
            .enumerate()
            .map(|(n, name)| plot::Line {
                name,
                points: points
                    .iter()
                    .filter_map(|p| Some((x(p), spread(p.samples.get(n).filter(|s| !s.is_empty())?, |s| s.cpu).median)))
                    .collect(),
            })
            .collect();
        write(file, &plot::svg(axis, "CPU seconds", &lines))?;
    }
    write("performance.md", &text)
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::NAN, f64::from)
}

fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1000).map_or(f64::NAN, f64::from) / 1000.0
}

fn write(file: &str, text: &str) -> Result<(), String> {
    let path: PathBuf = root().join("docs").join(file);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}
