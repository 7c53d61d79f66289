//! The tools that look at a live process, ours first, and how each is asked.

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
}

impl Tool {
    fn new(name: &'static str, words: &[&str]) -> Self {
        Self { name, words: words.iter().map(|w| (*w).to_owned()).collect() }
    }

    /// Runs it once, for no longer than the limit.
    pub fn limited(&self) -> Result<Sample, String> {
        self.within(LIMIT_SECONDS)
    }

    fn within(&self, seconds: &str) -> Result<Sample, String> {
        let mut words: Vec<String> = ["timeout", "-s", "KILL", seconds].map(str::to_owned).to_vec();
        words.extend(self.words.iter().cloned());
        once(&words).map_err(|why| {
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

/// Backtraces of all threads of a process, or all variables of their frames.
pub fn live(postfault: &Path, cache: &Path, pid: &str, values: bool) -> Vec<Tool> {
    let (ours, cache) = (postfault.display().to_string(), cache.display().to_string());
    let gdb = |name, last: &str| {
        Tool::new(name, &["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", pid, "-ex", last])
    };
    if values {
        return vec![
            Tool::new("postfault bt --locals --no-cache", &[&ours, "bt", "--locals", "--no-cache", "--pid", pid]),
            gdb("gdb info locals", "thread apply all frame apply all -c info locals"),
        ];
    }
    vec![
        Tool::new("postfault bt --no-cache", &[&ours, "bt", "--no-cache", "--pid", pid]),
        Tool::new("postfault bt", &[&ours, "bt", "--cache-dir", &cache, "--pid", pid]),
        gdb("gdb bt", "thread apply all bt"),
        Tool::new("lldb bt all", &[lldb(), "--batch", "-p", pid, "-o", "bt all"]),
        Tool::new("eu-stack -i -s", &["eu-stack", "-i", "-s", "-n", "0", "-p", pid]),
    ]
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
