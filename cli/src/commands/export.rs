//! `postfault export`: conversion of a snapshot.

use crate::args::{Export, Format};
use crate::failure::{Failure, Outcome};
use crate::view::View;
use crate::{json, output, source};

pub fn run(args: &Export) -> Result<Outcome, Failure> {
    let snapshot = source::read_snapshot(&args.snapshot)?;
    let view = View::new(&snapshot);
    let Format::Json = args.to;
    match &args.output {
        Some(path) => output::file(path, args.force, |out| json::write(&view, out).map_err(|e| e.to_string()))?,
        None => output::data(|out| json::write(&view, out))?,
    }
    Ok(Outcome::Complete)
}
