//! `cargo xtask`: every check that continuous integration makes, runnable at home.
#![forbid(unsafe_code)]

mod bench;
mod cross;
mod guest;
mod instructions;
mod kernel_faults;
mod steps;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and measurements of this repository", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything a change must pass: tidy, format, lints, all tests, documentation, cross type-checks if possible.
    Ci,
    /// The repository's own rules: who may use whom, file sizes, module documentation, unsafe code, words.
    Tidy,
    /// Measure against other tools, side by side; prints machine, versions, medians, spread and ratios.
    Bench(bench::Options),
    /// Count the instructions of the hot paths and compare them with ci/instructions.tsv.
    Instructions {
        /// Write the counts there instead.
        #[arg(long)]
        record: bool,
    },
    /// Type-check for a system that is not this one: freebsd, illumos, or both.
    Cross {
        /// Which.
        #[arg(value_name = "SYSTEM")]
        system: Option<cross::System>,
    },
    /// Compare every victim in every variant, live and from both kinds of core, with gdb and eu-stack: about 15 minutes.
    CrossCheck {
        /// Only these victims, with commas between them.
        #[arg(long)]
        victim: Option<String>,
        /// Only this variant of each.
        #[arg(long)]
        variant: Option<String>,
    },
    /// The long runs: 200 captures of a busy program, the same while the collector is killed, and damaged files.
    Stress {
        /// Captures of each kind.
        #[arg(long, default_value_t = 200)]
        captures: u32,
    },
    /// Judge a folder of kernel dumps (one for each row of testdata/kernel-logs/truth.tsv), write docs/kernel-findings.md.
    KernelFaults {
        /// The folder: `KIND.*` and `KIND.serial.log`.
        #[arg(long, value_name = "DIR")]
        dumps: PathBuf,
        /// The kernel's file with debug information: judge with it as well.
        #[arg(long, value_name = "VMLINUX")]
        kernel: Option<PathBuf>,
        /// Cut the consoles into testdata/kernel-logs as well.
        #[arg(long)]
        logs: bool,
        /// The program instead of target/debug/postfault.
        #[arg(long, value_name = "FILE")]
        postfault: Option<PathBuf>,
    },
    /// Boot a Linux guest in QEMU, capture its /proc/kcore while it runs, let it panic, capture /proc/vmcore in its capture
    /// kernel by a static binary, and compare both: some minutes.
    KdumpGuest(guest::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Ci => steps::ci(),
        Command::Tidy => tidy::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Instructions { record } => instructions::check(record),
        Command::Cross { system } => cross::run(system),
        Command::CrossCheck { victim, variant } => steps::cross_check(victim.as_deref(), variant.as_deref()),
        Command::Stress { captures } => steps::stress(captures),
        Command::KernelFaults { dumps, kernel, logs, postfault } => {
            kernel_faults::run(&dumps, kernel.as_deref(), logs, postfault.as_deref())
        }
        Command::KdumpGuest(options) => guest::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
