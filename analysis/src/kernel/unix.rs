//! Panics of FreeBSD (trap.c below sys/amd64 and sys/arm64, sys/kern/kern_shutdown.c) and illumos
//! (uts/i86pc/os/trap.c, uts/common/os/panic.c).

use super::blame::{Blame, by_frames};
use super::facts;
use super::heap;
use super::helpers::Excused;
use super::text::{after, hex_at, number_at};
use super::verdict::{Draft, draft};
use crate::verdict::{Security, Verdict};
use crate::view::frames_of;
use snapshot_format::Snapshot;

/// Addresses below this are never mapped: what is there comes from null.
const LOW: u64 = 0x1_0000;

/// A trap in kernel mode.
struct Trap {
    /// The processor's number of the exception.
    number: u64,
    address: Option<u64>,
    write: Option<bool>,
    fetch: bool,
    /// The page was there and its rights forbade it.
    rights: Option<bool>,
    line: String,
}

/// What a panic's own words mean: a part of the message, the class, how sure, the sentence.
const WORDS: [(&str, &str, f64, &str); 26] = [
    ("Assertion ", "kernel-bug", 0.97, "an assertion of the kernel failed"),
    ("assertion failed", "kernel-bug", 0.97, "an assertion of the kernel failed"),
    ("Duplicate free of", "double-free", 0.95, "an object was freed twice"),
    ("duplicate free", "double-free", 0.9, "an object was freed twice"),
    ("Memory modified after free", "use-after-free", 0.95, "freed memory was written to"),
    ("modified after being freed", "use-after-free", 0.95, "freed memory was written to"),
    ("kernel heap corruption detected", "heap-corruption", 0.95, "the kernel's heap is corrupt"),
    ("Bad link elm", "list-corruption", 0.97, "a linked list is corrupt"),
    ("Bad list head", "list-corruption", 0.97, "a linked list is corrupt"),
    ("Bad tailq", "list-corruption", 0.97, "a linked list is corrupt"),
    ("stack overflow detected; backtrace may be corrupted", "stack-smash", 0.95, "a stack frame was overwritten"),
    ("spin lock held too long", "hard-lockup", 0.9, "a spin lock was held for too long"),
    ("possible deadlock detected", "deadlock", 0.8, "threads have been waiting for too long"),
    ("deadlock: cycle in blocking chain", "deadlock", 0.97, "threads wait for each other in a circle"),
    ("bad mutex", "kernel-bug", 0.9, "what was taken for a mutex is none"),
    ("not owner", "kernel-bug", 0.9, "a lock was given back by a thread that does not hold it"),
    ("recursive mutex_enter", "deadlock", 0.95, "a thread takes a mutex that it holds"),
    ("recursed on non-recursive", "deadlock", 0.95, "a thread takes a lock that it holds"),
    ("watchdog timeout", "hard-lockup", 0.9, "a CPU took no interrupts"),
    ("deadman: timed out", "hard-lockup", 0.9, "the clock's interrupts were not served"),
    ("appears to be hung", "hang", 0.9, "input or output does not come to an end"),
    ("out of swap space", "oom", 0.9, "memory ran out"),
    ("kmem_map too small", "oom", 0.9, "the kernel's memory ran out"),
    ("forced crash dump", "requested", 0.97, "the crash was asked for"),
    ("from debugger", "requested", 0.95, "the crash was asked for in the debugger"),
    ("kdb_sysctl_panic", "requested", 0.97, "the crash was asked for through a sysctl"),
];

/// The findings of a FreeBSD or illumos kernel; without `memory` by what a log of it says.
pub(crate) fn judge(snapshot: &Snapshot, lines: &[&str], memory: bool) -> Vec<Verdict> {
    let message = snapshot.event.as_ref().and_then(|e| e.message.as_deref()).map(str::trim).filter(|m| !m.is_empty());
    let logged = || {
        let panic = lines.iter().rev().find_map(|l| l.trim_start().strip_prefix("panic: "));
        let illumos = lines.iter().rev().find_map(|l| {
            let thread = l.trim_start().strip_prefix("panic[cpu")?;
            after(thread, "]/thread=").and_then(|t| t.split_once(": ")).map(|(_, m)| m)
        });
        panic.or(illumos).map(str::trim)
    };
    let trap = trap(snapshot, lines);
    let Some(message) = message.or_else(logged).or_else(|| trap.as_ref().map(|t| t.line.as_str())) else {
        return Vec::new();
    };
    let event = snapshot.event.as_ref().and_then(|e| e.thread);
    let thread = snapshot.threads.iter().find(|t| event == Some(t.id));
    let frames = thread.map_or(&[][..], |t| frames_of(snapshot, t.stack));
    let mut found = Blame { thread: event, ..Blame::default() };
    by_frames(snapshot, frames, Excused::Helpers, &mut found);
    let place = found.sentence();
    let make = |class: &'static str, confidence: f64, text: &str| {
        let d = Draft { class, confidence, severity: "fatal" };
        draft(snapshot, &d, found.thread, found.frame)
            .text(format!("{text}{place}"))
            .because(format!("panic: {message}"))
    };
    let illumos = snapshot.identity.os == "illumos";
    let mut verdicts = Vec::new();
    let objects = if memory { facts::all_objects(snapshot) } else { Vec::new() };
    if let Some(trap) = &trap {
        let judged = by_trap(trap, &make).map(|v| {
            if illumos {
                return if memory { heap::behind(snapshot, v, &make) } else { v };
            }
            let jumped = trap.address.filter(|_| trap.fetch);
            facts::after_free(&objects, "zone", jumped, v, &|class, sure, text| make(class, sure, &text))
        });
        let said = |v: Verdict| if trap.line == message { v } else { v.because(format!("log: {}", trap.line)) };
        verdicts.extend(judged.map(said));
    } else if let Some(verdict) = heap::reported(snapshot, message, &make).filter(|_| memory && illumos) {
        verdicts.push(verdict);
    } else if let Some((line, class)) = heap::printed(message, lines) {
        verdicts.push(make(class, 0.95, &format!("the allocator found: {line}")).because(format!("log: {line}")));
    } else if let Some((_, class, confidence, text)) = WORDS.iter().find(|(word, ..)| message.contains(word)) {
        let about = objects.iter().filter(|o| o.registers.iter().any(|(_, inside)| *inside == 0));
        let grounds = about.map(|o| format!("memory: {}", o.text));
        verdicts.push(grounds.fold(make(class, *confidence, text), Verdict::because));
    }
    if let Some(object) =
        objects.iter().find(|o| o.twice).filter(|_| verdicts.iter().all(|v| v.class() != "double-free"))
    {
        let text = format!("an object of zone {} was freed twice", object.cache);
        let twice = make("double-free", 0.9, &text).because(format!("memory: {}", object.text));
        verdicts.push(twice.security(Security::High, "memory may be given to two owners"));
    }
    if verdicts.is_empty() || !WORDS.iter().any(|(w, c, ..)| *c == "requested" && message.contains(w)) {
        let d = Draft { class: "kernel-panic", confidence: 0.95, severity: "fatal" };
        let blamed = draft(snapshot, &d, found.thread, found.frame);
        let where_ = if verdicts.is_empty() { place.as_str() } else { "" };
        verdicts
            .push(blamed.text(format!("the kernel panicked: {message}{where_}")).because(format!("panic: {message}")));
    }
    verdicts
}

fn by_trap(trap: &Trap, make: &dyn Fn(&'static str, f64, &str) -> Verdict) -> Option<Verdict> {
    let verb = match (trap.fetch, trap.write) {
        (true, _) => "instruction fetch from",
        (false, Some(true)) => "write to",
        (false, Some(false)) => "read from",
        (false, None) => "access to",
    };
    let at = trap.address.map_or_else(|| "an unknown address".to_owned(), |a| format!("{a:#x}"));
    Some(match (trap.number, trap.address) {
        (14, Some(address)) if address < LOW && trap.fetch => {
            make("jump-null", 0.97, &format!("a call or jump to {at}"))
                .security(Security::Low, "the lowest addresses are never mapped")
        }
        (14, Some(address)) if address < LOW => {
            make("null-deref", 0.97, &format!("{verb} {at}: a null pointer with offset {at}"))
                .security(Security::Low, "the lowest addresses are never mapped")
        }
        (14, Some(_)) if trap.fetch && trap.rights == Some(true) => {
            make("exec-nonexec", 0.95, &format!("{verb} {at}, which is not executable"))
                .security(Security::High, "control flow left the kernel's code")
        }
        (14, Some(_)) if trap.fetch => make("wild-jump", 0.95, &format!("a call or jump to {at}, which is not mapped"))
            .security(Security::High, "control flow left the kernel's code"),
        (14, Some(_)) if trap.write == Some(true) && trap.rights == Some(true) => {
            make("write-readonly", 0.9, &format!("{verb} {at}, which is read-only"))
                .security(Security::Medium, "the write was stopped")
        }
        (14, _) => make("wild-pointer", 0.9, &format!("{verb} {at}, which is not mapped"))
            .security(Security::Medium, "the pointer's value may be another's to choose"),
        (13, _) => make("non-canonical", 0.7, "a general protection fault")
            .but("not only addresses that are not canonical raise it")
            .security(Security::Medium, "the address is not known"),
        (0, _) => make("divide-by-zero", 0.9, "an integer division failed")
            .but("a quotient too large for its register is reported alike")
            .security(Security::Low, "no memory is touched"),
        (6, _) => make("illegal-instruction", 0.9, "an invalid instruction was executed")
            .security(Security::Medium, "what was executed was not code of the kernel"),
        (8, _) => make("stack-overflow", 0.6, "a fault could not be delivered")
            .but("a double fault has other causes than an exhausted stack")
            .security(Security::Medium, "the state is not known"),
        _ => return None,
    })
}

/// FreeBSD's own trap numbers (sys/x86/include/trap.h) as the processor's.
const fn freebsd_vector(number: u64) -> Option<u64> {
    Some(match number {
        12 => 14,
        9 => 13,
        18 => 0,
        1 => 6,
        23 => 8,
        _ => return None,
    })
}

fn trap(snapshot: &Snapshot, lines: &[&str]) -> Option<Trap> {
    if snapshot.identity.os == "illumos" { illumos_trap(lines) } else { freebsd_trap(lines) }
}

/// `Fatal trap 12: page fault while in kernel mode`, then `fault virtual address = 0x28` and others.
fn freebsd_trap(lines: &[&str]) -> Option<Trap> {
    let is_abort = |l: &str| l.trim_end().ends_with("Fatal data abort:");
    let is_trap = |l: &str| l.trim_start().starts_with("Fatal trap ") || l.starts_with("Fatal double fault");
    let at = lines.iter().rposition(|l| is_trap(l) || is_abort(l))?;
    let line = lines.get(at)?.trim().to_owned();
    if is_abort(&line) {
        return freebsd_abort(lines.get(at..)?);
    }
    let number = match after(&line, "Fatal trap ").and_then(number_at) {
        Some(number) => freebsd_vector(number)?,
        None => 8,
    };
    let mut trap = Trap { number, address: None, write: None, fetch: false, rights: None, line };
    for line in lines.iter().skip(at.saturating_add(1)).take(24) {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key.trim() {
            "fault virtual address" => trap.address = hex_at(value),
            "fault code" => {
                trap.write = Some(value.contains("write"));
                trap.fetch = value.contains("instruction");
                trap.rights = Some(value.contains("protection violation"));
            }
            _ => {}
        }
    }
    Some(trap)
}

/// arm64's `Fatal data abort:`, thirty registers, then ` far: ADDRESS` and ` esr: SYNDROME` (sys/arm64/arm64/trap.c).
fn freebsd_abort(report: &[&str]) -> Option<Trap> {
    let value = |name: &str| {
        let rest = report.iter().take(48).find_map(|l| l.trim_start().strip_prefix(name))?;
        let word = rest.split_whitespace().next()?;
        u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
    };
    let syndrome = value("esr:")?;
    // EC: 0x20 and 0x21 are instruction aborts, 0x24 and 0x25 data aborts; the status of permission faults is 0b0011LL.
    let class = syndrome >> 26 & 0x3f;
    let (fetch, data) = (matches!(class, 0x20 | 0x21), matches!(class, 0x24 | 0x25));
    if !fetch && !data {
        return None;
    }
    Some(Trap {
        number: 14,
        address: value("far:"),
        write: data.then_some(syndrome & 0x40 != 0),
        fetch,
        rights: Some(syndrome & 0x3c == 0x0c),
        line: "Fatal data abort".into(),
    })
}

/// `BAD TRAP: type=e (#pf Page fault) rp=... addr=28 occurred in module "x" due to a NULL pointer dereference`.
fn illumos_trap(lines: &[&str]) -> Option<Trap> {
    let line = lines.iter().rev().find(|l| l.contains("BAD TRAP: type="))?;
    let number = after(line, "type=").and_then(hex_at)?;
    let start = line.find("BAD TRAP")?;
    Some(Trap {
        number,
        address: after(line, "addr=").and_then(hex_at),
        write: None,
        fetch: false,
        rights: None,
        line: line.get(start..)?.trim().to_owned(),
    })
}
