//! `postfault`: what happened to a program or a kernel that died.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod cross_check;
mod export;
mod failure;
mod json;
mod output;
mod progress;
mod source;
mod text;
mod view;

use args::{Cli, Command};
use clap::Parser as _;
use failure::{Failure, Outcome};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::set_color(cli.color);
    let verbose = cli.verbose;
    let result = match cli.command {
        Command::Capture(a) => commands::capture::run(&a, verbose),
        Command::Bt(a) => commands::bt::run(&a),
        Command::Show(a) => commands::show::run(&a),
        Command::Memory(a) => commands::memory::run(&a),
        Command::Symbols(a) => commands::symbols::run(&a),
        Command::Diff(a) => commands::diff::run(&a),
        Command::Convert(a) => commands::convert::run(&a),
        Command::Export(a) => commands::export::run(&a),
        Command::CrossCheck(a) => commands::cross_check::run(&a),
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man { directory } => commands::manual::man(&directory),
    };
    match result {
        Ok(Outcome::Complete) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(1),
        Err(failure) => {
            if !matches!(failure, Failure::Closed) {
                anstream::eprintln!("{}error:{:#} {failure}", text::ALARM, text::ALARM);
            }
            failure.code()
        }
    }
}
