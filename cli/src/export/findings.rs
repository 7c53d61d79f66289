//! What SARIF, JUnit and HTML say of a finding: its place, its grounds, its stack.

use crate::view::View;
use snapshot_format::schema::{Finding, Frame, Thread};

/// The thread a finding is about; without one, the faulting thread.
pub fn thread<'s>(view: &View<'s>, finding: &Finding) -> Option<&'s Thread> {
    let threads = &view.snapshot.threads;
    match finding.thread {
        Some(id) => threads.iter().find(|t| t.id == id),
        None => threads.iter().find(|t| t.faulting),
    }
}

/// The frames of that thread.
pub fn frames<'s>(view: &View<'s>, finding: &Finding) -> &'s [Frame] {
    thread(view, finding).map(|t| view.frames(t)).unwrap_or_default()
}

/// The frame it is about: the stated one, or the innermost one with a source line.
pub fn frame<'s>(view: &View<'s>, finding: &Finding) -> Option<&'s Frame> {
    let frames = frames(view, finding);
    let stated = finding.frame.and_then(|n| frames.get(n as usize));
    stated.or_else(|| frames.iter().find(|f| f.file.is_some())).or_else(|| frames.first())
}

/// Grounds for it (`counter` false) or against it.
pub fn grounds<'s>(view: &View<'s>, row: usize, counter: bool) -> Vec<&'s str> {
    let evidence = view.snapshot.evidence.iter();
    evidence.filter(|e| e.finding as usize == row && e.counter == counter).map(|e| e.text.as_str()).collect()
}

/// One frame as a line of text.
pub fn line(view: &View<'_>, index: usize, frame: &Frame) -> String {
    let module = || view.module(frame).map(|m| m.path.as_str());
    let name = match (frame.function.as_deref(), module()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(path)) => format!("{:#x} in {path}", frame.pc),
        (None, None) => format!("{:#x}", frame.pc),
    };
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("  {file}:{line}"),
        _ => String::new(),
    };
    let inlined = if frame.inline { "[inlined] " } else { "" };
    format!("#{index} {inlined}{name}{place}")
}

/// Text for XML and HTML: markup escaped, and characters left out that XML 1.0 does not allow.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_do_not_get_through() {
        assert_eq!(escaped("<a href=\"x\">'&\u{1b}[0m\0"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;\u{fffd}[0m\u{fffd}");
    }
}
