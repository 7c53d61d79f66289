//! Cores of victims: written by the kernel at their death, or by gdb's gcore while they wait.

use super::build::{build, cache, tool};
use super::error::io;
use super::run::{run_live, run_to_death};
use super::{VictimError, find};
use std::path::{Path, PathBuf};

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Makes sure that the kernel writes cores into the dying program's folder.
///
/// A pattern that is a pipe (systemd-coredump, apport) hands the core to somebody else; root may change that, and this
/// does: it writes `core`. The setting lasts until the next boot.
fn plain_pattern() -> Result<(), VictimError> {
    let pattern = io("cannot read", CORE_PATTERN, std::fs::read_to_string(CORE_PATTERN))?;
    let pattern = pattern.trim_end();
    if !pattern.is_empty() && !pattern.starts_with(['|', '@']) && !pattern.contains('/') {
        return Ok(());
    }
    std::fs::write(CORE_PATTERN, "core").map_err(|e| VictimError::NoCore {
        why: format!(
            "{CORE_PATTERN} is `{pattern}`, which writes no file into the program's folder, and changing it failed \
             ({e}); run `echo core > {CORE_PATTERN}` as root"
        ),
    })
}

/// The core that the kernel wrote when the victim died. Made once for each build and kept beside the executable.
///
/// # Errors
/// [`VictimError::NoCore`] when the kernel is set to hand cores elsewhere and we may not change that; tests then skip,
/// or fail with `POSTFAULT_REQUIRE_CORES=1`.
pub fn crash_core(name: &str, variant: &str) -> Result<PathBuf, VictimError> {
    let program = build(name, variant)?;
    let core = program.with_file_name("core.kernel");
    if core.is_file() {
        return Ok(core);
    }
    if find(name)?.signal.is_none() {
        return Err(VictimError::NoCore { why: format!("the victim {name} does not die by itself") });
    }
    plain_pattern()?;
    let folder = scratch()?;
    run_to_death(name, variant, folder.path(), true)?;
    let entries = io("cannot list", folder.path(), std::fs::read_dir(folder.path()))?;
    let found = entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains("core")) && p.is_file());
    let Some(found) = found else {
        let why = format!(
            "the program died as promised and left no core in its folder; {CORE_PATTERN} and `ulimit -Hc` say why"
        );
        return Err(VictimError::NoCore { why });
    };
    io("cannot rename to", &core, std::fs::rename(found, &core))?;
    Ok(core)
}

/// A core of a running process by gdb's gcore, in `folder`. The process goes on.
///
/// # Errors
/// What gcore said.
pub fn gcore(pid: u32, folder: &Path) -> Result<PathBuf, VictimError> {
    let prefix = folder.join("gcore").display().to_string();
    let said = tool(folder, "gcore", &["-o", &prefix, &pid.to_string()])?;
    let core = PathBuf::from(format!("{prefix}.{pid}"));
    if core.is_file() { Ok(core) } else { Err(VictimError::NoCore { why: format!("gcore left none: {said}") }) }
}

/// The core that gcore writes of the waiting victim. Made once for each build and kept beside the executable.
///
/// # Errors
/// As [`run_live`] and [`gcore`].
pub fn wait_gcore(name: &str, variant: &str) -> Result<PathBuf, VictimError> {
    let program = build(name, variant)?;
    let core = program.with_file_name("core.gdb");
    if core.is_file() {
        return Ok(core);
    }
    let folder = scratch()?;
    let live = run_live(name, variant, &[])?;
    let made = gcore(live.pid(), folder.path())?;
    io("cannot rename to", &core, std::fs::rename(made, &core))?;
    Ok(core)
}

fn scratch() -> Result<tempfile::TempDir, VictimError> {
    io("cannot create a folder in", cache(), tempfile::Builder::new().prefix("core-").tempdir_in(cache()))
}
