//! What a Linux kernel's reports add up to.

use super::memory;
use super::report::{Kind, Report, Touch};
use crate::kernel::blame::{Blame, blame};
use crate::kernel::facts;
use crate::kernel::helpers::Excused;
use crate::kernel::verdict::Draft;
use crate::verdict::{Security, Verdict};
use snapshot_format::Snapshot;

/// Addresses below this can never be mapped by default (`vm.mmap_min_addr`): what is there comes from null.
const LOW: u64 = 0x1_0000;
/// What the slab allocator fills freed objects with (`POISON_FREE`, include/linux/poison.h).
const POISON_FREE: u8 = 0x6b;
/// `LIST_POISON1` and `LIST_POISON2` of 64-bit kernels (`CONFIG_ILLEGAL_POINTER_VALUE` plus 0x100 and 0x122).
const LIST_POISON: [u64; 2] = [0xdead_0000_0000_0100, 0xdead_0000_0000_0122];

/// What ended the kernel: the reports before the panic, its message, and the report that explains it.
struct End<'r> {
    before: &'r [Report],
    message: Option<&'r str>,
    cause: &'r Report,
}

impl<'r> End<'r> {
    fn of(reports: &'r [Report]) -> Option<Self> {
        let panic = reports.iter().rposition(|r| matches!(r.kind, Kind::Panic(_)));
        let before = reports.get(..panic.unwrap_or(reports.len())).unwrap_or(reports);
        let message = panic.and_then(|p| reports.get(p)).and_then(|r| match &r.kind {
            Kind::Panic(message) => Some(message.as_str()),
            _ => None,
        });
        let cause = cause(before, message).or_else(|| panic.and_then(|p| reports.get(p)))?;
        Some(Self { before, message, cause })
    }
}

/// The report of the task to blame, and what is not its bug.
pub(crate) fn culprit_of(reports: &[Report]) -> Option<(&Report, Excused)> {
    let end = End::of(reports)?;
    Some((culprit(reports, end.cause), excused(&end.cause.kind)))
}

/// The class of the cause as the log alone gives it.
pub(crate) fn logged_class(snapshot: &Snapshot, reports: &[Report]) -> Option<String> {
    let end = End::of(reports)?;
    explain(snapshot, reports, &end, false).map(|v| v.class().to_owned())
}

/// The findings that follow from the reports.
pub(crate) fn judge(snapshot: &Snapshot, reports: &[Report]) -> Vec<Verdict> {
    let Some(end) = End::of(reports) else { return Vec::new() };
    let End { before, message, cause } = end;
    let mut verdicts = Vec::new();
    let main = explain(snapshot, reports, &end, true);
    let earlier = before.iter().filter(|r| r.is_oops() && r.number.is_some()).count();
    let main = main.map(|v| match cause.number {
        Some(n) if n > 1 && cause.is_oops() => {
            v.but(format!("it is oops number {n}: earlier ones ({}) may be the cause", earlier.saturating_sub(1)))
        }
        _ => v,
    });
    verdicts.extend(main);
    if let Some(message) = message {
        if verdicts.iter().all(|v| v.class() != "kernel-panic") {
            verdicts.push(outcome(snapshot, message, cause));
        }
    } else if cause.is_oops() {
        let task = cause.task().unwrap_or_else(|| "its task".to_owned());
        let blame = blame(snapshot, cause, Excused::Helpers);
        let draft = Draft { class: "kernel-oops", confidence: 0.8, severity: "error" };
        verdicts.push(
            draft_of(&draft, &blame)
                .text(format!("the log shows no panic after the oops: the kernel may have gone on, with {task} killed"))
                .because(format!("log: {}", cause.title))
                .because("no panic follows in the log"),
        );
    }
    verdicts
}

/// Which report the panic speaks of.
fn cause<'r>(before: &'r [Report], message: Option<&str>) -> Option<&'r Report> {
    let last = |test: &dyn Fn(&Report) -> bool| before.iter().rev().find(|r| test(r));
    let said = message.unwrap_or_default();
    if said.contains("Fatal exception") || said.contains("Fatal machine check") || said.starts_with("Oops") {
        return last(&Report::is_oops);
    }
    // A task that must not die died: of an oops of its own, or because it was told to.
    for (words, pid) in [("Attempted to kill init", Some(1)), ("Attempted to kill the idle task", Some(0))] {
        if said.starts_with(words) {
            return last(&|r| r.is_oops() && r.pid == pid);
        }
    }
    if said.starts_with("Aiee, killing interrupt handler") {
        return last(&Report::is_oops);
    }
    if said.starts_with("kernel stack overflow") {
        return last(&|r| matches!(r.kind, Kind::StackGuard));
    }
    if said.starts_with("softlockup") {
        return last(&|r| matches!(r.kind, Kind::SoftLockup(_)));
    }
    if said.contains("hard LOCKUP") || said.starts_with("Hard LOCKUP") {
        return last(&|r| matches!(r.kind, Kind::HardLockup(_)));
    }
    if said.starts_with("hung_task") {
        return before.iter().find(|r| matches!(r.kind, Kind::HungTask(_)));
    }
    if said.starts_with("RCU Stall") {
        return last(&|r| matches!(r.kind, Kind::RcuStall { .. }));
    }
    if said.contains("Out of memory") || said.contains("out of memory") {
        return last(&|r| matches!(r.kind, Kind::Oom(_)));
    }
    if said.contains("panic_on_warn") {
        return last(&|r| matches!(r.kind, Kind::Warning | Kind::Sanitizer(_) | Kind::Refcount(_) | Kind::List(_)));
    }
    if message.is_some() {
        return None;
    }
    // No panic: the first oops is the one that the others may follow from; without one, the first complaint.
    let grave = |r: &&Report| {
        r.is_oops()
            || matches!(
                r.kind,
                Kind::Sanitizer(_) | Kind::List(_) | Kind::Refcount(_) | Kind::Fortify(_) | Kind::Slab { .. }
            )
    };
    before.iter().find(grave).or_else(|| {
        before.iter().find(|r| {
            matches!(
                r.kind,
                Kind::SoftLockup(_)
                    | Kind::HardLockup(_)
                    | Kind::HungTask(_)
                    | Kind::RcuStall { .. }
                    | Kind::Oom(_)
                    | Kind::Complaint(..)
            )
        })
    })
}

/// About the task that is blamed and no other: where its thread is not known, about none.
fn draft_of(d: &Draft<'_>, blame: &Blame) -> Verdict {
    Verdict::about(blame.thread, d.class, d.confidence).severity(d.severity).frame(blame.frame)
}

fn outcome(snapshot: &Snapshot, message: &str, cause: &Report) -> Verdict {
    let blame = blame(snapshot, cause, excused(&cause.kind));
    let d = Draft { class: "kernel-panic", confidence: 0.95, severity: "fatal" };
    draft_of(&d, &blame)
        .text(format!("the kernel panicked: {message}"))
        .because(format!("log: Kernel panic - not syncing: {message}"))
}

const fn excused(kind: &Kind) -> Excused {
    match kind {
        Kind::HungTask(_)
        | Kind::SoftLockup(_)
        | Kind::HardLockup(_)
        | Kind::RcuStall { .. }
        | Kind::Complaint(_, true) => Excused::Waiting,
        Kind::Oom(_) => Excused::Allocating,
        _ => Excused::Helpers,
    }
}

/// The finding about the cause; with what the kernel's memory says of it, or by the log alone.
fn explain(snapshot: &Snapshot, reports: &[Report], end: &End<'_>, memory: bool) -> Option<Verdict> {
    let (cause, message) = (end.cause, end.message);
    let subject = culprit(reports, cause);
    let found = blame(snapshot, subject, excused(&cause.kind));
    let place = found.sentence();
    let make = &|class: &'static str, confidence: f64, text: String| {
        let d = Draft { class, confidence, severity: "fatal" };
        draft_of(&d, &found)
            .text(format!("{text}{place}"))
            .because(format!("log: {}", cause.title))
            .because_if((!cause.notes.is_empty()).then(|| format!("log: {}", cause.notes.join("; "))))
            .because_if(cause.place.as_ref().map(|p| format!("instruction at {}", p.label())))
            .because_if(subject.task().map(|t| match subject.cpu {
                Some(cpu) => format!("task {t} on CPU {cpu}"),
                None => format!("task {t}"),
            }))
    };
    let verdict = match &cause.kind {
        Kind::PageFault(address) => page_fault(cause, *address, make),
        Kind::Protection(address) => protection(cause, *address, make),
        Kind::Bug(at) => bug(cause, at, &facts::objects(snapshot, cause), make),
        Kind::Divide => make("divide-by-zero", 0.97, "an integer was divided by zero".into())
            .security(Security::Low, "the task stops; no memory is touched"),
        Kind::StackGuard => make("stack-overflow", 0.97, "the kernel stack overflowed".into())
            .security(Security::Medium, "the guard page was hit; a larger frame would have passed over it"),
        Kind::DoubleFault => make("stack-overflow", 0.6, "a fault could not be delivered".into())
            .but("a double fault has other causes than an exhausted stack")
            .security(Security::Medium, "the state is not known"),
        Kind::InvalidOpcode => make("illegal-instruction", 0.9, "an invalid instruction was executed".into())
            .security(Security::Medium, "what was executed was not code of the kernel"),
        Kind::OtherOops(words) => make("kernel-oops", 0.9, format!("the kernel met an exception: {words}"))
            .security(Security::Medium, "not known further"),
        Kind::List(words) => make("list-corruption", 0.97, format!("a linked list is corrupt: {words}"))
            .security(Security::Medium, "an element was removed twice, used after it was freed, or overwritten"),
        Kind::Sanitizer(words) => sanitizer(words, make),
        Kind::Fortify(words) => make("fortify", 0.97, format!("a copy was stopped at the end of its object: {words}"))
            .security(Security::High, "without the check the memory beside the object would have been copied"),
        Kind::Slab { cache, words } => slab(cache, words, make),
        Kind::Complaint(words, _) => make("kernel-bug", 0.9, format!("a check of the kernel failed: {words}")),
        Kind::Refcount(words) => make("use-after-free", 0.7, format!("a reference counter went wrong: {words}"))
            .but("the counter alone does not say whether the object was used afterwards")
            .security(Security::Medium, "an object may be freed while it is in use"),
        Kind::SoftLockup(cpu) | Kind::HardLockup(cpu) => {
            let soft = matches!(cause.kind, Kind::SoftLockup(_));
            let (class, did_not) = if soft { ("soft-lockup", "schedule") } else { ("hard-lockup", "take interrupts") };
            let cpu = cpu.map_or("?".to_owned(), |c| c.to_string());
            let what = memory::awaited(snapshot, &found);
            make(class, 0.97, format!("CPU {cpu} did not {did_not}{what}"))
        }
        Kind::HungTask(seconds) => {
            let who = subject.task().unwrap_or_else(|| "a task".into());
            let long = seconds.map_or(String::new(), |s| format!(" for more than {s} seconds"));
            let what = memory::awaited(snapshot, &found);
            make("hung-task", 0.97, format!("{who} has been blocked{long}{what}"))
        }
        Kind::RcuStall { cpus, .. } => {
            let list: Vec<String> = cpus.iter().map(u64::to_string).collect();
            let which = if list.is_empty() { String::new() } else { format!(" of CPU {}", list.join(", ")) };
            make("rcu-stall", 0.97, format!("an RCU grace period waits for a quiescent state{which}"))
        }
        Kind::Oom(words) => make("oom", 0.97, format!("memory ran out: {words}")),
        Kind::Warning => make("kernel-bug", 0.8, "a check of the kernel failed".into()),
        Kind::Panic(text) => panic(message.unwrap_or(text), subject, make),
        Kind::Backtrace(_) => return None,
    };
    if !memory {
        return Some(verdict);
    }
    let verdict = match cause.kind {
        Kind::PageFault(_) | Kind::Protection(_) => memory::behind(snapshot, cause, verdict, make),
        _ => verdict,
    };
    let verdict = if memory::is_wait(&cause.kind) { memory::waits(snapshot, found.thread, verdict) } else { verdict };
    Some(if matches!(cause.kind, Kind::RcuStall { .. }) { memory::stalls(snapshot, verdict) } else { verdict })
}

/// The report of the task to blame: the stalled CPU's, where another one told.
fn culprit<'r>(reports: &'r [Report], cause: &'r Report) -> &'r Report {
    let Kind::RcuStall { cpus, .. } = &cause.kind else { return cause };
    // A stalled CPU that tells of itself, or a task that holds up the grace period while it is off its CPU.
    if cause.has_details() {
        return cause;
    }
    let traced = |r: &&Report| match r.kind {
        Kind::Backtrace(cpu) => cpu.or(r.cpu).is_some_and(|c| cpus.is_empty() || cpus.contains(&c)) && r.has_details(),
        _ => false,
    };
    let after = reports.iter().skip_while(|r| !std::ptr::eq(*r, cause));
    let mut candidates = after.filter(traced);
    let first = candidates.clone().next();
    candidates.find(|r| r.pid != Some(0)).or(first).unwrap_or(cause)
}

fn touch_words(touch: Option<Touch>) -> &'static str {
    match touch {
        Some(Touch::Read) => "read from",
        Some(Touch::Write) => "write to",
        Some(Touch::Fetch) => "instruction fetch from",
        None => "access to",
    }
}

/// Every byte of the address (its lowest may carry a member's offset) is the poison of freed objects.
fn is_poison(address: u64) -> bool {
    let bytes = address.to_be_bytes();
    bytes.iter().take(6).all(|b| *b == POISON_FREE)
}

const fn is_canonical(address: u64) -> bool {
    let top = address >> 47;
    top == 0 || top == 0x1_ffff
}

fn page_fault(cause: &Report, address: Option<u64>, make: impl Fn(&'static str, f64, String) -> Verdict) -> Verdict {
    let Some(address) = address else {
        return make("kernel-oops", 0.9, "a page fault in kernel mode".into())
            .security(Security::Medium, "the address is not known");
    };
    let what = format!("{} {address:#x}", touch_words(cause.touch));
    let fetch = cause.touch == Some(Touch::Fetch) || cause.ip == Some(address);
    let warned = |v: Verdict| v.because_if(cause.warning.as_ref().map(|w| format!("log: {w}")));
    if fetch && address < LOW {
        return make("jump-null", 0.97, format!("a call or jump to {address:#x}"))
            .security(Security::Low, "the lowest addresses cannot be mapped by default");
    }
    if fetch && cause.rights == Some(true) {
        return warned(make("exec-nonexec", 0.97, format!("{what}, which is not executable")))
            .security(Security::High, "control flow left the kernel's code");
    }
    if fetch {
        return warned(make("wild-jump", 0.95, format!("a call or jump to {address:#x}, which is not mapped")))
            .security(Security::High, "control flow left the kernel's code");
    }
    if address < LOW {
        return make("null-deref", 0.97, format!("{what}: a null pointer with offset {address:#x}"))
            .because_if(null_register(cause))
            .security(Security::Low, "the lowest addresses cannot be mapped by default");
    }
    if is_poison(address) {
        return make("use-after-free", 0.9, format!("{what}, made of the bytes that freed objects are filled with"))
            .security(Security::High, "freed memory was used as a pointer");
    }
    if address < 1 << 47 {
        return warned(make("user-access", 0.85, format!("{what}: memory of user space, without permission")))
            .because_if((cause.rights == Some(true)).then(|| "the page is there: access rights forbade it".into()))
            .but("a wild pointer may have a small value by chance")
            .security(Security::High, "a pointer of user space was followed as it was");
    }
    if cause.rights == Some(true) && cause.touch == Some(Touch::Write) {
        return warned(make("write-readonly", 0.95, format!("{what}, which is read-only")))
            .security(Security::Medium, "the write was stopped");
    }
    make("wild-pointer", 0.9, format!("{what}, which is not mapped"))
        .security(Security::Medium, "the pointer's value may be another's to choose")
}

/// A general register that is zero: the null pointer itself.
fn null_register(cause: &Report) -> Option<String> {
    let zero: Vec<&str> =
        cause.registers.iter().filter(|(n, v)| *v == 0 && n != "cr2").map(|(n, _)| n.as_str()).collect();
    (!zero.is_empty() && zero.len() <= 6).then(|| format!("registers that are 0: {}", zero.join(", ")))
}

fn protection(cause: &Report, address: Option<u64>, make: impl Fn(&'static str, f64, String) -> Verdict) -> Verdict {
    let poison = address.filter(|a| is_poison(*a));
    if let Some(address) = poison {
        return make(
            "use-after-free",
            0.9,
            format!("access to {address:#x}, made of the bytes that freed objects are filled with"),
        )
        .because("0x6b is the slab allocator's poison of freed objects")
        .security(Security::High, "freed memory was used as a pointer");
    }
    if let Some(address) = address.filter(|a| LIST_POISON.iter().any(|p| a.wrapping_sub(*p) < 0x1000)) {
        return make("use-after-free", 0.85, format!("access to {address:#x}, a deleted list entry's link"))
            .security(Security::High, "an element was used after it left its list");
    }
    if let Some((name, value)) = cause.register_with(is_poison).filter(|_| address.is_none()) {
        return make(
            "use-after-free",
            0.8,
            format!("a pointer in {name} is {value:#x}, what freed objects are filled with"),
        )
        .because("0x6b is the slab allocator's poison of freed objects")
        .but("the register need not be the one that was followed")
        .security(Security::High, "freed memory was used as a pointer");
    }
    // A jump to an address that no processor can fetch from leaves it in the instruction pointer.
    if let Some(ip) = cause.ip.filter(|ip| !is_canonical(*ip)) {
        let bytes = ip.to_be_bytes();
        let same = bytes.first().is_some_and(|f| bytes.iter().all(|b| b == f));
        return make("wild-jump", 0.95, format!("a call or jump to {ip:#x}"))
            .because("the instruction pointer itself is not canonical")
            .because_if(
                same.then(|| format!("it is the byte {:#x} repeated: data, not code", bytes.first().unwrap_or(&0))),
            )
            .security(Security::High, "control flow follows a value that was overwritten");
    }
    match address {
        Some(address) => make("non-canonical", 0.95, format!("access to the non-canonical address {address:#x}"))
            .security(Security::Medium, "the pointer's value may be another's to choose"),
        None => make("kernel-oops", 0.9, "a general protection fault".into())
            .security(Security::Medium, "the address is not known"),
    }
}

fn bug(
    cause: &Report,
    at: &str,
    objects: &[facts::Object<'_>],
    make: impl Fn(&'static str, f64, String) -> Verdict,
) -> Verdict {
    let file = at.rsplit_once(':').map_or(at, |(file, _)| file);
    let inside = |words: &[&str]| cause.stack().iter().any(|s| words.iter().any(|w| s.function.starts_with(w)));
    if (file.ends_with("mm/slub.c") || file.ends_with("mm/slab.c"))
        && inside(&["kfree", "kmem_cache_free", "__slab_free"])
    {
        if let Some(object) = memory::freed(objects) {
            let what = format!("object {:#x} of cache {}, which is free already", object.start, object.cache);
            return make("double-free", 0.95, format!("the allocator's check at {at} refused to free {what}"))
                .because(format!("memory: {}", object.text))
                .security(Security::High, "the free list can be made to hand out one object twice");
        }
        return make("double-free", 0.85, format!("the allocator's check at {at} refused to free an object"))
            .because("an object that is already the first of the free list was freed")
            .but("an overwritten free pointer is found by the same check")
            .security(Security::High, "the free list can be made to hand out one object twice");
    }
    make("kernel-bug", 0.97, format!("a check of the kernel failed at {at}"))
}

fn sanitizer(words: &str, make: impl Fn(&'static str, f64, String) -> Verdict) -> Verdict {
    let class = match words {
        w if w.contains("use-after-free") => "use-after-free",
        w if w.contains("double-free") => "double-free",
        w if w.contains("invalid-free") || w.contains("invalid free") => "invalid-free",
        w if w.contains("null-ptr-deref") => "null-deref",
        w if w.contains("wild-memory-access") || w.contains("user-memory-access") => "wild-pointer",
        _ => "heap-corruption",
    };
    make(class, 0.97, format!("a sanitizer reports: {words}")).security(Security::High, "memory safety was violated")
}

/// What SLUB's checks found (`slab_bug`, mm/slub.c).
fn slab(cache: &str, words: &str, make: impl Fn(&'static str, f64, String) -> Verdict) -> Verdict {
    let class = match words {
        w if w.contains("Poison overwritten") => "use-after-free",
        w if w.contains("already free") => "double-free",
        w if w.contains("Invalid object pointer") => "invalid-free",
        w if w.contains("Objects remaining") => "kernel-bug",
        _ => "heap-corruption",
    };
    make(class, 0.9, format!("the slab allocator's check of cache {cache} failed: {words}"))
        .but("the check comes when the object is next allocated or freed, not when it is overwritten")
        .security(Security::High, "memory safety was violated")
}

/// A panic of its own: somebody called `panic()`.
fn panic(message: &str, subject: &Report, make: impl Fn(&'static str, f64, String) -> Verdict) -> Verdict {
    if message.contains("stack-protector") {
        return make("stack-smash", 0.97, format!("a function's stack frame was overwritten: {message}"))
            .security(Security::High, "the return address lies behind the canary");
    }
    if message.contains("kernel stack overflow") {
        return make("stack-overflow", 0.97, "the kernel stack overflowed".into())
            .security(Security::Medium, "the guard page was hit; a larger frame would have passed over it");
    }
    let requested = message.contains("sysrq triggered crash")
        || subject.stack().iter().any(|s| s.function.starts_with("sysrq_handle_crash"));
    if requested {
        return make("requested", 0.97, format!("the crash was asked for: {message}"));
    }
    make("kernel-panic", 0.97, format!("the kernel panicked: {message}"))
}
