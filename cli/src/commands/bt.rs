//! `postfault bt`: backtraces, nothing written.

use crate::args::Bt;
use crate::failure::{Failure, Outcome};
use crate::text::threads::{self, Locals, Show};
use crate::view::View;
use crate::{json, output, source};

pub fn run(args: &Bt) -> Result<Outcome, Failure> {
    let mut plan = source::plan(&args.take, args.output.json || args.locals);
    plan.keep_memory = capture::KeepMemory::Judged;
    let mut name = source::Name::from_args(&args.source);
    if let source::Name::Pid(_, hold) = &mut name {
        hold.fork = args.fork;
        hold.brief = !args.output.json;
    }
    let snapshot = source::snapshot(&name, &args.symbols, &plan)?;
    let view = View::new(&snapshot);
    if args.output.json {
        output::data(|out| json::write(&view, out))?;
    } else {
        let locals = if args.locals { Locals::Below } else { Locals::Hidden };
        let show = Show { locals, fold: !args.no_fold, most: usize::MAX };
        output::text(|out| threads::all(out, &view, show))?;
    }
    if snapshot.threads.is_empty() {
        eprintln!("postfault: no thread is known{}", if snapshot.doubts.is_empty() { "" } else { ":" });
        for doubt in &snapshot.doubts {
            eprintln!("  {}: {}", doubt.what, doubt.why);
        }
    }
    Ok(super::outcome(&snapshot, &args.output))
}
