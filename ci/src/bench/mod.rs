//! Measurements beside other tools, on the same input in the same run.
//!
//! Figures are ratios: the machine, its load and the versions are printed, and absolute times belong to this run only.

mod sample;
mod sizes;
mod traces;

use crate::steps::{root, run as step};
use std::path::PathBuf;
use std::process::Command;

/// Runs every measurement.
pub fn run(runs: usize, resident: u64) -> Result<(), String> {
    step("build", Command::new(cargo()).args(["build", "--release", "--locked", "--package", "postfault-cli"]))?;
    let postfault = root().join("target/release/postfault");
    machine();
    let mut failed = Vec::new();
    failed.extend(sizes::measure(&postfault, resident).err());
    failed.extend(traces::measure(&postfault, runs).err());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What the figures were measured on, and with.
fn machine() {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {processors} x {}", first("/proc/cpuinfo", "model name").unwrap_or_default());
    println!("memory: {}", first("/proc/meminfo", "MemTotal").unwrap_or_default());
    println!("kernel: {}", std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim());
    println!("load: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    for tool in ["gdb", "lldb", "eu-stack", "zstd"] {
        let version = Command::new(tool).arg("--version").output().ok();
        let text = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        println!("{tool}: {}", text.lines().next().unwrap_or("not installed"));
    }
}

/// A folder that is removed afterwards.
fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|e| format!("cannot make a temporary folder: {e}"))
}

/// `path`'s size in bytes.
fn size(path: &PathBuf) -> Result<u64, String> {
    std::fs::metadata(path).map(|m| m.len()).map_err(|e| format!("{}: {e}", path.display()))
}
