//! The steps of continuous integration, in the order in which they are cheapest to fail.

use crate::{cross, instructions, tidy};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The workspace's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Runs a command in the workspace's root, its output passed through.
pub fn run(what: &str, command: &mut Command) -> Result<(), String> {
    println!("== {what}");
    let begun = Instant::now();
    let status = command.current_dir(root()).status().map_err(|e| format!("{what}: cannot start: {e}"))?;
    if !status.success() {
        return Err(format!("{what}: {status}"));
    }
    println!("== {what}: ok ({} s)", begun.elapsed().as_secs());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Everything a change must pass.
pub fn ci() -> Result<(), String> {
    println!("== tidy");
    tidy::run()?;
    run("format", &mut cargo(&["fmt", "--all", "--", "--check"]))?;
    run("lints", &mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    run("documentation", cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    cross_if_possible()?;
    run("tests", &mut cargo(&["test", "--workspace", "--locked"]))?;
    count_if_possible()
}

fn count_if_possible() -> Result<(), String> {
    println!("== instructions");
    match instructions::missing() {
        None => instructions::check(false),
        Some(what) => {
            println!("== instructions: skipped, {what}");
            let required = std::env::var_os("POSTFAULT_REQUIRE_VALGRIND").is_some();
            if required { Err(format!("counts are required, and {what}")) } else { Ok(()) }
        }
    }
}

fn cross_if_possible() -> Result<(), String> {
    match cross::missing() {
        None => cross::type_checks(),
        Some(what) => {
            println!("== cross type-checks: skipped, {what}");
            if std::env::var_os("POSTFAULT_REQUIRE_CROSS").is_some() {
                return Err(format!("cross type-checks are required, and {what}"));
            }
            Ok(())
        }
    }
}

/// The long runs: hundreds of captures of busy programs, by collectors that live and that are killed.
pub fn stress(captures: u32) -> Result<(), String> {
    let count = captures.to_string();
    let test = |package: &str, rest: &[&str]| {
        let mut command = cargo(&["test", "--release", "--package", package]);
        command.args(rest).env("POSTFAULT_STRESS", &count);
        command
    };
    run(
        "stops of a live process",
        &mut test("postfault-platform", &["--test", "live_linux", "--", "stress", "--nocapture", "--test-threads=1"]),
    )?;
    let mut forms = test("postfault-debuginfo", &["--test", "dwarf", "--", "a_generated", "--nocapture"]);
    run("every form of a large program's DWARF", forms.env("POSTFAULT_WORKLOAD", "medium"))?;
    run(
        "captures of a busy program",
        &mut test("postfault-cli", &["--test", "busy", "--", "--nocapture", "--test-threads=1"]),
    )?;
    for (package, name) in [
        ("postfault-kernel-dumps", "freebsd_damage"),
        ("postfault-platform", "freebsd_core_damage"),
        ("postfault-platform", "illumos_cores"),
    ] {
        let mut command = test(package, &["--test", name, "--", "--nocapture"]);
        run(&format!("20,000 flips of each file of {name}"), command.env("POSTFAULT_MUTATIONS", "20000"))?;
    }
    let mut minidumps = test("postfault-cli", &["--test", "minidumps", "--", "damage", "--nocapture"]);
    run("30,000 damaged minidumps", minidumps.env("POSTFAULT_MUTATIONS", "30000"))
}

/// The whole comparison with other debuggers, of which the tests make a part.
pub fn cross_check(victim: Option<&str>, variant: Option<&str>) -> Result<(), String> {
    let mut command =
        cargo(&["test", "--locked", "--package", "postfault-cli", "--test", "cross_check", "--", "--nocapture"]);
    command.env("POSTFAULT_CROSS_CHECK", "all");
    if let Some(victim) = victim {
        command.env("POSTFAULT_VICTIM", victim);
    }
    if let Some(variant) = variant {
        command.env("POSTFAULT_VARIANT", variant);
    }
    run("every victim beside other debuggers", &mut command)
}
