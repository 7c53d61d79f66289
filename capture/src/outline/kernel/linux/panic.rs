//! Why the kernel died: the CPU and task that panicked, and what the log says of it.

use super::context::Linux;
use super::cpus::Cpu;
use evidence::{Access, Addr, Event};
use snapshot_format::schema::LogRecord;

/// What `panic()` prints before its message.
const PANIC: &str = "Kernel panic - not syncing: ";
/// The message of a panic that only follows from an oops.
const FROM_OOPS: &str = "Fatal exception";

/// The CPU that panicked: `panic_cpu` is -1 until one does (`kernel/panic.c`), and so is `crashing_cpu`
/// (`arch/x86/kernel/crash.c`).
pub(super) fn cpu(linux: &Linux<'_>) -> Option<u32> {
    let cpus = ["panic_cpu", "crashing_cpu"].into_iter().filter_map(|name| linux.int(name));
    let mut valid = cpus.filter(|cpu| *cpu < super::context::LIMIT_CPUS);
    valid.next()
}

/// What is known of an oops by the lines it printed.
#[derive(Default)]
struct Oops {
    headline: Option<String>,
    address: Option<Addr>,
    access: Option<Access>,
    error_code: Option<u64>,
    trap: Option<u64>,
}

/// Headlines of oopses with the processor's trap numbers (`arch/x86/kernel/traps.c`, `arch/x86/mm/fault.c`).
const HEADLINES: [(&str, Option<u64>); 12] = [
    ("BUG: kernel NULL pointer dereference", Some(14)),
    ("BUG: unable to handle", Some(14)),
    ("BUG: TASK stack guard page was hit", Some(8)),
    ("BUG: stack guard page was hit", Some(8)),
    ("kernel tried to execute NX-protected page", Some(14)),
    ("general protection fault", Some(13)),
    ("divide error", Some(0)),
    ("invalid opcode", Some(6)),
    ("stack segment", Some(12)),
    ("kernel BUG at", Some(6)),
    ("double fault", Some(8)),
    ("int3", Some(3)),
];

fn hex(text: &str) -> Option<u64> {
    let text = text.trim_start().strip_prefix("0x").unwrap_or(text.trim_start());
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    u64::from_str_radix(text.get(..end)?, 16).ok()
}

/// Reads the lines of the last oops before `end`.
fn oops(log: &[LogRecord]) -> Oops {
    let mut oops = Oops::default();
    for line in log {
        let text = line.text.as_str();
        if let Some((_, trap)) = HEADLINES.iter().find(|(head, _)| text.starts_with(head)) {
            // "invalid opcode" and the like follow the line that says what was meant.
            let same =
                oops.headline.is_some() && oops.trap == *trap && oops.address.is_none() && !text.starts_with("BUG: ");
            if !same {
                oops = Oops { headline: Some(text.to_owned()), trap: *trap, ..Oops::default() };
            }
            let address = text.split_once("address: ").or_else(|| text.split_once("address "));
            oops.address = oops.address.or_else(|| address.and_then(|(_, rest)| hex(rest)).map(Addr));
        } else if let Some(rest) = text.strip_prefix("#PF: supervisor ").or_else(|| text.strip_prefix("#PF: user ")) {
            oops.access = match rest {
                r if r.starts_with("read") => Some(Access::Read),
                r if r.starts_with("write") => Some(Access::Write),
                r if r.starts_with("instruction fetch") => Some(Access::Execute),
                _ => None,
            };
        } else if let Some(rest) = text.strip_prefix("#PF: error_code(") {
            oops.error_code = hex(rest);
        } else if let Some((_, rest)) = text.split_once("Oops: ").filter(|_| oops.error_code.is_none()) {
            oops.error_code = hex(rest).filter(|_| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
        }
    }
    oops
}

/// The event of a kernel that panicked; `None` for one that did not.
pub(super) fn event(linux: &Linux<'_>, cpus: &[Cpu], log: &[LogRecord]) -> Option<Event> {
    let line = log.iter().rposition(|r| r.text.starts_with(PANIC));
    let number = cpu(linux);
    if number.is_none() && line.is_none() {
        return None;
    }
    let thread = number.and_then(|n| cpus.iter().find(|c| c.number == n)).and_then(|c| c.thread);
    let said = line.and_then(|i| log.get(i)).and_then(|r| r.text.strip_prefix(PANIC));
    let before = line.and_then(|i| log.get(..i)).unwrap_or(log);
    let mut event = Event { thread, message: said.map(Into::into), ..Event::default() };
    if said.is_none_or(|s| s.starts_with(FROM_OOPS)) {
        let oops = oops(before);
        event.access = oops.access;
        event.trap_number = oops.trap;
        event.error_code = oops.error_code;
        event.address = oops.address;
        if event.message.is_none() {
            event.message = oops.headline.map(Into::into);
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str]) -> Oops {
        let rows: Vec<_> = lines.iter().map(|l| LogRecord { text: (*l).to_owned(), ..LogRecord::default() }).collect();
        oops(&rows)
    }

    #[test]
    fn oopses_by_their_lines() {
        let null = check(&[
            "BUG: kernel NULL pointer dereference, address: 0000000000000028",
            "#PF: supervisor read access in kernel mode",
            "#PF: error_code(0x0000) - not-present page",
            "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        ]);
        assert_eq!((null.address, null.access, null.error_code), (Some(Addr(0x28)), Some(Access::Read), Some(0)));
        assert_eq!(null.trap, Some(14));
        let gpf = check(&[
            "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b93: 0000 [#1] PREEMPT SMP",
        ]);
        assert_eq!((gpf.address, gpf.trap), (Some(Addr(0x6b6b_6b6b_6b6b_6b93)), Some(13)));
        let bug = check(&["kernel BUG at mm/slub.c:419!", "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI"]);
        assert_eq!((bug.headline.as_deref(), bug.trap), (Some("kernel BUG at mm/slub.c:419!"), Some(6)));
        let divide = check(&["divide error: 0000 [#1] PREEMPT SMP NOPTI"]);
        assert_eq!((divide.trap, divide.address, divide.error_code), (Some(0), None, None));
    }
}
