//! Debug information of a made kernel, as compilers write it: structures of its layout, and rules of its functions.
//!
//! gcc describes structures whose members lie where the layout says, and call frame information of functions at the
//! kernel's addresses; what it wrote goes into the kernel's file.

use super::kernel::uma::{self, Kind};
use super::kernel::{FUNCTIONS, Layout, Port, TEXT};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Sections by their names.
pub type Sections = Vec<(String, Vec<u8>)>;

/// A structure whose members (declaration with `%` for the name, name, offset, size) lie where they shall.
fn structure(out: &mut String, name: &str, size: u64, members: &[(&str, &str, u64, u64)]) {
    let mut sorted: Vec<_> = members.to_vec();
    sorted.sort_by_key(|m| m.2);
    let mut at = 0;
    let _ = writeln!(out, "struct {name} {{");
    for (declaration, member, offset, bytes) in sorted {
        assert!(offset >= at, "{name}.{member} overlaps what is before it");
        if offset > at {
            let _ = writeln!(out, "  char pad{at}[{}];", offset - at);
        }
        let _ = writeln!(out, "  {};", declaration.replace('%', member));
        at = offset + bytes;
    }
    let _ = writeln!(out, "  char rest[{}];\n}} __attribute__((packed)) a_{name};", size - at);
}

/// The C source of the structures of amd64.
fn structures(l: &Layout) -> String {
    let mut out = String::from("struct list { void *first, *second; };\n");
    let states = ["TDS_INACTIVE", "TDS_INHIBITED", "TDS_CAN_RUN", "TDS_RUNQ", "TDS_RUNNING"];
    let states: Vec<String> = states.iter().zip(l.first_state..).map(|(n, v)| format!("{n} = {v}")).collect();
    let _ = writeln!(out, "enum td_states {{ {} }};", states.join(", "));
    structure(
        &mut out,
        "proc",
        1300,
        &[
            ("struct list %", "p_list", l.p_list, 16),
            ("void *%", "p_threads", l.p_threads, 8),
            ("int %", "p_pid", l.p_pid, 4),
            ("struct proc *%", "p_pptr", l.p_pptr, 8),
            ("char %[20]", "p_comm", l.p_comm, 20),
        ],
    );
    structure(
        &mut out,
        "thread",
        1800,
        &[
            ("struct list %", "td_plist", l.td_plist, 16),
            ("int %", "td_tid", l.td_tid, 4),
            ("char %[20]", "td_name", l.td_name, 20),
            ("int %", "td_oncpu", l.td_oncpu, 4),
            ("struct pcb *%", "td_pcb", l.td_pcb, 8),
            ("enum td_states %", "td_state", l.td_state, 4),
            ("int %", "td_inhibitors", l.td_inhibitors, 4),
            ("const char *%", "td_wmesg", l.td_wmesg, 8),
            ("unsigned long %", "td_kstack", l.td_kstack, 8),
            ("unsigned short %", "td_kstack_pages", l.td_kstack_pages, 2),
        ],
    );
    let registers = ["pcb_r15", "pcb_r14", "pcb_r13", "pcb_r12", "pcb_rbp", "pcb_rsp", "pcb_rbx", "pcb_rip"];
    let registers: Vec<_> = registers.iter().enumerate().map(|(n, r)| ("long %", *r, n as u64 * 8, 8)).collect();
    structure(&mut out, "pcb", l.pcb_size, &registers);
    structure(
        &mut out,
        "linker_file",
        256,
        &[
            ("void *%", "link", l.kld_next, 8),
            ("char *%", "filename", l.kld_filename, 8),
            ("char *%", "pathname", l.kld_pathname, 8),
            ("char *%", "address", l.kld_address, 8),
            ("unsigned long %", "size", l.kld_size, 8),
        ],
    );
    for d in uma::structures(Port::Amd64, l) {
        let mut members = Vec::new();
        for (member, kind, offset) in &d.members {
            let (declaration, bytes) = match kind {
                Kind::Pointer => ("void *%".to_owned(), 8),
                Kind::Number(2, true) => ("short %".into(), 2),
                Kind::Number(2, false) => ("unsigned short %".into(), 2),
                Kind::Number(8, _) => ("unsigned long %".into(), 8),
                Kind::Number(..) => ("unsigned int %".into(), 4),
                Kind::Words(count) => (format!("unsigned long %[{count}]"), count * 8),
                Kind::Pointers => ("void *%[0]".into(), 0),
                Kind::Inner("vm_page_links") => ("union vm_page_links %".into(), 0),
                Kind::Inner(name) => (format!("struct {name} %"), 0),
                Kind::Inners(name) => (format!("struct {name} %[0]"), 0),
            };
            members.push((declaration, *member, *offset, bytes));
        }
        allocator(&mut out, &d, &members);
    }
    out
}

/// A structure of the allocator: members (declaration, name, offset, bytes), those of other structures with no bytes, as
/// their size is known to the compiler alone.
fn allocator(out: &mut String, d: &uma::Described, members: &[(String, &str, u64, u64)]) {
    let (name, word) = (d.name, if d.union { "union" } else { "struct" });
    let _ = writeln!(out, "{word} {name} {{");
    let mut at = "0".to_owned();
    for (declaration, member, offset, bytes) in members {
        if !d.union {
            let _ = writeln!(out, "  char before_{member}[{offset} - ({at})];");
        }
        let _ = writeln!(out, "  {};", declaration.replace('%', member));
        let inner = declaration.strip_suffix(" %").filter(|d| d.starts_with("struct ") || d.starts_with("union "));
        at = inner.map_or_else(|| format!("{offset} + {bytes}"), |t| format!("{offset} + sizeof({t})"));
    }
    if !d.union {
        let _ = writeln!(out, "  char behind[{} - ({at})];", d.size);
    }
    let _ = writeln!(out, "}} __attribute__((packed)) a_{name};");
}

/// Functions that leave the frame pointer alone where `without` says how many bytes of stack they use, and keep a frame
/// record elsewhere.
fn functions(without: &[(&str, u64)]) -> String {
    let mut out = String::from(".cfi_sections .debug_frame\n.text\n.skip 0x1000\n");
    for name in FUNCTIONS {
        let rules = match without.iter().find(|(n, _)| *n == name) {
            Some((_, bytes)) => format!(".cfi_def_cfa rsp, {}\n", bytes + 8),
            None => ".cfi_def_cfa rbp, 16\n".to_owned(),
        };
        // calltrap has none: what it was entered with is a trap frame.
        let rules = format!(
            ".cfi_startproc\n{rules}.cfi_offset rbp, -16\n.cfi_offset rip, -8\n.skip 0x100, 0x90\n.cfi_endproc\n"
        );
        let code = if name == "calltrap" { ".skip 0x100, 0x90\n".to_owned() } else { rules };
        let _ = write!(out, ".globl {name}\n{name}:\n{code}");
    }
    out
}

fn tool(name: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(name).args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|e| format!("{name}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{name} {arguments:?}: {text}")) }
}

/// What gcc and ld make of the structures and functions of a kernel of amd64, in `folder`.
///
/// # Errors
/// What a tool said, or that there is none.
pub fn sections(layout: &Layout, without: &[(&str, u64)], folder: &Path) -> Result<Sections, String> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (types, code, whole) = (path("types.c"), path("code.s"), path("whole"));
    std::fs::write(&types, structures(layout)).map_err(|e| e.to_string())?;
    let assembly = format!(".intel_syntax noprefix\n{}", functions(without));
    std::fs::write(&code, assembly).map_err(|e| e.to_string())?;
    let text = format!("-Wl,-Ttext={TEXT:#x},-e,panic,-Tdata=0xffffffff90000000,-Tbss=0xffffffff91000000");
    let flags = ["-g", "-O0", "-mcmodel=kernel", "-fno-pic", "-nostdlib", "-static", "-Wl,--build-id=none"];
    tool("gcc", &[&flags[..], &[text.as_str(), "-o", whole.as_str(), types.as_str(), code.as_str()]].concat())?;
    let names = [".debug_info", ".debug_abbrev", ".debug_str", ".debug_line", ".debug_line_str", ".debug_frame"];
    let mut out = Vec::new();
    for name in names {
        let file = path("section");
        tool(
            "objcopy",
            &["--only-section", name, "-O", "binary", "--set-section-flags", &format!("{name}=alloc"), &whole, &file],
        )?;
        let bytes = std::fs::read(&file).map_err(|e| e.to_string())?;
        if !bytes.is_empty() {
            out.push((name.to_owned(), bytes));
        }
    }
    Ok(out)
}

/// The section that names the file with the debug information: its name and the checksum of it.
#[must_use]
pub fn link(file: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(file);
    let mut link = b"kernel.debug\0\0\0\0".to_vec();
    link.extend(crc.sum().to_le_bytes());
    link
}
