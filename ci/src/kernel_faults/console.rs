//! The log in a dump beside what the guest's serial console showed of it.
//!
//! The console has every record whose level is above its own, each line behind the time (`[    1.234567] `), and what
//! programs wrote in between, now and then on the same line. Debug records of the time before the guest raised the
//! console's level are in the log only.

use serde_json::Value;
use std::fmt;
use std::path::Path;

/// `KERN_DEBUG`: what a console leaves out unless it is told not to.
const DEBUG: u64 = 7;

/// What one comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Lines on both sides.
    pub lines: usize,
    /// Lines of debug records that the console did not show.
    pub unshown: usize,
    /// The first difference.
    pub difference: Option<String>,
}

/// All comparisons.
#[derive(Debug, Default)]
pub struct Compared {
    dumps: usize,
    lines: usize,
    unshown: usize,
    differ: usize,
}

impl Compared {
    pub fn add(&mut self, kind: &str, log: &Log) {
        self.dumps += 1;
        self.lines += log.lines;
        self.unshown += log.unshown;
        if let Some(difference) = &log.difference {
            self.differ += 1;
            println!("{kind}: the log differs from the console: {difference}");
        }
    }

    pub const fn differ(&self) -> usize {
        self.differ
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Log beside console: {} lines in {} dumps are the same, {} more are debug messages below the console's level; {} logs differ.",
            self.lines, self.dumps, self.unshown, self.differ
        )
    }
}

/// What follows the last `[seconds.micros] ` that a line may have behind a program's words, with it.
fn printed(line: &str) -> Option<&str> {
    line.match_indices('[').map(|(at, _)| &line[at..]).find(|rest| {
        let Some((time, _)) = rest[1..].split_once(']') else { return false };
        let time = time.trim_start();
        let Some((seconds, micros)) = time.split_once('.') else { return false };
        micros.len() == 6 && [seconds, micros].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The records as the console prints them, with their levels.
fn records(log: &Value) -> Vec<(u64, String)> {
    let records = log.as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = records.iter().flat_map(|r| {
        let time = r["time"].as_u64().unwrap_or(0);
        let (seconds, micros) = (time / 1_000_000_000, time / 1000 % 1_000_000);
        let level = r["level"].as_u64().unwrap_or(DEBUG);
        let text = r["text"].as_str().unwrap_or_default();
        text.split('\n').map(move |line| (level, format!("[{seconds:5}.{micros:06}] {line}").trim_end().to_owned()))
    });
    lines.collect()
}

/// Compares `log` of a document with the console in a file.
pub fn compare(log: &Value, console: &Path) -> Result<Log, String> {
    let bytes = std::fs::read(console).map_err(|e| format!("{}: {e}", console.display()))?;
    Ok(beside(&records(log), &String::from_utf8_lossy(&bytes)))
}

fn beside(ours: &[(u64, String)], console: &str) -> Log {
    let mut found = Log::default();
    let mut shown = console.lines().filter_map(printed).map(str::trim_end).peekable();
    for (level, line) in ours {
        if shown.peek() == Some(&line.as_str()) {
            shown.next();
            found.lines += 1;
        } else if *level >= DEBUG {
            found.unshown += 1;
        } else {
            found.difference = Some(format!("{line:?}, where the console has {:?}", shown.peek()));
            return found;
        }
    }
    found.difference = shown.next().map(|line| format!("the console goes on with {line:?}"));
    if found.lines == 0 {
        found.difference = Some("nothing is the same".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> Vec<(u64, String)> {
        records(&json!([
            {"time": 0, "level": 5, "text": "Linux version 6"},
            {"time": 1_234_567_890_u64, "level": 7, "text": "hidden"},
            {"time": 12_000_001_999_u64, "level": 6, "text": "two\nlines"},
        ]))
    }

    const CONSOLE: &str =
        "[    0.000000] Linux version 6\r\nready[   12.000001] two\r\n[   12.000001] lines\r\n[x] no\n[ 1.2] no\n";

    #[test]
    fn the_same() {
        assert_eq!(beside(&log(), CONSOLE), Log { lines: 3, unshown: 1, difference: None });
    }

    #[test]
    fn what_differs_is_found() {
        let lacks = |console: &str| beside(&log(), console).difference.unwrap();
        assert!(lacks("").contains("Linux version"));
        assert!(lacks(&CONSOLE.replace("lines", "line")).contains("lines"));
        assert!(lacks(&CONSOLE.replace("12.000001] two", "12.000002] two")).contains("two"));
        assert!(lacks(&format!("{CONSOLE}[   13.000000] more\n")).contains("more"));
    }
}
