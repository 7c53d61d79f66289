//! The case before the classifiers: the view, the signal by name, the instruction, and the fault they add up to.

use crate::instruction::{Access, Decoded, Kind, Operand, decode};
use crate::machinery::{Part, part};
use crate::names::normalise;
use crate::signals;
use crate::view::{Arch, Place, View};
use snapshot_format::Snapshot;

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The processor, by way of the kernel.
    Hardware,
    /// This process itself: `raise`, `abort`, `kill(getpid())`.
    Itself,
    /// Another process, whose number may be known.
    Other(Option<u64>),
    /// The kernel on its own account, or nothing is recorded.
    Unknown,
}

/// A memory access that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fault<'a> {
    /// The address that failed, reported or computed.
    pub(crate) address: Option<u64>,
    /// The system reported the address (else it is computed from the instruction's operands).
    pub(crate) reported: bool,
    pub(crate) access: Access,
    /// The instruction could not be fetched: the address is the program counter.
    pub(crate) fetch: bool,
    /// The operand of the instruction that explains the address.
    pub(crate) operand: Option<Operand>,
    pub(crate) place: Place<'a>,
    /// The processor refused without an address: on x86 a general protection or stack-segment fault.
    pub(crate) protection: bool,
    /// The system's word for it: `Some(true)` nothing is mapped, `Some(false)` the mapping forbids it.
    pub(crate) unmapped: Option<bool>,
}

/// Everything the classifiers look at.
pub(crate) struct Case<'a> {
    pub(crate) view: View<'a>,
    /// `SIGSEGV` and so on: the signal, or the one that the system's exception is like.
    pub(crate) signal: Option<String>,
    /// `SEGV_MAPERR` and so on.
    pub(crate) code: Option<&'static str>,
    /// The names that the system itself has for both.
    pub(crate) reported: (Option<String>, Option<&'static str>),
    pub(crate) sender: Sender,
    pub(crate) instruction: Option<Decoded>,
    pub(crate) fault: Option<Fault<'a>>,
    /// Normalised function names of the thread's frames, as many as [`LIMIT_NAMED`].
    pub(crate) names: Vec<Option<String>>,
    /// Lines that may explain: abort messages and the end of the log.
    pub(crate) messages: Vec<&'a str>,
}

/// Frames whose names are looked at by classifiers: what stopped the program stands at the top.
pub(crate) const LIMIT_NAMED: usize = 512;

/// Log lines looked at, from the end: a crash's own lines are its last.
const LIMIT_MESSAGES: usize = 2_000;

impl<'a> Case<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let view = View::new(snapshot);
        let names = view.frames.iter().take(LIMIT_NAMED).map(|f| f.function.as_deref().map(normalise)).collect();
        let reported = (signal(snapshot), code(snapshot));
        let (signal, code) = like(snapshot, &reported);
        let mut case = Self {
            sender: Sender::Unknown,
            instruction: None,
            fault: None,
            messages: messages(snapshot),
            names,
            signal,
            code,
            reported,
            view,
        };
        case.sender = sender(&case);
        if case.sender == Sender::Itself {
            case.view.look_beneath_handler();
        }
        case.instruction = case.view.pc().and_then(|pc| decode(&case.view, pc));
        case.fault = fault(&case);
        case
    }

    pub(crate) fn signal_is(&self, names: &[&str]) -> bool {
        self.signal.as_deref().is_some_and(|s| names.contains(&s))
    }

    pub(crate) fn code_is(&self, names: &[&str]) -> bool {
        self.code.is_some_and(|c| names.contains(&c))
    }

    /// The first frame, from the top, whose function satisfies `test`.
    pub(crate) fn find(&self, test: impl Fn(&str) -> bool) -> Option<usize> {
        self.names.iter().position(|n| n.as_deref().is_some_and(&test))
    }

    /// The first frame outside of `from` that is neither machinery nor allocator: the one to look at.
    pub(crate) fn culprit(&self, from: usize) -> Option<usize> {
        let frames = from..self.names.len();
        let at = frames.into_iter().find(|at| !self.is_machinery(*at))?;
        // Reaching the outside means that nothing of the program is on the stack.
        match self.names.get(at)?.as_deref().and_then(part) {
            Some(Part::Start) => None,
            _ => Some(at),
        }
    }

    /// Whether the frame only carries the stop out: by its name, or, nameless, as part of the runtime.
    pub(crate) fn is_machinery(&self, frame: usize) -> bool {
        match self.names.get(frame).map(Option::as_deref) {
            Some(Some(name)) => crate::machinery::is_messenger(name) || crate::machinery::is_allocator(name),
            Some(None) => self.view.frames.get(frame).is_some_and(|f| self.view.in_runtime(f)),
            None => false,
        }
    }

    /// `function(), frame n` for sentences.
    pub(crate) fn place_of(&self, frame: usize) -> String {
        match self.view.frames.get(frame) {
            Some(row) => format!("{}, frame {frame}", self.view.frame_label(row)),
            None => format!("frame {frame}"),
        }
    }

    /// The first message that contains one of the words.
    pub(crate) fn message_with(&self, words: &[&str]) -> Option<&'a str> {
        self.messages.iter().copied().find(|m| words.iter().any(|w| m.contains(w)))
    }
}

fn signal(snapshot: &Snapshot) -> Option<String> {
    let event = snapshot.event.as_ref()?;
    let named = event.signal.and_then(|n| signals::signal_name(&snapshot.identity.os, n));
    named.or_else(|| event.signal_name.clone())
}

fn code(snapshot: &Snapshot) -> Option<&'static str> {
    let event = snapshot.event.as_ref()?;
    signals::code_name_on(&snapshot.identity.os, &snapshot.identity.arch, event.signal?, event.code?)
}

/// What an exception is like among signals; signals are themselves.
fn like(
    snapshot: &Snapshot,
    reported: &(Option<String>, Option<&'static str>),
) -> (Option<String>, Option<&'static str>) {
    let identity = &snapshot.identity;
    if !signals::has_exceptions(&identity.os) {
        return reported.clone();
    }
    let Some(event) = &snapshot.event else { return (None, None) };
    let found = event.signal.and_then(|n| signals::likeness(&identity.os, &identity.arch, n, event.code));
    found.map_or((None, None), |(signal, code)| (Some(signal.to_owned()), code))
}

fn messages(snapshot: &Snapshot) -> Vec<&str> {
    let event = snapshot.event.as_ref().and_then(|e| e.message.as_deref());
    let attributes = snapshot.attributes.iter().filter(|a| a.key.ends_with("abort_message")).map(|a| a.value.as_str());
    let log = snapshot.log.iter().rev().take(LIMIT_MESSAGES).map(|l| l.text.as_str());
    event.into_iter().chain(attributes).chain(log).filter(|m| !m.is_empty()).collect()
}

/// Codes of signals that a process sent on purpose.
const SENT: [&str; 4] = ["SI_USER", "SI_QUEUE", "SI_TKILL", "SI_LWP"];

fn sender(case: &Case<'_>) -> Sender {
    let Some(event) = case.view.event() else { return Sender::Unknown };
    if signals::has_exceptions(&case.view.snapshot.identity.os) {
        return match case.signal.as_deref() {
            Some("SIGABRT") => Sender::Itself,
            Some(_) => Sender::Hardware,
            None => Sender::Unknown,
        };
    }
    // The first frames of a thread that raised the signal are the C library's own.
    let raising = case.names.iter().take(8).flatten().any(|n| part(n) == Some(Part::Raise));
    let own = case.view.snapshot.identity.pid;
    let sent = case.code_is(&SENT);
    if !sent && case.code.is_some() {
        let kernel = case.code_is(&["SI_KERNEL", "SI_TIMER", "SI_RCTL", "SI_DTRACE"]);
        // On x86 the kernel reports breakpoints and protection faults as its own.
        let fault = case.signal_is(&["SIGSEGV", "SIGBUS", "SIGTRAP", "SIGILL", "SIGFPE"]);
        return if kernel && !fault { Sender::Unknown } else { Sender::Hardware };
    }
    if !sent {
        return if raising { Sender::Itself } else { Sender::Unknown };
    }
    match (event.sender_pid, own) {
        (Some(sender), Some(own)) if sender == own => Sender::Itself,
        // Process numbers differ between namespaces; a thread that is inside raise() sent it itself.
        _ if raising => Sender::Itself,
        (pid, _) => Sender::Other(pid),
    }
}

/// Signals by which a processor's memory fault arrives.
const MEMORY_SIGNALS: [&str; 2] = ["SIGSEGV", "SIGBUS"];

fn fault<'a>(case: &Case<'a>) -> Option<Fault<'a>> {
    let view = &case.view;
    let event = view.event()?;
    if matches!(case.sender, Sender::Other(_)) || (case.sender == Sender::Itself && !view.interrupted) {
        return None;
    }
    // Beneath a handler the signal that came first is not recorded; the operands must show it.
    if !case.signal_is(&MEMORY_SIGNALS) && !view.interrupted {
        return None;
    }
    let pc = view.pc();
    let protection = is_protection(case);
    let carries = case.sender == Sender::Hardware || case.code.is_none();
    let alignment = case.code == Some("BUS_ADRALN") && event.address == Some(0);
    let reported = event.address.filter(|_| carries && !protection && !view.interrupted && !alignment);
    let recorded = event.access.as_deref().and_then(Access::parse).or_else(|| error_code_access(case));
    let unmapped = match case.code {
        Some("SEGV_MAPERR") if !protection => Some(true),
        Some("SEGV_ACCERR") if !protection => Some(false),
        _ => None,
    };
    if is_fetch(case, reported, recorded) {
        let address = reported.or(pc);
        return Some(Fault {
            address,
            reported: reported.is_some(),
            access: Access::Execute,
            fetch: true,
            operand: None,
            place: address.map_or(Place::Unknown, |a| view.place(a)),
            protection,
            unmapped,
        });
    }
    let operand = explaining(case, reported, protection);
    if view.interrupted && operand.is_none() {
        return None;
    }
    let address = reported.or_else(|| operand.as_ref().and_then(|o| o.address));
    let access = recorded.or_else(|| operand.as_ref().map(|o| o.access)).unwrap_or(Access::Unknown);
    let place = address.map_or(Place::Unknown, |a| view.place(a));
    Some(Fault { address, reported: reported.is_some(), access, fetch: false, operand, place, protection, unmapped })
}

/// Whether the processor gave no address: each system has its own way to say "general protection".
fn is_protection(case: &Case<'_>) -> bool {
    let Some(event) = case.view.event() else { return false };
    if !matches!(case.view.arch, Arch::X86_64 | Arch::X86) {
        return false;
    }
    if let Some(trap) = event.trap_number {
        return matches!(trap, 12 | 13);
    }
    let at_pc = event.address.is_none() || event.address == case.view.pc();
    match case.view.snapshot.identity.os.as_str() {
        // Linux: #GP and #SS are force_sig(): SI_KERNEL, no address.
        // Minidumps of before 2017 lack the code: then an operand must show that the address could not be told.
        "linux" | "android" => {
            let silent = case.code.is_none() && event.address == Some(0) && has_impossible_operand(case);
            silent || case.code == Some("SI_KERNEL") && event.address.unwrap_or(0) == 0
        }
        // FreeBSD, amd64 trap(): SIGBUS with the program counter for an address.
        "freebsd" => case.signal_is(&["SIGBUS"]) && case.code_is(&["BUS_OBJERR", "BUS_ADRERR"]) && at_pc && runs(case),
        // illumos, i86pc trap(): SIGSEGV, SEGV_ACCERR, the program counter for an address.
        "windows" | "macos" | "ios" => {
            let (os, number) = (&case.view.snapshot.identity.os, event.signal.unwrap_or(0));
            case.view.arch == Arch::X86_64 && signals::is_protection(os, number, event.code, event.address)
        }
        "illumos" => case.code == Some("SEGV_ACCERR") && at_pc && runs(case),
        _ => false,
    }
}

fn has_impossible_operand(case: &Case<'_>) -> bool {
    let operands = case.instruction.as_ref().map_or(&[][..], |i| &i.operands);
    operands.iter().any(|o| o.address.is_some_and(|a| !is_canonical(case.view.arch, a)))
}

/// Whether the program counter lies where instructions may be fetched from.
fn runs(case: &Case<'_>) -> bool {
    let mapping = case.view.pc().and_then(|pc| case.view.mapping(pc));
    mapping.is_some_and(|m| crate::view::allows(m, b'x') == Some(true))
}

/// The direction in a page fault's error code (Intel SDM volume 3, 4.7: bit 1 write, bit 4 instruction fetch).
fn error_code_access(case: &Case<'_>) -> Option<Access> {
    let event = case.view.event()?;
    if event.trap_number != Some(14) || !matches!(case.view.arch, Arch::X86_64 | Arch::X86) {
        return None;
    }
    let error = event.error_code?;
    Some(if error & 0x10 != 0 {
        Access::Execute
    } else if error & 2 != 0 {
        Access::Write
    } else {
        Access::Read
    })
}

fn is_fetch(case: &Case<'_>, reported: Option<u64>, recorded: Option<Access>) -> bool {
    if recorded == Some(Access::Execute) {
        return true;
    }
    let Some(pc) = case.view.pc() else { return false };
    if reported.is_some_and(|a| a != pc) {
        return false;
    }
    let place = case.view.place(pc);
    let forbidden = match place {
        Place::Mapped(m) => crate::view::allows(m, b'x') == Some(false),
        Place::Unmapped => true,
        Place::Unknown => reported.is_some() && case.instruction.is_none(),
    };
    // Without an address, only a program counter that nothing can be fetched from says so.
    forbidden || (reported.is_some() && explaining(case, reported, false).is_none() && case.instruction.is_none())
}

/// The operand that the fault is about.
fn explaining(case: &Case<'_>, reported: Option<u64>, protection: bool) -> Option<Operand> {
    let operands = &case.instruction.as_ref()?.operands;
    if let Some(address) = reported {
        return operands.iter().find(|o| o.covers(address, case.view.arch)).cloned();
    }
    if protection {
        let wild = operands.iter().find(|o| o.address.is_some_and(|a| !is_canonical(case.view.arch, a)));
        let crooked = || operands.iter().find(|o| misaligned(o));
        if let Some(operand) = wild.or_else(crooked) {
            return Some(operand.clone());
        }
    }
    let refused = operands.iter().find(|o| o.address.is_some_and(|a| is_refused(case, a, o.access)));
    // Without mappings, an instruction with one operand has only that one to fail on.
    let only = || match operands.as_slice() {
        [one] if !case.view.knows_mappings() && !protection => Some(one),
        _ => None,
    };
    refused.or_else(only).cloned()
}

fn is_refused(case: &Case<'_>, address: u64, access: Access) -> bool {
    let letter = if access == Access::Write { b'w' } else { b'r' };
    match case.view.place(address) {
        Place::Mapped(m) => crate::view::allows(m, letter) == Some(false),
        Place::Unmapped => true,
        Place::Unknown => false,
    }
}

/// Whether the operand's address lacks the alignment that the instruction demands.
pub(crate) fn misaligned(operand: &Operand) -> bool {
    let rest = operand.address.and_then(|a| a.checked_rem(operand.alignment));
    rest.is_some_and(|r| r != 0)
}

/// Whether an address can be translated at all: the bits above the implemented ones repeat the highest of them.
pub(crate) const fn is_canonical(arch: Arch, address: u64) -> bool {
    match arch {
        Arch::X86_64 => {
            let top = address >> 47;
            top == 0 || top == 0x1_ffff
        }
        // The top byte is ignored; user addresses have zeros in the rest.
        Arch::Aarch64 => {
            let top = (address >> 48) & 0xff;
            top == 0 || address >> 48 == 0xffff
        }
        Arch::X86 | Arch::Other => true,
    }
}

/// Whether the branch at the fault goes to an address that cannot be.
pub(crate) fn impossible_target(case: &Case<'_>) -> Option<(u64, bool)> {
    match case.instruction.as_ref()?.kind {
        Kind::Branch { target: Some(target), returns } if !is_canonical(case.view.arch, target) => {
            Some((target, returns))
        }
        _ => None,
    }
}
