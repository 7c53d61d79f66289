//! `stack-pivot` and `executable-data`: signs beside the fault that matter to whoever judges an attack.
//!
//! Neither says what went wrong; both say that what went wrong may be worse than it looks.

use crate::case::Case;
use crate::verdict::{Security, Verdict};
use crate::view::{Place, allows};
use crate::words::{hex, place_phrase};

pub(super) fn pivot(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    decided?;
    let sp = case.view.sp()?;
    let place = case.view.place(sp);
    let Place::Mapped(mapping) = place else { return None };
    // Stacks are anonymous, or have a name of the kernel's in brackets; the heap may hold those of coroutines.
    let file = mapping.path.as_deref().filter(|p| !p.starts_with('[') && !p.starts_with("/dev/") && !p.is_empty())?;
    let known = case.view.snapshot.modules.iter().any(|m| m.path == file);
    let memory_file = ["/memfd:", "/SYSV", "/anon_hugepage"].iter().any(|p| file.starts_with(p));
    if memory_file || !known {
        return None;
    }
    Some(
        Verdict::new(case, "stack-pivot", 0.5)
            .severity("warning")
            .text(format!("the stack pointer {} is no stack: it lies {}", hex(sp), place_phrase(place)))
            .because("stacks lie in anonymous memory, never in the file of an image")
            .but("a program may place a stack of its own in its data section")
            .security(Security::High, "moving the stack pointer to chosen data is a step of attacks that reuse code"),
    )
}

pub(super) fn executable(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    decided?;
    let data = |m: &&&snapshot_format::schema::Mapping| {
        matches!(m.path.as_deref(), Some("[stack]" | "[heap]")) && allows(m, b'x') == Some(true)
    };
    let found: Vec<String> = case.view.mappings().iter().filter(data).map(|m| place_phrase(Place::Mapped(m))).collect();
    if found.is_empty() {
        return None;
    }
    Some(
        Verdict::new(case, "executable-data", 0.3)
            .severity("note")
            .text(format!("data of this program can be executed: {}", found.join(", ")))
            .because("the mappings allow execution where only data lies")
            .but("it did not cause the fault")
            .security(Security::Medium, "whoever can write there and change one code pointer runs code of his own"),
    )
}
