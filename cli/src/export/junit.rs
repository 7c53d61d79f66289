//! Findings as a JUnit test report, for systems that show test results: each finding is a failed test, unless it is only
//! information.

use super::findings::{escaped, frames, grounds, line};
use crate::view::View;
use std::io::{self, Write};

/// Most frames of a failure's text.
const LIMIT_FRAMES: usize = 100;

pub fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let snapshot = view.snapshot;
    let fails = |severity: &str| severity != "info";
    let failures = snapshot.findings.iter().filter(|f| fails(&f.severity)).count();
    let tests = snapshot.findings.len().max(1);
    let identity = &snapshot.identity;
    let name = identity.command.as_deref().or(identity.executable.as_deref()).unwrap_or(&identity.origin);
    let suite = match identity.pid {
        Some(pid) => format!("{name} (pid {pid})"),
        None => name.to_owned(),
    };
    let suite = escaped(&suite);
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, r#"<testsuites name="postfault" tests="{tests}" failures="{failures}">"#)?;
    writeln!(out, r#"  <testsuite name="{suite}" tests="{tests}" failures="{failures}" errors="0" skipped="0">"#)?;
    if snapshot.findings.is_empty() {
        writeln!(out, r#"    <testcase classname="{suite}" name="no findings"/>"#)?;
    }
    for (row, f) in snapshot.findings.iter().enumerate() {
        let class = escaped(&f.class);
        let text = escaped(&f.text);
        writeln!(out, r#"    <testcase classname="{suite}" name="{class}">"#)?;
        let tag = if fails(&f.severity) {
            writeln!(out, r#"      <failure type="{class}" message="{text}">"#)?;
            "failure"
        } else {
            writeln!(out, "      <system-out>")?;
            "system-out"
        };
        writeln!(out, "{text}")?;
        writeln!(out, "confidence {:.2}, security {}", f.confidence, escaped(&f.security))?;
        for (word, counter) in [("for", false), ("against", true)] {
            for ground in grounds(view, row, counter) {
                writeln!(out, "{word}: {}", escaped(ground))?;
            }
        }
        for (n, frame) in frames(view, f).iter().enumerate().take(LIMIT_FRAMES) {
            writeln!(out, "{}", escaped(&line(view, n, frame)))?;
        }
        writeln!(out, "      </{tag}>")?;
        writeln!(out, "    </testcase>")?;
    }
    writeln!(out, "  </testsuite>")?;
    writeln!(out, "</testsuites>")
}
