//! The machine and the process: `MINIDUMP_SYSTEM_INFO`, `MINIDUMP_MISC_INFO` in its five sizes, counters.
//!
//! Sources: minidumpapiset.h; platform numbers from 0x8000 on are Breakpad's (minidump_format.h).

use super::context;
use super::reader::Reader;
use super::{MISC_INFO, SYSTEM_INFO};
use evidence::bytes::{slice_at, u16_at, u32_at, u64_at};
use evidence::{Arch, Os};

/// A version number above this was never set: lldb up to 19 writes what its memory holds.
const LIMIT_VERSION: u32 = 1_000;

/// What the system information says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    pub(super) os: Os,
    pub(super) arch: Arch,
    /// The processor number as recorded; `None` without system information.
    pub(super) processor: Option<u16>,
    pub(super) release: Option<String>,
    /// (key, value) pairs that are no part of the identity.
    pub(super) facts: Vec<(&'static str, String)>,
}

/// Reads the system information; without one nothing is known but what contexts tell.
pub(super) fn read(reader: &Reader<'_>) -> System {
    let mut system = System { os: Os::Other, arch: Arch::Other, processor: None, release: None, facts: Vec::new() };
    let Some(s) = reader.first(SYSTEM_INFO, 24) else {
        reader.doubt(
            "it has no system information: the processor is told from the register contexts, the system is unknown",
        );
        return system;
    };
    let (word, half) =
        (|at| u32_at(&s, at, reader.endian).unwrap_or(0), |at| u16_at(&s, at, reader.endian).unwrap_or(0));
    let processor = half(0);
    let text = reader.utf16(word(24).into()).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    system.processor = Some(processor);
    system.arch = context::arch(processor);
    system.os = platform(word(20), text.as_deref().unwrap_or_default());
    if system.arch == Arch::Other {
        reader.doubt(format!(
            "its processor is {} ({processor:#x}): general registers of it are not shown",
            context::processor_name(processor)
        ));
    }
    let version = [word(8), word(12), word(16)];
    let told = version.iter().any(|v| *v != 0);
    let unix = matches!(system.os, Os::Linux | Os::Android | Os::FreeBsd | Os::Illumos | Os::Other);
    let (major, minor) = (word(8), word(12));
    let sane = told && major < LIMIT_VERSION && minor < LIMIT_VERSION;
    if told && !sane {
        reader.doubt(format!("its system version {major}.{minor}.{} was never set: it is left out", word(16)));
    }
    system.release = match &text {
        // "Linux 6.1.0-56-amd64 #1 SMP ... x86_64", "FreeBSD 14.1-RELEASE ...": uname's words.
        Some(text) if unix => Some(release_in(text)),
        Some(text) if sane => Some(format!("{major}.{minor}.{} {text}", word(16))),
        _ if sane => Some(format!("{major}.{minor}.{}", word(16))),
        Some(text) => Some(text.clone()),
        None => None,
    };
    if let Some(text) = text {
        system.facts.push(("system.version", text));
    }
    let cpus = s.get(6).copied().unwrap_or(0);
    if cpus > 0 {
        system.facts.push(("system.cpus", cpus.to_string()));
    }
    if system.os == Os::Windows {
        let product = match s.get(7).copied().unwrap_or(0) {
            1 => "workstation",
            2 => "domain controller",
            3 => "server",
            _ => "",
        };
        system.facts.push(("system.product", product.to_owned()));
    }
    let (level, revision) = (half(2), half(4));
    let model = match system.arch {
        Arch::X86 | Arch::X86_64 if level != 0 => {
            format!("family {level} model {} stepping {}", revision >> 8, revision & 0xff)
        }
        Arch::Arm if word(32) != 0 => format!("cpuid {:#x} features {:#x}", word(32), word(36)),
        _ => String::new(),
    };
    let vendor = slice_at(&s, 32, 12).filter(|v| system.arch == Arch::X86 && v.iter().all(u8::is_ascii_graphic));
    let vendor = vendor.map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
    system.facts.push(("system.cpu", format!("{vendor} {model}").trim().to_owned()));
    system.facts.retain(|(_, value)| !value.is_empty());
    system
}

/// The system of a platform number. There is none for FreeBSD and illumos; writers say it in the text, below the number
/// of Unix (0x8000), Solaris (0x8202) or Linux.
fn platform(number: u32, text: &str) -> Os {
    let named = |names: &[&str]| names.iter().any(|n| text.contains(n));
    match number {
        0..=3 => Os::Windows,
        0x8101 => Os::MacOs,
        0x8102 => Os::Ios,
        0x8000 | 0x8201 | 0x8202 if named(&["FreeBSD"]) => Os::FreeBsd,
        0x8000 | 0x8201 | 0x8202 if named(&["illumos", "SunOS"]) => Os::Illumos,
        0x8202 => Os::Illumos,
        0x8201 => Os::Linux,
        0x8203 => Os::Android,
        _ => Os::Other,
    }
}

/// The release among uname's words; the whole text when it does not begin with a system's name.
fn release_in(text: &str) -> String {
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("Linux" | "FreeBSD" | "SunOS" | "illumos" | "Android"), Some(release)) => release.to_owned(),
        _ => text.to_owned(),
    }
}

/// What the process's own information says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Option<u64>,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// `MINIDUMP_MISC_INFO`: grown four times, so every part is read if it is there and its flag says it is set.
pub(super) fn misc(reader: &Reader<'_>) -> Process {
    let mut process = Process::default();
    let Some(s) = reader.first(MISC_INFO, 24) else { return process };
    let word = |at| u32_at(&s, at, reader.endian);
    let flags = word(4).unwrap_or(0);
    if flags & 1 != 0 {
        process.pid = word(8).map(u64::from);
    }
    let mut fact = |flag: u32, key: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty() && flags & flag != 0) {
            process.facts.push((key, value));
        }
    };
    let number = |at| word(at).map(|n| n.to_string());
    fact(2, "process.created", number(12));
    fact(2, "process.user_seconds", number(16));
    fact(2, "process.system_seconds", number(20));
    fact(4, "system.cpu.max_mhz", number(24));
    fact(4, "system.cpu.current_mhz", number(28));
    fact(0x10, "process.integrity", word(44).map(|n| format!("{n:#x}")));
    fact(0x20, "process.execute_flags", word(48).map(|n| format!("{n:#x}")));
    // MISC_INFO_3 has a time zone (172 bytes at 60), MISC_INFO_4 two texts: 260 and 40 UTF-16 units.
    let text = |at: usize, units: usize| {
        let raw = slice_at(&s, at, units.checked_mul(2)?)?;
        let units = raw.chunks_exact(2).filter_map(|c| u16_at(c, 0, reader.endian)).take_while(|u| *u != 0);
        Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
    };
    fact(0x40, "system.time_zone", text(64, 32));
    fact(0x100, "system.build", text(232, 260));
    fact(0x100, "system.debugger_build", text(752, 40));
    process
}

/// `MINIDUMP_PROCESS_VM_COUNTERS_1` and `_2`, and memory totals of `MINIDUMP_SYSTEM_MEMORY_INFO_1`, in bytes.
pub(super) fn counters(reader: &Reader<'_>) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(s) = reader.first(super::PROCESS_VM_COUNTERS, 80) {
        let wide = |at| u64_at(&s, at, reader.endian).map(|n| n.to_string());
        // u16 revision, u16 flags, u32 page faults, then 64-bit sizes.
        for (key, at) in [
            ("process.memory.working_set_peak", 8),
            ("process.memory.working_set", 16),
            ("process.memory.pagefile", 56),
            ("process.memory.pagefile_peak", 64),
            ("process.memory.private", 72),
        ] {
            out.extend(wide(at).map(|v| (key, v)));
        }
    }
    if let Some(s) = reader.first(super::SYSTEM_MEMORY_INFO, 492) {
        // SYSTEM_BASIC_INFORMATION begins at 4: timer resolution, page size, number of physical pages.
        let word = |at| u32_at(&s, at, reader.endian).map(u64::from);
        let physical = word(12).and_then(|pages| pages.checked_mul(word(8)?));
        out.extend(physical.map(|n| ("system.memory.total", n.to_string())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_without_a_number_are_named_in_the_text() {
        let cases = [
            (2, "Service Pack 1", Os::Windows),
            (0x8101, "", Os::MacOs),
            (0x8102, "", Os::Ios),
            (0x8201, "Linux 6.1.0 #1", Os::Linux),
            (0x8201, "FreeBSD 14.1-RELEASE amd64", Os::FreeBsd),
            (0x8000, "FreeBSD 14.1-RELEASE", Os::FreeBsd),
            (0x8202, "", Os::Illumos),
            (0x8203, "", Os::Android),
            (0x9999, "", Os::Other),
        ];
        for (number, text, os) in cases {
            assert_eq!(platform(number, text), os, "{number:#x} {text}");
        }
        assert_eq!(release_in("Linux 6.1.0-56-amd64 #1 SMP x86_64"), "6.1.0-56-amd64");
        assert_eq!(release_in("samsung/klte:5.0"), "samsung/klte:5.0");
    }
}
