//! `postfault show`: a section of a snapshot, or of any other source.

use crate::args::{Section, Show};
use crate::failure::{Failure, Outcome};
use crate::text::sections;
use crate::view::View;
use crate::{json, output, source};
use clap::ValueEnum as _;

pub fn run(args: &Show) -> Result<Outcome, Failure> {
    let (name, rest) = source::Name::from_words(args.pid, &args.what)
        .ok_or_else(|| Failure::Usage("show what? Give a snapshot, another source, or --pid N".to_owned()))?;
    let section = match rest {
        [] => Section::Summary,
        [word] => Section::from_str(word, true).map_err(|_| {
            let known: Vec<String> = Section::value_variants()
                .iter()
                .filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned()))
                .collect();
            Failure::Usage(format!("there is no section `{word}`; sections are {}", known.join(", ")))
        })?,
        _ => return Err(Failure::Usage("one source and one section at most".to_owned())),
    };
    let snapshot = source::snapshot(&name, &args.symbols, &source::plan(&args.take, true))?;
    let view = View::new(&snapshot);
    if args.output.json {
        output::data(|out| json::write(&view, out))?;
    } else {
        output::text(|out| sections::write(out, &view, section))?;
    }
    Ok(super::outcome(&snapshot, &args.output))
}
