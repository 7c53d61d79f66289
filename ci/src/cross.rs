//! Type-checks for FreeBSD and illumos on a Debian host, with Debian's own compiler and its library source; for FreeBSD
//! the whole command line is linked as well.
//!
//! rustup's targets are not needed: `-Zbuild-std` compiles the standard library from source. FreeBSD's headers and
//! start files come with the zig compiler, which PyPI has as a wheel. For illumos nothing does: there, packages that
//! build C code are given the host's C compiler, whose objects are never linked.

use crate::steps::{root, run as step};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A system to check for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// x86_64-unknown-freebsd: type-check, layouts against its headers, link.
    Freebsd,
    /// x86_64-unknown-illumos: type-check of the whole command line.
    Illumos,
}

impl System {
    const fn triple(self) -> &'static str {
        match self {
            Self::Freebsd => "x86_64-unknown-freebsd",
            Self::Illumos => "x86_64-unknown-illumos",
        }
    }
}

/// The crates that hold code for each system.
const CRATES: [&str; 3] = ["postfault-evidence", "postfault-platform", "postfault-kernel-dumps"];

/// Where Debian's packages put what is needed, and the package's name.
const NEEDED: [(&str, &str); 4] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std", "rust-web-src"),
    ("/usr/bin/cc", "gcc"),
];

/// The wheel with the zig compiler.
const ZIG: &str = "ziglang==0.17.1";

/// Libraries of FreeBSD's base system that the libc crate names and zig does not bring along, with their versions.
/// Empty ones satisfy the linker, which drops them again: nothing of them is used.
const STUBS: [(&str, u32); 6] = [("kvm", 7), ("memstat", 3), ("procstat", 1), ("devstat", 7), ("geom", 5), ("jail", 1)];

/// Every library that the executable may ask for, sorted: all of the base system, and named in `docs/freebsd.md`.
const LIBRARIES: [&str; 3] = ["libc.so.7", "libm.so.5", "libthr.so.3"];

/// Stands for the C compiler and the linker: drops the target that others name in words that zig does not know.
const COMPILER: &str = r#"#!/bin/bash
args=(); skip=0; link=1
for a in "$@"; do
  [ $skip = 1 ] && { skip=0; continue; }
  case "$a" in
    --target=*) ;;
    -target|--target) skip=1 ;;
    -c|-E|-S) link=0; args+=("$a") ;;
    *) args+=("$a") ;;
  esac
done
[ $link = 1 ] && args+=("-L$POSTFAULT_STUBS")
exec "$POSTFAULT_ZIG" cc -target x86_64-freebsd "${args[@]}"
"#;
const ARCHIVER: &str = "#!/bin/sh\nexec \"$POSTFAULT_ZIG\" ar \"$@\"\n";

/// What is not installed, or `None` when the checks can run.
pub fn missing() -> Option<String> {
    let absent: Vec<&str> =
        NEEDED.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
    (!absent.is_empty()).then(|| format!("these Debian packages are not installed: {}", absent.join(" ")))
}

/// Checks one system, or all.
pub fn run(system: Option<System>) -> Result<(), String> {
    if let Some(what) = missing() {
        return Err(format!("{what} (ci/install-packages.sh --cross installs them)"));
    }
    for system in system.map_or_else(|| System::value_variants().to_vec(), |s| vec![s]) {
        match system {
            System::Illumos => type_check(system, None, &["postfault-cli"])?,
            System::Freebsd => {
                let zig = Zig::prepare()?;
                zig.layouts()?;
                type_check(system, Some(&zig), &CRATES)?;
                link(system, &zig)?;
            }
        }
    }
    Ok(())
}

/// The type-checks alone, which need nothing but Debian's packages: what every change is checked with.
pub fn type_checks() -> Result<(), String> {
    System::value_variants().iter().try_for_each(|system| type_check(*system, None, &CRATES))
}

/// Debian's cargo with everything set for `system`.
fn cargo(system: System, verb: &str, zig: Option<&Zig>) -> Command {
    let triple = system.triple();
    let variable = triple.replace('-', "_");
    let mut command = Command::new("/usr/bin/cargo");
    command
        .args([verb, "--locked", "-Zbuild-std=std,panic_abort", "--target", triple])
        .env("PATH", "/usr/bin:/bin")
        // Unlocks -Zbuild-std and nothing else: the project's own code is still stable Rust.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", root().join("target/cross"));
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    match zig {
        None => command.env(format!("CC_{variable}"), "/usr/bin/cc").env(format!("AR_{variable}"), "/usr/bin/ar"),
        Some(zig) => zig
            .set(&mut command)
            .env(format!("CC_{variable}"), zig.folder.join("bin/zcc"))
            .env(format!("AR_{variable}"), zig.folder.join("bin/zar"))
            .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), zig.folder.join("bin/zcc")),
    };
    command
}

fn type_check(system: System, zig: Option<&Zig>, packages: &[&str]) -> Result<(), String> {
    let mut command = cargo(system, "check", zig);
    for name in packages {
        command.args(["--package", name]);
    }
    step(&format!("type-check for {}", system.triple()), &mut command)
}

/// Links the command line and says which libraries it will ask for.
fn link(system: System, zig: &Zig) -> Result<(), String> {
    let mut command = cargo(system, "build", Some(zig));
    command.args(["--package", "postfault-cli"]);
    step(&format!("link for {}", system.triple()), &mut command)?;
    let file = root().join("target/cross").join(system.triple()).join("debug/postfault");
    let output = Command::new("readelf").args(["-hdW"]).arg(&file).output().map_err(|e| format!("readelf: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|l| l.contains("NEEDED") || l.contains("OS/ABI")) {
        println!("   {}", line.trim());
    }
    // The linker leaves EI_OSABI at 0; FreeBSD's C library and the note in the start files say whose it is.
    let found = needed(&text);
    if found == LIBRARIES {
        return Ok(());
    }
    let (file, found) = (file.display(), found.join(" "));
    let expected = LIBRARIES.join(" ");
    Err(format!("{file}: needs the libraries \"{found}\", expected and documented are \"{expected}\""))
}

/// The shared libraries that an executable asks for, sorted, out of readelf's listing of its dynamic section.
fn needed(listing: &str) -> Vec<&str> {
    let lines = listing.lines().filter(|l| l.contains("(NEEDED)"));
    let mut names: Vec<&str> =
        lines.filter_map(|l| l.split_once('[')?.1.split_once(']')).map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

/// The zig compiler in a folder of its own below `target`.
struct Zig {
    folder: PathBuf,
    program: PathBuf,
}

impl Zig {
    fn prepare() -> Result<Self, String> {
        let folder = root().join("target/cross/zig");
        let write = |path: &Path, text: &str| -> Result<(), String> {
            use std::os::unix::fs::PermissionsExt;
            fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", path.display()))
        };
        for name in ["bin", "stubs", "cache"] {
            fs::create_dir_all(folder.join(name)).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        write(&folder.join("bin/zcc"), COMPILER)?;
        write(&folder.join("bin/zar"), ARCHIVER)?;
        let venv = folder.join("venv");
        let program = match Self::find(&venv) {
            Some(program) => program,
            None => {
                step("a place for zig", Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
                step("zig", Command::new(venv.join("bin/pip")).args(["install", "--quiet", ZIG]))?;
                Self::find(&venv).ok_or_else(|| format!("{}: holds no zig", venv.display()))?
            }
        };
        let zig = Self { folder, program };
        zig.stubs()?;
        Ok(zig)
    }

    fn find(venv: &Path) -> Option<PathBuf> {
        let versions = fs::read_dir(venv.join("lib")).ok()?;
        versions.flatten().map(|e| e.path().join("site-packages/ziglang/zig")).find(|p| p.is_file())
    }

    fn set<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("POSTFAULT_ZIG", &self.program)
            .env("POSTFAULT_STUBS", self.folder.join("stubs"))
            .env("ZIG_GLOBAL_CACHE_DIR", self.folder.join("cache"))
            .env("ZIG_LOCAL_CACHE_DIR", self.folder.join("cache/local"))
    }

    fn compiler(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["cc", "-target", "x86_64-freebsd"]);
        self.set(&mut command);
        command
    }

    fn stubs(&self) -> Result<(), String> {
        let empty = self.folder.join("empty.c");
        fs::write(&empty, "\n").map_err(|e| format!("{}: {e}", empty.display()))?;
        for (name, version) in STUBS {
            let library = self.folder.join("stubs").join(format!("lib{name}.so"));
            if library.is_file() {
                continue;
            }
            let mut command = self.compiler();
            command.args(["-shared", "-nostdlib", &format!("-Wl,-soname,lib{name}.so.{version}"), "-o"]);
            step(&format!("an empty lib{name}"), command.arg(&library).arg(&empty))?;
        }
        Ok(())
    }

    /// Compares the layouts that the project states with FreeBSD's own headers.
    fn layouts(&self) -> Result<(), String> {
        let mut command = self.compiler();
        command.args(["-c", "ci/freebsd/layouts.c", "-o"]).arg(self.folder.join("layouts.o"));
        step("layouts against FreeBSD's headers", &mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_that_are_needed_are_those_that_are_documented() {
        let text = fs::read_to_string(root().join("docs/freebsd.md")).unwrap();
        let line = text.lines().find(|l| l.contains("The result asks for")).unwrap();
        let sentence =
            line.split_once("The result asks for").unwrap().1.split_once(", all of the base system").unwrap().0;
        let mut named: Vec<&str> = sentence.split('`').skip(1).step_by(2).collect();
        named.sort_unstable();
        assert_eq!(named, LIBRARIES);
    }

    #[test]
    fn needed_libraries_out_of_a_listing() {
        let listing = "  OS/ABI:   UNIX - System V\n\
             0x0000000000000001 (NEEDED)             Shared library: [libthr.so.3]\n\
             0x0000000000000001 (NEEDED)             Shared library: [libc.so.7]\n\
             0x000000000000001d (RUNPATH)            Library runpath: [/usr/lib]\n";
        assert_eq!(needed(listing), ["libc.so.7", "libthr.so.3"]);
        assert!(needed("").is_empty());
    }
}
