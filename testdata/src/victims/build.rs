//! Builds a victim in a variant, once for each distinct input, also when many test processes ask at the same time.

use super::error::io;
use super::{Compiler, Extra, Language, Step, Variant, Victim, VictimError, find, variant};
use crate::fixtures::workspace;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The folder that keeps built victims and their cores.
#[must_use]
pub fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let target = if target.is_absolute() { target } else { workspace().join(target) };
    target.join("victims")
}

fn sources() -> PathBuf {
    workspace().join("testdata/victims")
}

/// The `symbols` folder beside an executable built in the variant `build-id`.
#[must_use]
pub fn separate_debug_dir(program: &Path) -> PathBuf {
    program.with_file_name("symbols")
}

/// How many seconds a tool may take. llvm-dwp 14 was seen to loop for ever on some DWARF 5 input; a build must not.
const LIMIT_TOOL: &str = "300";

/// Runs a tool to its end and gives what it printed on stdout.
pub(crate) fn tool<S: AsRef<OsStr>>(dir: &Path, name: &str, args: &[S]) -> Result<String, VictimError> {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", LIMIT_TOOL, name])
        .args(args)
        .current_dir(dir)
        .env("LC_ALL", "C")
        .env_remove("CFLAGS")
        .env_remove("RUSTFLAGS");
    let line = format!("{command:?}");
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(VictimError::MissingTool { tool: "timeout".into() });
        }
        Err(e) => return Err(VictimError::Failed { command: line, output: e.to_string() }),
    };
    // timeout(1) gives 127 for a command that it cannot find.
    if output.status.code() == Some(127) {
        return Err(VictimError::MissingTool { tool: name.into() });
    }
    if !output.status.success() {
        let text = format!(
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        return Err(VictimError::Failed { command: line, output: text });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first line of `TOOL --version`, asked once in each process.
///
/// # Errors
/// [`VictimError::MissingTool`] when it is not installed.
pub fn tool_version(name: &str) -> Result<String, VictimError> {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    if let Some(version) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
        return Ok(version.clone());
    }
    let version = tool(Path::new("/"), name, &["--version"])?.lines().next().unwrap_or_default().to_string();
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), version.clone());
    Ok(version)
}

fn compiler(language: Language, family: Compiler) -> Result<String, VictimError> {
    Ok(match (language, family) {
        (Language::C, Compiler::Gcc) => "gcc".into(),
        (Language::Cpp, Compiler::Gcc) => "g++".into(),
        (Language::C, Compiler::Clang) => "clang".into(),
        (Language::Cpp, Compiler::Clang) => "clang++".into(),
        (Language::Rust, Compiler::Rustc) => std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()),
        (language, family) => {
            return Err(VictimError::Unknown { what: "variant", name: format!("{family:?} of a {language:?} victim") });
        }
    })
}

/// Everything the result depends on, as one number.
fn key(victim: &Victim, variant: &Variant, compiler: &str) -> Result<u64, VictimError> {
    let mut hasher = DefaultHasher::new();
    let extras = victim.extras.iter().map(|e| match e {
        Extra::Object(source) | Extra::Library(source, _) => *source,
    });
    for source in [victim.source, "victim.h", "victim.rs"].into_iter().chain(extras) {
        let path = sources().join(source);
        io("cannot read", &path, std::fs::read(&path))?.hash(&mut hasher);
    }
    (victim.name, format!("{:?}", victim.extras), format!("{variant:?}")).hash(&mut hasher);
    (tool_version(compiler)?, cache(), include_str!("build.rs")).hash(&mut hasher);
    Ok(hasher.finish())
}

/// The executable of a victim in a variant; built when it is not there yet.
///
/// # Errors
/// A missing tool, an unknown name, or what the compiler said.
pub fn build(name: &str, variant_name: &str) -> Result<PathBuf, VictimError> {
    let (victim, variant) = (find(name)?, variant(variant_name)?);
    let compiler = compiler(victim.language, variant.compiler)?;
    let home = cache().join(format!("{:016x}", key(victim, variant, &compiler)?));
    let program = home.join(victim.name);
    if program.is_file() {
        return Ok(program);
    }
    io("cannot create", cache(), std::fs::create_dir_all(cache()))?;
    let temporary =
        io("cannot create a folder in", cache(), tempfile::Builder::new().prefix("tmp-").tempdir_in(cache()))?;
    let job = Job { victim, variant, compiler: &compiler, at: temporary.path(), home: &home };
    job.compile()?;
    for step in variant.steps {
        job.step(*step)?;
    }
    match std::fs::rename(temporary.path(), &home) {
        Ok(()) => {}
        // Another process was faster; its result is as good as ours.
        Err(_) if program.is_file() => {}
        Err(e) => return io("cannot rename to", &home, Err(e)),
    }
    Ok(program)
}

struct Job<'a> {
    victim: &'a Victim,
    variant: &'a Variant,
    compiler: &'a str,
    at: &'a Path,
    home: &'a Path,
}

impl Job<'_> {
    fn run(&self, name: &str, args: &[&str]) -> Result<String, VictimError> {
        tool(self.at, name, args)
    }

    fn compile(&self) -> Result<(), VictimError> {
        if self.victim.language == Language::Rust {
            return self.rustc();
        }
        let map = format!("-fdebug-prefix-map={}={}", self.at.display(), self.home.display());
        let language = if self.victim.language == Language::Cpp { "-std=c++17" } else { "-std=gnu17" };
        let mut link: Vec<String> = vec!["-pthread".into(), "-o".into(), self.victim.name.into()];
        let main = (self.victim.source, format!("{}.o", self.victim.name));
        let mut objects = vec![main];
        for extra in self.victim.extras {
            match extra {
                Extra::Object(source) => objects.push((source, format!("{source}.o"))),
                Extra::Library(source, file) => {
                    let path = sources().join(source).display().to_string();
                    let mut args = vec!["-shared", "-fPIC", &map, "-o", file];
                    args.extend_from_slice(self.variant.flags);
                    args.push(&path);
                    self.run(self.compiler, &args)?;
                    link.push("-ldl".into());
                }
            }
        }
        for (source, object) in &objects {
            let path = sources().join(source).display().to_string();
            let mut args = vec!["-c", &map, "-pthread", "-o", object];
            if !source.ends_with(".S") {
                args.push(language);
            }
            args.extend_from_slice(self.variant.flags);
            args.push(&path);
            self.run(self.compiler, &args)?;
            link.push(object.clone());
        }
        link.push("-lm".into());
        link.push("-Wl,--build-id=sha1".into());
        link.extend(self.variant.link.iter().map(ToString::to_string));
        self.run(self.compiler, &link.iter().map(String::as_str).collect::<Vec<_>>())?;
        for (_, object) in &objects {
            let object = self.at.join(object);
            io("cannot remove", &object, std::fs::remove_file(&object))?;
        }
        Ok(())
    }

    fn rustc(&self) -> Result<(), VictimError> {
        let path = sources().join(self.victim.source).display().to_string();
        let map = format!("--remap-path-prefix={}={}", self.at.display(), self.home.display());
        let mut args = vec![
            "--edition=2021",
            "--crate-type=bin",
            "--crate-name",
            self.victim.name,
            "-Cpanic=abort",
            "-Cdebug-assertions=off",
            "-Clink-arg=-Wl,--build-id=sha1",
            &map,
            "-o",
            self.victim.name,
        ];
        args.extend_from_slice(self.variant.flags);
        args.push(&path);
        self.run(self.compiler, &args).map(|_| ())
    }

    fn build_id(&self) -> Result<String, VictimError> {
        let notes = self.run("readelf", &["-n", self.victim.name])?;
        notes.split("Build ID: ").nth(1).and_then(|t| t.split_whitespace().next()).map(str::to_string).ok_or_else(
            || VictimError::Failed { command: "readelf -n".into(), output: format!("no build-id in:\n{notes}") },
        )
    }

    fn step(&self, step: Step) -> Result<(), VictimError> {
        let name = self.victim.name;
        let debug = format!("{name}.debug");
        match step {
            Step::Dwp(dwp) => {
                // The files by name: with `-e` the tool would look in the folder that this one is going to become.
                let mut parts = Vec::new();
                for entry in io("cannot list", self.at, std::fs::read_dir(self.at))?.flatten() {
                    if entry.path().extension() == Some(OsStr::new("dwo")) {
                        parts.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
                parts.sort();
                let package = format!("{name}.dwp");
                let mut args = vec!["-o", package.as_str()];
                args.extend(parts.iter().map(String::as_str));
                self.run(dwp, &args)?;
                for part in &parts {
                    io("cannot remove", self.at.join(part), std::fs::remove_file(self.at.join(part)))?;
                }
            }
            Step::Dwz => {
                self.run("cp", &[name, "second"])?;
                // `-M` is what goes into .gnu_debugaltlink: a name beside the executable.
                self.run("dwz", &["-m", "common.alt", "-M", "common.alt", name, "second"])?;
                self.run("rm", &["second"])?;
            }
            Step::Compress(how) => {
                self.run("objcopy", &[&format!("--compress-debug-sections={how}"), name])?;
            }
            Step::DebugLink => {
                self.run("objcopy", &["--only-keep-debug", name, &debug])?;
                self.run("objcopy", &["--strip-all", &format!("--add-gnu-debuglink={debug}"), name])?;
            }
            Step::BuildId => {
                let id = self.build_id()?;
                let (head, tail) = id.split_at_checked(2).unwrap_or((&id, ""));
                let folder = format!("symbols/.build-id/{head}");
                self.run("mkdir", &["-p", &folder])?;
                self.run("objcopy", &["--only-keep-debug", name, &format!("{folder}/{tail}.debug")])?;
                self.run("strip", &["--strip-all", name])?;
            }
            Step::MiniDebugInfo => {
                self.run("objcopy", &["--only-keep-debug", name, &debug])?;
                self.mini_symbols(&debug)?;
                self.run("xz", &["-f", "mini"])?;
                self.run("strip", &["--strip-all", name])?;
                self.run("objcopy", &["--add-section", ".gnu_debugdata=mini.xz", name])?;
                self.run("rm", &["mini.xz", &debug])?;
            }
            Step::Strip => {
                self.run("strip", &["--strip-all", name])?;
            }
        }
        Ok(())
    }

    /// Makes `mini`: the function symbols that the dynamic symbol table lacks, and no debug sections, as the GDB manual
    /// ("MiniDebugInfo") describes the contents of `.gnu_debugdata`.
    fn mini_symbols(&self, debug: &str) -> Result<(), VictimError> {
        let name = self.victim.name;
        let names = |text: &str| -> Vec<String> {
            let mut list: Vec<String> = text
                .lines()
                .filter(|l| !l.ends_with(" a"))
                .filter_map(|l| l.split('|').next())
                .map(|n| n.trim().to_string())
                .collect();
            list.sort();
            list.dedup();
            list
        };
        let dynamic = names(&self.run("nm", &["-D", name, "--format=sysv", "--defined-only"])?);
        let all = self.run("nm", &[debug, "--format=sysv", "--defined-only"])?;
        let functions: String = all.lines().filter(|l| l.contains("FUNC")).map(|l| format!("{l}\n")).collect();
        let keep: Vec<String> = names(&functions).into_iter().filter(|n| !dynamic.contains(n)).collect();
        let list = self.at.join("keep");
        io("cannot write", &list, std::fs::write(&list, keep.join("\n")))?;
        self.run("objcopy", &["-S", "--keep-symbols=keep", debug, "mini"])?;
        self.run("rm", &["keep"])?;
        Ok(())
    }
}
