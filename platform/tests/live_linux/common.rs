//! Victims that are compiled when a test needs them, and looked at through `/proc`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where the victims of this run are.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Compiles a victim; `None` where the compiler cannot (no 32-bit libraries, for instance).
pub fn compile(name: &str, flags: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/victims").join(format!("{name}.c"));
    let unique = format!("{name}-{:?}{}", std::thread::current().id(), flags.concat());
    let out = folder().join(unique.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let done = Command::new("gcc")
        .args(["-g", "-O1", "-pthread"])
        .args(flags)
        .arg("-o")
        .arg(&out)
        .arg(source)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    done.success().then_some(out)
}

/// A running victim; dropping it kills it.
pub struct Victim {
    pub child: Child,
    pub input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Victim {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Another test may fork while this program is still being written: then the copy of its open file is in the
        // way until that child runs its own program.
        let mut child = loop {
            match command.spawn() {
                Err(busy) if busy.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other.unwrap(),
            }
        };
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// A victim of `shapes.c`, once it has its shape.
    pub fn shape(name: &str) -> Self {
        let mut victim = Self::start(Command::new(compile("shapes", &["-mavx2"]).unwrap()).arg(name));
        victim.line_with("ready");
        victim
    }

    pub fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn line_with(&mut self, word: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the victim ended before it said {word}");
            if line.contains(word) {
                return line;
            }
        }
    }

    pub fn say(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, number: i32) {
    let number = nix::sys::signal::Signal::try_from(number).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), number).unwrap();
}

/// The letters of all threads' states, and whether anyone traces one of them.
pub fn states(pid: u64) -> (String, bool) {
    let (mut letters, mut traced) = (String::new(), false);
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("").trim().to_owned();
        letters.extend(field("State:").chars().next());
        traced |= field("TracerPid:") != "0";
    }
    (letters, traced)
}

/// Waits, generously, for something that is about to become true.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// No thread is traced, and none is stopped.
pub fn runs_freely(pid: u64) {
    eventually("running freely", || {
        let (letters, traced) = states(pid);
        !traced && !letters.contains(['t', 'T'])
    });
}
