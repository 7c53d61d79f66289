//! A snapshot of `/proc/kcore` beside what the kernel said of itself in `/proc` and `/sys` at the same time.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What the kernel says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    name: String,
    state: char,
    parent: u64,
    /// How often it gave its CPU away: a task for which that did not change has not run.
    switches: Vec<String>,
    /// Symbol and offset, innermost first; functions of the scheduler are left out by the kernel.
    stack: Vec<String>,
}

/// How many of each were compared.
#[derive(Debug, Default)]
pub struct Counts {
    pub tasks: usize,
    pub stacks: usize,
    pub frames: usize,
    pub modules: usize,
    pub lines: usize,
    /// Frames whose address is the kernel's and whose symbol is another one of the same code (labels inside of functions).
    pub aliases: usize,
    /// Tasks that moved between the two looks of the kernel itself: not compared.
    pub moved: usize,
    pub differences: Vec<String>,
}

fn read(folder: &Path, name: &str) -> Result<String, String> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `task PID (COMM) STATE PPID ...`, lines of `/proc/PID/status` about switches, and lines of `[<0>] symbol+0xoffset/0xsize [module]`.
fn tasks(text: &str) -> BTreeMap<u64, Task> {
    let mut found: BTreeMap<u64, Task> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(stat) = line.strip_prefix("task ") {
            current = stat.split_once(" (").zip(stat.rsplit_once(") ")).and_then(|((pid, _), (head, rest))| {
                let name = head.split_once(" (")?.1.to_owned();
                let mut words = rest.split(' ');
                let (state, parent) = (words.next()?.chars().next()?, words.next()?.parse().ok()?);
                let pid: u64 = pid.parse().ok()?;
                found.insert(pid, Task { name, state, parent, switches: Vec::new(), stack: Vec::new() });
                Some(pid)
            });
        } else if let Some(task) = current.and_then(|pid| found.get_mut(&pid)) {
            if line.contains("ctxt_switches") {
                task.switches.push(line.to_owned());
                continue;
            }
            let place = line.trim_start_matches("[<0>] ").split('/').next().unwrap_or_default();
            task.stack.push(place.to_owned());
        }
    }
    found
}

/// The letter of `/proc/PID/stat` as the word of a task.
fn word(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk-sleep",
        'I' => "idle",
        'Z' => "zombie",
        'T' => "stopped",
        't' => "traced",
        'P' => "parked",
        _ => "dead",
    }
}

fn hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Symbols by name, as the kernel states them.
struct Symbols(BTreeMap<String, Vec<u64>>);

impl Symbols {
    fn of(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some(at), Some(name)) = (words.next().and_then(|w| u64::from_str_radix(w, 16).ok()), words.nth(1)) {
                all.entry(name.to_owned()).or_default().push(at);
            }
        }
        Self(all)
    }

    fn one(&self, name: &str) -> Result<u64, String> {
        self.0.get(name).and_then(|all| all.first()).copied().ok_or(format!("/proc/kallsyms has no {name}"))
    }

    /// Whether `place`, a symbol and an offset, is at `pc`.
    fn is_at(&self, place: &str, pc: u64) -> bool {
        let Some((name, offset)) = place.split_once("+0x") else { return false };
        let offset = u64::from_str_radix(offset, 16).ok();
        offset.is_some_and(|o| self.0.get(name).is_some_and(|all| all.iter().any(|at| at.wrapping_add(o) == pc)))
    }
}

/// Our frames of a thread as the kernel would write them, without those in `scheduler` and without user frames.
fn stack(thread: &Value, scheduler: &std::ops::Range<u64>) -> Vec<(u64, String)> {
    let frames = thread["frames"].as_array().cloned().unwrap_or_default();
    let physical = frames.iter().filter(|f| f["inline"] != Value::Bool(true));
    let kernel = physical.filter_map(|f| hex(&f["pc"]).filter(|pc| *pc >> 63 == 1).map(|pc| (pc, f)));
    // The kernel looks a return address up as it is, also for the scheduler's section.
    let shown = kernel.filter(|(pc, _)| !scheduler.contains(pc));
    let text = |(pc, f): (u64, &Value)| {
        let name = f["function"].as_str().unwrap_or("?");
        (pc, f["offset"].as_u64().map_or_else(|| name.to_owned(), |offset| format!("{name}+{offset:#x}")))
    };
    shown.map(text).collect()
}

/// Compares everything.
pub fn kcore(shown: &Value, folder: &Path) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let (before, after) = (tasks(&read(folder, "tasks.before")?), tasks(&read(folder, "tasks.after")?));
    let symbols = Symbols::of(&read(folder, "kallsyms")?);
    let scheduler = symbols.one("__sched_text_start")?..symbols.one("__sched_text_end")?;
    let rows = shown["tasks"].as_array().ok_or("the snapshot has no tasks")?;
    let threads = shown["threads"].as_array().ok_or("the snapshot has no threads")?;
    for (pid, task) in &before {
        if after.get(pid) != Some(task) {
            counts.moved += 1;
            continue;
        }
        let Some(row) = rows.iter().find(|r| r["id"].as_u64() == Some(*pid)) else {
            counts.differences.push(format!("task {pid} ({}) is not in the snapshot", task.name));
            continue;
        };
        counts.tasks += 1;
        let mut differ = |what: &str, ours: String, theirs: &str| {
            if ours != theirs {
                counts.differences.push(format!("task {pid} ({}): {what} is {ours:?}, not {theirs:?}", task.name));
            }
        };
        // /proc has longer names of kernel threads than the 15 characters of `task_struct`, and those of workers with what
        // they work for (`kworker/0:1-events`).
        let name = row["name"].as_str().unwrap_or_default();
        let cut = (name.starts_with("kworker/") || name.len() == 15) && task.name.starts_with(name);
        differ("name", if cut { task.name.clone() } else { name.to_owned() }, &task.name);
        differ("parent", row["parent_pid"].as_u64().unwrap_or(u64::MAX).to_string(), &task.parent.to_string());
        differ("state", row["state"].as_str().unwrap_or_default().to_owned(), word(task.state));
        if task.state == 'R' || task.stack.is_empty() {
            continue;
        }
        let thread = threads.iter().find(|t| t["id"].as_u64() == Some(*pid));
        let ours = thread.map(|t| stack(t, &scheduler)).unwrap_or_default();
        counts.stacks += 1;
        counts.frames += task.stack.len();
        let same = |((pc, name), theirs): (&(u64, String), &String)| {
            name == theirs || (symbols.is_at(name, *pc) && symbols.is_at(theirs, *pc))
        };
        counts.aliases += ours.iter().zip(&task.stack).filter(|((_, name), theirs)| name != *theirs).count();
        if ours.len() != task.stack.len() || !ours.iter().zip(&task.stack).all(same) {
            counts
                .differences
                .push(format!("stack of task {pid} ({}):\n  ours {ours:?}\n  kernel's {:?}", task.name, task.stack));
        }
    }
    modules(shown, &read(folder, "modules")?, &mut counts);
    log(shown, &read(folder, "dmesg.before")?, &mut counts);
    identity(shown, folder, &mut counts)?;
    Ok(counts)
}

/// Names and addresses of `/proc/modules`.
fn modules(shown: &Value, text: &str, counts: &mut Counts) {
    let ours = shown["modules"].as_array().cloned().unwrap_or_default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(name), Some(at)) = (words.first(), words.get(5)) else { continue };
        let base = u64::from_str_radix(at.trim_start_matches("0x"), 16).ok();
        counts.modules += 1;
        let there = ours.iter().any(|m| m["path"].as_str() == Some(name) && hex(&m["base"]) == base);
        if !there {
            counts.differences.push(format!("module {name} at {at} is not in the snapshot"));
        }
    }
}

/// Every line of `dmesg`, in its order, is a line of the log.
fn log(shown: &Value, text: &str, counts: &mut Counts) {
    let ours = shown["log"].as_array().cloned().unwrap_or_default();
    let mut ours = ours.iter().flat_map(|r| r["text"].as_str().unwrap_or_default().lines());
    for line in text.lines() {
        let said = line.split_once("] ").map_or(line, |(_, said)| said);
        counts.lines += 1;
        if !ours.any(|l| l.trim_end() == said.trim_end()) {
            counts.differences.push(format!("the log lacks the line {said:?} where dmesg has it"));
            return;
        }
    }
}

/// Origin, release and build-id; and the banner, read as bytes.
fn identity(shown: &Value, folder: &Path, counts: &mut Counts) -> Result<(), String> {
    let mut differ = |what: &str, ours: &str, theirs: &str| {
        if ours != theirs {
            counts.differences.push(format!("{what} is {ours:?}, not {theirs:?}"));
        }
    };
    differ("origin", shown["identity"]["origin"].as_str().unwrap_or_default(), "live");
    let version = read(folder, "version")?;
    let release = version.split(' ').nth(2).unwrap_or_default();
    differ("release", shown["identity"]["release"].as_str().unwrap_or_default(), release);
    let banner = read(folder, "banner")?;
    differ("banner", &banner, version.get(..banner.len().max(1)).unwrap_or_default());
    let path = folder.join("notes");
    let notes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let head = [&4_u32.to_le_bytes()[..], &20_u32.to_le_bytes(), &3_u32.to_le_bytes(), b"GNU\0"].concat();
    let at = notes.windows(head.len()).position(|w| w == head).ok_or("/sys/kernel/notes has no build-id")?;
    let id: String = notes.iter().skip(at + head.len()).take(20).map(|b| format!("{b:02x}")).collect();
    let kernel = shown["modules"].as_array().and_then(|m| m.iter().find(|m| m["path"] == "vmlinux"));
    differ("build-id", kernel.and_then(|k| k["build_id"].as_str()).unwrap_or_default(), &id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{stack, tasks};
    use serde_json::json;

    #[test]
    fn the_kernels_words() {
        let text = "task 7 (a (b) c) S 1 7\nvoluntary_ctxt_switches:\t5\n[<0>] do_wait+0x5f/0x110\n[<0>] f+0x1/0x2 [m]\ntask 8 (x) R 7 1\n";
        let found = tasks(text);
        assert_eq!(found[&7].name, "a (b) c");
        assert_eq!((found[&7].state, found[&7].parent), ('S', 1));
        assert_eq!(found[&7].stack, ["do_wait+0x5f", "f+0x1"]);
        assert_eq!(found[&7].switches, ["voluntary_ctxt_switches:\t5"]);
        assert!(found[&8].stack.is_empty());
    }

    #[test]
    fn our_frames_in_the_kernels_words() {
        let frame = |pc: &str, function: &str, inline: bool| json!({"pc": pc, "function": function, "offset": 16, "inline": inline});
        let thread = json!({"frames": [
            frame("0xffffffff81000010", "__schedule", false),
            frame("0xffffffff82000010", "inlined", true),
            frame("0xffffffff82000010", "do_wait", false),
            frame("0x401000", "main", false),
        ]});
        assert_eq!(
            stack(&thread, &(0xffff_ffff_8100_0000..0xffff_ffff_8100_1000)),
            [(0xffff_ffff_8200_0010, "do_wait+0x10".to_owned())]
        );
    }
}
