//! What gdb says about a core: pc and callee-saved registers of every physical frame.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Registers asked for, by DWARF number: the stack pointer and those that calls preserve.
pub fn asked(arch: evidence::Arch) -> &'static [(u16, &'static str)] {
    match arch {
        evidence::Arch::X86 => &[(4, "esp"), (3, "ebx"), (5, "ebp"), (6, "esi"), (7, "edi")],
        _ => &[(7, "rsp"), (3, "rbx"), (6, "rbp"), (12, "r12"), (13, "r13"), (14, "r14"), (15, "r15")],
    }
}

/// Most frames asked for of each thread: gdb takes minutes for the hundred thousand of a stack overflow.
pub const MOST: usize = 300;

pub struct GdbFrame {
    pub pc: u64,
    pub registers: Vec<Option<u64>>,
}

pub fn frames(program: &Path, core: &Path, arch: evidence::Arch) -> BTreeMap<u64, Vec<GdbFrame>> {
    let mask = if arch.pointer_size() == 4 { "0xffffffff" } else { "0xffffffffffffffff" };
    let names: Vec<&str> = asked(arch).iter().map(|(_, n)| *n).collect();
    let script = format!(
        r#"python
import gdb
gdb.execute("set pagination off")
for t in gdb.selected_inferior().threads():
    t.switch()
    print("T", t.ptid[1])
    f = gdb.newest_frame()
    n = 0
    while f is not None and n < {MOST}:
        if f.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            n += 1
            out = [hex(f.pc())]
            for r in {names:?}:
                v = f.read_register(r)
                out.append("?" if v.is_optimized_out else hex(int(v) & {mask}))
            print("F", *out)
        try:
            f = f.older()
        except gdb.error:
            f = None
end
"#
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.gdb");
    std::fs::write(&file, script).unwrap();
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-ex", "set debuginfod enabled off", "-ex", "set backtrace past-main on"])
        .args(["-ex", "set backtrace past-entry off", "-ex", "set backtrace limit unlimited"])
        .arg(program)
        .arg(core)
        .arg("-x")
        .arg(&file)
        .output()
        .expect("gdb is installed");
    let mut threads: BTreeMap<u64, Vec<GdbFrame>> = BTreeMap::new();
    let mut current = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("T") => current = words.next().unwrap().parse().unwrap(),
            Some("F") => {
                let mut numbers = words.map(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16).ok());
                let pc = numbers.next().unwrap().unwrap();
                threads.entry(current).or_default().push(GdbFrame { pc, registers: numbers.collect() });
            }
            _ => {}
        }
    }
    assert!(!threads.is_empty(), "gdb: {}", String::from_utf8_lossy(&output.stderr));
    threads
}
