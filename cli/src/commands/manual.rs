//! Manual pages and shell completions, made from the definition of the command line.

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::output;
use clap::CommandFactory as _;
use std::path::Path;

/// Prints the completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "postfault", &mut script);
    output::data(|out| out.write_all(&script))?;
    Ok(Outcome::Complete)
}

/// Writes `postfault.1` and one page per command.
pub fn man(directory: &Path) -> Result<Outcome, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", directory.display()));
    std::fs::create_dir_all(directory).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(fail)?;
    Ok(Outcome::Complete)
}
