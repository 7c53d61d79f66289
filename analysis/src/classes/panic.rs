//! `rust-panic`, and `oom` where Rust's allocation handler gave up.

use super::smash::top;
use crate::case::Case;
use crate::machinery::{Part, part};
use crate::verdict::{Security, Verdict};

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGABRT", "SIGILL", "SIGTRAP"]) || case.fault.is_some() {
        return None;
    }
    let frame = top(case, |n| part(n) == Some(Part::Panic));
    let message = case.message_with(&["panicked at"]);
    if let Some(verdict) = out_of_memory(case) {
        return Some(verdict);
    }
    if frame.is_none() && (message.is_none() || !may_be_rust(case)) {
        return None;
    }
    let culprit = culprit(case, frame.unwrap_or(0));
    let place = culprit.map_or_else(String::new, |f| format!(" in {}", case.place_of(f)));
    let line = culprit.and_then(|f| case.view.frames.get(f)).and_then(|f| Some((f.file.as_deref()?, f.line?)));
    let text = match (message.and_then(payload), cause(case)) {
        (Some(payload), _) => format!("the program panicked{place}: {payload}"),
        (None, Some(cause)) => format!("the program panicked{place}: {cause}"),
        (None, None) => format!("the program panicked{place}"),
    };
    let cannot = top(case, |n| n.contains("panic_cannot_unwind") || n.contains("panic_nounwind"));
    Some(
        Verdict::new(case, "rust-panic", if frame.is_some() { 0.98 } else { 0.8 })
            .frame(culprit)
            .text(text)
            .because_if(frame.map(|f| format!("Rust's panic machinery is on the stack: {}", case.place_of(f))))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .because_if(line.map(|(file, line)| format!("it stands at {file}:{line}")))
            .because_if(cannot.map(|_| "the panic met a function that must not unwind, and became an abort".into()))
            .security(Security::None, "the program stopped itself; memory stayed sound"),
    )
}

/// A message without panic frames counts where the stack cannot contradict it.
fn may_be_rust(case: &Case<'_>) -> bool {
    let mut names = case.names.iter().take(super::smash::TOP).flatten().peekable();
    names.peek().is_none() || names.any(|n| n.starts_with("std::sys::") || n.starts_with("std::process::abort"))
}

/// The first frame outside the standard library: the one that panicked, or called what panicked.
fn culprit(case: &Case<'_>, from: usize) -> Option<usize> {
    let names = case.names.get(from..)?;
    let found = names.iter().position(|n| match n.as_deref() {
        Some(name) => part(name).is_none() && !is_std(name),
        None => true,
    })?;
    Some(from.saturating_add(found))
}

/// Whether the function is the standard library's; a trait of it implemented for the program's type is not.
fn is_std(name: &str) -> bool {
    let path = |text: &str| {
        let text = text.trim_start_matches(['&', '[', '*', '(', '<']);
        ["core::", "std::", "alloc::", "__rust"].iter().any(|p| text.starts_with(p))
    };
    match name.strip_prefix('<').and_then(|n| n.split_once(" as ")) {
        Some((kind, interface)) => path(kind) || (!kind.contains("::") && path(interface)),
        None => path(name),
    }
}

/// What `panicked at src/main.rs:3:5:\nmessage` (or the older `panicked at 'message', src/main.rs:3:5`) says.
fn payload(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("panicked at ")?;
    if let Some((_, quoted)) = rest.split_once('\'').filter(|(before, _)| before.is_empty()) {
        return quoted.rsplit_once("', ").map(|(text, _)| text.to_owned());
    }
    let (_, text) = rest.split_once(":\n").or_else(|| rest.split_once(": "))?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// What the innermost panicking function is for.
fn cause(case: &Case<'_>) -> Option<&'static str> {
    let causes = [
        ("core::panicking::panic_bounds_check", "an index is out of bounds"),
        ("core::panicking::panic_const::panic_const_div_by_zero", "a division by zero"),
        ("core::panicking::panic_const::panic_const_rem_by_zero", "a remainder by zero"),
        ("core::panicking::panic_const::panic_const_", "an arithmetic operation overflowed"),
        ("core::option::unwrap_failed", "unwrap() of None"),
        ("core::option::expect_failed", "expect() of None"),
        ("core::result::unwrap_failed", "unwrap() or expect() of an Err"),
        ("core::panicking::assert_failed", "an assertion failed"),
        ("core::slice::index::slice_", "a slice's range is out of bounds"),
        ("core::str::slice_error_fail", "a string's range is out of bounds or splits a character"),
        ("core::cell::panic_already", "a RefCell is borrowed already"),
        ("core::panicking::panic_in_cleanup", "a panic in a destructor while unwinding"),
        ("core::panicking::panic_misaligned_pointer_dereference", "a misaligned pointer is dereferenced"),
        ("core::panicking::panic_null_pointer_dereference", "a null pointer is dereferenced"),
    ];
    causes.iter().find(|(prefix, _)| top(case, |n| n.starts_with(prefix)).is_some()).map(|(_, text)| *text)
}

fn out_of_memory(case: &Case<'_>) -> Option<Verdict> {
    let frame = top(case, |n| n.contains("handle_alloc_error") || n.ends_with("rust_oom"));
    let message = case.message_with(&["memory allocation of "]).filter(|m| m.contains("failed"));
    frame.or(message.filter(|_| may_be_rust(case)).map(|_| 0))?;
    let culprit = culprit(case, frame.unwrap_or(0));
    Some(
        Verdict::new(case, "oom", if frame.is_some() { 0.95 } else { 0.85 })
            .frame(culprit)
            .text(match culprit {
                Some(f) => format!("an allocation failed in {}", case.place_of(f)),
                None => "an allocation failed".to_owned(),
            })
            .because_if(frame.map(|f| format!("Rust's handler of failed allocations is on the stack, frame {f}")))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .security(Security::Low, "the program stopped itself; a size from outside may exhaust memory at will"),
    )
}

#[cfg(test)]
mod tests {
    use super::{is_std, payload};

    #[test]
    fn the_standard_library_is_told_from_the_program() {
        assert!(is_std("<usize as core::slice::index::SliceIndex<[T]>>::index"));
        assert!(is_std("<alloc::vec::Vec<T,A> as core::ops::index::Index<I>>::index"));
        assert!(is_std("core::option::Option<T>::unwrap"));
        assert!(!is_std("<prog::Pod as core::fmt::Display>::fmt"));
        assert!(!is_std("prog::core::go"));
    }

    #[test]
    fn both_forms_of_the_message_are_read() {
        assert_eq!(payload("thread 'main' panicked at src/main.rs:3:5:\nboom\nnote: x").as_deref(), Some("boom"));
        assert_eq!(payload("thread 'main' panicked at 'it''s', src/main.rs:3:5").as_deref(), Some("it''s"));
        assert_eq!(payload("thread 'main' panicked at"), None);
        assert_eq!(payload("panicked at src/main.rs:3:5:\n"), None);
    }
}
