//! Time against the number of threads and against the size of DWARF, beside other tools, and the page about it.
//!
//! Every point is one waiting process that all tools look at in turn. Absolute times belong to the run; what the page
//! is for are the ratios, of processor time as well as of wall time because other programs may use the machine.

use super::sample::{Sample, Spread, once, spread};
use super::{machine, plot, size};
use crate::steps::root;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testdata::workload::{self, Size};

/// Frames of the generated walk in each thread.
const DEPTH: &str = "24";
/// A tool that takes longer than this has no figure.
const LIMIT_SECONDS: &str = "120";
/// The tools, ours first.
const NAMES: [&str; 5] = ["postfault bt --no-cache", "postfault bt", "gdb bt", "lldb bt all", "eu-stack -i -s"];

/// The figures of all tools for one process.
pub struct Point {
    pub threads: usize,
    pub form: &'static str,
    /// Bytes of the executable, nearly all of it DWARF.
    pub bytes: u64,
    /// In the order of [`NAMES`].
    pub samples: Vec<Vec<Sample>>,
}

/// Measures, and writes `docs/performance.md` and its plots.
pub fn measure(postfault: &Path, runs: usize, threads: &[usize], big: bool) -> Result<(), String> {
    let cache = super::scratch()?;
    let tools = |pid: u32| tools(postfault, cache.path(), pid);
    let mut by_threads = Vec::new();
    let small = workload::build(Size::Small, &[]).map_err(|e| e.to_string())?;
    for n in threads {
        by_threads.push(point(&small, "g++ DWARF 5", *n, runs, &tools)?);
    }
    let mut by_size = vec![point(&small, "g++ DWARF 5", 1, runs, &tools)?];
    let medium = workload::build(Size::Medium, &[]).map_err(|e| e.to_string())?;
    by_size.push(point(&medium, "g++ DWARF 5", 1, runs, &tools)?);
    if big {
        let big = workload::build(Size::Big, &[]).map_err(|e| e.to_string())?;
        by_size.push(point(&big, "g++ DWARF 5", 1, runs, &tools)?);
    }
    let mut by_form = Vec::new();
    let folder = super::scratch()?;
    for (form, arguments) in [
        ("no aranges", ["-R", ".debug_aranges"]),
        ("zlib", ["--compress-debug-sections=zlib", "-p"]),
        ("zstd", ["--compress-debug-sections=zstd", "-p"]),
    ] {
        let program = folder.path().join(form.replace(' ', "-"));
        let made = Command::new("objcopy").args(arguments).arg(&medium).arg(&program).status();
        if made.is_ok_and(|status| status.success()) {
            by_form.push(point(&program, form, 1, runs, &tools)?);
        }
    }
    write_page(runs, &by_threads, &by_size, &by_form)
}

fn tools(postfault: &Path, cache: &Path, pid: u32) -> Vec<Vec<String>> {
    let (ours, cache, pid) = (postfault.display().to_string(), cache.display().to_string(), pid.to_string());
    let words: [&[&str]; 5] = [
        &[&ours, "bt", "--no-cache", "--pid", &pid],
        &[&ours, "bt", "--cache-dir", &cache, "--pid", &pid],
        &["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", &pid, "-ex", "thread apply all bt"],
        &["lldb", "--batch", "-p", &pid, "-o", "bt all"],
        &["eu-stack", "-i", "-s", "-n", "0", "-p", &pid],
    ];
    let limited = |list: &&[&str]| {
        ["timeout", "-s", "KILL", LIMIT_SECONDS].iter().chain(list.iter()).map(|w| (*w).to_owned()).collect()
    };
    words.iter().map(limited).collect()
}

/// A waiting workload; it ends with this.
struct Waiting {
    child: Child,
    clock: tempfile::NamedTempFile,
}

impl Waiting {
    fn start(program: &Path, threads: usize) -> Result<Self, String> {
        let clock = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .args(["wait", &threads.to_string(), DEPTH])
            .arg(clock.path())
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

fn point(
    program: &Path,
    form: &'static str,
    threads: usize,
    runs: usize,
    tools: &dyn Fn(u32) -> Vec<Vec<String>>,
) -> Result<Point, String> {
    let waiting = Waiting::start(program, threads)?;
    let tools = tools(waiting.child.id());
    let mut samples: Vec<Vec<Sample>> = tools.iter().map(|_| Vec::new()).collect();
    // The first round warms page cache and our cache, and is not counted; then all take turns.
    for round in 0..=runs {
        for (words, list) in tools.iter().zip(&mut samples) {
            // What failed or took too long the first time will do so again.
            if round > 1 && list.is_empty() {
                continue;
            }
            waiting.reset().map_err(|e| e.to_string())?;
            match once(words) {
                Ok(sample) if round > 0 => list.push(Sample { stop: waiting.gap(), ..sample }),
                Ok(_) => {}
                Err(why) => println!("left out: {why}"),
            }
        }
    }
    let bytes = size(&program.to_path_buf())?;
    println!("measured {form}, {bytes} bytes, {threads} threads");
    Ok(Point { threads, form, bytes, samples })
}

fn rows(text: &mut String, points: &[Point]) {
    text.push_str(
        "\n| program | threads | tool | runs | wall s | CPU s | peak MiB | longest stop ms | wall, × ours | CPU, × ours |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for point in points {
        let ours = point.samples.first().map(Vec::as_slice).unwrap_or_default();
        let (wall, cpu) = (spread(ours, |s| s.wall).median, spread(ours, |s| s.cpu).median);
        for (name, list) in NAMES.iter().zip(&point.samples) {
            let program = format!("{}, {} MB", point.form, point.bytes / 1_000_000);
            if list.is_empty() {
                let _ = writeln!(
                    text,
                    "| {program} | {} | {name} | 0 | failed, or over {LIMIT_SECONDS} s | | | | | |",
                    point.threads
                );
                continue;
            }
            let s = |figure: fn(&Sample) -> f64| spread(list, figure);
            let show = |s: Spread| format!("{:.3} ({:.3} to {:.3})", s.median, s.least, s.most);
            let _ = writeln!(
                text,
                "| {program} | {} | {name} | {} | {} | {} | {:.0} | {:.2} | {:.1} | {:.1} |",
                point.threads,
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

fn write_page(runs: usize, threads: &[Point], sizes: &[Point], forms: &[Point]) -> Result<(), String> {
    let mut text = String::from(
        "# Performance\n\nWritten by `cargo xtask bench`. All tools look at the same waiting process in turn, with the page \
         cache warm and no index but what the program has; the first round is not counted. Medians, and in brackets the \
         least and the most. \"Longest stop\" is the longest gap that a thread of the target saw in the clock, with what \
         the machine's other work added to it. Quote the ratios, not the seconds: the machine was shared with other \
         programs, as its load says, and wall times have the noise of that; processor time has less of it.\n\n",
    );
    text.push_str(&machine());
    let _ = writeln!(text, "\nCounted runs: {runs}. Frames per thread: {DEPTH} of the walk and their inlined calls.\n");
    for words in tools(Path::new("postfault"), Path::new("DIR"), 4711) {
        let _ = writeln!(text, "    {}", words.get(4..).unwrap_or_default().join(" "));
    }
    for (title, points, file) in [
        ("Threads", threads, Some("performance-threads.svg")),
        ("Size of DWARF", sizes, Some("performance-size.svg")),
        ("Forms of DWARF", forms, None),
    ] {
        let _ = writeln!(text, "\n## {title}");
        rows(&mut text, points);
        let Some(file) = file.filter(|_| points.len() > 1) else { continue };
        let _ = writeln!(text, "\n![CPU seconds against {}]({file})", title.to_lowercase());
        let x: fn(&Point) -> f64 = if title == "Threads" { |p| count(p.threads) } else { |p| megabytes(p.bytes) };
        let lines: Vec<plot::Line> = NAMES
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
        write(file, &plot::svg(if title == "Threads" { "threads" } else { "MB of DWARF" }, "CPU seconds", &lines))?;
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
