//! What the memory of an illumos kernel adds to its panic: buffers of its allocator, patterns in registers, and what the
//! allocator itself reported.

use super::facts::{self, Object};
use crate::instruction::{Held, decode};
use crate::verdict::{Security, Verdict};
use crate::view::View;
use snapshot_format::Snapshot;

/// What freed memory is filled with, and memory that was never set (`KMEM_FREE_PATTERN`, `KMEM_UNINITIALIZED_PATTERN`,
/// sys/kmem_impl.h), without the bits in which locks keep their state.
const FREED: u64 = 0xdead_beef_dead_bee8;
const UNSET: u64 = 0xbadd_cafe_badd_caf8;
/// Bytes that a member may lie behind the start of its structure.
const NEAR: u64 = 4096;
/// What the allocator reports, by how the row begins, and what class it is.
const REPORTS: [(&str, &str, &str); 9] = [
    ("a buffer was modified after it was freed", "use-after-free", "whoever freed it, or another, still writes to it"),
    ("a buffer was written past its end", "heap-corruption", "what lies behind a buffer is another's"),
    ("a buffer was freed twice", "double-free", "one buffer can be handed out twice"),
    ("an address was freed that is no buffer", "invalid-free", "memory that is none of the allocator's"),
    ("the tag of a buffer", "heap-corruption", "what lies behind a buffer was overwritten"),
    ("the control structure of a buffer", "heap-corruption", "the allocator works on structures that were overwritten"),
    ("a buffer was freed to another cache", "invalid-free", "one buffer would be in the lists of two caches"),
    ("a buffer was freed with another size", "invalid-free", "the buffer would be given to the wrong cache"),
    ("an address inside of a buffer", "invalid-free", "memory in the middle of a buffer would be handed out"),
];

/// What the allocator prints before it panics (`kmem_error`, os/kmem.c), and what class it is.
const PRINTED: [(&str, &str); 9] = [
    ("buffer modified after being freed", "use-after-free"),
    ("redzone violation: write past end of buffer", "heap-corruption"),
    ("duplicate free: buffer freed twice", "double-free"),
    ("invalid free: buffer not in cache", "invalid-free"),
    ("boundary tag corrupted", "heap-corruption"),
    ("bufctl corrupted", "heap-corruption"),
    ("buffer freed to wrong cache", "invalid-free"),
    ("bad free: free size", "invalid-free"),
    ("bad free: free address", "invalid-free"),
];
/// The panic string of all of them.
const CORRUPT: &str = "kernel heap corruption detected";

/// What the allocator printed: the line, and its class.
pub(super) fn printed<'l>(message: &str, lines: &[&'l str]) -> Option<(&'l str, &'static str)> {
    if !message.contains(CORRUPT) {
        return None;
    }
    lines.iter().rev().find_map(|line| {
        let (_, class) = PRINTED.iter().find(|(words, _)| line.contains(words))?;
        Some((line.trim(), *class))
    })
}

fn near(value: u64, pattern: u64) -> bool {
    value.wrapping_sub(pattern) < NEAR
}

/// A register that the instruction at fault went through, or else any, that holds a pattern; and whether it is known
/// that the instruction used it.
fn followed(snapshot: &Snapshot, pattern: u64) -> Option<(String, u64, bool)> {
    let view = View::new(snapshot);
    let held = |h: &Option<Held>| {
        let value = h.as_ref()?.value.filter(|v| near(*v, pattern))?;
        Some((h.as_ref()?.name.clone(), value, true))
    };
    if let Some(instruction) = view.pc().and_then(|pc| decode(&view, pc)) {
        let used = instruction.operands.iter().find_map(|o| held(&o.base).or_else(|| held(&o.index)));
        if used.is_some() || instruction.operands.iter().any(|o| o.base.as_ref().is_some_and(|b| b.value.is_some())) {
            return used;
        }
    }
    let thread = view.thread?.id;
    let mut rows = snapshot.registers.iter().filter(|r| r.thread == thread && r.frame == 0);
    rows.find(|r| near(r.value, pattern)).map(|r| (r.name.clone(), r.value, false))
}

/// The rows about buffers as grounds: those that say something against their owner's use of them.
fn grounds(objects: &[Object<'_>], mut verdict: Verdict) -> Verdict {
    for object in objects {
        let telling = object.free == Some(true)
            || object.holds.is_some()
            || [" was written ", "overwritten", "pattern of"].iter().any(|w| object.text.contains(w));
        verdict = verdict.because_if(telling.then(|| format!("memory: {}", object.text)));
    }
    verdict
}

/// A trap, with what memory says of the pointer that failed.
pub(super) fn behind(
    snapshot: &Snapshot,
    verdict: Verdict,
    make: &dyn Fn(&'static str, f64, &str) -> Verdict,
) -> Verdict {
    let objects = facts::all_objects(snapshot);
    if !matches!(verdict.class(), "wild-jump" | "wild-pointer" | "non-canonical" | "exec-nonexec") {
        return grounds(&objects, verdict);
    }
    let came = objects.iter().find(|o| o.free == Some(true) && o.holds.is_some());
    if let Some((name, value, used)) = followed(snapshot, FREED) {
        let text = format!("a pointer with the value {value:#x}, which freed memory is filled with");
        let found = make(super::CHANGED_BY_MEMORY, if used { 0.95 } else { 0.85 }, &text)
            .because(format!("{name} is {value:#x}: the allocator fills freed memory with 0xdeadbeefdeadbeef"))
            .but_if((!used).then(|| "whether the instruction used this register is not known".into()))
            .security(Security::High, "freed memory was used as a pointer");
        return grounds(&objects, found);
    }
    if let Some((object, value)) = came.and_then(|o| Some((o, o.holds?))) {
        let text = format!(
            "a pointer with the value {value:#x}, which was read from a freed object of cache {}",
            object.cache
        );
        let found = make(super::CHANGED_BY_MEMORY, 0.93, &text)
            .but("the object may have been freed after it was read")
            .security(Security::High, "freed memory was used as a pointer");
        return grounds(&objects, found);
    }
    let unset = followed(snapshot, UNSET).map(|(name, value, _)| {
        format!("{name} is {value:#x}: the allocator fills memory that was never set with 0xbaddcafebaddcafe")
    });
    grounds(&objects, verdict.because_if(unset))
}

/// A panic that speaks of a lock or of the heap, with what memory says.
pub(super) fn reported(
    snapshot: &Snapshot,
    message: &str,
    make: &dyn Fn(&'static str, f64, &str) -> Verdict,
) -> Option<Verdict> {
    let objects = facts::all_objects(snapshot);
    if message.contains(CORRUPT) {
        let row = facts::kmem_error(snapshot)?;
        let (_, class, why) = REPORTS.iter().find(|(head, ..)| row.starts_with(head))?;
        let found = make(class, 0.95, &format!("the allocator found that {row}"))
            .because(format!("memory: {row}"))
            .but("the check comes when the buffer is next allocated or freed, not when the damage is done")
            .security(Security::High, why);
        return Some(grounds(&objects, found));
    }
    let object = objects.iter().find(|o| o.registers.iter().any(|(name, _)| *name == "lp"))?;
    let owner = super::text::after(message, "owner=").and_then(super::text::hex_at);
    let patterned = owner.filter(|o| near(*o, FREED));
    if object.free != Some(true) && patterned.is_none() {
        return None;
    }
    let text = format!("a lock was used that lies in a freed object of cache {}", object.cache);
    let found = make(super::CHANGED_BY_MEMORY, if object.free == Some(true) { 0.95 } else { 0.8 }, &text)
        .because_if(patterned.map(|o| format!("its owner is {o:#x}: the allocator fills freed memory with this")))
        .security(Security::High, "freed memory was used as a lock");
    Some(grounds(&objects, found))
}
