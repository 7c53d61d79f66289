//! The main job from nothing: lets a program crash, captures its core, prints the report, and reads the snapshot back
//! with the program gone.

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match first_crash() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(3)
        }
    }
}

fn first_crash() -> Result<(), String> {
    let postfault = binary()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let core = testdata::victims::crash_core("null_method", "gcc-O0").map_err(|e| e.to_string())?;
    let snapshot = folder.path().join("first.pfsnap");
    println!("$ postfault capture {} -o first.pfsnap", core.display());
    run(&postfault, &["capture", path(&core)?, "-o", path(&snapshot)?], folder.path())?;
    println!("\n$ postfault show first.pfsnap threads");
    run(&postfault, &["show", path(&snapshot)?, "threads"], folder.path())
}

/// `postfault` itself, built in the same profile as this program.
fn binary() -> Result<std::path::PathBuf, String> {
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let profile = here.parent().and_then(Path::parent).ok_or("this program lies in no build folder")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "postfault-cli"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().map_err(|e| format!("cargo build: {e}"))?;
    if status.success() { Ok(profile.join("postfault")) } else { Err(format!("cargo build: {status}")) }
}

fn run(program: &Path, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    if status.success() { Ok(()) } else { Err(format!("postfault {}: {status}", arguments.join(" "))) }
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is no UTF-8", path.display()))
}
