//! Images of macOS with their dSYM bundles, made by clang, lld and dsymutil: no library, no system.

use std::path::Path;
use std::process::Command;

/// Builds `program` and `program.dSYM` of a processor (`x86_64`, `arm64`) in `folder`.
///
/// # Errors
/// When a compiler is missing or fails: what it said.
pub fn build(machine: &str, folder: &Path) -> Result<(), String> {
    let macos = concat!(env!("CARGO_MANIFEST_DIR"), "/macos/");
    let windows = concat!(env!("CARGO_MANIFEST_DIR"), "/windows/");
    let target = format!("--target={machine}-apple-macos11");
    let frameless: &[&str] = &["-fomit-frame-pointer", "-momit-leaf-frame-pointer"];
    let sources = [
        (macos, "frames.c", "framed", &["-DVARIANT=framed", "-fno-omit-frame-pointer"][..]),
        (macos, "frames.c", "frameless", &[&["-DVARIANT=frameless"], frameless].concat()),
        (macos, "start.c", "start", &[]),
        (windows, "shapes.cc", "shapes", &[]),
    ];
    // Return addresses that are signed.
    let signed = (macos, "frames.c", "signed", &["-DVARIANT=signed", "-mbranch-protection=pac-ret"][..]);
    let mut objects = Vec::new();
    for (directory, source, object, more) in sources.into_iter().chain((machine == "arm64").then_some(signed)) {
        let (source, object) = (format!("{directory}{source}"), format!("{object}.o"));
        let mut clang = Command::new("clang");
        clang.current_dir(folder).args([&target, "-O1", "-g", "-fno-stack-protector", "-c"]).args(more);
        run(clang.args([&source, "-o", &object]))?;
        objects.push(object);
    }
    // Debian 12's own lld, 14, does not place call frame information.
    let mut link = Command::new("ld64.lld-19");
    link.current_dir(folder).args(["-arch", machine, "-platform_version", "macos", "11.0", "11.0"]);
    run(link.args(["-e", "_start", "-undefined", "dynamic_lookup", "-o", "program"]).args(&objects))?;
    run(Command::new("dsymutil").current_dir(folder).arg("program"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| format!("{name}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}
