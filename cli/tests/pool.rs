//! Programs of many threads that wait: stacks of which nothing but the frames is wanted are walked without recovering
//! registers, few of them from a copy, many while the program stands still. With variables each is walked in full, and
//! both say the same.
#![cfg(target_arch = "x86_64")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use testdata::workload::{self, Size};

/// A waiting program, and what ends it.
struct Pool(Child);

impl Pool {
    fn start(threads: usize) -> Self {
        let program = workload::build(Size::Small, &[]).unwrap();
        let arguments = ["wait", &threads.to_string(), "24"];
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Self(child)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The frames that are no inlined calls, by thread. Threads with the same stack are listed with the first of them.
fn by_text(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut threads = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("thread ") else { continue };
        let mut ids = vec![rest.split(' ').next().unwrap().to_owned()];
        let mut frames = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["the", "same", "stack:", _, ..] => {
                    let listed = words[4..].iter().map(|id| id.trim_end_matches(',').to_owned());
                    ids.extend(listed.filter(|id| id.parse::<u32>().is_ok()));
                }
                [number, pc, ..] if number.starts_with('#') && pc.starts_with("0x") => {
                    frames.push(words[1..].join(" "))
                }
                _ => {}
            }
        }
        threads.extend(ids.into_iter().map(|id| (id, frames.clone())));
    }
    threads
}

/// Stacks without addresses, which differ from process to process.
fn places(stacks: &BTreeMap<String, Vec<String>>) -> BTreeSet<Vec<String>> {
    let place = |frame: &String| frame.split_once(' ').unwrap().1.to_owned();
    stacks.values().map(|frames| frames.iter().map(place).collect()).collect()
}

fn text(pool: &Pool) -> BTreeMap<String, Vec<String>> {
    by_text(&common::stdout(&["bt", "--no-fold", "--no-cache", "--pid", &pool.0.id().to_string()]))
}

#[test]
fn waiting_threads_have_the_same_frames_however_they_are_walked() {
    let few = Pool::start(80);
    let plain = text(&few);
    let full = common::json(&["bt", "--json", "--no-cache", "--pid", &few.0.id().to_string()]);
    let full = full["threads"].as_array().unwrap();
    // Of threads with the same stack eight are listed by number.
    assert!(full.len() == 80 && plain.len() > 60, "{} and {}", full.len(), plain.len());
    for thread in full {
        let Some(own) = plain.get(&thread["id"].to_string()) else { continue };
        assert!(thread.get("truncated").is_none());
        let all: Vec<_> = thread["frames"].as_array().unwrap().iter().filter(|f| f["trust"] != "inline").collect();
        assert!(all.len() > 20);
        assert_eq!(own.len(), all.len(), "thread {}", thread["id"]);
        for (text, frame) in own.iter().zip(&all) {
            let digits = |pc: &str| pc.trim_start_matches("0x").trim_start_matches('0').to_owned();
            let pc = text.split(' ').next().unwrap();
            assert_eq!(digits(pc), digits(frame["pc"].as_str().unwrap()), "thread {}", thread["id"]);
            assert!(text.contains(frame["function"].as_str().unwrap_or_default()), "{text} is {frame}");
            assert!(matches!(frame["trust"].as_str(), Some("context" | "cfi")), "{frame}");
            assert!(!text.contains("(scan)") && !text.contains("suspect"), "{text}");
        }
    }
    // Their stacks have 24 to 40 KB each: 80 of them are kept, 900 are not.
    let many = places(&text(&Pool::start(900)));
    let few = places(&plain);
    assert!(few.len() > 5);
    assert_eq!(few, many);
}
