//! Names of signals and of their codes, in each operating system's own numbering.
//!
//! Numbers above 14 and most `si_code` values differ between systems, so nothing else in this crate compares numbers:
//! it asks here for the name first. Exception codes of Windows and Mach have a sibling module each; they are not signals,
//! but most are like one, and `likeness` says which, so that one set of classifiers serves all systems.

mod freebsd;
mod illumos;
mod linux;
mod macos;
mod windows;

pub(crate) use macos::NS_EXCEPTION;

/// Numbers and names of one system.
struct Table {
    /// Signals by number.
    signals: &'static [(i64, &'static str)],
    /// First and last real-time signal as programs see them.
    real_time: (i64, i64),
    /// Codes that any signal may carry.
    common: &'static [(i64, &'static str)],
    /// Codes by signal.
    codes: &'static [(&'static str, &'static [(i64, &'static str)])],
}

fn table(os: &str) -> Option<&'static Table> {
    match os {
        "linux" | "android" => Some(&linux::TABLE),
        "freebsd" => Some(&freebsd::TABLE),
        "illumos" => Some(&illumos::TABLE),
        _ => None,
    }
}

fn find(rows: &[(i64, &'static str)], number: i64) -> Option<&'static str> {
    rows.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

/// The name of a signal, such as `SIGSEGV` or `SIGRTMIN+3`; `os` is the word of `Identity::os`.
#[must_use]
pub fn signal_name(os: &str, number: i64) -> Option<String> {
    match os {
        "windows" => return windows::name(number).map(str::to_owned),
        "macos" | "ios" => return macos::name(number).map(str::to_owned),
        _ => {}
    }
    let table = table(os)?;
    if let Some(name) = find(table.signals, number) {
        return Some(name.to_owned());
    }
    let (first, last) = table.real_time;
    if !(first..=last).contains(&number) {
        return None;
    }
    match number.saturating_sub(first) {
        0 => Some("SIGRTMIN".to_owned()),
        n => Some(format!("SIGRTMIN+{n}")),
    }
}

/// The name of a signal's `si_code`, such as `SEGV_MAPERR` or `SI_USER`.
#[must_use]
pub fn code_name(os: &str, signal: i64, code: i64) -> Option<&'static str> {
    code_name_on(os, "", signal, code)
}

/// As [`code_name`], where the numbers differ between processors (Mach's do); `arch` is the word of `Identity::arch`.
#[must_use]
pub fn code_name_on(os: &str, arch: &str, signal: i64, code: i64) -> Option<&'static str> {
    match os {
        "windows" => return windows::code_name(signal, code),
        "macos" | "ios" => return macos::code_name(signal, code, is_arm(arch)),
        _ => {}
    }
    let table = table(os)?;
    let own = find(table.signals, signal)
        .and_then(|name| table.codes.iter().find(|(s, _)| *s == name))
        .and_then(|(_, rows)| find(rows, code));
    own.or_else(|| find(table.common, code))
}

fn is_arm(arch: &str) -> bool {
    matches!(arch, "aarch64" | "arm")
}

/// The signal of Unix, and its code, that an exception is like; `None` for signals themselves, and for exceptions that
/// are like none.
pub(crate) fn likeness(os: &str, arch: &str, number: i64, code: Option<i64>) -> windows::Like {
    match os {
        "windows" => windows::likeness(number),
        "macos" | "ios" => macos::likeness(number, code, is_arm(arch)),
        _ => None,
    }
}

/// Whether the system numbers exceptions, not signals.
pub(crate) fn has_exceptions(os: &str) -> bool {
    matches!(os, "windows" | "macos" | "ios")
}

/// Whether the processor refused an access without saying the address: on Windows and macOS.
pub(crate) fn is_protection(os: &str, number: i64, code: Option<i64>, address: Option<u64>) -> bool {
    match os {
        // The kernel reports a read of the last address.
        "windows" => number & 0xffff_ffff == 0xc000_0005 && code == Some(0) && address == Some(u64::MAX),
        "macos" | "ios" => macos::is_protection(number, code),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_their_system_says() {
        let cases = [
            ("linux", 7, "SIGBUS"),
            ("freebsd", 7, "SIGEMT"),
            ("illumos", 7, "SIGEMT"),
            ("linux", 10, "SIGUSR1"),
            ("freebsd", 10, "SIGBUS"),
            ("illumos", 10, "SIGBUS"),
            ("linux", 30, "SIGPWR"),
            ("freebsd", 30, "SIGUSR1"),
            ("illumos", 30, "SIGXCPU"),
            ("linux", 34, "SIGRTMIN"),
            ("linux", 64, "SIGRTMIN+30"),
            ("freebsd", 126, "SIGRTMIN+61"),
            ("illumos", 41, "SIGINFO"),
            ("illumos", 42, "SIGRTMIN"),
        ];
        for (os, number, name) in cases {
            assert_eq!(signal_name(os, number).as_deref(), Some(name), "{os} {number}");
        }
        for (os, number) in
            [("linux", 0), ("linux", 33), ("linux", 65), ("windows", 11), ("macos", 99), ("freebsd", i64::MIN)]
        {
            assert_eq!(signal_name(os, number), None, "{os} {number}");
        }
    }

    #[test]
    fn codes_belong_to_their_signal() {
        let cases = [
            ("linux", 11, 1, Some("SEGV_MAPERR")),
            ("linux", 11, 0x80, Some("SI_KERNEL")),
            ("linux", 8, 1, Some("FPE_INTDIV")),
            ("freebsd", 8, 1, Some("FPE_INTOVF")),
            ("freebsd", 8, 2, Some("FPE_INTDIV")),
            ("illumos", 8, 1, Some("FPE_INTDIV")),
            ("linux", 6, -6, Some("SI_TKILL")),
            ("freebsd", 6, 0x10007, Some("SI_LWP")),
            ("illumos", 6, -1, Some("SI_LWP")),
            ("linux", 6, -1, Some("SI_QUEUE")),
            ("linux", 15, 3, None),
            ("macos", 11, 1, None),
            ("macos", 1, 2, Some("KERN_PROTECTION_FAILURE")),
            ("windows", 0xc000_0005, 8, Some("EXCEPTION_ACCESS_VIOLATION_EXEC")),
        ];
        for (os, signal, code, name) in cases {
            assert_eq!(code_name(os, signal, code), name, "{os} {signal} {code}");
        }
    }

    /// The numbers of the build host, where it is one of the systems of the tables.
    #[test]
    #[cfg(target_os = "linux")]
    fn linux_names_agree_with_the_shell() {
        let Ok(output) = std::process::Command::new("bash").args(["-c", "kill -l"]).output() else {
            println!("skipped: no bash");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut seen = 0;
        for pair in words.chunks_exact(2) {
            let number: i64 = pair[0].trim_end_matches(')').parse().unwrap();
            if number > 31 {
                continue;
            }
            // The shell keeps the old name of SIGIO's synonym out; everything else is spelled alike.
            assert_eq!(signal_name("linux", number).as_deref(), Some(pair[1]), "{number}");
            seen += 1;
        }
        assert!(seen >= 30, "{text}");
    }
}
