//! `postfault symbols`: what was found for each module, where it was looked for, what would fix the rest.

use crate::args::{SourceArgs, Symbols};
use crate::failure::{Failure, Outcome};
use crate::text::{HEADING, printable};
use crate::{output, source};
use debuginfo::{DebugInfo, Locator, Modules, sym_file};
use evidence::{Doubts, Paged, Target};
use serde::Serialize;
use std::path::Path;

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
    if let Some(path) = &args.of.dump_sym {
        return dump_sym(path, args);
    }
    let name = source::Name::from_args(&SourceArgs { pid: args.of.pid, source: args.of.source.clone(), log: None });
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

/// Writes the symbol file of one file; what it lost goes to standard error.
fn dump_sym(path: &Path, args: &Symbols) -> Result<Outcome, Failure> {
    let servers = std::env::var("DEBUGINFOD_URLS").unwrap_or_default();
    let locator = Locator {
        sysroot: args.symbols.sysroot.clone(),
        symbols: args.symbols.symbols.clone(),
        debuginfod: servers.split_whitespace().filter(|_| args.symbols.debuginfod).map(str::to_owned).collect(),
        ..Locator::default()
    };
    let modules = Modules::of_file(path, None, None, &locator).map_err(Failure::new)?;
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let mut written = None;
    output::data(|out| match sym_file::write(&info, 0, out) {
        Ok(w) => {
            written = Some(Ok(w));
            Ok(())
        }
        Err(sym_file::WriteError::Io(e)) => Err(e),
        Err(e) => {
            written = Some(Err(Failure::new(format!("{}: {e}", path.display()))));
            Ok(())
        }
    })?;
    let written = written.transpose()?.unwrap_or_default();
    let mut doubts = doubts.sorted();
    doubts.extend(modules.list().iter().flat_map(debuginfo::Module::doubts));
    for doubt in &doubts {
        anstream::eprintln!("doubt: {}: {}", doubt.what, doubt.why);
    }
    if written.functions == 0 {
        anstream::eprintln!("warning: {}: no functions are known: it has neither DWARF nor symbols", path.display());
    }
    if written.inexpressible > 0 {
        anstream::eprintln!(
            "warning: {} rows of call frame information cannot be expressed in this format and are left out",
            written.inexpressible
        );
    }
    let complete = doubts.is_empty() && written.functions > 0 && written.inexpressible == 0;
    Ok(if args.output.strict && !complete { Outcome::Different } else { Outcome::Complete })
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
