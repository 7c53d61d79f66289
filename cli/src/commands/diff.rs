//! `postfault diff`: what differs between two snapshots.

use crate::args::Diff;
use crate::failure::{Failure, Outcome};
use crate::text::{HEADING, printable};
use crate::view::{View, hex};
use crate::{output, source};
use serde::Serialize;
use snapshot_format::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// One difference.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    section: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
}

/// Compares and prints.
pub fn run(args: &Diff) -> Result<Outcome, Failure> {
    let (a, b) = (source::read_snapshot(&args.a)?, source::read_snapshot(&args.b)?);
    let differences = compare(&a, &b);
    if args.output.json {
        output::data(|out| {
            serde_json::to_writer(&mut *out, &differences)?;
            writeln!(out)
        })?;
    } else {
        output::text(|out| {
            let mut section = "";
            for d in &differences {
                if d.section != section {
                    section = d.section;
                    writeln!(out, "{HEADING}{section}{HEADING:#}")?;
                }
                writeln!(out, "  {}", printable(&d.what))?;
                for (sign, side) in [("-", &d.a), ("+", &d.b)] {
                    if let Some(text) = side {
                        writeln!(out, "    {sign} {}", printable(text))?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(if differences.is_empty() { Outcome::Complete } else { Outcome::Different })
}

fn compare(a: &Snapshot, b: &Snapshot) -> Vec<Difference> {
    let (va, vb) = (View::new(a), View::new(b));
    let mut all = Vec::new();
    keyed("identity", &identity(a), &identity(b), &mut all);
    keyed("event", &event(a), &event(b), &mut all);
    keyed("findings", &findings(a), &findings(b), &mut all);
    keyed("threads", &stacks(&va), &stacks(&vb), &mut all);
    keyed("variables", &variables(&va), &variables(&vb), &mut all);
    keyed("modules", &modules(a), &modules(b), &mut all);
    all
}

/// Entries on one side only, and entries with different texts.
fn keyed(section: &'static str, a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, all: &mut Vec<Difference>) {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let (left, right) = (a.get(key), b.get(key));
        if left != right {
            all.push(Difference { section, what: key.clone(), a: left.cloned(), b: right.cloned() });
        }
    }
}

fn identity(s: &Snapshot) -> BTreeMap<String, String> {
    let i = &s.identity;
    let fields = [
        ("os", Some(i.os.clone())),
        ("arch", Some(i.arch.clone())),
        ("command", i.command.clone()),
        ("arguments", i.arguments.clone()),
        ("executable", i.executable.clone()),
        ("release", i.release.clone()),
    ];
    fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()
}

fn event(s: &Snapshot) -> BTreeMap<String, String> {
    let Some(e) = &s.event else { return BTreeMap::new() };
    let mut map = BTreeMap::from([("signal".to_owned(), crate::text::summary::event(e))]);
    if let Some(message) = &e.message {
        map.insert("message".to_owned(), message.clone());
    }
    map
}

fn findings(s: &Snapshot) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> = s.findings.iter().map(|f| (f.class.clone(), f.text.clone())).collect();
    if let Some(f) = &s.fingerprint {
        map.insert("fingerprint".to_owned(), f.value.clone());
    }
    map
}

/// Stacks by their function names, so that threads of two runs can be compared: how many threads have each.
fn stacks(view: &View<'_>) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for t in &view.snapshot.threads {
        let names: Vec<String> = view
            .frames(t)
            .iter()
            .map(|f| {
                let name = f.function.as_deref().unwrap_or("??");
                match (&f.file, f.line) {
                    (Some(file), Some(line)) => format!("{name} ({}:{line})", file.rsplit('/').next().unwrap_or(file)),
                    _ => name.to_owned(),
                }
            })
            .collect();
        let key = if t.faulting { "faulting: " } else { "" };
        *counts.entry(format!("{key}{}", names.join(" < "))).or_default() += 1;
    }
    counts.into_iter().map(|(k, n)| (k, format!("{n} threads"))).collect()
}

/// Values of the faulting thread's variables, pointers left out: they differ by address-space layout alone.
fn variables(view: &View<'_>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for t in view.snapshot.threads.iter().filter(|t| t.faulting) {
        for (index, f) in (0_u32..).zip(view.frames(t)) {
            for row in view.variables(Some(t.id), Some(index)) {
                let Some(v) = view.variable(*row) else { continue };
                if !comparable(v) {
                    continue;
                }
                let name = f.function.as_deref().unwrap_or("??");
                map.insert(format!("#{index} {name}: {}", v.name), crate::text::values::value(view, *row, 0));
            }
        }
    }
    map
}

/// Whether a value means the same in two runs: numbers and truth values do, addresses (also inside texts) do not.
const fn comparable(v: &snapshot_format::schema::Variable) -> bool {
    use snapshot_format::schema::Value;
    matches!(v.value, Value::Signed(_) | Value::Unsigned(_) | Value::Float(_) | Value::Bool(_))
}

fn modules(s: &Snapshot) -> BTreeMap<String, String> {
    s.modules
        .iter()
        .map(|m| {
            let id = m.build_id.as_deref().map_or_else(|| "no build-id".to_owned(), |b| format!("build-id {}", hex(b)));
            (m.path.clone(), format!("{id}, symbols {}", m.symbols))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapshot_format::schema::{Finding, Frame, Stack, Thread};

    fn snapshot(function: &str) -> Snapshot {
        Snapshot {
            threads: vec![Thread { id: 1, faulting: true, stack: Some(0), ..Thread::default() }],
            stacks: vec![Stack { first: 0, count: 1 }],
            frames: vec![Frame { function: Some(function.into()), ..Frame::default() }],
            findings: vec![Finding { class: "abort".into(), text: "aborted".into(), ..Finding::default() }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn equal_snapshots_have_no_differences() {
        assert_eq!(compare(&snapshot("f"), &snapshot("f")), []);
    }

    #[test]
    fn another_function_is_a_difference_of_threads() {
        let differences = compare(&snapshot("f"), &snapshot("g"));
        assert_eq!(differences.len(), 2);
        assert!(differences.iter().all(|d| d.section == "threads"));
    }
}
