//! A snapshot as one HTML page that needs nothing else: no scripts, no files, no network.

use super::findings::{escaped, grounds, line};
use crate::view::View;
use std::io::{self, Write};

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}\
    h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em;border-bottom:1px solid #ccc}pre,code,td{font-family:ui-monospace,monospace;font-size:12px}\
    pre{overflow-x:auto;background:#f6f6f6;padding:.6em}table{border-collapse:collapse}td,th{text-align:left;padding:.1em .8em .1em 0;vertical-align:top}\
    .finding{border-left:4px solid #b00;padding-left:.8em;margin:1em 0}details{margin:.4em 0}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre{background:#262626}}";

pub fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let s = view.snapshot;
    let i = &s.identity;
    let name = i.command.as_deref().or(i.executable.as_deref()).unwrap_or(&i.origin);
    let signal = s.event.as_ref().and_then(|e| e.signal_name.as_deref()).unwrap_or_default();
    let title = escaped(format!("{name} {signal}").trim());
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>")?;
    writeln!(out, "<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<table>")?;
    let mut row = |key: &str, value: Option<String>| match value.filter(|v| !v.is_empty()) {
        Some(value) => writeln!(out, "<tr><th>{key}</th><td>{}</td></tr>", escaped(&value)),
        None => Ok(()),
    };
    row("process", i.pid.map(|p| p.to_string()))?;
    row("command line", i.arguments.clone())?;
    row("system", Some(format!("{} {} {}", i.os, i.release.as_deref().unwrap_or_default(), i.arch)))?;
    row("host", i.host.clone())?;
    if let Some(event) = &s.event {
        row("address", event.address.map(|a| format!("{a:#x}")))?;
        row("message", event.message.clone())?;
    }
    row("fingerprint", s.fingerprint.as_ref().map(|f| f.value.clone()))?;
    writeln!(out, "</table>\n<h2>Findings</h2>")?;
    if s.findings.is_empty() {
        writeln!(out, "<p>none</p>")?;
    }
    for (n, f) in s.findings.iter().enumerate() {
        writeln!(
            out,
            "<div class=\"finding\"><b>{}</b> ({:.2}) {}<br>",
            escaped(&f.class),
            f.confidence,
            escaped(&f.text)
        )?;
        writeln!(out, "security: {}", escaped(&f.security))?;
        for (word, counter) in [("for", false), ("against", true)] {
            for ground in grounds(view, n, counter) {
                writeln!(out, "<br>{word}: {}", escaped(ground))?;
            }
        }
        writeln!(out, "</div>")?;
    }
    writeln!(out, "<h2>Threads</h2>")?;
    for t in &s.threads {
        let open = if t.faulting { " open" } else { "" };
        let name = t.name.as_deref().map(|n| format!(" {}", escaped(n))).unwrap_or_default();
        let faulting = if t.faulting { " (faulting)" } else { "" };
        writeln!(out, "<details{open}><summary>thread {}{name}{faulting}</summary>", t.id)?;
        if let Some(same) = view.same_stack_as(t) {
            writeln!(out, "<p>same stack as thread {same}</p></details>")?;
            continue;
        }
        writeln!(out, "<pre>")?;
        for (n, frame) in view.frames(t).iter().enumerate() {
            writeln!(out, "{}", escaped(&line(view, n, frame)))?;
        }
        if let Some(why) = &t.truncated {
            writeln!(out, "(ends: {})", escaped(why))?;
        }
        let registers = view.registers(t.id, view.first_physical(view.frames(t)));
        for four in registers.chunks(4) {
            let text: Vec<String> = four.iter().map(|r| format!("{:>8} {:016x}", escaped(&r.name), r.value)).collect();
            writeln!(out, "{}", text.join(" "))?;
        }
        writeln!(out, "</pre></details>")?;
    }
    writeln!(out, "<h2>Modules</h2>\n<table>")?;
    for m in &s.modules {
        let id = m.build_id.as_deref().map(crate::view::hex).unwrap_or_default();
        writeln!(
            out,
            "<tr><td>{:#x}</td><td>{}</td><td>{id}</td><td>{}</td></tr>",
            m.base,
            escaped(&m.path),
            escaped(&m.symbols)
        )?;
    }
    writeln!(out, "</table>")?;
    for (heading, lines) in [
        ("Log", s.log.iter().map(|l| l.text.clone()).collect::<Vec<_>>()),
        ("Doubts", s.doubts.iter().map(|d| format!("{}: {}", d.what, d.why)).collect()),
    ] {
        if !lines.is_empty() {
            writeln!(out, "<h2>{heading}</h2>\n<pre>")?;
            lines.iter().try_for_each(|l| writeln!(out, "{}", escaped(l)))?;
            writeln!(out, "</pre>")?;
        }
    }
    writeln!(out, "</body></html>")
}
