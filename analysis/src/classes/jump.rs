//! `jump-null`, `wild-jump`, `exec-nonexec`: the program counter went where no code is.

use crate::case::{Case, Fault, impossible_target, is_canonical};
use crate::instruction::Kind;
use crate::verdict::{Security, Verdict};
use crate::view::{Arch, Place, allows};
use crate::words::{hex, place_phrase, report_phrase};

/// Addresses below this are never mapped by default: `vm.mmap_min_addr` of Linux distributions, and below the lowest
/// address of FreeBSD's and illumos's executables.
pub(super) const LOW: u64 = 0x1_0000;

/// How the program counter got where it is, as far as the stack tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Call,
    Return,
    Unknown,
}

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    let fault = case.fault.as_ref()?;
    if fault.fetch {
        return fetched(case, fault);
    }
    if case.code == Some("SEGV_CPERR") {
        return Some(shadow_stack(case));
    }
    if !fault.protection {
        return None;
    }
    if let Some((target, returns)) = impossible_target(case) {
        return Some(branch(case, Some(target), returns));
    }
    match case.instruction.as_ref()?.kind {
        // All operands are good, so only the target can have been refused.
        Kind::Branch { target: None, returns } if fault.operand.is_none() && reads_mapped(case) => {
            Some(branch(case, None, returns).adjust(-0.25))
        }
        _ => None,
    }
}

fn reads_mapped(case: &Case<'_>) -> bool {
    let Some(instruction) = &case.instruction else { return false };
    instruction.operands.iter().all(|o| o.address.is_some_and(|a| is_canonical(case.view.arch, a)))
}

fn fetched(case: &Case<'_>, fault: &Fault<'_>) -> Option<Verdict> {
    let address = fault.address?;
    let (way, grounds) = way(case);
    let caller = caller(case);
    let report = report_phrase(case);
    let from = caller.map_or_else(String::new, |c| format!(", called from {}", case.place_of(c)));
    let reached = if way == Way::Call { from.as_str() } else { "" };
    if address < LOW {
        let near = if address == 0 { String::new() } else { format!(" near null ({})", hex(address)) };
        let pointer = if address == 0 { "a null function pointer" } else { "a function pointer" };
        let what = match caller.filter(|_| way == Way::Call) {
            Some(caller) => format!("{} called {pointer}{near}", case.place_of(caller)),
            None => format!("{pointer}{near} was called"),
        };
        let verdict = Verdict::new(case, "jump-null", 0.97).because_if(report).because_if(grounds);
        return Some(match way {
            Way::Return => verdict
                .text(format!("a return went to {}: the return address on the stack is overwritten", hex(address)))
                .adjust(-0.1)
                .security(Security::High, "the return address was overwritten"),
            Way::Call => verdict
                .frame(caller)
                .text(what)
                .security(Security::Low, "the lowest addresses cannot be mapped by default"),
            Way::Unknown => verdict
                .text(format!("the program jumped to {}", hex(address)))
                .security(Security::Low, "the lowest addresses cannot be mapped by default"),
        });
    }
    let how = match way {
        Way::Call => format!("a call went to {}{reached}", hex(address)),
        Way::Return => format!("a return went to {}: the return address on the stack is overwritten", hex(address)),
        Way::Unknown => format!("the program jumped to {}", hex(address)),
    };
    let place = place_phrase(fault.place);
    match fault.place {
        Place::Mapped(m) if allows(m, b'x') == Some(false) => Some(
            Verdict::new(case, "exec-nonexec", 0.97)
                .frame(caller.filter(|_| way == Way::Call))
                .text(format!("{how}, which lies {place} and may not be executed"))
                .because_if(report)
                .because_if(grounds)
                .security(Security::High, "data was about to be executed: control of the program counter is likely"),
        ),
        Place::Mapped(_) => None,
        Place::Unknown if on_stack(case, address) || !case.view.bytes(address, 1).is_empty() => {
            let what = if on_stack(case, address) { "on the thread's stack" } else { "in data" };
            Some(
                Verdict::new(case, "exec-nonexec", 0.95)
                    .frame(caller.filter(|_| way == Way::Call))
                    .text(format!("{how}, which lies {what} and may not be executed"))
                    .because_if(report)
                    .because_if(grounds)
                    .security(
                        Security::High,
                        "data was about to be executed: control of the program counter is likely",
                    ),
            )
        }
        Place::Unknown => Some(
            Verdict::new(case, "wild-jump", 0.8)
                .frame(caller.filter(|_| way == Way::Call))
                .text(format!("{how}, where no instruction can be fetched"))
                .because_if(report)
                .because_if(grounds)
                .security(Security::High, "the program counter took a value that is no code address"),
        ),
        Place::Unmapped => Some(
            Verdict::new(case, "wild-jump", 0.95)
                .frame(caller.filter(|_| way == Way::Call))
                .text(format!("{how}, where nothing is mapped"))
                .because_if(report)
                .because_if(grounds)
                .because(format!("the program counter lies {place}"))
                .because_if((!is_canonical(case.view.arch, address)).then(|| "the address is not canonical".into()))
                .security(Security::High, "the program counter took a value that is no code address"),
        ),
    }
}

/// Whether an address is in the stack of the thread, as far as its end is known.
fn on_stack(case: &Case<'_>, address: u64) -> bool {
    let range = case.view.thread.and_then(|t| Some(t.stack_start?..t.stack_end?));
    range.is_some_and(|r| r.contains(&address))
}

/// The frame that called, when it is known: the one around the unfetchable frame.
fn caller(case: &Case<'_>) -> Option<usize> {
    let next = case.view.context.checked_add(1)?;
    (next < case.view.frames.len()).then_some(next)
}

/// A call leaves its return address at the stack pointer; a return leaves its target just below it.
fn way(case: &Case<'_>) -> (Way, Option<String>) {
    let view = &case.view;
    if view.arch == Arch::Aarch64 {
        let link = view.register("x30").filter(|l| executable(case, *l));
        return match link {
            Some(link) => (Way::Call, Some(format!("x30 holds the return address {link:#x}"))),
            None => (Way::Unknown, None),
        };
    }
    let (Some(sp), Some(pc)) = (view.sp(), view.pc()) else { return (Way::Unknown, None) };
    let size = view.arch.pointer_size();
    if let Some(top) = view.number(sp, size)
        && executable(case, top)
    {
        return (Way::Call, Some(format!("the stack's top holds a return address, {top:#x}, as a call leaves it")));
    }
    if view.number(sp.wrapping_sub(size), size) == Some(pc) && pc != 0 {
        let text = "the word just below the stack pointer equals the program counter, as a return leaves it";
        return (Way::Return, Some(text.to_owned()));
    }
    (Way::Unknown, None)
}

fn executable(case: &Case<'_>, address: u64) -> bool {
    case.view.mapping(address).is_some_and(|m| allows(m, b'x') == Some(true))
}

fn branch(case: &Case<'_>, target: Option<u64>, returns: bool) -> Verdict {
    let text = case.instruction.as_ref().map_or("", |i| i.text.as_str());
    let goal = target
        .map_or_else(|| "an address that cannot exist".to_owned(), |t| format!("{}, which is not canonical", hex(t)));
    let what = if returns {
        "the return address on the stack is overwritten: `ret` goes to"
    } else {
        "a call or jump goes to"
    };
    let reason =
        if returns { "the return address was overwritten" } else { "a code pointer was overwritten or never set" };
    Verdict::new(case, "wild-jump", 0.95)
        .text(format!("{what} {goal}; the faulting instruction is `{text}`"))
        .because_if(report_phrase(case))
        .because("a branch to an address that is not canonical is refused at the branch itself")
        .security(Security::High, reason)
}

fn shadow_stack(case: &Case<'_>) -> Verdict {
    Verdict::new(case, "wild-jump", 0.9)
        .text("a return address differs from the processor's shadow stack: it was overwritten")
        .because_if(report_phrase(case))
        .security(Security::High, "the return address was overwritten")
}
