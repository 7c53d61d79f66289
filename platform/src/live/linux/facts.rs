//! Facts about the whole process and its host, read from `/proc` while the process still runs.

use super::ptrace::Tid;
use super::threads::attribute;
use super::{Options, files, parse};
use evidence::{Attribute, Doubt, OpenFile};
use std::fmt::Write;
use std::path::PathBuf;

/// `smaps` has some 700 bytes per mapping; this is enough for the kernel's default limit of 65,530 mappings.
pub(super) const LIMIT_SMAPS: u64 = 64 << 20;

/// How many descriptors are listed. Two reads each; servers with a hundred thousand connections exist, and what they
/// have open is the same a thousand times over.
const LIMIT_OPEN_FILES: usize = 16_384;

/// Files of a few lines, by the key under which they are kept.
const TEXTS: [(&str, &str); 11] = [
    ("proc.status", "status"),
    ("proc.limits", "limits"),
    ("proc.cgroup", "cgroup"),
    ("proc.io", "io"),
    ("proc.oom_score", "oom_score"),
    ("proc.oom_score_adj", "oom_score_adj"),
    ("proc.security_label", "attr/current"),
    ("proc.coredump_filter", "coredump_filter"),
    ("proc.personality", "personality"),
    ("proc.uid_map", "uid_map"),
    ("proc.autogroup", "autogroup"),
];

/// Files whose items end with NUL bytes.
const LISTS: [(&str, &str); 2] = [("proc.environment", "environ"), ("proc.command_line", "cmdline")];

const LINKS: [(&str, &str); 3] =
    [("proc.executable", "exe"), ("proc.working_directory", "cwd"), ("proc.root_directory", "root")];

const HOST: [(&str, &str); 5] = [
    ("host.version", "/proc/version"),
    ("host.uptime", "/proc/uptime"),
    ("host.load", "/proc/loadavg"),
    ("host.memory", "/proc/meminfo"),
    ("host.boot_id", "/proc/sys/kernel/random/boot_id"),
];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// What was gathered.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub attributes: Vec<Attribute>,
    pub open_files: Vec<OpenFile>,
    pub doubts: Vec<Doubt>,
    /// The auxiliary vector; it changes only when the program is replaced (`execve`).
    pub auxv: Vec<u8>,
    pub command: Option<Box<str>>,
    pub parent: Option<u64>,
    pub arguments: Option<Box<str>>,
    pub executable: Option<Box<str>>,
    /// `/proc/PID/root`, unless it is the reader's own root directory.
    pub root: Option<PathBuf>,
}

/// Reads everything. `tid` is a thread that has an address space: the leader, unless it has ended.
pub(super) fn gather(pid: Tid, tid: Tid, options: &Options) -> Facts {
    let mut facts = Facts { auxv: auxv(tid), ..Facts::default() };
    let stat = files::read(format!("/proc/{pid}/stat"), files::LIMIT_TEXT).ok().and_then(|(s, _)| parse::stat(&s));
    if let Some(stat) = stat {
        (facts.command, facts.parent) = (Some(stat.name.into()), stat.parent);
    }
    for (key, name) in TEXTS {
        match files::text(format!("/proc/{tid}/{name}")) {
            Ok(text) => facts.add(key, text.trim_end_matches(['\n', '\0'])),
            Err(error) => facts.failed(name, &error),
        }
    }
    for (key, name) in LISTS {
        match files::read(format!("/proc/{tid}/{name}"), files::LIMIT_TEXT) {
            Ok((bytes, more)) => {
                if more {
                    facts.doubts.push(Doubt::new("proc", format!("{name} is longer than what is kept of it")));
                }
                let items = String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
                if key == "proc.command_line" && !items.is_empty() {
                    facts.arguments = Some(items.replace('\0', " ").into());
                }
                facts.add(key, &items.replace('\0', "\n"));
            }
            Err(error) => facts.failed(name, &error),
        }
    }
    for (key, name) in LINKS {
        match files::link(format!("/proc/{tid}/{name}")) {
            Ok(target) => {
                if key == "proc.executable" {
                    facts.executable = Some(target.trim_end_matches(" (deleted)").into());
                }
                facts.add(key, &target);
            }
            Err(error) => facts.failed(name, &error),
        }
    }
    for (key, path) in HOST {
        if let Ok(text) = files::text(path) {
            facts.add(key, text.trim_end());
        }
    }
    facts.namespaces(tid);
    facts.root = root(tid);
    if options.resident {
        facts.resident(tid);
    }
    if options.open_files {
        facts.descriptors(tid);
    }
    facts
}

/// The auxiliary vector.
pub(super) fn auxv(tid: Tid) -> Vec<u8> {
    files::read(format!("/proc/{tid}/auxv"), files::LIMIT_TEXT).map(|(bytes, _)| bytes).unwrap_or_default()
}

/// Where the process's paths are to be opened: nowhere special if it sees the same files as we do.
fn root(tid: Tid) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let root = PathBuf::from(format!("/proc/{tid}/root"));
    let same_mounts = files::link(format!("/proc/{tid}/ns/mnt")).ok() == files::link("/proc/self/ns/mnt").ok();
    let place = |path: &std::path::Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    (!same_mounts || place(&root) != place(std::path::Path::new("/proc/self/root"))).then_some(root)
}

impl Facts {
    fn add(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.attributes.push(attribute(key, value));
        }
    }

    /// A file that this kernel does not have is no news; one that may not be read is.
    fn failed(&mut self, name: &str, error: &std::io::Error) {
        if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) {
            self.doubts.push(Doubt::new("proc", format!("{name} of the process cannot be read: {error}")));
        }
    }

    fn namespaces(&mut self, tid: Tid) {
        let mut lines = Vec::new();
        for name in NAMESPACES {
            let Ok(target) = files::link(format!("/proc/{tid}/ns/{name}")) else { continue };
            let same = files::link(format!("/proc/self/ns/{name}")).is_ok_and(|own| own == target);
            lines.push(if same { target } else { format!("{target} (not the reader's)") });
        }
        self.add("proc.namespaces", &lines.join("\n"));
    }

    fn resident(&mut self, tid: Tid) {
        let (bytes, more) = match files::read(format!("/proc/{tid}/smaps"), LIMIT_SMAPS) {
            Ok(read) => read,
            Err(error) => return self.failed("smaps", &error),
        };
        if more {
            self.doubts.push(Doubt::new(
                "proc",
                format!("smaps has more than {LIMIT_SMAPS} bytes: the sums of resident memory lack the last mappings"),
            ));
        }
        let resident = parse::smaps(&String::from_utf8_lossy(&bytes));
        let mut totals = String::new();
        for (key, kilobytes) in &resident.totals {
            let _ = writeln!(totals, "{key}: {kilobytes} kB");
        }
        let mut largest = String::new();
        for (kilobytes, range, name) in &resident.largest {
            let _ = writeln!(largest, "{kilobytes} kB {range} {name}");
        }
        self.add("proc.resident", totals.trim_end());
        self.add("proc.resident.largest", largest.trim_end());
    }

    fn descriptors(&mut self, tid: Tid) {
        let folder = match std::fs::read_dir(format!("/proc/{tid}/fd")) {
            Ok(folder) => folder,
            Err(error) => return self.failed("fd", &error),
        };
        let mut all: Vec<u64> = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        all.sort_unstable();
        if all.len() > LIMIT_OPEN_FILES {
            self.doubts.push(Doubt::new(
                "proc",
                format!("{} descriptors are open: the first {LIMIT_OPEN_FILES} are listed", all.len()),
            ));
        }
        for descriptor in all.into_iter().take(LIMIT_OPEN_FILES) {
            // It may have been closed meanwhile: the process runs.
            let Ok(target) = files::link(format!("/proc/{tid}/fd/{descriptor}")) else { continue };
            let info = files::text(format!("/proc/{tid}/fdinfo/{descriptor}")).unwrap_or_default();
            self.open_files.push(OpenFile {
                descriptor,
                target: target.into(),
                flags: parse::value(&info, "flags").and_then(|f| u64::from_str_radix(f, 8).ok()),
                position: parse::number(&info, "pos"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_an_ordinary_process() {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345").unwrap();
        file.seek(std::io::SeekFrom::Start(3)).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let facts = gather(own, own, &Options::default());
        let get = |key: &str| facts.attributes.iter().find(|a| &*a.key == key).map(|a| a.value.to_string());
        assert!(get("proc.limits").unwrap().contains("Max open files"));
        assert!(get("proc.environment").unwrap().contains("PATH="));
        assert!(get("proc.resident").unwrap().starts_with("Size: "));
        assert_eq!(get("proc.executable").as_deref(), facts.executable.as_deref());
        assert_eq!(parse::auxv_is_64_bit(&facts.auxv), Some(true));
        assert_eq!(facts.root, None);
        assert!(facts.open_files.iter().any(|f| f.position == Some(3)), "{:?}", facts.open_files);
    }
}
