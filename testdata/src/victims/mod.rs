//! Victim programs: what there is, how to build each in each variant, how to run one, and how to get its core.
//!
//! A victim is one source file in `testdata/victims/`. Without arguments it prints `ready` and dies as promised; with
//! the argument `wait` it prints `ready` at the same place in its code and waits to be killed, so that the live process
//! and the core show the same stack. Programs are built on demand and kept in `target/victims/`.

mod build;
mod catalogue;
mod cores;
mod error;
mod recipe;
mod run;

pub(crate) use build::tool;
pub use build::{build, cache, separate_debug_dir, tool_version};
pub use catalogue::all;
pub use cores::{crash_core, gcore, wait_gcore};
pub use error::VictimError;
pub use recipe::{Compiler, Step, Variant, variant};
pub use run::{LiveVictim, run_live, run_to_death};

/// The language a victim is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// C, built by gcc or clang.
    C,
    /// C++, built by g++ or clang++.
    Cpp,
    /// Rust, built by rustc.
    Rust,
}

/// A further file that a victim's program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Compiled and linked into the program.
    Object(&'static str),
    /// Built as a shared library of this name beside the program: (source, file name).
    Library(&'static str, &'static str),
}

/// One victim program.
#[derive(Clone, Copy, Debug)]
pub struct Victim {
    /// Its name, which is also the name of the executable.
    pub name: &'static str,
    /// The language of its source.
    pub language: Language,
    /// The source file's name in `testdata/victims/`.
    pub source: &'static str,
    /// Further files of the program.
    pub extras: &'static [Extra],
    /// The names of the variants it is built in.
    pub variants: &'static [&'static str],
    /// The class of finding its death should get.
    pub class: &'static str,
    /// The signal it dies by when it is not told to wait; `None` for those that only ever wait.
    pub signal: Option<i32>,
    /// How many of its threads are running (not sleeping in the kernel) while it waits.
    pub running: usize,
    /// Arguments after the mode.
    pub args: &'static [&'static str],
    /// What it shows, for the manifest.
    pub shows: &'static str,
}

/// The victim of that name.
///
/// # Errors
/// [`VictimError::Unknown`] when there is none.
pub fn find(name: &str) -> Result<&'static Victim, VictimError> {
    all().iter().find(|v| v.name == name).ok_or_else(|| VictimError::Unknown { what: "victim", name: name.into() })
}
