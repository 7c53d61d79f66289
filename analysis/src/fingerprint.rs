//! The fingerprint: one short number for one bug, on every machine and in every build.
//!
//! It is made from the class of the strongest finding and from the normalised names of the first frames that are the
//! program's own doing. Addresses, lines, inlining, recursion depth and the processor's variant of a string function do
//! not enter.

use crate::fold::fold;
use crate::machinery::{Part, is_allocator, is_messenger, part};
use crate::names::normalise;
use crate::view::{View, basename};
use sha2::{Digest, Sha256};
use snapshot_format::Snapshot;
use snapshot_format::schema::{Finding, Fingerprint, Frame, Trust};
use std::collections::HashMap;
use std::rc::Rc;

/// Frames that enter. The outer part of a stack tells how the program came to the place, not what is wrong there;
/// eight keep two bugs in one helper function apart.
pub const FRAMES: usize = 8;

/// Frames looked at: recursion can be 100,000 deep, and what lies beyond its folded cycle still counts.
const LIMIT_SCANNED: usize = 200_000;

/// The fingerprint of the thread that the event happened on; `None` when there is no such thread or it has no frames.
#[must_use]
pub fn fingerprint(snapshot: &Snapshot) -> Option<Fingerprint> {
    let findings: Vec<Finding> = crate::classify(snapshot).into_iter().map(|(f, _)| f).collect();
    of(snapshot, &findings)
}

/// As [`fingerprint`], with the findings already made.
pub(crate) fn of(snapshot: &Snapshot, findings: &[Finding]) -> Option<Fingerprint> {
    let class = findings.first().map_or("", |f| f.class.as_str());
    // What only a kernel's memory knows must not part a dump from its console.
    let logged = crate::kernel::logged_class(snapshot, class);
    let class = logged.as_deref().unwrap_or(class);
    let frames = if crate::kernel::is_kernel(snapshot) {
        crate::kernel::names(snapshot, findings)
    } else {
        let view = View::new(snapshot);
        view.thread?;
        names(&view, class)
    };
    if frames.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    // The leading word changes with the rules above, so that values of two rules never meet.
    hash.update(b"postfault fingerprint 1\0");
    hash.update(class.as_bytes());
    for frame in &frames {
        hash.update([0]);
        hash.update(frame.as_bytes());
    }
    let digest = hash.finalize();
    let value = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(Fingerprint { value, frames })
}

/// The names that enter, innermost first.
fn names(view: &View<'_>, class: &str) -> Vec<String> {
    // Deep recursion repeats few names many times.
    let mut known: HashMap<&str, Rc<str>> = HashMap::new();
    let physical: Vec<(&Frame, Rc<str>)> = view
        .frames
        .iter()
        .take(LIMIT_SCANNED)
        .filter(|f| !f.inline && f.trust != Trust::Scan && !f.suspect)
        .map(|f| match f.function.as_deref() {
            Some(function) => (f, Rc::clone(known.entry(function).or_insert_with(|| normalise(function).into()))),
            None => (f, nameless(view, f).into()),
        })
        .collect();
    let whole = physical.as_slice();
    let top = whole.get(messengers(view, whole, class)..).unwrap_or(whole);
    let end = top.iter().position(|(_, n)| part(n) == Some(Part::Start)).unwrap_or(top.len());
    let own = top.get(..end).unwrap_or(top);
    // A stack of nothing but machinery is named by it.
    let own = if own.is_empty() { whole } else { own };
    let main = own.iter().position(|(_, n)| &**n == "main").map_or(own.len(), |at| at.saturating_add(1));
    let own = own.get(..main).unwrap_or(own);
    let shown = own.iter().map(|(_, n)| &**n).filter(|n| !is_shim(n));
    fold(shown).into_iter().take(FRAMES).map(str::to_owned).collect()
}

/// How many frames at the top only carry the stop out: the signal's trampoline and what called abort.
fn messengers(view: &View<'_>, frames: &[(&Frame, Rc<str>)], class: &str) -> usize {
    let heap = matches!(class, "double-free" | "invalid-free" | "heap-corruption");
    let raised = frames.first().is_some_and(|(_, n)| is_messenger(n));
    let mut skip = 0_usize;
    if raised && let Some(trampoline) = frames.iter().position(|(f, _)| f.signal_frame) {
        // A handler raised the signal again: the bug lies beneath it.
        skip = trampoline.saturating_add(1);
    }
    let rest = frames.get(skip..).unwrap_or(&[]);
    let more = rest
        .iter()
        .take_while(|(f, n)| {
            // What aborts in a runtime without symbols is as little the bug as with them.
            let nameless = raised && f.function.is_none() && view.in_runtime(f);
            f.signal_frame || is_messenger(n) || (heap && is_allocator(n)) || nameless
        })
        .count();
    skip.saturating_add(more)
}

/// Glue that comes and goes with optimisation.
fn is_shim(name: &str) -> bool {
    name.starts_with("core::ops::function::FnOnce::call_once")
        || name.starts_with("core::ops::function::impls::")
        || name.starts_with("std::__invoke")
        || name.starts_with("std::panicking::catch_unwind")
        || name.starts_with("std::panicking::try")
        || name.starts_with("std::panic::catch_unwind")
        || name == "__rust_try"
}

/// What a frame without a function enters with: its module.
fn nameless(view: &View<'_>, frame: &Frame) -> String {
    match view.module_name(frame.module) {
        Some(module) => format!("{}?", without_so_version(basename(module))),
        None => "?".to_owned(),
    }
}

/// `libfoo.so.2.1` is `libfoo.so` on the next machine.
fn without_so_version(name: &str) -> &str {
    match name.find(".so.") {
        Some(at) => name.get(..at.saturating_add(3)).unwrap_or(name),
        None => name,
    }
}
