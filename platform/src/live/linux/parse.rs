//! The texts of `/proc/PID` as facts: pure functions over bytes, whatever they hold.
//!
//! Source: `Documentation/filesystems/proc.rst`, `fs/proc/array.c`, `fs/proc/task_mmu.c`.

use evidence::bytes::{Endian, u32_at, u64_at};

/// What `/proc/PID/task/TID/stat` says of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Stat {
    /// The name, which may hold anything but NUL, blanks and brackets included.
    pub name: String,
    /// The state's letter.
    pub state: char,
    /// The parent process.
    pub parent: Option<u64>,
    /// The kernel's `PF_*` flags.
    pub flags: u64,
    /// When it started, in clock ticks since boot: tells a process from a later one with the same number.
    pub started: Option<u64>,
    /// The CPU it ran on last.
    pub cpu: Option<u32>,
}

/// `PF_KTHREAD` (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

impl Stat {
    /// Whether this is a kernel thread.
    pub(super) const fn kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// The state in words.
    pub(super) const fn word(&self) -> &'static str {
        match self.state {
            'R' => "running",
            'S' => "sleeping",
            'D' => "disk-sleep",
            'T' => "stopped",
            't' => "traced",
            'Z' => "zombie",
            'X' | 'x' => "dead",
            'I' => "idle",
            'P' => "parked",
            'W' => "waking",
            _ => "unknown",
        }
    }
}

/// Reads a `stat` line. The name is in brackets and may itself hold brackets: it ends with the last one.
pub(super) fn stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|b| *b == b'(')?;
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let name = String::from_utf8_lossy(bytes.get(open.checked_add(1)?..close)?).into_owned();
    let rest = String::from_utf8_lossy(bytes.get(close.checked_add(1)?..)?).into_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the documentation is the first here.
    let field = |n: usize| fields.get(n.wrapping_sub(3)).copied();
    Some(Stat {
        name,
        state: field(3)?.chars().next()?,
        parent: field(4).and_then(|f| f.parse().ok()),
        flags: field(9)?.parse().ok()?,
        started: field(22).and_then(|f| f.parse().ok()),
        cpu: field(39).and_then(|f| f.parse().ok()),
    })
}

/// The value of a `Key:\tvalue` line of `status`, `fdinfo` or `smaps_rollup`.
pub(super) fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// A decimal value of such a line; what follows the number (a unit, more numbers) is left.
pub(super) fn number(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.split_ascii_whitespace().next()?.parse().ok()
}

/// A set of signals, as `SigBlk:\t0000000000000000`.
pub(super) fn signals(text: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(value(text, key)?, 16).ok()
}

/// The real and the effective user of `Uid:\treal\teffective\tsaved\tfs`.
pub(super) fn users(text: &str) -> Option<(u32, u32)> {
    let mut fields = value(text, "Uid")?.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// What `/proc/PID/task/TID/syscall` says of a blocked thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The system call, or `None` when it is blocked outside of any (in a page fault, for instance).
    pub system_call: Option<u64>,
    /// The first six arguments; present with a system call.
    pub arguments: Option<[u64; 6]>,
    /// The user stack pointer.
    pub stack_pointer: u64,
    /// The user program counter.
    pub program_counter: u64,
}

/// Reads a `syscall` line: `running`, or `-1 SP PC`, or `NR six arguments SP PC`.
pub(super) fn blocked(text: &str) -> Option<Blocked> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let hex = |n: usize| u64::from_str_radix(fields.get(n)?.strip_prefix("0x")?, 16).ok();
    let system_call: i64 = fields.first()?.parse().ok()?;
    match u64::try_from(system_call) {
        Ok(number) => Some(Blocked {
            system_call: Some(number),
            arguments: Some([hex(1)?, hex(2)?, hex(3)?, hex(4)?, hex(5)?, hex(6)?]),
            stack_pointer: hex(7)?,
            program_counter: hex(8)?,
        }),
        Err(_) => {
            Some(Blocked { system_call: None, arguments: None, stack_pointer: hex(1)?, program_counter: hex(2)? })
        }
    }
}

/// Whether an auxiliary vector is that of a 64-bit program: its `AT_PHENT` (4) is the size of a program header, 56 in
/// 64-bit ELF files, 32 in others. `None` when it is neither's.
pub(super) fn auxv_is_64_bit(bytes: &[u8]) -> Option<bool> {
    const AT_PHENT: u64 = 4;
    let wide = bytes
        .chunks_exact(16)
        .any(|e| u64_at(e, 0, Endian::Little) == Some(AT_PHENT) && u64_at(e, 8, Endian::Little) == Some(56));
    let narrow = bytes
        .chunks_exact(8)
        .any(|e| u32_at(e, 0, Endian::Little) == Some(4) && u32_at(e, 4, Endian::Little) == Some(32));
    match (wide, narrow) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Sums over all mappings of `smaps`, and the mappings that hold the most.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Resident {
    /// `Rss`, `Pss`, `Anonymous`, `Swap`, ... in kB, in the order of the file.
    pub totals: Vec<(String, u64)>,
    /// (kB resident, range, name), the largest first.
    pub largest: Vec<(u64, String, String)>,
}

/// How many of the largest mappings are named.
const LIMIT_LARGEST: usize = 16;
/// How many different counters a kernel may have; Linux 6.18 has 22.
const LIMIT_COUNTERS: usize = 64;

/// Sums up `smaps`.
pub(super) fn smaps(text: &str) -> Resident {
    let mut resident = Resident::default();
    let mut current: Option<(&str, &str)> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let Some(key) = first.strip_suffix(':') else {
            // A header: range, permissions, offset, device, inode, name.
            current = Some((first, words.nth(4).unwrap_or("")));
            continue;
        };
        let (Some(amount), Some("kB")) = (words.next().and_then(|w| w.parse::<u64>().ok()), words.next()) else {
            continue;
        };
        if key.ends_with("PageSize") {
            continue;
        }
        if let Some((_, total)) = resident.totals.iter_mut().find(|(known, _)| known == key) {
            *total = total.saturating_add(amount);
        } else if resident.totals.len() < LIMIT_COUNTERS {
            resident.totals.push((key.to_owned(), amount));
        }
        let (Some((range, name)), "Rss") = (current, key) else { continue };
        let place = resident.largest.partition_point(|(known, ..)| *known >= amount);
        if amount > 0 && place < LIMIT_LARGEST {
            resident.largest.insert(place, (amount, range.to_owned(), name.to_owned()));
            resident.largest.truncate(LIMIT_LARGEST);
        }
    }
    resident
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let line = b"7690 (a) R (b)) S 7627 7 4 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 403375 31 39 18 9 9 1 0 0 0 0 0 0 0 0 0 17 1 0 0";
        let got = stat(line).unwrap();
        assert_eq!((got.name.as_str(), got.state, got.parent), ("a) R (b)", 'S', Some(7627)));
        assert_eq!((got.started, got.cpu, got.kernel_thread()), (Some(403_375), Some(1), false));
        assert_eq!(got.word(), "sleeping");
    }

    #[test]
    fn status_lines() {
        let text = "Name:\tx\nUid:\t0\t33\t0\t0\nTracerPid:\t12\nSigBlk:\t0000000000010002\nVmRSS:\t  12 kB\n";
        assert_eq!(number(text, "TracerPid"), Some(12));
        assert_eq!(number(text, "VmRSS"), Some(12));
        assert_eq!(users(text), Some((0, 33)));
        assert_eq!(signals(text, "SigBlk"), Some(0x1_0002));
        assert_eq!(value(text, "Na"), None);
    }

    #[test]
    fn where_a_thread_is_blocked() {
        let in_call = blocked("232 0x4 0x1 0x2 0xffffffffffffffff 0x0 0x6 0x7ffd0 0x7f00\n").unwrap();
        assert_eq!((in_call.system_call, in_call.program_counter), (Some(232), 0x7f00));
        let fault = blocked("-1 0x7ffd0 0x7f00").unwrap();
        assert_eq!((fault.system_call, fault.stack_pointer), (None, 0x7ffd0));
        assert_eq!(blocked("running"), None);
    }

    #[test]
    fn the_vector_tells_the_class() {
        let wide: Vec<u8> = [3_u64, 0x40, 4, 56, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
        let narrow: Vec<u8> = [3_u32, 0x34, 4, 32, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(auxv_is_64_bit(&wide), Some(true));
        assert_eq!(auxv_is_64_bit(&narrow), Some(false));
        assert_eq!(auxv_is_64_bit(b""), None);
    }

    #[test]
    fn resident_memory_is_summed() {
        let text = "1000-2000 r--p 00000000 fe:00 247030  /bin/x\nKernelPageSize: 4 kB\nRss: 8 kB\nSwap: 0 kB\nVmFlags: rd\n\
                    3000-4000 rw-p 00000000 00:00 0 \nRss: 100 kB\nSwap: 3 kB\n";
        let got = smaps(text);
        assert_eq!(got.totals, [("Rss".to_owned(), 108), ("Swap".to_owned(), 3)]);
        assert_eq!(got.largest[0], (100, "3000-4000".to_owned(), String::new()));
        assert_eq!(got.largest[1].2, "/bin/x");
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[ -~\n\t]{0,300}") {
            let _ = stat(&bytes);
            let _ = stat(text.as_bytes());
            let _ = auxv_is_64_bit(&bytes);
            let _ = (blocked(&text), users(&text), signals(&text, "SigBlk"), number(&text, "Pid"));
            let _ = smaps(&text);
        }
    }
}
