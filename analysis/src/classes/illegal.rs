//! `illegal-instruction` and `trap`: the processor met something that is no instruction, or one that is meant to stop.
//!
//! The signal decides the class (SIGILL or SIGTRAP), the instruction decides what is said about it: `ud2` is as
//! deliberate as a breakpoint.

use crate::case::{Case, Sender};
use crate::instruction::{Decoded, Kind, decode};
use crate::verdict::{Security, Verdict};
use crate::view::Arch;
use crate::words::report_phrase;

pub(super) fn check(case: &Case<'_>) -> Option<Verdict> {
    if matches!(case.sender, Sender::Itself | Sender::Other(_)) {
        return None;
    }
    if case.signal_is(&["SIGILL"]) {
        return illegal(case);
    }
    if case.signal_is(&["SIGTRAP", "SIGEMT"]) {
        return Some(trap(case));
    }
    let refused = case.fault.as_ref().is_some_and(|f| f.protection && f.operand.is_none());
    let instruction = case.instruction.as_ref().filter(|_| refused)?;
    (instruction.kind == Kind::Privileged).then(|| privileged(case, instruction))
}

fn privileged(case: &Case<'_>, instruction: &Decoded) -> Verdict {
    Verdict::new(case, "illegal-instruction", 0.95)
        .text(format!("`{}` is not allowed to user programs", instruction.text))
        .because_if(report_phrase(case))
        .because_if(strayed(case))
        .security(Security::Low, "the instruction was refused")
}

fn illegal(case: &Case<'_>) -> Option<Verdict> {
    let Some(instruction) = &case.instruction else {
        return Some(
            Verdict::new(case, "illegal-instruction", 0.7)
                .text("the processor met an instruction it does not know; its bytes were not kept")
                .because_if(report_phrase(case))
                .but("a deliberate trap of the compiler (`ud2`) is reported alike")
                .because_if(strayed(case))
                .security(Security::Low, "what was executed is not known"),
        );
    };
    match instruction.kind {
        Kind::Trap => Some(deliberate(case, instruction)),
        Kind::Invalid => {
            let stray = strayed(case);
            let level = if stray.is_some() { Security::High } else { Security::Medium };
            Some(
                Verdict::new(case, "illegal-instruction", 0.95)
                    .text(format!("the bytes {} at the program counter are no instruction", instruction.text))
                    .because_if(report_phrase(case))
                    .because_if(stray)
                    .but("an instruction newer than the decoder would look the same")
                    .security(level, "the program counter may have left the code"),
            )
        }
        Kind::Privileged => Some(privileged(case, instruction)),
        _ if !instruction.features.is_empty() => Some(
            Verdict::new(case, "illegal-instruction", 0.9)
                .text(format!(
                    "`{}` needs {}, which this processor or system does not offer",
                    instruction.text,
                    instruction.features.join(" and ")
                ))
                .because_if(report_phrase(case))
                .because("the instruction is valid, but belongs to an extension")
                .security(Security::None, "a program built for another processor"),
        ),
        _ => None,
    }
}

/// `ud2` and its like, which compilers place where the program must not come.
fn deliberate(case: &Case<'_>, instruction: &Decoded) -> Verdict {
    Verdict::new(case, "illegal-instruction", 0.97)
        .text(format!(
            "the program ran into `{}`, which compilers place where it must not come: __builtin_trap, a failed check, or code held unreachable",
            instruction.text
        ))
        .because_if(report_phrase(case))
        .because("the instruction exists for nothing but stopping: it was put there on purpose")
        .because_if(strayed(case))
        .security(Security::Low, "a check stopped the program; what it checked for may matter")
}

/// A sign that the program counter went astray before.
fn strayed(case: &Case<'_>) -> Option<String> {
    let pc = case.view.pc()?;
    let mapping = case.view.mapping(pc)?;
    match mapping.path.as_deref() {
        Some(path) if !path.starts_with('[') => None,
        Some(name @ ("[vdso]" | "[vsyscall]")) => Some(format!("the program counter is in {name}")),
        Some(name) => Some(format!("the program counter is in {name}, where no program's code is")),
        None => Some("the program counter is in anonymous memory: generated code, or a jump that went wild".to_owned()),
    }
}

fn trap(case: &Case<'_>) -> Verdict {
    let found = breakpoint(case);
    let verdict = Verdict::new(case, "trap", if found.is_some() { 0.96 } else { 0.85 }).because_if(report_phrase(case));
    let verdict = match (case.code, &found) {
        (Some("TRAP_HWBKPT" | "TRAP_RWATCH" | "TRAP_WWATCH" | "TRAP_XWATCH"), _) => {
            verdict.text("a hardware breakpoint or watchpoint was hit")
        }
        (Some("TRAP_TRACE"), _) => verdict.text("the processor was single-stepping"),
        (_, Some(text)) => verdict
            .text(format!("the program ran into the breakpoint instruction `{text}`"))
            .but("a debugger that went away may have left it"),
        _ => verdict.text("the program stopped at a breakpoint or trap"),
    };
    verdict.security(Security::None, "the program stopped itself")
}

/// The breakpoint instruction, which on x86 ends at the program counter.
fn breakpoint(case: &Case<'_>) -> Option<String> {
    let at = |pc: u64| decode(&case.view, pc).filter(|d| d.kind == Kind::Trap);
    let pc = case.view.pc()?;
    let before = || match case.view.arch {
        Arch::X86_64 | Arch::X86 => {
            let start = pc.wrapping_sub(1);
            at(start).filter(|d| start.wrapping_add(d.length) == pc)
        }
        Arch::Aarch64 | Arch::Other => None,
    };
    before().or_else(|| at(pc)).map(|d| d.text)
}
