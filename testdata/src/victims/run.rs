//! Runs victims: to their death, or up to the point where they wait.

use super::build::{build, cache};
use super::error::io;
use super::{VictimError, find};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a victim may take to say that it is ready. Generous: filling a gigabyte on a loaded machine takes a while.
const LIMIT_READY: Duration = Duration::from_secs(180);
/// How long its threads may take to reach the places they wait at.
const LIMIT_SETTLE: Duration = Duration::from_secs(20);

/// A victim that runs and waits to be looked at. It is killed when this is dropped.
#[derive(Debug)]
pub struct LiveVictim {
    child: Child,
    program: PathBuf,
    output: Option<BufReader<ChildStdout>>,
    // Last, so that the folder goes after the process.
    _folder: tempfile::TempDir,
}

impl LiveVictim {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The executable it runs.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The ids and state letters of its threads, from `/proc/PID/task/*/stat`.
    #[must_use]
    pub fn threads(&self) -> Vec<(u32, char)> {
        let folder = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut threads: Vec<(u32, char)> = entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                Some((id, stat.rsplit_once(") ")?.1.chars().next()?))
            })
            .collect();
        threads.sort_unstable();
        threads
    }

    /// Sends SIGTERM, waits for the end and gives what the program printed after `ready`.
    ///
    /// # Errors
    /// When it could not be told or read.
    pub fn terminate(mut self) -> Result<(ExitStatus, String), VictimError> {
        let pid = self.pid().to_string();
        super::build::tool(Path::new("/"), "kill", &["-TERM", &pid])?;
        let mut text = String::new();
        if let Some(mut output) = self.output.take() {
            io("cannot read from", &self.program, output.read_to_string(&mut text))?;
        }
        let status = io("cannot wait for", &self.program, self.child.wait())?;
        Ok((status, text))
    }

    /// Waits until no more than `running` threads are outside of a sleep in the kernel.
    fn settle(&mut self, running: usize) -> Result<(), VictimError> {
        let start = Instant::now();
        loop {
            let threads = self.threads();
            let awake = threads.iter().filter(|(_, state)| *state != 'S').count();
            if !threads.is_empty() && awake <= running {
                return Ok(());
            }
            if start.elapsed() > LIMIT_SETTLE {
                let why = format!("{awake} threads are awake, {running} were promised: {threads:?}");
                return Err(VictimError::Behaviour { program: self.program.clone(), why });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for LiveVictim {
    fn drop(&mut self) {
        // Both fail only when the process is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds and starts a victim that waits, with further arguments after the mode.
///
/// # Errors
/// As [`build`], or when the program does not say `ready`.
pub fn run_live(name: &str, variant: &str, args: &[&str]) -> Result<LiveVictim, VictimError> {
    let victim = find(name)?;
    let program = build(name, variant)?;
    let folder = io("cannot create a folder in", cache(), tempfile::Builder::new().prefix("run-").tempdir_in(cache()))?;
    let mut child = io(
        "cannot start",
        &program,
        Command::new(&program)
            .arg("wait")
            .args(if args.is_empty() { victim.args } else { args })
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn(),
    )?;
    let output = child.stdout.take().map(BufReader::new);
    let mut live = LiveVictim { child, program, output: None, _folder: folder };
    let (said, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut output = output?;
        let mut line = String::new();
        let result = output.read_line(&mut line);
        let ready = result.is_ok() && line.trim_end() == "ready";
        // The receiver is gone only after a timeout.
        let _ = said.send(if ready { Ok(()) } else { Err(line) });
        Some(output)
    });
    match heard.recv_timeout(LIMIT_READY) {
        Ok(Ok(())) => {}
        Ok(Err(line)) => {
            let why = format!("expected `ready` on stdout, found {line:?}");
            return Err(VictimError::Behaviour { program: live.program.clone(), why });
        }
        Err(_) => {
            let why = format!("not ready after {LIMIT_READY:?}");
            return Err(VictimError::Behaviour { program: live.program.clone(), why });
        }
    }
    live.output = reader.join().unwrap_or(None);
    live.settle(victim.running)?;
    Ok(live)
}

/// Builds a victim, runs it in `folder` without `wait` and with unlimited core size when `core` is set, and gives how
/// it ended.
///
/// # Errors
/// As [`build`], or when it could not be started.
pub fn run_to_death(name: &str, variant: &str, folder: &Path, core: bool) -> Result<ExitStatus, VictimError> {
    let victim = find(name)?;
    let program = build(name, variant)?;
    // A shell sets the limit: setrlimit between fork and exec would need unsafe code here.
    let script = if core { "ulimit -c unlimited; exec \"$0\" \"$@\"" } else { "ulimit -c 0; exec \"$0\" \"$@\"" };
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(&program)
        .arg("die")
        .args(victim.args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let status = io("cannot start", &program, status)?;
    if status.signal() != victim.signal {
        let why = format!("ended with {status}, promised was signal {:?}", victim.signal);
        return Err(VictimError::Behaviour { program, why });
    }
    Ok(status)
}
