//! The tools that look at a live process or a core, ours first, and how each is asked.

use super::sample::{Sample, once};
use std::path::Path;
use std::process::Command;

/// A tool that takes longer than this has no figure.
const LIMIT_SECONDS: &str = "120";
/// Why it has none.
pub const TOO_LONG: &str = "took longer than 120 s";

/// A tool and the command that is measured.
pub struct Tool {
    pub name: &'static str,
    pub words: Vec<String>,
    /// What it also ends with when it has done its work.
    also: Option<i32>,
}

impl Tool {
    pub fn new(name: &'static str, words: &[&str]) -> Self {
        Self { name, words: words.iter().map(|w| (*w).to_owned()).collect(), also: None }
    }

    /// eu-stack, which ends with 1 when a thread's stack ends early, as those do that are in the middle of the vDSO.
    fn eu_stack(words: &[&str]) -> Self {
        Self { also: Some(1), ..Self::new("eu-stack -i -s", &[&["eu-stack", "-i", "-s", "-n", "0"], words].concat()) }
    }

    /// Runs it once, for no longer than the limit.
    pub fn limited(&self) -> Result<Sample, String> {
        self.within(LIMIT_SECONDS)
    }

    fn within(&self, seconds: &str) -> Result<Sample, String> {
        let mut words: Vec<String> = ["timeout", "-s", "KILL", seconds].map(str::to_owned).to_vec();
        words.extend(self.words.iter().cloned());
        once(&words, self.also).map_err(|why| {
            // GNU time passes on what timeout(1) ends with: 137 (it kills itself with the command), or 127 where there
            // is no command of that name.
            if why.contains("exit status: 137") || why.contains("signal: 9") {
                TOO_LONG.to_owned()
            } else if why.contains("exit status: 127") {
                "not installed".to_owned()
            } else {
                why
            }
        })
    }
}

/// lldb under the name that it has here.
pub fn lldb() -> &'static str {
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    ["lldb", "lldb-19"].into_iter().find(|name| runs(name)).unwrap_or("lldb")
}

/// Prints all variables of all frames.
pub const DRGN_LOCALS: &str = "for thread in prog.threads():
    for frame in thread.stack_trace():
        print(frame)
        for name in frame.locals():
            try:
                print('   ', name, '=', str(frame[name])[:4000])
            except Exception as why:
                print('   ', name, why)
";

/// The same for lldb.
const LLDB_LOCALS: &str =
    "script [print(v) for t in lldb.process for f in t for v in f.GetVariables(True, True, False, True)]";

const GDB: [&str; 5] = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off"];
const GDB_ALL: &str = "thread apply all bt";
const GDB_FULL: &str = "thread apply all bt full";
/// Deeper values of the generated programs end gdb 13 with an internal error.
const GDB_DEPTH: &str = "set print max-depth 2";

/// Backtraces of all threads of a process, or all variables of their frames.
pub fn live(postfault: &Path, cache: &Path, pid: &str, values: bool) -> Vec<Tool> {
    let (ours, cache) = (postfault.display().to_string(), cache.join("cache").display().to_string());
    if values {
        return vec![
            Tool::new("postfault bt --locals --no-cache", &[&ours, "bt", "--locals", "--no-cache", "--pid", pid]),
            Tool::new("gdb bt full", &[&GDB[..], &["-iex", GDB_DEPTH, "-p", pid, "-ex", GDB_FULL]].concat()),
            Tool::new("lldb variables", &[lldb(), "--batch", "-p", pid, "-o", LLDB_LOCALS]),
        ];
    }
    vec![
        Tool::new("postfault bt --no-cache", &[&ours, "bt", "--no-cache", "--pid", pid]),
        Tool::new("postfault bt", &[&ours, "bt", "--cache-dir", &cache, "--pid", pid]),
        Tool::new("gdb bt", &[&GDB[..], &["-p", pid, "-ex", GDB_ALL]].concat()),
        Tool::new("lldb bt all", &[lldb(), "--batch", "-p", pid, "-o", "bt all"]),
        Tool::eu_stack(&["-p", pid]),
    ]
}

/// A snapshot with all variables of a process, which stands still or is copied.
pub fn snapshot(postfault: &Path, folder: &Path, pid: &str) -> Vec<Tool> {
    let (ours, out) = (postfault.display().to_string(), folder.join("s.pfsnap").display().to_string());
    let words = [&ours, "capture", "--force", "--no-cache", "-o", &out, "--pid", pid];
    vec![
        Tool::new("postfault capture", &words),
        Tool::new("postfault capture --fork", &[&words[..], &["--fork"]].concat()),
    ]
}

/// Backtraces of all threads of a core.
pub fn core(postfault: &Path, program: &Path, core: &Path) -> Vec<Tool> {
    let text = |path: &Path| path.display().to_string();
    let (ours, program, core) = (text(postfault), text(program), text(core));
    vec![
        Tool::new("postfault bt --no-cache", &[&ours, "bt", "--no-cache", &core]),
        Tool::new("gdb bt", &[&GDB[..], &[&program, &core, "-ex", GDB_ALL]].concat()),
        Tool::new("lldb bt all", &[lldb(), "--batch", "-c", &core, &program, "-o", "bt all"]),
        Tool::eu_stack(&["--core", &core, "-e", &program]),
    ]
}

/// All variables of all frames of a core.
pub fn core_locals(postfault: &Path, drgn: &Path, script: &Path, program: &Path, core: &Path) -> Vec<Tool> {
    let text = |path: &Path| path.display().to_string();
    let (ours, drgn, script, program, core) = (text(postfault), text(drgn), text(script), text(program), text(core));
    vec![
        Tool::new("postfault bt --locals --no-cache", &[&ours, "bt", "--locals", "--no-cache", &core]),
        Tool::new("gdb bt full", &[&GDB[..], &["-iex", GDB_DEPTH, &program, &core, "-ex", GDB_FULL]].concat()),
        Tool::new("lldb variables", &[lldb(), "--batch", "-c", &core, &program, "-o", LLDB_LOCALS]),
        Tool::new("drgn", &[&drgn, "-q", "-c", &core, "-s", &program, &script]),
    ]
}

/// A snapshot of a core, and gdb writing a core of a process.
pub fn written(postfault: &Path, core: &Path, pid: &str, folder: &Path) -> Vec<Tool> {
    let (ours, out) = (postfault.display().to_string(), folder.join("s.pfsnap").display().to_string());
    let (core, made) = (core.display().to_string(), folder.join("gcore").display().to_string());
    vec![
        Tool::new("postfault capture", &[&ours, "capture", "--force", "--no-cache", "-o", &out, &core]),
        Tool::new("gcore", &["gcore", "-o", &made, pid]),
    ]
}

/// A core through a pipe into a snapshot, and to nobody.
pub fn piped(postfault: &Path, core: &Path, folder: &Path) -> Vec<Tool> {
    let (ours, core, out) = (postfault.display(), core.display(), folder.join("s.pfsnap"));
    let capture = format!("cat {core} | {ours} capture --force --no-cache -o {} -", out.display());
    let nobody = format!("cat {core} | cat > /dev/null");
    vec![Tool::new("postfault capture", &["sh", "-ec", &capture]), Tool::new("cat", &["sh", "-ec", &nobody])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_slow_is_named_so() {
        let missing = Tool::new("missing", &["postfault-no-such-tool"]);
        assert_eq!(missing.limited().err().as_deref(), Some("not installed"));
        assert!(Tool::new("true", &["true"]).limited().is_ok());
        assert_eq!(Tool::new("slow", &["sleep", "60"]).within("0.1").err().as_deref(), Some(TOO_LONG));
    }

    #[test]
    fn ours_come_first() {
        for values in [false, true] {
            let tools = live(Path::new("/ours"), Path::new("/cache"), "1", values);
            assert_eq!(tools[0].words[0], "/ours");
            assert!(tools.iter().any(|t| t.name.starts_with("gdb")));
        }
    }
}
