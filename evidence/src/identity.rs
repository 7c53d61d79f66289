//! What the source is: origin, operating system, processor, process.

use std::path::PathBuf;

/// The operating system the target ran on (not the one that reads it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the systems' names")]
pub enum Os {
    Linux,
    Android,
    FreeBsd,
    Illumos,
    Windows,
    MacOs,
    Ios,
    /// Anything else; `Identity::release` may say what.
    Other,
}

impl Os {
    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Android => "android",
            Self::FreeBsd => "freebsd",
            Self::Illumos => "illumos",
            Self::Windows => "windows",
            Self::MacOs => "macos",
            Self::Ios => "ios",
            Self::Other => "other",
        }
    }
}

/// The instruction set the target's registers belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the architectures' names")]
pub enum Arch {
    X86_64,
    X86,
    Aarch64,
    Arm,
    Other,
}

impl Arch {
    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "x86",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::Other => "other",
        }
    }

    /// Bytes in a pointer.
    #[must_use]
    pub const fn pointer_size(self) -> u8 {
        match self {
            Self::X86 | Self::Arm => 4,
            Self::X86_64 | Self::Aarch64 | Self::Other => 8,
        }
    }
}

/// What kind of source the evidence came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Origin {
    LiveProcess,
    UserCore,
    KernelDump,
    /// A running kernel: `/proc/kcore`, `/dev/mem`, a KVM guest.
    LiveKernel,
    Minidump,
    Snapshot,
}

impl Origin {
    /// The word of the JSON contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LiveProcess | Self::LiveKernel => "live",
            Self::UserCore => "core",
            Self::KernelDump => "kernel-dump",
            Self::Minidump => "minidump",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Who the target is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What kind of source this is.
    pub origin: Origin,
    /// The target's operating system.
    pub os: Os,
    /// The target's architecture.
    pub arch: Arch,
    /// Whether the target stores the most significant byte first.
    pub big_endian: bool,
    /// The process id, for processes (in the reader's pid namespace when live).
    pub pid: Option<u64>,
    /// The parent's process id.
    pub parent_pid: Option<u64>,
    /// The program's short name (`comm`), or the kernel's name.
    pub command: Option<Box<str>>,
    /// The command line, arguments separated by single spaces.
    pub arguments: Option<Box<str>>,
    /// The path of the executable as the source names it.
    pub executable: Option<Box<str>>,
    /// The host's name.
    pub host: Option<Box<str>>,
    /// The kernel's release, such as `6.1.0-56-amd64`.
    pub release: Option<Box<str>>,
    /// When the evidence was recorded, in nanoseconds since 1970-01-01T00:00:00Z, if the source says so.
    pub taken_at_ns: Option<u64>,
    /// The bits of a user program's pointers that are address, where the source says it: those above hold tags and
    /// signatures.
    pub address_mask: Option<u64>,
    /// The directory under which the target's own paths are to be opened (`/proc/PID/root` of a live process).
    pub root: Option<PathBuf>,
}

impl Identity {
    /// An identity with nothing but its kind known.
    #[must_use]
    pub const fn new(origin: Origin, os: Os, arch: Arch) -> Self {
        Self {
            origin,
            os,
            arch,
            big_endian: false,
            pid: None,
            parent_pid: None,
            command: None,
            arguments: None,
            executable: None,
            host: None,
            release: None,
            taken_at_ns: None,
            address_mask: None,
            root: None,
        }
    }
}
