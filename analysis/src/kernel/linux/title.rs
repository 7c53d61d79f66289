//! The first lines of reports. Wordings of 4.19 to 6.x (arch/x86/mm/fault.c, arch/x86/kernel/traps.c,
//! arch/arm64/mm/fault.c, kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, lib/list_debug.c).

use super::report::Kind;
use crate::kernel::text::{after, hex_at, number_at};

/// What a line begins, if it begins a report.
pub(super) fn title(line: &str) -> Option<Kind> {
    let line = line.trim_start();
    // Since 6.13 every exception begins so: `Oops: divide error: 0000 [#1] SMP`.
    let named = line.strip_prefix("Oops: ").filter(|l| l.contains(": ") && l.contains("[#"));
    let line = named.unwrap_or(line);
    oops(line).or_else(|| checker(line)).or_else(|| watchdog(line)).or_else(|| end(line))
}

/// How the lines of exceptions begin (`die()` and its callers).
const DYING: [&str; 20] = [
    "Oops",
    "Internal error",
    "divide error",
    "invalid opcode",
    "double fault",
    "stack segment",
    "segment not present",
    "invalid TSS",
    "stack guard page",
    "kernel stack overflow (page fault)",
    "kernel stack overflow (double-fault)",
    "control protection fault",
    "alignment check",
    "bounds",
    "overflow",
    "int3",
    "simd exception",
    "fpu exception",
    "coprocessor segment overrun",
    "BUG",
];

/// What stands before a watchdog's words.
const LOCKUPS: [&str; 3] = ["watchdog: ", "NMI watchdog: ", ""];

fn oops(line: &str) -> Option<Kind> {
    let address = |word: &str| after(line, word).and_then(hex_at);
    let null = line.starts_with("BUG: kernel NULL pointer dereference");
    if null || line.starts_with("BUG: unable to handle ") || line.starts_with("Unable to handle kernel ") {
        return Some(Kind::PageFault(
            address("address: ").or_else(|| address("virtual address ")).or_else(|| address(" at ")),
        ));
    }
    if line.starts_with("general protection fault") {
        return Some(Kind::Protection(address("non-canonical address ")));
    }
    if let Some(place) = line.strip_prefix("kernel BUG at ") {
        return Some(Kind::Bug(place.trim_end_matches('!').to_owned()));
    }
    if (line.starts_with("BUG: ") && line.contains("stack guard page was hit"))
        || line.starts_with("kernel stack overflow")
    {
        return Some(Kind::StackGuard);
    }
    if line.starts_with("Insufficient stack space to handle exception") {
        return Some(Kind::StackGuard);
    }
    let die = line.contains("[#") && line.contains(']');
    if !die {
        return None;
    }
    let first = line.split([':', ',']).next().unwrap_or(line).trim();
    // Programs write `[#12]` as well: only the words that the kernel dies with count.
    if !DYING.contains(&first) {
        return None;
    }
    Some(match first {
        "divide error" => Kind::Divide,
        "invalid opcode" => Kind::InvalidOpcode,
        "double fault" => Kind::DoubleFault,
        // Only numbers the report that a line before it began.
        "Oops" => Kind::OtherOops("Oops".to_owned()),
        "Internal error" => Kind::OtherOops(line.split(" [#").next().unwrap_or(line).to_owned()),
        other => Kind::OtherOops(other.to_owned()),
    })
}

/// Complaints of checkers without a class of their own, and whether a task slept where it may not
/// (kernel/sched/core.c, mm/page_alloc.c, mm/memory.c, kernel/fork.c).
const COMPLAINTS: [(&str, bool); 5] = [
    ("BUG: scheduling while atomic: ", true),
    ("BUG: sleeping function called from invalid context at ", true),
    ("BUG: Bad page state in process ", false),
    ("BUG: Bad page map in process ", false),
    ("BUG: Bad rss-counter state ", false),
];

fn checker(line: &str) -> Option<Kind> {
    if line.starts_with("list_add corruption") || line.starts_with("list_del corruption") {
        return Some(Kind::List(line.to_owned()));
    }
    if let Some(said) = line.strip_prefix("BUG: KASAN: ").or_else(|| line.strip_prefix("BUG: KFENCE: ")) {
        return Some(Kind::Sanitizer(said.to_owned()));
    }
    if line.starts_with("usercopy: Kernel memory ")
        || line.starts_with("detected buffer overflow in ")
        || line.split_once(": detected buffer overflow").is_some_and(|(f, _)| !f.contains(' '))
    {
        return Some(Kind::Fortify(line.strip_prefix("usercopy: ").unwrap_or(line).to_owned()));
    }
    if let Some((head, words)) = line.strip_prefix("BUG ").and_then(|l| l.split_once("): "))
        && let Some((cache, taint)) = head.split_once(" (")
        && (taint.starts_with("Not tainted") || taint.starts_with("Tainted: "))
    {
        return Some(Kind::Slab { cache: cache.to_owned(), words: words.to_owned() });
    }
    if COMPLAINTS.iter().any(|(words, _)| line.starts_with(words)) {
        let sleeps = COMPLAINTS.iter().any(|(words, sleeps)| *sleeps && line.starts_with(words));
        return Some(Kind::Complaint(line.strip_prefix("BUG: ").unwrap_or(line).to_owned(), sleeps));
    }
    if line.starts_with("refcount_t: ") {
        return Some(Kind::Refcount(line.to_owned()));
    }
    line.starts_with("WARNING: ").then_some(Kind::Warning)
}

fn watchdog(line: &str) -> Option<Kind> {
    let own =
        |line: &str, words: &str| LOCKUPS.iter().any(|p| line.strip_prefix(p).is_some_and(|l| l.starts_with(words)));
    if own(line, "BUG: soft lockup - CPU#")
        && let Some(rest) = after(line, "soft lockup - CPU#")
    {
        return Some(Kind::SoftLockup(number_at(rest)));
    }
    if own(line, "Watchdog detected hard LOCKUP") {
        return Some(Kind::HardLockup(after(line, "cpu ").and_then(number_at)));
    }
    // Since 6.17 also `blocked in I/O wait for more than`.
    if line.starts_with("INFO: task ") && line.contains(" blocked ") && line.contains(" for more than ") {
        return Some(Kind::HungTask(after(line, " for more than ").and_then(number_at)));
    }
    let rcu = line.starts_with("rcu: INFO: rcu") || line.starts_with("INFO: rcu");
    if rcu && ["self-detected stall on CPU", "self-detected expedited stall"].iter().any(|words| line.contains(words)) {
        return Some(Kind::RcuStall { cpus: Vec::new(), own: true });
    }
    let others = ["detected stalls on CPUs/tasks", "detected expedited stalls on CPUs/tasks"];
    if rcu && others.iter().any(|words| line.contains(words)) {
        // The expedited form names the CPUs on the same line: `{ 1-.... }`.
        let named = after(line, "{").unwrap_or_default();
        let cpus = named.split_whitespace().filter(|w| w.contains('-')).filter_map(number_at).collect();
        return Some(Kind::RcuStall { cpus, own: false });
    }
    line.strip_prefix("NMI backtrace for cpu ").map(|rest| Kind::Backtrace(number_at(rest)))
}

fn end(line: &str) -> Option<Kind> {
    if let Some(message) = line.strip_prefix("Kernel panic - not syncing: ") {
        return Some(Kind::Panic(message.trim().to_owned()));
    }
    line.contains(" invoked oom-killer: ").then(|| Kind::Oom(line.to_owned()))
}
