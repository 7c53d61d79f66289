//! Captures of minidumps, and what other tools said of them.

use capture::{Plan, capture};
use debuginfo::Locator;
use platform::input::Options;
use platform::minidump::{self, Minidump};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Frame, Thread};
use std::path::{Path, PathBuf};
use testdata::fixtures::fixture;

pub fn dumps() -> Vec<PathBuf> {
    let mut out = Vec::new();
    for folder in ["minidump/breakpad", "minidump/llvm"] {
        let Some(folder) = fixture(folder) else { continue };
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        out.extend(files.filter(|p| p.extension().is_some_and(|e| e == "dmp")));
    }
    out.sort();
    out
}

pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

pub fn dump(name: &str) -> Option<PathBuf> {
    fixture(&format!("minidump/breakpad/{name}.dmp"))
}

pub fn open(path: &Path) -> Minidump {
    minidump::open(path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// With the shared Breakpad symbols.
pub fn snapshot(path: &Path) -> Snapshot {
    let symbols = fixture("minidump/breakpad/symbols").into_iter().collect();
    snapshot_with(path, &Locator { symbols, ..Locator::default() })
}

pub fn snapshot_with(path: &Path, locator: &Locator) -> Snapshot {
    let target = open(path);
    let mut snapshot = capture(&target, locator, &Plan::default(), &mut || {});
    analysis::analyse(&mut snapshot);
    snapshot
}

pub fn frames_of<'s>(snapshot: &'s Snapshot, thread: &Thread) -> &'s [Frame] {
    let Some(stack) = thread.stack.and_then(|s| snapshot.stacks.get(s as usize)) else { return &[] };
    &snapshot.frames[stack.first as usize..][..stack.count as usize]
}

/// The frames of the thread that the event names, or of the first one.
pub fn frames(snapshot: &Snapshot) -> &[Frame] {
    let id = snapshot.event.as_ref().and_then(|e| e.thread);
    let thread = snapshot.threads.iter().find(|t| Some(t.id) == id).or(snapshot.threads.first()).unwrap();
    frames_of(snapshot, thread)
}

/// `(name of the module, offset into it)`.
pub fn place(snapshot: &Snapshot, frame: &Frame) -> (String, u64) {
    let module = frame.module.and_then(|m| snapshot.modules.get(m as usize));
    let name = module.map_or("", |m| m.path.rsplit(['/', '\\']).next().unwrap());
    (name.to_owned(), frame.pc - module.map_or(0, |m| m.base))
}

pub fn minidump_stackwalk(path: &Path) -> Option<serde_json::Value> {
    let json = path.parent()?.join("oracle").join(format!("{}.minidump-stackwalk.json", stem(path)));
    serde_json::from_slice(&std::fs::read(json).ok()?).ok()
}

/// Breakpad's rows of the crashing thread: module, function, offset.
pub fn breakpad(path: &Path) -> Option<Vec<(String, String, String)>> {
    let text = path.parent()?.join("oracle").join(format!("{}.breakpad.m.txt", stem(path)));
    let text = String::from_utf8_lossy(&std::fs::read(text).ok()?).into_owned();
    let crash = text.lines().find(|l| l.starts_with("Crash|"))?;
    let thread = crash.rsplit('|').next().unwrap_or("0").to_owned();
    let rows = text.lines().filter_map(|l| {
        let fields: Vec<&str> = l.split('|').collect();
        let is_frame = fields.len() == 7 && fields[0] == thread && fields[1].parse::<u32>().is_ok();
        is_frame.then(|| (fields[2].to_owned(), fields[3].to_owned(), fields[6].to_owned()))
    });
    Some(rows.collect())
}

pub fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The strongest finding as `(class, security)`.
pub fn finding(snapshot: &Snapshot) -> (&str, &str) {
    snapshot.findings.first().map_or(("", ""), |f| (f.class.as_str(), f.security.as_str()))
}

pub fn attribute<'s>(snapshot: &'s Snapshot, key: &str) -> Option<&'s str> {
    snapshot.attributes.iter().find(|a| a.key == key).map(|a| a.value.as_str())
}
