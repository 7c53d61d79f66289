//! `double-free`, `invalid-free`, `heap-corruption`: the allocator found its own structures wrong.

use super::smash::top;
use crate::case::Case;
use crate::machinery::{Part, is_allocator, part};
use crate::verdict::{Security, Verdict};
use snapshot_format::schema::Value;

/// Words of allocators' messages by what they mean; the first that matches counts.
///
/// Sources: glibc's malloc/malloc.c (2.19 to 2.40), jemalloc's and scudo's reports.
const MESSAGES: [(&str, &str); 32] = [
    ("double free or corruption", "double-free"),
    ("double free detected in tcache", "double-free"),
    ("double free detected", "double-free"),
    ("attempting double-free", "double-free"),
    ("invalid chunk state when deallocating", "double-free"),
    ("free(): invalid pointer", "invalid-free"),
    ("munmap_chunk(): invalid pointer", "invalid-free"),
    ("free(): invalid size", "invalid-free"),
    ("free(): unaligned chunk", "invalid-free"),
    ("realloc(): invalid pointer", "invalid-free"),
    ("mremap_chunk(): invalid pointer", "invalid-free"),
    ("misaligned pointer when deallocating", "invalid-free"),
    ("attempting free on address which was not malloc()-ed", "invalid-free"),
    ("free(): invalid next size", "heap-corruption"),
    ("free(): corrupted unsorted chunks", "heap-corruption"),
    ("free(): too many chunks detected in tcache", "heap-corruption"),
    ("corrupted size vs. prev_size", "heap-corruption"),
    ("corrupted double-linked list", "heap-corruption"),
    ("malloc(): corrupted", "heap-corruption"),
    ("malloc(): invalid", "heap-corruption"),
    ("malloc(): memory corruption", "heap-corruption"),
    ("malloc(): mismatching", "heap-corruption"),
    ("malloc(): unsorted double linked list corrupted", "heap-corruption"),
    ("malloc(): unaligned", "heap-corruption"),
    ("malloc(): largebin double linked list", "heap-corruption"),
    ("malloc(): smallbin double linked list", "heap-corruption"),
    ("malloc_consolidate(): ", "heap-corruption"),
    ("realloc(): invalid", "heap-corruption"),
    ("tcache_thread_shutdown(): ", "heap-corruption"),
    ("chunk_main_arena", "heap-corruption"),
    ("corrupted chunk header", "heap-corruption"),
    ("sysmalloc: Assertion", "heap-corruption"),
];

fn kind(message: &str) -> Option<&'static str> {
    MESSAGES.iter().find(|(words, _)| message.contains(words)).map(|(_, class)| *class)
}

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if !case.signal_is(&["SIGABRT", "SIGTRAP", "SIGILL"]) || case.fault.is_some() {
        return None;
    }
    let reporter = top(case, |n| part(n) == Some(Part::Heap));
    let argument = reporter.and_then(|f| text_argument(case, f));
    let message = argument.or_else(|| case.messages.iter().copied().find(|m| kind(m).is_some()));
    let class = message.and_then(kind);
    if reporter.is_none() && class.is_none() {
        return None;
    }
    // A message of an older fault in the log must not name this abort.
    let allocator = top(case, is_allocator);
    let confidence = match (class, reporter, allocator) {
        (Some(_), Some(_), _) => 0.97,
        (Some(_), None, Some(_)) => 0.9,
        (Some(_), None, None) if case.view.frames.is_empty() || unnamed(case) => 0.85,
        (Some(_), None, None) => return None,
        (None, ..) => 0.75,
    };
    let class = class.unwrap_or("heap-corruption");
    let culprit = case.culprit(reporter.or(allocator).map_or(0, |f| f.saturating_add(1)));
    let place = culprit.map_or_else(String::new, |f| format!(", called from {},", case.place_of(f)));
    let routine = allocator.and_then(|_| outermost_allocator(case)).unwrap_or_else(|| "the allocator".to_owned());
    let text = match class {
        "double-free" => format!("memory was freed twice: {routine}{place} found it free already"),
        "invalid-free" => format!("{routine}{place} was handed a pointer that is no allocated block"),
        _ => format!("the heap's structures were overwritten: {routine}{place} found them wrong"),
    };
    Some(
        Verdict::new(case, class, confidence)
            .frame(culprit)
            .text(text)
            .because_if(message.map(|m| format!("message: {}", m.trim().trim_matches('"'))))
            .because_if(reporter.map(|f| format!("the allocator's own check failed: {}", case.place_of(f))))
            .but_if(
                message
                    .is_none()
                    .then(|| "the allocator's message was not recorded: a double or invalid free is possible".into()),
            )
            .but_if((class == "heap-corruption").then(|| "the frame shows who found the damage, not who did it".into()))
            .security(
                Security::High,
                match class {
                    "double-free" => "one block can be handed out twice",
                    "invalid-free" => "the allocator was made to work on memory that is not its own",
                    _ => "the allocator works on structures that were overwritten",
                },
            ),
    )
}

/// Stripped programs show nothing that could contradict the message.
fn unnamed(case: &Case<'_>) -> bool {
    case.names.iter().take(super::smash::TOP).all(Option::is_none)
}

/// The message as an argument of the function that prints it.
fn text_argument<'a>(case: &Case<'a>, frame: usize) -> Option<&'a str> {
    let thread = case.view.thread?.id;
    let frame = u32::try_from(frame).ok()?;
    case.view.snapshot.variables.iter().find_map(|v| match &v.value {
        Value::Text(text) if v.thread == Some(thread) && v.frame == Some(frame) && kind(text).is_some() => {
            Some(text.as_str())
        }
        _ => None,
    })
}

/// `free()` rather than `_int_free()`: the last allocator function before the program's.
fn outermost_allocator(case: &Case<'_>) -> Option<String> {
    let first = top(case, is_allocator)?;
    let names = case.names.get(first..)?;
    let last = names.iter().take_while(|n| n.as_deref().is_some_and(is_allocator)).last()?;
    let name = last.as_deref()?.trim_start_matches('_').trim_start_matches("libc_").trim_start_matches("GI_");
    Some(format!("{name}()"))
}

/// A memory fault inside the allocator: it follows pointers that it keeps in the heap.
pub(super) fn add(case: &Case<'_>, decided: Option<&Verdict>) -> Option<Verdict> {
    let decided = decided.filter(|v| matches!(v.class(), "wild-pointer" | "non-canonical" | "write-readonly"))?;
    let name = case.names.get(case.view.context)?.as_deref().filter(|n| is_allocator(n))?;
    let culprit = case.culprit(case.view.context);
    let place = culprit.map_or_else(String::new, |f| format!(", called from {}", case.place_of(f)));
    Some(
        Verdict::new(case, "heap-corruption", 0.6_f64.min(decided.confidence()))
            .frame(culprit)
            .text(format!("{name}() faulted on a pointer it keeps in the heap{place}: a block was overrun, used after free, or never allocated"))
            .because(format!("the faulting function {name}() belongs to the allocator"))
            .but("freeing a pointer that never came from the allocator looks the same")
            .but("the frame shows who found the damage, not who did it")
            .security(Security::High, "the allocator works on structures that were overwritten"),
    )
}
