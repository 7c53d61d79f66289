//! Type-checks for FreeBSD and illumos on a Debian host, with Debian's own compiler and its library source.
//!
//! rustup's targets are not needed: `-Zbuild-std` checks the standard library from source. Packages that build C code
//! are given the host's C compiler, whose objects are never linked here.

use crate::steps::{root, run as step};
use clap::ValueEnum;
use std::path::Path;
use std::process::Command;

/// A system to check for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// x86_64-unknown-freebsd.
    Freebsd,
    /// x86_64-unknown-illumos.
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
        let triple = system.triple();
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["check", "--locked", "-Zbuild-std=std,panic_abort", "--target", triple]);
        for name in CRATES {
            command.args(["--package", name]);
        }
        let variable = triple.replace('-', "_");
        command
            .env("PATH", "/usr/bin:/bin")
            // Unlocks -Zbuild-std and nothing else: the project's own code is still stable Rust.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", root().join("target/cross"))
            .env(format!("CC_{variable}"), "/usr/bin/cc")
            .env(format!("AR_{variable}"), "/usr/bin/ar");
        for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO", "RUSTC_WRAPPER"] {
            command.env_remove(name);
        }
        step(&format!("type-check for {triple}"), &mut command)?;
    }
    Ok(())
}
