//! The page of figures: a chapter for each series, of which those are written anew that were measured.

use super::sample::{Sample, Spread, spread};
use super::tools::Tool;
use super::{machine, plot};
use crate::steps::root;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The figures of all tools for one process or file.
pub struct Point {
    pub what: String,
    /// What the plot has on its x axis.
    pub x: f64,
    pub names: Vec<&'static str>,
    /// In the order of the names.
    pub samples: Vec<Vec<Sample>>,
    /// Why there are none, in the same order.
    pub left_out: Vec<Option<String>>,
}

/// A series of points.
pub struct Chapter {
    pub title: &'static str,
    /// What is measured, and with what in mind it is to be read.
    pub about: &'static str,
    /// A plot's file and the name of its x axis.
    pub plot: Option<(&'static str, &'static str)>,
    /// The tools, with placeholders for what differs from run to run.
    pub commands: Vec<Tool>,
    pub points: Vec<Point>,
}

/// Titles in the order of the page.
pub const TITLES: [&str; 12] = [
    "Size of DWARF",
    "With all variables",
    "Forms of DWARF",
    "Segments",
    "Threads",
    "Many threads and much DWARF",
    "Other programs",
    "Cores",
    "Cores with all variables",
    "From a core to a snapshot",
    "From a pipe",
    "Stop with variables",
];

const INTRODUCTION: &str = "# Performance\n\nWritten by `cargo xtask bench`. All tools look at the same process or file in turn, \
with the page cache warm and no index but what the program has; the first round is not counted. Medians, and in brackets \
the least and the most. \"Longest stop\" is the longest gap that a thread of the target saw in the clock, with what the \
machine's other work added to it. Quote the ratios, not the seconds. Each chapter says when it was measured: they need \
not be of the same day.\n";

/// Runs all tools in turn, those without a reason against it. `before` is called before each run, `gap` after it.
pub fn in_turn(
    tools: &[Tool],
    runs: usize,
    left_out: &mut [Option<String>],
    before: impl Fn() -> Result<(), String>,
    gap: impl Fn() -> f64,
) -> Result<Vec<Vec<Sample>>, String> {
    let mut samples: Vec<Vec<Sample>> = tools.iter().map(|_| Vec::new()).collect();
    // The first round warms page cache and our cache, and is not counted; then all take turns.
    for round in 0..=runs {
        for ((tool, list), left_out) in tools.iter().zip(&mut samples).zip(left_out.iter_mut()) {
            // What failed or took too long will do so again.
            if left_out.is_some() {
                continue;
            }
            before()?;
            match tool.limited() {
                Ok(sample) if round > 0 => list.push(Sample { stop: gap(), ..sample }),
                Ok(_) => {}
                Err(why) => {
                    println!("left out: {}: {why}", tool.name);
                    *left_out = Some(why);
                }
            }
        }
    }
    Ok(samples)
}

fn rows(text: &mut String, points: &[Point]) {
    text.push_str(
        "\n| what | tool | runs | wall s | CPU s | peak MiB | longest stop ms | wall, × ours | CPU, × ours | peak, × ours |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for point in points {
        let ours = point.samples.first().map(Vec::as_slice).unwrap_or_default();
        let median = |list: &[Sample], figure: fn(&Sample) -> f64| spread(list, figure).median;
        for ((name, list), left_out) in point.names.iter().zip(&point.samples).zip(&point.left_out) {
            if list.is_empty() {
                let why = left_out.as_deref().unwrap_or("no run was counted");
                let _ = writeln!(text, "| {} | {name} | 0 | {why} | | | | | | |", point.what);
                continue;
            }
            let show = |s: Spread| format!("{:.3} ({:.3} to {:.3})", s.median, s.least, s.most);
            let ratio = |figure: fn(&Sample) -> f64| median(list, figure) / median(ours, figure);
            let stop = median(list, |s| s.stop) * 1000.0;
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {:.0} | {} | {:.1} | {:.1} | {:.1} |",
                point.what,
                list.len(),
                show(spread(list, |s| s.wall)),
                show(spread(list, |s| s.cpu)),
                median(list, |s| s.peak) / 1024.0,
                if stop > 0.0 { format!("{stop:.1}") } else { String::new() },
                ratio(|s| s.wall),
                ratio(|s| s.cpu),
                ratio(|s| s.peak),
            );
        }
    }
}

/// Writes the chapter into the page, in place of what was there, and its plot beside it.
pub fn write(runs: usize, chapter: &Chapter) -> Result<(), String> {
    let mut text = format!("## {}\n\n{}\n\nCounted runs: {runs}.\n\n{}\n", chapter.title, chapter.about, machine());
    for tool in &chapter.commands {
        let _ = writeln!(text, "    {}", tool.words.join(" "));
    }
    rows(&mut text, &chapter.points);
    if let Some((file, axis)) = chapter.plot.filter(|_| chapter.points.len() > 1) {
        let _ = writeln!(text, "\n![CPU seconds against {axis}]({file})");
        let names = chapter.points.first().map(|p| p.names.clone()).unwrap_or_default();
        let at = |n: usize, p: &Point| {
            Some((p.x, spread(p.samples.get(n).filter(|list| !list.is_empty())?, |s| s.cpu).median))
        };
        let line = |(n, name)| plot::Line { name, points: chapter.points.iter().filter_map(|p| at(n, p)).collect() };
        let lines: Vec<plot::Line<'_>> = names.into_iter().enumerate().map(line).collect();
        store(file, &plot::svg(axis, "CPU seconds", &lines))?;
    }
    let old = std::fs::read_to_string(root().join("docs/performance.md")).unwrap_or_default();
    store("performance.md", &with(&old, chapter.title, text.trim_end()))
}

/// The page with this chapter, in its place.
fn with(old: &str, title: &str, chapter: &str) -> String {
    let kept: Vec<&str> = old.split("\n## ").skip(1).map(str::trim_end).collect();
    let mut page = INTRODUCTION.to_owned();
    for own in TITLES {
        let body = if own == title {
            Some(chapter.to_owned())
        } else {
            kept.iter().find(|k| k.lines().next() == Some(own)).map(|k| format!("## {k}"))
        };
        if let Some(body) = body {
            let _ = writeln!(page, "\n{body}");
        }
    }
    page
}

fn store(file: &str, text: &str) -> Result<(), String> {
    let path: PathBuf = root().join("docs").join(file);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_takes_the_place_of_its_elder() {
        let page = with("", "Threads", "## Threads\n\nold");
        let page = with(&page, "Size of DWARF", "## Size of DWARF\n\nsizes");
        let page = with(&page, "Threads", "## Threads\n\nnew");
        assert!(page.starts_with("# Performance\n"));
        assert!(page.ends_with("\n## Size of DWARF\n\nsizes\n\n## Threads\n\nnew\n"), "{page}");
        assert!(!page.contains("old"));
    }

    #[test]
    fn what_has_no_figures_has_a_reason() {
        let tools = vec![Tool::new("ours", &["true"]), Tool::new("missing", &["postfault-no-such-tool"])];
        let mut left_out = vec![None; 2];
        let samples = in_turn(&tools, 2, &mut left_out, || Ok(()), || 0.0).unwrap();
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
        let names = tools.iter().map(|t| t.name).collect();
        let mut text = String::new();
        rows(&mut text, &[Point { what: "one".to_owned(), x: 1.0, names, samples, left_out }]);
        assert!(text.contains("| one | missing | 0 | not installed |"), "{text}");
        assert!(text.contains("| one | ours | 2 | "), "{text}");
    }
}
