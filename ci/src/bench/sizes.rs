//! How small a snapshot is: beside `zstd -3` of the core it was made of.

use super::{scratch, size};
use std::path::Path;
use std::process::{Command, Stdio};
use testdata::victims;

/// A snapshot with stacks and variables stays below this.
const MOST_BYTES: u64 = 1_000_000;
/// And below this part of the compressed core.
const LEAST_RATIO: u64 = 50;

/// Crashes a program with `resident` MiB of memory and captures its core.
pub fn measure(postfault: &Path, resident: u64) -> Result<(), String> {
    let folder = scratch()?;
    let core = crash(folder.path(), resident)?;
    let (snapshot, packed) = (folder.path().join("s.pfsnap"), folder.path().join("core.zst"));
    quiet(Command::new(postfault).arg("capture").arg(&core).arg("-o").arg(&snapshot))?;
    quiet(Command::new("zstd").args(["-q", "-3", "-o"]).arg(&packed).arg(&core))?;
    let (core, snapshot, packed) = (size(&core)?, size(&snapshot)?, size(&packed)?);
    let ratio = packed / snapshot.max(1);
    println!("size: core {core} bytes, zstd -3 of it {packed} bytes, snapshot {snapshot} bytes: 1/{ratio} of zstd -3");
    if snapshot > MOST_BYTES || ratio < LEAST_RATIO {
        return Err(format!(
            "the snapshot must be below {MOST_BYTES} bytes and 1/{LEAST_RATIO} of zstd -3 of the core"
        ));
    }
    Ok(())
}

/// Lets the victim die in `folder` and finds its core.
fn crash(folder: &Path, resident: u64) -> Result<std::path::PathBuf, String> {
    let program = victims::build("big_rss", "gcc-O2").map_err(|e| e.to_string())?;
    // Makes sure that the kernel writes cores into the folder of the process.
    victims::crash_core("null_deref", "gcc-O0").map_err(|e| e.to_string())?;
    let script = format!("ulimit -c unlimited; exec {} die {resident}", program.display());
    let status = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| e.to_string())?;
    let entries = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("core")))
        .ok_or_else(|| format!("big_rss ended with {status} and left no core"))
}

fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}
