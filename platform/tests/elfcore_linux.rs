//! Cores of real programs, by the kernel and by gcore, compared with gdb; cores of others, compared with lldb's answers.
#![cfg(target_os = "linux")]

use evidence::{Absent, Addr, Register, Target, Thread, register_number};
use platform::elfcore::{self, Core, Options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testdata::fixtures::{fixture, required};

/// Some threads block in a system call, each with its own values in registers; the first one dies or waits.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static volatile long started;
static void *work(void *arg) {
    volatile char mark[64];
    memset((char *)mark, (int)(long)arg, sizeof mark);
    __sync_fetch_and_add(&started, 1);
    for (;;) pause();
    return 0;
}
int main(int argc, char **argv) {
    int threads = atoi(argv[2]);
    for (long n = 1; n <= threads; n++) {
        pthread_t t;
        pthread_create(&t, 0, work, (void *)n);
    }
    while (started < threads) usleep(1000);
    usleep(50000);
#ifdef __x86_64__
    static const long values[4] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444};
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vmovdqu (%0), %%ymm7" : : "r"(values) : "memory");
#endif
    if (!strcmp(argv[1], "crash")) *(volatile int *)0x28 = 1;
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
"#;

struct Program {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn program() -> Program {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc").args(["-g", "-O1", "-pthread", "-o"]).args([&path, &source]).status().unwrap();
    assert!(built.success());
    Program { folder, path }
}

impl Program {
    /// The core the kernel writes, or `None`, said on stderr, where the kernel is set to hand cores elsewhere.
    fn crash(&self, threads: u32) -> Option<PathBuf> {
        let cwd = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec ./../program crash $0", &threads.to_string()]);
        let ended = command.current_dir(&cwd).stderr(Stdio::null()).process_group(0).status().unwrap();
        assert!(!ended.success());
        let core = std::fs::read_dir(&cwd).unwrap().flatten().map(|e| e.path()).next();
        if core.is_none() {
            let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
            assert!(!required("POSTFAULT_REQUIRE_CORES"), "no core was written; the pattern is {pattern}");
            eprintln!("skipped: the kernel wrote no core here; its pattern is {pattern}");
        }
        core
    }

    fn wait(&self, threads: u32) -> Waiting {
        let mut child =
            Command::new(&self.path).args(["wait", &threads.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Waiting(child)
    }
}

struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gdb(program: &Path, core: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set width 0", "-ex", "set height 0"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let out = gdb.arg(program).arg(core).env("DEBUGINFOD_URLS", "").output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What gdb prints for each thread, by LWP.
fn by_thread(text: &str) -> BTreeMap<u64, Vec<&str>> {
    let mut out: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if line.starts_with("Thread ") {
            current = line.split("LWP ").nth(1).and_then(|t| t.split(')').next()?.parse().ok());
        } else if let Some(lwp) = current {
            out.entry(lwp).or_default().push(line);
        }
    }
    out
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Registers as a debugger prints them, one a line: `rax 0x12 18`, or `rax = 0x12`.
fn same_register(thread: &Thread, line: &str) -> usize {
    let mut words = line.split_whitespace().filter(|w| *w != "=");
    let (Some(name), Some(value)) = (words.next(), words.next().and_then(hex)) else { return 0 };
    let arch = thread.registers.arch;
    let name = match (arch, name) {
        (evidence::Arch::X86_64, "eflags") => "rflags",
        // gdb shows the selector under this name only, and no base.
        (evidence::Arch::X86, "gs_base") => return 0,
        (evidence::Arch::Aarch64, "fp") => "x29",
        (evidence::Arch::Aarch64, "lr") => "x30",
        (evidence::Arch::Aarch64, "cpsr") => "pstate",
        _ => name,
    };
    let Some(register) = register_number(arch, name) else { return 0 };
    assert_eq!(thread.registers.get(register), Some(value), "thread {} {name}", thread.id.0);
    1
}

/// Compares every thread's registers and 64 bytes at its sp with gdb's answers.
fn same_as_gdb(program: &Path, path: &Path, core: &Core, threads: usize) {
    let all = |what: &str| gdb(program, path, &[&format!("thread apply all -ascending {what}")]);
    let (registers, stacks) = (all("info registers"), all("x/8xg $sp"));
    let registers = by_thread(&registers);
    assert_eq!((registers.len(), core.threads().len()), (threads, threads), "{registers:?}");
    let stacks = by_thread(&stacks);
    for thread in core.threads() {
        let compared: usize = registers[&thread.id.0].iter().map(|line| same_register(thread, line)).sum();
        assert!(compared >= 24, "only {compared} registers of {:?} were compared", registers[&thread.id.0]);
        let words = stacks[&thread.id.0].iter().flat_map(|l| l.split_whitespace().skip(1)).filter_map(hex);
        let words: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        assert_eq!(words.len(), 64);
        let mut ours = [0; 64];
        assert_eq!(core.memory().read(thread.registers.sp().unwrap(), &mut ours), (64, None));
        assert_eq!(ours[..], words[..], "stack of thread {}", thread.id.0);
    }
    // gdb's first thread is the file's first.
    let first = gdb(program, path, &["p/x $ymm7.v4_int64", "p/x $xmm7.v2_int64"]);
    let line = first.lines().find(|l| l.starts_with("$1 = {"));
    if let Some(line) = line {
        let words = line.trim_start_matches("$1 = {").trim_end_matches('}').split(", ").filter_map(hex);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        let ours = core.threads()[0].registers.vector(Register(17 + 7)).unwrap();
        // gdb 13 finds no upper halves in XSAVE areas of processors with AMX.
        assert!(bytes.len() >= 16, "{line}");
        assert_eq!(ours[..bytes.len()], bytes[..], "{line}");
    }
}

/// The mappings and images that every real core has.
fn plausible_layout(core: &Core, program: &Path) {
    let program = program.canonicalize().unwrap().display().to_string();
    assert_eq!(core.identity().executable.as_deref(), Some(&*program));
    assert_eq!(core.identity().command.as_deref(), Some("program"));
    let names: Vec<&str> = core.images().iter().filter_map(|i| i.path.as_deref()).collect();
    assert!(names.contains(&&*program) && names.iter().any(|n| n.contains("libc.so")), "{names:?}");
    assert!(names.contains(&"[vdso]"), "{names:?}");
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "each image once: {names:?}");
    for image in core.images() {
        let mut magic = [0; 4];
        assert_eq!(core.memory().read(image.base, &mut magic), (4, None), "{image:?}");
        assert_eq!(&magic, b"\x7fELF");
    }
    let stack = core.mappings().iter().find(|m| m.path.as_deref() == Some("[stack]")).unwrap();
    let main = core.threads().iter().find(|t| Some(t.id.0) == core.identity().pid).unwrap();
    assert!(stack.range.contains(&main.registers.sp().unwrap()));
    let code = core.mappings().iter().find(|m| m.range.contains(&main.registers.pc().unwrap())).unwrap();
    assert!(code.protection.is_none_or(|p| p.execute) && code.path.is_some(), "{code:?}");
}

#[test]
fn a_core_of_the_kernel_equals_gdb() {
    let program = program();
    let Some(path) = program.crash(4) else { return };
    let core = elfcore::open(&path, &Options::default()).unwrap();
    same_as_gdb(&program.path, &path, &core, 5);
    plausible_layout(&core, &program.path);
    let event = core.event().unwrap();
    let signal = event.signal.unwrap();
    assert_eq!((signal.number, signal.code, signal.address), (11, Some(1), Some(Addr(0x28))));
    assert_eq!(event.thread, Some(core.threads()[0].id));
    assert_eq!(core.identity().pid, Some(core.threads()[0].id.0));
    assert!(core.gaps().doubts.is_empty(), "{:?}", core.gaps().doubts);
    assert_eq!(core.gaps().truncated_at, None);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        let ymm7: Vec<u8> = [0x11, 0x22, 0x33, 0x44].iter().flat_map(|b| [*b; 8]).collect();
        let ours = core.threads()[0].registers.vector(Register(17 + 7)).unwrap();
        assert_eq!(ours[..32], ymm7[..]);
    }
    // The waiting threads were in pause(), and the kernel dumps no code of files.
    #[cfg(target_arch = "x86_64")]
    for thread in &core.threads()[1..] {
        assert_eq!(thread.state.as_ref().unwrap().system_call, Some(34));
        let pc = thread.registers.pc().unwrap();
        assert_eq!(core.memory().read(pc, &mut [0; 1]), (0, Some(Absent::Filtered)));
    }
    assert_eq!(core.memory().read(Addr(0x28), &mut [0; 1]), (0, Some(Absent::Unmapped)));
    // Through a pipe, and packed, it is the same core.
    let packed = program.folder.path().join("core.gz");
    std::fs::write(&packed, Command::new("gzip").args(["-1", "-c"]).arg(&path).output().unwrap().stdout).unwrap();
    let mut cat = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let stream = elfcore::open_stream(cat.stdout.take().unwrap(), "-", &Options::default()).unwrap();
    assert!(cat.wait().unwrap().success());
    for other in [stream, elfcore::open(&packed, &Options::default()).unwrap()] {
        assert_eq!(other.mappings(), core.mappings());
        assert_eq!(other.memory().extents(), core.memory().extents());
        assert_eq!(other.threads().len(), 5);
        for (a, b) in core.threads().iter().zip(other.threads()) {
            assert!(a.registers == b.registers && a.id == b.id);
            let sp = a.registers.sp().unwrap();
            let (mut ours, mut theirs) = ([0; 512], [1; 512]);
            assert_eq!(core.memory().read(sp, &mut ours), other.memory().read(sp, &mut theirs));
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn a_core_of_gcore_equals_gdb() {
    let program = program();
    let waiting = program.wait(4);
    let prefix = program.folder.path().join("gcore");
    let made = Command::new("gcore").arg("-o").arg(&prefix).arg(waiting.0.id().to_string()).output();
    let path = PathBuf::from(format!("{}.{}", prefix.display(), waiting.0.id()));
    if !made.is_ok_and(|m| m.status.success()) || !path.exists() {
        eprintln!("skipped: gcore does not work here");
        return;
    }
    let core = elfcore::open(&path, &Options::default()).unwrap();
    same_as_gdb(&program.path, &path, &core, 5);
    plausible_layout(&core, &program.path);
    assert!(core.event().is_none(), "a healthy process: {:?}", core.event());
    assert!(core.gaps().doubts.is_empty(), "{:?}", core.gaps().doubts);
    assert_eq!(core.identity().pid, Some(u64::from(waiting.0.id())));
}

/// Opens and reads what there is; nothing may panic, hang or claim more than it has.
fn exercise(path: &Path) -> Option<Core> {
    let core = elfcore::open(path, &Options::default()).ok()?;
    let mut into = vec![0; 4096];
    for extent in core.memory().extents() {
        let (got, stop) = core.memory().read(extent.range.start, &mut into);
        assert!(extent.absent.is_none() || got == 0);
        assert!(stop.is_some() || got == into.len());
    }
    for thread in core.threads() {
        let _ = core.memory().read(thread.registers.sp().unwrap_or_default(), &mut into);
    }
    Some(core)
}

#[test]
fn damaged_cores_are_harmless() {
    let program = program();
    let Some(path) = program.crash(0) else { return };
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let len = file.metadata().unwrap().len();
    let whole = exercise(&path).unwrap();
    // Random bytes, mostly where structure is: headers and notes.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut opened = 0;
    for n in 0..10_000 {
        let at = random(if n % 4 == 0 { len } else { len.min(16 << 10) });
        let mut old = [0];
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&[old[0] ^ (1 << random(8))], at).unwrap();
        opened += usize::from(exercise(&path).is_some());
        file.write_all_at(&old, at).unwrap();
    }
    assert!(opened > 9_000, "only {opened} of 10,000 could be opened");
    // Shorter and shorter: what is there is served, and the end is named.
    let mut at = (len - 1) & !4095;
    while at > 0 {
        file.set_len(at).unwrap();
        if let Some(core) = exercise(&path) {
            assert_eq!(core.gaps().truncated_at, Some(at));
            assert!(core.gaps().doubts.iter().any(|d| d.why.contains(&format!("{at:#x}"))), "{:?}", core.gaps());
            assert!(
                core.threads().is_empty() || core.threads()[0].registers.iter().eq(whole.threads()[0].registers.iter())
            );
        }
        at -= 4096;
    }
    let peak = testdata::memory::peak_kilobytes();
    assert!(peak < 512 << 10, "{peak} kB");
}

/// The threads of an answer of lldb's: number and pc.
fn lldb_threads(text: &str) -> Vec<(u64, u64)> {
    let list = text.split("(lldb) thread list").nth(1).unwrap().split("(lldb)").next().unwrap();
    let thread = |line: &str| {
        let mut words = line.split("tid = ").nth(1)?.split(", ");
        Some((words.next()?.parse().ok()?, hex(words.next()?.split_whitespace().next()?)?))
    };
    list.lines().filter_map(thread).collect()
}

#[test]
fn cores_of_others_equal_lldb() {
    let names = ["altmain", "linux-x86_64", "linux-aarch64", "x86-64-linux", "x86-64-linux-multithread"];
    for name in names {
        let Some(path) = fixture(&format!("linux/core/{name}.core")) else { return };
        let mut text = String::new();
        let answers = fixture(&format!("linux/core/{name}.lldb.txt")).unwrap();
        std::fs::File::open(answers).unwrap().read_to_string(&mut text).unwrap();
        let core = elfcore::open(&path, &Options::default()).unwrap();
        let ours: Vec<(u64, u64)> = core.threads().iter().map(|t| (t.id.0, t.registers.pc().unwrap().0)).collect();
        assert_eq!(ours, lldb_threads(&text), "{name}");
        let registers = text.split("General Purpose Registers:").nth(1).unwrap();
        let compared: usize =
            registers.lines().take(80).map(|line| same_register(&core.threads()[0], line.trim())).sum();
        assert!(compared >= 24, "{name}: {compared}");
        let signal = core.event().unwrap().signal.unwrap();
        assert_eq!(signal.number, 11, "{name}");
        assert_eq!(text.contains("address not mapped"), signal.code == Some(1), "{name}");
        assert!(core.identity().command.as_deref() == Some("a.out"), "{name}");
        let vector = |line: &str, prefix: &str| {
            let list = line.trim().strip_prefix(prefix)?.trim().strip_prefix("= {")?.strip_suffix('}')?;
            Some(list.split(' ').filter_map(hex).map(|b| u8::try_from(b).unwrap()).collect::<Vec<u8>>())
        };
        let (prefix, first) = if name.contains("aarch64") { ("v", 64) } else { ("xmm", 17) };
        let mut vectors = 0;
        for n in 0..16_u16 {
            if let Some(bytes) = text.lines().find_map(|l| vector(l, &format!("{prefix}{n} "))) {
                let ours = core.threads()[0].registers.vector(Register(first + n));
                assert_eq!(ours.map(|v| &v[..16]), Some(&bytes[..]), "{name} {prefix}{n}");
                vectors += 1;
            }
        }
        assert_eq!(vectors, 16, "{name}");
        assert!(core.images().iter().any(|i| i.path.as_deref() == Some("[vdso]")), "{name}");
    }
}

/// A 32-bit program without a library: it builds wherever the compiler knows i386 at all.
const PROGRAM_32: &str = r#"
void _start(void) {
    __asm__ volatile("movl $0x11111111,%eax; movl $0x22222222,%ebx; movl $0x33333333,%ecx; movl $0x28,%edx;"
                     "movl $0x55555555,%esi; movl $0x66666666,%edi; movl %eax,(%edx)");
}
"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn a_core_of_a_32_bit_program_equals_gdb() {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(&source, PROGRAM_32).unwrap();
    let flags = ["-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-o"];
    if !Command::new("cc").args(flags).args([&path, &source]).status().unwrap().success() {
        eprintln!("skipped: this compiler builds no 32-bit programs");
        return;
    }
    let program = Program { folder, path: path.clone() };
    let Some(core_path) = program.crash(0) else { return };
    let core = elfcore::open(&core_path, &Options::default()).unwrap();
    assert_eq!(core.identity().arch, evidence::Arch::X86);
    let registers = gdb(&path, &core_path, &["info registers"]);
    let compared: usize = registers.lines().map(|line| same_register(&core.threads()[0], line)).sum();
    assert!(compared >= 16, "{registers}");
    let stack = gdb(&path, &core_path, &["x/8xw $sp"]);
    let words: Vec<u8> = stack
        .lines()
        .filter(|l| l.starts_with("0x"))
        .flat_map(|l| l.split_whitespace().skip(1))
        .filter_map(hex)
        .flat_map(|w| w.to_le_bytes()[..4].to_vec())
        .collect();
    let mut ours = [0; 32];
    assert_eq!(core.memory().read(core.threads()[0].registers.sp().unwrap(), &mut ours), (32, None));
    assert_eq!(ours[..], words[..]);
    let signal = core.event().unwrap().signal.unwrap();
    assert_eq!((signal.number, signal.code, signal.address), (11, Some(1), Some(Addr(0x28))));
    assert_eq!(core.identity().executable.as_deref(), path.canonicalize().unwrap().to_str());
    assert!(core.gaps().doubts.is_empty(), "{:?}", core.gaps());
}
