//! Programs of FreeBSD that fell: built by clang, and their registers and memory in a core as FreeBSD's kernel writes it.
//!
//! They need no system, so that those for x86 run here until they fall. The one for arm64 stands where it would fall,
//! over a stack of numbers.

use super::arg;
use evidence::{Register, Target as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::elfcore::freebsd::Machine;
use testdata::elfcore::freebsd_process::{Lwp, Mapping, Process};
use testdata::fixtures::{required, workspace};

/// Every machine that there is one for.
pub const MACHINES: [Machine; 3] = [Machine::Amd64, Machine::I386, Machine::Arm64];

/// A program in `folder` and what is left of it; `None` (said on stderr) where tools are missing. `signature`: what
/// return addresses of arm64 carry in their upper bits, as hardware with pointer authentication leaves them.
pub fn program(machine: Machine, folder: &Path, signature: u64) -> Option<(PathBuf, Process)> {
    let program = build(machine, folder)?;
    let process = if machine == Machine::Arm64 { stood(&program, signature) } else { fallen(machine, &program) };
    Some((program, process?))
}

/// Runs a tool; `None` (said on stderr) when this machine has none.
fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(name).args(arguments).env("LC_ALL", "C").output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(output.status.success(), "{name} {arguments:?}: {text}");
            Some(text)
        }
        Err(why) => {
            assert!(!required("POSTFAULT_REQUIRE_TOOLS"), "{name}: {why}");
            eprintln!("skipped: {name}: {why}");
            None
        }
    }
}

fn build(machine: Machine, folder: &Path) -> Option<PathBuf> {
    let target = match machine {
        Machine::Amd64 => "x86_64-unknown-freebsd14",
        Machine::I386 => "i386-unknown-freebsd14",
        Machine::Arm64 => "aarch64-unknown-freebsd14",
    };
    let (source, program) = (workspace().join("testdata/freebsd/program.c"), folder.join("program"));
    let target = format!("--target={target}");
    let flags = ["-g", "-O0", "-fno-pic", "-ffreestanding", "-fno-stack-protector", "-fuse-ld=lld", "-nostdlib"];
    let files = ["-static", "-Wl,--build-id", "-o", arg(&program), arg(&source)];
    let protection: &[&str] = if machine == Machine::Arm64 { &["-mbranch-protection=pac-ret"] } else { &[] };
    tool("clang", &[&[target.as_str()][..], &flags, protection, &files].concat())?;
    Some(program)
}

/// Lets a program run until it falls: its registers and memory.
fn fallen(machine: Machine, program: &Path) -> Option<Process> {
    let core = program.with_extension("linux");
    let gcore = format!("generate-core-file {}", arg(&core));
    // gdb would look for FreeBSD's notes and registers in what runs here: a copy says that it is nobody's.
    let (copy, mut bytes) = (program.with_extension("copy"), std::fs::read(program).unwrap());
    bytes[7] = 0;
    std::fs::copy(program, &copy).unwrap();
    std::fs::write(&copy, bytes).unwrap();
    tool("gdb", &["-nx", "-batch", "-ex", "run", "-ex", &gcore, arg(&copy)])?;
    let taken = platform::elfcore::open(&core, &platform::elfcore::Options::default()).unwrap();
    let thread = &taken.threads()[0];
    let registers = (0..64).filter_map(|n| Some((n, thread.registers.get(Register(n))?))).collect();
    let mut mappings = Vec::new();
    for m in taken.mappings() {
        let mut bytes = vec![0; usize::try_from(m.range.end.0 - m.range.start.0).unwrap()];
        if taken.memory().read(m.range.start, &mut bytes).0 != bytes.len() || m.range.start.0 >> 63 != 0 {
            continue;
        }
        let image = bytes.starts_with(b"\x7fELF") || m.path.as_deref().is_some_and(|p| p.ends_with("program.copy"));
        let Some(p) = m.protection else { continue };
        let flags = u32::from(p.read) << 2 | u32::from(p.write) << 1 | u32::from(p.execute);
        let path = if image && !m.path.as_deref().is_some_and(|p| p.starts_with('[')) { PATH } else { "" };
        mappings.push(Mapping { start: m.range.start.0, flags, path: path.into(), bytes });
    }
    let lwp = Lwp { id: 100_101, name: "program".into(), signal: 11, fault: 8, registers };
    Some(Process { machine, executable: PATH.into(), lwps: vec![lwp], mappings, auxv: auxv(program) })
}

const PATH: &str = "/usr/local/bin/program";

/// What the system told the program: `AT_PHDR`, `AT_PHENT`, `AT_PHNUM`, `AT_PAGESZ`, `AT_ENTRY`.
fn auxv(program: &Path) -> Vec<(u64, u64)> {
    let file = std::fs::read(program).unwrap();
    let number = |at: usize, size: usize| file[at..at + size].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let wide = file[4] == 2;
    let (entry, table, size, count) = if wide { (number(24, 8), 64, 54, 56) } else { (number(24, 4), 52, 42, 44) };
    // The file begins where its first segment does.
    let start = if wide {
        (0..4).map(|n| 64 + n * 56).find(|at| number(*at, 4) == 1).map(|at| number(at + 16, 8))
    } else {
        (0..4).map(|n| 52 + n * 32).find(|at| number(*at, 4) == 1).map(|at| number(at + 8, 4))
    };
    vec![(3, start.unwrap() + table), (4, number(size, 2)), (5, number(count, 2)), (6, 4096), (9, entry)]
}

/// Where functions are: start and size.
fn functions(program: &Path) -> Option<BTreeMap<String, (u64, u64)>> {
    let text = tool("nm", &["-S", arg(program)])?;
    let hex = |t: &str| u64::from_str_radix(t, 16).unwrap();
    let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    Some(lines.filter(|w| w.len() == 4).map(|w| (w[3].to_owned(), (hex(w[0]), hex(w[1])))).collect())
}

/// A process of arm64 that stands in `fault`, called by `middle` thrice: a stack of numbers, in which only the frame
/// records are as they would be.
fn stood(program: &Path, signature: u64) -> Option<Process> {
    let functions = functions(program)?;
    let inside = |name: &str| functions[name].0 + ((functions[name].1 / 2) & !3);
    let file = std::fs::read(program).unwrap();
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let mut mappings = Vec::new();
    for n in 0..usize::from(file[56]) {
        let at = word(32) as usize + n * 56;
        if half(at) != 1 {
            continue;
        }
        let (offset, start, size) = (word(at + 8), word(at + 16), word(at + 32));
        // The system maps whole pages.
        let skip = start % 4096;
        let mut bytes = file[(offset - skip) as usize..(offset + size) as usize].to_vec();
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        mappings.push(Mapping { start: start - skip, flags: half(at + 4), path: PATH.into(), bytes });
    }
    let stack = 0x7fff_ffff_0000_u64;
    let mut bytes: Vec<u8> = (0..0x2000_u32).map(|n| ((n * 37) >> 2) as u8).collect();
    let mut fp = 0x800_usize;
    let first = fp;
    for (n, name) in ["middle", "middle", "_start", ""].iter().enumerate() {
        let (next, back) = if n < 3 { (stack + fp as u64 + 0x100, inside(name) | signature) } else { (0, 0) };
        bytes[fp..fp + 8].copy_from_slice(&next.to_le_bytes());
        bytes[fp + 8..fp + 16].copy_from_slice(&back.to_le_bytes());
        fp += 0x100;
    }
    mappings.push(Mapping { start: stack, flags: 6, path: String::new(), bytes });
    // `fault` calls nothing: its return address is in a register alone, and is not signed.
    let lr = inside("middle");
    let registers =
        vec![(29, stack + first as u64), (30, lr), (31, stack + first as u64 - 0x50), (32, inside("fault"))];
    let lwp = Lwp { id: 100_101, name: "program".into(), signal: 11, fault: 8, registers };
    Some(Process { machine: Machine::Arm64, executable: PATH.into(), lwps: vec![lwp], mappings, auxv: auxv(program) })
}
