//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Captures the state of a program or kernel at its fault, explains it, and keeps it in a small self-contained file.
#[derive(Debug, Parser)]
#[command(
    name = "postfault",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 complete; 1 doubts under --strict, or differences; 2 usage; 3 no result.\n\
                  Every command has examples: postfault COMMAND --help"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Say more about what is being done (repeatable).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a snapshot of a process, core or dump, and print a one-screen summary.
    #[command(after_help = "Examples:\n  \
        postfault capture core.4711 --exe ./server\n  \
        postfault capture --pid 4711 -o server.pfsnap --kv ticket=1234\n  \
        gzip -dc core.gz | postfault capture - -o crash.pfsnap")]
    Capture(Capture),
    /// Print the backtraces of all threads; nothing is written.
    #[command(after_help = "Examples:\n  \
        postfault bt --pid 4711\n  \
        postfault bt core.4711 --locals --threads faulting\n  \
        postfault bt --log console.txt\n  \
        postfault bt --pid 4711 --json | jq '.threads[0].frames[].function'")]
    Bt(Bt),
    /// Show a section of a snapshot (or of any other source).
    #[command(after_help = "Examples:\n  \
        postfault show server.pfsnap\n  \
        postfault show server.pfsnap threads\n  \
        postfault show server.pfsnap --json > server.json\n  \
        postfault show --pid 4711 mappings")]
    Show(Show),
    /// Print bytes of the target's memory.
    #[command(after_help = "Examples:\n  \
        postfault memory core.4711 0x7ffd1000 64\n  \
        postfault memory --pid 4711 0x55d0c8a01000 4096 --raw > page.bin\n\n\
        Missing bytes are shown with the reason, and the exit code is 1.")]
    Memory(MemoryArgs),
    /// Say for every module which symbols were found where, what is missing, and what would fix it.
    #[command(after_help = "Examples:\n  \
        postfault symbols core.4711\n  \
        postfault symbols --pid 4711 --symbols ./debug --debuginfod\n  \
        postfault symbols --dump-sym ./server > server.sym")]
    Symbols(Symbols),
    /// Say what differs between two snapshots (exit code 0: nothing, 1: something).
    #[command(
        after_help = "Examples:\n  postfault diff before.pfsnap after.pfsnap\n  postfault diff a.pfsnap b.pfsnap --json"
    )]
    Diff(Diff),
    /// Convert a snapshot.
    #[command(after_help = "Examples:\n  postfault export server.pfsnap --to json -o server.json\n  \
        postfault export server.pfsnap --to minidump -o server.dmp")]
    Export(Export),
    /// Write unix.N and vmcore.N of an illumos dump (vmdump.N or a dump device), as savecore does.
    #[command(after_help = "Examples:\n  \
        postfault convert vmdump.0 -o /var/crash\n  \
        postfault convert /dev/zvol/rdsk/rpool/dump -o . --key dump.key\n\n\
        Files that exist are never replaced. What cannot be read is listed, and the exit code is 1.")]
    Convert(Convert),
    /// Run other debuggers on the same input and compare threads, frames and values.
    #[command(after_help = "Examples:\n  \
        postfault cross-check core.4711 --exe ./server --with gdb,eu-stack\n  \
        postfault cross-check --pid 4711 --with gdb --json\n\n\
        Exit code 0: every compared frame agrees, or differs only for a reason that is the peer's; 1: differences.")]
    CrossCheck(CrossCheck),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  postfault completions bash > /etc/bash_completion.d/postfault")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory.
    #[command(after_help = "Examples:\n  postfault man ./man1 && man ./man1/postfault-capture.1")]
    Man {
        /// Where to write them.
        directory: PathBuf,
    },
}

/// Where debug files are looked for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Symbols")]
pub struct SymbolArgs {
    /// The executable, if it does not lie where the source says.
    #[arg(long, value_name = "FILE")]
    pub exe: Option<PathBuf>,
    /// The kernel image of a kernel dump: vmlinux, FreeBSD's kernel, illumos's unix.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The key of an encrypted kernel dump: the file that dumpadm -k was given (illumos), the RSA private key in PEM or
    /// DER (FreeBSD).
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A further part of a dump that makedumpfile --split wrote; SOURCE is one of them (repeatable).
    #[arg(long, value_name = "FILE")]
    pub part: Vec<PathBuf>,
    /// A directory with debug files: by build-id, next to binaries as .debug, by name, or a store of Breakpad symbol
    /// files (repeatable).
    #[arg(long, value_name = "DIR")]
    pub symbols: Vec<PathBuf>,
    /// Ask the servers of DEBUGINFOD_URLS for what is missing, by build-id.
    #[arg(long)]
    pub debuginfod: bool,
    /// Ask this server for Breakpad symbol files (NAME/ID/NAME.sym) of modules without debug information, and for images
    /// and program databases of Windows (NAME/ID/NAME) (repeatable).
    #[arg(long, value_name = "URL")]
    pub symbol_server: Vec<String>,
    /// Where indexes of debug files and downloads are kept, instead of $XDG_CACHE_HOME/postfault.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Neither use nor write indexes of debug files.
    #[arg(long)]
    pub no_cache: bool,
    /// Prefix for all paths that the source names.
    #[arg(long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
}

/// What is captured of each thread.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What to take")]
pub struct TakeArgs {
    /// Which threads to unwind.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "all")]
    pub threads: Threads,
    /// Leave variables out.
    #[arg(long)]
    pub no_variables: bool,
    /// Also evaluate this global variable (repeatable).
    #[arg(long, value_name = "NAME")]
    pub global: Vec<String>,
}

/// Which threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the variants are the option's values")]
pub enum Threads {
    All,
    Faulting,
}

/// A source: a path, `-`, or a live process.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SourceArgs {
    /// A live process.
    #[arg(long, value_name = "N")]
    pub pid: Option<u64>,
    /// A kernel's log: a serial console, dmesg's output, a pasted oops.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// A core, dump or snapshot (told by content, compressed or not), or - for standard input.
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
}

/// `--json` and `--strict`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print JSON (schema postfault/1).
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 when there are doubts.
    #[arg(long)]
    pub strict: bool,
}

/// `capture`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Capture {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where to write the snapshot [default: COMMAND.PID.TIME.pfsnap].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing output file.
    #[arg(long)]
    pub force: bool,
    /// Copy a live process, let it run on at once, and read the copy (Linux, x86-64).
    #[arg(long, requires = "pid", conflicts_with = "stop_budget")]
    pub fork: bool,
    /// Let a live process go after this time, whatever has been read by then.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_budget: Option<u64>,
    /// Note a fact in the snapshot (repeatable).
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub kv: Vec<(String, String)>,
    /// Put a file into the snapshot (repeatable).
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// What is taken out before anything is analysed or written.
    #[arg(long, value_enum, value_name = "PROFILE", default_value = "none")]
    pub redact: Redact,
    /// Which raw memory goes into the snapshot.
    #[arg(long, value_enum, value_name = "HOW MUCH", default_value = "stacks")]
    pub memory: Memory,
    #[command(flatten)]
    pub take: TakeArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output_args: OutputArgs,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.to_owned(), v.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// What is taken out of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Redact {
    /// Nothing.
    None,
    /// Environment, arguments, texts and byte buffers of variables, vector registers, raw memory except code.
    Secrets,
    /// Everything but stacks, modules and mappings: no value, no text, no raw memory.
    Stacks,
}

/// Which raw memory is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Memory {
    /// Code at the innermost pcs, stacks near their stack pointers.
    Stacks,
    /// Also what pointers on stacks and in registers lead to.
    Reachable,
    /// Everything.
    Full,
}

/// `bt`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Bt {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Print variables below each frame.
    #[arg(long)]
    pub locals: bool,
    /// Print every frame of a recursion.
    #[arg(long)]
    pub no_fold: bool,
    /// Copy a live process, let it run on at once, and read the copy (Linux, x86-64).
    #[arg(long, requires = "pid")]
    pub fork: bool,
    #[command(flatten)]
    pub take: TakeArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `show`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Show {
    /// A live process instead of a file.
    #[arg(long, value_name = "N")]
    pub pid: Option<u64>,
    /// A snapshot or any other source (unless --pid is given), then the section [default: summary].
    #[arg(value_name = "SNAPSHOT [SECTION]", num_args = 0..=2)]
    pub what: Vec<String>,
    #[command(flatten)]
    pub take: TakeArgs,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `show` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the variants are the sections' names")]
pub enum Section {
    Summary,
    Findings,
    Threads,
    Variables,
    Registers,
    Modules,
    Mappings,
    Memory,
    Log,
    Tasks,
    Kernel,
    Attributes,
    Files,
    Notes,
    Doubts,
}

/// `memory`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct MemoryArgs {
    /// A live process instead of a file.
    #[arg(long, value_name = "N")]
    pub pid: Option<u64>,
    /// The source (unless --pid is given), the address, and the number of bytes; 0x for hexadecimal.
    #[arg(value_name = "[SOURCE] ADDRESS LENGTH", num_args = 2..=3, required = true)]
    pub what: Vec<String>,
    /// Write the bytes as they are. Stops at the first missing one.
    #[arg(long)]
    pub raw: bool,
    /// The address space, for whole machines: kernel, physical, or in hexadecimal the root of a page table (illumos: the
    /// address of a struct as).
    #[arg(long, value_name = "SPACE", default_value = "kernel")]
    pub space: String,
    #[command(flatten)]
    pub symbols: SymbolArgs,
}

/// What `symbols` is about.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SymbolsOf {
    /// A live process.
    #[arg(long, value_name = "N")]
    pub pid: Option<u64>,
    /// A core, dump or snapshot (told by content, compressed or not), or - for standard input.
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// Instead: write the Breakpad symbol file (.sym) of this program, library or debug file to standard output.
    #[arg(long, value_name = "FILE")]
    pub dump_sym: Option<PathBuf>,
}

/// `symbols`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Symbols {
    #[command(flatten)]
    pub of: SymbolsOf,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `diff`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Diff {
    /// The first snapshot.
    pub a: PathBuf,
    /// The second one.
    pub b: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `export`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct Export {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The format.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: Format,
    /// Where to write it [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace an existing output file.
    #[arg(long)]
    pub force: bool,
}

/// Formats of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the variants are the formats' names")]
pub enum Format {
    Json,
    Minidump,
    Html,
    Sarif,
    Junit,
}

/// `convert`.
#[derive(Clone, Debug, Args)]
pub struct Convert {
    /// vmdump.N or a dump device.
    pub source: PathBuf,
    /// The directory for the two files.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The N of their names [default: that of SOURCE, or the first free one].
    #[arg(long, value_name = "N")]
    pub number: Option<u64>,
    /// The key file of an encrypted dump (the one that dumpadm -k was given).
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `cross-check`.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "each field is the option of its name")]
pub struct CrossCheck {
    #[command(flatten)]
    pub source: SourceArgs,
    /// The debuggers to compare with: gdb, lldb and eu-stack unless said otherwise, drgn and crash for Linux kernels. Those
    /// that are not installed are named and passed over.
    #[arg(long, value_name = "TOOLS", value_delimiter = ',')]
    pub with: Vec<String>,
    /// Compare the values of variables, too.
    #[arg(long)]
    pub values: bool,
    #[command(flatten)]
    pub symbols: SymbolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl CrossCheck {
    /// All threads are compared.
    #[must_use]
    pub fn take(&self) -> TakeArgs {
        TakeArgs { threads: Threads::All, no_variables: !self.values, global: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("postfault {}", command.get_name())), "{}", command.get_name());
        }
    }
}
