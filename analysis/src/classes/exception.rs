//! `uncaught-exception`: `std::terminate` with an exception in flight.

use super::smash::top;
use crate::case::Case;
use crate::verdict::{Security, Verdict};
use snapshot_format::schema::Value;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGABRT", "SIGTRAP", "SIGILL"]) || case.fault.is_some() {
        return None;
    }
    let terminate = top(case, is_terminate);
    let message = case.message_with(&[
        "terminate called after throwing",
        "terminating due to uncaught exception",
        "terminating with uncaught",
    ]);
    let throw = top(case, |n| matches!(n, "__cxa_throw" | "__cxa_rethrow" | "std::rethrow_exception"))
        .or_else(|| top(case, |n| matches!(n, "_Unwind_RaiseException" | "_Unwind_Resume_or_Rethrow")));
    // Without symbols, terminate's own functions have no names; then nothing but the runtime may be before the throw.
    let direct = throw.is_some_and(|t| t > 0 && (0..t).all(|f| case.is_machinery(f)));
    if message.is_none() && !direct && (terminate.is_none() || throw.is_none()) {
        return None;
    }
    // A thrower further out than the terminate is what terminated; the other order is a handler that threw.
    if message.is_none() && terminate.is_some() && throw < terminate {
        return None;
    }
    let from = throw.or(terminate).map_or(0, |f| f.saturating_add(1));
    let culprit = case.culprit(from).map(|f| past_library(case, f));
    let place = culprit.map_or_else(String::new, |f| format!(", thrown in {}", case.place_of(f)));
    let type_name = case.view.attribute("cxx.exception.type").map(str::to_owned);
    let type_name = type_name
        .or_else(|| message.and_then(in_message))
        .or_else(|| thrown_by_helper(case))
        .or_else(|| type_info(case, throw));
    let what = case.view.attribute("cxx.exception.what").or_else(|| what(case));
    let named = type_name.map_or_else(|| "an exception".to_owned(), |t| format!("an exception of type {t}"));
    let said = what.map_or_else(String::new, |w| format!(": {w}"));
    // The personality routine runs only where a frame has something to say about the exception.
    let noexcept =
        top(case, |n| matches!(n, "__cxa_call_terminate" | "__clang_call_terminate" | "__gxx_personality_v0"));
    let fate = if noexcept.is_some() { "left a function that promises to throw nothing" } else { "was caught nowhere" };
    Some(
        Verdict::new(case, "uncaught-exception", if terminate.is_some() || direct { 0.97 } else { 0.85 })
            .frame(culprit)
            .text(format!("{named} {fate}{place}{said}"))
            .because_if(terminate.map(|f| format!("{} is on the stack", case.place_of(f))))
            .because_if(throw.map(|f| format!("the throw is still on the stack: {}", case.place_of(f))))
            .because_if(message.map(|m| format!("message: {}", m.trim())))
            .security(Security::None, "the program stopped itself"),
    )
}

/// Whether the function is the end of the C++ runtime's patience.
pub(super) fn is_terminate(name: &str) -> bool {
    matches!(
        name,
        "std::terminate"
            | "__cxxabiv1::__terminate"
            | "std::__terminate"
            | "__gnu_cxx::__verbose_terminate_handler"
            | "demangling_terminate_handler"
    )
}

/// The first frame outside `std::`, within a few: library code throws on behalf of its caller.
fn past_library(case: &Case<'_>, frame: usize) -> usize {
    let names = case.names.iter().skip(frame).take(8);
    let inside = names.take_while(|n| n.as_deref().is_some_and(|n| n.starts_with("std::"))).count();
    let outside = frame.saturating_add(inside);
    if inside < 8 && outside < case.names.len() { outside } else { frame }
}

/// The type in the runtime's message, quoted there.
fn in_message(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("instance of '").or_else(|| message.split_once("of type "))?;
    let end = rest.find(['\'', ':', '\n']).map(|at| {
        if rest.get(at..).is_some_and(|t| t.starts_with("::")) {
            rest.find(['\'', '\n']).unwrap_or(rest.len())
        } else {
            at
        }
    });
    let name = rest.get(..end.unwrap_or(rest.len()))?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// `what():  text` on its own line or in the same message.
fn what<'a>(case: &Case<'a>) -> Option<&'a str> {
    let message = case.message_with(&["what():"])?;
    let (_, rest) = message.split_once("what():")?;
    rest.lines().next().map(str::trim).filter(|w| !w.is_empty())
}

/// libstdc++ throws its own exceptions through helpers named after them.
fn thrown_by_helper(case: &Case<'_>) -> Option<String> {
    let frame = top(case, |n| n.starts_with("std::__throw_"))?;
    let name = case.names.get(frame)?.as_deref()?.strip_prefix("std::__throw_")?;
    let name = name.strip_suffix("_fmt").unwrap_or(name);
    Some(format!("std::{name}"))
}

/// `tinfo`, the second parameter of `__cxa_throw`, when its symbol was resolved.
fn type_info(case: &Case<'_>, throw: Option<usize>) -> Option<String> {
    let (thread, frame) = (case.view.thread?.id, u32::try_from(throw?).ok()?);
    case.view.snapshot.variables.iter().find_map(|v| match &v.value {
        Value::Text(text) if v.thread == Some(thread) && v.frame == Some(frame) && &*v.name == "tinfo" => {
            text.split_once("typeinfo for ").map(|(_, name)| name.trim_end_matches(['>', ')', '"']).to_owned())
        }
        _ => None,
    })
}
