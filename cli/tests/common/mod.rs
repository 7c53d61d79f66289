//! What the tests of the command line share: running it, and victims to run it on.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod freebsd;

use std::path::Path;
use std::process::{Command, Output};

/// The program under test, without the user's settings.
pub fn postfault() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postfault"));
    command.env_remove("DEBUGINFOD_URLS").env("LC_ALL", "C");
    command
}

/// Runs it and expects an exit code; what it wrote to both streams otherwise.
pub fn run(arguments: &[&str], code: i32) -> Output {
    let output = postfault().args(arguments).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "postfault {}\nstdout: {}\nstderr: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Standard output of a run that ends with 0.
pub fn stdout(arguments: &[&str]) -> String {
    String::from_utf8(run(arguments, 0).stdout).unwrap()
}

/// JSON on standard output.
pub fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(arguments)).unwrap()
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A victim's kernel core; `None` (said on stderr) where this machine makes none.
pub fn core(name: &str, variant: &str) -> Option<std::path::PathBuf> {
    match testdata::victims::crash_core(name, variant) {
        Ok(core) => Some(core),
        Err(why) => {
            assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_CORES"), "{name} {variant}: {why}");
            eprintln!("skipped: {name} {variant}: {why}");
            None
        }
    }
}
