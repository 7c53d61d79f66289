//! The one-screen report.

use super::threads::{self, Show};
use super::{ALARM, DIM, HEADING, plural, printable, thousands};
use crate::view::View;
use snapshot_format::Snapshot;
use snapshot_format::schema::{Event, Finding};
use std::io::{self, Write};

/// Lines of the faulting stack on the first screen.
const FAULTING_FRAMES: usize = 12;
/// Groups of other threads on the first screen.
const OTHER_GROUPS: usize = 4;

/// Writes who it was, what happened, where, and what is missing.
pub fn write(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let s = view.snapshot;
    title(out, s)?;
    for (row, f) in s.findings.iter().enumerate() {
        finding(out, s, row, f)?;
    }
    if s.findings.is_empty() && s.event.is_some() {
        writeln!(out, "finding   none")?;
    }
    let shown = s.threads.iter().find(|t| t.faulting).or_else(|| s.threads.first());
    if let Some(t) = shown {
        threads::heading(out, t)?;
        threads::stack(out, view, t, Show { locals: threads::Locals::OnOneLine, fold: true, most: FAULTING_FRAMES })?;
    }
    others(out, view, shown.map(|t| t.id))?;
    symbols(out, s)?;
    if !s.doubts.is_empty() {
        let n = s.doubts.len();
        writeln!(out, "doubts    {n} (section `doubts` lists {})", plural(n, "it", "them"))?;
    }
    if let Some(f) = &s.fingerprint {
        writeln!(out, "fingerprint {}", f.value)?;
    }
    Ok(())
}

fn title(out: &mut dyn Write, s: &Snapshot) -> io::Result<()> {
    // A running kernel (/proc/kcore) is live, and no process.
    let running = s.identity.pid.is_none() && !s.tasks.is_empty();
    if matches!(s.identity.origin.as_str(), "kernel-dump" | "log") || running {
        return kernel(out, s);
    }
    let i = &s.identity;
    write!(out, "{HEADING}{}{HEADING:#}", printable(i.command.as_deref().unwrap_or("unknown program")))?;
    if let Some(pid) = i.pid {
        write!(out, " (pid {pid})")?;
    }
    if let Some(e) = &s.event {
        write!(out, "  {ALARM}{}{ALARM:#}", event(e))?;
    }
    let release = i.release.as_deref().map(|r| format!(" {}", printable(r))).unwrap_or_default();
    let n = s.threads.len();
    writeln!(
        out,
        "  {DIM}{}{release} {}, {} {}, {}{DIM:#}",
        i.os,
        i.arch,
        thousands(n as u64),
        plural(n, "thread", "threads"),
        i.origin
    )?;
    if let Some(message) = s.event.as_ref().and_then(|e| e.message.as_deref()) {
        writeln!(out, "message   {}", printable(message))?;
    }
    Ok(())
}

/// `Linux kernel 6.1.0  panicked  host, x86_64, 62 threads, kernel-dump`.
fn kernel(out: &mut dyn Write, s: &Snapshot) -> io::Result<()> {
    let i = &s.identity;
    let system = match i.os.as_str() {
        "linux" => "Linux",
        "freebsd" => "FreeBSD",
        other => other,
    };
    let release = i.release.as_deref().map(|r| format!(" {}", printable(r))).unwrap_or_default();
    write!(out, "{HEADING}{system} kernel{release}{HEADING:#}")?;
    if s.findings.iter().any(|f| f.class == "kernel-panic") {
        write!(out, "  {ALARM}panicked{ALARM:#}")?;
    }
    let named = i.host.as_deref().filter(|h| *h != "(none)");
    let host = named.map(|h| format!("{}, ", printable(h))).unwrap_or_default();
    let n = s.threads.len();
    let count = thousands(n as u64);
    writeln!(out, "  {DIM}{host}{}, {count} {}, {}{DIM:#}", i.arch, plural(n, "thread", "threads"), i.origin)?;
    if let Some(message) = s.event.as_ref().and_then(|e| e.message.as_deref()) {
        writeln!(out, "message   {}", printable(message))?;
    }
    Ok(())
}

/// `SIGSEGV (SEGV_MAPERR): write to 0x28`.
#[must_use]
pub fn event(e: &Event) -> String {
    let mut text = match (&e.signal_name, e.signal) {
        (Some(name), _) => name.clone(),
        (None, Some(n)) => format!("signal {n}"),
        (None, None) => "stopped".to_owned(),
    };
    if let Some(code) = &e.code_name {
        text.push_str(&format!(" ({code})"));
    }
    match (e.access.as_deref(), e.address) {
        (Some(access), Some(address)) => text.push_str(&format!(": {access} at {address:#x}")),
        (None, Some(address)) => text.push_str(&format!(": address {address:#x}")),
        _ => {}
    }
    if let Some(pid) = e.sender_pid {
        text.push_str(&format!(", sent by pid {pid}"));
    }
    text
}

fn finding(out: &mut dyn Write, s: &Snapshot, row: usize, f: &Finding) -> io::Result<()> {
    writeln!(out, "finding   {HEADING}{}{HEADING:#} ({:.2})  {}", f.class, f.confidence, printable(&f.text))?;
    writeln!(out, "          security: {}", f.security)?;
    for e in s.evidence.iter().filter(|e| usize::try_from(e.finding) == Ok(row)) {
        writeln!(out, "          {} {}", if e.counter { "against:" } else { "because:" }, printable(&e.text))?;
    }
    Ok(())
}

/// Threads that are not shown, grouped by stack.
fn others(out: &mut dyn Write, view: &View<'_>, shown: Option<u64>) -> io::Result<()> {
    let mut groups = analysis::stack_groups(view.snapshot);
    for group in &mut groups {
        group.threads.retain(|t| Some(*t) != shown);
    }
    groups.retain(|g| !g.threads.is_empty());
    match analysis::sentence(&groups, OTHER_GROUPS) {
        Some(sentence) => writeln!(out, "{}", printable(&sentence)),
        None => Ok(()),
    }
}

fn symbols(out: &mut dyn Write, s: &Snapshot) -> io::Result<()> {
    let with = s.modules.iter().filter(|m| m.problem.is_none()).count();
    writeln!(out, "symbols   {with} of {} modules complete", s.modules.len())?;
    for m in s.modules.iter().filter(|m| m.problem.is_some()).take(3) {
        writeln!(out, "          {}: {}", printable(&m.path), printable(m.problem.as_deref().unwrap_or_default()))?;
    }
    let rest = s.modules.len().saturating_sub(with).saturating_sub(3);
    if rest > 0 {
        writeln!(out, "          and {rest} more (section `modules` lists them)")?;
    }
    Ok(())
}
