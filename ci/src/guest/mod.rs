//! A Linux guest that looks at itself while it runs, panics, and is captured by its own capture kernel.
//!
//! What is tested is the way of a real machine: `postfault` as a static program in an initial RAM file system. In the
//! first kernel it captures `/proc/kcore`, and the kernel's own words in `/proc` are what its answer must equal. Then the
//! kernel panics into the capture kernel that kexec loaded, where it captures `/proc/vmcore` in little memory; a copy of
//! that memory, and makedumpfile's dump of it, give the stacks that its snapshot must have.

mod compare;
mod initramfs;
mod machine;

use crate::steps::{root, run as step};
use initramfs::Initramfs;
use machine::Guest;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is needed and where.
#[derive(clap::Args)]
pub struct Options {
    /// The kernel's release, as in /boot/vmlinuz-RELEASE and /lib/modules/RELEASE.
    #[arg(long, value_name = "RELEASE")]
    release: String,
    /// The kernel's file with debug information: compare lines with it, and drgn, if that is there.
    #[arg(long, value_name = "VMLINUX")]
    kernel: Option<PathBuf>,
    /// Keep console, drives and snapshots in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// MiB of the guest.
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// The static program instead of building one.
    #[arg(long, value_name = "FILE")]
    postfault: Option<PathBuf>,
    /// Seconds the guest may take.
    #[arg(long, default_value_t = 900)]
    seconds: u64,
}

/// The target triple of the static program: named, so that build scripts and macros are built as usual.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What the guest's drives need, in the order of loading.
const MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"];
/// Most memory that the program may take in the capture kernel, KiB.
const MOST_KIB: u64 = 64 << 10;

/// Builds, boots, captures, compares.
pub fn run(options: &Options) -> Result<(), String> {
    let binary = match &options.postfault {
        Some(path) => path.clone(),
        None => build()?,
    };
    let scratch = tempfile::tempdir().map_err(|e| format!("a temporary folder: {e}"))?;
    let folder = options.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let kernel = PathBuf::from(format!("/boot/vmlinuz-{}", options.release));
    let first = folder.join("first.img");
    std::fs::write(&first, first_image(options, &binary, &kernel)?).map_err(|e| format!("{}: {e}", first.display()))?;
    let guest = Guest {
        kernel: &kernel,
        initramfs: &first,
        memory: options.memory,
        command_line: "console=ttyS0 crashkernel=192M panic=0",
        folder: &folder,
        drives: 4,
    };
    println!("== guest of {} MiB, {}", options.memory, options.release);
    let console = guest.run(Duration::from_secs(options.seconds))?;
    for line in console.lines().filter(|l| l.starts_with("guest: ") || l.contains("Maximum resident")) {
        println!("   {}", line.trim());
    }
    let mut failed = Vec::new();
    failed.extend(live(&binary, &unpacked(&guest, &console, 0, &folder, "kcore")?).err());
    let captured = unpacked(&guest, &console, 1, &folder, "vmcore")?;
    let snapshot = captured.join("vmcore.pfsnap");
    let length = snapshot.metadata().map(|m| m.len()).unwrap_or(0);
    println!("== snapshot of {length} bytes, written by the capture kernel");
    failed.extend(peak(&captured.join("vmcore.time")).err());
    let shown = postfault(&binary, &[&"show", &"--json", &snapshot])?;
    let mut dumps = vec![(guest.handed_out(&console, 2)?, "the copy of its /proc/vmcore")];
    match guest.handed_out(&console, 3) {
        Ok(path) => dumps.push((path, "makedumpfile's dump")),
        Err(why) => println!("== makedumpfile's dump: skipped, {why}"),
    }
    for (dump, what) in &dumps {
        failed.extend(same(&binary, &shown, dump, what, options.kernel.as_deref()).err());
    }
    if let Some(kernel) = &options.kernel {
        failed.extend(drgn(&binary, &dumps[0].0, kernel).err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--target", TRIPLE, "--package", "postfault-cli"]);
    step("static postfault", cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(root().join("target").join(TRIPLE).join("release/postfault"))
}

fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The initial RAM file system of the first kernel, with that of the capture kernel in it.
fn first_image(options: &Options, binary: &Path, kernel: &Path) -> Result<Vec<u8>, String> {
    let scripts = root().join("ci/linux-guest");
    let stripped = tempfile::NamedTempFile::new().map_err(|e| format!("a temporary file: {e}"))?;
    step("strip", Command::new("strip").arg("-o").arg(stripped.path()).arg(binary))?;
    let common = |init: &str| -> Result<Initramfs, String> {
        let mut made = Initramfs::new();
        made.copy(&scripts.join(init), "init")?;
        made.copy(&tool("busybox").ok_or("busybox is missing (Debian: busybox-static)")?, "bin/busybox")?;
        made.copy(stripped.path(), "bin/postfault")?;
        // Not the one of busybox, whose peak is in pages and printed as if it were in some other unit.
        made.libraries(Path::new("/usr/bin/time"))?;
        made.copy(Path::new("/usr/bin/time"), "bin/gnu-time")?;
        let modules = PathBuf::from(format!("/lib/modules/{}/kernel", options.release));
        let mut list = String::new();
        for name in MODULES {
            let file =
                find(&modules, &format!("{name}.ko")).ok_or_else(|| format!("{}: no {name}.ko", modules.display()))?;
            made.copy(&file, &format!("modules/{name}.ko"))?;
            list.push_str(&format!("{name}.ko\n"));
        }
        made.file("modules.list", list.as_bytes());
        Ok(made)
    };
    let mut capture = common("capture.sh")?;
    match tool("makedumpfile") {
        Some(file) => capture.program(&file)?,
        None => println!("== makedumpfile is not here: its dump of the same memory is not compared"),
    }
    let mut first = common("first.sh")?;
    first.program(&tool("kexec").ok_or("kexec is missing (Debian: kexec-tools)")?)?;
    first.copy(kernel, "vmlinuz")?;
    first.file("capture.img", &capture.finish());
    Ok(first.finish())
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    let here = entries.iter().find(|p| p.file_name().is_some_and(|n| n == name)).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir()).find_map(|p| find(p, name)))
}

/// The archive that the guest handed out on a drive, unpacked.
fn unpacked(guest: &Guest<'_>, console: &str, drive: usize, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let archive = guest.handed_out(console, drive)?;
    let to = folder.join(name);
    std::fs::create_dir_all(&to).map_err(|e| format!("{}: {e}", to.display()))?;
    let status = Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&to).status();
    match status {
        Ok(status) if status.success() => Ok(to),
        other => Err(format!("tar xf {}: {other:?}", archive.display())),
    }
}

fn postfault(binary: &Path, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<Value, String> {
    let mut command = Command::new(binary);
    command.args(arguments.iter().map(|a| a.as_ref()));
    let output = command.output().map_err(|e| format!("{}: {e}", binary.display()))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{command:?}: {e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The snapshot of the running kernel beside that kernel's own words.
fn live(binary: &Path, folder: &Path) -> Result<(), String> {
    let shown = postfault(binary, &[&"show", &"--json", &folder.join("kcore.pfsnap")])?;
    let counts = compare::kcore(&shown, folder)?;
    println!(
        "== /proc/kcore: {} tasks, {} stacks with {} frames ({} by another symbol at the same address), {} modules, \
         {} lines of the log compared; {} tasks had moved",
        counts.tasks, counts.stacks, counts.frames, counts.aliases, counts.modules, counts.lines, counts.moved
    );
    for difference in &counts.differences {
        println!("   DIFFERS: {difference}");
    }
    // A guest in which next to nothing could be compared shows nothing.
    if counts.stacks < 20 || counts.frames < 100 || counts.modules < 4 || counts.lines < 100 {
        return Err("/proc/kcore: too little was compared".to_owned());
    }
    match counts.differences.len() {
        0 => Ok(()),
        n => Err(format!("/proc/kcore: {n} differences from what the kernel says")),
    }
}

/// The peak of memory, out of what `time -v` wrote.
fn peak(time: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(time).map_err(|e| format!("{}: {e}", time.display()))?;
    let line = text.lines().find_map(|l| l.trim().strip_prefix("Maximum resident set size (kbytes): "));
    let kib: u64 = line.and_then(|n| n.parse().ok()).ok_or("time -v did not say how much memory was taken")?;
    println!("== peak of postfault in the capture kernel: {kib} KiB (at most {MOST_KIB})");
    if kib < MOST_KIB { Ok(()) } else { Err(format!("postfault took {kib} KiB in the capture kernel")) }
}

/// Threads with their frames, without what only the kernel's file adds.
fn stacks(shown: &Value, names_only: bool) -> Vec<(u64, Vec<String>)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let frame = |f: &Value| {
        let place = if names_only { String::new() } else { format!(" {}:{}", f["file"], f["line"]) };
        format!("{} {}{place}", f["pc"], f["function"])
    };
    let thread = |t: &Value| {
        let frames = list(&t["frames"]);
        let physical = frames.iter().filter(|f| !names_only || f["inline"] != Value::Bool(true));
        (t["id"].as_u64().unwrap_or(u64::MAX), physical.map(frame).collect())
    };
    list(&shown["threads"]).iter().map(thread).collect()
}

/// The snapshot's stacks are those of the dump: all of them as they are, and the kernel's functions also by its file.
fn same(binary: &Path, shown: &Value, dump: &Path, what: &str, kernel: Option<&Path>) -> Result<(), String> {
    let bt: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"bt", &"--json", &"--threads", &"all", &"--no-variables", &"--no-cache"];
    let mut arguments = bt.to_vec();
    arguments.push(&dump);
    let (ours, theirs) = (stacks(shown, false), stacks(&postfault(binary, &arguments)?, false));
    let frames: usize = ours.iter().map(|(_, frames)| frames.len()).sum();
    println!("== {what}: {} threads, {frames} frames in the snapshot", ours.len());
    let differ = |ours: &[(u64, Vec<String>)], theirs: &[(u64, Vec<String>)], by: &str| {
        for (id, frames) in ours {
            let other = theirs.iter().find(|(i, _)| i == id).map(|(_, f)| f);
            if other != Some(frames) {
                println!("   DIFFERS: thread {id}\n     snapshot {frames:?}\n     {by} {other:?}");
            }
        }
        if ours == theirs { Ok(()) } else { Err(format!("the snapshot's stacks are not those of {by}")) }
    };
    differ(&ours, &theirs, what)?;
    if ours.len() < 50 || frames < 200 {
        return Err(format!("{what}: too little was compared"));
    }
    let Some(kernel) = kernel else { return Ok(()) };
    arguments.insert(1, &"--kernel");
    arguments.insert(2, &kernel);
    let with = stacks(&postfault(binary, &arguments)?, true);
    by_file(&stacks(shown, true), &with, kernel)
}

/// The same addresses in the same order; names may differ where the file's debug information has the function, and the
/// kernel's own symbols a part of it (`.cold`) or a label inside of it.
fn by_file(ours: &[(u64, Vec<String>)], with: &[(u64, Vec<String>)], kernel: &Path) -> Result<(), String> {
    let (mut frames, mut parts, mut wrong) = (0, 0, 0);
    for (id, own) in ours {
        let other = with.iter().find(|(i, _)| i == id).map(|(_, f)| f.as_slice()).unwrap_or_default();
        frames += own.len();
        wrong += usize::from(own.len() != other.len());
        for (a, b) in own.iter().zip(other).filter(|(a, b)| a != b) {
            // A name ends with its quotation mark.
            let (a, b) = (a.trim_end_matches('"'), b.trim_end_matches('"'));
            if a.starts_with(b) || b.starts_with(a) {
                parts += 1;
            } else {
                wrong += 1;
                println!("   DIFFERS: thread {id}: {a}, by the kernel's file {b}");
            }
        }
    }
    println!("   with {}: {frames} frames, {parts} named by a part or a label of the function", kernel.display());
    if wrong == 0 && ours.len() == with.len() { Ok(()) } else { Err("the kernel's file gives other stacks".to_owned()) }
}

fn drgn(binary: &Path, dump: &Path, kernel: &Path) -> Result<(), String> {
    if tool("drgn").is_none() {
        println!("== drgn: skipped, it is not in PATH");
        return Ok(());
    }
    let mut command = Command::new(binary);
    command.args(["cross-check", "--with", "drgn", "--kernel"]).arg(kernel).arg(dump);
    step("drgn", &mut command)
}
