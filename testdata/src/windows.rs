//! Images of Windows with their program databases, made by clang and lld: no library, no system.

use std::path::Path;
use std::process::Command;

/// Builds `program.exe` and `program.pdb` of a machine (`x86_64`, `aarch64`) in `folder`.
///
/// # Errors
/// When a compiler is missing or fails: what it said.
pub fn build(machine: &str, folder: &Path) -> Result<(), String> {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/windows/");
    for (source, object) in [("program.c", "program.obj"), ("shapes.cc", "shapes.obj")] {
        let target = format!("--target={machine}-pc-windows-msvc");
        let source = format!("{sources}{source}");
        let options = [&target, "-O1", "-g", "-gcodeview", "-c", &source, "-o", object];
        run(Command::new("clang").current_dir(folder).args(options))?;
    }
    let mut link = Command::new("lld-link");
    link.current_dir(folder).args(["/debug", "/nodefaultlib", "/entry:start", "/subsystem:console", "/export:large"]);
    if machine == "x86_64" {
        link.arg("/export:handler");
    }
    run(link.args(["/out:program.exe", "/pdb:program.pdb", "program.obj", "shapes.obj"]))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| format!("{name}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}
