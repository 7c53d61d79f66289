//! Runs a tool with a time limit, its output going to files, so that neither side can block the other.

use super::{Peer, PeerError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of a tool's output is read. A backtrace of 200 threads with all variables is a few megabytes.
const LIMIT_OUTPUT: u64 = 256 << 20;
/// How long a tool that is told to end may take; a debugger uses this to let its process go.
const LIMIT_FAREWELL: Duration = Duration::from_secs(5);

/// What a tool printed, and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Output {
    /// How it ended and the end of what it said, for a message.
    pub(super) fn summary(&self) -> String {
        let mut lines: Vec<&str> =
            self.stderr.lines().chain(self.stdout.lines()).map(str::trim).filter(|l| !l.is_empty()).collect();
        let first = lines.len().saturating_sub(5);
        format!("{}: {}", self.status, lines.split_off(first).join("; "))
    }
}

pub(super) fn io<T>(what: &'static str, result: std::io::Result<T>) -> Result<T, PeerError> {
    result.map_err(|source| PeerError::Io { what, source })
}

/// Reads a file as text, bounded, with invalid UTF-8 replaced.
pub(super) fn read(path: &Path) -> Result<String, PeerError> {
    let mut bytes = Vec::new();
    let file = io("cannot read what the tool printed", File::open(path))?;
    io("cannot read what the tool printed", file.take(LIMIT_OUTPUT).read_to_end(&mut bytes))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs `command` with its output in files of the folder `scratch`.
pub(super) fn run(
    peer: Peer,
    mut command: Command,
    scratch: &Path,
    input: Option<&Path>,
    limit: Duration,
) -> Result<Output, PeerError> {
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    let create = |path: &Path| io("cannot create a file for the tool's output", File::create(path));
    let stdin = match input {
        Some(path) => Stdio::from(io("cannot open the tool's input", File::open(path))?),
        None => Stdio::null(),
    };
    command.stdin(stdin).stdout(create(&out)?).stderr(create(&err)?).env("LC_ALL", "C.UTF-8");
    command.env_remove("DEBUGINFOD_URLS").env("TERM", "dumb");
    let child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(PeerError::NotInstalled(peer)),
        Err(source) => return Err(PeerError::Io { what: "cannot start the tool", source }),
    };
    let Some(status) = wait(child, limit)? else { return Err(PeerError::TimedOut { peer, limit }) };
    Ok(Output { status, stdout: read(&out)?, stderr: read(&err)? })
}

/// The status of the child, or `None` after it was ended because it took too long.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>, PeerError> {
    let mut pause = Duration::from_millis(2);
    let start = Instant::now();
    let mut told = None;
    loop {
        if let Some(status) = io("cannot wait for the tool", child.try_wait())? {
            return Ok(told.is_none().then_some(status));
        }
        match told {
            None if start.elapsed() > limit => {
                // SIGTERM first: gdb and lldb then detach, and a live process runs on.
                if let Ok(id) = i32::try_from(child.id()) {
                    let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                }
                told = Some(Instant::now());
            }
            Some(at) if at.elapsed() > LIMIT_FAREWELL => {
                io("cannot end the tool", child.kill())?;
                io("cannot wait for the tool", child.wait())?;
                return Ok(None);
            }
            _ => {}
        }
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(Duration::from_millis(50));
    }
}

/// The name under which the tool is installed: its own, or the newest of `lldb-14`, `lldb-19`, as Debian's LLVM packages
/// call it where no version is the chosen one.
pub(super) fn program(peer: Peer) -> String {
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    if peer != Peer::Lldb || folders.iter().any(|f| f.join(peer.program()).is_file()) {
        return peer.program().to_owned();
    }
    let names = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten();
    let version = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("lldb-")?.parse::<u32>().ok();
    match names.filter_map(|entry| version(&entry.file_name())).max() {
        Some(newest) => format!("lldb-{newest}"),
        None => peer.program().to_owned(),
    }
}

/// The first line of `PROGRAM --version` that says something.
pub(super) fn version(peer: Peer, scratch: &Path) -> Result<String, PeerError> {
    let mut command = Command::new(program(peer));
    command.arg("--version");
    let output = run(peer, command, scratch, None, Duration::from_secs(60))?;
    Ok(output.stdout.lines().find(|l| !l.trim().is_empty()).unwrap_or("unknown version").trim().to_string())
}

/// A folder for one run.
pub(super) fn scratch() -> Result<tempfile::TempDir, PeerError> {
    io("cannot create a temporary folder", tempfile::Builder::new().prefix("postfault-cross-check-").tempdir())
}
