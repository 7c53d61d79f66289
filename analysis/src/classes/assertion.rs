//! `assert`: an assertion failed, said by `__assert_fail` on the stack or by the message.

use super::smash::top;
use crate::case::Case;
use crate::machinery::{Part, part};
use crate::verdict::{Security, Verdict};
use snapshot_format::schema::Value;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGABRT", "SIGTRAP", "SIGILL"]) || case.fault.is_some() {
        return None;
    }
    let frame = top(case, |n| part(n) == Some(Part::Assert));
    let message = case.message_with(&["Assertion `", "Assertion failed: ", "assertion failed: ("]);
    if frame.is_none() && message.is_none() {
        return None;
    }
    // Rust's assert! says "assertion failed" in a panic, which is a class of its own.
    if frame.is_none() && top(case, |n| part(n) == Some(Part::Panic)).is_some() {
        return None;
    }
    let expression = frame.and_then(|f| argument(case, f)).or_else(|| message.and_then(in_message));
    let culprit = case.culprit(outermost(case, frame));
    let place = culprit.map_or_else(String::new, |f| format!(" in {}", case.place_of(f)));
    let line = culprit.and_then(|f| case.view.frames.get(f)).and_then(|f| Some((f.file.as_deref()?, f.line?)));
    let text = match &expression {
        Some(expression) => format!("the assertion `{expression}` failed{place}"),
        None => format!("an assertion failed{place}"),
    };
    Some(
        Verdict::new(case, "assert", if frame.is_some() { 0.98 } else { 0.88 })
            .frame(culprit)
            .text(text)
            .because_if(frame.map(|f| format!("{} is on the stack", case.place_of(f))))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .because_if(line.map(|(file, line)| format!("it stands at {file}:{line}")))
            .security(Security::None, "the program stopped itself before acting on the failed condition"),
    )
}

/// The frame after the run of assertion functions.
fn outermost(case: &Case<'_>, frame: Option<usize>) -> usize {
    let Some(first) = frame else { return 0 };
    let run = case.names.iter().skip(first).take_while(|n| n.as_deref().and_then(part) == Some(Part::Assert)).count();
    first.saturating_add(run)
}

/// The expression as an argument of the assertion functions from `frame` on.
fn argument(case: &Case<'_>, frame: usize) -> Option<String> {
    let thread = case.view.thread?.id;
    let last = outermost(case, Some(frame));
    case.view.snapshot.variables.iter().find_map(|v| {
        let at = usize::try_from(v.frame?).ok()?;
        let named = matches!(&*v.name, "assertion" | "expr" | "__assertion" | "assertedExpression" | "ex");
        match &v.value {
            Value::Text(text) if v.thread == Some(thread) && named && (frame..last).contains(&at) => {
                Some(text.trim_matches('"').to_owned())
            }
            _ => None,
        }
    })
}

/// The expression in glibc's, musl's and BSD's messages.
///
/// glibc: ``prog: a.c:3: main: Assertion `x > 0' failed.``; musl: `Assertion failed: x > 0 (a.c: main: 3)`; FreeBSD:
/// `Assertion failed: (x > 0), function main, file a.c, line 3.`; illumos: `Assertion failed: x > 0, file a.c, line 3,
/// function main`.
fn in_message(message: &str) -> Option<String> {
    if let Some((_, rest)) = message.split_once("Assertion `") {
        return rest.rsplit_once("' failed").map(|(expression, _)| expression.to_owned());
    }
    let (_, rest) = message.split_once("Assertion failed: ")?;
    if let Some((expression, _)) = rest.split_once("), function ") {
        return Some(expression.trim_start_matches('(').to_owned());
    }
    if let Some((expression, _)) = rest.split_once(", file ") {
        return Some(expression.to_owned());
    }
    rest.rsplit_once(" (").map(|(expression, _)| expression.to_owned())
}

#[cfg(test)]
mod tests {
    use super::in_message;

    #[test]
    fn the_expression_is_found_in_every_systems_message() {
        for message in [
            "prog: a.c:3: main: Assertion `x > 0' failed.",
            "Assertion failed: x > 0 (a.c: main: 3)",
            "Assertion failed: (x > 0), function main, file a.c, line 3.",
            "Assertion failed: x > 0, file a.c, line 3, function main",
        ] {
            assert_eq!(in_message(message).as_deref(), Some("x > 0"), "{message}");
        }
        assert_eq!(in_message("Assertion `x"), None);
        assert_eq!(in_message("nothing"), None);
    }
}
