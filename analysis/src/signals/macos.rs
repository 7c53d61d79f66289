//! macOS and iOS: Mach exceptions and their first codes.
//!
//! Sources: XNU's osfmk/mach/exception_types.h, kern_return.h, i386/exception.h and arm/exception.h; Crashpad's own
//! number for Objective-C exceptions.

use super::windows::Like;

/// Crashpad's `kMachExceptionFromNSException`.
pub(crate) const NS_EXCEPTION: i64 = 0x4350_6e78;
const EXC_CRASH: i64 = 10;

const EXCEPTIONS: [(i64, &str); 15] = [
    (1, "EXC_BAD_ACCESS"),
    (2, "EXC_BAD_INSTRUCTION"),
    (3, "EXC_ARITHMETIC"),
    (4, "EXC_EMULATION"),
    (5, "EXC_SOFTWARE"),
    (6, "EXC_BREAKPOINT"),
    (7, "EXC_SYSCALL"),
    (8, "EXC_MACH_SYSCALL"),
    (9, "EXC_RPC_ALERT"),
    (EXC_CRASH, "EXC_CRASH"),
    (11, "EXC_RESOURCE"),
    (12, "EXC_GUARD"),
    (13, "EXC_CORPSE_NOTIFY"),
    (NS_EXCEPTION, "Uncaught NSException"),
    (0x0517_a7ed, "Simulated Exception"),
];

/// Signals by the numbers of BSD.
const SIGNALS: [(i64, &str); 12] = [
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGBUS"),
    (11, "SIGSEGV"),
    (12, "SIGSYS"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
];

pub(super) fn name(number: i64) -> Option<&'static str> {
    let number = number & 0xffff_ffff;
    EXCEPTIONS.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

/// `EXC_CRASH` keeps the signal that ended the process in bits 24 to 31 of its first code.
fn crash_signal(code: i64) -> Option<&'static str> {
    let signal = (code >> 24) & 0xff;
    SIGNALS.iter().find(|(n, _)| *n == signal).map(|(_, name)| *name)
}

pub(super) fn likeness(number: i64, code: Option<i64>, arm: bool) -> Like {
    Some(match (number & 0xffff_ffff, code) {
        (1, Some(1)) => ("SIGSEGV", Some("SEGV_MAPERR")),
        (1, Some(2)) => ("SIGSEGV", Some("SEGV_ACCERR")),
        // EXC_ARM_DA_ALIGN.
        (1, Some(0x101)) if arm => ("SIGBUS", Some("BUS_ADRALN")),
        (1, _) => ("SIGSEGV", None),
        (2, _) => ("SIGILL", None),
        (3, Some(1)) if !arm => ("SIGFPE", Some("FPE_INTDIV")),
        (3, Some(2)) if !arm => ("SIGFPE", Some("FPE_INTOVF")),
        (3, _) => ("SIGFPE", None),
        (6, _) => ("SIGTRAP", None),
        (EXC_CRASH, Some(code)) => (crash_signal(code)?, None),
        // EXC_SOFT_SIGNAL carries a signal in its second code, which is not recorded here.
        _ => return None,
    })
}

pub(super) fn code_name(number: i64, code: i64, arm: bool) -> Option<&'static str> {
    match (number & 0xffff_ffff, code, arm) {
        (1, 1, _) => Some("KERN_INVALID_ADDRESS"),
        (1, 2, _) => Some("KERN_PROTECTION_FAILURE"),
        (1, 8, _) => Some("KERN_NO_ACCESS"),
        (1, 9, _) => Some("KERN_MEMORY_FAILURE"),
        (1, 10, _) => Some("KERN_MEMORY_ERROR"),
        (1, 50, _) => Some("KERN_CODESIGN_ERROR"),
        (1, 13, false) => Some("EXC_I386_GPFLT"),
        (1, 0x101, true) => Some("EXC_ARM_DA_ALIGN"),
        (1, 0x102, true) => Some("EXC_ARM_DA_DEBUG"),
        (1, 0x103, true) => Some("EXC_ARM_SP_ALIGN"),
        (1, 0x104, true) => Some("EXC_ARM_SWP"),
        (1, 0x105, true) => Some("EXC_ARM_PAC_FAIL"),
        (2, 1, false) => Some("EXC_I386_INVOP"),
        (2, 1, true) => Some("EXC_ARM_UNDEFINED"),
        (3, 1, false) => Some("EXC_I386_DIV"),
        (3, 2, false) => Some("EXC_I386_INTO"),
        (3, 3, false) => Some("EXC_I386_NOEXT"),
        (3, 4, false) => Some("EXC_I386_EXTOVR"),
        (3, 5, false) => Some("EXC_I386_EXTERR"),
        (3, 6, false) => Some("EXC_I386_EMERR"),
        (3, 7, false) => Some("EXC_I386_BOUND"),
        (3, 8, false) => Some("EXC_I386_SSEEXTERR"),
        (6, 1, false) => Some("EXC_I386_SGL"),
        (6, 2, false) => Some("EXC_I386_BPT"),
        (6, 1, true) => Some("EXC_ARM_BREAKPOINT"),
        (5, 0x10003, _) => Some("EXC_SOFT_SIGNAL"),
        (EXC_CRASH, code, _) => crash_signal(code),
        _ => None,
    }
}

/// Whether the exception is a refusal without an address: x86's general protection.
pub(super) const fn is_protection(number: i64, code: Option<i64>) -> bool {
    number == 1 && matches!(code, Some(13))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likenesses() {
        assert_eq!(likeness(1, Some(1), false), Some(("SIGSEGV", Some("SEGV_MAPERR"))));
        assert_eq!(likeness(10, Some(0x600_0000), true), Some(("SIGABRT", None)));
        assert_eq!(likeness(11, Some(0), false), None);
        assert_eq!(code_name(1, 13, false), Some("EXC_I386_GPFLT"));
        assert_eq!(code_name(1, 13, true), None);
        assert_eq!(name(NS_EXCEPTION), Some("Uncaught NSException"));
    }
}
