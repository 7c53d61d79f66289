//! Other people's debuggers on the same input, and what they and we disagree about.
//!
//! [`Peer::backtraces`] runs gdb, lldb or eu-stack, for kernels drgn or crash, and turns what it says into a [`PeerReport`]; [`align::align`] lays
//! that beside an [`OurReport`]; [`report`] prints the result. The types here are plain: this module knows nothing of
//! snapshots and does no unwinding of its own.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod align;
pub mod crash;
pub mod drgn;
pub mod eu_stack;
pub mod facts;
pub mod gdb;
pub mod gdb_mi;
pub mod lldb;
pub mod names;
pub mod parts;
pub mod reason;
#[cfg(test)]
mod reason_tests;
pub mod report;
pub mod shown;
#[cfg(test)]
mod tests;
mod tool;
pub mod trees;
pub mod values;

use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What a peer looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A running process. The peer attaches and lets it go; never let two tools look at the same process at once.
    Pid(u32),
    /// An ELF core file.
    Core(PathBuf),
}

/// Everything a peer is told.
#[derive(Clone, Debug)]
pub struct Input {
    /// The process or core.
    pub subject: Subject,
    /// The executable, where it is known; gdb and eu-stack need it for cores.
    pub exe: Option<PathBuf>,
    /// The kernel's file, for dumps of kernels.
    pub kernel: Option<PathBuf>,
    /// The folder that stands for `/` of the machine the core is from.
    pub sysroot: Option<PathBuf>,
    /// Folders of separate debug files, searched before `/usr/lib/debug`.
    pub symbols: Vec<PathBuf>,
    /// Whether arguments and locals are asked for (gdb only).
    pub variables: bool,
    /// How many frames of one thread are asked for; endless recursion would otherwise fill the disk.
    pub frames: u32,
    /// How long the peer may take.
    pub time_limit: Duration,
}

impl Input {
    /// The usual limits for this subject.
    #[must_use]
    pub fn new(subject: Subject, exe: Option<PathBuf>) -> Self {
        Self {
            subject,
            exe,
            kernel: None,
            sysroot: None,
            symbols: Vec::new(),
            variables: true,
            frames: 16_384,
            time_limit: Duration::from_secs(300),
        }
    }
}

/// A tool that this module can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// GNU gdb.
    Gdb,
    /// LLVM's lldb.
    Lldb,
    /// elfutils' eu-stack.
    EuStack,
    /// drgn, for Linux kernels.
    Drgn,
    /// crash, for Linux kernels.
    Crash,
}

impl Peer {
    /// Those for user programs, in the order in which they are run.
    pub const ALL: [Self; 3] = [Self::Gdb, Self::Lldb, Self::EuStack];
    /// Those for dumps of Linux kernels.
    pub const KERNEL: [Self; 2] = [Self::Drgn, Self::Crash];

    /// The name of the program, which is also its name on our command line.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Gdb => "gdb",
            Self::Lldb => "lldb",
            Self::EuStack => "eu-stack",
            Self::Drgn => "drgn",
            Self::Crash => "crash",
        }
    }

    /// The Debian package it comes in.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Gdb => "gdb",
            Self::Lldb => "lldb",
            Self::EuStack => "elfutils",
            Self::Drgn => "python3-drgn",
            Self::Crash => "crash",
        }
    }

    /// The peer of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::KERNEL).find(|p| p.program() == name)
    }

    /// Whether it marks inlined functions.
    #[must_use]
    pub const fn marks_inlines(self) -> bool {
        matches!(self, Self::Gdb | Self::Drgn)
    }

    /// Runs the tool once and reads its answer. A live process runs on afterwards.
    ///
    /// # Errors
    /// The tool is not there, took too long, or said nothing that could be used. A tool that dies half way gives a
    /// report with [`PeerReport::incomplete`] set.
    pub fn backtraces(self, input: &Input) -> Result<PeerReport, PeerError> {
        match self {
            Self::Gdb => gdb::backtraces(input),
            Self::Lldb => lldb::backtraces(input),
            Self::EuStack => eu_stack::backtraces(input),
            Self::Drgn => drgn::backtraces(input),
            Self::Crash => crash::backtraces(input),
        }
    }
}

/// Runs the peers one after the other (never two at a time: a process has one tracer) and compares each with ours.
#[must_use]
pub fn run(peers: &[Peer], input: &Input, ours: &OurReport) -> Vec<Outcome> {
    let compare = |peer: &Peer| match peer.backtraces(input) {
        Ok(report) => Outcome::Compared(align::align(ours, &report)),
        Err(error) => Outcome::Unavailable { peer: *peer, why: error.to_string() },
    };
    peers.iter().map(compare).collect()
}

/// What came of one peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It answered.
    Compared(align::Comparison),
    /// It gave no report.
    Unavailable {
        /// Which tool.
        peer: Peer,
        /// Why.
        why: String,
    },
}

/// What one peer said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerReport {
    /// Which tool.
    pub peer: Peer,
    /// The first line of its `--version`.
    pub version: String,
    /// Its threads, by id.
    pub threads: Vec<PeerThread>,
    /// What it says besides, of a kernel.
    #[serde(skip_serializing_if = "facts::Facts::is_empty")]
    pub facts: facts::Facts,
    /// Why this is less than all, for example that the tool crashed.
    pub incomplete: Option<String>,
}

/// One thread as a peer sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerThread {
    /// The OS's thread id.
    pub id: u64,
    /// Frames, innermost first; inlined functions are frames of their own with the pc of the frame they are part of.
    pub frames: Vec<PeerFrame>,
    /// Why the frames end where they do, in the tool's words, when it is not the normal end of a stack.
    pub ended: Option<String>,
}

/// One frame as a peer sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerFrame {
    /// The program counter as the tool prints it: for callers this is the return address.
    pub pc: u64,
    /// The function's name in the tool's style.
    pub function: Option<String>,
    /// The source file in the tool's style.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next frame; `None` when the tool does not say.
    pub inline: Option<bool>,
    /// Distance of the pc from the start of the function, when the tool says.
    pub offset: Option<u64>,
    /// Whether the function left the stack by a tail call and was only reconstructed from call sites (gdb).
    pub tail_call: bool,
    /// Arguments and locals, innermost scope first.
    pub variables: Vec<PeerVariable>,
    /// Registers that called functions need not keep, and that gdb shows in this frame with what the innermost frame has
    /// in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<(String, u128)>,
}

/// One variable as a peer sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PeerVariable {
    /// Its name.
    pub name: String,
    /// Its value in the tool's style.
    pub value: Option<String>,
    /// Why there is no value, in the tool's words.
    pub absent: Option<String>,
    /// Whether it is the abstract function's, and an instance of it is in another block, as the tool's own blocks say.
    #[serde(skip_serializing_if = "std::ops::Not::not", rename = "abstract")]
    pub is_abstract: bool,
    /// Whether it is a parameter of the function.
    pub argument: bool,
    /// The line of its declaration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The value taken apart, from a gdb with Python.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<trees::PeerValue>,
}

/// What we say: the half of the comparison that the caller fills in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OurReport {
    /// Our threads.
    pub threads: Vec<OurThread>,
    /// Whether this is a process that runs on before a peer looks at it.
    pub live: bool,
    /// Where the process has something that may not be executed: no return address leads there.
    pub no_code: Vec<Range<u64>>,
    /// Whether this is a kernel: its code lies where no program's does.
    pub kernel: bool,
    /// What we say besides, of a kernel.
    pub facts: facts::Facts,
}

/// One of our threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OurThread {
    /// The OS's thread id.
    pub id: u64,
    /// Frames, innermost first, inlined functions as frames of their own.
    pub frames: Vec<OurFrame>,
    /// Whether a limit of ours, not the end of the stack, ended the list.
    pub cut: bool,
}

/// One of our frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OurFrame {
    /// The program counter: for callers the return address, for an inlined frame that of the frame it is part of.
    pub pc: u64,
    /// The function's readable name.
    pub function: Option<String>,
    /// The function's name in the symbol table, mangled where the language mangles.
    pub linkage_name: Option<String>,
    /// Other symbols at the same address, under which a peer may know the function.
    pub aliases: Vec<String>,
    /// The source file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next frame.
    pub inline: bool,
    /// Whether the function left the stack by a tail call and was only reconstructed from call sites.
    pub tail_call: bool,
    /// Parameters and locals, innermost scope first.
    pub variables: Vec<OurVariable>,
    /// Whether a limit of ours, which we say was reached, left this frame's variables out.
    pub variables_cut: bool,
}

/// One of our variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OurVariable {
    /// Its name.
    pub name: String,
    /// The rendered value.
    pub value: Option<String>,
    /// Why there is no value.
    pub absent: Option<String>,
    /// The line of its declaration.
    pub line: Option<u64>,
    /// Whether it is a parameter of the function.
    pub argument: bool,
    /// The value with its parts.
    pub tree: trees::OurValue,
}

/// Why a peer gave no report.
#[derive(Debug)]
pub enum PeerError {
    /// The program is not installed.
    NotInstalled(Peer),
    /// It took longer than [`Input::time_limit`] and was ended.
    TimedOut {
        /// Which tool.
        peer: Peer,
        /// The limit.
        limit: Duration,
    },
    /// It ended without anything that could be used.
    Failed {
        /// Which tool.
        peer: Peer,
        /// How it ended and the last lines it printed.
        why: String,
    },
    /// A file operation around the tool failed.
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(peer) => {
                write!(f, "{} is not installed (Debian package {})", peer.program(), peer.package())
            }
            Self::TimedOut { peer, limit } => {
                write!(f, "{} gave no answer within {} s and was ended", peer.program(), limit.as_secs())
            }
            Self::Failed { peer, why } => write!(f, "{} failed: {why}", peer.program()),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for PeerError {}
