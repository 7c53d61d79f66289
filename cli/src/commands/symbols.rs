//! `postfault symbols`: what was found for each module, where it was looked for, what would fix the rest.

use crate::args::Symbols;
use crate::failure::{Failure, Outcome};
use crate::text::{HEADING, printable};
use crate::{output, source};
use debuginfo::Modules;
use evidence::{Doubts, Paged, Target};
use serde::Serialize;

#[derive(Serialize)]
struct ModuleJson {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    base: String,
    size: u64,
    symbols: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<String>,
    searched: Vec<Searched>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Serialize)]
struct Searched {
    path: String,
    outcome: String,
}

/// Looks for the files of every module and reports.
pub fn run(args: &Symbols) -> Result<Outcome, Failure> {
    let name = source::Name::from_args(&args.source);
    let modules = source::with_target(&name, &args.symbols, |target, release| {
        let modules = list(target, args);
        release();
        modules
    })?
    .result;
    let incomplete = modules.iter().any(|m| m.problem.is_some());
    if args.output.json {
        output::data(|out| {
            serde_json::to_writer(&mut *out, &modules)?;
            writeln!(out)
        })?;
    } else {
        output::text(|out| {
            for m in &modules {
                writeln!(out, "{HEADING}{}{HEADING:#}  {}", printable(&m.path), m.symbols)?;
                writeln!(out, "  build-id {}  at {}", m.build_id.as_deref().unwrap_or("none"), m.base)?;
                if let Some(debug) = m.debug.as_ref().filter(|d| Some(*d) != m.image.as_ref()) {
                    writeln!(out, "  debug info from {}", printable(debug))?;
                }
                if let Some(problem) = &m.problem {
                    for s in &m.searched {
                        writeln!(out, "  looked at {}: {}", printable(&s.path), printable(&s.outcome))?;
                    }
                    writeln!(out, "  {}", printable(problem))?;
                    if let Some(remedy) = &m.remedy {
                        writeln!(out, "  {}", printable(remedy))?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(if incomplete && args.output.strict { Outcome::Different } else { Outcome::Complete })
}

fn list(target: &dyn Target, args: &Symbols) -> Vec<ModuleJson> {
    let doubts = Doubts::new();
    let memory = Paged::new(target.memory());
    let modules = Modules::outline(target, &memory, &source::locator(&args.symbols, target), &doubts);
    modules
        .list()
        .iter()
        .map(|m| {
            let report = m.report();
            ModuleJson {
                path: m.path.to_string(),
                build_id: m.build_id.as_ref().map(ToString::to_string),
                base: m.base.to_string(),
                size: m.size,
                symbols: report.kind.word().to_owned(),
                image: report.main.as_ref().map(|p| p.display().to_string()),
                debug: report.debug.as_ref().map(|p| p.display().to_string()),
                searched: report
                    .searched
                    .iter()
                    .map(|(path, outcome)| Searched { path: path.display().to_string(), outcome: outcome.to_string() })
                    .collect(),
                problem: report.problem,
                remedy: report.remedy.map(|text| match m.debug_package() {
                    Some(package) => format!("{text}; the Debian package {package} would supply it"),
                    None => text,
                }),
            }
        })
        .collect()
}
