//! One section of a snapshot each, in full.

use super::{HEADING, kernel, printable, size, summary, threads, values};
use crate::args::Section;
use crate::view::{View, hex};
use snapshot_format::schema::{Note, Value, Variable};
use std::io::{self, Write};

/// Writes one section.
pub fn write(out: &mut dyn Write, view: &View<'_>, section: Section) -> io::Result<()> {
    match section {
        Section::Summary => summary::write(out, view),
        Section::Findings => findings(out, view),
        Section::Threads => {
            threads::all(out, view, threads::Show { locals: threads::Locals::Hidden, fold: true, most: usize::MAX })
        }
        Section::Variables => variables(out, view),
        Section::Registers => registers(out, view),
        Section::Modules => modules(out, view),
        Section::Mappings => mappings(out, view),
        Section::Memory => memory(out, view),
        Section::Log => log(out, view),
        Section::Tasks => tasks(out, view),
        Section::Kernel => kernel::write(out, view),
        Section::Attributes => attributes(out, view),
        Section::Files => files(out, view),
        Section::Notes => notes(out, view),
        Section::Doubts => doubts(out, view),
    }
}

fn findings(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let s = view.snapshot;
    for (row, f) in s.findings.iter().enumerate() {
        writeln!(
            out,
            "{HEADING}{}{HEADING:#}  confidence {:.2}, severity {}, security {}",
            f.class, f.confidence, f.severity, f.security
        )?;
        writeln!(out, "  {}", printable(&f.text))?;
        for e in s.evidence.iter().filter(|e| usize::try_from(e.finding) == Ok(row)) {
            writeln!(out, "  {} {}", if e.counter { "against:" } else { "because:" }, printable(&e.text))?;
        }
    }
    if let Some(f) = &s.fingerprint {
        writeln!(out, "fingerprint {} of", f.value)?;
        for frame in &f.frames {
            writeln!(out, "  {}", printable(frame))?;
        }
    }
    Ok(())
}

fn variables(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for t in &view.snapshot.threads {
        for (index, f) in (0_u32..).zip(view.frames(t)) {
            let rows = view.variables(Some(t.id), Some(index));
            if rows.is_empty() {
                continue;
            }
            let name = printable(f.function.as_deref().unwrap_or("??"));
            writeln!(out, "{HEADING}thread {} frame #{index} {name}{HEADING:#}", t.id)?;
            for row in rows {
                tree(out, view, *row, 1)?;
            }
        }
    }
    let globals = view.variables(None, None);
    if !globals.is_empty() {
        writeln!(out, "{HEADING}globals{HEADING:#}")?;
        for row in globals {
            tree(out, view, *row, 1)?;
        }
    }
    Ok(())
}

fn tree(out: &mut dyn Write, view: &View<'_>, row: u32, depth: usize) -> io::Result<()> {
    let Some(v): Option<&Variable> = view.variable(row) else { return Ok(()) };
    let children = view.children(row);
    let own = if children.is_empty() || v.value != Value::None || v.absent.is_some() {
        format!(" = {}", values::value(view, row, 0))
    } else {
        String::new()
    };
    let at = v.address.map(|a| format!("  @{a:#x}")).unwrap_or_default();
    writeln!(out, "{:indent$}{} {}{own}{at}", "", printable(&v.type_name), printable(&v.name), indent = depth * 2)?;
    if depth < 64 {
        for child in children {
            tree(out, view, *child, depth + 1)?;
        }
    }
    Ok(())
}

fn registers(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for t in &view.snapshot.threads {
        threads::heading(out, t)?;
        let first = view.first_physical(view.frames(t));
        for line in view.registers(t.id, first).chunks(4) {
            for r in line {
                write!(out, "  {:>8} {:#018x}", r.name, r.value)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn modules(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for m in &view.snapshot.modules {
        let end = m.base.saturating_add(m.size);
        let id = m.build_id.as_deref().map_or_else(|| "-".to_owned(), hex);
        writeln!(out, "{:#018x}-{end:#018x}  {:<8} {id}  {}", m.base, m.symbols, printable(&m.path))?;
        if let Some(file) = &m.symbol_file {
            writeln!(out, "    symbols from {}", printable(file))?;
        }
        if let Some(problem) = &m.problem {
            writeln!(out, "    {}", printable(problem))?;
        }
    }
    Ok(())
}

fn mappings(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for m in &view.snapshot.mappings {
        let path = printable(m.path.as_deref().unwrap_or_default());
        let deleted = if m.deleted { " (deleted)" } else { "" };
        writeln!(out, "{:#018x}-{:#018x} {} {:#010x} {path}{deleted}", m.start, m.end, m.protection, m.file_offset)?;
    }
    Ok(())
}

fn memory(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for m in &view.snapshot.memory {
        let end = m.address.saturating_add(m.length);
        let why = m.absent.as_deref().map(|w| format!("  absent: {w}")).unwrap_or_default();
        writeln!(out, "{:#018x}-{end:#018x}  {}{why}", m.address, size(m.length))?;
    }
    Ok(())
}

fn log(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for l in &view.snapshot.log {
        if let Some(time) = l.time_ns {
            write!(out, "[{:>5}.{:06}] ", time / 1_000_000_000, time % 1_000_000_000 / 1000)?;
        }
        writeln!(out, "{}", printable(&l.text))?;
    }
    Ok(())
}

fn tasks(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for t in &view.snapshot.tasks {
        writeln!(
            out,
            "{:>8} {:>8} {:<12} {}",
            t.id,
            t.pid.map_or_else(|| "-".to_owned(), |p| p.to_string()),
            printable(t.state.as_deref().unwrap_or("-")),
            printable(t.name.as_deref().unwrap_or("-"))
        )?;
    }
    Ok(())
}

fn attributes(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for a in &view.snapshot.attributes {
        let thread = a.thread.map(|t| format!(" (thread {t})")).unwrap_or_default();
        if a.value.contains('\n') {
            writeln!(out, "{HEADING}{}{thread}{HEADING:#}", printable(&a.key))?;
            for line in a.value.lines() {
                writeln!(out, "  {}", printable(line))?;
            }
        } else {
            writeln!(out, "{HEADING}{}{thread}{HEADING:#} = {}", printable(&a.key), printable(&a.value))?;
        }
    }
    Ok(())
}

fn files(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for f in &view.snapshot.files {
        let position = f.position.map(|p| format!("  at {p}")).unwrap_or_default();
        writeln!(out, "{:>5}  {}{position}", f.descriptor, printable(&f.target))?;
    }
    for a in &view.snapshot.attachments {
        writeln!(out, "attached {} ({})", printable(&a.name), size(a.body.len() as u64))?;
    }
    Ok(())
}

fn notes(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for n in view.snapshot.notes.iter().filter(|n| n.owner != Note::FLOATING_POINT) {
        let thread = n.thread.map(|t| format!("  thread {t}")).unwrap_or_default();
        writeln!(out, "{:<12} {:#010x}  {}{thread}", printable(&n.owner), n.kind, size(n.body.len() as u64))?;
    }
    Ok(())
}

fn doubts(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    for d in &view.snapshot.doubts {
        let at = d.address.map(|a| format!(" at {a:#x}")).unwrap_or_default();
        writeln!(out, "{}{at}: {}", printable(&d.what), printable(&d.why))?;
    }
    Ok(())
}
