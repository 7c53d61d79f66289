//! Dumps of a kernel that was made to fail: the verdict beside the truth, as a table in `docs/kernel-findings.md`.
//!
//! A folder of dumps has one file for each row of `testdata/kernel-logs/truth.tsv`: a dump whose name begins with the
//! kind and a dot, and `KIND.serial.log`, the guest's console. The log that is in the dump must be what the console showed.

mod console;

use crate::steps::root;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines with which a report begins.
const BEGINS: [&str; 9] = [
    "cut here",
    "BUG: ",
    "general protection",
    "INFO: ",
    "divide error",
    "invoked oom-killer",
    "Kernel panic",
    "list_del corr",
    "kernel BUG",
];
/// Console lines kept after the first report's beginning.
const LIMIT_LINES: usize = 160;

/// One row of the truth.
struct Fault<'t> {
    kind: &'t str,
    does: &'t str,
    class: &'t str,
    function: &'t str,
    module: &'t str,
    panic: &'t str,
}

fn faults(truth: &str) -> Result<Vec<Fault<'_>>, String> {
    let rows = truth.lines().filter(|l| !l.starts_with('#'));
    rows.map(|row| match row.split('\t').collect::<Vec<_>>()[..] {
        [kind, does, class, function, module, _, panic] => Ok(Fault { kind, does, class, function, module, panic }),
        _ => Err(format!("truth.tsv: seven columns expected: {row}")),
    })
    .collect()
}

/// Judges every dump of the folder, with and without the kernel's file, and its console; writes the table.
pub fn run(dumps: &Path, kernel: Option<&Path>, logs: bool, binary: Option<&Path>) -> Result<(), String> {
    let built = root().join("target/debug/postfault");
    let binary = binary.unwrap_or(&built);
    let folder = root().join("testdata/kernel-logs");
    let truth = std::fs::read_to_string(folder.join("truth.tsv")).map_err(|e| format!("truth.tsv: {e}"))?;
    let mut table = String::new();
    let mut wrong = 0_usize;
    let mut lines = console::Compared::default();
    for fault in faults(&truth)? {
        let console = dumps.join(format!("{}.serial.log", fault.kind));
        if logs {
            cut(&console, &folder.join(format!("{}.log", fault.kind)))?;
        }
        let dump = dump_of(dumps, fault.kind)?;
        let mut cells = Vec::new();
        let mut prints = Vec::new();
        let mut ways: Vec<Vec<&std::ffi::OsStr>> = vec![vec![dump.as_os_str()]];
        if let Some(kernel) = kernel {
            ways.push(vec!["--kernel".as_ref(), kernel.as_os_str(), dump.as_os_str()]);
        }
        ways.push(vec!["--log".as_ref(), console.as_os_str()]);
        for way in &ways {
            let said = postfault(binary, way)?;
            if prints.is_empty() {
                lines.add(fault.kind, &console::compare(&said["log"], &console)?);
            }
            prints.push(said["fingerprint"]["value"].clone());
            let (right, cell) = verdict(&fault, &said, way.contains(&"--log".as_ref()));
            wrong += usize::from(!right);
            cells.push(cell);
        }
        if kernel.is_none() {
            cells.insert(1, "not looked at".to_owned());
        }
        let same = prints.windows(2).all(|w| w[0] == w[1]);
        wrong += usize::from(!same);
        let whose = format!("`{}` {} {}", fault.class, fault.function, fault.module);
        let print = if same { "same" } else { "DIFFERS" };
        let row = format!("| {} | {} | {whose} | {} | {print} |\n", fault.kind, fault.does, cells.join(" | "));
        print!("{row}");
        table.push_str(&row);
    }
    println!("{lines}");
    let page = format!("{HEAD}{table}\nWrong cells: {wrong}. {lines}\n");
    std::fs::write(root().join("docs/kernel-findings.md"), page)
        .map_err(|e| format!("docs/kernel-findings.md: {e}"))?;
    match (wrong, lines.differ()) {
        (0, 0) => Ok(()),
        (wrong, logs) => Err(format!("{wrong} cells are wrong, {logs} logs differ from their console")),
    }
}

/// What stands above the table.
const HEAD: &str = "# Kernel findings: verdict and truth

Written by `cargo xtask kernel-faults --dumps DIR --kernel VMLINUX` from dumps of Debian's Linux 6.1 (6.1.0-56-amd64) in a QEMU guest of two CPUs, made to fail on purpose by a module, `lkfault`; guest and module are not part of this repository. A folder of dumps made elsewhere needs one dump a kind (`KIND.` and any ending) and its console, `KIND.serial.log`. The consoles, cut to their reports, are in `testdata/kernel-logs`, where `cargo test -p postfault-analysis --test consoles` judges all of them.

A verdict is right when class, function and module are the truth's, and the panic string begins as it should. `uaf` is named by what can be proved, a jump to a value that is no code: by the time of the crash its object has been handed out again and filled, so that the allocator's lists call it allocated, as the finding's grounds say; a pointer out of an object that is still free is named `use-after-free`. The last column says whether dump without the kernel's file, dump with it, and console have one fingerprint.

| kind | what it does | truth: class, function, module | dump alone | dump and vmlinux | console | fingerprint |
|---|---|---|---|---|---|---|
";

/// Whether the first finding is the truth's, and the cell that says so.
fn verdict(fault: &Fault<'_>, said: &Value, log: bool) -> (bool, String) {
    let Some(first) = said["findings"].get(0) else {
        let right = fault.class == "-" && said["event"]["message"].is_null();
        return (right, if right { "right: none" } else { "WRONG: none" }.to_owned());
    };
    let (class, text) = (first["class"].as_str().unwrap_or_default(), first["text"].as_str().unwrap_or_default());
    let blamed = match fault.function {
        "-" => !text.contains("()"),
        function => text.ends_with(&format!(" in {function}() [{}]", fault.module)),
    };
    let message = said["event"]["message"].as_str();
    let died = log || message.map_or(fault.panic == "-", |m| m.starts_with(fault.panic));
    if class == fault.class && blamed && died {
        return (true, format!("right: `{class}`"));
    }
    (false, format!("WRONG: `{class}` {text}; {}", message.unwrap_or("no panic")).replace('|', "/"))
}

fn dump_of(folder: &Path, kind: &str) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let texts = ["log", "txt", "json", "err", "tsv"];
    let is_it = |p: &PathBuf| {
        let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let text = p.extension().is_some_and(|e| texts.iter().any(|t| e == *t));
        name.starts_with(&format!("{kind}.")) && !text && p.is_file()
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_it).collect();
    found.sort();
    found.into_iter().next().ok_or_else(|| format!("{}: no dump {kind}.*", folder.display()))
}

fn postfault(binary: &Path, arguments: &[&std::ffi::OsStr]) -> Result<Value, String> {
    let mut command = Command::new(binary);
    command.args(["bt", "--json", "--threads", "faulting", "--no-variables"]).args(arguments);
    let output = command.output().map_err(|e| format!("{}: {e}; build it first", binary.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{command:?}: {e}"))
}

/// A console's banner and its reports, without folders of whoever built the module.
fn cut(console: &Path, to: &Path) -> Result<(), String> {
    let bytes = std::fs::read(console).map_err(|e| format!("{}: {e}", console.display()))?;
    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('[')).collect();
    let first = lines.iter().position(|l| BEGINS.iter().any(|b| l.contains(b)));
    let from = first.unwrap_or(lines.len().saturating_sub(5));
    let mut out = String::new();
    let banner = lines.iter().filter(|l| l.contains("Linux version")).take(1);
    for line in banner.chain(lines.iter().skip(from).take(LIMIT_LINES)) {
        match line.split_once("kernel BUG at ") {
            Some((head, place)) if place.starts_with('/') => {
                let file = place.rsplit('/').next().unwrap_or(place);
                let _ = writeln!(out, "{head}kernel BUG at {file}");
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    std::fs::write(to, out).map_err(|e| format!("{}: {e}", to.display()))
}
