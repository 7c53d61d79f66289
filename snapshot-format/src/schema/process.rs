//! Rows about the process or machine as a whole.

/// Who the target is. All strings are empty, and numbers `None`, when unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `live`, `core`, `kernel-dump`, `minidump`.
    pub origin: String,
    /// `linux`, `freebsd`, `illumos`, `windows`, `macos`, `ios`, `android`, `other`.
    pub os: String,
    /// `x86_64`, `x86`, `aarch64`, `arm`, `other`.
    pub arch: String,
    /// Whether target memory is big-endian.
    pub big_endian: bool,
    /// Process id.
    pub pid: Option<u64>,
    /// Parent process id.
    pub parent_pid: Option<u64>,
    /// Short program name.
    pub command: Option<String>,
    /// Command line, space separated.
    pub arguments: Option<String>,
    /// Path of the executable.
    pub executable: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// Kernel release.
    pub release: Option<String>,
    /// When the evidence was recorded, nanoseconds since the Unix epoch.
    pub taken_at_ns: Option<u64>,
}

/// Why the target stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Id of the thread it happened on.
    pub thread: Option<u64>,
    /// Signal number in the target OS's numbering.
    pub signal: Option<i64>,
    /// The signal's name, such as `SIGSEGV`.
    pub signal_name: Option<String>,
    /// `si_code`.
    pub code: Option<i64>,
    /// The code's name, such as `SEGV_MAPERR`.
    pub code_name: Option<String>,
    /// Fault address.
    pub address: Option<u64>,
    /// `read`, `write` or `execute`, when known.
    pub access: Option<String>,
    /// Sender's process id, for signals sent by a process.
    pub sender_pid: Option<u64>,
    /// Sender's user id.
    pub sender_uid: Option<u64>,
    /// Panic string, abort or assertion message.
    pub message: Option<String>,
    /// Processor trap number.
    pub trap_number: Option<u64>,
    /// Processor error code.
    pub error_code: Option<u64>,
}

/// A textual fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribute {
    /// Dotted key.
    pub key: String,
    /// The thread id it is about, if one.
    pub thread: Option<u64>,
    /// The text.
    pub value: String,
}

/// A loaded image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Path as the target knew it.
    pub path: String,
    /// Build-id, GUID and age, or UUID bytes.
    pub build_id: Option<Vec<u8>>,
    /// Lowest mapped address.
    pub base: u64,
    /// Bytes from `base` to the end of its last mapping.
    pub size: u64,
    /// Runtime address minus SVMA, modulo 2^64.
    pub slide: u64,
    /// `dwarf`, `symtab`, `dynsym`, `sym-file`, `kallsyms`, `none`.
    pub symbols: String,
    /// The file the symbols came from, when it is not `path`.
    pub symbol_file: Option<String>,
    /// Why symbols are missing or were not used, and what would fix it.
    pub problem: Option<String>,
}

/// A mapped range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `rwxp` as in `/proc/PID/maps`; `?` for what is unknown.
    pub protection: String,
    /// Offset in the file, bytes.
    pub file_offset: u64,
    /// Path or bracketed name.
    pub path: Option<String>,
    /// The file was unlinked or replaced.
    pub deleted: bool,
}

impl Note {
    /// The owner of notes that hold the floating point and vector registers of a thread.
    pub const FLOATING_POINT: &'static str = "postfault.floating-point";
    /// Its kind on x86 and x86-64: an FXSAVE area of 512 bytes (Intel SDM volume 1, 10.5).
    pub const FXSAVE: u64 = 1;
    /// Its kind on AArch64: v0 to v31, FPSR, FPCR, as in Linux's `struct user_fpsimd_state`, 520 bytes.
    pub const FPSIMD: u64 = 2;
}

/// Raw bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryExtent {
    /// Address space: 0 is the target's own; kernels number others by page-table root.
    pub space: u64,
    /// First address.
    pub address: u64,
    /// Number of bytes the extent covers.
    pub length: u64,
    /// The bytes; empty when `absent` is given.
    pub bytes: Vec<u8>,
    /// Why there are none: `unmapped`, `filtered`, `truncated`, `denied`, `corrupt`, `released`.
    pub absent: Option<String>,
}

/// A task of a kernel dump, or a process of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Thread id.
    pub id: u64,
    /// Process id (thread group).
    pub pid: Option<u64>,
    /// Parent process id.
    pub parent_pid: Option<u64>,
    /// Address of the kernel's structure for it.
    pub address: Option<u64>,
    /// Name.
    pub name: Option<String>,
    /// State word.
    pub state: Option<String>,
    /// CPU it runs or last ran on.
    pub cpu: Option<u64>,
    /// Resident bytes.
    pub resident: Option<u64>,
    /// Index into `stacks`.
    pub stack: Option<u32>,
}

/// A line of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Nanoseconds since boot (kernels) or since the epoch, as the log counts.
    pub time_ns: Option<u64>,
    /// `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info`, `debug`.
    pub level: Option<String>,
    /// The text.
    pub text: String,
}

/// A fact in the OS's own encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Owner string.
    pub owner: String,
    /// Type.
    pub kind: u64,
    /// Thread id, for per-thread notes.
    pub thread: Option<u64>,
    /// The bytes.
    pub body: Vec<u8>,
}

/// An open descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Descriptor number.
    pub descriptor: u64,
    /// What it refers to.
    pub target: String,
    /// Open flags.
    pub flags: Option<u64>,
    /// Position, bytes.
    pub position: Option<u64>,
}

/// A file the user attached to the capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, without folders.
    pub name: String,
    /// Its contents.
    pub body: Vec<u8>,
}
