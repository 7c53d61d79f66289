//! `postfault export`: conversion of a snapshot.

use crate::args::{Export, Format};
use crate::export::{html, junit, minidump, sarif};
use crate::failure::{Failure, Outcome};
use crate::view::View;
use crate::{json, output, source};
use std::io::Write;

pub fn run(args: &Export) -> Result<Outcome, Failure> {
    let snapshot = source::read_snapshot(&args.snapshot)?;
    let mut losses = Vec::new();
    let mut write = |out: &mut dyn Write| -> std::io::Result<()> {
        match args.to {
            Format::Json => json::write(&View::new(&snapshot), out),
            Format::Html => html::write(&View::new(&snapshot), out),
            Format::Sarif => sarif::write(&View::new(&snapshot), out),
            Format::Junit => junit::write(&View::new(&snapshot), out),
            Format::Minidump => {
                // As it lies there, not written again: the way back gives the very same file.
                let original = std::fs::read(&args.snapshot)?;
                losses = minidump::write(&snapshot, &original, out)?;
                Ok(())
            }
        }
    };
    match &args.output {
        Some(path) => output::file(path, args.force, |out| write(out).map_err(|e| e.to_string()))?,
        None => output::data(write)?,
    }
    for loss in losses {
        anstream::eprintln!("warning: {loss}");
    }
    Ok(Outcome::Complete)
}
